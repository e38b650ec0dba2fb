# Pickles that fail take their messages back: see ticket.h.

Ticket = <object>ticket_type()


def reduce_ticket(ticket):
    # The pickler knows this function already, so that nothing is as dear as to look for another.
    ticket_pickled(ticket)
    return _load, ()
