# What is found by a name and opened: channels, topics and locks.

# The collector may not take the attachment away from under it.
@cython.no_gc_clear
cdef class NamedBase:
    """What `flagstone.Channel`, `Topic` and `Lock` have in common: they are opened, travel, and are
    left.
    """

    cdef fst_channel_use *use
    # 1, and one for each call that is in `use`: at 0 that is let go. The core lets go of what has
    # ended by itself, when there are none.
    cdef uint32_t life
    cdef uint32_t ended         # left: nobody begins a call any more
    cdef uint64_t ident
    cdef Attachment attachment
    cdef Link link
    cdef readonly uint32_t _inline
    cdef readonly uint32_t _capacity
    cdef readonly uint32_t _flags
    cdef readonly object _group_id

    def __init__(self):
        raise TypeError(f"a {type(self).__name__} is made by an Arena")

    def __dealloc__(self):
        if self.use != NULL:
            fst_channel_leave(self.use)

    cdef object was_left(self):
        return _hooks.left(self.attachment, type(self).__name__, self._name)

    cdef inline int usable(self) except -1:
        if load(&self.ended) or self.link.box[0] is None or fst_unusable:
            return self.refuse()  # nearly never
        return 0

    cdef int refuse(self) except -1:
        if load(&self.ended) or self.link.box[0] is None:
            raise self.was_left()
        return self.sure(fst_arena_refused(self.attachment.ptr))

    cdef inline int begin(self) except -1:
        # Before each use of `use`: whatever Python runs, or another thread, may have left.
        if not call_begin(&self.life):
            raise self.was_left()
        return 0

    cdef inline void finish(self) noexcept:
        if call_end(&self.life):
            self.let_go()

    cdef void let_go(self) noexcept:
        cdef fst_channel_use *use = self.use
        self.use = NULL
        fst_channel_leave(use)

    cdef object error(self, int status):
        return _error_of(status, self.attachment, type(self).__name__, self._name)

    cdef int sure(self, int status) except -1:
        if status != FST_OK:
            raise self.error(status)
        return 0

    def _open(self, Link link not None, bytes name, uint32_t capacity, uint32_t inline,
              uint32_t flags, uint64_t group, int create, object mismatch):
        cdef fst_channel_spec spec
        cdef fst_bool created = 0
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        self.link = link
        self.attachment = link.attachment
        spec.name = NULL if name is None else PyBytes_AS_STRING(name)
        spec.capacity, spec.inline_bytes, spec.flags, spec.group = capacity, inline, flags, group
        while _again(status, self.attachment, &began):
            with nogil:
                status = fst_channel_open(self.attachment.ptr, &spec, <fst_create>create, &self.use,
                                          &created)
        if status == FST_FULL or status == FST_LIMIT:
            return _hooks.once_more(self.attachment, _error(status), self._open, link, name,
                                    capacity, inline, flags, group, create, mismatch)
        if status != FST_OK:
            raise _error(status, mismatch)
        self.learn()
        return bool(created)

    def _join(self, Link link not None, bytes message not None):
        cdef fst_message value
        cdef uint64_t began = 0
        cdef int status
        self.link = link
        self.attachment = link.attachment
        _message(message, &value)
        status = fst_channel_join(self.attachment.ptr, &value, &self.use)
        while _again(status, self.attachment, &began):
            with nogil:
                status = fst_channel_join(self.attachment.ptr, &value, &self.use)
        if status == FST_FULL:
            return _hooks.once_more(self.attachment, _error(status), self._join, link, message)
        self.sure(status)
        self.learn()

    cdef int learn(self) except -1:
        cdef fst_channel_info info
        self.ident = fst_channel_id(self.use)
        self.life = 1
        fst_channel_count(self.use, &self.life, 1)
        _check(fst_channel_get_info(self.attachment.ptr, self.ident, &info))
        self._inline = info.inline_bytes
        self._capacity = info.capacity
        self._flags = info.flags
        self._group_id = info.group
        return 0

    def _share(self):
        cdef fst_message message
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_share(self.use, &message)
        self.finish()
        if status == FST_FULL:
            return _hooks.once_more(self.attachment, _error(status), self._share)
        self.sure(status)
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    def _info(self):
        cdef fst_channel_info info
        self.usable()
        self.sure(fst_channel_get_info(self.attachment.ptr, self.ident, &info))
        return info

    def _link_of(self):
        return self.link

    def _left(self):
        return bool(load(&self.ended))

    @property
    def _id(self):
        return self.ident

    def destroy(self):
        """End it now, for everybody: its name is free, what is in it is dropped, and whatever
        others do with it raises `Closed`.

        Raises:
            ReadOnly: attached with `readonly=True`.
        """
        cdef uint64_t began = 0
        cdef int status
        self.usable()
        self.begin()
        try:
            status = fst_channel_destroy(self.use)
            while _again(status, self.attachment, &began):
                with nogil:
                    status = fst_channel_destroy(self.use)
        finally:
            self.finish()
        self.sure(status)

    def leave(self):
        """Let go of it here, at once; of what another thread is in, when that has noticed. The
        last process to do so ends it, unless it is lasting. Again is fine. Going out of scope does
        the same.
        """
        if not swap(&self.ended, 1):
            fst_channel_count(self.use, &self.life, 0)
            self.finish()
