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
