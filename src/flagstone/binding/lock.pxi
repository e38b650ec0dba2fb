# Locks that processes find by name.

def lock_owner(Attachment attachment not None, uint64_t lock):
    """The core's facts about who owns a lock, a dict (`_structs._LockOwner`); None if the lock
    has ended. Asks the kernel whether the owner lives.
    """
    cdef fst_named_lock_owner owner
    return owner if fst_named_lock_look_at(attachment.ptr, lock, &owner) else None


cdef class LockBase(NamedBase):
    """What `flagstone.Lock` is made of."""

    cdef uint32_t taken_over    # from a process that has ended; see `inherited`

    def acquire(self, wait=None):
        """Own the lock.

        Args:
            wait: seconds to wait while others own it; None is for ever, as is `math.inf`; 0 only
                looks.

        Returns:
            Whether it is owned now; if not, the time was over.

        Raises:
            RuntimeError: this thread owns it already.
            Closed: it was destroyed, or left here.
            ValueError, TypeError: a time to wait that makes no sense.
        """
        cdef fst_bool inherited = 0
        cdef int status
        cdef uint64_t now, until
        cdef double seconds = _seconds(True, None, wait)
        self.usable()
        self.begin()
        status = fst_named_lock_acquire(self.use, 0, &inherited)
        self.finish()
        if status == FST_WAIT:
            until = _until(seconds)
            now = fst_now()
            while status == FST_WAIT and now < until:
                self.begin_to_sleep()
                with nogil:
                    status = fst_named_lock_acquire(
                        self.use, until - now if until - now < _SLICE else _SLICE, &inherited)
                self.wake()
                if status != FST_OK:
                    PyErr_CheckSignals()
                    self.usable()
                    now = fst_now()
        if status == FST_WAIT:
            return False
        if status == FST_BUSY:
            raise RuntimeError(
                f"this thread owns {self._called()} already: a Lock cannot be acquired twice")
        self.sure(status)
        swap(&self.taken_over, inherited)
        return True

    def _try(self):
        """Own the lock, if nobody does, neither this thread; whether it is owned by this call."""
        cdef fst_bool inherited = 0
        cdef int status
        self.usable()
        self.begin()
        status = fst_named_lock_acquire(self.use, 0, &inherited)
        self.finish()
        if status == FST_WAIT or status == FST_BUSY:
            return False
        self.sure(status)
        swap(&self.taken_over, inherited)
        return True

    def release(self):
        """Give the lock back. Any thread of the process that owns it may do so.

        Raises:
            RuntimeError: no thread of this process owns it (after a fork: the parent does).
            Closed: it was left here.
        """
        cdef int status
        self.usable()
        swap(&self.taken_over, 0)
        self.begin()
        status = fst_named_lock_release(self.use)
        self.finish()
        if status == FST_INVALID:
            raise RuntimeError(f"{self._called()} is not owned by this process, and cannot be "
                               "released")
        self.sure(status)

    def _owner(self):
        """The core's facts about its owner, a dict (`_structs._LockOwner`)."""
        cdef fst_named_lock_owner owner
        self.usable()
        self.begin()
        fst_named_lock_look(self.use, &owner)
        self.finish()
        return owner

    @property
    def inherited(self):
        """Whether its last owner died, or left the arena, while it owned it: then what the lock
        protects may be half done. From `acquire()` to `release()`; False while it is not owned
        through this object.
        """
        return bool(load(&self.taken_over))
