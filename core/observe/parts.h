/* parts.h - the parts of check(), each in a file of its own. A part holds the lock of what it looks
 * at; nothing that is derived is looked at without.
 */
#ifndef FST_OBSERVE_PARTS_H
#define FST_OBSERVE_PARTS_H

#include "observe/finding.h"

/* free pages, slab descriptors, charges: under pages_lock */
void fst_check_pages(struct fst_check *c);
/* children, their lists, slabs, words: under each child's lock */
void fst_check_slabs(struct fst_check *c);
/* caches, groups, their lists, names, what waits for a batch: under names_lock */
void fst_check_registry(struct fst_check *c);
void fst_check_channels(struct fst_check *c); /* and their rings */
/* their indexes under their locks, and what they hold */
void fst_check_stores(struct fst_check *c);
void fst_check_forms(struct fst_check *c);
void fst_check_debug(struct fst_check *c); /* objects of caches that are debugged */

#endif
