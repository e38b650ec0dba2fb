# Pickles that fail take their messages back.

cdef extern from *:
    """
    /* Where the program is: an instruction of a call of a function. Nothing is held: what is there later may be another at the
     * same address, so the code is compared, too. */
    struct fst_py_place {
        PyFrameObject *frame; /* NULL: nowhere */
        PyCodeObject *code;
        int at;
    };

    static inline struct fst_py_place fst_py_here(void)
    {
        struct fst_py_place here = {PyEval_GetFrame(), NULL, 0};
        if (here.frame != NULL) {
            here.code = PyFrame_GetCode(here.frame);
            Py_DECREF(here.code);
            here.at = PyFrame_GetLasti(here.frame);
        }
        return here;
    }

    /* Has the call that was under way at that place failed just now? Then there is an exception, the place is where we are, and
     * the exception has not come to it yet: its traceback begins below. */
    static int fst_py_failed(const struct fst_py_place *place)
    {
        struct fst_py_place here;
        PyObject *type, *value, *traceback;
        int passed;
        if (place->frame == NULL || PyErr_Occurred() == NULL)
            return 0;
        here = fst_py_here();
        PyErr_Fetch(&type, &value, &traceback);
        passed = traceback != NULL && ((PyTracebackObject *)traceback)->tb_frame == here.frame;
        PyErr_Restore(type, value, traceback);
        return !passed && here.frame == place->frame && here.code == place->code && here.at == place->at;
    }
    """
    struct fst_py_place:
        pass
    fst_py_place fst_py_here()
    bint fst_py_failed(const fst_py_place *place)


@cython.final
@cython.no_gc
cdef class Ticket:
    """Goes into the pickle beside a message, as nothing, and takes the message back if that pickle fails.

    A pickler keeps what it has pickled until it ends; C's does so with the exception set, if it
    fails. Then nobody has the pickle. A pickler that ends later, while something else fails, may
    have written all of it: so the ticket remembers which instruction of the program pickles it,
    and believes an exception only there. In doubt the message stays.
    """

    cdef PyObject *attachment
    cdef fst_message message
    cdef fst_py_place pickled  # nowhere, until a pickler has come to it

    def __init__(self):
        raise TypeError("a Ticket is made by Attachment.ticket()")

    # Its end is _end_ticket(), for the reason that Blocks have, and because a __dealloc__ would see no exception.


def reduce_ticket(Ticket ticket not None):
    # The pickler knows this function already, so that nothing is as dear as to look for another.
    ticket.pickled = fst_py_here()
    return _load, ()


cdef destructor _ticket_rest = (<PyTypeObject *>Ticket).tp_dealloc


cdef void _end_ticket(PyObject *self) noexcept:
    cdef PyObject *attachment = (<Ticket>self).attachment
    if attachment != NULL and fst_py_failed(&(<Ticket>self).pickled):
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
