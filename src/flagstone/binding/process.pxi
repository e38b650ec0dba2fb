# What needs no attachment.

def peek(bytes path not None):
    """What the file is, without attaching."""
    cdef fst_peek out
    cdef int status
    cdef const char *name = path
    with nogil:
        status = peek_file(name, &out)
    _check(status)
    facts = <object>out
    facts["uuid"] = out.uuid[:16]  # as above: all 16 bytes, zeros included
    return facts


def gc(bytes folder not None):
    """Remove what no live process has from the folder: the paths that are gone."""
    cdef char *removed = NULL
    cdef const char *name = folder
    cdef int status
    with nogil:
        status = fst_gc(name, &removed)
    try:
        if status < 0:
            raise _error(status)
        return _paths(removed)
    finally:
        free(removed)


def unlink(bytes path not None):
    """Remove an arena's name."""
    cdef const char *name = path
    cdef int status
    with nogil:
        status = fst_unlink(name)
    _check(status)


def last_error(int status):
    """The exception for a status that a method returned to this thread just before."""
    return _error(status)


def leave_all():
    """The process is about to end."""
    with nogil:
        fst_leave_all()


def now():
    """Nanoseconds since boot."""
    return fst_now()


def lock_sample(uint32_t every):
    """How often this process looks how long it holds a shared lock: every so many acquisitions."""
    fst_lock_sample(every)


def fault_arm(uint64_t nth):
    """In a build with fault points: kill this process at its n-th write to shared memory from now;
    0 never.
    """
    fst_fault_arm(nth)


def fault_passed():
    """How many fault points the calling thread has passed."""
    return fst_fault_passed()


def has_fault_points():
    return fst_has_fault_points()


def lock_hold(Attachment attachment not None, bytes lock, uint64_t cache, uint64_t group):
    """Hold a shared lock, for tests of what others do meanwhile; for `lock_let_go`."""
    cdef void *held = NULL
    cdef const char *name = PyBytes_AS_STRING(lock)
    cdef int status
    with nogil:
        fst_patience(_SLICE)
        status = fst_lock_hold(attachment.ptr, name, cache, group, &held)
        fst_patience_default()
    _check(status)
    return <size_t>held


def lock_let_go(Attachment attachment not None, size_t held):
    """Give back what `lock_hold` gave."""
    fst_lock_let_go(attachment.ptr, <void *>held)
