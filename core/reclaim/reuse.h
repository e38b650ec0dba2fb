/* reuse.h - what was dropped is used again before a slab is made: a thread that allocates a large
 * object, and would need a new slab for it, runs a batch first.
 *
 * Where there are few references to look at, that costs less than waking the reaper thread, and far
 * less than memory that is new to the processor's caches. So drops of large objects do not hurry
 * the reaper (reclaim/reaper.c). As long as little goes round, the next allocation gets what was
 * dropped last, whose bytes are still in a cache; when much is under way, some of it rests first
 * (fst_reuse_rest).
 *
 * An allocation never waits for this. A batch may take long, because it would have many references
 * to look at, readers to wait for or a process to bury, or because another one is running: then
 * there is a new slab, and what was dropped is left to the reaper. Such a batch looks only at
 * drops, because much may have ended. So it has no number, and nobody who waits for a batch is
 * served by it.
 *
 * A kill in here leaves what a kill in any batch leaves (reclaim/batch.h).
 */
#ifndef FST_RECLAIM_REUSE_H
#define FST_RECLAIM_REUSE_H

#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "region/region.h"

/* Run a batch, if there is cause, before the thread makes a slab of so many pages for the child. No
 * lock is held. */
void fst_reuse_for_run(struct fst_thread *t, uint64_t child_id, uint64_t pages);

/* Do so before it makes one of the child's slabs, unless it has one with a free object. With the id
 * of no child nothing happens. */
void fst_reuse_for_slab(struct fst_thread *t, uint64_t child_id);
static inline void fst_reuse_for_child(struct fst_thread *t, uint64_t child_id)
{
    uint32_t child = (uint32_t)child_id;
    if (fst_is_child(t->arena, child) && fst_load_relaxed(&fst_child_at(t->arena, child)->stride) >= FST_REAPER_LARGE)
        fst_reuse_for_slab(t, child_id);
}

/* How many pages of what was dropped rest, when more is in use. */
uint64_t fst_reuse_rest(const struct fst_arena *a);

/* There is no memory for so many bytes: run a batch, if there is cause. True: it has released
 * something, so try again. */
bool fst_reuse_at_need(struct fst_thread *t, uint64_t bytes);

#endif
