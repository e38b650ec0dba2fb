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

/* To be called for a ticket instead, once: its message is taken back now, and is not pickled. */
void fst_ticket_refuse(PyObject *ticket);

/* Around the clearing of a pickler that is used again, after a pickle failed: what the caller's
 * frame has pickled is taken back where its tickets end now, in this thread. */
void fst_ticket_failing(int now);

#endif
