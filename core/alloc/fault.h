/* fault.h - what was found wrong with objects that are debugged (alloc/debug.h): kept in this
 * process, to be told of by whoever has words for it, and in the arena, for everybody who looks.
 *
 * The arena keeps the last few in a log of its superblock. A kill leaves a record there that says
 * nothing, or a fault that its process has told nobody of.
 */
#ifndef FST_ALLOC_FAULT_H
#define FST_ALLOC_FAULT_H

#include "flagstone_debug.h"
#include "region/region.h"

/* Who refers to the object: for the fault, before whoever finds it lets go. */
void fst_fault_find_holders(struct fst_arena *a, struct fst_fault *f);

/* This process has found it now: fill in who, when and the object's holders, and keep it. */
void fst_fault_keep(struct fst_arena *a, struct fst_fault *fault);

#endif
