/* channel.c - channels, as others see them: open, put, get, end. Messages that refer to an object
 * are handed over as models/handover.pml says.
 *
 * A put that gives its reference away, of an object that nobody else knows: the node refers to it,
 * then CONDEMNED is taken away from its word, should a batch have looked at the node before; then
 * the entry is EMPTY; then the node is put. The taker writes an entry of its own, and takes the
 * node's reference away after it: it has the object as its allocator had, and drops it with a plain
 * store. Other objects are SHARED, and each reference ends as a request to a batch.
 */
#include "channel/channel.h"

#include <stdlib.h>
#include <string.h>

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/group.h"
#include "arena/channel.h"
#include "arena/object.h"
#include "channel/ring.h"
#include "platform/error.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/words.h"

/* ---- opening ---- */

#define FLAGS (FST_CHANNEL_ACK | FST_CHANNEL_LASTING | FST_CHANNEL_KIND)
#define TRIES 10000u /* to catch a channel between its end and the next of its name */

static int check_spec(const struct fst_channel_spec *s)
{
    if (s->name && (!s->name[0] || strnlen(s->name, FST_NAME_MAX) >= FST_NAME_MAX))
        return fst_fail(FST_INVALID, "a channel's name has 1 to %d bytes", FST_NAME_MAX - 1);
    if (s->capacity < 1 || s->capacity > FST_RING_CAPACITY)
        return fst_fail(FST_INVALID, "a channel has room for 1 to %u messages, not %u", FST_RING_CAPACITY, s->capacity);
    if (s->inline_bytes > FST_RING_INLINE_MOST)
        return fst_fail(FST_INVALID, "a message has at most %u bytes in line, not %u", FST_RING_INLINE_MOST, s->inline_bytes);
    return FST_OK;
}

static int make_ring(struct fst_thread *t, const struct fst_channel_spec *s, struct fst_ref *ring)
{
    struct fst_arena *a = t->arena;
    struct fst_cache_spec spec = {
        .name = "channels", .size = a->known.capacity, .align = FST_PAGE, .flags = FST_CACHE_SIZE_CLASS | FST_CACHE_CHANNELS};
    uint64_t cache, child;
    bool retired;
    int rc = fst_cache_find_or_make(a, &spec, &cache, &retired);
    if (rc == FST_OK)
        rc = fst_child_open(a, cache, s->group, &child);
    return rc ? rc : fst_object_alloc_run(t, child, fst_ring_bytes(s->capacity, s->inline_bytes, s->flags), 0, ring);
}

/* Under names_lock. The state is last: killed before it, there is a ring that only its maker refers
 * to. */
static void publish(struct fst_arena *a, uint32_t index, const struct fst_channel_spec *s, const struct fst_ref *ring)
{
    struct fst_channel *c = fst_channel_at(a, index);
    struct fst_ring_view v;
    uint64_t seen = fst_word_set(fst_word_of(a, ring->oid), FST_WORD_SHARED);
    struct fst_handle h = fst_object_handle(a, ring->oid, fst_word_gen(seen));
    fst_store_relaxed(&c->generation_tag, h.generation_tag);
    fst_store_relaxed(&c->oid_slab, h.oid_slab);
    fst_store_relaxed(&c->capacity, s->capacity);
    fst_store_relaxed(&c->inline_bytes, s->inline_bytes);
    fst_store_relaxed(&c->flags, s->flags & FLAGS);
    fst_store_relaxed(&c->cells, fst_ring_cells(s->capacity, s->flags));
    fst_store_relaxed(&c->group, s->group);
    memset(c->name, 0, sizeof c->name);
    if (s->name)
        memcpy(c->name, s->name, strlen(s->name));
    if (fst_ring_map(a, c, &v))
        return;
    fst_ring_format(&v);
    fst_ring_unmap(&v);
    fst_store_release(&c->state, fst_state_next(c->state, FST_CHANNEL_LIVE));
}

static int compare(struct fst_arena *a, const struct fst_channel *c, const struct fst_channel_spec *s)
{
    if (c->capacity == s->capacity && c->inline_bytes == s->inline_bytes && c->flags == (s->flags & FLAGS))
        return FST_OK;
    return fst_fail(
        FST_MISMATCH,
        "channel %.63s of arena %s exists for %u messages of %u bytes in line%s%s: open it with these, or take another name",
        c->name, fst_arena_called(a), c->capacity, c->inline_bytes, c->flags & FST_CHANNEL_ACK ? ", with acknowledgements" : "",
        c->flags & FST_CHANNEL_LASTING ? ", lasting" : "");
}

static int use_it(struct fst_arena *a, const struct fst_channel *c, uint64_t id, const struct fst_ref *ring, fst_channel_use **out)
{
    struct fst_channel_use *u = calloc(1, sizeof *u);
    if (!u)
        return fst_fail(FST_FULL, "out of memory");
    u->ring = *ring;
    u->id = id;
    int rc = fst_ring_map(a, c, &u->v);
    if (rc) {
        free(u);
        return rc;
    }
    fst_reaper_watch(a);
    *out = u;
    return FST_OK;
}

/* FST_STALE: its last user has gone, or it was destroyed, in between. */
static int open_known(struct fst_arena *a, uint64_t id, fst_channel_use **out)
{
    uint32_t index;
    struct fst_ref ring;
    if (!fst_channel_known(a, id, &index))
        return fst_fail(FST_STALE, "it has ended: it was destroyed, or its group was");
    struct fst_channel *c = fst_channel_at(a, index);
    struct fst_handle h = {c->generation_tag, c->oid_slab};
    int rc = fst_resolve(a, &h, &ring);
    if (rc == FST_STALE) { /* a batch may have been killed before it could say so */
        if (!fst_registry_lock(a))
            return fst_lock_held(a);
        if (fst_channel_known(a, id, &index))
            fst_channel_end(a, index);
        fst_registry_unlock(a);
    }
    if (rc)
        return rc;
    if (!fst_channel_known(a, id, &index) || fst_state(fst_load_acquire(&c->state)) != FST_CHANNEL_LIVE)
        rc = fst_fail(FST_STALE, "it has ended: it was destroyed, or its group was");
    else
        rc = use_it(a, c, id, &ring, out);
    if (rc)
        fst_drop(a, &ring);
    return rc;
}

int fst_channel_share(fst_channel_use *u, struct fst_message *out)
{
    return fst_share(u->v.a, &u->ring, out);
}

int fst_channel_join(fst_arena *a, const struct fst_message *message, fst_channel_use **out)
{
    struct fst_ref ring;
    int rc = fst_take(a, message, &ring);
    if (rc)
        return rc == FST_STALE ? fst_fail(FST_CLOSED, "it has ended: it was destroyed, or its group was") : rc;
    uint32_t index = fst_channel_of_ring(a, ring.oid);
    const struct fst_channel *c = index == FST_NONE ? NULL : fst_channel_at(a, index);
    uint64_t state = c ? fst_load_acquire(&c->state) : 0;
    if (fst_state(state) == FST_CHANNEL_LIVE)
        rc = use_it(a, c, fst_id(index, state), &ring, out);
    else
        rc = fst_fail(FST_CLOSED, "it has ended, or the message is none of it");
    if (rc)
        fst_drop(a, &ring);
    return rc;
}

/* One look under the lock: the id of what is there, made of our ring if there is none. 0: commit
 * more, and try again. */
static uint64_t find_or_publish(struct fst_arena *a, const struct fst_channel_spec *s, const struct fst_ref *ring, bool *created,
                                struct fst_channel *copy, bool *held)
{
    uint64_t id = 0;
    *held = !fst_registry_lock(a);
    if (*held)
        return 0;
    uint32_t index = fst_channel_find(a, s->name, s->flags);
    *created = index == FST_NONE && ring->data;
    if (*created && (index = fst_channel_new(a)) != FST_NONE)
        publish(a, index, s, ring);
    if (index != FST_NONE) {
        *copy = *fst_channel_at(a, index);
        id = fst_id(index, copy->state);
    }
    fst_registry_unlock(a);
    return id;
}

int fst_channel_open(fst_arena *a, const struct fst_channel_spec *spec, enum fst_create how, fst_channel_use **out, bool *created)
{
    struct fst_thread *t = fst_thread_get(a);
    struct fst_ref ring = {0};
    struct fst_channel c;
    int rc = !t || fst_is_damaged(a) ? fst_thread_refused(a) : check_spec(spec);
    for (uint32_t tries = 0; rc == FST_OK;) {
        bool held;
        uint64_t id = find_or_publish(a, spec, &ring, created, &c, &held);
        if (held) {
            rc = fst_lock_held(a);
        } else if (id && *created) {
            fst_refs_index(a, ring.entry);
            rc = use_it(a, &c, id, &ring, out);
            if (rc == FST_OK)
                return FST_OK;
        } else if (id) {
            rc = how == FST_CREATE_NEW
                     ? fst_fail(FST_EXISTS, "channel %s of arena %s exists already", spec->name, fst_arena_called(a))
                     : compare(a, &c, spec);
            if (rc == FST_OK)
                rc = open_known(a, id, out);
            if (rc == FST_STALE && ++tries < TRIES) {
                rc = FST_OK;
                continue;
            }
            break;
        } else if (how == FST_OPEN_EXISTING) {
            rc = fst_fail(FST_MISSING, "there is no channel %s in arena %s", spec->name ? spec->name : "without a name",
                          fst_arena_called(a));
        } else if (!ring.data) {
            rc = a->readonly ? fst_is_readonly(a) : make_ring(t, spec, &ring);
        } else {
            rc = fst_channel_grow(a);
        }
    }
    if (ring.data)
        fst_drop(a, &ring);
    return fst_verdict(a, rc);
}

void fst_channel_leave(fst_channel_use *u)
{
    fst_ring_unmap(&u->v);
    fst_drop(u->v.a, &u->ring);
    free(u);
}

uint64_t fst_channel_id(const fst_channel_use *u)
{
    return u->id;
}

uint32_t fst_channel_length(const fst_channel_use *u)
{
    return fst_ring_length(&u->v);
}

/* ---- putting ---- */

static int closed(const struct fst_channel_use *u, const char *therefore)
{
    return fst_fail(FST_END, "channel %.63s of arena %s was closed: %s", fst_channel_at(u->v.a, (uint32_t)u->id)->name,
                    fst_arena_called(u->v.a), therefore);
}

/* May what the node refers to stay there? After the node refers to it. PAIR(channel-end),
 * PAIR(cache-ending). */
static enum fst_child_state state_of_child(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return (enum fst_child_state)fst_state(fst_load_seq_cst(&fst_child_at(a, child)->state));
}

/* A batch has looked at the node before it referred to the object, perhaps, and will look at our
 * entry when that is EMPTY: PAIR(reference). */
static void rescue(uint64_t *word)
{
    uint64_t seen = fst_load_seq_cst(word);
    while ((seen & FST_WORD_CONDEMNED) && !fst_cas64(word, &seen, seen & ~FST_WORD_CONDEMNED)) {
    }
}

/* Is the reference the only one there is? */
static bool private(const struct fst_arena *a, uint64_t word, uint32_t entry)
{
    return (word & (FST_WORD_FLAGS & ~FST_WORD_CONDEMNED)) == FST_WORD_ALLOCATED && fst_object_only_owner(a, entry);
}

enum handed { HANDED_NOT, HANDED_MOVED, HANDED_SHARED };

/* The node refers to the object. FST_CLOSED: that is ended; FST_BUSY: destroy() of its cache is
 * looking for users. */
static int hand_over(struct fst_channel_use *u, uint32_t node, const struct fst_letter *l, enum handed *how)
{
    struct fst_ring_view *v = &u->v;
    struct fst_arena *a = v->a;
    uint64_t oid = l->ref->oid, *word = fst_word_of(a, oid), ref = fst_node_ref(oid);
    if (!word) {
        fst_damaged(a, "object %llx is in use, and there is no such object", (unsigned long long)oid);
        return fst_damage(a);
    }
    bool move = !l->keep && !(v->flags & FST_CHANNEL_TOPIC) && private(a, fst_load_acquire(word), l->ref->entry);
    fst_object_note_shared(a, oid);
    if (!move) {
#ifndef FST_MUTANT_PUT_UNSHARED
        fst_word_set(word, FST_WORD_SHARED);
#endif
        fst_refs_index(a, l->ref->entry);
    }
#ifdef FST_MUTANT_EMPTY_BEFORE_NODE
    if (move)
        fst_store_release(&a->entries[l->ref->entry], 0);
#endif
    fst_store_fence(&v->refs[node], ref);
    rescue(word);
    enum fst_child_state child = state_of_child(a, oid);
    bool over = fst_load_seq_cst(&v->ring->ended);
    if (child == FST_CHILD_ENDED || child == FST_CHILD_ENDING || over) {
        fst_cas64(&v->refs[node], &ref, 0);
        return over                        ? fst_channel_ended()
               : child == FST_CHILD_ENDING ? FST_BUSY
                                           : fst_fail(FST_CLOSED, "the object's group or cache was destroyed");
    }
    if (move)
        fst_store_release(&a->entries[l->ref->entry], 0);
    *how = move ? HANDED_MOVED : HANDED_SHARED;
    return FST_OK;
}

/* The message could not be put. A reference that was moved comes back: first the entry, then the
 * node's goes, as for a taker. */
static int undo(struct fst_channel_use *u, uint32_t node, const struct fst_letter *l, enum handed how, int rc)
{
    struct fst_arena *a = u->v.a;
    uint64_t ref = fst_node_ref(l->ref->oid);
    if (how == HANDED_MOVED) {
        uint64_t generation = fst_word_gen(fst_load_relaxed(fst_word_of(a, l->ref->oid)));
        fst_store_release(&a->entries[l->ref->entry], fst_entry(l->ref->oid, generation, FST_ENTRY_LIVE));
    }
    if (fst_cas64(&u->v.refs[node], &ref, 0) || how != HANDED_MOVED)
        return rc;
    if (fst_refs_drop(a, l->ref->entry))
        fst_reaper_dropped(a, 0);
    return fst_fail(FST_STALE, "the object's group or cache was destroyed");
}

/* It was put. */
static void let_go(struct fst_thread *t, const struct fst_letter *l, enum handed how)
{
    if (how == HANDED_MOVED)
        fst_refs_give(t, l->ref->entry);
    else if (!l->keep && fst_refs_drop(t->arena, l->ref->entry))
        fst_reaper_dropped(t->arena, l->ref->nbytes);
}

static int put_ref(struct fst_channel_use *u, struct fst_thread *t, uint32_t node, const struct fst_letter *l, uint64_t owned)
{
    enum handed how = HANDED_NOT;
    int rc = hand_over(u, node, l, &how);
    if (rc)
        return rc;
    enum fst_ring_result put = fst_ring_publish(&u->v, node, owned, false);
    if (put != FST_RING_OK)
        return undo(u, node, l, how, put == FST_RING_WAIT ? FST_WAIT : FST_END);
    let_go(t, l, how);
    return FST_OK;
}

/* One takes a message of a channel, all read one of a topic. */
static void wake_takers(const struct fst_ring_view *v)
{
    if (v->flags & FST_CHANNEL_TOPIC)
        fst_ring_wake_sleepers(&v->ring->takers);
    else
        fst_ring_wake_slowly(&v->ring->takers);
}

int fst_channel_put(fst_channel_use *u, const struct fst_letter *l)
{
    struct fst_ring_view *v = &u->v;
    struct fst_thread *t;
    int rc = fst_channel_usable(v, &t);
    if (__builtin_expect(rc != FST_OK, 0))
        return rc;
    if (l->nbytes > v->inline_bytes)
        return fst_fail(FST_INVALID, "%u bytes do not fit in line: the channel has room for %u", l->nbytes, v->inline_bytes);
    if (l->ref && fst_ring_full(v)) /* saves moving a reference back and forth */
        return FST_WAIT;
    uint32_t node = fst_ring_claim(v);
    if (node == FST_NONE)
        return FST_WAIT;
    struct fst_node *n = fst_node_at(v, node);
    uint64_t owned = fst_load_relaxed(&n->word);
    fst_store_relaxed(&n->nbytes, l->nbytes | (l->ref ? FST_NODE_REFERS : 0));
    fst_store_relaxed(&n->kind, l->kind);
    if (l->nbytes)
        memcpy(fst_node_bytes(n), l->bytes, l->nbytes);
    if (l->ref) {
        rc = put_ref(u, t, node, l, owned);
    } else {
        enum fst_ring_result put = fst_ring_publish(v, node, owned, false);
        rc = put == FST_RING_OK ? FST_OK : put == FST_RING_WAIT ? FST_WAIT : FST_END;
    }
    if (__builtin_expect(rc == FST_OK, 1)) {
        if (__builtin_expect(fst_load_seq_cst(&v->ring->takers) & 1, 0))
            wake_takers(v);
        return FST_OK;
    }
    fst_node_free(n);
    fst_ring_wake(&v->ring->putters); /* who found no free node may have slept for it */
    if (rc == FST_BUSY) {
        fst_child_resumed(v->a, fst_load_relaxed(&fst_slab_known(v->a, fst_oid_slab(l->ref->oid))->child));
        return fst_verdict(v->a, FST_WAIT);
    }
    if (rc == FST_END)
        closed(u, "nothing is put any more");
    return fst_verdict(v->a, rc);
}

/* ---- taking ---- */

/* The reference of our node becomes ours. FST_STALE: its group or cache was destroyed. */
static int receive_ref(struct fst_ring_view *v, struct fst_thread *t, uint32_t node, struct fst_received *out)
{
    struct fst_arena *a = v->a;
    uint64_t ref = fst_load_acquire(&v->refs[node]);
    if (!(ref & FST_NODE_HELD))
        return FST_STALE;
    bool ack = v->flags & FST_CHANNEL_ACK, dropped = false;
    uint64_t oid = fst_node_oid(ref), *word = fst_oid_is_group(oid) ? NULL : fst_word_of(a, oid);
    uint32_t entry;
    if (!word) {
        fst_damaged(a, "a message refers to object %llx, and there is no such object", (unsigned long long)oid);
        return fst_damage(a);
    }
    uint64_t seen = ack ? fst_word_set(word, FST_WORD_SHARED) : fst_load_acquire(word), generation = fst_word_gen(seen);
    /* nobody else knows it, this process neither */
    if (!ack && (seen & FST_WORD_FLAGS) == FST_WORD_ALLOCATED) {
        entry = fst_refs_reserve(t);
        if (entry == FST_NONE)
            return FST_FULL;
#ifndef FST_MUTANT_GET_BEFORE_ENTRY
        fst_store_release(&a->entries[entry], fst_entry(oid, generation, FST_ENTRY_LIVE));
#endif
    } else if (fst_refs_get(a, t, oid, generation, &entry)) {
        return FST_FULL;
    }
    bool got = ack ? fst_load_seq_cst(&v->refs[node]) == ref : fst_cas64(&v->refs[node], &ref, 0);
#ifdef FST_MUTANT_GET_BEFORE_ENTRY
    fst_store_release(&a->entries[entry], fst_entry(oid, generation, FST_ENTRY_LIVE));
#endif
    int rc = got ? fst_object_fill(a, oid, entry, &out->ref) : FST_STALE;
    if (rc) {
        dropped = fst_refs_drop(a, entry);
        if (dropped)
            fst_reaper_dropped(a, 0);
    }
    out->has_ref = rc == FST_OK;
    return rc;
}

static void done_with(struct fst_ring_view *v, struct fst_node *n)
{
    fst_node_free(n);
    fst_ring_wake(&v->ring->putters);
}

int fst_channel_get(fst_channel_use *u, void *bytes, struct fst_received *out)
{
    struct fst_ring_view *v = &u->v;
    struct fst_thread *t;
    uint32_t node;
    for (;;) {
        int rc = fst_channel_usable(v, &t);
        if (rc == FST_OK && __builtin_expect(t->entry_count == 0, 0))
            rc = fst_refs_refill(t); /* before there is a message that could be lost for it */
        if (__builtin_expect(rc != FST_OK, 0))
            return rc;
        enum fst_ring_result took = fst_ring_get(v, &node);
        if (took == FST_RING_WAIT)
            return fst_verdict(v->a, FST_WAIT);
        if (took == FST_RING_CLOSED)
            return fst_verdict(v->a, closed(u, "everything was taken"));
        struct fst_node *n = fst_node_at(v, node);
        uint32_t refers = fst_load_relaxed(&n->nbytes), nbytes = refers & ~FST_NODE_REFERS;
        out->nbytes = nbytes < v->inline_bytes ? nbytes : v->inline_bytes;
        out->kind = fst_load_relaxed(&n->kind);
        out->has_ref = false;
        out->node = node;
        out->word = fst_load_relaxed(&n->word);
        if (out->nbytes)
            memcpy(bytes, fst_node_bytes(n), out->nbytes);
        if (refers & FST_NODE_REFERS)
            rc = receive_ref(v, t, node, out);
        if (!(v->flags & FST_CHANNEL_ACK) || rc == FST_STALE)
            done_with(v, n);
        if (rc != FST_STALE)
            return fst_verdict(v->a, rc);
    }
}

int fst_channel_done(fst_channel_use *u, const struct fst_received *taken)
{
    struct fst_ring_view *v = &u->v;
    struct fst_arena *a = v->a;
    struct fst_thread *t;
    int rc = fst_channel_usable(v, &t);
    if (rc)
        return rc;
    struct fst_node *n = taken->node <= v->mask ? fst_node_at(v, taken->node) : NULL;
    if (!n || fst_load_acquire(&n->word) != taken->word || fst_node_slot(taken->word) != a->slot)
        return fst_fail(FST_STALE, "the message is done with, or another process's");
    uint64_t ref = fst_load_acquire(&v->refs[taken->node]), *word = fst_word_of(a, fst_node_oid(ref));
    uint32_t entry;
    if ((ref & FST_NODE_HELD) && word) { /* so that somebody asks for the object */
        rc = fst_refs_get(a, t, fst_node_oid(ref), fst_word_gen(fst_load_acquire(word)), &entry);
        if (rc)
            return rc;
        fst_cas64(&v->refs[taken->node], &ref, 0);
        if (fst_refs_drop(a, entry))
            fst_reaper_dropped(a, 0);
    }
    done_with(v, n);
    return FST_OK;
}

/* ---- waiting, ending, looking ---- */

bool fst_channel_wait(fst_channel_use *u, bool taker, uint64_t timeout)
{
    const struct fst_ring_view *v = &u->v;
    if (!v->a->usable || fst_is_damaged(v->a))
        return true; /* to be told so */
    /* who waits may wait for what a dead process has: somebody has to look */
    fst_reaper_watch(v->a);
    fst_ring_sleep(v, taker, timeout);
    return fst_load_relaxed(&v->ring->ended) || !(taker ? fst_ring_empty(v) : fst_ring_full(v));
}

int fst_channel_close(fst_channel_use *u)
{
    struct fst_thread *t;
    int rc = fst_channel_usable(&u->v, &t);
    if (rc)
        return rc;
    fst_ring_close(&u->v);
    fst_ring_wake_all(&u->v);
    return fst_verdict(u->v.a, FST_OK);
}

int fst_channel_destroy(fst_channel_use *u)
{
    struct fst_arena *a = u->v.a;
    uint32_t index;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_is_readonly(a);
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    if (fst_channel_known(a, u->id, &index)) {
        uint64_t *word = fst_word_of(a, u->ring.oid);
        if (word)
            fst_word_set(word, FST_WORD_FREED); /* nobody opens it from now on */
        fst_channel_end(a, index);
    }
    fst_registry_unlock(a);
    fst_reaper_ended(a);
    return fst_verdict(a, FST_OK);
}

int fst_channel_get_info(fst_arena *a, uint64_t channel, struct fst_channel_info *out)
{
    uint32_t index;
    struct fst_ring_view v;
    memset(out, 0, sizeof *out);
    if (!fst_channel_known(a, channel, &index))
        return fst_fail(FST_CLOSED, "a channel of arena %s is gone", fst_arena_called(a));
    const struct fst_channel *c = fst_channel_at(a, index);
    out->id = channel;
    out->group = c->group;
    memcpy(out->name, c->name, sizeof out->name - 1);
    out->state = fst_state(fst_load_acquire(&c->state));
    out->capacity = c->capacity;
    out->inline_bytes = c->inline_bytes;
    out->flags = c->flags;
    if (fst_channel_look(a, index, &v)) {
        out->bytes = fst_ring_bytes(v.capacity, v.inline_bytes, v.flags);
        for (uint32_t k = 0; k <= v.mask; k++) {
            uint64_t word = fst_load_acquire(&fst_node_at(&v, k)->word);
            out->waiting += (word & FST_NODE_STATE) == FST_NODE_QUEUED;
            out->taken += (word & FST_NODE_STATE) == FST_NODE_OWNED;
        }
        out->closed = fst_ring_closed(&v);
        fst_channel_looked(a, &v);
    }
    return fst_verdict(a, FST_OK);
}

size_t fst_channel_list(fst_arena *a, uint64_t *ids, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_channel_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t state = fst_load_acquire(&fst_channel_at(a, i)->state);
        if (fst_state(state) == FST_CHANNEL_FREE)
            continue;
        if (n < max)
            ids[n] = fst_id(i, state);
        n++;
    }
    return n;
}
