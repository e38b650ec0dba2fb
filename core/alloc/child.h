/* child.h - child caches: the part of a cache that belongs to one group. Slabs belong to children,
 * so that memory of different groups never shares a slab, and ending a group ends whole slabs.
 *
 *   - FREE -> LIVE: at the group's first allocation from the cache.
 *   - LIVE -> OFFLINE: the group was closed, or the cache replaced. There are no more allocations,
 *     and slabs are closed when they are empty.
 *   - LIVE -> ENDING: the cache's destroy() looks for users, and holds the cache's lock `ending`.
 *     The child goes back to LIVE when the cache is in use; and when the destroyer is killed,
 *     whoever takes the lock over restores it. Whoever meets the state waits for that lock.
 *   - LIVE, ENDING, OFFLINE -> ENDED: the group or the cache was destroyed, and what is not
 *     referred to goes in the next batch.
 *   - OFFLINE, ENDED -> FREE: no slab is left.
 *
 * The models are models/cache_ending.pml and models/teardown.pml.
 */
#ifndef FST_ALLOC_CHILD_H
#define FST_ALLOC_CHILD_H

#include "alloc/registry.h"

/* The state of the child that an id names, once no destroy() is looking for users of its cache any
 * more: either allocations are resumed or the child has ended. 0 when it is gone; still ENDING when
 * that took longer than this thread waits. Without locks. */
uint64_t fst_child_resumed(struct fst_arena *a, uint64_t child);

#endif
