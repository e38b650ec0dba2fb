# What the core answers, as exceptions; and calls that are made again while a lock is held.

cdef str _text(const char *text):
    # The core's texts are for people. They have paths and names in them that came from shared
    # memory, so they may be no UTF-8; what is none is escaped, and can be printed.
    cdef bytes raw = text
    return raw.decode("utf-8", "backslashreplace")


cdef str _path(const char *path):
    # A path is bytes, and os.fsencode() of this gives the same bytes.
    cdef bytes raw = path
    return os.fsdecode(raw)


cdef object _error(int status, object mismatch=ValueError):
    return exception_of(status, _text(fst_last_error()), fst_last_errno(), mismatch)


cdef object _error_of(int status, str path, str kind, object name):
    # As _error(), for something that has a name (`kind` is "Channel", "Store" and so on): the
    # sentence says which one it is, where the core's own names no arena.
    cdef str why = _text(fst_last_error())
    if " arena " not in why:
        why = f"{_hooks.named(path, kind, name)}: {why}"
    return exception_of(status, why, fst_last_errno())


cdef int _check(int status) except -1:
    if status != FST_OK:
        raise _error(status)
    return 0


# Nanoseconds for which a call without the GIL waits at a lock before it looks for signals.
cdef enum: _SLICE = 50000000

# A thread that holds the GIL waits for no lock, unless it says otherwise.
fst_patience_of_all(0)


cdef inline bint _again(int status, Attachment attachment, uint64_t *began,
                        object wait=None) except -1:
    """Whether to make a call (again) without the GIL, because it waits for a lock:

        status = fst_...()      # or FST_HELD, if even the first call is to be made without the GIL
        while _again(status, attachment, &began):
            with nogil:
                status = fst_...()

    `began` is the caller's, 0 at first. Until it says no, this thread's calls wait for a slice of
    time each. Raises what a signal's handler raises, and `TimeoutError` after `wait` ns.
    """
    if status != FST_HELD and not began[0]:
        return False
    return _once_more(status, attachment, began, wait)


cdef bint _once_more(int status, Attachment attachment, uint64_t *began, object wait) except -1:
    cdef str why
    cdef uint64_t waited, patience = _SLICE
    if began[0]:
        fst_patience_default()
        if status != FST_HELD:
            return False
        waited = fst_now() - began[0]
        why = _text(fst_last_error())
        if wait is not None and waited > wait:
            raise exception_of(status, why)
        PyErr_CheckSignals()
        # The first slice is not counted: whoever holds a lock for that long is often waiting for
        # another one, and gives this one back soon.
        _hooks.held(attachment, why, (waited - min(waited, patience)) / 1e9)
    else:
        began[0] = fst_now()
        if wait is not None:
            patience = min(patience, <uint64_t>wait)
    fst_patience(patience)
    return True


cdef fst_bool _go_on(void *context, uint64_t waited) noexcept with gil:
    # The core asks, while it destroys synchronously and has waited for so many nanoseconds, whether
    # to go on: hear signals, and log whom it waits for. `context` is the Attachment.
    cdef Attachment attachment = <Attachment>context
    try:
        PyErr_CheckSignals()
        _hooks.waiting(attachment, waited / 1e9)
    except BaseException as error:
        attachment.gave_up[PyThread_get_thread_ident()] = error
        return False
    return True


# Two answers that are no errors to those who ask.

cdef bint _gone(int status) except -1:
    if status == FST_CLOSED or status == FST_STALE:
        return True
    _check(status)
    return False


cdef bint _in_time(int status) except -1:
    if status == FST_TIMEOUT:
        return False
    _check(status)
    return True
