# Lists that the core fills, whose length it alone knows; and texts that it strings together.

cdef list _texts(const char *bytes, size_t size):
    # `size` bytes of texts with a zero between each two.
    return PyBytes_FromStringAndSize(bytes, size).decode("utf-8", "backslashreplace").split("\0")


cdef list _paths(const char *path):
    # Each path has its final zero, and an empty one is the end of the list.
    cdef list found = []
    while path != NULL and path[0]:
        found.append(_path(path))
        path += strlen(path) + 1
    return found


# Writes as many items of a list as there is room for, and returns how many there are in all. `of`
# says which list.
ctypedef size_t (*_fill_function)(fst_arena *, const void *of, void *into,
                                  size_t room) noexcept nogil


cdef void *_listed(fst_arena *arena, _fill_function fill, const void *of, size_t size, size_t room,
                   size_t *count) except NULL:
    """A whole list, which may get longer at any time: ask, get more memory, ask again.

    `size` is the bytes of an item, `room` a guess at how many there are, `count` gets how many
    there were. The caller frees what is returned, by PyMem_Free.
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
    # A list of ids: of all that a function lists, or of the caches that a group has objects of.
    _list_function function  # NULL: fst_group_caches
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


cdef void *_allocate(size_t count, size_t size) except NULL:
    # Room for so many of that size, for PyMem_Free. A product that wraps around would be too
    # little.
    cdef void *memory = NULL
    if count <= SIZE_MAX // size:
        memory = PyMem_Malloc(count * size)
    if memory == NULL:
        raise MemoryError()
    return memory
