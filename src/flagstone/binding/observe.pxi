# What is seen of an arena: its processes, deaths, batches, what keeps memory, what is in flight.
# Nothing changes by it, but that messages which have expired are dropped. Facts are the core's
# structs as dicts, typed in `_structs.pyi`; text in them is bytes, times are nanoseconds.

cdef enum:
    _MOST_KEEPERS = 256


def processes(Attachment attachment not None):
    """The processes that have the arena attached, and dead ones that no batch has buried yet. Asks
    the kernel which of them live.
    """
    cdef size_t count = 0, i
    cdef fst_process_info *found = <fst_process_info *>_listed(
        attachment.ptr, _fill_processes, NULL, sizeof(fst_process_info), 64, &count)
    try:
        return [found[i] for i in range(count)]
    finally:
        PyMem_Free(found)


cdef size_t _fill_processes(fst_arena *arena, const void *of, void *into,
                            size_t room) noexcept nogil:
    return fst_process_list(arena, <fst_process_info *>into, room)


def burials(Attachment attachment not None):
    """The last 64 deaths at most, the newest first."""
    cdef fst_burial_info found[64]
    cdef size_t count = fst_burial_list(attachment.ptr, found, 64), i
    return [found[i] for i in range(count)]


def batches(Attachment attachment not None):
    """The last 16 batches at most, the newest first."""
    cdef fst_batch_info found[16]
    cdef size_t count = fst_batch_list(attachment.ptr, found, 16), i
    return [found[i] for i in range(count)]


def child_counts(Attachment attachment not None):
    """How many child caches there are, by state. Looks at each of them."""
    cdef fst_child_counts counts
    fst_child_count(attachment.ptr, &counts)
    return counts


def keepers(Attachment attachment not None, cache=None):
    """Who keeps what has ended from being released, or who keeps objects of one cache (`cache` is
    its id): 256 at most. Looks at every reference, without the GIL.
    """
    cdef fst_keeper found[_MOST_KEEPERS]
    cdef bint of_cache = cache is not None
    cdef uint64_t ident = cache if of_cache else 0
    cdef size_t i, count
    with nogil:
        if of_cache:
            count = fst_cache_keepers(attachment.ptr, ident, found, _MOST_KEEPERS)
        else:
            count = fst_keeper_list(attachment.ptr, found, _MOST_KEEPERS)
    return [found[i] for i in range(count)]


def uses(Attachment attachment not None, size_t most):
    """What processes use, by cache and group: `most` rows, and one for all that had no room in
    these. Looks at every reference, without the GIL.
    """
    cdef size_t i, count
    cdef fst_use *rows = <fst_use *>_allocate(most + 1, sizeof(fst_use))
    try:
        with nogil:
            count = fst_use_list(attachment.ptr, rows, most + 1)
        return [rows[i] for i in range(count)]
    finally:
        PyMem_Free(rows)


def check(Attachment attachment not None):
    """Every contradiction that `fst_check` finds, as a text. May wait for locks."""
    cdef fst_texts texts
    cdef uint64_t began = 0
    cdef size_t found = FST_CHECK_HELD
    texts.bytes = NULL
    texts.size = 0
    try:
        while _again(FST_HELD if found == FST_CHECK_HELD else FST_OK, attachment, &began):
            texts.size = 0  # of a look that came to a lock, and is made again
            with nogil:
                found = fst_check(attachment.ptr, fst_texts_add, &texts)
        # Each text ends with a zero, so the last piece of the split would be empty.
        return _texts(texts.bytes, texts.size - 1) if texts.size else []
    finally:
        free(texts.bytes)


# ---- what is in flight: there may be a million messages, so the objects that stand for them are
# sorted and filled in C

cdef struct in_flight_age:
    uint64_t age   # in nanoseconds
    size_t index   # into the core's list


cdef int _older(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<in_flight_age *>a).age, y = (<in_flight_age *>b).age
    return -1 if x > y else x < y


cdef size_t _fill_in_flight(fst_arena *arena, const void *of, void *into,
                            size_t room) noexcept nogil:
    return fst_inflight_list(arena, <fst_inflight_info *>into, room)


def in_flight(Attachment attachment not None, uint64_t older_than, type kind, object cache_name,
              object group_name):
    """Messages that nobody has taken yet, and who sent them. Messages that have expired are dropped
    first.

    Args:
        older_than: nanoseconds that a message has been in flight at least.
        kind: `flagstone.facts.InFlight`, whose objects are made here.
        cache_name, group_name: called once for each id, to get its name.

    Returns:
        ([kind, the oldest first], {(pid, command, alive): [messages, bytes]}).
    """
    cdef size_t count = 0, old = 0, i
    cdef fst_inflight_info *infos
    cdef in_flight_age *order = NULL
    with nogil:
        fst_inflight_expire(attachment.ptr)
        count = fst_inflight_count(attachment.ptr)
    infos = <fst_inflight_info *>_listed(
        attachment.ptr, _fill_in_flight, NULL, sizeof(fst_inflight_info), count + 256, &count)
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
        # A frozen dataclass refuses assignments, so its own __init__ sets each field by
        # object.__setattr__. So does this, without running Python code.
        if name is None or one.cache != cache:
            cache = one.cache
            name = _named(names, (False, cache), cache_name) if cache else ""
        if owner is None or one.group != group:
            group = one.group
            owner = _named(names, (True, group), group_name)
        item = PyType_GenericAlloc(<PyTypeObject *>kind, 0)
        # Its fields refer to nothing further, so it can be in no cycle, and the collector need not
        # look at it.
        PyObject_GC_UnTrack(<void *>item)
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
    # The name of a cache or group, asked for once: key is (whether it is a group, id).
    name = names.get(key)
    if name is None:
        name = names[key] = ask(key[1])
    return name
