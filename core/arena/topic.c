/* topic.c - topics as programs see them: publish, subscribe, get. channel/topic.h tells how they
 * work. */
#include <string.h>

#include "arena/channel.h"
#include "arena/handle.h"
#include "arena/ready.h"
#include "channel/queue.h"
#include "channel/topic.h"
#include "channel/wait.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* ---- publishing ---- */

/* Make room for a message, if there is none. FST_WAIT: a subscriber that blocks holds this thread
 * back. */
static int make_room(struct fst_ring_view *v, struct fst_thread *t)
{
    uint64_t position;
    uint32_t held, node;
    while (fst_topic_full(v, &position)) {
        while ((held = fst_topic_held(v, position)) != FST_NONE) {
            uint64_t word = fst_load_acquire(&fst_subscriber_at(v, held)->word);
            uint32_t owner = fst_subscriber_owner(word);
            if (fst_slot_alive(v->a, fst_lock_owner(owner), owner >> FST_LOCK_GEN_SHIFT))
                return FST_WAIT;
            fst_subscriber_free(v, held, word); /* the dead hold nobody back */
        }
        if (t->entry_count == 0) { /* before there is a node whose object needs one */
            int rc = fst_refs_refill(t);
            if (rc)
                return rc;
        }
        if (fst_ring_evict(v, position, &node)) {
            (void)fst_channel_let_go(v, t, node);
            fst_node_free(fst_node_at(v, node));
        }
    }
    return FST_OK;
}

int fst_topic_publish(fst_channel_use *u, const struct fst_letter *l, uint32_t *reached)
{
    struct fst_thread *t;
    for (;;) {
        int rc = fst_channel_usable(&u->v, &t);
        if (rc == FST_OK && fst_ring_closed(&u->v))
            rc = fst_fail(FST_END, "it was closed");
        if (rc == FST_OK)
            rc = make_room(&u->v, t);
        if (rc)
            return fst_verdict(u->v.a, rc);
        *reached = fst_topic_reached(&u->v);
        rc = fst_channel_put(u, l);
        uint64_t position;
        if (rc != FST_WAIT || !fst_topic_full(&u->v, &position))
            return rc;
    }
}

/* ---- subscribing ---- */

int fst_topic_subscribe(fst_channel_use *u, enum fst_slow slow, uint32_t history, struct fst_subscription *out)
{
    struct fst_thread *t;
    int rc = fst_channel_usable(&u->v, &t);
    if (rc)
        return rc;
    fst_reaper_watch(u->v.a); /* the reaper thread notices a publisher or subscriber that dies */
    rc = fst_subscriber_claim(&u->v, slow, history, out);
    fst_release_fence(); /* PAIR(channel-use): from here on it does not count as a call */
    if (rc == FST_OK)
        fst_own_count_up32(&u->subscriptions);
    return fst_verdict(u->v.a, rc);
}

void fst_topic_unsubscribe(fst_channel_use *u, const struct fst_subscription *s)
{
    fst_own_count_down32(&u->subscriptions); /* from here on it counts as a call */
    fst_compiler_barrier();                  /* PAIR(channel-use) */
    if (fst_use_is_over(&u->v))
        return;
    if (fst_thread_usable(u->v.a) == FST_OK && fst_subscriber_owner(s->word) == fst_lock_own_word(u->v.a))
        fst_subscriber_free(&u->v, s->index, s->word);
}

/* ---- reading ---- */

/* Copy the message, and take its object by an entry of this process. False: the message was
 * overtaken. *rc FST_STALE: its object has gone with its group or cache. */
static bool copy(struct fst_ring_view *v, struct fst_thread *t, uint32_t node, uint64_t word, void *bytes, struct fst_received *out,
                 int *rc)
{
    struct fst_arena *a = v->a;
    struct fst_node *n = fst_node_at(v, node);
    uint32_t refers = fst_load_relaxed(&n->nbytes), nbytes = refers & ~FST_NODE_REFERS, entry = FST_NONE;
    uint64_t ref = 0;
    *rc = FST_OK;
    out->nbytes = nbytes < v->inline_bytes ? nbytes : v->inline_bytes;
    out->kind = fst_load_relaxed(&n->kind);
    out->has_ref = false;
    out->node = node;
    out->word = word;
    memcpy(bytes, fst_node_bytes(n), out->nbytes);
    if (refers & FST_NODE_REFERS) {
        ref = fst_load_acquire(&v->refs[node]);
        uint64_t oid = fst_node_oid(ref);
        uint64_t *object = (ref & FST_NODE_HELD) && !fst_oid_is_group(oid) ? fst_word_of(a, oid) : NULL;
        if (object)
            *rc = fst_refs_get(a, t, oid, fst_word_gen(fst_load_acquire(object)), &entry);
        else
            *rc = FST_STALE;
        if (entry == FST_NONE && *rc != FST_STALE)
            return true;
    }
    /* PAIR(reference): the entry comes before the look whether the node still holds the message.
     * This looks first at the node's reference, and then at its word: as long as the word is the
     * same, the reference is this message's, and not that of a later message in the same node
     * (M_REFLAST in models/subscription.pml). */
    fst_full_fence();
    bool held = entry != FST_NONE && fst_load_seq_cst(&v->refs[node]) == ref;
#ifdef FST_MUTANT_READ_BLIND
    bool there = true;
#else
    bool there = fst_load_seq_cst(&n->word) == word;
#endif
    if (entry != FST_NONE) {
        if (there)
            *rc = held ? fst_object_fill(a, fst_node_oid(ref), entry, &out->ref) : FST_STALE;
        out->has_ref = there && *rc == FST_OK;
        if (!out->has_ref && fst_refs_drop(a, entry))
            fst_reaper_dropped(a, 0);
    }
    return there;
}

static void give_up(struct fst_arena *a, struct fst_received *out)
{
    if (out->has_ref)
        fst_drop(a, &out->ref);
    out->has_ref = false;
}

/* The message at the cursor was overtaken: go on with the oldest one that there is. */
static void skip(const struct fst_ring_view *v, struct fst_subscriber *s, uint64_t cursor)
{
    uint64_t seen = cursor, head = fst_load_acquire(&v->ring->head) & FST_POSITION_MASK;
    if (!fst_position_before(cursor, head))
        /* whoever is taking it out has not moved the head's hint yet */
        head = (cursor + 1) & FST_POSITION_MASK;
    if (fst_cas64(&s->cursor, &seen, head))
        fst_store_relaxed(&s->lost, fst_load_relaxed(&s->lost) + ((head - cursor) & FST_POSITION_MASK));
}

static int is_ours(const struct fst_ring_view *v, const struct fst_subscription *sub)
{
    if (fst_load_relaxed(&fst_subscriber_at(v, sub->index)->word) == sub->word &&
        fst_subscriber_owner(sub->word) == fst_lock_own_word(v->a))
        return FST_OK;
    return fst_fail(FST_CLOSED, "the subscription has ended, or is another process's: subscribe in this one");
}

int fst_topic_get(fst_channel_use *u, const struct fst_subscription *sub, void *bytes, struct fst_received *out)
{
    struct fst_ring_view *v = &u->v;
    struct fst_subscriber *s = fst_subscriber_at(v, sub->index);
    enum fst_slow slow = fst_subscriber_slow(sub->word);
    struct fst_thread *t;
    for (;;) {
        int rc = fst_channel_usable(v, &t);
        if (rc == FST_OK)
            rc = is_ours(v, sub);
        if (rc)
            return rc;
        uint64_t word, cursor = fst_load_acquire(&s->cursor) & FST_POSITION_MASK, at = fst_topic_next(v, cursor, slow);
        uint32_t node;
        enum fst_topic_seen seen = fst_topic_see(v, at, &node, &word);
        if (seen == FST_TOPIC_NOT_YET)
            return fst_verdict(v->a, FST_WAIT);
        if (seen == FST_TOPIC_CLOSED)
            return fst_verdict(v->a, fst_fail(FST_END, "it was closed, and everything was read"));
        if (seen == FST_TOPIC_GONE || !copy(v, t, node, word, bytes, out, &rc)) {
            if (slow == FST_SLOW_ENDS)
                return fst_fail(FST_LAPPED, "the subscription ended: it was more than %s behind",
                                fst_many(v->capacity, "message", "messages"));
            if (seen == FST_TOPIC_GONE && at == cursor)
                skip(v, s, cursor);
            continue;
        }
        if (rc && rc != FST_STALE)
            return fst_verdict(v->a, rc);
        uint64_t mine = cursor;
        if (!fst_cas64(&s->cursor, &mine, (at + 1) & FST_POSITION_MASK)) {
            give_up(v->a, out); /* another thread of this process has it */
            continue;
        }
        if (slow == FST_SLOW_BLOCKS && (fst_load_seq_cst(&v->ring->putters) & 1))
            fst_ring_wake_sleepers(&v->ring->putters);
        if (rc == FST_OK)
            return FST_OK;
    }
}

int fst_topic_latest(fst_channel_use *u, void *bytes, struct fst_received *out)
{
    struct fst_ring_view *v = &u->v;
    struct fst_thread *t;
    for (;;) {
        int rc = fst_channel_usable(v, &t);
        if (rc)
            return rc;
        uint64_t word, tail = fst_load_seq_cst(&v->ring->tail) & FST_POSITION_MASK;
        uint32_t node;
        enum fst_topic_seen seen = fst_topic_see(v, (tail - 1) & FST_POSITION_MASK, &node, &word);
        if (seen == FST_TOPIC_THERE && copy(v, t, node, word, bytes, out, &rc))
            return fst_verdict(v->a, rc == FST_STALE ? FST_WAIT : rc);
        if ((fst_load_seq_cst(&v->ring->tail) & FST_POSITION_MASK) == tail)
            return fst_verdict(v->a, FST_WAIT);
    }
}

/* ---- waiting, looking ---- */

bool fst_topic_ready(const fst_channel_use *u, const struct fst_subscription *sub)
{
    const struct fst_ring_view *v = &u->v;
    uint64_t position, word;
    uint32_t node;
    if (!v->a->usable || fst_is_damaged(v->a) || fst_use_is_over(v) || fst_load_relaxed(&v->ring->ended))
        return true;
    if (!sub)
        return !fst_topic_full(v, &position) || fst_topic_held(v, position) == FST_NONE;
    const struct fst_subscriber *s = fst_subscriber_at(v, sub->index);
    uint64_t at = fst_topic_next(v, fst_load_acquire(&s->cursor) & FST_POSITION_MASK, fst_subscriber_slow(sub->word));
    return fst_load_relaxed(&s->word) != sub->word || fst_topic_see(v, at, &node, &word) != FST_TOPIC_NOT_YET;
}

bool fst_topic_wait(fst_channel_use *u, const struct fst_subscription *sub, uint64_t timeout)
{
    const struct fst_ring_view *v = &u->v;
    uint32_t *word = sub ? &v->ring->takers : &v->ring->putters, mine;
    if (!v->a->usable || fst_is_damaged(v->a) || fst_use_is_over(v))
        return true; /* the call that follows says what is wrong */
    fst_reaper_watch(v->a);
    if (fst_ring_say_asleep(word, &mine) && !fst_topic_ready(u, sub))
        fst_ring_await(word, mine, timeout);
    return fst_topic_ready(u, sub);
}

uint64_t fst_topic_lost(fst_channel_use *u, const struct fst_subscription *s)
{
    return fst_use_is_over(&u->v) ? UINT64_MAX : fst_load_relaxed(&fst_subscriber_at(&u->v, s->index)->lost);
}

static void describe(const struct fst_ring_view *v, struct fst_subscriber *s, uint64_t word, struct fst_subscriber_info *out)
{
    uint64_t cursor = fst_load_acquire(&s->cursor) & FST_POSITION_MASK, position;
    uint32_t owner = fst_subscriber_owner(word), slot = fst_lock_owner(owner);
    memset(out, 0, sizeof *out);
    out->slow = fst_subscriber_slow(word);
    out->own = owner == fst_lock_own_word(v->a);
    out->lag = fst_topic_lag(v, cursor);
    out->lost = fst_load_relaxed(&s->lost);
    out->holds = out->slow == FST_SLOW_BLOCKS && fst_topic_full(v, &position) && !fst_position_before(position, cursor);
    if (slot >= fst_process_top(v->a))
        return;
    out->pid = fst_process_at(v->a, slot)->pid;
    memcpy(out->command, fst_process_at(v->a, slot)->command, sizeof out->command - 1);
}

size_t fst_topic_list(fst_arena *a, uint64_t channel, struct fst_subscriber_info *out, size_t max)
{
    uint32_t index;
    struct fst_ring_view v;
    size_t n = 0;
    if (!fst_channel_known(a, channel, &index) || !(fst_channel_at(a, index)->flags & FST_CHANNEL_TOPIC) ||
        !fst_channel_look(a, index, &v))
        return 0;
    for (uint32_t i = 0; i < fst_subscriber_top(&v); i++) {
        struct fst_subscriber *s = fst_subscriber_at(&v, i);
        uint64_t word = fst_load_acquire(&s->word);
        if (!fst_subscriber_live(word))
            continue;
        if (n < max)
            describe(&v, s, word, &out[n]);
        n++;
    }
    fst_channel_looked(a, &v);
    return n;
}
