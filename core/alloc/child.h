/* child.h - child caches: the part of a cache that belongs to one group. Slabs belong to children,
 * so that memory of different groups never shares a slab, and ending a group ends whole slabs.
 *
 *   FREE    -> LIVE      at the group's first allocation from the cache
 *   LIVE    -> OFFLINE   the group was closed, or the cache replaced: no more allocations, slabs go
 *                        as they empty
 *   LIVE    -> ENDING    the cache's destroy() looks for users, holding the cache's lock `ending`;
 *                        back to LIVE when it is in use (also when the destroyer is killed: whoever
 *                        takes the lock over restores it). Who meets it waits for that lock.
 *   LIVE, ENDING, OFFLINE -> ENDED   the group or the cache was destroyed: what is not referenced
 *                                    goes in the next batch
 *   OFFLINE, ENDED -> FREE   no slab left
 * models/cache_ending.pml, models/teardown.pml.
 */
#ifndef FST_ALLOC_CHILD_H
#define FST_ALLOC_CHILD_H

#include "alloc/registry.h"

/* The state of the child that an id names, once allocations from it are resumed or it has ended: no
 * destroy() is looking for users of its cache any more. 0 when it is gone; ENDING still: not in
 * time. Without locks. */
uint64_t fst_child_resumed(struct fst_arena *a, uint64_t child);

#endif
