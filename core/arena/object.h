/* object.h - allocating objects, for the files beside arena/object.c. */
#ifndef FST_ARENA_OBJECT_H
#define FST_ARENA_OBJECT_H

#include "rcu/thread.h"
#include "region/region.h"

/* Allocate an object in a run of pages of its own, of a child without a common size. `slack` is for
 * its word, and says whether the object has a form. */
int fst_object_alloc_run(struct fst_thread *t, uint64_t child, uint64_t nbytes, uint64_t slack, struct fst_ref *out);

#endif
