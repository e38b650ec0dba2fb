#include "reclaim/bury.h"

#include "alloc/registry.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "crash/process.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/liveness.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "reclaim/burial.h"
#include "refs/inflight.h"
#include "region/file.h"
#include "region/lock.h"

static void free_thread_slots(struct fst_arena *a, uint32_t process)
{
    uint64_t owner = fst_thread_owner(a, process);
    uint32_t top = fst_thread_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (fst_load_relaxed(&fst_thread_slot_at(a, i)->owner) == owner)
            fst_thread_slot_free(a, i);
}

/* LIVE without its lock becomes DEAD; so does JOINING, which may be a forked child's slot with entries in it already. */
static bool probe(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t seen = fst_load_acquire(&p->state);
    uint32_t state = fst_state(seen);
    if (state == FST_PROCESS_DEAD) {
        fst_burial_of(a, slot);
        free_thread_slots(a, slot);
        return true;
    }
    if (state == FST_PROCESS_FREE || slot == a->slot || fst_file_find(a, FST_LOCK_ALIVE + slot, 1) >= 0)
        return false;
    /* The word names its generation: a slot that was given back and claimed again since our look does not match. */
    if (!fst_cas64(&p->state, &seen, fst_state_moved(seen, FST_PROCESS_DEAD)))
        return false;
    if (state == FST_PROCESS_LIVE && !fst_process_unmissed(p))
        fst_add64(&a->sb->deaths, 1);
    fst_burial_of(a, slot);
    free_thread_slots(a, slot);
    /* It may have been killed between the end of a slab and that of its child, or of a child and its group: look at all of them. */
#ifndef FST_MUTANT_NO_WALK_AFTER_DEATH
    fst_store_relaxed(&a->sb->ended_walk, 1);
#endif
    return true;
}

uint32_t fst_bury_probe(struct fst_arena *a)
{
    uint32_t dead = 0, top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++)
        dead += probe(a, slot);
    if (dead) { /* locks that they held: take them over now, so that what they protect is whole when the batch goes on */
        if (fst_registry_lock(a))
            fst_registry_unlock(a);
        if (fst_run_lock(a))
            fst_run_unlock(a);
        fst_inflight_date(a);
    }
    return dead;
}

static bool entries_empty(struct fst_arena *a, uint32_t slot)
{
    const uint64_t *entries = fst_entries_of(a, slot);
    uint32_t top = fst_entry_top(a, slot);
    for (uint32_t i = 0; i < top && i < FST_MAX_ENTRIES; i++)
        if (fst_load_relaxed(&entries[i]))
            return false;
    return true;
}

/* `all`: also what nobody owns. False: a lock could not be had in time. */
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

/* The next owner begins with an empty table: give its memory back, all but the first page. */
static void shrink_entries(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t have = p->entries_committed, keep = FST_PAGE;
    if (have <= keep)
        return;
    if (have > FST_MAX_ENTRIES * sizeof(uint64_t)) {
        fst_damaged(a, "process slot %u: its reference entries are said to have memory of %s", slot, fst_exact(have));
        return;
    }
    uint64_t offset = a->known.tables[FST_T_ENTRY].offset + (uint64_t)slot * FST_MAX_ENTRIES * sizeof(uint64_t);
    fst_store_relaxed(&p->entries_committed, keep);
    fst_file_punch(a, offset + keep, have - keep);
}

static void free_slot(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    fst_burial_close(a, slot);
    fst_store_relaxed(&p->pid, 0); /* the burial is written: whoever claims the slot next is not to be named like this one */
    fst_store_relaxed(&p->burial, 0);
    fst_store_release(&p->state, fst_state_moved(p->state, FST_PROCESS_FREE));
}

/* Nobody reads what lies beyond the bounds of these tables any more. PAIR(table): whoever looks, in a section, sees the new bound, or we
 * wait for it; but not for long, because it may be stopped. */
static bool readers_gone(struct fst_arena *a)
{
#ifdef FST_MUTANT_PUNCH_AT_ONCE
    return true;
#endif
    return fst_grace_wait(a, fst_gp_cookie(a), FST_MS, NULL) == FST_OK;
}

void fst_bury_finish(struct fst_arena *a, uint64_t me)
{
    uint64_t over[FST_MAX_PROCESSES / 64] = {0};
    uint32_t top = fst_process_top(a);
    bool any = false, memory = false, recovered = fst_load_relaxed(&a->sb->loose) != 0;
    if (recovered) {
        fst_swap32(&a->sb->loose, 0); /* first: what is left from here on is the next batch's */
        if (!recover_slabs(a, me, true)) {
            fst_swap32(&a->sb->loose, 1);
            return; /* the dead wait, too */
        }
    }
    for (uint32_t slot = 0; slot < top && slot < FST_MAX_PROCESSES; slot++) {
        struct fst_process *p = fst_process_at(a, slot);
        if (fst_state(fst_load_acquire(&p->state)) != FST_PROCESS_DEAD || !entries_empty(a, slot))
            continue;
        if (!any && !recovered && !recover_slabs(a, me, false))
            return; /* the slot stays DEAD, and the next batch tries again */
        any = true;
        over[slot / 64] |= 1ull << (slot % 64);
        memory = memory || p->entries_committed > FST_PAGE;
        fst_store_release(&p->entry_top, 0); /* first: nobody may touch what is given back, also when we are killed in between */
    }
    bool gone = memory && readers_gone(a);
    for (uint32_t slot = 0; slot < top && slot < FST_MAX_PROCESSES && any; slot++) {
        if (!(over[slot / 64] >> (slot % 64) & 1))
            continue;
        if (gone)
            shrink_entries(a, slot);
        free_slot(a, slot);
    }
}
