# What is found by a name and opened: channels, topics and locks. The core calls all of them
# channels, because each stands on a ring of messages.

def channel_ids(Attachment attachment not None, kind=None):
    """The ids of all that stands on a ring, or of what is of this kind (CHANNEL_TOPIC,
    CHANNEL_LOCK; 0: channels); some may have ended since they were listed.
    """
    cdef list found = _ids(attachment, fst_channel_list, 0)
    cdef uint64_t one
    cdef uint32_t wanted
    if kind is None:
        return found
    wanted = kind
    return [one for one in found if fst_channel_kind(attachment.ptr, one) == wanted]


def channel_info(Attachment attachment not None, uint64_t channel):
    """The core's facts about a channel, topic or lock, a dict (`_structs._ChannelFacts`)."""
    cdef fst_channel_info info
    _check(fst_channel_get_info(attachment.ptr, channel, &info))
    return info


# no_gc_clear: its end needs the attachment, which the collector must not have cleared before.
@cython.no_gc_clear
cdef class NamedBase:
    """What `flagstone.Channel`, `Topic` and `Lock` have in common: they are opened, travel, and are
    left.
    """

    cdef fst_channel_use *use   # NULL: let go of
    # 1 until leave(), and 1 for each call that uses `use`, which is let go of at 0. The core looks
    # at it, too: while it is 1, it may give the memory of what has ended back by itself.
    cdef uint32_t life
    cdef uint32_t away          # how many of these calls sleep without the GIL
    cdef uint32_t ended         # 1 after leave(): nobody begins a call any more
    cdef uint64_t ident
    cdef Attachment attachment  # None after that; only begin() to finish() may use it
    cdef str path               # of the arena; None: anonymous
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
        return _hooks.left(self.path, type(self).__name__, self._name)

    cdef inline int usable(self) except -1:
        # Raise unless it can be used: after leave(), Arena.close(), or a fork without the arena.
        if load(&self.ended) or only_object(self.link.box) is None or fst_unusable:
            return self.refuse()  # nearly never
        return 0

    cdef int refuse(self) except -1:
        if load(&self.ended) or only_object(self.link.box) is None:
            raise self.was_left()
        return self.sure(fst_arena_refused(self.link.get().ptr))

    cdef inline int begin(self) except -1:
        # To be called before each use of `use`, and followed by finish(): Python code that runs in
        # between, or another thread, may have called leave().
        if not call_begin(&self.life):
            raise self.was_left()
        return 0

    cdef inline void finish(self) noexcept:
        if call_end(&self.life):
            self.let_go()

    cdef inline int begin_to_sleep(self) except -1:
        # The same for a call that lets go of the GIL and may sleep; followed by wake().
        self.begin()
        call_away(&self.away)
        return 0

    cdef inline void wake(self) noexcept:
        call_back(&self.away)
        self.finish()

    cdef void let_go(self) noexcept:
        cdef fst_channel_use *use = self.use
        self.use = NULL
        fst_channel_leave(use)
        self.attachment = None

    cdef object error(self, int status):
        return _error_of(status, self.path, type(self).__name__, self._name)

    cdef int sure(self, int status) except -1:
        # Raise what the status means, unless it is FST_OK.
        if status != FST_OK:
            raise self.error(status)
        return 0

    cdef int begin_with(self, Link link) except -1:
        self.link = link
        self.attachment = link.attachment
        self.path = self.attachment.path
        return 0

    def _open(self, Link link not None, bytes name, uint32_t capacity, uint32_t inline,
              uint32_t flags, uint64_t group, int create, object mismatch):
        """Open it, or make it; whether it was made. `create` is an `enum fst_create`, `mismatch`
        the exception for one that has other parameters.
        """
        cdef fst_channel_spec spec
        cdef fst_bool created = 0
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        self.begin_with(link)
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
        """Open what a pickled message names."""
        cdef fst_message value
        cdef uint64_t began = 0
        cdef int status
        self.begin_with(link)
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
        # What is said of it, once it is open.
        cdef fst_channel_info info
        self.ident = fst_channel_id(self.use)
        self.life = 1
        fst_channel_count(self.use, &self.life, &self.away, 1)
        _check(fst_channel_get_info(self.attachment.ptr, self.ident, &info))
        self._inline = info.inline_bytes
        self._capacity = info.capacity
        self._flags = info.flags
        self._group_id = info.group
        self.link.opens(self)
        return 0

    def _share(self):
        """The message for a pickle, as bytes; its reference is in flight from now on."""
        cdef fst_message message
        cdef int status
        cdef Attachment attachment
        self.usable()
        self.begin()
        attachment = self.attachment
        status = fst_channel_share(self.use, &message)
        self.finish()
        if status == FST_FULL:
            return _hooks.once_more(attachment, _error(status), self._share)
        self.sure(status)
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    def _info(self):
        """The core's facts about it, a dict (`_structs._ChannelFacts`)."""
        cdef fst_channel_info info
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_get_info(self.attachment.ptr, self.ident, &info)
        self.finish()
        self.sure(status)
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
        others do with it raises `Closed`. Again is fine.

        Raises:
            Closed: it was left here.
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
            fst_channel_count(self.use, &self.life, &self.away, 0)
            self.finish()
