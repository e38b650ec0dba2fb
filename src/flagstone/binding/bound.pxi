# A cache for one group: the fastest way to allocate.

@cython.final
@cython.no_gc
cdef class GroupCache:
    """One cache for one group: the fastest way to allocate. Made by `Cache.bind(group)`; safe to
    use from any thread.

    Holds the group open, as the `Group` does that it was bound to. Pickles as its cache and a
    reference in flight to the group: good for one load, as a pickled Group is.
    """

    cdef Link link
    cdef GroupRef ref            # None: not held open (the root group needs nobody)
    cdef Format format
    cdef uint64_t child
    cdef readonly uint64_t _size
    cdef readonly uint64_t _cache_id
    cdef readonly uint64_t _group_id
    cdef object __weakref__

    def __cinit__(self, Link link not None, GroupRef ref, Format format, uint64_t size,
                  uint64_t cache_id, uint64_t group_id):
        self.link = link
        self.ref = ref
        self.format = format
        self._size = size
        self._cache_id = cache_id
        self._group_id = group_id
        # If finding the child has to wait, that is left to the first allocation, which knows for
        # how long it may wait; until then the id is that of no child.
        self.child = UINT64_MAX
        cdef int status = self._reopen(0)
        if status == FST_FULL or status == FST_LIMIT:
            _hooks.once_more(link.get(), _error(status), self._open)
        elif status != FST_HELD:
            _check(status)

    def _open(self):
        """`_reopen` at once, or an exception."""
        _check(self._reopen(0))

    def _reopen(self, uint64_t patience):
        """Find the child cache, or make it; the status. Waits for locks at most `patience` ns."""
        cdef fst_arena *ptr = self.link.get().ptr
        cdef uint64_t child = 0
        cdef int status
        if not patience:
            status = fst_child_open(ptr, self._cache_id, self._group_id, &child)
        else:
            with nogil:
                fst_patience(patience)
                status = fst_child_open(ptr, self._cache_id, self._group_id, &child)
                fst_patience_default()
        if status == FST_OK:
            self.child = child
        return status

    # Without arguments it is _alloc_plain(), else _alloc_with().
    alloc = alloc_method(<PyTypeObject *>GroupCache, <object (*)(object)>_alloc_plain,
                         <object (*)(object, PyObject *, PyObject *)>_alloc_with)

    def aalloc(self, *, bint zero=False, object wait=None):
        """An awaitable of a `Block`; as `Cache.aalloc`."""
        return _hooks.aalloc(self, zero, wait)

    def alloc_many(self, n):
        """A list of n Blocks, or an exception and none: as `Cache.alloc_many`."""
        return _hooks.alloc_many(self, n)

    cdef inline int _fill(self, Block block) except? 1:
        # Allocate the Block's object; the status.
        cdef int status
        cdef fst_arena *ptr
        block._attachment = self.link.own()
        block.shape(<PyObject *>self.format)
        ptr = (<Attachment>block._attachment).ptr
        if self._size < _LONG:
            status = fst_alloc(ptr, self.child, &block.ref)
        else:
            status = alloc_long(ptr, self.child, &block.ref)
        if status == FST_OK:
            block.life = 1
        return status

    def _attempt(self, bint zero, uint64_t patience):
        """A Block, or the status. Waits for locks at most `patience` ns; 0 does not wait."""
        cdef Block block = _begin_block()
        cdef fst_arena *ptr
        cdef int status
        if not patience:
            status = self._fill(block)
        else:
            block._attachment = self.link.own()
            block.shape(<PyObject *>self.format)
            ptr = (<Attachment>block._attachment).ptr
            with nogil:
                fst_patience(patience)
                status = fst_alloc(ptr, self.child, &block.ref)
                fst_patience_default()
            if status == FST_OK:
                block.life = 1
        if status != FST_OK:
            return status
        if zero:
            _zero(&block.ref)
        return block

    def _attempt_many(self, size_t n, uint64_t patience):
        """(Blocks, status): up to n. Waits for locks at most `patience` ns; 0 does not wait."""
        cdef Attachment attachment = self.link.get()
        cdef list blocks = []
        cdef Block block
        cdef size_t got = 0, i
        cdef int status
        cdef fst_ref *refs = <fst_ref *>_allocate(n, sizeof(fst_ref))
        try:
            for i in range(n):
                block = _begin_block()
                block.of(attachment)
                block.shape(<PyObject *>self.format)
                blocks.append(block)
            if not patience and n < _LONG // self._size:
                status = fst_alloc_many(attachment.ptr, self.child, n, refs, &got)
            else:
                with nogil:
                    fst_patience(patience)
                    status = fst_alloc_many(attachment.ptr, self.child, n, refs, &got)
                    fst_patience_default()
            for i in range(got):
                block = <Block>blocks[i]
                block.ref = refs[i]
                block.life = 1
        finally:
            PyMem_Free(refs)
        del blocks[got:]
        return blocks, status

    @property
    def _attachment(self):
        return self.link.attachment

    @property
    def cache(self):
        """The `Cache`."""
        return _hooks.cache_of(self.link.attachment, self._cache_id)

    @property
    def group(self):
        """The `Group`."""
        return _hooks.group_of(self.link.attachment, self._group_id)

    def __reduce__(self):
        return _hooks.reduce_bound(self)

    def __repr__(self):
        return _hooks.repr_bound(self)


cdef object _alloc_plain(GroupCache self):
    # GroupCache.alloc() without arguments: as _fill(), as far as nothing goes wrong.
    cdef PyObject *attachment
    cdef int status
    cdef Block block
    if not _spare_blocks.count:
        return _otherwise(self)
    attachment = only_item(<PyObject *>self.link.box)
    if attachment == <PyObject *>None:
        Py_DECREF(None)
        return _otherwise(self)
    block = spare_block(&_spare_blocks)
    block._attachment = attachment
    block._format = NULL
    block.shape(<PyObject *>self.format)
    block.life = block.freed = 0
    if self._size < _LONG:
        status = fst_alloc((<Attachment>attachment).ptr, self.child, &block.ref)
    else:
        status = alloc_long((<Attachment>attachment).ptr, self.child, &block.ref)
    if status != FST_OK:
        return _otherwise(self)
    block.life = 1
    return block


cdef object _alloc_with(GroupCache self, PyObject *zero, PyObject *wait):
    cdef Block block
    cdef bint clear = zero != NULL and <object>zero
    if wait == NULL or wait == <PyObject *>None:
        block = _begin_block()
        if self._fill(block) == FST_OK:
            if clear:
                _zero(&block.ref)
            return block
    return _hooks.alloc(self, clear, None if wait == NULL else <object>wait)


cdef object _alloc_otherwise(GroupCache self):
    return _alloc_with(self, NULL, NULL)


# Behind a pointer, so that no register is saved for it in the function above.
cdef object (*_otherwise)(GroupCache self)
_otherwise = _alloc_otherwise


cdef void _zero(fst_ref *ref) noexcept:
    if ref.nbytes < _LONG:
        memset(ref.data, 0, ref.nbytes)
    else:
        with nogil:
            memset(ref.data, 0, ref.nbytes)
