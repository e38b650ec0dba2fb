#include "reclaim/letters.h"

#include "channel/channel.h"
#include "channel/queue.h"
#include "channel/topic.h"
#include "channel/wait.h"
#include "platform/atomics.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/release.h"

/* ---- sets of slots or descriptors ---- */

static bool has(const uint64_t *set, uint32_t i)
{
    return set[i / 64] >> (i % 64) & 1;
}

static void add(uint64_t *set, uint32_t i)
{
    set[i / 64] |= 1ull << (i % 64);
}

/* ---- what a dead process leaves in a ring ---- */

enum left { NOT_LEFT, TO_FREE, TO_PUT_BACK };

static enum left left(const struct fst_letters *l, const struct fst_ring_view *v, uint32_t node, uint64_t word)
{
    uint32_t slot = fst_node_slot(word), state = (uint32_t)(word & FST_NODE_STATE);
    if (!l->any || state == FST_NODE_FREE || !has(l->dead, slot))
        return NOT_LEFT;
#ifdef FST_MUTANT_MEND_OWNED_ONLY
    if (state == FST_NODE_QUEUED)
        return NOT_LEFT;
#endif
    if (state == FST_NODE_QUEUED && fst_node_in_cell(v, node, word))
        return NOT_LEFT;
    return (word & FST_NODE_AGAIN) && (v->flags & FST_CHANNEL_ACK) ? TO_PUT_BACK : TO_FREE;
}

static void add_theirs(struct fst_letters *l, const struct fst_process *p)
{
    for (uint32_t i = 0; i < FST_MAX_CHANNELS / 64; i++)
        l->theirs[i] |= fst_load_relaxed(&p->channels[i]);
}

static void note_dead(struct fst_arena *a, struct fst_letters *l)
{
    uint32_t top = fst_process_top(a);
    *l = (struct fst_letters){0};
    for (uint32_t slot = 0; slot < top && slot < FST_MAX_PROCESSES; slot++) {
        if (fst_state(fst_load_acquire(&fst_process_at(a, slot)->state)) != FST_PROCESS_DEAD)
            continue;
        add(l->dead, slot);
        add_theirs(l, fst_process_at(a, slot));
        l->any = true;
    }
}

uint64_t fst_letters_looks(const struct fst_arena *a, uint64_t most)
{
    uint32_t top = fst_channel_top(a);
    uint64_t looks = top;
    for (uint32_t i = 0; i < top && looks <= most; i++) {
        const struct fst_channel *c = fst_channel_at(a, i);
        if (fst_state(fst_load_relaxed(&c->state)) != FST_CHANNEL_FREE)
            looks += fst_load_relaxed(&c->refs_top);
    }
    return looks;
}

/* ---- condemning ---- */

static uint64_t condemn(struct fst_arena *a, struct fst_scan *scan, uint64_t oid)
{
    uint64_t *word = fst_word_of(a, oid), seen = word ? fst_load_acquire(word) : 0;
    if (!(seen & FST_WORD_ALLOCATED))
        return 0;
    fst_words_condemn_one(scan, oid, word, seen);
    return 1;
}

static uint64_t condemn_nodes(struct fst_arena *a, const struct fst_letters *l, struct fst_scan *scan,
                              const struct fst_ring_view *v, bool ended)
{
    uint64_t n = 0;
    bool theirs = has(l->theirs, v->number);
    for (uint32_t k = 0, top = fst_ring_refs(v); k < top; k++) {
        uint64_t ref = fst_load_acquire(&v->refs[k]);
        if (!(ref & FST_NODE_HELD))
            continue;
        if (ended || (theirs && left(l, v, k, fst_load_acquire(&fst_node_at(v, k)->word)) == TO_FREE))
            n += condemn(a, scan, fst_node_oid(ref));
        else if (fst_word_of(a, fst_node_oid(ref)) && fst_words_of_ended(a, fst_node_oid(ref)))
            fst_cas64(&v->refs[k], &ref, 0); /* a taker that was quicker is in its table already */
    }
    return n;
}

/* Has the channel ended without anybody saying so? */
static bool is_over(struct fst_arena *a, const struct fst_channel *c)
{
    uint64_t oid = fst_load_relaxed(&c->oid_slab) & FST_OID_MASK, *word = fst_word_of(a, oid);
    return word && ((fst_load_acquire(word) & FST_WORD_FREED) || fst_words_of_ended(a, oid));
}

/* Make the channel FREE whose ring is gone: the batch that released the ring was killed before it
 * could say so. */
static void forget(struct fst_arena *a, struct fst_channel *c, uint64_t state)
{
    if (!fst_registry_lock(a))
        return; /* the next batch finds the channel ENDED, and does this */
    if (c->state == state)
        fst_store_release(&c->state, fst_state_moved(state, FST_CHANNEL_FREE));
    fst_registry_unlock(a);
}

/* Is the ring CONDEMNED before this batch condemns any? Then the batch that condemned it could not
 * have names_lock (fst_channel_unreferenced), and no entry asks for the ring any more. Or an entry
 * of this batch has condemned it, and ends the channel itself. */
static bool left_condemned(struct fst_arena *a, uint64_t ring)
{
    uint64_t *word = fst_word_of(a, ring), seen = word ? fst_load_acquire(word) : 0;
#ifdef FST_MUTANT_CHANNEL_UNSAID
    return false;
#endif
    return (seen & (FST_WORD_ALLOCATED | FST_WORD_CONDEMNED | FST_WORD_FREED)) == (FST_WORD_ALLOCATED | FST_WORD_CONDEMNED);
}

uint64_t fst_letters_condemn(struct fst_arena *a, struct fst_letters *l, struct fst_scan *scan)
{
    uint32_t top = fst_channel_top(a);
    uint64_t n = 0;
    note_dead(a, l);
    fst_store_relaxed(&a->sb->channel_look, 0);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_channel *c = fst_channel_at(a, i);
        struct fst_ring_view v;
        uint64_t state = fst_load_acquire(&c->state), ring = fst_load_relaxed(&c->oid_slab) & FST_OID_MASK;
        if (fst_state(state) == FST_CHANNEL_FREE)
            continue;
        if (fst_ring_gone(a, c)) {
            if (!fst_is_damaged(a))
                forget(a, c, state);
            continue;
        }
        if (fst_state(state) == FST_CHANNEL_LIVE && is_over(a, c) && fst_registry_lock(a)) {
            fst_channel_end(a, i);
            fst_registry_unlock(a);
        }
        bool ended = fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_ENDED, unsaid = !ended && left_condemned(a, ring);
        if ((!ended && !unsaid && !fst_load_acquire(&c->refs_top)) || fst_ring_map(a, i, &v))
            continue;
        /* a process that was killed in fst_channel_end has not told those who have it open */
        if (ended) {
            fst_store_release(&v.ring->ended, 1);
            fst_full_fence(); /* PAIR(channel-end) */
            n += condemn(a, scan, ring);
            add(l->ended, i);
        } else if (unsaid) {
            n += condemn(a, scan, ring);
            add(l->unsaid, i);
        }
        n += condemn_nodes(a, l, scan, &v, ended);
        fst_ring_unmap(&v);
    }
    return n;
}

/* ---- scanning ---- */

void fst_letters_scan(struct fst_arena *a, const struct fst_letters *l, const struct fst_scan *scan)
{
    uint32_t top = fst_channel_top(a);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_channel *c = fst_channel_at(a, i);
        struct fst_ring_view v;
        if (fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_FREE || has(l->ended, i) || !fst_load_acquire(&c->refs_top) ||
            fst_ring_look(a, i, &v))
            continue;
        for (uint32_t k = 0, refs = fst_ring_refs(&v); k < refs; k++) {
            uint64_t ref = fst_load_acquire(&v.refs[k]);
            if ((ref & FST_NODE_HELD) && fst_word_of(a, fst_node_oid(ref)) &&
                !(has(l->theirs, i) && left(l, &v, k, fst_load_acquire(&fst_node_at(&v, k)->word)) == TO_FREE))
                fst_scan_keep(a, scan, fst_node_oid(ref));
        }
        fst_ring_unmap(&v);
    }
}

/* ---- releasing ---- */

static bool release(struct fst_thread *t, const struct fst_scan *scan, uint64_t oid, struct fst_released *r)
{
    uint64_t *word = fst_word_of(t->arena, oid), bytes;
    if (!word || !fst_words_release_one(t->arena, scan, oid, word, fst_load_acquire(word), &bytes))
        return false;
    r->objects++;
    r->bytes += bytes;
    r->more |= fst_release_after_free(t, oid);
    return true;
}

static void let_go(struct fst_thread *t, const struct fst_scan *scan, const struct fst_ring_view *v, uint32_t node,
                   struct fst_released *r)
{
    uint64_t ref = fst_load_acquire(&v->refs[node]);
    if (!(ref & FST_NODE_HELD))
        return;
    release(t, scan, fst_node_oid(ref), r);
    /* This fails when a taker was quicker, which then has an entry of its own. */
    fst_cas64(&v->refs[node], &ref, 0);
}

static bool is_dead(const struct fst_letters *l, uint64_t subscriber)
{
    uint32_t slot = fst_lock_owner(fst_subscriber_owner(subscriber));
    return (subscriber & FST_SUBSCRIBER_STATE) != FST_SUBSCRIBER_FREE && slot < FST_MAX_PROCESSES && has(l->dead, slot);
}

/* Is this subscriber a dead process's? */
static bool subscribes(const struct fst_letters *l, const struct fst_ring_view *v, uint32_t i)
{
    return is_dead(l, fst_load_acquire(&fst_subscriber_at(v, i)->word));
}

static uint32_t subscribers_of(const struct fst_ring_view *v)
{
    return v->flags & FST_CHANNEL_TOPIC ? fst_subscriber_top(v) : 0;
}

/* Mend what the dead have left in a channel that lives. */
static void mend(struct fst_thread *t, const struct fst_letters *l, const struct fst_scan *scan, struct fst_ring_view *v,
                 struct fst_released *r)
{
    bool any = false;
    for (uint32_t k = 0, top = fst_ring_nodes(v); k < top; k++) {
        struct fst_node *n = fst_node_at(v, k);
        uint64_t word = fst_load_acquire(&n->word);
        enum left is = left(l, v, k, word);
        if (is == NOT_LEFT)
            continue;
        any = true;
        if (is == TO_PUT_BACK) {
#ifndef FST_MUTANT_NOT_PUT_BACK
            /* From here on the node's word names this process, whose slot need not say so:
             * until the node is in the queue, that of its dead owner does. */
            fst_ring_publish(v, k, word, true);
#endif
            continue;
        }
        let_go(t, scan, v, k, r);
        fst_cas64(&n->word, &word, fst_node_word(FST_NODE_FREE, 0, fst_node_position(word)));
    }
    for (uint32_t i = 0; i < subscribers_of(v); i++)
        if (subscribes(l, v, i))
            any |= fst_subscriber_free(v, i, fst_load_acquire(&fst_subscriber_at(v, i)->word));
    if (any)
        fst_ring_wake_all(v);
}

/* Finish a channel that has ended: let go of what its nodes refer to, and then of its ring, if
 * nobody has it open. */
static void empty(struct fst_thread *t, const struct fst_scan *scan, struct fst_channel *c, const struct fst_ring_view *v,
                  struct fst_released *r)
{
    struct fst_arena *a = t->arena;
    uint64_t oid = fst_load_relaxed(&c->oid_slab) & FST_OID_MASK, state = fst_load_acquire(&c->state);
    for (uint32_t k = 0, top = fst_ring_refs(v); k < top; k++)
        let_go(t, scan, v, k, r);
    if (release(t, scan, oid, r))
        forget(a, c, state);
}

void fst_letters_finish(struct fst_thread *t, const struct fst_letters *l, const struct fst_scan *scan, struct fst_released *r)
{
    struct fst_arena *a = t->arena;
    uint32_t top = fst_channel_top(a);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_channel *c = fst_channel_at(a, i);
        struct fst_ring_view v;
        bool ended = has(l->ended, i);
        uint64_t ring = fst_load_relaxed(&c->oid_slab) & FST_OID_MASK;
        /* The scan is over, and still nobody refers to the ring. */
        if (has(l->unsaid, i) && left_condemned(a, ring))
            fst_channel_unreferenced(a, ring, fst_word_of(a, ring));
        if (fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_FREE || (!ended && !has(l->theirs, i)) || fst_ring_map(a, i, &v))
            continue;
        if (ended)
            empty(t, scan, c, &v, r);
        else
            mend(t, l, scan, &v, r);
        fst_ring_unmap(&v);
    }
}

bool fst_letters_owns(struct fst_arena *a)
{
    struct fst_letters me = {.any = true};
    uint32_t top = fst_channel_top(a), given_up = fst_lock_given_up();
    bool any = false;
    add(me.dead, a->slot);
    add_theirs(&me, a->self);
    for (uint32_t i = 0; i < top && !any; i++) {
        struct fst_ring_view v;
        if (!has(me.theirs, i) || !fst_channel_look(a, i, &v))
            continue;
        for (uint32_t k = 0, used = fst_ring_nodes(&v); k < used && !any; k++)
            any = left(&me, &v, k, fst_load_acquire(&fst_node_at(&v, k)->word)) != NOT_LEFT;
        for (uint32_t k = 0; k < subscribers_of(&v) && !any; k++)
            any = subscribes(&me, &v, k);
        fst_channel_looked(a, &v);
    }
    /* A channel that could not be looked into may have some. */
    return any || fst_lock_given_up() != given_up;
}
