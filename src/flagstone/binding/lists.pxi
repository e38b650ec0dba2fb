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


# Writes so many of a list as there is room for, and says how long it is; `of` says which list.
ctypedef size_t (*_fill_function)(fst_arena *, const void *of, void *into,
                                  size_t room) noexcept nogil


cdef void *_listed(fst_arena *arena, _fill_function fill, const void *of, size_t size, size_t room,
                   size_t *count) except NULL:
    """All of a list that may get longer at any time: ask, grow, ask again.

    `size` is that of one, `room` how many there will be, as far as anybody knows. The caller frees
    it, by PyMem_Free.
    """
    cdef void *into
    while True:
        into = _allocate(room, size)
        with nogil:
            count[0] = fill(arena, of, into, room)
        if count[0] <= room:
            return into
        PyMem_Free(into)
        room = count[0] + 256


ctypedef size_t (*_list_function)(fst_arena *, uint64_t *, size_t) noexcept nogil

cdef struct id_list:
    _list_function function  # NULL: the caches of the group
    uint64_t group


cdef size_t _fill_ids(fst_arena *arena, const void *of, void *into, size_t room) noexcept nogil:
    cdef const id_list *which = <const id_list *>of
    if which.function is NULL:
        return fst_group_caches(arena, which.group, <uint64_t *>into, room)
    return which.function(arena, <uint64_t *>into, room)


cdef list _ids(Attachment attachment, _list_function function, uint64_t group):
    cdef size_t count = 0, i
    cdef id_list which
    cdef uint64_t *ids
    which.function, which.group = function, group
    ids = <uint64_t *>_listed(attachment.ptr, _fill_ids, &which, sizeof(uint64_t), 256, &count)
    try:
        return [ids[i] for i in range(count)]
    finally:
        PyMem_Free(ids)


cdef size_t _fill_processes(fst_arena *arena, const void *of, void *into,
                            size_t room) noexcept nogil:
    return fst_process_list(arena, <fst_process_info *>into, room)


cdef size_t _fill_in_flight(fst_arena *arena, const void *of, void *into,
                            size_t room) noexcept nogil:
    return fst_inflight_list(arena, <fst_inflight_info *>into, room)


cdef void *_allocate(size_t count, size_t size) except NULL:
    # Room for so many of that size, for PyMem_Free. A product that wraps around would be too
    # little.
    cdef void *memory = NULL
    if count <= SIZE_MAX // size:
        memory = PyMem_Malloc(count * size)
    if memory == NULL:
        raise MemoryError()
    return memory
