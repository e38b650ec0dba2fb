# What an object's bytes mean.

@cython.final
@cython.no_gc
cdef class Format:
    """What the bytes of an object mean: a dtype, a shape and an order. Immutable.

    `travels`: belongs to one Block (`put`) and not to its cache, so it goes into the pickle.
    """

    cdef readonly cnp.dtype dtype
    cdef readonly tuple shape
    cdef readonly object nbytes
    cdef readonly bint travels
    cdef uint64_t size
    cdef int ndim
    cdef int flags        # of the array: in which order its elements lie
    cdef int contiguous   # of PyBUF_*: what may be asked of a buffer of it
    cdef Py_ssize_t item
    cdef readonly bytes code  # PEP 3118, or None where it has no word for the dtype
    cdef char *code_text      # into `code`
    cdef Py_ssize_t dims[64]
    cdef Py_ssize_t strides[64]

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None, bytes code=None,
                  bint fortran=False, bint travels=False):
        if dtype.hasobject:
            raise TypeError(f"{dtype!r} holds Python objects: they mean nothing elsewhere")
        if len(shape) > 64:
            raise ValueError(f"a shape has at most 64 dimensions, not {len(shape)}")
        self.dtype = dtype
        self.shape = shape
        self.nbytes = math.prod(shape, start=dtype.itemsize)
        self.size = self.nbytes
        self.travels = travels
        self.item = dtype.itemsize
        self.ndim = len(shape)
        self.flags = cnp.NPY_ARRAY_F_CONTIGUOUS if fortran else cnp.NPY_ARRAY_C_CONTIGUOUS
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
        self.code = code
        if code is not None:
            self.code_text = PyBytes_AS_STRING(code)

    @property
    def order(self):
        """"C" or "F"."""
        return "F" if self.flags == cnp.NPY_ARRAY_F_CONTIGUOUS else "C"
