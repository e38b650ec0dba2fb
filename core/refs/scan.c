#include "refs/scan.h"

#include <string.h>

#include "platform/atomics.h"
#include "process/slot.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "region/entries.h"

#define STRIDE 8u /* entries that are looked at with one branch: those of a cache line */

void fst_scan_begin(struct fst_scan *s)
{
    if (s->used > FST_SCAN_FEW)
        memset(s->filter, 0, sizeof s->filter);
    else
        for (uint32_t i = 0; i < s->used; i++)
            s->filter[s->words[i]] = 0;
    s->used = 0;
}

void fst_scan_for(struct fst_scan *s, uint64_t oid)
{
    uint32_t slab = fst_oid_slab(oid), index = slab / 64 % FST_SCAN_WORDS;
    if (!s->filter[index]) {
        if (s->used < FST_SCAN_FEW)
            s->words[s->used] = (uint16_t)index;
        s->used++;
    }
    s->filter[index] |= 1ull << (slab % 64);
}

/* A process that has a destroyed group open keeps nothing by it: all that it could still learn is
 * that the group is gone, as it would when the descriptor is another group's. Its entry then speaks
 * of a past life, like that of a withdrawn attempt. Whatever claims the group while it ends has it
 * queued once more (fst_group_again). */
static bool holds_nothing(struct fst_arena *a, uint64_t oid)
{
#ifdef FST_MUTANT_HANDLES_HOLD
    return false;
#endif
    return fst_oid_is_group(oid) &&
           fst_state(fst_load_acquire(&fst_group_at(a, fst_oid_group_index(oid))->state)) == FST_GROUP_DESTROYED;
}

/* There is a reference to a condemned object, so take CONDEMNED away. The end of that reference
 * will ask again. */
static void keep(struct fst_arena *a, uint64_t oid, uint64_t entry, bool any_generation)
{
    uint64_t *word = fst_word_of(a, oid);
    uint64_t seen = word ? fst_load_acquire(word) : 0;
#ifdef FST_MUTANT_NO_GENERATION
    any_generation = true;
#endif
    while ((seen & FST_WORD_ALLOCATED) && (seen & FST_WORD_CONDEMNED) && (any_generation || fst_entry_matches(entry, seen)))
        if (fst_cas64(word, &seen, seen & ~FST_WORD_CONDEMNED))
            return;
}

void fst_scan_keep(struct fst_arena *a, const struct fst_scan *s, uint64_t oid)
{
    if (fst_scan_has(s, oid))
        keep(a, oid, 0, true);
}

/* PAIR(reference): these loads come before those of the processes' entries, because a reference
 * moves from an in-flight entry to a process's. */
static void scan_inflight(struct fst_arena *a, const struct fst_scan *s)
{
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        if ((word & FST_INFLIGHT_LIVE) && fst_scan_has(s, fst_inflight_oid(word)))
            keep(a, fst_inflight_oid(word), 0, true);
    }
}

/* May one of these entries, in whatever state, be of an object that is looked for? The eight tests
 * are spelled out because neither compiler unrolls a loop of them: that costs half a nanosecond for
 * an entry instead of one. */
static inline bool may(const struct fst_scan *s, const uint64_t *entries)
{
#define MAY(k) fst_scan_bits(s, fst_load_relaxed(&entries[k]) >> FST_ENTRY_SLAB_SHIFT)
    return (MAY(0) | MAY(1) | MAY(2) | MAY(3) | MAY(4) | MAY(5) | MAY(6) | MAY(7)) & 1;
#undef MAY
}
static_assert(STRIDE == 8, "may");

static void look(struct fst_arena *a, const struct fst_scan *s, const uint64_t *at)
{
    uint64_t entry = fst_load_acquire(at);
    uint32_t is = fst_entry_state(entry);
#ifdef FST_MUTANT_SCAN_LIVE_ONLY
    if (is == FST_ENTRY_DROPPED)
        return;
#endif
    if ((is == FST_ENTRY_LIVE || is == FST_ENTRY_DROPPED) && fst_scan_has(s, fst_entry_oid(entry)) &&
        fst_word_of(a, fst_entry_oid(entry)) && !holds_nothing(a, fst_entry_oid(entry)))
        keep(a, fst_entry_oid(entry), entry, false);
}

static void scan_table(struct fst_arena *a, const struct fst_scan *s, const uint64_t *entries, uint32_t top)
{
    uint32_t i = 0;
    for (; i + STRIDE <= top; i += STRIDE) {
        if (__builtin_expect(may(s, &entries[i]), 0))
            for (uint32_t k = 0; k < STRIDE; k++)
                look(a, s, &entries[i + k]);
    }
    for (; i < top; i++)
        look(a, s, &entries[i]);
}

static bool scan_processes(struct fst_arena *a, const struct fst_scan *s, uint64_t looks)
{
    uint32_t processes = fst_process_top(a);
    for (uint32_t slot = 0; slot < processes; slot++) {
        const struct fst_process *p = fst_process_at(a, slot);
        if (fst_state(fst_load_acquire(&p->state)) == FST_PROCESS_FREE)
            continue; /* JOINING counts: a forked child's table is filled before its slot is LIVE */
        uint32_t top = fst_entry_top(a, slot);
        const uint64_t *entries = top ? fst_entries_of(a, slot, top) : NULL;
        if (top && !entries)
            return false;
        scan_table(a, s, entries, top);
        looks += top;
    }
    fst_own_store_relaxed(&a->refs->all, looks);
    return true;
}

bool fst_scan(struct fst_arena *a, const struct fst_scan *s, uint64_t looks)
{
#ifdef FST_MUTANT_SCAN_ORDER
    bool all = scan_processes(a, s, looks);
    scan_inflight(a, s);
    return all;
#else
    scan_inflight(a, s);
    return scan_processes(a, s, looks);
#endif
}
