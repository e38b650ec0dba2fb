# Caches that are debugged: what the core asks, and what it found. A *site* is a place in the
# program (the lines of some callers), a *fault* what is wrong with an object.

cdef extern from "Python.h":
    ctypedef struct PyFrameObject:
        pass
    ctypedef struct PyCodeObject:
        pass
    PyFrameObject *PyEval_GetFrame()
    PyFrameObject *PyFrame_GetBack(PyFrameObject *frame)
    PyCodeObject *PyFrame_GetCode(PyFrameObject *frame)
    int PyFrame_GetLasti(PyFrameObject *frame)
    int Py_AddPendingCall(int (*function)(void *) except -1, void *context) nogil
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)

cdef enum: _FRAMES = 12        # callers that make a site
cdef enum: _MOST_SITES = 8192  # sites that this process remembers
cdef dict _known_sites = {}    # hash of arena and frames -> (number, code objects)
cdef object _describe_frames = None  # of debug_install()
cdef object _tell_of_faults = None   # of debug_install()
cdef uint32_t _told_faults = 0       # faults of this process that were told of


def debug_install(site, tell):
    """Let the core ask where allocations and drops come from, from now on.

    `site(frames)` is the text of a site; `tell()` is called when there is something new to
    report, by whatever thread finds it.
    """
    global _describe_frames, _tell_of_faults
    _describe_frames, _tell_of_faults = site, tell
    fst_debug_ask(_where)
    fst_debug_hear(_heard)


def debug_deaf():
    """Let other threads call into the interpreter no more: it ends."""
    fst_debug_hear(NULL)


cdef int _tell_later(void *context) except -1 with gil:
    try:
        debug_told()
    except Exception:
        pass  # It is of the program's own logging handlers, and the main thread is anywhere.
    return 0


cdef list _postponed = []  # exceptions that a signal's handler raised where none could be passed on


cdef int _raise_postponed(void *context) except -1 with gil:
    if _postponed:
        raise _postponed.pop()
    return 0


cdef void _heard() noexcept nogil:
    # Any thread may have found a fault, also the reaper's, which cannot run Python code, and with
    # locks of the core held. So the main thread tells of it, between two of its instructions.
    Py_AddPendingCall(_tell_later, NULL)


cdef uint32_t _where(fst_arena *arena) noexcept with gil:
    # The number of this thread's site; 0: not known. An exception may be on its way, which drops
    # the objects of the frames that it leaves: it is put aside meanwhile.
    cdef PyObject *kind
    cdef PyObject *value
    cdef PyObject *traceback
    cdef uint32_t site = 0
    if _describe_frames is None:
        return 0
    PyErr_Fetch(&kind, &value, &traceback)
    try:
        site = _site_of_frames(arena)
        if fst_debug_fault_count() != _told_faults:
            debug_told()
    except Exception:
        pass  # It says only where something was: that it cannot be described stops no program.
    except BaseException as error:
        # Ctrl-C, for example. The core passes no exception on, so the main thread, to which signals
        # belong, raises it between two of its instructions; once, where the core asks again first.
        if not _postponed:
            _postponed.append(error)
            Py_AddPendingCall(_raise_postponed, NULL)
    PyErr_Restore(kind, value, traceback)
    return site


def debug_told():
    """Call `tell()` of `debug_install` if this process has found a fault since the last time."""
    global _told_faults
    cdef uint32_t count = fst_debug_fault_count()
    if count != _told_faults and _tell_of_faults is not None:
        _told_faults = count
        _tell_of_faults()


cdef uint32_t _site_of_frames(fst_arena *arena) except? 0:
    # The site's number in the arena, found by a hash of code objects and instructions.
    cdef uint64_t key = <uint64_t><size_t>arena
    cdef PyFrameObject *frame = PyEval_GetFrame()
    cdef PyFrameObject *back
    cdef PyCodeObject *code
    cdef int depth = 0
    if frame == NULL:
        return 0
    Py_INCREF(<object>frame)
    while frame != NULL:
        code = PyFrame_GetCode(frame)
        key = (key ^ <uint64_t><size_t>code) * <uint64_t>0x9e3779b97f4a7c15
        key = (key ^ (key >> 29) ^ <uint64_t>PyFrame_GetLasti(frame)) * <uint64_t>0xbf58476d1ce4e5b9
        Py_DECREF(<object>code)
        depth += 1
        back = PyFrame_GetBack(frame) if depth < _FRAMES else NULL
        Py_DECREF(<object>frame)
        frame = back
    known = _known_sites.get(key)
    if known is None:
        known = _new_site(arena)
        if len(_known_sites) >= _MOST_SITES:
            _known_sites.clear()
        _known_sites[key] = known
    return known[0]


cdef int _forget_sites() except -1:
    # An arena that is attached to may lie where one lay that was left: its sites have the numbers
    # of its own table.
    _known_sites.clear()
    return 0


cdef tuple _new_site(fst_arena *arena):
    # (Number, code objects). The code objects are kept because the hash is of their addresses.
    cdef uint32_t site = 0
    cdef list frames = []
    cdef object frame = <object>PyEval_GetFrame()
    while frame is not None and len(frames) < _FRAMES:
        frames.append(frame)
        frame = frame.f_back
    cdef bytes text = _describe_frames(frames)
    fst_debug_site_add(arena, PyBytes_AS_STRING(text), len(text), &site)
    return site, [frame.f_code for frame in frames]


def debug_faults():
    """(faults, how many were lost): what this process has found since the last call."""
    cdef fst_fault faults[64]
    cdef uint64_t lost = 0
    cdef size_t count = fst_debug_faults(faults, 64, &lost), i
    return [_fault(&faults[i]) for i in range(count)], lost


cdef object _fault(const fst_fault *fault):
    # A dict (`_structs._Fault`); bytes that may have zeros in them are taken as a whole.
    found = <object>fault[0]
    found["uuid"] = fault.uuid[:16]
    found["found"] = fault.found[:8]
    found["holders"] = [fault.holders[i] for i in range(4) if fault.holders[i]]
    return found


def debug_log(Attachment attachment not None):
    """The last faults that any process has found, the newest first."""
    cdef fst_fault faults[8]
    cdef size_t count = fst_debug_log(attachment.ptr, faults, 8), i
    return [_fault(&faults[i]) for i in range(count)]


cdef enum: _MOST_WRONG = 64  # faults that one call of debug_damage() returns


cdef struct _Wrong:
    fst_fault *faults
    size_t count


cdef void _keep_wrong(void *context, const fst_fault *fault) noexcept nogil:
    cdef _Wrong *wrong = <_Wrong *>context
    if wrong.count < _MOST_WRONG:
        wrong.faults[wrong.count] = fault[0]
        wrong.count += 1


def debug_damage(Attachment attachment not None):
    """What is wrong with objects now and was not found before: 64 at most."""
    cdef _Wrong wrong
    cdef uint64_t began = 0
    cdef int status = FST_HELD
    cdef size_t i
    wrong.faults = <fst_fault *>_allocate(_MOST_WRONG, sizeof(fst_fault))
    try:
        while _again(status, attachment, &began):
            wrong.count = 0
            with nogil:
                status = fst_debug_walk(attachment.ptr, _keep_wrong, &wrong)
        _check(status)
        return [_fault(&wrong.faults[i]) for i in range(wrong.count)]
    finally:
        PyMem_Free(wrong.faults)


def debug_leaked(Attachment attachment not None, one, uint64_t objects, uint64_t nbytes):
    """Write a leak into the arena's log: so many objects live whose group ends. `one` is one of
    them, as `debug_objects` returns it.
    """
    cdef fst_debug_info info = one
    info.nbytes = nbytes
    fst_debug_leaked(attachment.ptr, &info, objects)


cdef struct _Listed:
    fst_debug_info *infos
    size_t count, room


cdef void _list_one(void *context, const fst_debug_info *info) noexcept nogil:
    cdef _Listed *listed = <_Listed *>context
    cdef size_t room
    cdef fst_debug_info *more
    if listed.count == listed.room:
        room = 2 * listed.room + 64
        more = <fst_debug_info *>realloc(listed.infos, room * sizeof(fst_debug_info))
        if more == NULL:
            return
        listed.infos, listed.room = more, room
    listed.infos[listed.count] = info[0]
    listed.count += 1


def debug_objects(Attachment attachment not None, uint64_t group):
    """The living objects of caches that are debugged, in a group (0: in all), each a dict
    (`_structs._DebugInfo`). Those for which there is no memory are left out.
    """
    cdef _Listed listed
    cdef uint64_t began = 0
    cdef int status = FST_HELD
    cdef size_t i
    listed.infos = NULL
    listed.room = 0
    try:
        while _again(status, attachment, &began):
            listed.count = 0
            with nogil:
                status = fst_debug_list(attachment.ptr, group, _list_one, &listed)
        _check(status)
        return [<object>listed.infos[i] for i in range(listed.count)]
    finally:
        free(listed.infos)


cdef struct _Holding:
    uint32_t slot
    uint64_t oid


cdef struct _Holders:
    _Holding *rows
    size_t count, room


cdef void _list_holder(void *context, uint32_t slot, uint64_t oid) noexcept nogil:
    cdef _Holders *listed = <_Holders *>context
    cdef size_t room
    cdef _Holding *more
    if listed.count == listed.room:
        room = 2 * listed.room + 64
        more = <_Holding *>realloc(listed.rows, room * sizeof(_Holding))
        if more == NULL:
            return
        listed.rows, listed.room = more, room
    listed.rows[listed.count].slot, listed.rows[listed.count].oid = slot, oid
    listed.count += 1


def debug_holders(Attachment attachment not None):
    """(process slot, oid): who refers to which object of a cache that is debugged."""
    cdef _Holders listed
    cdef int status
    cdef size_t i
    listed.rows = NULL
    listed.count = listed.room = 0
    try:
        with nogil:
            status = fst_debug_holders(attachment.ptr, _list_holder, &listed)
        _check(status)
        return [(listed.rows[i].slot, listed.rows[i].oid) for i in range(listed.count)]
    finally:
        free(listed.rows)


def debug_site(Attachment attachment not None, uint32_t site):
    """The text of a site, its innermost line first; "" where it is not known."""
    cdef char text[512]
    cdef size_t n = fst_debug_site_text(attachment.ptr, site, text, sizeof(text))
    return text[:n].decode("utf-8", "replace")


def debug_of(Attachment attachment not None):
    """The flags (FST_CACHE_POISON and the like) of the arena's size classes."""
    return fst_arena_debug(attachment.ptr)


def debug_seen(Attachment attachment not None):
    """Whether this process has seen an object of a cache that is debugged."""
    return bool(fst_debug_seen(attachment.ptr))
