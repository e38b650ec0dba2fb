/* store.h - what the two halves of stores share: looking up (arena/store.c), and changing
 * (arena/store_put.c).
 */
#ifndef FST_ARENA_STORE_H
#define FST_ARENA_STORE_H

#include "platform/error.h"
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "refs/reftable.h"
#include "store/index.h"
#include "store/item.h"
#include "store/store.h"

struct fst_store_use {
    struct fst_arena *a;
    struct fst_store *s;
    uint32_t store; /* index of the descriptor */
    uint64_t id;
};

/* ---- what all calls begin with ---- */

static inline int fst_use_ended(void)
{
    return fst_fail(FST_CLOSED, "the store has ended: it was destroyed, or its group has ended");
}

static inline bool fst_use_live(const struct fst_store_use *u)
{
    uint64_t state = fst_load_acquire(&u->s->state);
    return __builtin_expect(fst_state(state) == FST_STORE_LIVE && fst_id_is(u->id, state), 1);
}

static inline int fst_use_reads(const struct fst_store_use *u, struct fst_thread **t)
{
    *t = fst_thread_get(u->a);
    if (__builtin_expect(!*t, 0))
        return fst_thread_refused(u->a);
    return fst_use_live(u) ? FST_OK : fst_use_ended();
}

static inline int fst_use_writes(const struct fst_store_use *u, struct fst_thread **t)
{
    if (u->a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only");
    return fst_use_reads(u, t);
}

static inline int fst_use_missing(void)
{
    return fst_fail(FST_MISSING, "there is no such key");
}

static inline int fst_use_hash(const struct fst_store_use *u, const struct fst_key *key, struct fst_hashed_key *out)
{
    if (__builtin_expect(key->nbytes > FST_KEY_MOST, 0))
        return fst_fail(FST_INVALID, "a key has at most %u bytes, not %u", FST_KEY_MOST, key->nbytes);
    *out = (struct fst_hashed_key){.bytes = key->bytes,
                                   .nbytes = key->nbytes,
                                   .kind = key->kind,
                                   .hash = fst_item_hash(u->a, key->bytes, key->nbytes, key->kind)};
    return FST_OK;
}

/* ---- looking up ---- */

/* What was found of a key: the item's id, or FST_NONE; the word of its hold; the slot that led to
 * it; and the index in which that was. */
struct fst_found {
    uint32_t id;
    uint64_t hold, at;
    struct fst_index x;
};

/* Look for the key. True: *f says what it holds, or that it is being made. False: it holds
 * nothing. */
bool fst_store_look(const struct fst_store_use *u, const struct fst_hashed_key *key, struct fst_found *f);

static inline bool fst_found_value(const struct fst_store_use *u, const struct fst_found *f)
{
    return f->id != FST_NONE && fst_hold_kind(f->hold) == FST_HOLD_HELD && !fst_item_expired(fst_item_at(u->a, f->id));
}

static inline uint64_t fst_found_version(const struct fst_store_use *u, const struct fst_found *f)
{
    return fst_load_relaxed(&fst_item_at(u->a, f->id)->versions[fst_hold_parity(f->hold)]);
}

static inline enum fst_child_state fst_found_child(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) ? (enum fst_child_state)fst_state(fst_load_seq_cst(&fst_child_at(a, child)->state))
                                  : FST_CHILD_FREE;
}

/* Is the hold still the word that was found? */
static inline bool fst_found_same(const struct fst_store_use *u, const struct fst_found *f)
{
#ifdef FST_MUTANT_HOLD_BLIND
    return true;
#endif
    return fst_load_seq_cst(fst_hold_at(u->a, f->id)) == f->hold;
}

static inline void fst_found_let_go(struct fst_arena *a, uint32_t entry)
{
    if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
}

/* Make a reference to the object that the hold named, whether or not it still does. FST_FULL,
 * FST_CORRUPTED. */
static inline int fst_found_refer(const struct fst_store_use *u, struct fst_thread *t, const struct fst_found *f, uint32_t *entry)
{
    uint64_t oid = fst_hold_value(f->hold), *word = fst_oid_is_group(oid) ? NULL : fst_word_of(u->a, oid);
    if (!word) {
        fst_damaged(u->a, "item %x of a store holds object %llx, and there is no such object", f->id, (unsigned long long)oid);
        return fst_damage(u->a);
    }
    return fst_refs_get(u->a, t, oid, fst_word_gen(fst_load_acquire(word)), entry);
}

#endif
