/* finish.h - finish what somebody had begun to end, and was killed before it was finished.
 *
 *   killed                                         what is left, and who finishes it
 *   after a group was destroyed, before those      groups and children that do not know yet:
 *   below it were; or after a cache had ended,     fst_registry_finish_endings
 *   before its children had
 *   while destroy() looked for users of a cache    children ENDING: fst_cache_resumed, or the same
 *   before what had ended was queued               found by a batch that looks at everything
 *   in a batch, after a group's word was freed     a group LIVE to which nobody refers:
 *                                                  fst_finish_unreferenced
 *   while carving, closing or owning a slab        a slab whose owner is gone: fst_finish_burials
 *   holding the names', a child's or the pages'    derived lists in any state: rebuilt by whoever
 *   lock                                           takes the lock over, fst_finish_deaths for all
 *   in a read-side section                         its thread slots: fst_finish_deaths
 *
 * The states of groups and caches are the truth, so all of this can be done again: a kill in here
 * leaves less to finish. A living thread for which a lock takes too long leaves a slab in the same
 * way, and says so in superblock.loose.
 */
#ifndef FST_TEARDOWN_FINISH_H
#define FST_TEARDOWN_FINISH_H

#include "region/region.h"

/* Find the dead (process/bury.h), and mend what a batch needs whole: their thread slots become
 * free, their locks are taken over, and their in-flight entries get a time. The result is how many
 * slots are DEAD. Before the batch's grace period, under the reaper's lock. */
uint32_t fst_finish_deaths(struct fst_arena *a);

/* Recover slabs that nobody owns any more, and free every DEAD slot whose entries are all EMPTY; at
 * the end of a batch, for the thread named `me`, under the reaper's lock. The memory of their
 * tables goes back to the system after a grace period; where that is not over at once, it stays for
 * the slot's next process. */
void fst_finish_burials(struct fst_arena *a, uint64_t me);

/* Close the groups that are LIVE and have no word. Without locks. */
void fst_finish_unreferenced(struct fst_arena *a);

#endif
