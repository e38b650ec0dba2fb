#include "reclaim/drops.h"

#include <string.h>

#include "channel/channel.h"
#include "process/burial.h"
#include "process/slot.h"
#include "refs/word.h"
#include "region/entries.h"
#include "teardown/end.h"
#include "teardown/release.h"

/* Does the group or channel stay although nobody refers to it? */
static bool lasts(struct fst_arena *a, uint64_t oid)
{
    if (!fst_oid_is_group(oid))
        return fst_channel_lasts(a, oid);
    const struct fst_group *g = fst_group_at(a, fst_oid_group_index(oid));
    return (fst_load_relaxed(&g->flags) & (FST_GROUP_LASTING | FST_GROUP_CGROUP)) &&
           fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE;
}

/* ---- splice and condemn ---- */

/* Condemn what a TAKEN entry asks for. A word that was never SHARED is condemned like any other:
 * the entry may be a withdrawn attempt at an object that somebody else has allocated and is using
 * (mutant M_DIRECTANY of models/references.pml). */
static void consider(struct fst_arena *a, uint64_t entry, struct fst_scan *scan, uint64_t *condemned)
{
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(a, oid);
    if (!word || lasts(a, oid))
        return;
    uint64_t seen = fst_load_acquire(word);
    if (!(seen & FST_WORD_ALLOCATED) || !fst_entry_matches(entry, seen))
        return;
    fst_words_condemn_one(scan, oid, word, seen);
    ++*condemned;
}

/* Make the entries TAKEN that are DROPPED, or LIVE in the table of a dead process, and consider
 * what they ask for. */
static int splice_process(struct fst_arena *a, struct fst_drops *d, uint32_t slot, bool everything, struct fst_scan *scan,
                          uint64_t *condemned)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint32_t state = fst_state(fst_load_acquire(&p->state));
    if (state != FST_PROCESS_LIVE && state != FST_PROCESS_DEAD)
        return FST_OK;
    if (state == FST_PROCESS_LIVE && !everything && fst_load_relaxed(&p->dropped) == 0)
        return FST_OK;
    d->spliced[slot / 64] |= 1ull << (slot % 64);
    fst_swap32(&p->dropped, 0); /* a drop from here on asks for a batch again */
    /* What the process kept for forked children without a place stays until these are gone. */
    bool heirs = state == FST_PROCESS_DEAD && fst_process_has_heirs(a, slot);
    uint32_t top = fst_entry_top(a, slot);
    uint64_t *entries = fst_entries_of(a, slot, top);
    if (!entries)
        return FST_OS;
    for (uint32_t i = 0; i < top; i++) {
        uint64_t seen = fst_load_acquire(&entries[i]);
        uint32_t is = fst_entry_state(seen);
        bool splice = is == FST_ENTRY_DROPPED || (is == FST_ENTRY_LIVE && state == FST_PROCESS_DEAD && !heirs);
        if (splice && !fst_cas64(&entries[i], &seen, (seen & ~FST_ENTRY_STATE) | FST_ENTRY_TAKEN))
            continue; /* the process took it back */
        if (!splice && is != FST_ENTRY_TAKEN)
            continue;
        bool held = state == FST_PROCESS_DEAD && is != FST_ENTRY_DROPPED; /* or nobody knows */
        if (d->n_taken < FST_TAKEN_FEW)
            d->taken[d->n_taken] = (struct fst_taken){.slot = slot, .held = held, .entry = i};
        if (held)
            d->held[slot / 64] |= 1ull << (slot % 64);
        d->n_taken++;
        consider(a, seen, scan, condemned);
    }
    return FST_OK;
}

int fst_drops_condemn(struct fst_arena *a, struct fst_drops *d, bool everything, struct fst_scan *scan, uint64_t *condemned)
{
    uint32_t top = fst_process_top(a);
    int rc = FST_OK;
    d->n_taken = 0;
    memset(d->spliced, 0, sizeof d->spliced);
    memset(d->held, 0, sizeof d->held);
    for (uint32_t slot = 0; slot < top && rc == FST_OK; slot++)
        rc = splice_process(a, d, slot, everything, scan, condemned);
    return rc;
}

/* ---- release and empty ---- */

struct release {
    struct fst_thread *t;
    const struct fst_scan *scan;
    struct fst_burial *burial; /* of the dead process that held what is looked at, or NULL */
    struct fst_released *released;
};

/* Free the object of an entry, if it is still CONDEMNED in this generation, and release what
 * becomes empty with it. */
static void release(struct release *r, uint64_t oid, uint64_t *word, uint64_t seen)
{
    uint64_t bytes;
    if (fst_channel_is_ring(r->t->arena, oid) && fst_scan_has(r->scan, oid) && (seen & FST_WORD_CONDEMNED) &&
        fst_channel_unreferenced(r->t->arena, oid, word))
        return; /* what its nodes refer to goes first */
    if (!fst_words_release_one(r->t->arena, r->scan, oid, word, seen, &bytes))
        return;
    r->released->objects++;
    r->released->bytes += bytes;
    if (fst_oid_is_group(oid)) {
        fst_burial_group(r->burial);
        fst_end_unreferenced(r->t->arena, fst_oid_group_index(oid));
        return;
    }
    fst_burial_object(r->burial, bytes);
    r->released->more |= fst_release_after_free(r->t, oid);
}

/* Release the object of an entry, if it is TAKEN, and empty the entry. */
static void finish_entry(struct release *r, uint64_t *at)
{
    uint64_t entry = fst_load_acquire(at);
    if (fst_entry_state(entry) != FST_ENTRY_TAKEN)
        return;
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(r->t->arena, oid);
    uint64_t seen = word ? fst_load_acquire(word) : 0;
    if (word && fst_entry_matches(entry, seen) && !lasts(r->t->arena, oid))
        release(r, oid, word, seen);
    fst_cas64(at, &entry, 0); /* this fails when the process took the entry back */
}

/* The record of the process in this slot, if it is dead. */
static struct fst_burial *burial_of(struct fst_arena *a, uint32_t slot)
{
    const struct fst_process *p = fst_process_at(a, slot);
    return fst_state(fst_load_acquire(&p->state)) == FST_PROCESS_DEAD ? fst_burial_of(a, slot) : NULL;
}

/* Every TAKEN entry is one that the splice saw, because only batches make entries TAKEN. */
int fst_drops_finish(struct fst_thread *t, const struct fst_drops *d, const struct fst_scan *scan, struct fst_released *released)
{
    struct fst_arena *a = t->arena;
    struct release r = {.t = t, .scan = scan, .released = released};
    struct fst_burial *burial = NULL;
    uint32_t last = FST_NONE;
    for (uint64_t i = 0; i < d->n_taken && d->n_taken <= FST_TAKEN_FEW; i++) {
        uint32_t slot = d->taken[i].slot;
        if (slot != last)
            burial = burial_of(a, slot);
        last = slot;
        r.burial = d->taken[i].held ? burial : NULL;
        /* This table has been mapped since the splice. */
        finish_entry(&r, fst_entries_of(a, slot, d->taken[i].entry + 1) + d->taken[i].entry);
    }
    for (uint32_t slot = 0; slot < FST_MAX_PROCESSES && d->n_taken > FST_TAKEN_FEW; slot++) {
        if (!(d->spliced[slot / 64] >> (slot % 64) & 1))
            continue;
        /* Of so many it is not known which ones the process had dropped: all count as held, if
         * there are any. */
        r.burial = d->held[slot / 64] >> (slot % 64) & 1 ? burial_of(a, slot) : NULL;
        uint32_t top = fst_entry_top(a, slot);
        uint64_t *entries = fst_entries_of(a, slot, top);
        if (!entries)
            return FST_OS;
        for (uint32_t i = 0; i < top; i++)
            finish_entry(&r, &entries[i]);
    }
    return FST_OK;
}
