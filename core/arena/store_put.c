/* store_put.c - changing a store: put, remove, make, evict. Whoever does so holds the store's lock;
 * what it needs for that from elsewhere (a reference to the old object, memory) it gets before. The
 * model is models/store.pml.
 */
#include "arena/store.h"

#include "alloc/child.h"
#include "arena/handle.h"
#include "platform/futex.h"
#include "reclaim/shelves.h"
#include "refs/claim.h"

/* What has to be done without the lock before a change is tried again. */
struct need {
    uint64_t slots; /* slots of indexes that have to be committed; 0: none */
    uint32_t items; /* the class that needs more items; FST_NONE: none does */
};

static int meet(struct fst_store_use *u, const struct need *n)
{
    int rc = FST_OK;
    if (n->items != FST_NONE)
        rc = fst_item_grow(u->a, n->items);
    if (rc == FST_OK && n->slots)
        rc = fst_index_commit(u->a, n->slots);
    return fst_verdict(u->a, rc);
}

static int lock(struct fst_store_use *u)
{
    if (!fst_store_lock(u->a, u->store))
        return fst_lock_held(u->a);
    if (fst_use_live(u) && !fst_is_damaged(u->a))
        return FST_OK;
    fst_store_unlock(u->a, u->store);
    return fst_verdict(u->a, fst_use_ended());
}

static void count(struct fst_store_use *u, int more)
{
    fst_add64(&u->s->count, (uint64_t)(int64_t)more);
}

/* ---- under the store's lock ---- */

/* Make an item for the key, OWNED by this process. FST_WAIT: meet the need, and try again. */
static int add_item(struct fst_store_use *u, const struct fst_hashed_key *k, struct fst_found *f, struct need *n)
{
    if (!fst_index_see(u->a, u->s, &f->x))
        return fst_damage(u->a);
    if (!f->x.size || !fst_index_roomy(u->s, &f->x)) {
        int rc = fst_index_grow(u->a, u->store, &n->slots);
        if (rc)
            return rc;
        n->slots = 0;
        if (!fst_index_see(u->a, u->s, &f->x))
            return fst_damage(u->a);
    }
    f->id = fst_item_claim(u->a, u->store, k, &f->hold);
    if (f->id == FST_NONE) {
        n->items = fst_item_class_of(k->nbytes);
        return FST_WAIT;
    }
    fst_index_add(u->s, &f->x, k->hash, f->id);
    return FST_OK;
}

/* May the store go on to hold the object? The object's child is looked at after the hold names the
 * object; if the answer is no, the hold is FREE again. FST_BUSY: destroy() of its cache is looking
 * for users. PAIR(cache-ending) */
static int after_put(struct fst_store_use *u, const struct fst_found *f, uint64_t held, uint64_t oid)
{
    enum fst_child_state child = fst_found_child(u->a, oid);
    if (child != FST_CHILD_ENDED && child != FST_CHILD_ENDING)
        return FST_OK;
    if (fst_hold_swing(u->a, f->id, held, FST_HOLD_FREE, 0))
        count(u, -1);
    return child == FST_CHILD_ENDING ? FST_BUSY : fst_fail(FST_STALE, "the object's group or cache was destroyed");
}

/* Have the item hold this value from now on. FST_WAIT: its hold has changed. */
static int hold(struct fst_store_use *u, const struct fst_found *f, const struct fst_value *v, uint64_t *version)
{
    struct fst_item *item = fst_item_at(u->a, f->id);
    uint64_t oid = v->ref->oid, held = fst_hold_next(f->hold, FST_HOLD_HELD, oid), now = v->ttl ? fst_now() : 0;
    bool had = fst_hold_kind(f->hold) == FST_HOLD_HELD;
    *version = fst_load_relaxed(&u->s->version) + 1;
    fst_store_relaxed(&item->versions[fst_hold_parity(held)], *version << 8 | (uint8_t)v->kind);
    fst_store_relaxed(&item->expires, !v->ttl ? 0 : v->ttl < UINT64_MAX - now ? now + v->ttl : UINT64_MAX);
    if (!fst_hold_swing(u->a, f->id, f->hold, FST_HOLD_HELD, oid))
        return FST_WAIT;
    if (!had)
        count(u, 1);
    if (v->ttl && fst_shelves_will_expire(u->a, fst_load_relaxed(&item->expires)))
        fst_reaper_expect(u->a);
    int rc = after_put(u, f, held, oid);
    fst_store_tell(u->a, u->store);
    return rc;
}

/* Put under the store's lock. `before`: what was found without the lock; if that was a value, the
 * caller has a reference to it. FST_WAIT: it has changed, or there is a need. */
static int put_locked(struct fst_store_use *u, const struct fst_hashed_key *k, const struct fst_value *v, uint64_t if_version,
                      const struct fst_found *before, struct need *n, uint64_t *version)
{
    struct fst_found f;
    fst_store_look(u, k, &f);
    uint64_t is = fst_found_value(u, &f) ? fst_found_version(u, &f) >> 8 : FST_NO_VERSION;
    if (fst_hold_kind(f.hold) == FST_HOLD_HELD && (f.id != before->id || f.hold != before->hold))
        return FST_WAIT;
    if (if_version != FST_ANY_VERSION && if_version != is)
        return fst_fail(FST_MISMATCH, is ? "the key's value is another one by now: version %llu" : "the key has no value",
                        (unsigned long long)is);
    if (f.id == FST_NONE) {
        int rc = add_item(u, k, &f, n);
        if (rc)
            return rc;
    }
    return hold(u, &f, v, version);
}

/* Prepare the object for other processes, which may take it from the store. */
static int prepare(struct fst_store_use *u, const struct fst_value *v)
{
    struct fst_arena *a = u->a;
    uint64_t oid = v->ref->oid, *word = fst_word_of(a, oid);
    if (!word) {
        fst_damaged(a, "object %llx is in use, and there is no such object", (unsigned long long)oid);
        return fst_damage(a);
    }
    fst_object_note_shared(a, oid);
#ifndef FST_MUTANT_STORE_UNSHARED
    fst_word_set(word, FST_WORD_SHARED);
#endif
    fst_refs_index(a, v->ref->entry);
    return fst_found_child(a, oid) == FST_CHILD_ENDED ? fst_fail(FST_STALE, "the object's group or cache was destroyed") : FST_OK;
}

/* After an attempt: wait for what is in its way, and meet the need. True: try again. */
static bool again(struct fst_store_use *u, const struct need *n, uint64_t oid, int *rc)
{
    if (*rc == FST_BUSY && (*rc = fst_object_resumed(u->a, oid)) == FST_OK)
        *rc = FST_WAIT;
    if (*rc != FST_WAIT)
        return false;
    *rc = meet(u, n);
    return *rc == FST_OK;
}

int fst_store_put(fst_store_use *u, const struct fst_key *key, const struct fst_value *v, uint64_t if_version, uint64_t *version)
{
    struct fst_thread *t = NULL;
    struct fst_hashed_key k;
    int rc = fst_use_writes(u, &t);
    if (rc || (rc = fst_use_hash(u, key, &k)) != FST_OK || (rc = prepare(u, v)) != FST_OK)
        return rc;
    struct need n;
    do {
        struct fst_found f;
        uint32_t old = FST_NONE;
        n = (struct need){.items = FST_NONE};
        fst_store_look(u, &k, &f);
#ifndef FST_MUTANT_REPLACE_UNASKED
        if (fst_hold_kind(f.hold) == FST_HOLD_HELD && (rc = fst_found_refer(u, t, &f, &old)) != FST_OK)
            return rc;
#endif
        if ((rc = lock(u)) == FST_OK) {
            rc = put_locked(u, &k, v, if_version, &f, &n, version);
            fst_store_unlock(u->a, u->store);
        }
        if (old != FST_NONE)
            fst_found_let_go(u->a, old);
    } while (again(u, &n, v->ref->oid, &rc));
    fst_store_wake(u->a, u->store); /* also where the object had ended: then the key is gone */
    return fst_verdict(u->a, rc);
}

/* Have the item hold nothing, and remove its slot. `before` is as in put_locked. */
static int remove_locked(struct fst_store_use *u, const struct fst_hashed_key *k, const struct fst_found *before,
                         uint64_t if_version)
{
    struct fst_found f;
    fst_store_look(u, k, &f);
    if (fst_hold_kind(f.hold) != FST_HOLD_HELD)
        return fst_use_missing();
    if (f.id != before->id || f.hold != before->hold)
        return FST_WAIT;
    bool value = fst_found_value(u, &f);
    if (value && if_version != FST_ANY_VERSION && if_version != fst_found_version(u, &f) >> 8)
        return fst_fail(FST_MISMATCH, "the key's value is another one by now: version %llu",
                        (unsigned long long)(fst_found_version(u, &f) >> 8));
    if (!fst_hold_swing(u->a, f.id, f.hold, FST_HOLD_FREE, 0))
        return FST_WAIT;
    fst_index_remove(u->s, &f.x, f.at);
    count(u, -1);
    fst_store_tell(u->a, u->store);
    return value ? FST_OK : fst_use_missing();
}

static int remove_key(struct fst_store_use *u, struct fst_thread *t, const struct fst_hashed_key *k, uint64_t if_version)
{
    struct need n = {.items = FST_NONE};
    int rc;
    do {
        struct fst_found f;
        uint32_t old;
        if (!fst_store_look(u, k, &f) || fst_hold_kind(f.hold) != FST_HOLD_HELD)
            return fst_verdict(u->a, fst_use_missing());
        if ((rc = fst_found_refer(u, t, &f, &old)) != FST_OK)
            return rc;
        if ((rc = lock(u)) == FST_OK) {
            rc = remove_locked(u, k, &f, if_version);
            fst_store_unlock(u->a, u->store);
        }
        fst_found_let_go(u->a, old);
    } while (again(u, &n, 0, &rc));
    fst_store_wake(u->a, u->store);
    return fst_verdict(u->a, rc);
}

int fst_store_remove(fst_store_use *u, const struct fst_key *key, uint64_t if_version)
{
    struct fst_thread *t = NULL;
    struct fst_hashed_key k;
    int rc = fst_use_writes(u, &t);
    return rc || (rc = fst_use_hash(u, key, &k)) != FST_OK ? rc : remove_key(u, t, &k, if_version);
}

/* ---- making ---- */

static int claim_locked(struct fst_store_use *u, const struct fst_hashed_key *k, struct need *n, struct fst_found *f)
{
    fst_store_look(u, k, f);
    if (f->id == FST_NONE)
        return add_item(u, k, f, n);
    if (fst_hold_kind(f->hold) == FST_HOLD_HELD || !fst_hold_orphaned(u->a, f->hold))
        return FST_WAIT;
    uint64_t own = fst_lock_own_word(u->a);
    if (!fst_hold_swing(u->a, f->id, f->hold, FST_HOLD_OWNED, own))
        return FST_WAIT;
    f->hold = fst_hold_next(f->hold, FST_HOLD_OWNED, own);
    return FST_OK;
}

int fst_store_claim(fst_store_use *u, const struct fst_key *key, struct fst_store_claim *out)
{
    struct fst_thread *t = NULL;
    struct fst_hashed_key k;
    struct need n;
    int rc = fst_use_writes(u, &t);
    if (rc || (rc = fst_use_hash(u, key, &k)) != FST_OK)
        return rc;
    do {
        struct fst_found f;
        n = (struct need){.items = FST_NONE};
        if (fst_store_look(u, &k, &f)) {
            if (fst_found_value(u, &f) && fst_found_child(u->a, fst_hold_value(f.hold)) != FST_CHILD_ENDED)
                return FST_EXISTS;
            if (fst_hold_kind(f.hold) == FST_HOLD_OWNED && !fst_hold_orphaned(u->a, f.hold))
                return fst_verdict(u->a, FST_WAIT);
            if (fst_hold_kind(f.hold) == FST_HOLD_HELD) {
                rc = remove_key(u, t, &k, fst_found_version(u, &f) >> 8);
                if (rc && rc != FST_MISSING && rc != FST_MISMATCH)
                    return rc;
            }
        }
        if ((rc = lock(u)) == FST_OK) {
            rc = claim_locked(u, &k, &n, &f);
            fst_store_unlock(u->a, u->store);
        }
        if (rc == FST_OK)
            *out = (struct fst_store_claim){.item = f.id, .hold = f.hold};
    } while (again(u, &n, 0, &rc));
    return fst_verdict(u->a, rc);
}

/* Does the claim belong to this process, and not to the one from which it was forked? */
static bool own_claim(const fst_store_use *u, const struct fst_store_claim *claim)
{
    return u->a->usable && fst_hold_value(claim->hold) == fst_lock_own_word(u->a);
}

int fst_store_publish(fst_store_use *u, const struct fst_store_claim *claim, const struct fst_value *v, uint64_t *version)
{
    struct fst_thread *t = NULL;
    struct fst_found f = {.id = claim->item, .hold = claim->hold};
    int rc = fst_use_writes(u, &t);
    if (rc == FST_OK && !own_claim(u, claim))
        rc = fst_fail(FST_STALE, "the key is made by the process that this one was forked from");
    if (rc || (rc = prepare(u, v)) != FST_OK || (rc = lock(u)) != FST_OK)
        return rc;
    rc = fst_found_same(u, &f) ? hold(u, &f, v, version) : FST_WAIT;
    fst_store_unlock(u->a, u->store);
    fst_store_wake(u->a, u->store);
    if (rc == FST_WAIT || rc == FST_BUSY)
        rc = fst_fail(FST_STALE, "the key was given another value meanwhile");
    return fst_verdict(u->a, rc);
}

void fst_store_give_up(fst_store_use *u, const struct fst_store_claim *claim)
{
    struct fst_thread *t = NULL;
    /* The item's slot stays, and leads to an item that nobody owns, until the index is moved. */
    if (fst_use_reads(u, &t) == FST_OK && own_claim(u, claim) && !fst_is_damaged(u->a) && fst_item_ok(u->a, claim->item) &&
        fst_hold_swing(u->a, claim->item, claim->hold, FST_HOLD_FREE, 0)) {
        fst_store_tell(u->a, u->store);
        fst_store_wake(u->a, u->store);
    }
}

/* ---- eviction ---- */

/* Find an item that was not looked up since the hand passed it, or that has expired. */
static bool find_victim(struct fst_store_use *u, struct fst_found *f)
{
    if (!fst_index_see(u->a, u->s, &f->x))
        return false;
    for (uint64_t i = 0; i < 2 * f->x.size; i++) {
        f->at = fst_load_relaxed(&u->s->hand) & (f->x.size - 1);
        fst_store_relaxed(&u->s->hand, f->at + 1);
        f->id = fst_index_item(u->a, u->store, &f->x, f->at);
        if (f->id == FST_NONE)
            continue;
        struct fst_item *item = fst_item_at(u->a, f->id);
        f->hold = fst_load_acquire(fst_hold_at(u->a, f->id));
        if (fst_hold_kind(f->hold) != FST_HOLD_HELD || item->store != u->store)
            continue;
        if (!fst_load_relaxed(&item->used) || fst_item_expired(item))
            return true;
        fst_store_relaxed(&item->used, 0);
    }
    return false;
}

int fst_store_evict(fst_store_use *u, uint64_t *bytes)
{
    struct fst_thread *t = NULL;
    struct fst_found f;
    uint32_t old;
    int rc = fst_use_writes(u, &t);
    while (rc == FST_OK) {
        if (!find_victim(u, &f))
            return fst_verdict(u->a, fst_use_missing());
        if ((rc = fst_found_refer(u, t, &f, &old)) != FST_OK)
            return rc;
        *bytes = fst_object_bytes(u->a, fst_hold_value(f.hold));
        if ((rc = lock(u)) != FST_OK) {
            fst_found_let_go(u->a, old);
            return rc;
        }
        bool got = fst_item_at(u->a, f.id)->store == u->store && fst_hold_swing(u->a, f.id, f.hold, FST_HOLD_FREE, 0);
        if (got) {
            if (u->s->index == f.x.word && fst_index_item(u->a, u->store, &f.x, f.at) == f.id)
                fst_index_remove(u->s, &f.x, f.at);
            count(u, -1);
            fst_store_tell(u->a, u->store);
        }
        fst_store_unlock(u->a, u->store);
        fst_found_let_go(u->a, old);
        fst_store_wake(u->a, u->store);
        if (got)
            return FST_OK;
    }
    return rc;
}
