# A pickle that fails takes its messages back: binding/ticket.h says how.

Ticket = <object>ticket_type()


def reduce_ticket(ticket):
    """What a pickler makes of a Ticket: nothing, by a call of `flagstone.block._load` without
    arguments. It has that function in its memo already, so that this costs it the least.
    """
    ticket_pickled(ticket)
    return _load, ()


cpdef int take_back(list tickets) except -1:
    """Take back the messages of these Tickets, once: nobody has their pickle. None: of nothing."""
    while tickets:
        ticket = tickets.pop()
        if type(ticket) is not Ticket:
            raise TypeError("this is no Ticket")
        ticket_refuse(ticket)
    return 0


@cython.final
cdef class Beside:
    """What a pickler asks of each buffer: whether it goes into the pickle. Those of at least so
    many bytes do not: they go into `buffers`.
    """

    cdef Py_ssize_t least
    cdef readonly list buffers

    def __call__(self, buffer):
        try:
            raw = buffer.raw()
        except BufferError:  # its bytes lie apart
            return True
        if raw.nbytes < self.least:
            return True
        if self.buffers is None:
            self.buffers = []
        self.buffers.append(raw)
        return False


class SeveralBlocks(Exception):
    """An item has more Blocks than a message can carry, or others."""


@cython.final
cdef class Carrier:
    """What the pickle of a message's item does with Blocks: the first one is the message's own, if
    it is of this arena.
    """

    cdef Attachment attachment
    cdef Block block

    cdef tuple reduce(self, Block block):
        if block._attachment != <PyObject *>self.attachment:
            raise SeveralBlocks("a Block of another arena")
        if self.block is None:
            self.block = block
        elif block is not self.block and block.handle != self.block.handle:
            raise SeveralBlocks("several Blocks")
        return _carried, ()


cpdef tuple pickled(value, Py_ssize_t least, Carrier carrier=None):
    """Pickle a value by protocol 5, in the name of the caller's frame.

    Args:
        value: any object.
        least: bytes below which a buffer goes into the pickle.
        carrier: what its Blocks go to; None: they are in flight.

    Returns:
        The pickle; a list of the buffers of at least `least` bytes, or None; a list of the Tickets
        of what went into the pickle and is in flight, or None. If it raises (`SeveralBlocks`, too),
        all of that was taken back.
    """
    cdef Beside beside = Beside.__new__(Beside)
    cdef list tickets = []
    cdef PyObject *arguments[3]
    cdef fst_tickets before = tickets_gather(<PyObject *>tickets, <PyObject *>carrier
                                             if carrier is not None else NULL)
    beside.least = least
    arguments[0], arguments[1] = <PyObject *>value, <PyObject *>_protocol
    arguments[2] = <PyObject *>beside
    try:
        body = PyObject_Vectorcall(_dumps, arguments, 2, _beside_named)
    except BaseException:
        tickets_gathered(before)
        take_back(tickets)
        raise
    tickets_gathered(before)
    return body, beside.buffers, tickets or None


cpdef list dumped_by(dump, value):
    """Call this bound method of a pickler with a value, in the name of the caller's frame.

    Returns:
        The Tickets of what went into the pickle and is in flight, or None. If it raises, all of
        that was taken back.
    """
    cdef list tickets = []
    cdef fst_tickets before = tickets_gather(<PyObject *>tickets, NULL)
    try:
        dump(value)
    except BaseException:
        tickets_gathered(before)
        take_back(tickets)
        raise
    tickets_gathered(before)
    return tickets or None


cdef object _dumps = pickle.dumps
cdef object _protocol = 5
cdef tuple _beside_named = ("buffer_callback",)
