# A cache for one group. Its child in the core (the part of a cache that belongs to one group) is
# looked up once, so that an allocation need not look for it.

@cython.final
@cython.no_gc
cdef class GroupCache:
    """One cache for one group: the fastest way to allocate. Made by `Cache.bind(group)`.

    It holds the group open, as the `Group` does that it was bound to. It pickles as its cache and a
    reference in flight to the group, which is good for one load, as a pickled Group is. Safe to use
    from any thread and, after a fork, in the child.
    """

    cdef Link link
    cdef GroupRef ref            # None: the group is not held open, as the root group
    cdef Format format           # None: plain bytes
    cdef uint64_t child          # id in the core; UINT64_MAX: not looked up yet
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
        # If looking the child up has to wait, that is left to the first allocation, which knows for
        # how long it may wait.
        self.child = UINT64_MAX
        cdef int status = self._reopen(0)
        if status == FST_FULL or status == FST_LIMIT:
            _hooks.once_more(link.get(), _error(status), self._open)
        elif status != FST_HELD:
            _check(status)

    def _open(self):
        """`_reopen` without waiting; raises what keeps it from being done."""
        _check(self._reopen(0))

    def _reopen(self, uint64_t patience):
        """Look the child up, or make it; the status. Waits at most `patience` ns for each lock."""
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

    # Called without arguments it is _alloc_plain(), else _alloc_with(): see binding/method.h.
    alloc = alloc_method(<PyTypeObject *>GroupCache, <object (*)(object)>_alloc_plain,
                         <object (*)(object, PyObject *, PyObject *)>_alloc_with)

    def aalloc(self, *, bint zero=False, object wait=None):
        """`alloc` for a coroutine, an awaitable: arguments, errors and cancelling as
        `Cache.aalloc`.
        """
        return _hooks.aalloc(self, zero, wait)

    def alloc_many(self, n):
        """A list of n Blocks, or an exception and none: arguments and errors as
        `Cache.alloc_many`.
        """
        return _hooks.alloc_many(self, n)

    cdef inline int _fill(self, Block block) except? 1:
        # Allocate the Block's object; the status, of which none is 1.
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
        """A Block, or the status. Waits at most `patience` ns for each lock; 0 does not wait."""
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
        """(Blocks, status): n Blocks, or fewer and the status that says why. Waits at most
        `patience` ns for each lock; 0 does not wait.
        """
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
        """The `Cache`. `Closed` once its descriptor was released, or the arena closed."""
        return _hooks.cache_of(self.link.attachment, self._cache_id)

    @property
    def group(self):
        """The `Group`, as an object that only looks. `Closed` where the arena is."""
        return _hooks.group_of(self.link.attachment, self._group_id)

    def __reduce__(self):
        return _hooks.reduce_bound(self)

    def __repr__(self):
        return _hooks.repr_bound(self)


cdef object _alloc_plain(GroupCache self):
    # GroupCache.alloc() without arguments. It does what _fill() does, written out for speed; where
    # there is no spare Block, or anything goes wrong, _alloc_with() begins again.
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
    # GroupCache.alloc(zero=, wait=), either of which may be NULL: not given.
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


# It is called through a pointer, which gcc does not follow: so it saves no registers for this call
# in _alloc_plain(), which rarely makes it.
cdef object (*_otherwise)(GroupCache self)
_otherwise = _alloc_otherwise


cdef void _zero(fst_ref *ref) noexcept:
    if ref.nbytes < _LONG:
        memset(ref.data, 0, ref.nbytes)
    else:
        with nogil:
            memset(ref.data, 0, ref.nbytes)
