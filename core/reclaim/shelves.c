#include "reclaim/shelves.h"

#include <string.h>

#include "alloc/group.h"
#include "platform/atomics.h"
#include "platform/futex.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "store/index.h"
#include "store/item.h"
#include "store/store.h"
#include "teardown/end.h"
#include "teardown/release.h"

static bool has_ended(const struct fst_shelves *sh, uint32_t store)
{
    return sh->any && store < FST_MAX_STORES && (sh->ended[store / 64] >> (store % 64) & 1);
}

/* Count a key less in its store. The descriptor may be another store's by now, in which nobody has
 * counted this key. */
static void uncount(struct fst_arena *a, uint32_t id)
{
    uint32_t store = fst_item_at(a, id)->store;
    if (store >= fst_store_top(a))
        return;
    fst_add64(&fst_store_at(a, store)->count, UINT64_MAX);
    fst_store_tell(a, store);
    fst_store_wake(a, store);
}

/* ---- expiry ---- */

static void expire_one(struct fst_thread *t, uint32_t id, uint64_t held, bool *dropped)
{
    struct fst_arena *a = t->arena;
    uint64_t *word = fst_word_of(a, fst_hold_value(held));
    uint32_t entry;
    if (!word || fst_refs_get(a, t, fst_hold_value(held), fst_word_gen(fst_load_acquire(word)), &entry))
        return;
    if (fst_hold_swing(a, id, held, FST_HOLD_FREE, 0))
        uncount(a, id);
    *dropped |= fst_refs_drop(a, entry);
}

void fst_shelves_expire(struct fst_thread *t, bool *dropped)
{
    struct fst_arena *a = t->arena;
    uint64_t next = UINT64_MAX, now = fst_now();
    /* The time is set to "never" before the look, so that whoever puts afterwards makes it early
     * enough. */
    fst_store_relaxed(&a->sb->item_expires_at, UINT64_MAX);
    fst_full_fence();
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++) {
        uint32_t top = fst_item_top(a, class);
        for (uint32_t i = 0; i < top; i++) {
            uint32_t id = fst_item_id(class, i);
            uint64_t held = fst_load_acquire(fst_hold_at(a, id)), expires;
            if (fst_hold_kind(held) != FST_HOLD_HELD || !(expires = fst_load_relaxed(&fst_item_at(a, id)->expires)))
                continue;
            if (expires <= now)
                expire_one(t, id, held, dropped);
            else if (expires < next)
                next = expires;
        }
    }
    fst_shelves_will_expire(a, next);
}

bool fst_shelves_will_expire(struct fst_arena *a, uint64_t at)
{
    uint64_t seen = fst_load_seq_cst(&a->sb->item_expires_at);
    while (at < seen)
        if (fst_cas64(&a->sb->item_expires_at, &seen, at))
            return true;
    return false;
}

bool fst_shelves_owns(struct fst_arena *a)
{
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++)
        for (uint32_t i = 0, top = fst_item_top(a, class); i < top; i++) {
            uint64_t held = fst_load_relaxed(fst_hold_at(a, fst_item_id(class, i)));
            if (fst_hold_kind(held) == FST_HOLD_OWNED && fst_hold_value(held) == fst_lock_own_word(a))
                return true;
        }
    return false;
}

/* ---- condemning ---- */

/* Let go of what dead processes had claimed, and of objects that have ended. `ended_now`: only of
 * objects that this scan looks for: nobody has died, and what ended earlier is let go of. */
static void clear_holds(struct fst_arena *a, const struct fst_scan *ended_now)
{
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++) {
        uint32_t top = fst_item_top(a, class);
        for (uint32_t i = 0; i < top; i++) {
            uint32_t id = fst_item_id(class, i);
            uint64_t held = fst_load_acquire(fst_hold_at(a, id)), oid = fst_hold_value(held);
            if (ended_now && !fst_scan_has(ended_now, oid))
                continue;
            bool owned = fst_hold_kind(held) == FST_HOLD_OWNED && fst_hold_orphaned(a, held);
#ifdef FST_MUTANT_CLAIMS_STAY
            owned = false;
#endif
            bool ended = fst_hold_kind(held) == FST_HOLD_HELD && fst_word_of(a, oid) && fst_words_of_ended(a, oid);
#ifdef FST_MUTANT_HOLDS_STAY
            ended = false;
#endif
            if ((owned || ended) && fst_hold_swing(a, id, held, FST_HOLD_FREE, 0) && ended)
                uncount(a, id);
        }
    }
}

static bool is_over(struct fst_arena *a, uint32_t store)
{
    const struct fst_store *s = fst_store_at(a, store);
    return fst_state(fst_load_acquire(&s->state)) == FST_STORE_LIVE && fst_store_home_over(a, s->group, s->flags);
}

/* End a store whose group is over, and before it the group that is its own: after a kill in
 * between, the next batch finds the own group destroyed. */
static void end_one(struct fst_arena *a, uint32_t store)
{
    const struct fst_store *s = fst_store_at(a, store);
    uint32_t group;
    uint64_t when = fst_now();
    if (!fst_registry_lock(a))
        return; /* the next batch looks again */
    if (is_over(a, store)) {
        if ((s->flags & FST_STORE_OWNS) && fst_group_find(a, s->group, &group))
            fst_end_group(a, group, FST_GROUP_DESTROYED, when);
        fst_store_end(a, store);
    }
    fst_registry_unlock(a);
}

void fst_shelves_end(struct fst_arena *a)
{
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (is_over(a, i))
            end_one(a, i);
}

static uint64_t condemn_items(struct fst_arena *a, uint32_t store, struct fst_scan *scan)
{
    struct fst_index x;
    uint64_t n = 0;
    if (!fst_index_see(a, fst_store_at(a, store), &x))
        return 0;
    for (uint64_t at = 0; at < x.size; at++) {
        uint32_t id = fst_index_item(a, store, &x, at);
        if (id == FST_NONE)
            continue;
        uint64_t held = fst_load_acquire(fst_hold_at(a, id)), oid = fst_hold_value(held);
        if (fst_hold_kind(held) == FST_HOLD_OWNED)
            fst_hold_swing(a, id, held, FST_HOLD_FREE, 0);
        uint64_t *word = fst_hold_kind(held) == FST_HOLD_HELD && !fst_oid_is_group(oid) ? fst_word_of(a, oid) : NULL;
        uint64_t seen = word ? fst_load_acquire(word) : 0;
        if (!(seen & FST_WORD_ALLOCATED))
            continue;
        fst_words_condemn_one(scan, oid, word, seen);
        n++;
    }
    return n;
}

uint64_t fst_shelves_condemn(struct fst_arena *a, struct fst_shelves *sh, bool ended, bool killed, bool everything,
                             struct fst_scan *scan)
{
    uint32_t top = fst_store_top(a);
    bool revoke = ended || killed || everything;
    uint64_t n = 0;
    sh->any = false;
    if (!top)
        return 0;
    memset(sh->ended, 0, sizeof sh->ended);
    fst_store_relaxed(&a->sb->store_look, 0);
    if (revoke)
        clear_holds(a, killed || everything ? NULL : scan);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_store *s = fst_store_at(a, i);
        uint64_t state = fst_load_acquire(&s->state);
        if (fst_state(state) == FST_STORE_FREE)
            continue;
        /* A process that was killed while it changed the store, or in a batch, has left wrong
         * counts. */
        bool passed = revoke && fst_store_passed(a, i, everything);
        if (fst_state(fst_load_acquire(&s->state)) != FST_STORE_ENDED)
            continue;
        /* Whoever has its lock may be about to put; whoever acquires it later sees that the store
         * has ended. */
        if (!passed && !fst_store_passed(a, i, false)) {
            fst_store_relaxed(&a->sb->store_look, 1);
            continue;
        }
        sh->ended[i / 64] |= 1ull << (i % 64);
        sh->any = true;
        n += condemn_items(a, i, scan);
    }
    return n;
}

/* ---- scanning ---- */

/* A look at an item and at the filter takes as long as two at a process's entries, eight of which
 * share a branch. */
uint64_t fst_shelves_looks(const struct fst_arena *a)
{
    uint64_t looks = 0;
    for (uint32_t class = 0; class < FST_ITEM_CLASSES && fst_store_top(a); class ++)
        looks += 2 * (uint64_t)fst_item_top(a, class);
    return looks;
}

void fst_shelves_scan(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_scan *scan)
{
    if (!fst_store_top(a))
        return;
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++) {
        uint32_t top = fst_item_top(a, class);
        for (uint32_t i = 0; i < top; i++) {
            uint32_t id = fst_item_id(class, i);
            uint64_t held = fst_load_acquire(fst_hold_at(a, id));
            if (fst_hold_kind(held) != FST_HOLD_HELD || !fst_scan_has(scan, fst_hold_value(held)))
                continue;
            if (!has_ended(sh, fst_item_at(a, id)->store) && fst_word_of(a, fst_hold_value(held)))
                fst_scan_keep(a, scan, fst_hold_value(held));
        }
    }
}

/* ---- releasing ---- */

static void release_items(struct fst_thread *t, uint32_t store, const struct fst_scan *scan, struct fst_released *r)
{
    struct fst_arena *a = t->arena;
    struct fst_index x;
    if (!fst_index_see(a, fst_store_at(a, store), &x))
        return;
    for (uint64_t at = 0; at < x.size; at++) {
        uint32_t id = fst_index_item(a, store, &x, at);
        if (id == FST_NONE)
            continue;
        uint64_t held = fst_load_acquire(fst_hold_at(a, id)), oid = fst_hold_value(held), bytes;
        if (fst_hold_kind(held) != FST_HOLD_HELD)
            continue;
        uint64_t *word = fst_word_of(a, oid);
        if (word && fst_words_release_one(a, scan, oid, word, fst_load_acquire(word), &bytes)) {
            r->objects++;
            r->bytes += bytes;
            r->more |= fst_release_after_free(t, oid);
        }
        /* This comes last: after a kill before it, the next batch condemns once more, in vain. */
        fst_hold_swing(a, id, held, FST_HOLD_FREE, 0);
    }
}

void fst_shelves_finish(struct fst_thread *t, const struct fst_shelves *sh, const struct fst_scan *scan, struct fst_released *r)
{
    struct fst_arena *a = t->arena;
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top && sh->any; i++) {
        struct fst_store *s = fst_store_at(a, i);
        if (!has_ended(sh, i))
            continue;
        release_items(t, i, scan, r);
        if (!fst_registry_lock(a)) {
            fst_store_relaxed(&a->sb->store_look, 1);
            continue;
        }
        fst_store_relaxed(&s->index, 0);
        fst_store_relaxed(&s->next, 0);
        fst_store_release(&s->state, fst_state_moved(s->state, FST_STORE_FREE));
        fst_registry_unlock(a);
    }
}
