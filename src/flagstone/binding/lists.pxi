# What the core tells in lists, of a length that it alone knows.

cdef list _texts(const char *bytes, size_t size):
    return PyBytes_FromStringAndSize(bytes, size).decode("utf-8", "backslashreplace").split("\0")


cdef list _paths(const char *path):
    # Each has its final zero; an empty one is the end.
    cdef list found = []
    while path != NULL and path[0]:
        found.append(_path(path))
        path += strlen(path) + 1
    return found


ctypedef size_t (*_list_function)(fst_arena *, uint64_t *, size_t) noexcept nogil


cdef list _ids(Attachment attachment, _list_function function, uint64_t group):
    # Without a function: the caches of the group.
    cdef size_t room = 256, count, i
    cdef uint64_t *ids
    while True:
        ids = <uint64_t *>_allocate(room, sizeof(uint64_t))
        try:
            if function is NULL:
                count = fst_group_caches(attachment.ptr, group, ids, room)
            else:
                count = function(attachment.ptr, ids, room)
            if count <= room:
                return [ids[i] for i in range(count)]
        finally:
            PyMem_Free(ids)
        room = count + 256


cdef void *_allocate(size_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Malloc(count * size)
    if memory == NULL:
        raise MemoryError()
    return memory
