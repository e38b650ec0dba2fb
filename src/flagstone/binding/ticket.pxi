# Pickles that fail take their messages back.

@cython.final
@cython.no_gc
cdef class Ticket:
    """Goes into the pickle beside a message, as nothing, and takes the message back if that pickle fails.

    A pickler keeps what it has pickled until it ends; C's does so with the exception set, if it
    fails. Then nobody has the pickle.
    """

    cdef PyObject *attachment
    cdef fst_message message

    def __init__(self):
        raise TypeError("a Ticket is made by Attachment.ticket()")

    # Its end is _end_ticket(), for the reason that Blocks have, and because a __dealloc__ would see no exception.


def reduce_ticket(Ticket ticket not None):
    # The pickler knows this function already, so that nothing is as dear as to look for another.
    return _load, ()


cdef destructor _ticket_rest = (<PyTypeObject *>Ticket).tp_dealloc


cdef void _end_ticket(PyObject *self) noexcept:
    cdef PyObject *attachment = (<Ticket>self).attachment
    if attachment != NULL and PyErr_Occurred() != NULL:
        _take_back((<Attachment>attachment).ptr, &(<Ticket>self).message)
    _ticket_rest(self)
    Py_XDECREF(attachment)


cdef void _take_back(fst_arena *arena, fst_message *message) noexcept:
    cdef fst_ref ref
    cdef uint64_t group
    if fst_take(arena, message, &ref) == FST_OK:
        fst_drop(arena, &ref)
    elif fst_group_take(arena, message, &group) == FST_OK:
        fst_group_unref(arena, group)


(<PyTypeObject *>Ticket).tp_dealloc = _end_ticket
