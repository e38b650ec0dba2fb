# Topics.

cdef class TopicBase(LetterBase):
    """What `flagstone.Topic` is made of."""

    cdef int attempt(self, object item, bytes payload, uint32_t kind,
                     uint32_t *reached) except? -100:
        cdef fst_letter letter
        cdef Block block
        cdef int status
        letter.bytes = PyBytes_AS_STRING(payload)
        letter.nbytes = <uint32_t>len(payload)
        letter.kind = kind
        letter.ref = NULL
        letter.keep = True
        if item is None:
            return fst_topic_publish(self.use, &letter, reached)
        block = <Block>item
        letter.ref = &block.ref
        block.use()
        block.export()
        status = fst_topic_publish(self.use, &letter, reached)
        block.leave()
        return status

    def publish(self, item, *, wait=0):
        """Put a message before all who subscribe now.

        Args:
            item: a `Block`, which stays usable here; `bytes`; or anything that can be pickled.
            wait: seconds to wait for subscriptions that block; None is for ever.

        Returns:
            How many subscriptions there are for it.

        Raises:
            ChannelFull: a subscription that blocks has not read what lies in the way; says whose.
            ChannelClosed: the topic was closed.
            Closed: it was destroyed, or left here.
            ArenaFull, GroupLimitExceeded: no memory for a message that is larger than `inline`.
        """
        cdef uint32_t reached = 0
        cdef uint64_t until, now
        cdef int status
        cdef tuple letter
        self.usable()
        if type(item) is bytes and len(<bytes>item) <= self._inline:
            status = self.attempt(None, <bytes>item, _KIND_BYTES, &reached)
            if status == FST_OK:
                return reached
            letter = (None, item, _KIND_BYTES, False)
        else:
            letter = self.prepare(item, True)
            status = self.attempt(letter[0], letter[1], letter[2], &reached)
        if status == FST_WAIT:
            until = _until(True, None, wait)
            now = fst_now()
            while status == FST_WAIT and now < until:
                with nogil:
                    fst_topic_wait(self.use, NULL, until - now)
                PyErr_CheckSignals()
                self.usable()
                status = self.attempt(letter[0], letter[1], letter[2], &reached)
                now = fst_now()
        if status == FST_WAIT:
            raise ChannelFull(self._held())
        self.sure(status)
        return reached

    def latest(self):
        """The newest message, which stays where it is: for who wants to know how things are.

        Raises:
            ChannelEmpty: none was published yet.
            Closed: the topic was destroyed, or left here.
        """
        cdef fst_received r
        cdef char data[_INLINE_MOST]
        cdef int status
        self.usable()
        status = fst_topic_latest(self.use, data, &r)
        if status == FST_WAIT:
            raise ChannelEmpty(f"{self._called()} has no message yet")
        self.sure(status)
        return self.item(data, &r)

    cdef object item(self, char *data, fst_received *r):
        cdef Block block
        if r.has_ref:
            block = _begin_block()
            block.of(self.attachment)
            block.ref = r.ref
            block.life = 1
            return self.unpack(block, r.kind)
        item = PyBytes_FromStringAndSize(data, r.nbytes)
        return self._unpickle(item) if r.kind == _KIND_PICKLE else item

    def close(self):
        """Take no more messages: publish() raises `ChannelClosed` from now on, for everyone;
        subscriptions read what is there, and then raise it, too. Again is fine.
        """
        self.usable()
        self.sure(fst_channel_close(self.use))


# The collector may not take the topic away from under it.
@cython.no_gc_clear
cdef class SubscriptionBase:
    """What `flagstone.Subscription` is made of."""

    cdef readonly TopicBase topic
    cdef fst_subscription sub
    cdef bint begun, ended, signals

    def __init__(self):
        raise TypeError("a Subscription is made by Topic.subscribe()")

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        if self.begun:
            fst_topic_unsubscribe(self.topic.use, &self.sub)
        self.begun = False

    cdef int usable(self) except -1:
        if self.ended:
            raise _hooks.left(self.topic.attachment, "Topic", self.topic._name, True)
        return self.topic.usable()

    def _begin(self, TopicBase topic not None, int slow, uint32_t history):
        topic.usable()
        self.topic = topic
        topic.sure(fst_topic_subscribe(topic.use, <fst_slow>slow, history, &self.sub))
        self.begun = True

    cdef object received(self, int *status):
        cdef char data[_INLINE_MOST]
        cdef fst_received r
        status[0] = fst_topic_get(self.topic.use, &self.sub, data, &r)
        if status[0] == FST_OK:
            return self.topic.item(data, &r)
        if self.signals:
            self._rearm()
        return None

    def get(self, *, wait=None):
        """The next message that this subscription has not got; each thread gets another one.

        Args:
            wait: seconds to wait for one; None is for ever; 0 only looks.

        Raises:
            ChannelEmpty: there was none in time.
            ChannelClosed: the topic was closed, and everything was read.
            Disconnected: it fell behind, with `slow="disconnect"`.
            Closed: the topic was destroyed; the subscription was closed, or is a parent's.
        """
        cdef uint64_t until, now
        cdef int status
        self.usable()
        item = self.received(&status)
        if status == FST_WAIT:
            until = _until(True, None, wait)
            now = fst_now()
            while status == FST_WAIT and now < until:
                with nogil:
                    fst_topic_wait(self.topic.use, &self.sub, until - now)
                PyErr_CheckSignals()
                self.usable()
                item = self.received(&status)
                now = fst_now()
        if status == FST_OK:
            return item
        if status == FST_WAIT:
            raise ChannelEmpty(f"{self.topic._called()} has no new message")
        raise self.topic.error(status)

    def latest(self):
        """`topic.latest()`: nothing of this subscription changes."""
        self.usable()
        return self.topic.latest()

    @property
    def lost(self):
        """How many messages it was too slow for, so far."""
        self.usable()
        return fst_topic_lost(self.topic.use, &self.sub)

    def _sleep(self, bint taker, uint64_t nanoseconds):
        cdef bint ready
        self.usable()
        with nogil:
            ready = fst_topic_wait(self.topic.use, &self.sub, nanoseconds)
        return ready

    def _signal(self):
        self.signals = True

    def close(self):
        """End the subscription: nobody is held back by it any more. Again is fine. Going out of
        scope does the same.
        """
        self.ended = True
        self.end()
