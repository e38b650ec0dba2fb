# Blocks and their views, and how both end.

@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class View:
    """The base of an array: keeps the bytes of a Block while the array lives, also when the Block
    is freed.
    """

    cdef PyObject *_block  # a counted reference; NULL: never filled

    def __init__(self):
        raise TypeError("a View is made by Block.array")

    def __dealloc__(self):
        # With the private API (binding/spare.h), _end_view() is called instead.
        if self._block != NULL:
            (<Block>self._block).leave()
        Py_XDECREF(self._block)

    @property
    def block(self):
        """The `Block`; None of a view that was never filled."""
        return <Block>self._block if self._block != NULL else None

    def __repr__(self):
        return f"<view of {self.block!r}>"


@cython.final
@cython.freelist(256)
@cython.no_gc
cdef class Block:
    """An object in an arena, and this process's reference to it.

    Made by `Cache.alloc`, `Arena.alloc`, `Arena.put` and `Arena.get`, or by unpickling. Dropping
    the last reference to a Block (and to all its views) drops the process's reference; the last one
    anywhere frees the object. Has the buffer protocol: a `memoryview` has the cache's dtype and
    shape, or is bytes. Pickles as a message: any process of this machine loads it, once, and has
    the same object. After `free()`, everything but `repr()` raises `Closed`. Safe to use from any
    thread and, after a fork, in the child; what is written into the bytes is the users' to
    coordinate.
    """

    # Counted references, each written once, in plain pointers. Fields whose type Cython knows begin
    # as None, and a loop of allocations would wait for None's count, which every field changes.
    cdef PyObject *_attachment  # an Attachment; NULL: never filled
    cdef PyObject *_format      # a Format; NULL: plain bytes
    cdef fst_ref ref
    # Users: 1 for the Block itself until free(), and 1 for each view and each call. At 0 the
    # reference is dropped. Once a buffer was given out the count stays above 0 until the end of
    # this object: `np.ndarray(shape, dtype, buffer=block)` gives the buffer back at once, keeps the
    # object, and goes on looking at the bytes.
    cdef uint32_t life
    # 1 after free(): the Block's own 1 is taken from `life`, once. 2: and the next two fields say
    # whose object it was, for the error, when the core can no longer be asked. Otherwise they are
    # those of a Block before it, or another thread writes them.
    cdef uint32_t freed
    cdef uint64_t freed_cache
    cdef uint64_t freed_group
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Block is made by Cache.alloc(), Arena.alloc(), put() or get()")

    # With the private API (binding/spare.h), _end_block() is called instead of these two. __del__
    # comes before the callbacks of weak references, for which the object has to be gone.
    def __del__(self):
        if life_of(&self.life) and not swap(&self.freed, 1):
            self.leave()

    def __dealloc__(self):
        if self.life:
            fst_drop((<Attachment>self._attachment).ptr, &self.ref)
        Py_XDECREF(self._format)
        Py_XDECREF(self._attachment)

    cdef inline Attachment attachment(self):
        return <Attachment>self._attachment if self._attachment != NULL else None

    cdef inline Format format(self):
        return <Format>self._format if self._format != NULL else None

    cdef inline void of(self, Attachment attachment) noexcept:
        Py_INCREF(attachment)
        self._attachment = <PyObject *>attachment

    cdef inline void shape(self, PyObject *format) noexcept:
        # `format` is a Format or None. As a plain pointer it is counted once, for the field, and
        # not a second time for the argument.
        if format != <PyObject *>None:
            Py_INCREF(<object>format)
            self._format = format

    cdef void leave(self) noexcept:
        # One user less; the last one drops the reference.
        if leave(&self.life):
            fst_drop((<Attachment>self._attachment).ptr, &self.ref)

    cdef object gone(self):
        cdef uint64_t cache = 0, group = 0
        if load(&self.freed) == 2:
            cache, group = self.freed_cache, self.freed_group
        return _hooks.freed(self.attachment(), self.format(), self.ref.nbytes, cache, group)

    cdef int use(self) except -1:
        # Raise unless the Block can be used: `Closed` after free(), or after a fork that the arena
        # did not come along over.
        if load(&self.freed) or not life_of(&self.life):
            raise self.gone()
        if fst_unusable:  # nearly never
            _check(fst_arena_refused((<Attachment>self._attachment).ptr))
        return 0

    cdef int export(self) except -1:
        # As use(), and one user more: until leave(), no other thread takes the reference away.
        self.use()
        if not enter(&self.life):
            raise self.gone()
        return 0

    cdef inline uint64_t size(self) noexcept:
        return self.ref.nbytes if self._format == NULL else (<Format>self._format).size

    @property
    def nbytes(self):
        """Bytes of the object, as many as were asked for."""
        self.use()
        return self.size()

    @property
    def readonly(self):
        """Whether arrays and buffers of it refuse writes: this process attached read-only, or it
        is a table.
        """
        self.use()
        return self.sealed() or self.attachment().readonly

    cdef inline bint sealed(self) noexcept:
        return self._format != NULL and (<Format>self._format).sealed

    @property
    def handle(self):
        """The object's `Handle`, which holds nothing: the object may be gone when it is asked for,
        or freed by somebody else already. `Closed` after `free()`.
        """
        cdef fst_handle value
        self.export()
        try:
            _check(fst_handle_of((<Attachment>self._attachment).ptr, &self.ref, &value))
        finally:
            self.leave()
        return _handle(&value)

    @property
    def array(self):
        """A NumPy array over the bytes, without copying: of the dtype, shape and order that the
        object was made with, or of all its bytes (`uint8`, in one dimension).

        The array keeps the bytes for as long as it, or any array made from it, lives, also after
        `free()`. It refuses writes where `readonly` is true.
        """
        cdef cnp.dtype dtype = _BYTE
        cdef cnp.npy_intp count = <cnp.npy_intp>self.ref.nbytes
        cdef cnp.npy_intp *dims = &count
        cdef int ndim = 1, flags = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_WRITEABLE
        cdef View view = _begin_view()
        self.export()
        Py_INCREF(self)
        view._block = <PyObject *>self
        if self._format != NULL:
            dtype, ndim = (<Format>self._format).dtype, (<Format>self._format).ndim
            dims = <cnp.npy_intp *>(<Format>self._format).dims
            flags = (<Format>self._format).flags
        if (<Attachment>self._attachment).readonly:
            flags &= ~cnp.NPY_ARRAY_WRITEABLE
        if <size_t>self.ref.data % <size_t>dtype.alignment == 0:
            flags |= cnp.NPY_ARRAY_ALIGNED
        Py_INCREF(dtype)
        array = PyArray_NewFromDescr(<PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>dtype, ndim,
                                     dims, NULL, self.ref.data, flags, NULL)
        cnp.set_array_base(array, view)
        return array

    @property
    def shape(self):
        """The shape of `array`, a tuple."""
        self.use()
        return (self.ref.nbytes,) if self._format == NULL else (<Format>self._format).shape

    @property
    def dtype(self):
        """The dtype of `array`."""
        self.use()
        return _BYTE if self._format == NULL else (<Format>self._format).dtype

    @property
    def ndim(self):
        """How many dimensions `array` has."""
        self.use()
        return 1 if self._format == NULL else (<Format>self._format).ndim

    def __len__(self):
        self.use()
        if self._format == NULL:
            return self.ref.nbytes
        if (<Format>self._format).ndim == 0:
            raise TypeError("this Block has no dimension, so no len(): see .shape")
        return (<Format>self._format).dims[0]

    def __bool__(self):
        # A Block is true whatever its len() is.
        return True

    def _fill(self, source):
        """Let `source.write(array)` write the bytes, also of a sealed Block. For whoever has just
        made it, before anybody else sees it.
        """
        cdef cnp.npy_intp count = <cnp.npy_intp>self.size()
        self.export()
        try:
            source.write(cnp.PyArray_SimpleNewFromData(1, &count, cnp.NPY_UBYTE, self.ref.data))
        finally:
            self.leave()

    @property
    def _address(self):
        """The address of its first byte in this process; also when it was freed."""
        return <size_t>self.ref.data

    def part(self, index):
        """The `Part` that `block.array[index]` looks at: a view that travels with this Block.

        Args:
            index: integers, slices, `...`, None and names of fields, as NumPy takes them; an
                integer for each dimension gives one element, as an array of no dimension.

        Raises:
            TypeError: the index would copy (a list, an array, a mask).
            IndexError: it is out of bounds.
            Closed: after `free()`.
        """
        return _hooks.part(self, index)

    def weak(self):
        """A `WeakBlock`, which names the object, holds nothing, and may be pickled and loaded any
        number of times. `Closed` after `free()`.
        """
        return _hooks.weak(self)

    def __getitem__(self, index):
        return _hooks.item(self, index)

    def __iter__(self):
        # As an array does. Without this, what asks whether a value is like a list, as pandas does,
        # would take a Block for a scalar.
        return iter(self.array)

    def __setitem__(self, index, value):
        self.array[index] = value

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Format format = self.format()
        cdef Attachment attachment = self.attachment()
        cdef int asked
        if flags & PyBUF_WRITABLE and attachment is not None and attachment.readonly:
            raise BufferError("the arena is attached read-only")
        if flags & PyBUF_WRITABLE and self.sealed():
            raise BufferError("a table cannot be written where it lies")
        if format is not None:
            if flags & PyBUF_FORMAT and format.code is None:
                raise BufferError(f"a buffer cannot describe {format.dtype!r}: use .array")
            # A consumer that does not ask for strides takes the bytes as in C order.
            asked = flags & (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS) & ~PyBUF_STRIDES
            if flags & PyBUF_STRIDES != PyBUF_STRIDES:
                asked = PyBUF_C_CONTIGUOUS & ~PyBUF_STRIDES
            if asked & ~format.contiguous:
                raise BufferError(f"this Block is in {format.order} order, which was not asked for:"
                                  " use .array, or .array.T")
        self.export()
        stay(&self.life)
        buffer.obj = self
        buffer.buf = self.ref.data
        buffer.len = <Py_ssize_t>self.size()
        buffer.readonly = attachment.readonly or self.sealed()
        buffer.suboffsets = NULL
        buffer.internal = NULL
        buffer.format = NULL
        buffer.shape = NULL
        buffer.strides = NULL
        # Without PyBUF_ND the consumer sees one run of bytes, as hashlib and file.write want it.
        buffer.ndim = 1
        buffer.itemsize = 1
        if flags & PyBUF_FORMAT:
            buffer.format = <char *>"B" if format is None else format.code_text
        if format is not None:
            buffer.itemsize = format.item
        if flags & PyBUF_ND:
            if format is None:
                buffer.shape = <Py_ssize_t *>&self.ref.nbytes
            else:
                buffer.ndim = format.ndim
                buffer.shape = format.dims
        if flags & PyBUF_STRIDES == PyBUF_STRIDES:
            buffer.strides = &_ONE if format is None else format.strides

    def __releasebuffer__(self, Py_buffer *buffer):
        self.leave()

    def __array__(self, dtype=None, copy=None):
        array = self.array
        if copy:
            return np.array(array, dtype=dtype)
        if dtype is None or np.dtype(dtype) == array.dtype:
            return array
        if copy is not None:
            raise ValueError(f"cannot give {array.dtype} as {np.dtype(dtype)} without a copy")
        return array.astype(dtype)

    # Of a Block of no dimension, as of its array. Without these, int() and float() would take any
    # buffer for digits, and read b"7" as 7.

    def __int__(self):
        return int(self.array)

    def __float__(self):
        return float(self.array)

    def __complex__(self):
        return complex(self.array)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    @property
    def table(self):
        """The `pyarrow.Table` that was put here: its columns look at the bytes, cannot be written,
        and keep them, as views do.

        Raises:
            TypeError: there is no table in here.
            Closed: after `free()`.
            ModuleNotFoundError: pyarrow is not installed.
        """
        return _hooks.table_of(self)

    def load(self, *, bint writable=False):
        """Load the object that `Arena.dump` put here. Its buffers look at the bytes, and keep them,
        as views do. Loading runs what the pickle says, as unpickling anything does.

        Args:
            writable: whether its buffers may be written; everybody who loads it sees what is.

        Raises:
            TypeError: nothing was dumped in here.
            ReadOnly: `writable`, of an arena attached with `readonly=True`.
            Closed: after `free()`.
        """
        return _hooks.load_dumped(self, bool(writable))

    def __arrow_c_stream__(self, requested_schema=None):
        return _hooks.table_of(self).__arrow_c_stream__(requested_schema)

    def free(self):
        """Free the object for everyone.

        Handles to it go stale and this Block raises `Closed` from now on; views, other holders and
        messages in flight keep the bytes until they let go, and so does this Block itself if a
        buffer of it was ever given out (`memoryview(block)`, `np.ndarray(..., buffer=block)`).
        Never waits.

        Raises:
            Closed: this Block was freed before.
            StaleHandle: somebody else has freed the object, or its group was destroyed. The Block
                stays usable.
            ReadOnly: attached with `readonly=True`.
        """
        cdef int status
        cdef uint32_t freed
        cdef uint64_t cache = 0, group = 0
        # Until leave(), a channel's put() in another thread cannot move the reference away: the
        # second leave() would then count below 0, and the reference be dropped twice.
        self.export()
        try:
            fst_object_owner((<Attachment>self._attachment).ptr, &self.ref, &cache, &group)
            freed = swap(&self.freed, 1)
            if freed:
                if freed == 2:
                    swap(&self.freed, 2)
                raise self.gone()
            status = fst_free((<Attachment>self._attachment).ptr, &self.ref)
            if status != FST_OK:
                swap(&self.freed, 0)
                raise _error(status)
            self.freed_cache, self.freed_group = cache, group
            swap(&self.freed, 2)
        finally:
            self.leave()
        self.leave()

    @property
    def cache(self):
        """The `Cache` of the object; of several names for one cache, the first."""
        return _hooks.cache_of(self.attachment(), self._owner()[0])

    @property
    def group(self):
        """The `Group` that the object is charged to."""
        return _hooks.group_of(self.attachment(), self._owner()[1])

    @property
    def holders(self):
        """The processes that use the object now, a list of `Holder(pid, command)`, 1,024 at most.
        Looks at the references of every process.
        """
        cdef uint32_t slots[1024]
        cdef size_t i, count
        self.export()
        count = min(<size_t>1024, fst_holders(
            (<Attachment>self._attachment).ptr, &self.ref, slots, 1024))
        self.leave()
        return _hooks.holders_of(self.attachment(), [slots[i] for i in range(count)])

    cpdef tuple _owner(self):
        """The ids of the object's cache and group."""
        cdef uint64_t cache = 0, group = 0
        self.export()
        try:
            _check(fst_object_owner((<Attachment>self._attachment).ptr, &self.ref, &cache, &group))
        finally:
            self.leave()
        return cache, group

    @property
    def _parts(self):
        """The `Attachment`, and the `Format` or None."""
        self.use()
        return self.attachment(), self.format()

    cpdef bytes _share(self):
        """The message for a pickle, as bytes; its reference is in flight from now on."""
        cdef fst_message message
        cdef int status
        self.export()
        try:
            status = fst_share((<Attachment>self._attachment).ptr, &self.ref, &message)
            if status == FST_FULL:
                return _hooks.once_more(self.attachment(), _error(status), self._share)
            _check(status)
        finally:
            self.leave()
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    def _clear(self):
        """Fill a Block that was just made with zeros."""
        self.use()
        _zero(&self.ref)

    def _copy_from(self, Block source not None):
        """Copy the bytes of a Block of the same size: all of them, whatever they mean."""
        cdef uint64_t count = min(self.ref.nbytes, source.ref.nbytes)
        self.export()
        try:
            source.export()
            with nogil:
                memcpy(self.ref.data, source.ref.data, count)
            source.leave()
        finally:
            self.leave()

    def __reduce__(self):
        return reduce_block(self)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return _hooks.deepcopy(self)

    def __dask_tokenize__(self):
        # Dask takes this for the Block's name: that of the object, the same in every process, and
        # not of its content.
        return "flagstone.Block", self.handle.__bytes__()

    def _repr_html_(self):
        if load(&self.freed) or not life_of(&self.life):
            return "<p>Block, freed</p>"
        return _hooks.html_of(self, self.attachment(), self.format())

    def __repr__(self):
        if load(&self.freed) or not life_of(&self.life):
            return "<Block, freed>"
        return _hooks.repr_of(self, self.attachment(), self.format())


def reduce_block(Block block not None):
    """`Block.__reduce__`.

    A message takes a dozen calls into Python, and its own bytes have pushed most of their code and
    data out of the processor's caches. So the pickle of a named arena's Block is made here, and
    Python code makes the others.
    """
    cdef tuple locator
    cdef bytes message
    cdef PyObject *carrier = tickets_carrier()
    block.use()
    if carrier != NULL:
        return (<Carrier>carrier).reduce(block)
    locator = (<Attachment>block._attachment).locator
    if locator is None:
        return _hooks.reduce(block)
    message = block._share()
    return _load, ((<Attachment>block._attachment).ticket(message), locator, message)


# With the private API, Blocks and views end in functions of our own. Those that Cython makes save
# and restore the exception state around `__dealloc__`, which costs as much as the drop itself. The
# object has no reference left in there, and may not get one: the code uses its fields, and has no
# variable of its type.

cdef fst_spare _spare_blocks
cdef fst_spare _spare_views


cdef void _end_block(PyObject *self) noexcept:
    # Views hold the Block, so there are none: what is left of `life` is the Block's own 1 or a
    # buffer's mark, or 0 (freed, or never filled).
    cdef PyObject *attachment = (<Block>self)._attachment
    cdef PyObject *format = (<Block>self)._format
    if (<Block>self).life:
        fst_drop((<Attachment>attachment).ptr, &(<Block>self).ref)
    # This comes before the object may begin again: callbacks run anything, also allocations.
    clear_weak_references(self)
    spare_end(&_spare_blocks, self)
    Py_XDECREF(format)
    Py_XDECREF(attachment)  # may be the arena's end, and run anything


cdef inline Block _begin_block():
    # A Block with nothing in it.
    cdef Block block
    if not _spare_blocks.count:
        return Block.__new__(Block)
    block = spare_block(&_spare_blocks)
    block._attachment = NULL
    block._format = NULL
    block.life = block.freed = 0
    return block


cdef void _end_view(PyObject *self) noexcept:
    cdef PyObject *block = (<View>self)._block
    if block != NULL and leave(&(<Block>block).life):
        fst_drop((<Attachment>(<Block>block)._attachment).ptr, &(<Block>block).ref)
    spare_end(&_spare_views, self)
    Py_XDECREF(block)


cdef inline View _begin_view():
    # A View of nothing.
    cdef View view
    if not _spare_views.count:
        return View.__new__(View)
    view = spare_view(&_spare_views)
    view._block = NULL
    return view


if PRIVATE_API:
    (<PyTypeObject *>Block).tp_dealloc = _end_block
    (<PyTypeObject *>View).tp_dealloc = _end_view
