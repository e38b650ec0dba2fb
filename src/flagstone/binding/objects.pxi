# Objects without a cache: the part that a loop calls. Where anything is out of the ordinary or goes
# wrong, the class above (`flagstone.objects.Objects`) makes the same call again, and waits or says
# what is the matter.

cdef inline Block _plain(Attachment attachment, uint64_t group, uint64_t nbytes):
    # An object of so many bytes, without a Format; None where a Python function has to do it.
    cdef Block block = _begin_block()
    block.of(attachment)
    if fst_alloc_bytes(attachment.ptr, group, nbytes, &block.ref) != FST_OK:
        return None
    block.life = 1
    return block


cdef inline Block _formed(Attachment attachment, uint64_t group, Format format):
    # An object of the Format; None where a Python function has to do it.
    cdef Block block
    cdef fst_form_spec form
    if format.plain:
        return _plain(attachment, group, format.size)
    form.form = attachment.forms.number(attachment.ptr, format)
    if not form.form:
        return None
    form.text, form.text_bytes = NULL, 0
    block = _begin_block()
    block.of(attachment)
    block.shape(<PyObject *>format)
    if fst_alloc_form(attachment.ptr, group, format.size, &form, &block.ref) != FST_OK:
        return None
    block.life = 1
    return block


cdef Block _copy_of(Attachment attachment, uint64_t group, object value):
    # An object with a copy of these bytes or of this array, in its own order; None where it is
    # anything else, where it is large, or where memory is short.
    cdef Block block
    cdef const void *bytes_of
    cdef cnp.ndarray array
    cdef bint fortran
    if type(value) is bytes:
        if len(<bytes>value) >= _LONG:
            return None
        block = _plain(attachment, group, len(<bytes>value))
        bytes_of = PyBytes_AS_STRING(<bytes>value)
    elif type(value) is np_ndarray:
        array = <cnp.ndarray>value
        fortran = not cnp.PyArray_IS_C_CONTIGUOUS(array)
        if (cnp.PyArray_NBYTES(array) >= _LONG
                or (fortran and not cnp.PyArray_IS_F_CONTIGUOUS(array))):
            return None
        if not fortran and cnp.PyArray_NDIM(array) == 1 and array.dtype is _BYTE:
            block = _plain(attachment, group, cnp.PyArray_NBYTES(array))
        else:
            block = _formed(attachment, group, _form_of(array.dtype, (<object>value).shape,
                                                        "F" if fortran else "C"))
        bytes_of = cnp.PyArray_DATA(array)
    else:
        return None
    if block is not None:
        memcpy(block.ref.data, bytes_of, block.ref.nbytes)
    return block


cdef class ObjectsBase:
    """What `flagstone.objects.Objects` is made of."""

    cdef readonly Link _link

    def _begin(self, Link link not None):
        self._link = link

    cdef inline bint of_group(self, object group, Attachment attachment, uint64_t *ident) except -1:
        # True, and the group's id, for None and a Group of this very link; False for all others,
        # which the class above looks at.
        if group is None:
            ident[0] = attachment.root
            return True
        if type(group) is not _group_type or group._link is not self._link:
            return False
        ident[0] = group._id
        return True

    cdef inline Block plain(self, uint64_t nbytes, object group):
        # An object of so many bytes, without a Format; None where the class above has to do it.
        cdef Block block = _begin_block()
        cdef uint64_t ident = 0
        block._attachment = self._link.own()
        if not self.of_group(group, <Attachment>block._attachment, &ident):
            return None
        if fst_alloc_bytes((<Attachment>block._attachment).ptr, ident, nbytes,
                           &block.ref) != FST_OK:
            return None
        block.life = 1
        return block

    def alloc(self, nbytes, *, group=None, wait=None):
        """A Block of any number of bytes (0 too), through size classes. Its content is what the
        last user left.

        Args:
            nbytes: bytes, as a number or as text with a unit; every process sees this number,
                whatever was rounded up.
            group: what it is charged to; None is the arena itself.
            wait: seconds to wait for memory, as in `Cache.alloc`.

        Raises:
            TypeError, ValueError: `nbytes`, `group` or `wait` make no sense.
            ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Cache.alloc`.
        """
        cdef Block block = None
        cdef int overflow = 0
        cdef long long n
        if type(nbytes) is int and wait is None:
            n = PyLong_AsLongLongAndOverflow(nbytes, &overflow)
            if 0 <= n < _LONG and not overflow:
                block = self.plain(<uint64_t>n, group)
        return self._alloc(nbytes, group, wait) if block is None else block

    def put(self, value, *, order="K", strings=None, group=None, wait=None):
        """A Block with a copy of an array or buffer: its bytes, dtype, shape and order, which
        every process finds with it; or with a table, which is `Block.table`.

        Args:
            value: a NumPy array, a tensor of another library that lies in the CPU's memory (with
                `__dlpack__` or `__array_interface__`), or anything with the buffer protocol; or
                a table with `__arrow_c_stream__` (pyarrow, polars, pandas), which needs pyarrow.
            order: as in `numpy.copy`: "K" and "A" keep C or Fortran order, "C" and "F" make it.
            strings: how a table's strings are laid out: "view" (as polars has them), "large" (as
                pandas has them), or None, as they are.
            group: what it is charged to; None is the arena itself.
            wait: seconds to wait for memory, as in `Cache.alloc`.

        Raises:
            TypeError: the value is neither array nor buffer; or what it means beyond its elements
                would be lost: masked arrays, subclasses of ndarray (but memmap and Part), Series,
                metadata of a dtype, Python objects. The text says what to do.
            ValueError: no such `order` or `strings`; or `wait` makes no sense.
            ModuleNotFoundError: the value is a table, and pyarrow is not installed.
            ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Cache.alloc`.
        """
        cdef Attachment attachment
        cdef Block block = None
        cdef uint64_t ident = 0
        if strings is None and wait is None and order == "K":
            if type(value) is bytes:  # the shortest way for what is put most often
                if len(<bytes>value) < _LONG:
                    block = self.plain(len(<bytes>value), group)
                if block is not None:
                    memcpy(block.ref.data, PyBytes_AS_STRING(<bytes>value), block.ref.nbytes)
            else:
                attachment = self._link.get()
                if self.of_group(group, attachment, &ident):
                    block = _copy_of(attachment, ident, value)
        return self._put(value, order, strings, group, wait) if block is None else block

    def get(self, handle):
        """The object that a handle names.

        Args:
            handle: a `Handle` of an object of this arena.

        Returns:
            A `Block` with the dtype, shape and order that the object was made with.

        Raises:
            StaleHandle: the object is gone, or never was one of this arena.
            TypeError: this is no Handle.
            ArenaFull: no room for one more reference.
            Closed: the arena was closed.
        """
        if type(handle) is not Handle:
            raise TypeError(f"get() takes a Handle, not {type(handle).__name__}: Handle(16 bytes)")
        return self._link.get().resolve(<Handle>handle)
