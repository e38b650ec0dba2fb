# Topics: messages for all who subscribe.

def subscribers(Attachment attachment not None, uint64_t topic):
    """The core's facts about each subscription to a topic, dicts (`_structs._SubscriberFacts`).
    """
    cdef fst_subscriber_info found[FST_SUBSCRIBERS]
    cdef size_t count = min(fst_topic_list(attachment.ptr, topic, found, FST_SUBSCRIBERS),
                            <size_t>FST_SUBSCRIBERS), i
    return [found[i] for i in range(count)]


cdef object _at_once = 0  # the default of publish(), which is the same object


cdef class TopicBase(LetterBase):
    """What `flagstone.Topic` is made of."""

    cdef int attempt(self, object item, bytes payload, uint32_t kind,
                     uint32_t *reached) except? -100:
        # Publish what prepare() has made of an item: a Block, or bytes alone.
        cdef fst_letter letter
        cdef Block block
        cdef int status
        letter.bytes = PyBytes_AS_STRING(payload)
        letter.nbytes = <uint32_t>len(payload)
        letter.kind = kind
        letter.ref = NULL
        letter.keep = True
        self.begin()
        try:
            if item is not None:
                block = <Block>item
                letter.ref = &block.ref
                block.use()
                block.export()
            status = fst_topic_publish(self.use, &letter, reached)
            if item is not None:
                block.leave()
        finally:
            self.finish()
        return status

    cdef inline int attempt_bytes(self, bytes item, uint32_t *reached) except? -100:
        # The same of a message that is these bytes.
        cdef fst_letter letter
        cdef int status
        letter.bytes = PyBytes_AS_STRING(item)
        letter.nbytes = <uint32_t>len(item)
        letter.kind = _KIND_BYTES
        letter.ref = NULL
        letter.keep = True
        self.begin()
        status = fst_topic_publish(self.use, &letter, reached)
        self.finish()
        return status

    def publish(self, item, *, wait=0):
        """Publish a message for all who subscribe now.

        Args:
            item: a `Block`, which stays usable here; `bytes`; or anything that can be pickled, with
                one Block in it if the rest fits into `inline`. Large arrays in it are copied once,
                and who reads it looks at them where they lie, and cannot write them.
            wait: seconds to wait for subscriptions that block; None is for ever.

        Returns:
            How many subscriptions will find it.

        Raises:
            ChannelFull: a subscription that blocks has not read what lies in the way; says whose.
            ChannelClosed: the topic was closed.
            Closed: it was destroyed, or left here.
            ArenaFull, GroupLimitExceeded: no memory for a message that is larger than `inline`.
            TypeError: the item has several Blocks, one of another arena, one beside more than
                `inline` bytes, or a group, channel or topic: only one reader could have those.
            ValueError, TypeError: a time to wait that makes no sense.
            Exception: whatever pickling the item raises.
        """
        cdef uint32_t reached = 0
        cdef uint64_t until, now
        cdef double seconds = 0 if wait is _at_once else _seconds(True, None, wait)
        cdef int status
        cdef tuple letter
        self.usable()
        if type(item) is bytes and len(<bytes>item) <= self._inline:
            status = self.attempt_bytes(<bytes>item, &reached)
            if status == FST_OK:
                return reached
        letter = self.prepare(item, True)
        try:
            status = self.attempt(letter[0], letter[1], letter[2], &reached)
            if status == FST_WAIT:
                until = _until(seconds)
                now = fst_now()
                while status == FST_WAIT and now < until:
                    self.begin_to_sleep()
                    with nogil:
                        fst_topic_wait(self.use, NULL, until - now)
                    self.wake()
                    PyErr_CheckSignals()
                    self.usable()
                    status = self.attempt(letter[0], letter[1], letter[2], &reached)
                    now = fst_now()
            if status == FST_WAIT:
                raise ChannelFull(self._held())
            self.sure(status)
        except BaseException:
            self.give_up(letter)
            raise
        return reached

    def _try(self, tuple letter not None):
        """Publish a letter: how many subscriptions will find it; None: one is in the way."""
        cdef uint32_t reached = 0
        cdef int status
        self.usable()
        status = self.attempt(letter[0], letter[1], letter[2], &reached)
        if status == FST_WAIT:
            return None
        self.sure(status)
        self.sent(letter)
        return reached

    def latest(self):
        """The newest message, which stays where it is: for whoever wants to know how things are.

        Raises:
            ChannelEmpty: none was published yet.
            Closed: the topic was destroyed, or left here.
        """
        cdef fst_received r
        cdef char data[_INLINE_MOST]
        cdef int status
        cdef Attachment attachment = None
        self.usable()
        self.begin()
        status = fst_topic_latest(self.use, data, &r)
        if status == FST_OK and r.has_ref:
            attachment = self.attachment
        self.finish()
        if status == FST_WAIT:
            raise ChannelEmpty(f"{self._called()} has no message yet")
        self.sure(status)
        return self.arrived(attachment, data, &r)

    def close(self):
        """Let the topic take no more messages: publish() raises `ChannelClosed` from now on, in
        every process. Subscriptions read what is there, and then raise it, too. Again is fine.

        Raises:
            Closed: the topic was destroyed, or left here.
        """
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_close(self.use)
        self.finish()
        self.sure(status)


# no_gc_clear: its end needs the topic, which the collector must not have cleared before.
@cython.no_gc_clear
cdef class SubscriptionBase:
    """What `flagstone.Subscription` is made of."""

    cdef readonly TopicBase topic
    cdef fst_subscription sub
    cdef uint32_t begun         # 1: it is in the topic, and counts as a call of the topic's `use`
    cdef uint32_t ended         # 1: it was closed
    cdef bint signals           # it has a descriptor for select(), to be cleared when it is empty

    def __init__(self):
        raise TypeError("a Subscription is made by Topic.subscribe()")

    def __dealloc__(self):
        self.end()

    cdef void end(self) noexcept:
        if swap(&self.begun, 0):
            fst_topic_unsubscribe(self.topic.use, &self.sub)
            self.topic.finish()

    cdef int enter(self) except -1:
        # To be called before each use of the topic's `use`, and followed by topic.finish().
        self.usable()
        return self.topic.begin()

    cdef int enter_to_sleep(self) except -1:
        # The same, followed by topic.wake().
        self.usable()
        return self.topic.begin_to_sleep()

    cdef int usable(self) except -1:
        if load(&self.ended):
            raise _hooks.left(self.topic.path, "Topic", self.topic._name, True)
        return self.topic.usable()

    def _begin(self, TopicBase topic not None, int slow, uint32_t history):
        cdef int status
        topic.usable()
        topic.begin()
        self.topic = topic
        status = fst_topic_subscribe(topic.use, <fst_slow>slow, history, &self.sub)
        if status != FST_OK:
            topic.finish()
            raise topic.error(status)
        swap(&self.begun, 1)

    cdef object received(self, int *status):
        # The item of the next message, with the status FST_OK; if there is none, None and why.
        cdef char data[_INLINE_MOST]
        cdef fst_received r
        cdef Attachment attachment = None
        self.enter()
        status[0] = fst_topic_get(self.topic.use, &self.sub, data, &r)
        if status[0] == FST_OK and r.has_ref:
            attachment = self.topic.attachment
        self.topic.finish()
        if status[0] == FST_OK:
            if r.kind == _KIND_BYTES:
                return PyBytes_FromStringAndSize(data, r.nbytes)
            return self.topic.arrived(attachment, data, &r)
        if self.signals:
            self._rearm()
        return None

    def get(self, *, wait=None):
        """The next message of this subscription. Of several threads each gets another one.

        Args:
            wait: seconds to wait for one; None is for ever, as is `math.inf`; 0 only looks.

        Raises:
            ChannelEmpty: there was none in time.
            ChannelClosed: the topic was closed, and everything was read.
            Disconnected: it fell behind, with `slow="disconnect"`.
            Closed: the topic was destroyed; the subscription was closed, or it is the parent's,
                after a fork.
            ValueError, TypeError: a time to wait that makes no sense.
            Exception: whatever unpickling the message raises; the next call gets the next one.
        """
        cdef uint64_t until, now
        cdef int status
        cdef double seconds = _seconds(True, None, wait)
        item = self.received(&status)
        if status == FST_WAIT:
            until = _until(seconds)
            now = fst_now()
            while status == FST_WAIT and now < until:
                self.enter_to_sleep()
                with nogil:
                    fst_topic_wait(self.topic.use, &self.sub, until - now)
                self.topic.wake()
                PyErr_CheckSignals()
                item = self.received(&status)
                now = fst_now()
        if status == FST_OK:
            return item
        if status == FST_WAIT:
            raise ChannelEmpty(f"{self.topic._called()} has no new message")
        raise self.topic.error(status)

    def latest(self):
        """`topic.latest()`, with its errors: nothing of this subscription changes."""
        self.usable()
        return self.topic.latest()

    @property
    def lost(self):
        """How many messages it was too slow for, so far.

        Raises:
            Closed: the topic was destroyed, or the subscription closed.
        """
        cdef uint64_t lost
        self.enter()
        lost = fst_topic_lost(self.topic.use, &self.sub)
        self.topic.finish()
        if lost == <uint64_t>-1:
            raise self.topic.error(FST_CLOSED)
        return lost

    def _signal(self):
        self.usable()
        self.signals = True

    def close(self):
        """End the subscription: nobody is held back by it any more. Again is fine. Going out of
        scope does the same.
        """
        swap(&self.ended, 1)
        self.end()
