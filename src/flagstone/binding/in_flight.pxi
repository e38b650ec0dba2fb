# The objects of Attachment.in_flight(), made without Python's help.

cdef struct in_flight_age:
    uint64_t age
    size_t index


cdef int _older(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<in_flight_age *>a).age, y = (<in_flight_age *>b).age
    return -1 if x > y else x < y


cdef tuple _in_flight_of(fst_arena *ptr, uint64_t older_than, type kind, object cache_name,
                         object group_name):
    cdef size_t count = 0, old = 0, i
    cdef fst_inflight_info *infos
    cdef in_flight_age *order = NULL
    with nogil:
        fst_inflight_expire(ptr)
        count = fst_inflight_count(ptr)
    infos = <fst_inflight_info *>_listed(
        ptr, _fill_in_flight, NULL, sizeof(fst_inflight_info), count + 256, &count)
    try:
        order = <in_flight_age *>_allocate(count + 1, sizeof(in_flight_age))
        with nogil:
            for i in range(count):
                if infos[i].age >= older_than:
                    order[old].age, order[old].index = infos[i].age, i
                    old += 1
            qsort(order, old, sizeof(in_flight_age), _older)
        return _in_flight(infos, order, old, kind, cache_name, group_name)
    finally:
        PyMem_Free(order)
        PyMem_Free(infos)


cdef tuple _in_flight(fst_inflight_info *infos, in_flight_age *order, size_t count, type kind,
                      object cache_name, object group_name):
    cdef list found = []
    cdef dict senders = {}, names = {}, texts = {}
    cdef fst_inflight_info *one
    cdef fst_inflight_info *last = NULL
    cdef list total = None
    cdef str command = None
    cdef object name = None, owner = None
    cdef uint64_t cache = 0, group = 0
    cdef size_t i
    for i in range(count):
        one = &infos[order[i].index]
        if last == NULL or one.pid != last.pid or one.sender_alive != last.sender_alive or memcmp(
                one.command, last.command, sizeof(one.command)):
            command = _text(one.command)
            command = texts.setdefault(command, command)
            total = senders.setdefault((one.pid, command, bool(one.sender_alive)), [0, 0])
        last = one
        total[0] += 1
        total[1] += one.nbytes
        # A dataclass that is frozen is filled as its own __init__ does it, without its detour
        # through Python.
        if name is None or one.cache != cache:
            cache = one.cache
            name = _named(names, (False, cache), cache_name) if cache else ""
        if owner is None or one.group != group:
            group = one.group
            owner = _named(names, (True, group), group_name)
        item = PyType_GenericAlloc(<PyTypeObject *>kind, 0)
        PyObject_GC_UnTrack(<void *>item)  # what it holds holds nothing, and there may be a million
        PyObject_GenericSetAttr(item, "object", _handle(&one.handle))
        PyObject_GenericSetAttr(item, "is_group", True if one.is_group else False)
        PyObject_GenericSetAttr(item, "nbytes", one.nbytes)
        PyObject_GenericSetAttr(item, "cache", "" if one.is_group else name)
        PyObject_GenericSetAttr(item, "group", owner)
        PyObject_GenericSetAttr(item, "pid", one.pid)
        PyObject_GenericSetAttr(item, "command", command)
        PyObject_GenericSetAttr(item, "age", one.age / 1e9)
        found.append(item)
    return found, senders


cdef object _named(dict names, tuple key, object ask):
    name = names.get(key)
    if name is None:
        name = names[key] = ask(key[1])
    return name
