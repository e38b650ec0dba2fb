/* parts.h - the parts of check(), each in a file of its own. A part acquires the lock of what it
 * looks at; what is derived is never looked at without its lock. */
#ifndef FST_OBSERVE_PARTS_H
#define FST_OBSERVE_PARTS_H

#include "observe/finding.h"

/* Check free pages, slab descriptors and charges, under pages_lock. */
void fst_check_pages(struct fst_check *c);
/* Check children, their lists, slabs and words, under each child's lock. */
void fst_check_slabs(struct fst_check *c);
/* Check caches, groups, their lists and names, and the queues for batches, under names_lock. */
void fst_check_registry(struct fst_check *c);
/* Check channels and their rings, under names_lock. */
void fst_check_channels(struct fst_check *c);
/* Check stores, their indexes under their locks, and what items hold. */
void fst_check_stores(struct fst_check *c);
/* Check forms, without a lock. */
void fst_check_forms(struct fst_check *c);
/* Check objects of caches that are debugged, under each child's lock. */
void fst_check_debug(struct fst_check *c);

#endif
