#include "binding/ticket.h"

/* Where the program is: a call of a function, and an instruction in it. No reference is held, so a
 * later frame may lie at the same address; that is why the code is compared, too. */
struct place {
    PyFrameObject *frame; /* NULL: nowhere */
    PyCodeObject *code;
    int at; /* the instruction */
};

struct ticket {
    PyObject_HEAD PyObject *attachment;
    fst_arena *arena;
    struct fst_message message;
    struct place pickled; /* nowhere, until a pickler has come to it, or it is refused */
};

static struct place here(void)
{
    struct place place = {PyEval_GetFrame(), NULL, 0};
    if (place.frame != NULL) {
        place.code = PyFrame_GetCode(place.frame);
        Py_DECREF(place.code);
        place.at = PyFrame_GetLasti(place.frame);
    }
    return place;
}

/* Whoever gathers the tickets of the pickle that its frame is making; list NULL: nobody. */
static _Thread_local struct fst_tickets gathering;

/* Has the call that was under way at that place failed just now? Then an exception is set, the
 * place is where the program still is, and the exception has not reached its frame yet: if it had,
 * its traceback would begin with that frame. */
static bool failed(const struct place *place)
{
    struct place now;
    PyObject *type, *value, *traceback;
    bool passed;
    if (place->frame == NULL || PyErr_Occurred() == NULL)
        return false;
    now = here();
    PyErr_Fetch(&type, &value, &traceback);
    passed = traceback != NULL && ((PyTracebackObject *)traceback)->tb_frame == now.frame;
    PyErr_Restore(type, value, traceback);
    return !passed && now.frame == place->frame && now.code == place->code && now.at == place->at;
}

/* The message is an object's (a channel's and a topic's, too), or a group's. If neither can be had
 * now, it stays in flight. */
static void take_back(fst_arena *arena, const struct fst_message *message)
{
    struct fst_ref ref;
    uint64_t group;
    if (fst_take(arena, message, &ref) == FST_OK)
        fst_drop(arena, &ref);
    else if (fst_group_take(arena, message, &group) == FST_OK)
        fst_group_unref(arena, group);
}

static void ticket_end(PyObject *self)
{
    struct ticket *ticket = (struct ticket *)self;
    PyObject *attachment = ticket->attachment;
    if (failed(&ticket->pickled))
        take_back(ticket->arena, &ticket->message);
    PyObject_Free(self);
    Py_DECREF(attachment); /* last, because it may end the arena and run any code */
}

static PyTypeObject ticket_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "flagstone._core.Ticket",
    .tp_basicsize = sizeof(struct ticket),
    .tp_dealloc = ticket_end,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "Goes into the pickle beside a message, as nothing, and takes the message back if that\n"
              "pickle fails. Made by Attachment.ticket().",
};

PyObject *fst_ticket_type(void)
{
    return PyType_Ready(&ticket_type) ? NULL : (PyObject *)&ticket_type;
}

PyObject *fst_ticket_new(PyObject *attachment, fst_arena *arena, const struct fst_message *message)
{
    struct ticket *ticket = PyObject_New(struct ticket, &ticket_type);
    if (ticket == NULL)
        return NULL;
    Py_INCREF(attachment);
    ticket->attachment = attachment;
    ticket->arena = arena;
    ticket->message = *message;
    ticket->pickled.frame = NULL;
    return (PyObject *)ticket;
}

int fst_ticket_pickled(PyObject *ticket)
{
    if (!Py_IS_TYPE(ticket, &ticket_type)) {
        PyErr_Format(PyExc_TypeError, "this is a %.100s, and no Ticket", Py_TYPE(ticket)->tp_name);
        return 0;
    }
    struct place place = here();
    ((struct ticket *)ticket)->pickled = place;
    return gathering.list == NULL || gathering.frame != place.frame || PyList_Append(gathering.list, ticket) == 0;
}

struct fst_tickets fst_tickets_gather(PyObject *list, PyObject *carrier)
{
    struct fst_tickets before = gathering;
    gathering.list = list;
    gathering.carrier = carrier;
    gathering.frame = list == NULL ? NULL : PyEval_GetFrame();
    return before;
}

void fst_tickets_gathered(struct fst_tickets before)
{
    gathering = before;
}

PyObject *fst_tickets_carrier(void)
{
    return gathering.carrier != NULL && gathering.frame == PyEval_GetFrame() ? gathering.carrier : NULL;
}

void fst_ticket_refuse(PyObject *self)
{
    struct ticket *ticket = (struct ticket *)self;
    ticket->pickled.frame = NULL;
    take_back(ticket->arena, &ticket->message);
}
