#include "teardown/finish.h"

#include "alloc/registry.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "process/bury.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "refs/inflight.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/end.h"

/* ---- what the dead have left ---- */

static void free_thread_slots(struct fst_arena *a, uint32_t process)
{
    uint64_t owner = fst_thread_owner(a, process);
    uint32_t top = fst_thread_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (fst_load_relaxed(&fst_thread_slot_at(a, i)->owner) == owner)
            fst_thread_slot_free(a, i);
}

uint32_t fst_finish_deaths(struct fst_arena *a)
{
    uint32_t dead = fst_bury_probe(a), top = fst_process_top(a);
    if (!dead)
        return 0;
    for (uint32_t slot = 0; slot < top; slot++)
        if (fst_state(fst_load_acquire(&fst_process_at(a, slot)->state)) == FST_PROCESS_DEAD)
            free_thread_slots(a, slot);
    /* Take over the locks that the dead held, so that what they protect is whole when the batch
     * goes on. */
    if (fst_registry_lock(a))
        fst_registry_unlock(a);
    if (fst_run_lock(a))
        fst_run_unlock(a);
    fst_inflight_date(a);
    return dead;
}

/* Recover slabs whose owner is gone; `all`: also slabs without an owner. False: a lock took longer
 * than this thread waits. */
static bool recover_slabs(struct fst_arena *a, uint64_t me, bool all)
{
    uint32_t given_up = fst_lock_given_up();
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        uint32_t top = fst_slab_top(a, class);
        for (uint32_t i = 0; i < top; i++)
            if (all || fst_load_relaxed(&fst_slab_at(a, FST_SLAB_ID(class, i))->owner))
                fst_slab_recover(a, FST_SLAB_ID(class, i), me);
    }
    return fst_lock_given_up() == given_up;
}

/* Does nobody read what lies beyond the bounds of these tables any more? PAIR(table): whoever
 * looks, in a section, either sees the new bound, or is waited for; but not for long, because it
 * may be stopped. */
static bool readers_gone(struct fst_arena *a)
{
#ifdef FST_MUTANT_PUNCH_AT_ONCE
    return true;
#endif
    return fst_grace_wait(a, fst_gp_cookie(a), FST_MS, NULL) == FST_OK;
}

void fst_finish_burials(struct fst_arena *a, uint64_t me)
{
    uint64_t over[FST_MAX_PROCESSES / 64] = {0};
    uint32_t top = fst_process_top(a);
    bool any = false, memory = false, recovered = fst_load_relaxed(&a->sb->loose) != 0;
    if (recovered) {
        /* this comes first: what is left from here on is for the next batch */
        fst_swap32(&a->sb->loose, 0);
        if (!recover_slabs(a, me, true)) {
            fst_swap32(&a->sb->loose, 1);
            return; /* the dead are not buried before their slabs are whole */
        }
    }
    for (uint32_t slot = 0; slot < top && slot < FST_MAX_PROCESSES; slot++) {
        if (!fst_bury_due(a, slot))
            continue;
        if (!any && !recovered && !recover_slabs(a, me, false))
            return; /* the slot stays DEAD, and the next batch tries again */
        any = true;
        over[slot / 64] |= 1ull << (slot % 64);
        /* All tables are closed first: nobody may look at what is given back, also if this process
         * is killed in between. */
        memory |= fst_bury_close_table(a, slot);
    }
    bool unread = memory && readers_gone(a);
    for (uint32_t slot = 0; slot < top && slot < FST_MAX_PROCESSES && any; slot++)
        if (over[slot / 64] >> (slot % 64) & 1)
            fst_bury_end(a, slot, unread);
}

/* ---- what a killed batch has left ---- */

void fst_finish_unreferenced(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_group_top(a); i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE && !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED))
            fst_end_unreferenced(a, i);
    }
}
