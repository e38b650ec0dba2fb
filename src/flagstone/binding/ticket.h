/* ticket.h - goes into a pickle beside a message, and takes the message back if that pickle
 * fails.
 *
 * A pickler keeps what it has pickled until it ends; C's does so with the exception set, if it
 * fails. Then nobody has the pickle. A pickler that ends later, while something else fails, may
 * have written all of it: so the ticket remembers which instruction of the program pickles it,
 * and believes an exception only there. In doubt the message stays.
 *
 * The type is made here because it needs an end of its own: Cython's puts the exception aside
 * before its __dealloc__ can look.
 */
#ifndef FST_BINDING_TICKET_H
#define FST_BINDING_TICKET_H

#include <Python.h>

#include "flagstone.h"

/* The type, to be called before the functions below; NULL with an exception. A borrowed
 * reference. */
PyObject *fst_ticket_type(void);

/* A ticket of this message; it holds the attachment, which is one to this arena. */
PyObject *fst_ticket_new(PyObject *attachment, fst_arena *arena, const struct fst_message *message);

/* A pickler has come to it. False, with an exception, if it is no ticket. */
int fst_ticket_pickled(PyObject *ticket);

#endif
