/* channel.c - channels as programs see them: open, wait, close, destroy, look. Messages are put in
 * arena/channel_put.c and taken in arena/channel_get.c.
 */
#include "channel/channel.h"

#include <stdlib.h>
#include <string.h>

#include "alloc/cache.h"
#include "alloc/child.h"
#include "arena/channel.h"
#include "arena/handle.h"
#include "arena/object.h"
#include "arena/ready.h"
#include "channel/queue.h"
#include "channel/wait.h"
#include "platform/error.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* ---- opening ---- */

#define FLAGS (FST_CHANNEL_ACK | FST_CHANNEL_LASTING | FST_CHANNEL_KIND)
#define TRIES 10000u /* looks, to catch a channel between its end and the next of its name */

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

/* What the descriptor of a channel with this ring says, but for its state. */
static struct fst_channel describe(struct fst_arena *a, const struct fst_channel_spec *s, const struct fst_ref *ring)
{
    struct fst_handle h = fst_object_handle(a, ring->oid, fst_word_gen(fst_load_relaxed(fst_word_of(a, ring->oid))));
    struct fst_channel c = {.generation_tag = h.generation_tag,
                            .oid_slab = h.oid_slab,
                            .capacity = s->capacity,
                            .inline_bytes = s->inline_bytes,
                            .flags = s->flags & FLAGS,
                            .cells = fst_ring_cells(s->capacity, s->flags),
                            .group = s->group};
    if (s->name)
        memcpy(c.name, s->name, strlen(s->name));
    return c;
}

/* Format the ring as that of a channel which has no descriptor yet. It may have hundreds of
 * megabytes that nobody has touched, so it is not done under names_lock. */
static int format_ring(struct fst_arena *a, const struct fst_channel *c)
{
    struct fst_ring_view v;
    int rc = fst_ring_map_new(a, c, &v);
    if (rc == FST_OK) {
        fst_ring_format(&v);
        fst_ring_unmap(&v);
    }
    return rc;
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
    if (rc == FST_OK)
        rc = fst_object_alloc_run(t, child, fst_ring_bytes(s->capacity, s->inline_bytes, s->flags), 0, ring);
    if (rc)
        return rc;
    struct fst_channel c = describe(a, s, ring);
    return format_ring(a, &c);
}

/* Make the ring that of the channel with this descriptor. The state is written last: a kill before
 * it leaves a ring to which only its maker refers. Under names_lock. */
static void publish(struct fst_arena *a, uint32_t index, const struct fst_channel_spec *s, const struct fst_ref *ring)
{
    struct fst_channel *c = fst_channel_at(a, index), said = describe(a, s, ring);
    fst_word_set(fst_word_of(a, ring->oid), FST_WORD_SHARED);
    fst_store_relaxed(&c->generation_tag, said.generation_tag);
    fst_store_relaxed(&c->oid_slab, said.oid_slab);
    fst_store_relaxed(&c->capacity, said.capacity);
    fst_store_relaxed(&c->inline_bytes, said.inline_bytes);
    fst_store_relaxed(&c->flags, said.flags);
    fst_store_relaxed(&c->cells, said.cells);
    fst_store_relaxed(&c->group, said.group);
    fst_store_relaxed(&c->nodes_top, 0);
    fst_store_relaxed(&c->refs_top, 0);
    memcpy(c->name, said.name, sizeof c->name);
#ifdef FST_MUTANT_FORMAT_INSIDE
    format_ring(a, &said);
#endif
    fst_store_release(&c->state, fst_state_next(c->state, FST_CHANNEL_LIVE));
}

static int compare(struct fst_arena *a, const struct fst_channel *c, const struct fst_channel_spec *s)
{
    if ((c->capacity == s->capacity || (s->flags & FST_CHANNEL_ANY_CAPACITY)) &&
        (c->inline_bytes == s->inline_bytes || (s->flags & FST_CHANNEL_ANY_INLINE)) && c->flags == (s->flags & FLAGS))
        return FST_OK;
    return fst_fail(FST_MISMATCH,
                    "%s '%.63s' of arena %s exists for %s of %s in line%s%s: open it with these, or take another name",
                    fst_channel_noun(c->flags), c->name, fst_arena_called(a), fst_many(c->capacity, "message", "messages"),
                    fst_many(c->inline_bytes, "byte", "bytes"),
                    c->flags & FST_CHANNEL_TOPIC ? ""
                    : c->flags & FST_CHANNEL_ACK ? ", ack=True"
                                                 : ", ack=False",
                    c->flags & FST_CHANNEL_LASTING ? ", lasting=True" : ", lasting=False");
}

static int use_it(struct fst_arena *a, uint64_t id, const struct fst_ref *ring, fst_channel_use **out)
{
    struct fst_channel_use *u = calloc(1, sizeof *u);
    if (!u)
        return fst_fail(FST_FULL, "out of memory");
    u->ring = *ring;
    u->id = id;
    int rc = fst_ring_map(a, (uint32_t)id, &u->v);
    if (rc) {
        free(u);
        return rc;
    }
    fst_use_begin(u);
    fst_reaper_watch(a); /* the reaper thread also lets go of rings that have ended */
    *out = u;
    return FST_OK;
}

/* Open a channel that is there. FST_STALE: its last user has gone in between, or it was
 * destroyed. */
static int open_known(struct fst_arena *a, uint64_t id, fst_channel_use **out)
{
    uint32_t index;
    struct fst_ref ring;
    if (!fst_channel_known(a, id, &index))
        return fst_channel_ended(FST_STALE);
    struct fst_channel *c = fst_channel_at(a, index);
    struct fst_handle h = {c->generation_tag, c->oid_slab};
    int rc = fst_resolve(a, &h, &ring);
    if (rc == FST_STALE) { /* a batch may have been killed before it ended the channel */
        if (!fst_registry_lock(a))
            return fst_lock_held(a);
        if (fst_channel_known(a, id, &index))
            fst_channel_end(a, index);
        fst_registry_unlock(a);
    }
    if (rc)
        return rc;
    if (!fst_channel_known(a, id, &index) || fst_state(fst_load_acquire(&c->state)) != FST_CHANNEL_LIVE)
        rc = fst_channel_ended(FST_STALE);
    else
        rc = use_it(a, id, &ring, out);
    if (rc)
        fst_drop(a, &ring);
    return rc;
}

int fst_channel_share(fst_channel_use *u, struct fst_message *out)
{
    if (fst_use_is_over(&u->v))
        return fst_channel_ended(FST_CLOSED);
    return fst_share(u->v.a, &u->ring, out);
}

int fst_channel_join(fst_arena *a, const struct fst_message *message, fst_channel_use **out)
{
    struct fst_ref ring;
    int rc = fst_take(a, message, &ring);
    if (rc)
        return rc == FST_STALE ? fst_channel_ended(FST_CLOSED) : rc;
    uint32_t index = fst_channel_of_ring(a, ring.oid);
    const struct fst_channel *c = index == FST_NONE ? NULL : fst_channel_at(a, index);
    uint64_t state = c ? fst_load_acquire(&c->state) : 0;
    if (fst_state(state) == FST_CHANNEL_LIVE)
        rc = use_it(a, fst_id(index, state), &ring, out);
    else
        rc = fst_fail(FST_CLOSED, "it has ended, or the message is none of it");
    if (rc)
        fst_drop(a, &ring);
    return rc;
}

/* Look once under names_lock: the result is the id of the channel that is there, made of this ring
 * if there was none. 0: commit more memory, and try again; or *held: the lock took longer than this
 * thread waits. */
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
    const char *noun = fst_channel_noun(spec->flags);
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
            rc = use_it(a, id, &ring, out);
            if (rc == FST_OK)
                return FST_OK;
        } else if (id) {
            rc = how == FST_CREATE_NEW
                     ? fst_fail(FST_EXISTS, "%s '%s' of arena %s exists already", noun, spec->name, fst_arena_called(a))
                     : compare(a, &c, spec);
            if (rc == FST_OK)
                rc = open_known(a, id, out);
            if (rc == FST_STALE && ++tries < TRIES) {
                rc = FST_OK;
                continue;
            }
            break;
        } else if (how == FST_OPEN_EXISTING) {
            rc = spec->name
                     ? fst_fail(FST_MISSING, "there is no %s '%s' in arena %s", noun, spec->name, fst_arena_called(a))
                     : fst_fail(FST_MISSING, "a %s of arena %s that has no name cannot be opened", noun, fst_arena_called(a));
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
    if (fst_use_end(u)) {
        fst_ring_unmap(&u->v);
        fst_drop(u->v.a, &u->ring);
    }
    free(u);
}

void fst_channel_count(fst_channel_use *u, uint32_t *calls, uint32_t *away, uint32_t idle)
{
    fst_use_count(u, calls, away, idle);
}

uint64_t fst_channel_id(const fst_channel_use *u)
{
    return u->id;
}

uint32_t fst_channel_length(const fst_channel_use *u)
{
    return fst_use_is_over(&u->v) ? 0 : fst_ring_length(&u->v);
}

/* ---- waiting, ending, looking ---- */

static bool cannot_wait(const struct fst_ring_view *v)
{
    return !v->a->usable || fst_is_damaged(v->a) || fst_use_is_over(v);
}

bool fst_channel_ready(const fst_channel_use *u, bool taker)
{
    const struct fst_ring_view *v = &u->v;
    return cannot_wait(v) || fst_load_relaxed(&v->ring->ended) || !(taker ? fst_ring_empty(v) : fst_ring_full(v));
}

bool fst_channel_wait(fst_channel_use *u, bool taker, uint64_t timeout)
{
    const struct fst_ring_view *v = &u->v;
    if (cannot_wait(v))
        return true; /* the call that follows says what is wrong */
    /* Whoever waits may wait for what a dead process has, so somebody has to look for deaths. */
    fst_reaper_watch(v->a);
    fst_ring_sleep(v, taker, timeout);
    return fst_channel_ready(u, taker);
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
    if (fst_use_is_over(&u->v))
        return FST_OK; /* it has ended, and its ring may be another object by now */
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

static int is_gone(struct fst_arena *a)
{
    return fst_fail(FST_CLOSED, "a channel of arena %s is gone", fst_arena_called(a));
}

int fst_channel_get_info(fst_arena *a, uint64_t channel, struct fst_channel_info *out)
{
    uint32_t index;
    struct fst_ring_view v;
    memset(out, 0, sizeof *out);
    if (!fst_channel_known(a, channel, &index))
        return is_gone(a);
    const struct fst_channel *c = fst_channel_at(a, index);
    out->id = channel;
    out->group = c->group;
    memcpy(out->name, c->name, sizeof out->name - 1);
    out->state = fst_state(fst_load_acquire(&c->state));
    out->capacity = c->capacity;
    out->inline_bytes = c->inline_bytes;
    out->flags = c->flags;
    for (uint64_t k = 0, more = 1; more && fst_channel_look(a, index, &v);) {
        uint32_t used = fst_ring_nodes(&v);
        for (more = FST_CHANNEL_LOT; more && k < used; more--, k++) {
            uint64_t word = fst_load_acquire(&fst_node_at(&v, (uint32_t)k)->word);
            out->waiting += (word & FST_NODE_STATE) == FST_NODE_QUEUED;
            out->taken += (word & FST_NODE_STATE) == FST_NODE_OWNED;
        }
        more = k < used;
        out->bytes = fst_ring_bytes(v.capacity, v.inline_bytes, v.flags);
        out->closed = fst_ring_closed(&v);
        fst_channel_looked(a, &v);
    }
    fst_acquire_fence(); /* does all that was read belong to this life? */
    if (!fst_channel_known(a, channel, &index))
        return is_gone(a);
    return fst_verdict(a, FST_OK);
}

uint32_t fst_channel_kind(fst_arena *a, uint64_t channel)
{
    uint32_t index, flags;
    if (!fst_channel_known(a, channel, &index))
        return FST_NONE;
    flags = fst_load_relaxed(&fst_channel_at(a, index)->flags);
    fst_acquire_fence(); /* were they of this life? */
    return fst_channel_known(a, channel, &index) ? flags & FST_CHANNEL_KIND : FST_NONE;
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
