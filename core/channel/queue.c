/* queue.c - putting into a ring and taking from it. How it works says channel/ring.h;
 * models/channel.pml shows that it is right. */
#include "channel/queue.h"

/* no walk passes so many positions: if one does, the ring's words contradict each other */
#define ROUNDS (1u << 24)

static inline uint64_t load_position(uint64_t *word)
{
    return fst_load_acquire(word) & FST_POSITION_MASK;
}

/* Where to begin to look: where this process came to, unless the shared hint is ahead of that, or
 * so far behind that positions have wrapped around. */
static inline uint64_t begin_at(uint64_t *hint, const uint64_t *came_to)
{
    uint64_t shared = load_position(hint), own = fst_load_relaxed(came_to);
    return ((own - shared) & FST_POSITION_MASK) <= FST_RING_BEHIND ? own : shared;
}

/* Move the hint to behind this position, unless it is there already. Bits in it beyond those of a
 * position come only from damage, and are dropped. */
static inline void move_behind(uint64_t *hint, uint64_t position)
{
    uint64_t seen = fst_load_acquire(hint), behind = (position + 1) & FST_POSITION_MASK;
#ifdef FST_MUTANT_HEAD_STAYS
    seen = position;
    fst_cas64(hint, &seen, behind);
#else
    while (fst_position_before(seen, behind) && !fst_cas64(hint, &seen, behind)) {
    }
#endif
}

/* Go on from a position that was used, by whatever process, to the next one, and move the hint now
 * and then. */
static inline uint64_t pass(const struct fst_ring_view *v, uint64_t *hint, uint64_t position)
{
    if ((position & v->hinted) == v->hinted)
        move_behind(hint, position);
    return (position + 1) & FST_POSITION_MASK;
}

static bool for_ever(const struct fst_ring_view *v, uint32_t *rounds)
{
    if (++*rounds < ROUNDS)
        return false;
    fst_damaged(v->a, "a channel's ring leads from position %llu to nowhere", (unsigned long long)v->ring->tail);
    return true;
}

bool fst_node_in_cell(const struct fst_ring_view *v, uint32_t node, uint64_t word)
{
    uint64_t position = fst_node_position(word);
    return fst_load_acquire(fst_cell_at(v, position)) == fst_cell(position, node + 1);
}

void fst_node_free(struct fst_node *n)
{
    uint64_t word = fst_load_relaxed(&n->word);
    fst_store_release(&n->word, fst_node_word(FST_NODE_FREE, 0, fst_node_position(word)));
}

uint32_t fst_ring_claim(struct fst_ring_view *v)
{
    /* Nodes come round as positions do: the one that belongs to the tail was used longest ago, so
     * the search for a free one begins there. */
    uint64_t from = begin_at(&v->ring->tail, &v->seen_tail);
    for (uint64_t i = 0; i <= v->mask; i++) {
        uint32_t node = (uint32_t)((from + i) & v->mask);
        struct fst_node *n = fst_node_at(v, node);
        uint64_t word = fst_load_relaxed(&n->word);
        if ((word & FST_NODE_STATE) != FST_NODE_FREE)
            continue;
#ifndef FST_MUTANT_NODE_BEFORE_BOUND
        fst_ring_own(v, node);
#endif
        bool mine = fst_cas64(&n->word, &word, fst_node_word(FST_NODE_OWNED, v->a->slot, fst_node_position(word)));
#ifdef FST_MUTANT_NODE_BEFORE_BOUND
        fst_ring_own(v, node);
#endif
        if (mine)
            return node;
    }
    return FST_NONE;
}

/* Is this the word of a cell that nothing was put to for this position? What was put there a round
 * ago has been taken, because there are as many nodes as cells and one of them is the putter's. */
static inline bool free_for(const struct fst_ring_view *v, uint64_t c, uint64_t position)
{
    uint64_t before = (position - v->mask - 1) & FST_POSITION_MASK;
    return c == fst_cell(position, FST_CELL_EMPTY) ||
           (fst_cell_position(c) == before && c >> FST_CELL_NODE_SHIFT != FST_CELL_CLOSED);
}

/* The position that the next message goes to, from *t on, and the word of its cell, which is free
 * for it, or CLOSED. FST_CELL_NOWHERE: there is none, and the ring is damaged. */
static inline uint64_t find_tail(const struct fst_ring_view *v, uint64_t *t)
{
    for (uint32_t rounds = 0; !for_ever(v, &rounds); *t = pass(v, &v->ring->tail, *t)) {
        uint64_t c = fst_load_seq_cst(fst_cell_at(v, *t));
        if (free_for(v, c, *t) || c == fst_cell(*t, FST_CELL_CLOSED))
            return c;
#ifdef FST_MUTANT_WAITS_FOR_TAIL
        *t = load_position(&v->ring->tail) - 1;
#endif
    }
    return FST_CELL_NOWHERE;
}

/* Is the message still there that has to be taken before this position is put to? */
static inline bool full_at(const struct fst_ring_view *v, uint64_t tail)
{
#ifdef FST_MUTANT_NEVER_FULL
    return false;
#endif
    uint64_t before = (tail - v->capacity) & FST_POSITION_MASK, c = fst_load_acquire(fst_cell_at(v, before));
    struct fst_node *n = fst_cell_position(c) == before ? fst_cell_node(v, c) : NULL;
    /* Whoever sleeps until there is room looks at this word after it has said that it sleeps. */
    return n && fst_node_queued_at(fst_load_seq_cst(&n->word), before);
}

enum fst_ring_result fst_ring_publish(struct fst_ring_view *v, uint32_t node, uint64_t owned, bool always)
{
    struct fst_node *n = fst_node_at(v, node);
    uint64_t tail = begin_at(&v->ring->tail, &v->seen_tail);
    for (;;) {
        uint64_t c = find_tail(v, &tail);
        if (!free_for(v, c, tail)) {
            uint64_t seen = owned;
            if (always) /* for whoever comes to the end: get_orphan */
                fst_cas64(&n->word, &seen, (owned & ~FST_NODE_STATE) | FST_NODE_QUEUED);
            else
                fst_store_relaxed(&n->word, owned);
            return FST_RING_CLOSED;
        }
        if (!always && full_at(v, tail)) {
            fst_store_relaxed(&n->word, owned);
            return FST_RING_WAIT;
        }
        uint64_t queued = fst_node_word(FST_NODE_QUEUED, v->a->slot, tail) | (owned & FST_NODE_AGAIN);
        if (always) { /* a batch puts it back, and another batch may have done so */
            uint64_t seen = fst_load_acquire(&n->word);
            if (seen != owned || !fst_cas64(&n->word, &seen, queued))
                return FST_RING_OK;
            owned = queued;
        } else {
            fst_store_release(&n->word, queued);
        }
        if (fst_cas64(fst_cell_at(v, tail), &c, fst_cell(tail, node + 1))) {
            fst_store_relaxed(&v->seen_tail, pass(v, &v->ring->tail, tail));
            return FST_RING_OK;
        }
    }
}

/* Own a message that a batch could not put back into the queue, because the channel was closed: it
 * counts as behind the end. */
static bool get_orphan(const struct fst_ring_view *v, uint32_t *node)
{
    uint32_t top = v->flags & FST_CHANNEL_ACK ? fst_ring_nodes(v) : 0;
    for (uint32_t i = 0; i < top; i++) {
        struct fst_node *n = fst_node_at(v, i);
        uint64_t word = fst_load_acquire(&n->word), mine = fst_node_word(FST_NODE_OWNED, v->a->slot, fst_node_position(word));
        if ((word & FST_NODE_STATE) == FST_NODE_QUEUED && (word & FST_NODE_AGAIN) && !fst_node_in_cell(v, i, word) &&
            fst_cas64(&n->word, &word, mine | FST_NODE_AGAIN)) {
            *node = i;
            return true;
        }
    }
    return false;
}

bool fst_ring_evict(struct fst_ring_view *v, uint64_t position, uint32_t *node)
{
    fst_ring_say(v);
    uint64_t c = fst_load_acquire(fst_cell_at(v, position));
    struct fst_node *n = fst_cell_position(c) == position ? fst_cell_node(v, c) : NULL;
    if (!n)
        return false;
    uint64_t word = fst_load_acquire(&n->word);
    bool got = fst_node_queued_at(word, position);
#ifdef FST_MUTANT_EVICT_BLIND
    if (got)
        fst_store_release(&n->word, fst_node_word(FST_NODE_OWNED, v->a->slot, position));
#else
    got = got && fst_cas64(&n->word, &word, fst_node_word(FST_NODE_OWNED, v->a->slot, position));
#endif
    move_behind(&v->ring->head, position);
    *node = (uint32_t)(c >> FST_CELL_NODE_SHIFT) - 1;
    return got;
}

/* What is at the head, from *h on: the node that is queued there; or NULL, and the word of the
 * cell, which is free for a message, or CLOSED. */
static inline struct fst_node *find_head(const struct fst_ring_view *v, uint64_t *h, uint64_t *c, uint64_t *word)
{
    for (uint32_t rounds = 0; !for_ever(v, &rounds); *h = pass(v, &v->ring->head, *h)) {
        *c = fst_load_seq_cst(fst_cell_at(v, *h));
        if (free_for(v, *c, *h))
            return NULL;
        struct fst_node *n = fst_cell_position(*c) == *h ? fst_cell_node(v, *c) : NULL;
        if (n && fst_node_queued_at(*word = fst_load_acquire(&n->word), *h))
            return n;
        if (*c == fst_cell(*h, FST_CELL_CLOSED))
            return NULL;
    }
    *c = FST_CELL_NOWHERE;
    return NULL;
}

enum fst_ring_result fst_ring_get(struct fst_ring_view *v, uint32_t *node)
{
    uint64_t h = begin_at(&v->ring->head, &v->seen_head), c, word;
    struct fst_node *n;
    fst_ring_say(v);
    while ((n = find_head(v, &h, &c, &word))) {
        uint64_t mine = fst_node_word(FST_NODE_OWNED, v->a->slot, h);
        if (v->flags & FST_CHANNEL_ACK)
            mine |= FST_NODE_AGAIN;
        if (fst_cas64(&n->word, &word, mine)) {
            *node = (uint32_t)(c >> FST_CELL_NODE_SHIFT) - 1;
            fst_store_relaxed(&v->seen_head, pass(v, &v->ring->head, h));
            return FST_RING_OK;
        }
    }
    if (free_for(v, c, h))
        return FST_RING_WAIT;
    return get_orphan(v, node) ? FST_RING_OK : FST_RING_CLOSED;
}

bool fst_ring_full_behind(const struct fst_ring_view *v, uint64_t *position)
{
    uint64_t tail = begin_at(&v->ring->tail, &v->seen_tail), c = find_tail(v, &tail);
    *position = (tail - v->capacity) & FST_POSITION_MASK;
    return free_for(v, c, tail) && full_at(v, tail);
}

bool fst_ring_full(const struct fst_ring_view *v)
{
    uint64_t position;
    return fst_ring_full_behind(v, &position);
}

bool fst_ring_used(const struct fst_ring_view *v, uint64_t position, bool *queued)
{
    uint64_t c = fst_load_acquire(fst_cell_at(v, position));
    struct fst_node *n = fst_cell_position(c) == position ? fst_cell_node(v, c) : NULL;
    *queued = n && fst_node_queued_at(fst_load_acquire(&n->word), position);
    return !free_for(v, c, position);
}

bool fst_ring_empty(const struct fst_ring_view *v)
{
    uint64_t head = begin_at(&v->ring->head, &v->seen_head), c, word;
    return !find_head(v, &head, &c, &word) && free_for(v, c, head);
}

void fst_ring_close(const struct fst_ring_view *v)
{
    uint64_t tail = load_position(&v->ring->tail), c;
    do
        c = find_tail(v, &tail);
    while (free_for(v, c, tail) && !fst_cas64(fst_cell_at(v, tail), &c, fst_cell(tail, FST_CELL_CLOSED)));
}

bool fst_ring_closed(const struct fst_ring_view *v)
{
    uint64_t tail = begin_at(&v->ring->tail, &v->seen_tail), c = find_tail(v, &tail);
    return !free_for(v, c, tail);
}

uint32_t fst_ring_length(const struct fst_ring_view *v)
{
    uint64_t head = begin_at(&v->ring->head, &v->seen_head), tail = begin_at(&v->ring->tail, &v->seen_tail), c, word;
    find_head(v, &head, &c, &word);
    find_tail(v, &tail);
    uint64_t n = (tail - head) & FST_POSITION_MASK;
    return n <= v->mask + 1 ? (uint32_t)n : 0; /* others took messages meanwhile */
}
