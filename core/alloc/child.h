/* child.h - child caches: the part of a cache that belongs to one group. Slabs belong to children, so that memory of different groups
 * never shares a slab, and ending a group ends whole slabs.
 *
 *   FREE    -> LIVE      at the group's first allocation from the cache
 *   LIVE    -> OFFLINE   the group was closed: no more allocations, slabs go as they empty
 *   LIVE    -> ENDING    the cache's destroy() looks for users, holding the cache's lock `ending`; back to LIVE when it is in use (also
 *                        when the destroyer is killed: whoever takes the lock over restores it). Who meets it waits for that lock.
 *   LIVE, ENDING, OFFLINE -> ENDED   the group or the cache was destroyed: what is not referenced goes in the next batch
 *   OFFLINE, ENDED -> FREE   no slab left
 * models/cache_ending.pml, models/teardown.pml.
 */
#ifndef FST_ALLOC_CHILD_H
#define FST_ALLOC_CHILD_H

#include "alloc/registry.h"

/* Move every child of a group to OFFLINE or ENDED. Under names_lock. */
void fst_child_end_all_of_group(struct fst_arena *a, uint32_t group, enum fst_child_state state);

/* The same for a cache: after it has ended; and LIVE <-> ENDING, while destroy() looks for its users. Under the cache's lock `ending`; they
 * take names_lock for some children at a time. The first returns how many there were. */
uint32_t fst_child_end_all_of_cache(struct fst_arena *a, uint32_t cache);
void fst_child_suspend_all_of_cache(struct fst_arena *a, uint32_t cache, bool suspend);

/* The state of the child that an id names, once no destroy() is looking for users of its cache; 0 when it is gone. Without locks. */
uint64_t fst_child_settled(struct fst_arena *a, uint64_t child);

/* Is the child that an id names alive? *state: its state word then. FST_CLOSED. Without locks. */
int fst_child_check(struct fst_arena *a, uint64_t child, uint64_t *state);

/* Release those of these children that are OFFLINE or ENDED and have no slab left, and what waited for them alone: cache, group. Returns how
 * many. Without locks. */
uint32_t fst_child_release(struct fst_arena *a, const uint32_t *children, uint32_t n);

/* How a cache's objects lie in slabs: stride, pages of a slab, objects in it, class of descriptor. */
struct fst_shape {
    uint64_t stride;
    uint32_t pages, objects, slab_class, align_order;
};
struct fst_shape fst_child_shape(uint64_t size, uint64_t align, uint32_t flags);

/* Natural alignment: the largest power of two that divides the size, at most a cache line. */
uint64_t fst_natural_align(uint64_t size);

#endif
