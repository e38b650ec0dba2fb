/* queue.c - putting into a ring and taking from it: channel/ring.h says how, models/channel.pml
 * that it is right. */
#include "channel/ring.h"

#define ROUNDS (1u << 24) /* as often nobody is overtaken: the ring's words contradict each other */

static inline uint64_t load_position(uint64_t *word)
{
    return fst_load_acquire(word) & FST_POSITION_MASK;
}

/* One further, unless somebody was quicker. The word may have bits beyond a position only by
 * damage: they go. */
static inline void move_on(uint64_t *word, uint64_t position)
{
    uint64_t seen = position;
    fst_cas64(word, &seen, (position + 1) & FST_POSITION_MASK);
}

/* Behind this position, wherever it was: who was killed after taking has not moved it on. */
static inline void move_behind(uint64_t *word, uint64_t position)
{
    uint64_t seen = fst_load_acquire(word), behind = (position + 1) & FST_POSITION_MASK;
#ifdef FST_MUTANT_HEAD_STAYS
    seen = position;
    fst_cas64(word, &seen, behind);
#else
    while (fst_position_before(seen, behind) && !fst_cas64(word, &seen, behind)) {
    }
#endif
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

uint32_t fst_ring_claim(const struct fst_ring_view *v)
{
    /* They come round as positions do: the one that belongs to the tail was used longest ago. */
    uint64_t from = fst_load_relaxed(&v->ring->tail);
    for (uint64_t i = 0; i <= v->mask; i++) {
        uint32_t node = (uint32_t)((from + i) & v->mask);
        struct fst_node *n = fst_node_at(v, node);
        uint64_t word = fst_load_relaxed(&n->word);
        if ((word & FST_NODE_STATE) == FST_NODE_FREE &&
            fst_cas64(&n->word, &word, fst_node_word(FST_NODE_OWNED, v->a->slot, fst_node_position(word))))
            return node;
    }
    return FST_NONE;
}

/* Is the message that has to be taken before this position is put to still there? */
static inline bool full_at(const struct fst_ring_view *v, uint64_t tail)
{
#ifdef FST_MUTANT_NEVER_FULL
    return false;
#endif
    uint64_t before = (tail - v->capacity) & FST_POSITION_MASK, c = fst_load_acquire(fst_cell_at(v, before));
    struct fst_node *n = fst_cell_position(c) == before ? fst_cell_node(v, c) : NULL;
    return n && fst_node_queued_at(fst_load_acquire(&n->word), before) && load_position(&v->ring->tail) == tail;
}

/* The tail's cell is not EMPTY for it. */
static void help_put(const struct fst_ring_view *v, uint64_t tail, uint64_t c)
{
    uint64_t before = (tail - v->mask - 1) & FST_POSITION_MASK;
    struct fst_node *n = fst_cell_position(c) == before ? fst_cell_node(v, c) : NULL;
    if (!n) {
        /* put to, and taken perhaps, before its putter came to the tail */
        move_on(&v->ring->tail, tail);
        return;
    }
    /* taken, before its taker came to the cell */
    if (!fst_node_queued_at(fst_load_acquire(&n->word), before))
        fst_cas64(fst_cell_at(v, tail), &c, fst_cell(tail, FST_CELL_EMPTY));
}

enum fst_ring_result fst_ring_publish(const struct fst_ring_view *v, uint32_t node, uint64_t owned, bool always)
{
    struct fst_node *n = fst_node_at(v, node);
    for (uint32_t rounds = 0; !for_ever(v, &rounds);) {
        uint64_t tail = load_position(&v->ring->tail), c = fst_load_acquire(fst_cell_at(v, tail));
        if (c == fst_cell(tail, FST_CELL_EMPTY)) {
            if (!always && full_at(v, tail)) {
                fst_store_relaxed(&n->word, owned);
                return FST_RING_WAIT;
            }
            uint64_t queued = fst_node_word(FST_NODE_QUEUED, v->a->slot, tail) | (owned & FST_NODE_AGAIN);
            if (always) { /* by a batch: another one may have done it */
                uint64_t seen = fst_load_acquire(&n->word);
                if (seen != owned || !fst_cas64(&n->word, &seen, queued))
                    return FST_RING_OK;
                owned = queued;
            } else {
                fst_store_release(&n->word, queued);
            }
            if (fst_cas64(fst_cell_at(v, tail), &c, fst_cell(tail, node + 1))) {
                move_on(&v->ring->tail, tail);
                return FST_RING_OK;
            }
        } else if (c == fst_cell(tail, FST_CELL_CLOSED)) {
            uint64_t seen = owned;
            if (always) /* for whoever comes to the end: get_orphan */
                fst_cas64(&n->word, &seen, (owned & ~FST_NODE_STATE) | FST_NODE_QUEUED);
            else
                fst_store_relaxed(&n->word, owned);
            return FST_RING_CLOSED;
        } else {
            help_put(v, tail, c);
        }
    }
    return FST_RING_CLOSED;
}

/* Behind the end: what a batch could not put back any more. */
static bool get_orphan(const struct fst_ring_view *v, uint32_t *node)
{
    for (uint32_t i = 0; i <= v->mask && (v->flags & FST_CHANNEL_ACK); i++) {
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

bool fst_ring_evict(const struct fst_ring_view *v, uint64_t position, uint32_t *node)
{
    uint64_t c = fst_load_acquire(fst_cell_at(v, position));
    struct fst_node *n = fst_cell_position(c) == position ? fst_cell_node(v, c) : NULL;
    if (!n)
        return false;
    uint64_t word = fst_load_acquire(&n->word), seen = c;
    bool got = fst_node_queued_at(word, position);
#ifdef FST_MUTANT_EVICT_BLIND
    if (got)
        fst_store_release(&n->word, fst_node_word(FST_NODE_OWNED, v->a->slot, position));
#else
    got = got && fst_cas64(&n->word, &word, fst_node_word(FST_NODE_OWNED, v->a->slot, position));
#endif
    fst_cas64(fst_cell_at(v, position), &seen, fst_cell(position + v->mask + 1, FST_CELL_EMPTY));
    move_behind(&v->ring->head, position);
    *node = (uint32_t)(c >> FST_CELL_NODE_SHIFT) - 1;
    return got;
}

enum fst_ring_result fst_ring_get(const struct fst_ring_view *v, uint32_t *node)
{
    for (uint32_t rounds = 0; !for_ever(v, &rounds);) {
        uint64_t head = load_position(&v->ring->head), c = fst_load_acquire(fst_cell_at(v, head));
        if (fst_cell_position(c) != head) {
            if (fst_cell_position(c) == ((head + v->mask + 1) & FST_POSITION_MASK))
                move_on(&v->ring->head, head); /* taken, before its taker came to the head */
            continue;
        }
        struct fst_node *n = fst_cell_node(v, c);
        if (!n) {
            if (load_position(&v->ring->head) != head)
                continue;
            if (c >> FST_CELL_NODE_SHIFT == FST_CELL_EMPTY)
                return FST_RING_WAIT;
            return get_orphan(v, node) ? FST_RING_OK : FST_RING_CLOSED;
        }
        uint64_t word = fst_load_acquire(&n->word);
        bool got = fst_node_queued_at(word, head);
        if (got) {
            uint64_t mine = fst_node_word(FST_NODE_OWNED, v->a->slot, head);
            if (v->flags & FST_CHANNEL_ACK)
                mine |= FST_NODE_AGAIN;
            got = fst_cas64(&n->word, &word, mine);
        }
        /* Whoever took it, the cell and the head are to be moved on. */
        uint64_t seen = c;
        fst_cas64(fst_cell_at(v, head), &seen, fst_cell(head + v->mask + 1, FST_CELL_EMPTY));
        move_on(&v->ring->head, head);
        if (got) {
            *node = (uint32_t)(c >> FST_CELL_NODE_SHIFT) - 1;
            return FST_RING_OK;
        }
    }
    return FST_RING_CLOSED;
}

bool fst_ring_full(const struct fst_ring_view *v)
{
    uint64_t tail = load_position(&v->ring->tail);
    return fst_load_acquire(fst_cell_at(v, tail)) != fst_cell(tail, FST_CELL_CLOSED) && full_at(v, tail);
}

bool fst_ring_empty(const struct fst_ring_view *v)
{
    uint64_t head = load_position(&v->ring->head), c = fst_load_seq_cst(fst_cell_at(v, head));
    return c == fst_cell(head, FST_CELL_EMPTY) && load_position(&v->ring->head) == head;
}

void fst_ring_close(const struct fst_ring_view *v)
{
    for (uint32_t rounds = 0; !for_ever(v, &rounds);) {
        uint64_t tail = load_position(&v->ring->tail), c = fst_load_acquire(fst_cell_at(v, tail));
        if (c == fst_cell(tail, FST_CELL_CLOSED))
            return;
        if (c != fst_cell(tail, FST_CELL_EMPTY))
            help_put(v, tail, c);
        else if (fst_cas64(fst_cell_at(v, tail), &c, fst_cell(tail, FST_CELL_CLOSED)))
            return;
    }
}

bool fst_ring_closed(const struct fst_ring_view *v)
{
    uint64_t tail = load_position(&v->ring->tail);
    return fst_load_acquire(fst_cell_at(v, tail)) == fst_cell(tail, FST_CELL_CLOSED);
}

uint32_t fst_ring_length(const struct fst_ring_view *v)
{
    uint64_t head = load_position(&v->ring->head), tail = load_position(&v->ring->tail);
    uint64_t n = (tail - head) & FST_POSITION_MASK;
    return n <= v->mask + 1 ? (uint32_t)n : 0; /* the tail may be behind by one */
}
