#include "reclaim/reuse.h"

#include "alloc/slab.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "refs/word.h"

#define LOOKS_A_PAGE 32u /* entries and slots that a batch may look at for each page: ns each, where writing to a page takes 200 */
#define LOOKS_A_DROP 16u /* as many as it counts for: its object is condemned, and released */

/* Has a slab that the thread owns a free object? May be wrong: then there is a batch for nothing, or a new slab. */
static bool owns_free(const struct fst_thread *t, uint64_t child_id)
{
    if (!t->actives)
        return false;
    const struct fst_active *act = &t->actives->slot[(uint32_t)child_id % FST_ACTIVES];
    for (uint32_t i = 0; act->child_id == child_id && i < act->owned; i++) {
        const struct fst_owned *own = &t->actives->owned[act->place[i]];
        for (uint32_t k = 0; k < own->objects; k++) {
            const uint64_t *word = (const uint64_t *)(const void *)(own->words + ((uint64_t)k << own->word_shift));
            if (!(fst_load_relaxed(word) & FST_WORD_FLAGS))
                return true;
        }
    }
    return false;
}

/* Would a batch have something to do, and be over at once? Not when it has to bury somebody, begin again over everything, or wait. */
static bool worth_it(struct fst_arena *a, uint64_t most)
{
    const struct fst_superblock *sb = a->sb;
    uint32_t processes = fst_process_top(a), threads = fst_thread_top(a);
    uint64_t looks = (uint64_t)processes + threads + fst_inflight_top(a);
    bool dropped = false;
    if (looks > most || fst_load_relaxed(&sb->reaper_lock) || fst_load_relaxed(&sb->batch_dirty) || fst_load_relaxed(&sb->waiters))
        return false;
    for (uint32_t i = 0; i < processes; i++) {
        const struct fst_process *p = fst_process_at(a, i);
        uint32_t is = fst_state(fst_load_relaxed(&p->state));
        if (is == FST_PROCESS_FREE)
            continue;
        uint32_t drops = fst_load_relaxed(&p->dropped);
        looks += fst_entry_top(a, i) + (uint64_t)drops * LOOKS_A_DROP;
        if (is == FST_PROCESS_DEAD || looks > most)
            return false;
        dropped |= drops != 0;
    }
    for (uint32_t i = 0; dropped && i < threads; i++)
        if (fst_load_relaxed(&fst_thread_slot_at(a, i)->seq))
            return false;
    return dropped;
}

void fst_reuse_dropped(struct fst_thread *t, uint64_t pages)
{
    struct fst_arena *a = t->arena;
    if (t->nest || pages < FST_REUSE_LEAST >> FST_PAGE_SHIFT || !worth_it(a, pages * LOOKS_A_PAGE))
        return;
    /* A reader may have come since we looked: then the batch is broken off, and the reaper ends it. */
    struct fst_batch_options options = {.drops_only = true, .timeout = 0};
    if (fst_batch_run(t, &options) == FST_TIMEOUT)
        fst_reaper_ended(a);
}

void fst_reuse_for_slab(struct fst_thread *t, uint64_t child_id)
{
    const struct fst_child *c = fst_child_at(t->arena, (uint32_t)child_id);
    if (fst_load_relaxed(&c->partial) == FST_NONE && !owns_free(t, child_id))
        fst_reuse_dropped(t, fst_load_relaxed(&c->stride) >> FST_PAGE_SHIFT);
}
