# Channels.

cdef class ChannelBase(LetterBase):
    """What `flagstone.Channel` is made of: the part that a loop calls."""

    cdef bint signals           # it has a descriptor for select(), to be cleared when it is empty

    # ---- putting

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
        # The Block's reference moves, if nothing else of this process looks at its bytes.
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
            moves = not keep and only(&block.life)  # nobody else begins to use it from here on
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
                swap(&block.life, 1)  # still ours
        else:
            block.leave()
        if (status == FST_OK and not keep) or (moves and status == FST_STALE):
            if not swap(&block.freed, 1) and not moves:
                block.leave()
        return status

    cdef inline bint put_small(self, object item) except? -1:
        # Put bytes that lie in line, if there is room. Else False, and put() says what is the
        # matter.
        return (type(item) is bytes and len(<bytes>item) <= self._inline
                and self.put_bytes(<bytes>item, _KIND_BYTES) == FST_OK)

    cdef int attempt(self, object item, bytes payload, uint32_t kind, bint keep) except? -100:
        if payload is not None and item is None:
            return self.put_bytes(payload, kind)
        return self.put_block(<Block>item, payload, kind, keep)

    def put(self, item, bint block=True, timeout=None, *, wait=None, bint keep=False):
        """Put a message into the channel, for one taker.

        Args:
            item: a `Block`, which is moved: it raises `Closed` here from now on, unless `keep`;
                `bytes`; or anything that can be pickled.
            block, timeout: as `queue.Queue.put` has them.
            wait: seconds to wait for room; None is for ever, as is `math.inf`.
            keep: the Block stays usable here.

        Raises:
            ChannelFull: there was no room in time.
            ChannelClosed: the channel was closed.
            Closed: it was destroyed, or left here.
            ArenaFull, GroupLimitExceeded: no memory for a message that is larger than `inline`.
        """
        self.put_item(item, block, timeout, wait, keep)

    cdef int put_item(self, object item, bint block, object timeout, object wait,
                      bint keep) except -1:
        cdef int status
        cdef uint64_t until
        cdef tuple letter
        self.usable()
        if type(item) is bytes and len(<bytes>item) <= self._inline:
            status = self.put_bytes(<bytes>item, _KIND_BYTES)
            if status == FST_OK:
                return 0
            letter = (None, item, _KIND_BYTES, False)
        else:
            letter = self.prepare(item, keep)
            status = self.attempt(letter[0], letter[1], letter[2], letter[3])
            if status == FST_OK:
                return 0
        if status == FST_WAIT:
            until = _until(block, timeout, wait)
            while status == FST_WAIT and self.sleep(False, until):
                status = self.attempt(letter[0], letter[1], letter[2], letter[3])
        if status != FST_OK:
            raise self.refused(status, False)
        return 0

    def put_nowait(self, item):
        """`put(item, block=False)`."""
        self.usable()
        if not self.put_small(item):
            self.put_item(item, False, None, None, False)

    def put_many(self, items, *, wait=None):
        """Put each of these, in order; waits for room as `put` does, for all of them together.

        Returns:
            How many were put: all, unless the time was over after the first.
        """
        cdef uint64_t until = _until(True, None, wait)
        cdef int status
        cdef tuple letter
        cdef Py_ssize_t count = 0
        self.usable()
        for item in items:
            if self.put_small(item):
                count += 1
                continue
            letter = self.prepare(item, False)
            status = self.attempt(letter[0], letter[1], letter[2], letter[3])
            while status == FST_WAIT and self.sleep(False, until):
                status = self.attempt(letter[0], letter[1], letter[2], letter[3])
            if status == FST_WAIT and count:
                return count
            if status != FST_OK:
                raise self.refused(status, False)
            count += 1
        return count

    # ---- getting

    cdef object received(self, int *status):
        # Take a message; if there is none, None and the status.
        cdef char data[_INLINE_MOST]
        cdef fst_received r
        cdef Block block
        cdef object item
        self.begin()
        status[0] = fst_channel_get(self.use, data, &r)
        self.finish()
        if status[0] != FST_OK:
            if self.signals:
                self._rearm()
            return None
        if r.has_ref:
            block = _begin_block()
            block.of(self.attachment)
            block.ref = r.ref
            block.life = 1
            item = self.unpack(block, r.kind)
        else:
            item = PyBytes_FromStringAndSize(data, r.nbytes)
            if r.kind == _KIND_PICKLE:
                item = self._unpickle(item)
        if self._flags & FST_CHANNEL_ACK:
            return Delivery.make(self, item, &r)
        return item

    def get(self, bint block=True, timeout=None, *, wait=None):
        """Take the message that has waited longest.

        Args:
            block, timeout: as `queue.Queue.get` has them.
            wait: seconds to wait for one; None is for ever, as is `math.inf`.

        Returns:
            What was put. With `ack=True`, a `Delivery` of it.

        Raises:
            ChannelEmpty: there was none in time.
            ChannelClosed: the channel was closed, and everything was taken.
            Closed: it was destroyed, or left here.
        """
        return self.get_item(block, timeout, wait)

    cdef object get_item(self, bint block, object timeout, object wait):
        cdef int status
        cdef uint64_t until
        self.usable()
        item = self.received(&status)
        if status == FST_OK:
            return item
        if status == FST_WAIT:
            until = _until(block, timeout, wait)
            while status == FST_WAIT and self.sleep(True, until):
                item = self.received(&status)
                if status == FST_OK:
                    return item
        raise self.refused(status, True)

    def get_nowait(self):
        """`get(block=False)`."""
        cdef int status
        self.usable()
        item = self.received(&status)
        if status != FST_OK:
            raise self.refused(status, True)
        return item

    def get_many(self, Py_ssize_t n, *, wait=None):
        """Up to n messages: waits for the first as `get` does, and takes what is there.

        Raises:
            ChannelEmpty, ChannelClosed, Closed: as `get`.
        """
        cdef int status = FST_OK
        cdef list items = []
        if n < 1:
            raise ValueError(f"get_many() takes at least one message, not {n}")
        self.usable()
        item = self.received(&status)
        items.append(item if status == FST_OK else self.get_item(True, None, wait))
        while len(items) < n:
            item = self.received(&status)
            if status != FST_OK:
                break
            items.append(item)
        return items

    # ---- the rest

    cdef int sleep(self, bint taker, uint64_t until) except -1:
        # False: the time is over. Signals are looked at at least every 10 ms.
        cdef uint64_t now = fst_now()
        if now >= until:
            return False
        self.begin()
        with nogil:
            fst_channel_wait(self.use, taker, until - now)
        self.finish()
        PyErr_CheckSignals()
        self.usable()
        return True

    def _sleep(self, bint taker, uint64_t nanoseconds):
        """Wait until the channel may have something to take, or room: then True."""
        cdef bint ready
        self.usable()
        self.begin()
        with nogil:
            ready = fst_channel_wait(self.use, taker, nanoseconds)
        self.finish()
        return ready

    cdef object refused(self, int status, bint taker):
        if status == FST_WAIT:
            return (ChannelEmpty if taker else ChannelFull)(self._waits(taker))
        return self.error(status)

    def qsize(self):
        """About how many messages wait; what others do meanwhile is not in it."""
        cdef uint32_t length
        self.usable()
        self.begin()
        length = fst_channel_length(self.use)
        self.finish()
        return length

    def close(self):
        """Take no more messages: put() raises `ChannelClosed` from now on, for everyone; what waits
        can be taken, and then get() raises it, too. Again is fine.
        """
        cdef int status
        self.usable()
        self.begin()
        status = fst_channel_close(self.use)
        self.finish()
        self.sure(status)

    def _signal(self):
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
    """A message of a channel with `ack=True`: it is owned by this process until `done()`. If the
    process dies before, somebody gets it again.

    Attributes:
        value: what was put.

    As a context manager it is done when the block is left without an exception; with one it stays
    owned, and can be done later.
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
        """Acknowledge it.

        Raises:
            Closed: it was done before, or another process owns it (after a fork, the parent).
        """
        self.channel.done(&self.taken)

    def __enter__(self):
        return self.value

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.done()

    def __repr__(self):
        return f"<Delivery of {self.value!r}>"


cdef uint64_t _until(bint block, object timeout, object wait) except? 0:
    # When to give up, in nanoseconds since boot.
    cdef double seconds
    if not block:
        return 1
    if timeout is None:
        timeout = wait
    elif wait is not None:
        raise ValueError("timeout= and wait= mean the same: give one of them")
    if timeout is None:
        return <uint64_t>-1
    seconds = timeout
    if not seconds >= 0:
        raise ValueError(f"seconds to wait must be a number of at least 0, not {timeout!r}")
    if seconds > 1e9:
        return <uint64_t>-1
    return fst_now() + <uint64_t>(seconds * 1e9)
