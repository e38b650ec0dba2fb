#include "channel/topic.h"

#include "channel/queue.h"
#include "channel/wait.h"
#include "platform/error.h"
#include "region/lock.h"

static inline uint64_t load_position(uint64_t *word)
{
    return fst_load_seq_cst(word) & FST_POSITION_MASK;
}

static uint64_t behind(uint64_t position, uint64_t n)
{
    return (position - n) & FST_POSITION_MASK;
}

/* ---- subscribers ---- */

static void raise_top(const struct fst_ring_view *v, uint32_t top)
{
    uint32_t seen = fst_load_relaxed(&v->ring->subscribers_top);
    while (seen < top && !fst_cas32(&v->ring->subscribers_top, &seen, top)) {
    }
}

/* A publisher that has not seen the record may still be making room: for one position at most, a
 * whole capacity behind the tail of that moment. A cursor in front of that position is safe. */
static void begin_at(const struct fst_ring_view *v, struct fst_subscriber *s, uint64_t live, uint32_t history)
{
    uint64_t tail = load_position(&v->ring->tail), there = behind(tail, fst_load_relaxed(&v->ring->head));
    uint64_t n = history < v->capacity - 1 ? history : v->capacity - 1;
    n = n < there ? n : there;
    fst_store_relaxed(&s->lost, 0);
    fst_store_relaxed(&s->cursor, behind(tail, n));
    uint64_t coming = fst_load_relaxed(&s->word);
    /* This is also a full fence, before the loop below looks at the tail. */
    fst_cas64(&s->word, &coming, live);
#ifndef FST_MUTANT_JOIN_BLIND
    while (behind(tail = load_position(&v->ring->tail), fst_load_relaxed(&s->cursor)) >= v->capacity)
        fst_store_fence(&s->cursor, behind(tail, n));
#endif
}

int fst_subscriber_claim(struct fst_ring_view *v, enum fst_slow slow, uint32_t history, struct fst_subscription *out)
{
    fst_ring_say(v);
    for (uint32_t i = 0; i < FST_SUBSCRIBERS; i++) {
        struct fst_subscriber *s = fst_subscriber_at(v, i);
        uint64_t seen = fst_load_relaxed(&s->word);
        uint64_t serial = (seen + (1ull << FST_SUBSCRIBER_SERIAL_SHIFT)) & FST_SUBSCRIBER_SERIAL;
        uint64_t mine =
            serial | (uint64_t)slow << FST_SUBSCRIBER_SLOW_SHIFT | (uint64_t)fst_lock_own_word(v->a) << FST_SUBSCRIBER_OWNER_SHIFT;
        if ((seen & FST_SUBSCRIBER_STATE) != FST_SUBSCRIBER_FREE)
            continue;
        raise_top(v, i + 1);
        if (!fst_cas64(&s->word, &seen, mine | FST_SUBSCRIBER_COMING))
            continue;
        out->index = i;
        out->word = mine | FST_SUBSCRIBER_LIVE;
        begin_at(v, s, out->word, history);
        return FST_OK;
    }
    return fst_fail(FST_FULL, "the topic has %u subscribers, and takes no more", FST_SUBSCRIBERS);
}

bool fst_subscriber_free(const struct fst_ring_view *v, uint32_t index, uint64_t word)
{
    if (!fst_cas64(&fst_subscriber_at(v, index)->word, &word, word & FST_SUBSCRIBER_SERIAL))
        return false;
    fst_ring_wake_sleepers(&v->ring->putters);
    return true;
}

/* ---- publishing ---- */

bool fst_topic_full(const struct fst_ring_view *v, uint64_t *position)
{
    return fst_ring_full_behind(v, position);
}

uint32_t fst_topic_held(const struct fst_ring_view *v, uint64_t position)
{
#ifdef FST_MUTANT_NOT_HELD
    return FST_NONE;
#endif
    uint32_t top = fst_subscriber_top(v);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_subscriber *s = fst_subscriber_at(v, i);
        uint64_t word = fst_load_seq_cst(&s->word);
        if (fst_subscriber_live(word) && fst_subscriber_slow(word) == FST_SLOW_BLOCKS &&
            !fst_position_before(position, fst_load_acquire(&s->cursor)))
            return i;
    }
    return FST_NONE;
}

uint32_t fst_topic_reached(const struct fst_ring_view *v)
{
    uint32_t top = fst_subscriber_top(v), n = 0;
    uint64_t head = load_position(&v->ring->head);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_subscriber *s = fst_subscriber_at(v, i);
        uint64_t word = fst_load_acquire(&s->word);
        n += fst_subscriber_live(word) &&
             !(fst_subscriber_slow(word) == FST_SLOW_ENDS && fst_position_before(fst_load_relaxed(&s->cursor), head));
    }
    return n;
}

/* ---- reading ---- */

enum fst_topic_seen fst_topic_see(const struct fst_ring_view *v, uint64_t position, uint32_t *node, uint64_t *word)
{
    uint64_t c = fst_load_seq_cst(fst_cell_at(v, position)), at = fst_cell_position(c);
    if (at != position)
        return fst_position_before(at, position) ? FST_TOPIC_NOT_YET : FST_TOPIC_GONE;
    struct fst_node *n = fst_cell_node(v, c);
    if (!n)
        return c >> FST_CELL_NODE_SHIFT == FST_CELL_CLOSED ? FST_TOPIC_CLOSED : FST_TOPIC_NOT_YET;
    *node = (uint32_t)(c >> FST_CELL_NODE_SHIFT) - 1;
    *word = fst_load_acquire(&n->word);
    return fst_node_queued_at(*word, position) ? FST_TOPIC_THERE : FST_TOPIC_GONE;
}

uint64_t fst_topic_next(const struct fst_ring_view *v, uint64_t cursor, enum fst_slow slow)
{
    uint64_t newest = behind(load_position(&v->ring->tail), 1);
    return slow != FST_SLOW_LATEST || fst_position_before(newest, cursor) ? cursor : newest;
}

uint64_t fst_topic_lag(const struct fst_ring_view *v, uint64_t cursor)
{
    uint64_t tail = load_position(&v->ring->tail);
    return fst_position_before(tail, cursor) ? 0 : behind(tail, cursor);
}
