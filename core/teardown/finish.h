/* finish.h - what somebody who was killed had begun to end, and did not finish.
 *
 *   killed after a group was destroyed, before those below it were, or after a cache had ended,
 *   before its children had                        groups and children that do not know yet:
 *                                                  fst_registry_finish_endings
 *   while destroy() looked for users of a cache    children ENDING: fst_cache_settle, or the same
 *   before what had ended was queued               a batch that looks at everything
 *   in a batch, after a group's word was freed     a group LIVE that nobody refers to:
 *                                                  fst_finish_unreferenced
 *   while carving, closing or owning a slab        a slab whose owner is gone: fst_bury_finish
 *   holding the names', a child's or the pages'    derived lists in any state: rebuilt by whoever
 *   lock                                           takes the lock over
 *
 * The states of groups and caches are the truth, so all of it can be done again: a kill in here
 * leaves less to finish.
 */
#ifndef FST_TEARDOWN_FINISH_H
#define FST_TEARDOWN_FINISH_H

#include "region/region.h"

/* Close the groups that are LIVE without a word. Without locks. */
void fst_finish_unreferenced(struct fst_arena *a);

#endif
