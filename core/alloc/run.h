/* run.h - runs of pages and who owns them: a run belongs to the slab descriptor that is not FREE
 * and names it.
 *
 * Reserving a run, choosing a descriptor and charging the groups is one section under
 * superblock.pages_lock; the descriptor's state is what counts. Free pages, free descriptors and
 * charges are derived from the descriptors, and rebuilt from them by whoever gets the lock from a
 * dead owner.
 */
#ifndef FST_ALLOC_RUN_H
#define FST_ALLOC_RUN_H

#include "region/lock.h"
#include "region/region.h"

/* Reserve a run for a slab of this class: a descriptor in state CARVING with this owner, the memory
 * committed, and charged to the child's group and all groups above it (child FST_NONE: to the root
 * group only). FST_FULL, FST_LIMIT, FST_CLOSED, FST_HELD. A kill after it leaves a CARVING slab
 * with a dead owner, which the batch that buries the process releases. */
int fst_run_reserve(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t class, uint32_t pages, uint32_t align_order,
                    uint64_t owner, uint32_t *slab_id);

/* Give run and descriptor back, so that the slab is FREE, if its state word is still this one. The
 * caller has made sure that nobody uses a byte of it. */
void fst_run_release(struct fst_arena *a, uint32_t slab_id, uint64_t state);

/* Give back many slabs that this thread has closed; the result is the bytes of their pages. */
uint64_t fst_run_release_closed(struct fst_arena *a, const uint32_t *slab_ids, uint32_t n);

/* Give memory of wholly free extents back to the system; the result is the bytes. idle_only: only
 * what was already free at the last such call. */
uint64_t fst_run_punch(struct fst_arena *a, bool idle_only, uint64_t owner);

/* Set a group's limit, in pages, under pages_lock. False: the lock took longer than this thread
 * waits. */
bool fst_run_set_limit(struct fst_arena *a, uint32_t group, uint64_t pages);

/* Hold pages_lock around a look at what it protects; if it is taken over from a dead owner, that is
 * rebuilt. False: the lock took longer than this thread waits. */
bool fst_run_lock(struct fst_arena *a) FST_TO_BE_HEEDED;
/* Acquire it for something that must not wait, or that holds what others wait for: if it fails, a
 * batch does the work later. */
bool fst_run_lock_briefly(struct fst_arena *a) FST_TO_BE_HEEDED;
void fst_run_unlock(struct fst_arena *a);

#endif
