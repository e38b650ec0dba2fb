# Channels: bounded queues of messages, each for one taker.

cdef class ChannelBase(LetterBase):
    """What `flagstone.Channel` is made of: the part that a loop calls."""

    cdef bint signals           # it has a descriptor for select(), to be cleared when it is empty
    cdef bint fails             # `failed` may have something
    cdef list failed            # what unpickling raised in get_many(), for the next call to raise

    def __cinit__(self):
        self.failed = []

    # ---- putting: `except? -100` because no status of the core is -100

    cdef int put_bytes(self, bytes data, uint32_t kind) except? -100:
        cdef fst_letter letter
        cdef int status
        letter.bytes = PyBytes_AS_STRING(data)
        letter.nbytes = <uint32_t>len(data)
        letter.kind = kind
        letter.ref = NULL
        letter.keep = False
        self.begin()
        status = fst_channel_put(self.use, &letter)
        self.finish()
        return status

    cdef int put_block(self, Block block, bytes payload, uint32_t kind, bint keep) except? -100:
        # The Block's reference moves into the channel, if nothing else of this process looks at the
        # bytes. Otherwise the channel gets one of its own.
        cdef fst_letter letter
        cdef int status
        cdef bint moves
        letter.bytes = PyBytes_AS_STRING(payload)
        letter.nbytes = <uint32_t>len(payload)
        letter.kind = kind
        letter.ref = &block.ref
        self.begin()
        try:
            block.use()
            moves = not keep and only(&block.life)  # then nobody begins to use it from here on
            if not moves:
                block.export()
        except BaseException:
            self.finish()
            raise
        letter.keep = not moves
        status = fst_channel_put(self.use, &letter)
        self.finish()
        if moves:
            if status != FST_OK and status != FST_STALE:
                swap(&block.life, 1)  # it has not moved
        else:
            block.leave()
        if (status == FST_OK and not keep) or (moves and status == FST_STALE):
            if not swap(&block.freed, 1) and not moves:
                block.leave()
        return status

    cdef inline bint put_small(self, object item) except? -1:
        # Put bytes that lie in the channel's own memory, if there is room. If False, put_item()
        # waits, or says what is the matter.
        return (type(item) is bytes and len(<bytes>item) <= self._inline
                and self.put_bytes(<bytes>item, _KIND_BYTES) == FST_OK)

    cdef int attempt(self, object item, bytes payload, uint32_t kind, bint keep) except? -100:
        # Put what prepare() has made of an item: a Block, or bytes alone.
        if payload is not None and item is None:
            return self.put_bytes(payload, kind)
        return self.put_block(<Block>item, payload, kind, keep)

    def put(self, item, bint block=True, timeout=None, *, wait=None, bint keep=False):
        """Put a message into the channel, for one taker.

        Args:
            item: a `Block`, which is moved: it raises `Closed` here from now on, unless `keep`;
                `bytes`; or anything that can be pickled. A Block in it is the message's own, and
                stays usable here; what has several of them, or one with more than `inline` bytes
                beside it, has them in flight. Large arrays in it are copied once, and the taker
                looks at them where they lie (with `ack=True` at a copy).
            block: False does not wait for room, as in `queue.Queue.put`.
            timeout: the same as `wait`, as in `queue.Queue.put`.
            wait: seconds to wait for room; None is for ever, as is `math.inf`.
            keep: whether the Block stays usable here.

        Raises:
            ChannelFull: there was no room in time.
            ChannelClosed: the channel was closed.
            Closed: it was destroyed, or left here; or the Block was freed.
            ArenaFull, GroupLimitExceeded: no memory for a message that is larger than `inline`.
            ValueError, TypeError: a time to wait that makes no sense, or two of them.
            TypeError: with `ack=True`, an item that would have something in flight, which could not
                be taken again.
            Exception: whatever pickling the item raises.
        """
        self.put_item(item, block, timeout, wait, keep)

    cdef int put_item(self, object item, bint block, object timeout, object wait,
                      bint keep) except -1:
        cdef double seconds = _seconds(block, timeout, wait)
        self.usable()
        if self.put_small(item):
            return 0
        self.put_letter(self.prepare(item, keep), _until(seconds), 0)
        return 0

    cdef bint put_letter(self, tuple letter, uint64_t until, Py_ssize_t before) except -1:
        # Put what prepare() has made, or give it up. False: there was no room in time; without
        # others put before, that is an error.
        cdef int status
        try:
            status = self.attempt(letter[0], letter[1], letter[2], letter[3])
            while status == FST_WAIT and self.sleep(False, until):
                status = self.attempt(letter[0], letter[1], letter[2], letter[3])
            if status != FST_OK and not (status == FST_WAIT and before):
                raise self.refused(status, False)
        except BaseException:
            self.give_up(letter)
            raise
        if status == FST_OK:
            self.sent(letter)
            return True
        self.give_up(letter)
        return False

    def put_nowait(self, item):
        """`put(item, block=False)`: raises `ChannelFull` instead of waiting."""
        self.usable()
        if not self.put_small(item):
            self.put_item(item, False, None, None, False)

    def _try_small(self, item):
        """Put bytes that lie in the channel's own memory, if there is room; whether it did."""
        self.usable()
        return bool(self.put_small(item))

    def _try(self, tuple letter not None):
        """Put a letter; whether there was room."""
        cdef int status
        self.usable()
        status = self.attempt(letter[0], letter[1], letter[2], letter[3])
        if status == FST_WAIT:
            return False
        if status != FST_OK:
            raise self.refused(status, False)
        self.sent(letter)
        return True

    def put_many(self, items, *, wait=None):
        """Put each of these, in order.

        Args:
            items: as `put` takes them; Blocks are moved.
            wait: seconds to wait for room, for all of them together; None is for ever.

        Returns:
            How many were put, which is all unless the time was over after the first.

        Raises:
            ChannelFull: there was no room for the first in time.
            Others: as `put`; those before the one that failed were put.
        """
        cdef uint64_t until = _until(_seconds(True, None, wait))
        cdef Py_ssize_t count = 0
        self.usable()
        for item in items:
            if not (self.put_small(item)
                    or self.put_letter(self.prepare(item, False), until, count)):
                return count
            count += 1
        return count

    # ---- getting

    cdef object received(self, int *status):
        # The item of the next message, with the status FST_OK; if there is none, None and why.
        cdef char data[_INLINE_MOST]
        cdef fst_received r
        cdef object item
        self.begin()
        status[0] = fst_channel_get(self.use, data, &r)
        if status[0] == FST_OK and r.has_ref:
            return self.received_block(self.attachment, data, &r)
        self.finish()
        if status[0] != FST_OK:
            if self.signals:
                self._rearm()
            return None
        if r.kind == _KIND_BYTES:
            item = PyBytes_FromStringAndSize(data, r.nbytes)
        else:
            item = self.arrived(None, data, &r)
        if self._flags & FST_CHANNEL_ACK:
            return Delivery.make(self, item, &r)
        return item

    cdef object received_block(self, Attachment attachment, char *data, fst_received *r):
        # The same of a message with a Block, whose attachment finish() may let go of.
        self.finish()
        item = self.arrived(attachment, data, r)
        return Delivery.make(self, item, r) if self._flags & FST_CHANNEL_ACK else item

    cdef int fail(self) except -1:
        # Raise what a get_many() came to behind the messages that it returned.
        self.fails = False
        try:
            error = self.failed.pop(0)
        except IndexError:  # another thread was faster
            return 0
        if self.failed:
            self.fails = True
        raise error

    def get(self, bint block=True, timeout=None, *, wait=None):
        """Take the message that has waited longest.

        Args:
            block: False does not wait for one, as in `queue.Queue.get`.
            timeout: the same as `wait`, as in `queue.Queue.get`.
            wait: seconds to wait for one; None is for ever, as is `math.inf`.

        Returns:
            What was put. With `ack=True`, a `Delivery` of it.

        Raises:
            ChannelEmpty: there was none in time.
            ChannelClosed: the channel was closed, and everything was taken.
            Closed: it was destroyed, or left here.
            ValueError, TypeError: a time to wait that makes no sense, or two of them.
            Exception: whatever unpickling the message raises. It was taken all the same, and with
                `ack=True` this process owns it until it ends.
        """
        return self.get_item(block, timeout, wait)

    cdef object get_item(self, bint block, object timeout, object wait):
        cdef int status
        cdef uint64_t until
        cdef double seconds = _seconds(block, timeout, wait)
        self.usable()
        if self.fails:
            self.fail()
        item = self.received(&status)
        if status == FST_OK:
            return item
        until = _until(seconds) if status == FST_WAIT else 0
        while status == FST_WAIT and self.sleep(True, until):
            item = self.received(&status)
            if status == FST_OK:
                return item
        raise self.refused(status, True)

    def get_nowait(self):
        """`get(block=False)`: raises `ChannelEmpty` instead of waiting."""
        cdef int status
        self.usable()
        if self.fails:
            self.fail()
        item = self.received(&status)
        if status != FST_OK:
            raise self.refused(status, True)
        return item

    def get_many(self, Py_ssize_t n, *, wait=None):
        """Take up to n messages: wait for the first as `get` does, then take what is there.

        Args:
            n: how many at most, 1 or more.
            wait: seconds to wait for the first; None is for ever.

        Returns:
            A list of what `get` would have returned, one at least.

        Raises:
            ValueError, TypeError: n is less than 1, or a time to wait that makes no sense.
            ChannelEmpty, ChannelClosed, Closed: as `get`.
            Exception: whatever unpickling the first raises. Where that is a later one, those before
                it are returned, and the next call that takes a message raises it.
        """
        cdef int status = FST_OK
        cdef list items = []
        if n < 1:
            raise ValueError(f"get_many() takes at least one message, not {n}")
        _seconds(True, None, wait)
        self.usable()
        if self.fails:
            self.fail()
        item = self.received(&status)
        items.append(item if status == FST_OK else self.get_item(True, None, wait))
        try:
            while len(items) < n:
                item = self.received(&status)
                if status != FST_OK:
                    break
                items.append(item)
        except Exception as error:
            self.failed.append(error)
            self.fails = True
        return items

    # ---- the rest

    cdef int sleep(self, bint taker, uint64_t until) except -1:
        # Wait for a message, or for room; False if the time is over. The core waits for 10 ms at
        # most, so that signals are heard.
        cdef uint64_t now = fst_now()
        if now >= until:
            return False
        self.begin_to_sleep()
        with nogil:
            fst_channel_wait(self.use, taker, until - now)
        self.wake()
        PyErr_CheckSignals()
        self.usable()
        return True

    cdef object refused(self, int status, bint taker):
        # The exception of a put or get that came to nothing.
        if status == FST_WAIT:
            return (ChannelEmpty if taker else ChannelFull)(self._waits(taker))
        return self.error(status)

    def qsize(self):
        """How many messages wait, more or less: others put and take meanwhile."""
        cdef uint32_t length
        self.usable()
        self.begin()
        length = fst_channel_length(self.use)
        self.finish()
        return length

    def close(self):
        """Let the channel take no more messages: put() raises `ChannelClosed` from now on, in every
        process. What waits can be taken, and then get() raises it, too. Again is fine.

        Raises:
            Closed: the channel was destroyed, or left here.
        """
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_close(self.use)
        self.finish()
        self.sure(status)

    def _signal(self):
        self.usable()
        self.signals = True

    cdef int done(self, fst_received *taken) except -1:
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_done(self.use, taken)
        self.finish()
        if status == FST_STALE:
            status = FST_CLOSED
        self.sure(status)
        return 0


cdef object _put_plain(ChannelBase channel, PyObject *item):
    channel.put_item(<object>item, True, None, None, False)


cdef object _get_plain(ChannelBase channel, PyObject *nothing):
    return channel.get_item(True, None, None)


quick_channel(<PyTypeObject *>ChannelBase, <object (*)(object, PyObject *)>_put_plain,
              <object (*)(object, PyObject *)>_get_plain)


@cython.final
cdef class Delivery:
    """A message of a channel with `ack=True`, which this process owns until `done()`. If the
    process ends before, somebody else gets it. Made by `get()` of the channel.

    Attributes:
        value: what was put.

    As a context manager it gives `value`, and is done when the block is left without an exception;
    with one it stays owned, and can be done later. What was not done when the channel is left here
    stays owned until the process has left the arena. Safe to use from any thread.
    """

    cdef ChannelBase channel
    cdef fst_received taken
    cdef readonly object value

    def __init__(self):
        raise TypeError("a Delivery is what get() of a Channel with ack=True gives")

    @staticmethod
    cdef Delivery make(ChannelBase channel, object value, fst_received *taken):
        cdef Delivery self = Delivery.__new__(Delivery)
        self.channel = channel
        self.taken = taken[0]
        self.value = value
        return self

    def done(self):
        """Acknowledge it: nobody gets it again.

        Raises:
            Closed: it was done before, or another process owns it (after a fork, the parent); or
                the channel was destroyed, or left here.
        """
        self.channel.done(&self.taken)

    def __enter__(self):
        return self.value

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.done()

    def __reduce__(self):
        raise TypeError("a Delivery is one process's: send its value, or take the message where it"
                        " is to be done")

    def __repr__(self):
        return f"<Delivery of {self.value!r}>"


cdef inline double _seconds(bint block, object timeout, object wait) except? -2:
    # How long to wait, if that makes sense; -1: for ever.
    if timeout is None and wait is None:
        return -1 if block else 0
    return _given_seconds(block, timeout, wait)


cdef double _given_seconds(bint block, object timeout, object wait) except? -2:
    cdef double seconds
    if not block:
        return 0
    if timeout is None:
        timeout = wait
    elif wait is not None:
        raise ValueError("timeout= and wait= mean the same: give one of them")
    if type(timeout) is bool:
        # threading's acquire(True) and queue's get(True) mean for ever, which 1 s is not.
        raise TypeError(f"wait must be a number of seconds, not {timeout}: leave it away to wait"
                        " for ever, or give 0 to only look")
    seconds = timeout if type(timeout) is float else _hooks.parse_seconds(timeout, "wait")
    if not seconds >= 0:
        raise ValueError(f"wait must be at least 0 seconds, not {timeout!r}")
    return seconds


cdef inline uint64_t _until(double seconds) noexcept:
    # When so many seconds are over, in nanoseconds since boot.
    return <uint64_t>-1 if seconds < 0 or seconds > 1e9 else fst_now() + <uint64_t>(seconds * 1e9)
