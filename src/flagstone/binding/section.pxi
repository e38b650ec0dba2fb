# Read-side sections.

@cython.final
@cython.no_gc
cdef class ReadSection:
    """A read-side section of the calling thread: `with arena.read(): ...`.

    Inside, nothing that was looked up is reused or released, and nothing waits or reclaims: an
    allocation that would have to fails at once. Sections nest. Each belongs to the thread that
    began it.

    Raises:
        RuntimeError: it is left in another thread than it was begun in.
        Closed: the arena was closed, or did not come along over a fork.
    """

    cdef Attachment attachment

    def __cinit__(self, Attachment attachment not None):
        self.attachment = attachment

    def __enter__(self):
        _check(fst_read_lock(self.attachment.ptr))
        return self

    def __exit__(self, kind, value, traceback):
        cdef int status = fst_read_unlock(self.attachment.ptr)
        if status == FST_CLOSED:
            raise _error(status)
        if status != FST_OK:
            raise RuntimeError(_text(fst_last_error()))
