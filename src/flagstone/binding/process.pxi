# What is asked of the core without an attachment, and what tests ask.

def peek(bytes path not None):
    """What the file at a path says of itself, a dict (`_structs._Peek`), without attaching."""
    cdef fst_peek out
    cdef int status
    cdef const char *name = path
    with nogil:
        status = peek_file(name, &out)
    _check(status)
    facts = <object>out
    facts["uuid"] = out.uuid[:16]  # Cython takes it for a text, which ends at its first zero
    return facts


def gc(bytes folder not None):
    """Remove the arenas that no live process has from the folder; the paths that are gone."""
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
    """Remove an arena's name. Who has the arena keeps it."""
    cdef const char *name = path
    cdef int status
    with nogil:
        status = fst_unlink(name)
    _check(status)


def last_error(int status):
    """The exception for a status that a method returned to this thread just before."""
    return _error(status)


def leave_all():
    """Leave every arena: the process is about to end. May wait for the reaper's thread."""
    with nogil:
        fst_leave_all()


def fork_begin():
    """Before a fork: no thread of an arena's runs in the parent until `fork_end()`."""
    fst_fork_begin()


def fork_end():
    """After a fork, in the parent."""
    with nogil:
        fst_fork_end()


def now():
    """Nanoseconds since boot."""
    return fst_now()


def lock_sample(uint32_t every):
    """Measure from now on how long this process holds a shared lock at every `every`-th
    acquisition.
    """
    fst_lock_sample(every)


def fault_arm(uint64_t nth):
    """Kill this process at the n-th write of the calling thread to shared memory from now on; 0:
    never. It does nothing in a build without fault points.
    """
    fst_fault_arm(nth)


def fault_passed():
    """How many writes to shared memory the calling thread has made since `fault_arm`; 0 in a build
    without fault points.
    """
    return fst_fault_passed()


def has_fault_points():
    """Whether this build has fault points, at which `fault_arm` can kill it (meson's option
    `fault_points`).
    """
    return fst_has_fault_points()


def lock_hold(Attachment attachment not None, bytes lock, uint64_t cache, uint64_t group):
    """Hold a shared lock, for tests of what others do meanwhile; `lock_let_go` takes what is
    returned. `TimeoutError` if another process has it for longer than 50 ms.
    """
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
