/* ticket.h - what goes into a pickle beside a message, and takes the message back if that pickle
 * fails.
 *
 * A pickler keeps what it has pickled until it ends. If pickling fails, the C pickler ends with the
 * exception set, and nobody has the pickle. But a pickler may also end later, while something else
 * fails, and have written all of its pickle before. So the ticket remembers the instruction of the
 * program that was pickling it, and takes the message back only if the exception comes from there.
 * In doubt the message stays in flight.
 *
 * The type is written in C because it needs a tp_dealloc of its own: Cython's puts the exception
 * aside before __dealloc__ could look at it.
 */
#ifndef FST_BINDING_TICKET_H
#define FST_BINDING_TICKET_H

#include <Python.h>

#include "flagstone.h"

/* The type, as a borrowed reference; NULL with an exception. To be called once, before the
 * functions below. */
PyObject *fst_ticket_type(void);

/* A ticket for this message, a new reference; NULL with an exception. It holds `attachment`, the
 * Attachment to this arena. */
PyObject *fst_ticket_new(PyObject *attachment, fst_arena *arena, const struct fst_message *message);

/* To be called when a pickler comes to it: the program is pickling it here. 0, with an exception,
 * if it is no ticket. */
int fst_ticket_pickled(PyObject *ticket);

/* Whose pickle's tickets are gathered, and what carries a Block for it. */
struct fst_tickets {
    PyObject *list, *carrier; /* borrowed; NULL: none */
    PyFrameObject *frame;
};
/* From now on in this thread, tickets that go into a pickle that the caller's frame makes go into
 * this list, too, and its Blocks are the carrier's affair; not those of pickles that are made
 * meanwhile. What was before is given back to fst_tickets_gathered(). */
struct fst_tickets fst_tickets_gather(PyObject *list, PyObject *carrier);
void fst_tickets_gathered(struct fst_tickets before);
/* The carrier of the pickle that is being made here, borrowed, or NULL. */
PyObject *fst_tickets_carrier(void);

/* Take its message back now, once: nobody has, or will have, the pickle. */
void fst_ticket_refuse(PyObject *ticket);

#endif
