/* fault.h - what was found wrong with objects that are debugged (alloc/debug.h).
 *
 * It is kept in this process, for whoever there tells people of it, and in the arena, for everybody
 * who looks. The arena keeps the last few in a log of its superblock. A kill leaves a record there
 * that says nothing, or a fault that its process has told nobody of.
 */
#ifndef FST_ALLOC_FAULT_H
#define FST_ALLOC_FAULT_H

#include "flagstone_debug.h"
#include "region/region.h"

/* Fill in who refers to the object, before whoever found the fault lets go of it. */
void fst_fault_find_holders(struct fst_arena *a, struct fst_fault *f);

/* Note that this process has found the fault now: fill in who, when and the object's holders, and
 * keep it. */
void fst_fault_keep(struct fst_arena *a, struct fst_fault *fault);

/* Around a fork: no other thread is among the faults of this process meanwhile. The parent tells
 * people of those that it has found; the child begins without any. */
void fst_fault_before_fork(void);
void fst_fault_after_fork(bool child);

#endif
