# Where NumPy allocates the data of new arrays: in a group of an arena, by NumPy's own hook for it
# (NEP 49).

# What NumPy has of an Allocator. The handler comes first: its address is in the capsule.
cdef struct allocation:
    PyDataMem_Handler handler
    PyDataMem_Handler *other  # the one that NumPy had
    fst_arena *arena
    size_t least
    PyObject *allocator       # borrowed: each capsule counts it


@cython.final
@cython.no_gc
cdef class Allocator:
    """Lets NumPy allocate the data of new arrays in a group, where they are large enough and the
    calling thread has asked for it, by `begin()`: not what other threads do on its behalf, which
    outlasts the request. What finds no room, or has to be zero, is allocated as ever.

    Such an array is one like any other, with data of its own. Its memory is a Block, which `find()`
    gives, and lasts as long as the array and what looks at the Block. An array may outlive all else
    that has to do with the arena here: it keeps the attachment. Safe to use from any thread.

    Args:
        attachment: of the arena.
        group: the id of the group that it is charged to.
        least: bytes from which on an array's data goes there.
    """

    cdef Attachment attachment
    cdef uint64_t group
    cdef uint32_t refused  # the instant at which there was no room, of _instant(); 0: none
    cdef dict blocks       # address -> Block, of all arrays that live
    cdef object before     # the capsule of the handler that NumPy had
    cdef allocation of_numpy

    def __init__(self, Attachment attachment not None, uint64_t group, size_t least):
        cdef PyDataMem_Handler *handler = &self.of_numpy.handler
        self.attachment, self.group = attachment, group
        self.blocks = {}
        self.before = PyDataMem_GetHandler()
        self.of_numpy.other = <PyDataMem_Handler *>PyCapsule_GetPointer(<PyObject *>self.before,
                                                                        _HANDLER)
        self.of_numpy.arena, self.of_numpy.least = attachment.ptr, max(1, least)
        self.of_numpy.allocator = <PyObject *>self
        memcpy(handler.name, b"flagstone", 10)
        handler.version = 1
        handler.allocator.ctx = &self.of_numpy
        handler.allocator.malloc = _data_malloc
        handler.allocator.calloc = _data_calloc
        handler.allocator.realloc = _data_realloc
        handler.allocator.free = _data_free

    def begin(self):
        """Let the calling thread allocate so from now on; what to give to `end()` there."""
        # Each array keeps its capsule, and each capsule this object.
        capsule = PyCapsule_New(&self.of_numpy.handler, _HANDLER, _data_end)
        Py_INCREF(self)
        before = PyDataMem_SetHandler(capsule)
        set_allocating(&self.of_numpy)
        return before

    def end(self, before not None):
        """Let it allocate as it did before."""
        set_allocating(PyCapsule_GetPointer(<PyObject *>before, _HANDLER))
        PyDataMem_SetHandler(before)

    def find(self, size_t address):
        """The Block, of bytes, that is the data of an array that begins at this address; None: it
        was allocated elsewhere.
        """
        return self.blocks.get(address)

    cdef void *place(self, size_t nbytes) noexcept:
        # The address of new data; NULL: it goes elsewhere. No exception is left behind.
        cdef Block block
        if load(&self.refused) == _instant():
            return NULL
        try:
            made = self.attachment.alloc_bytes(self.group, nbytes, None)
            if type(made) is not Block:
                swap(&self.refused, _instant())
                return NULL
            block = <Block>made
            self.blocks[<size_t>block.ref.data] = block
            return block.ref.data
        except BaseException:  # no memory for a Python object
            return NULL


cdef const char *_HANDLER = "mem_handler"


cdef inline uint32_t _instant() noexcept nogil:
    # A time of 67 ms. Being refused may take nearly as long, so it happens once in that time.
    return <uint32_t>(fst_now() >> 26) | 1


cdef void _data_end(PyObject *capsule) noexcept:
    Py_DECREF(<object>(<allocation *>PyCapsule_GetPointer(capsule, _HANDLER)).allocator)


# Small data is told by its size, and data that is elsewhere by its address, before anything of
# Python's is touched.

cdef void *_data_malloc(void *self, size_t size) noexcept nogil:
    cdef allocation *ours = <allocation *>self
    cdef void *data = NULL
    if size >= ours.least and allocating() == self:
        with gil:
            data = (<Allocator>ours.allocator).place(size)
    return ours.other.allocator.malloc(ours.other.allocator.ctx, size) if data == NULL else data


cdef void *_data_calloc(void *self, size_t count, size_t size) noexcept nogil:
    # The data of arrays of Python objects is asked for in this way, as that of zeros is. It is no
    # matter of the arena's: pointers mean nothing to another process, and after a fork parent and
    # child would write one another's.
    cdef allocation *ours = <allocation *>self
    return ours.other.allocator.calloc(ours.other.allocator.ctx, count, size)


cdef void *_data_realloc(void *self, void *data, size_t size) noexcept nogil:
    cdef allocation *ours = <allocation *>self
    cdef void *more
    cdef size_t before = 0
    if not fst_arena_spans(ours.arena, data):
        return ours.other.allocator.realloc(ours.other.allocator.ctx, data, size)
    with gil:
        before = (<Block>(<Allocator>ours.allocator).blocks[<size_t>data]).ref.nbytes
    if size <= before:
        return data
    more = _data_malloc(self, size)
    if more != NULL:
        memcpy(more, data, before)
        _data_free(self, data, before)
    return more


cdef void _data_free(void *self, void *data, size_t size) noexcept nogil:
    cdef allocation *ours = <allocation *>self
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    if not fst_arena_spans(ours.arena, data):
        ours.other.allocator.free(ours.other.allocator.ctx, data, size)
        return
    with gil:
        # An array may end while an exception is on its way.
        PyErr_Fetch(&kind, &value, &traceback)
        (<Allocator>ours.allocator).blocks.pop(<size_t>data, None)
        PyErr_Restore(kind, value, traceback)
