# What an object's bytes mean, and how it is found out for objects that arrive from elsewhere.

@cython.final
@cython.no_gc
cdef class Format:
    """What the bytes of an object mean: a dtype, a shape and an order, and whether they are
    written once, before anybody else sees them (sealed). Immutable.
    """

    cdef readonly cnp.dtype dtype
    cdef readonly tuple shape
    cdef readonly object nbytes
    cdef uint64_t size
    cdef int ndim
    cdef int flags            # NPY_ARRAY_*: in which order the elements lie, and whether writable
    cdef int contiguous       # PyBUF_*_CONTIGUOUS: the orders that a buffer of it can be had in
    cdef Py_ssize_t item      # bytes of an element
    cdef readonly bytes code  # of PEP 3118; None where that has no word for the dtype
    cdef char *code_text      # the bytes of `code`
    cdef readonly bint sealed
    cdef bint plain           # bytes in one dimension, as an object that has no Format
    cdef list written         # [text(), or None]: threads may make it at the same time
    cdef Py_ssize_t dims[64]
    cdef Py_ssize_t strides[64]

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None, bytes code=None,
                  bint fortran=False, bint sealed=False):
        if dtype.hasobject:
            raise TypeError(f"{dtype!r} holds Python objects: they mean nothing elsewhere")
        if len(shape) > 64:
            raise ValueError(f"a shape has at most 64 dimensions, not {len(shape)}")
        self.dtype = dtype
        self.shape = shape
        self.nbytes = math.prod(shape, start=dtype.itemsize)
        self.size = self.nbytes
        self.item = dtype.itemsize
        self.ndim = len(shape)
        self.sealed = sealed
        self.plain = dtype.type_num == cnp.NPY_UBYTE and self.ndim == 1 and not sealed
        self.flags = cnp.NPY_ARRAY_F_CONTIGUOUS if fortran else cnp.NPY_ARRAY_C_CONTIGUOUS
        if not sealed:
            self.flags |= cnp.NPY_ARRAY_WRITEABLE
        cdef Py_ssize_t stride = self.item
        cdef int i, at, long = 0
        for i in range(self.ndim):
            at = i if fortran else self.ndim - 1 - i
            self.dims[at] = shape[at]
            self.strides[at] = stride
            stride *= self.dims[at]
            long += self.dims[at] != 1
        self.contiguous = (PyBUF_F_CONTIGUOUS if fortran else PyBUF_C_CONTIGUOUS) & ~PyBUF_STRIDES
        if long < 2 or not self.size:
            self.contiguous = (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS) & ~PyBUF_STRIDES
        self.written = [None]
        self.code = code
        if code is not None:
            self.code_text = PyBytes_AS_STRING(code)

    cdef bytes text(self):
        # What an arena keeps of it: flagstone.format.format_text, made once.
        cdef bytes text = only_object(self.written)
        if text is None:
            text = _hooks.format_text(self).encode()
            self.written[0] = text
        return text

    @property
    def order(self):
        """The order in which the elements lie: "C" or "F"."""
        return "F" if self.flags & cnp.NPY_ARRAY_F_CONTIGUOUS else "C"


@cython.final
@cython.no_gc
cdef class Forms:
    """The Formats of objects without a cache, as this process knows them of one arena: the arena
    keeps their texts (*forms*), and gives most of them numbers.
    """

    cdef dict numbers  # Format -> its number; 0: it had none at its first use; -1: it gets none
    cdef dict formats  # number -> Format

    def __cinit__(self):
        self.numbers = {}
        self.formats = {}

    cdef int number(self, fst_arena *arena, Format format) except -1:
        """The Format's number in the arena; 0: it has none, and its text is stored with the
        object.
        """
        cdef object known = self.numbers.get(format)
        cdef uint32_t form = 0
        cdef bytes text
        if known:
            return max(<int>known, 0)
        text = format.text()
        _check(fst_form_intern(arena, PyBytes_AS_STRING(text), len(text), format.size,
                               known is not None, &form))
        if len(self.numbers) >= 8192:  # shapes come and go
            self.numbers.clear()
        self.numbers[format] = form if form else 0 if known is None else -1
        if form:
            self.formats[form] = format
        return form

    cdef fst_form_spec *say(self, fst_arena *arena, Format format, fst_form_spec *out) except NULL:
        """Fill `out` with what the core is told of an object of the Format; the text in it is the
        Format's own, which has to outlive the call.
        """
        cdef bytes text = format.text()
        out.form = self.number(arena, format)
        out.text, out.text_bytes = PyBytes_AS_STRING(text), len(text)
        return out

    cdef Format of(self, fst_arena *arena, const fst_ref *ref):
        """The Format of an object without a cache, which has just arrived."""
        cdef Format format
        cdef object known = self.formats.get(ref.form)
        cdef size_t room = 512, length = 0
        cdef char *text
        if known is not None:
            return <Format>known
        while True:
            text = <char *>_allocate(room, 1)
            try:
                _check(fst_form_text(arena, ref, text, room, &length))
                if length <= room:
                    format = _hooks.parse_format(text[:length])
                    break
            finally:
                PyMem_Free(text)
            room = length
        if ref.form != FST_FORM_OWN:
            self.formats[ref.form] = format
        return format


@cython.final
@cython.no_gc
cdef class Known:
    """A cache and its Format, as of the last object that arrived. Immutable, so that threads can
    exchange it as a whole.
    """

    cdef uint64_t cache
    cdef Format format

    def __init__(self):
        raise TypeError("a Known is made by Attachment")
