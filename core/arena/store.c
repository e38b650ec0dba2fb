/* store.c - stores as programs see them: open, look up, wait, list, end. The model is
 * models/store.pml. */
#include "arena/store.h"

#include <stdlib.h>
#include <string.h>

#include "alloc/group.h"
#include "arena/handle.h"
#include "arena/ready.h"
#include "channel/wait.h"

/* ---- opening ---- */

static int check_spec(const struct fst_store_spec *s)
{
    if (!s->name || !s->name[0] || strnlen(s->name, FST_NAME_MAX) >= FST_NAME_MAX)
        return fst_fail(FST_INVALID, "a store's name has 1 to %d bytes", FST_NAME_MAX - 1);
    return FST_OK;
}

/* Fill the descriptor in; its state is written last. Under names_lock. */
static void publish(struct fst_arena *a, uint32_t index, uint32_t group, const struct fst_store_spec *spec)
{
    struct fst_store *s = fst_store_at(a, index);
    fst_store_at_home(a, group, spec->flags);
    fst_store_relaxed(&s->index, 0);
    fst_store_relaxed(&s->next, 0);
    fst_store_relaxed(&s->group, spec->group);
    fst_store_relaxed(&s->flags, spec->flags & (FST_STORE_EVICTS | FST_STORE_OWNS));
    fst_store_relaxed(&s->count, 0);
    fst_store_relaxed(&s->filled, 0);
    memset(s->name, 0, sizeof s->name);
    memcpy(s->name, spec->name, strlen(spec->name));
    fst_store_release(&s->state, fst_state_next(s->state, FST_STORE_LIVE));
}

static int use_it(struct fst_arena *a, uint64_t id, fst_store_use **out)
{
    struct fst_store_use *u = calloc(1, sizeof *u);
    if (!u)
        return fst_fail(FST_FULL, "out of memory");
    u->a = a;
    u->store = (uint32_t)id;
    u->s = fst_store_at(a, u->store);
    u->id = id;
    fst_reaper_watch(a);
    *out = u;
    return FST_OK;
}

/* Is this a store that a batch will end, because its group is over? Whoever begins anew must not be
 * given the store of those who are gone. A store with a group of its own is left to the batch,
 * which ends that group, too. */
static bool left_over(struct fst_arena *a, const struct fst_store *s)
{
    return !(s->flags & FST_STORE_OWNS) && fst_store_home_over(a, s->group, s->flags);
}

/* Look once under names_lock: *id is that of the store that is there, which may have ended, and its
 * descriptor be another store's, as soon as the lock was given back. FST_WAIT: commit more, and try
 * again. */
static int find_or_publish(struct fst_arena *a, const struct fst_store_spec *spec, enum fst_create how, uint64_t *id, bool *created)
{
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    int rc = FST_OK;
    uint32_t group, index = fst_store_find(a, spec->name);
    if (index != FST_NONE && !a->readonly && left_over(a, fst_store_at(a, index))) {
        fst_store_end(a, index);
        index = FST_NONE;
    }
    *created = index == FST_NONE;
    if (*created) {
        if (how == FST_OPEN_EXISTING)
            rc = fst_fail(FST_MISSING, "there is no store %s in arena %s", spec->name, fst_arena_called(a));
        else if (a->readonly)
            rc = fst_is_readonly(a);
        else if (!fst_group_find(a, spec->group, &group) || fst_state(fst_group_at(a, group)->state) != FST_GROUP_LIVE ||
                 fst_store_home_over(a, spec->group, spec->flags))
            rc = fst_fail(FST_CLOSED, "the group of the store, in arena %s, has ended", fst_arena_called(a));
        else if ((index = fst_store_new(a)) == FST_NONE)
            rc = FST_WAIT;
        else
            publish(a, index, group, spec);
    } else if (how == FST_CREATE_NEW) {
        rc = fst_fail(FST_EXISTS, "store %s of arena %s exists already", spec->name, fst_arena_called(a));
    }
    if (rc == FST_OK)
        *id = fst_id(index, fst_store_at(a, index)->state);
    fst_registry_unlock(a);
    return rc;
}

int fst_store_open(fst_arena *a, const struct fst_store_spec *spec, enum fst_create how, fst_store_use **out, bool *created)
{
    uint64_t id = 0;
    int rc = !fst_thread_get(a) || fst_is_damaged(a) ? fst_thread_refused(a) : check_spec(spec);
    while (rc == FST_OK && (rc = find_or_publish(a, spec, how, &id, created)) == FST_WAIT)
        rc = fst_store_grow(a);
    return fst_verdict(a, rc ? rc : use_it(a, id, out));
}

void fst_store_leave(fst_store_use *u)
{
    free(u);
}

bool fst_store_hold_group(fst_store_use *u, uint64_t *group)
{
    struct fst_thread *t = fst_thread_get(u->a);
    uint32_t entry;
    *group = t && fst_use_live(u) ? fst_store_home(u->a, u->store) : 0;
    return *group && *group != fst_group_root(u->a) && fst_group_claim(t, *group, &entry) == FST_OK;
}

uint64_t fst_store_id(const fst_store_use *u)
{
    return u->id;
}

/* ---- looking up ---- */

/* The hold as it was while the item was this key's; FREE: it is not this key's. */
static inline uint64_t hold_of(const struct fst_store_use *u, uint32_t id, const struct fst_hashed_key *key)
{
    const uint64_t *at = fst_hold_at(u->a, id);
    for (;;) {
        uint64_t seen = fst_load_acquire(at);
        if (fst_hold_kind(seen) == FST_HOLD_FREE || !fst_item_is(fst_item_at(u->a, id), u->store, key))
            return FST_HOLD_FREE;
        /* What was read of the item counts if the hold has not changed meanwhile. */
        fst_acquire_fence();
        if (__builtin_expect(fst_load_relaxed(at) == seen, 1))
            return seen;
    }
}

bool fst_store_look(const struct fst_store_use *u, const struct fst_hashed_key *key, struct fst_found *f)
{
    do {
        struct fst_search search = {.hash = key->hash};
        if (!fst_index_see(u->a, u->s, &f->x))
            break;
        while ((f->id = fst_index_next(&f->x, &search)) != FST_NONE) {
            if (!fst_item_ok(u->a, f->id))
                continue;
            f->hold = hold_of(u, f->id, key);
            f->at = search.at;
            if (fst_hold_kind(f->hold) != FST_HOLD_FREE)
                return true;
        }
    } while (fst_load_acquire(&u->s->index) != f->x.word); /* the index was moved meanwhile */
    f->id = FST_NONE;
    f->hold = FST_HOLD_FREE;
    return false;
}

int fst_store_get(fst_store_use *u, const struct fst_key *key, struct fst_ref *ref, struct fst_looked_up *out)
{
    struct fst_thread *t = NULL;
    struct fst_hashed_key k;
    struct fst_found f;
    uint32_t entry;
    int rc = fst_use_reads(u, &t);
    if (__builtin_expect(rc != FST_OK, 0) || (rc = fst_use_hash(u, key, &k)) != FST_OK)
        return rc;
    for (;;) {
        if (!fst_store_look(u, &k, &f) || !fst_found_value(u, &f))
            return fst_verdict(u->a, fst_use_missing());
        struct fst_item *item = fst_item_at(u->a, f.id);
        uint64_t version = fst_found_version(u, &f), oid = fst_hold_value(f.hold);
        if (__builtin_expect((rc = fst_found_refer(u, t, &f, &entry)) != FST_OK, 0))
            return rc;
        if (__builtin_expect(!fst_found_same(u, &f), 0)) {
            fst_found_let_go(u->a, entry);
            continue;
        }
        rc = fst_found_child(u->a, oid) == FST_CHILD_ENDED ? fst_use_missing() : fst_object_fill(u->a, oid, entry, ref);
        if (__builtin_expect(rc != FST_OK, 0)) {
            fst_found_let_go(u->a, entry);
            return fst_verdict(u->a, rc);
        }
        out->kind = (uint8_t)version;
        out->version = version >> 8;
        if (!fst_load_relaxed(&item->used))
            fst_store_relaxed(&item->used, 1);
        return FST_OK;
    }
}

int fst_store_key_version(fst_store_use *u, const struct fst_key *key, uint64_t *version)
{
    struct fst_thread *t = NULL;
    struct fst_hashed_key k;
    struct fst_found f;
    int rc = fst_use_reads(u, &t);
    if (rc || (rc = fst_use_hash(u, key, &k)) != FST_OK)
        return rc;
    do {
        if (!fst_store_look(u, &k, &f) || !fst_found_value(u, &f) ||
            fst_found_child(u->a, fst_hold_value(f.hold)) == FST_CHILD_ENDED)
            return fst_verdict(u->a, fst_use_missing());
        *version = fst_found_version(u, &f) >> 8;
        fst_acquire_fence();
    } while (!fst_found_same(u, &f));
    return FST_OK;
}

/* ---- waiting, ending, looking ---- */

int fst_store_version(const fst_store_use *u, uint64_t *version)
{
    *version = fst_load_acquire(&u->s->version);
    return fst_use_live(u) ? FST_OK : fst_use_ended();
}

int fst_store_length(const fst_store_use *u, uint64_t *length)
{
    *length = fst_load_relaxed(&u->s->count);
    return fst_use_live(u) ? FST_OK : fst_use_ended();
}

uint32_t fst_store_say_asleep(const fst_store_use *u)
{
    uint32_t mine;
    while (!fst_ring_say_asleep(&u->s->sleepers, &mine)) {
    }
    return mine;
}

bool fst_store_changed(const fst_store_use *u, uint64_t version)
{
    if (!u->a->usable || fst_is_damaged(u->a) || !fst_use_live(u))
        return true;
    return fst_load_acquire(&u->s->version) != version;
}

bool fst_store_wait(fst_store_use *u, uint64_t version, uint64_t timeout)
{
    struct fst_store *s = u->s;
    if (!u->a->usable || fst_is_damaged(u->a) || !fst_use_live(u))
        return true; /* the call that follows says what is wrong */
    fst_reaper_watch(u->a);
    uint32_t mine = fst_store_say_asleep(u); /* before the store is looked at */
    uint32_t *word = &s->sleepers;
#ifdef FST_MUTANT_STORE_SLEEPS_APART
    word = (uint32_t *)(void *)&s->version;
    mine = (uint32_t)version;
#endif
    if (fst_load_seq_cst(&s->version) == version && fst_use_live(u))
        fst_ring_await(word, mine, timeout);
    return fst_store_changed(u, version);
}

int fst_store_next(fst_store_use *u, uint64_t *position, struct fst_listed_key *out)
{
    struct fst_thread *t = NULL;
    struct fst_index x;
    int rc = fst_use_reads(u, &t);
    if (rc)
        return rc;
    if (!fst_index_see(u->a, u->s, &x))
        return fst_damage(u->a);
    uint64_t moved = x.word >> FST_INDEX_MOVED_SHIFT, at = (uint32_t)*position;
    if (*position && *position >> FST_INDEX_MOVED_SHIFT != moved)
        return FST_STALE;
    for (; at < x.size; at++) {
        uint32_t id = fst_index_item(u->a, u->store, &x, at);
        if (id == FST_NONE)
            continue;
        struct fst_item *item = fst_item_at(u->a, id);
        struct fst_found f = {.id = id, .hold = fst_load_acquire(fst_hold_at(u->a, id))};
        if (fst_hold_kind(f.hold) != FST_HOLD_HELD || item->store != u->store || fst_item_expired(item) ||
            sizeof *item + item->key_bytes > fst_item_class_bytes[fst_item_class(id)])
            continue;
        out->nbytes = item->key_bytes;
        out->kind = item->key_kind;
        memcpy(out->bytes, fst_item_key(item), out->nbytes);
        out->version = fst_found_version(u, &f) >> 8;
        out->value_kind = (uint8_t)fst_found_version(u, &f);
        out->size = fst_object_bytes(u->a, fst_hold_value(f.hold));
        bool ends = fst_found_child(u->a, fst_hold_value(f.hold)) == FST_CHILD_ENDED;
        fst_acquire_fence();
        if (!fst_found_same(u, &f)) {
            at--; /* look again */
            continue;
        }
        if (ends)
            continue;
        *position = (at + 1) | moved << FST_INDEX_MOVED_SHIFT;
        return fst_verdict(u->a, FST_OK);
    }
    return fst_verdict(u->a, fst_load_acquire(&u->s->index) == x.word ? FST_MISSING : FST_STALE);
}

int fst_store_destroy(fst_store_use *u)
{
    struct fst_arena *a = u->a;
    uint32_t index;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_is_readonly(a);
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    if (fst_store_known(a, u->id, &index))
        fst_store_end(a, index);
    fst_registry_unlock(a);
    fst_reaper_ended(a);
    return fst_verdict(a, FST_OK);
}

static int is_gone(struct fst_arena *a)
{
    return fst_fail(FST_CLOSED, "a store of arena %s is gone", fst_arena_called(a));
}

int fst_store_get_info(fst_arena *a, uint64_t store, struct fst_store_info *out)
{
    uint32_t index;
    struct fst_index x;
    memset(out, 0, sizeof *out);
    if (!fst_store_known(a, store, &index))
        return is_gone(a);
    const struct fst_store *s = fst_store_at(a, index);
    out->id = store;
    out->group = s->group;
    memcpy(out->name, s->name, sizeof out->name - 1);
    out->state = fst_state(fst_load_acquire(&s->state));
    out->flags = s->flags;
    out->keys = fst_load_relaxed(&s->count);
    out->version = fst_load_relaxed(&s->version);
    if (!fst_index_see(a, s, &x))
        return fst_damage(a);
    out->slots = x.size;
    for (uint64_t at = 0; at < x.size; at++) {
        uint32_t id = fst_index_item(a, index, &x, at);
        uint64_t held = id != FST_NONE ? fst_load_acquire(fst_hold_at(a, id)) : 0;
        if (fst_hold_kind(held) == FST_HOLD_HELD)
            out->bytes += fst_object_bytes(a, fst_hold_value(held));
    }
    fst_acquire_fence(); /* does all that was read belong to this life? */
    return fst_store_known(a, store, &index) ? fst_verdict(a, FST_OK) : is_gone(a);
}

size_t fst_store_list(fst_arena *a, uint64_t *ids, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t state = fst_load_acquire(&fst_store_at(a, i)->state);
        if (fst_state(state) == FST_STORE_FREE)
            continue;
        if (n < max)
            ids[n] = fst_id(i, state);
        n++;
    }
    return n;
}
