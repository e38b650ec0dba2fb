/* run.h - runs of pages and who owns them: a run belongs to the slab descriptor that is not FREE
 * and names it.
 *
 * Taking a run, choosing a descriptor and charging the groups is one section under
 * superblock.pages_lock; the descriptor's state is what counts. Free pages, free descriptors and
 * charges are derived from the descriptors, and rebuilt from them by whoever gets the lock from a
 * dead owner.
 */
#ifndef FST_ALLOC_RUN_H
#define FST_ALLOC_RUN_H

#include "region/lock.h"
#include "region/region.h"

/* Take a run for a slab of this class, in state CARVING with this owner, its memory committed
 * and charged to the child's group and all its ancestors (child FST_NONE: to the root group
 * only). FST_FULL, FST_LIMIT. A kill after it leaves a CARVING slab with a dead owner, which the
 * batch that buries the process releases. */
int fst_run_reserve(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t class, uint32_t pages, uint32_t align_order,
                    uint64_t owner, uint32_t *slab_id);

/* Give run and descriptor back: -> FREE, if the slab's state word is still this one. The caller
 * has made sure that nobody uses a byte of it. */
void fst_run_release(struct fst_arena *a, uint32_t slab_id, uint64_t state);

/* The same for many slabs that this thread has closed; returns the bytes of their pages. */
uint64_t fst_run_release_closed(struct fst_arena *a, const uint32_t *slab_ids, uint32_t n);

/* Give memory of wholly free extents back to the system; returns bytes. idle_only: what was free
 * at the last such call too. */
uint64_t fst_run_punch(struct fst_arena *a, bool idle_only, uint64_t owner);

/* Set a group's limit, in pages, under pages_lock. False: not in time. */
bool fst_run_set_limit(struct fst_arena *a, uint32_t group, uint64_t pages);

/* Hold pages_lock around a look at what it protects. Rebuilds when taken over. False: not in
 * time. */
bool fst_run_lock(struct fst_arena *a) FST_TO_BE_HEEDED;
/* The same for what must not wait, or holds what others wait for: a batch does it later. */
bool fst_run_lock_briefly(struct fst_arena *a) FST_TO_BE_HEEDED;
void fst_run_unlock(struct fst_arena *a);

#endif
