# A pickle that fails takes its messages back: binding/ticket.h says how.

Ticket = <object>ticket_type()


def reduce_ticket(ticket):
    """What a pickler makes of a Ticket: nothing, by a call of `flagstone.block._load` without
    arguments. It has that function in its memo already, so that this costs it the least.
    """
    ticket_pickled(ticket)
    return _load, ()


def refuse_ticket(ticket not None):
    """Take back the message of a Ticket that a pickler has come to, and that raises now."""
    if type(ticket) is not Ticket:
        raise TypeError("this is no Ticket")
    ticket_refuse(ticket)


def fail_pickler(pickler):
    """Clear a pickler that is used again, after a pickle failed in the caller."""
    ticket_failing(True)
    try:
        pickler.clear_memo()
    finally:
        ticket_failing(False)
