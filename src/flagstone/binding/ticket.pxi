# A pickle that fails takes its messages back: binding/ticket.h says how.

Ticket = <object>ticket_type()


def reduce_ticket(ticket):
    """What a pickler makes of a Ticket: nothing, by a call of `flagstone.block._load` without
    arguments. It has that function in its memo already, so that this costs it the least.
    """
    ticket_pickled(ticket)
    return _load, ()
