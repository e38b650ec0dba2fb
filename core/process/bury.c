#include "process/bury.h"

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/liveness.h"
#include "process/burial.h"
#include "process/slot.h"
#include "region/entries.h"
#include "region/file.h"

/* Is the slot's process dead? A slot that is LIVE without its file lock becomes DEAD. So does one
 * that is JOINING: it may be a forked child's, with entries in it already. */
static bool probe(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t seen = fst_load_acquire(&p->state);
    uint32_t state = fst_state(seen);
    if (state != FST_PROCESS_DEAD) {
        if (state == FST_PROCESS_FREE || slot == a->slot || fst_file_find(a, FST_LOCK_ALIVE + slot, 1) >= 0)
            return false;
        /* The word has the slot's generation: it does not match if the slot was given back and
         * claimed again since it was read. */
        if (!fst_cas64(&p->state, &seen, fst_state_moved(seen, FST_PROCESS_DEAD)))
            return false;
        if (state == FST_PROCESS_LIVE && !fst_process_unmissed(p))
            fst_add64(&a->sb->deaths, 1);
#ifndef FST_MUTANT_NO_WALK_AFTER_DEATH
        /* The process may have been killed between the end of a slab and that of its child, or of a
         * child and its group: so the batch has to look at all of them. */
        fst_store_relaxed(&a->sb->ended_walk, 1);
#endif
    }
    fst_burial_of(a, slot);
    return true;
}

uint32_t fst_bury_probe(struct fst_arena *a)
{
    uint32_t dead = 0, top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++)
        dead += probe(a, slot);
    return dead;
}

static bool entries_empty(struct fst_arena *a, uint32_t slot)
{
    uint32_t top = fst_entry_top(a, slot);
    const uint64_t *entries = fst_entries_of(a, slot, top);
    if (!entries)
        return false; /* nobody can say: the slot stays DEAD until a batch can look */
    for (uint32_t i = 0; i < top; i++)
        if (fst_load_relaxed(&entries[i]))
            return false;
    return true;
}

bool fst_bury_due(struct fst_arena *a, uint32_t slot)
{
    uint64_t state = fst_load_acquire(&fst_process_at(a, slot)->state);
    return fst_state(state) == FST_PROCESS_DEAD && entries_empty(a, slot);
}

bool fst_bury_close_table(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    fst_store_release(&p->entry_top, 0);
    return p->entries_committed > FST_PAGE;
}

/* Give the table's memory back, all but its first page: the slot's next process begins with an
 * empty table. */
static void shrink_entries(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t have = p->entries_committed, keep = FST_PAGE;
    if (have <= keep)
        return;
    if (have > a->max_entries * sizeof(uint64_t)) {
        fst_damaged(a, "process slot %u: its reference entries are said to have memory of %s", slot, fst_exact(have));
        return;
    }
    uint64_t offset = fst_entries_offset(a, slot);
    fst_store_relaxed(&p->entries_committed, keep);
    fst_file_punch(a, offset + keep, have - keep);
}

void fst_bury_end(struct fst_arena *a, uint32_t slot, bool unread)
{
    struct fst_process *p = fst_process_at(a, slot);
    if (unread)
        shrink_entries(a, slot);
    fst_burial_close(a, slot);
    /* The record of the burial is complete. Until the next process claims the slot and says its
     * name, nobody must find this one's in it. */
    fst_store_relaxed(&p->pid, 0);
    fst_store_relaxed(&p->burial, 0);
    fst_store_release(&p->state, fst_state_moved(p->state, FST_PROCESS_FREE));
}
