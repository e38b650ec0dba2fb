/* check_channels.c - check the descriptors of channels, and their rings. Nothing in a ring is under
 * a lock: what is being changed is looked at again. */
#include "channel/channel.h"
#include "channel/queue.h"
#include "channel/topic.h"
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "refs/word.h"
#include "region/lock.h"

/* Check what a node's word says and what the node refers to, if both are the same before and
 * after. */
static void check_node(struct fst_check *c, uint32_t channel, const struct fst_ring_view *v, uint32_t k)
{
    const struct fst_node *n = fst_node_at(v, k);
    uint64_t word = fst_load_acquire(&n->word), ref = fst_load_acquire(&v->refs[k]);
    uint64_t *object = fst_word_of(c->a, fst_node_oid(ref));
    bool held = ref & FST_NODE_HELD, there = held && object && (fst_load_acquire(object) & FST_WORD_ALLOCATED);
    uint32_t state = (uint32_t)(word & FST_NODE_STATE), nbytes = fst_load_relaxed(&n->nbytes) & ~FST_NODE_REFERS;
    bool known = state <= FST_NODE_QUEUED && (state != FST_NODE_QUEUED || nbytes <= v->inline_bytes);
    if (known && (!held || there) && (held || !ref))
        return;
    if (fst_load_acquire(&n->word) != word || fst_load_acquire(&v->refs[k]) != ref)
        return;
    fst_check_say(c, "channel %u: node %u says %llx, and refers to %llx", channel, k, (unsigned long long)word,
                  (unsigned long long)ref);
}

static void check_cell(struct fst_check *c, uint32_t channel, const struct fst_ring_view *v, uint64_t i)
{
    uint64_t cell = fst_load_acquire(&v->cells[i]), node = cell >> FST_CELL_NODE_SHIFT;
    if ((cell & FST_POSITION_MASK & v->mask) != i || (node > v->mask + 1 && node != FST_CELL_CLOSED))
        fst_check_say(c, "channel %u: cell %llu says %llx", channel, (unsigned long long)i, (unsigned long long)cell);
}

/* Does a hint lie where messages were put; and, if it is that of the head, where none of them
 * waits? */
static bool is_behind(const struct fst_ring_view *v, uint64_t hint, bool head)
{
    bool queued;
    return hint <= FST_POSITION_MASK && fst_ring_used(v, (hint - 1) & FST_POSITION_MASK, &queued) && !(head && queued);
}

/* Check the ring's head. Head and tail of the queue are no further apart than there are cells.
 * Their hints lie some steps behind them; one step, where they are moved each time. */
static void check_head(struct fst_check *c, uint32_t channel, const struct fst_ring_view *v)
{
    uint64_t head = fst_load_acquire(&v->ring->head), tail = fst_load_acquire(&v->ring->tail);
    uint64_t n = (tail - head) & FST_POSITION_MASK;
    bool moved = fst_load_seq_cst(&v->ring->head) != head;
    if (fst_load_acquire(&v->ring->ended) || fst_load_acquire(&v->ring->subscribers_top) > FST_SUBSCRIBERS)
        fst_check_say(c, "channel %u: it lives, and its ring says %u, %u", channel, v->ring->ended, v->ring->subscribers_top);
    uint64_t steps = v->flags & (FST_CHANNEL_TOPIC | FST_CHANNEL_LOCK) ? 1 : FST_RING_BEHIND;
    if (!is_behind(v, head, true) || !is_behind(v, tail, false) ||
        (!moved && n > v->mask + 1 + steps && FST_POSITION_MASK - n >= steps))
        fst_check_say(c, "channel %u: its messages go from position %llu to %llu", channel, (unsigned long long)head,
                      (unsigned long long)tail);
}

/* Check a subscriber. Positions only grow, so a cursor is not in front of the tail, whose hint may
 * be a step behind. */
static void check_subscriber(struct fst_check *c, uint32_t topic, const struct fst_ring_view *v, uint32_t i)
{
    struct fst_subscriber *s = fst_subscriber_at(v, i);
    uint64_t word = fst_load_acquire(&s->word), cursor = fst_load_acquire(&s->cursor);
    uint64_t tail = fst_load_seq_cst(&v->ring->tail) & FST_POSITION_MASK;
    bool known = (word & FST_SUBSCRIBER_STATE) <= FST_SUBSCRIBER_LIVE;
    bool owned = fst_lock_owner(fst_subscriber_owner(word)) < fst_process_top(c->a);
    bool good = !fst_subscriber_live(word) ||
                (owned && cursor <= FST_POSITION_MASK && !fst_position_before((tail + 1) & FST_POSITION_MASK, cursor));
    if ((!known || !good) && fst_load_acquire(&s->word) == word)
        fst_check_say(c, "topic %u: subscriber %u says %llx, and reads position %llu", topic, i, (unsigned long long)word,
                      (unsigned long long)cursor);
}

/* Check the bounds on nodes that were used. They are raised before that, by some nodes at a time,
 * so those right behind a bound are as they were made. */
static void check_bounds(struct fst_check *c, uint32_t channel, const struct fst_ring_view *v)
{
    uint32_t nodes = fst_load_acquire(&v->channel->nodes_top), refs = fst_load_acquire(&v->channel->refs_top);
    /* nothing is ever put into the ring of a lock */
    uint32_t cells = v->flags & FST_CHANNEL_LOCK ? 0 : (uint32_t)v->mask + 1;
    bool owned = nodes > cells || nodes % FST_RING_STEP, referred = refs > cells || refs % FST_RING_STEP;
    for (uint32_t k = nodes; k < cells && k < nodes + FST_RING_STEP; k++)
        owned |= fst_load_acquire(&fst_node_at(v, k)->word) != fst_node_word(FST_NODE_FREE, 0, 0);
    for (uint32_t k = refs; k < cells && k < refs + FST_RING_STEP; k++)
        referred |= fst_load_acquire(&v->refs[k]) != 0;
    owned = owned && fst_load_acquire(&v->channel->nodes_top) == nodes;
    referred = referred && fst_load_acquire(&v->channel->refs_top) == refs;
    if (owned || referred)
        fst_check_say(c, "channel %u: of %s %u were used, it says, and %u referred to objects", channel,
                      fst_many(cells, "node", "nodes"), nodes, refs);
}

/* Check a lot of a live channel's ring, from this node on. The next one begins at the result; 0:
 * there is none. */
static uint64_t check_lot(struct fst_check *c, uint32_t i, uint64_t from)
{
    struct fst_ring_view v;
    size_t before = c->findings;
    const struct fst_channel *channel = fst_channel_at(c->a, i);
    if (!fst_registry_lock(c->a)) {
        c->held = true;
        return 0;
    }
    int rc = FST_CLOSED;
    if (fst_state(fst_load_acquire(&channel->state)) == FST_CHANNEL_LIVE)
        rc = fst_ring_look(c->a, i, &v);
    if (rc == FST_STALE) /* a channel ends before its ring is released */
        fst_check_say(c, "channel %u: it lives, and its ring is gone", i);
    if (rc) {
        fst_registry_unlock(c->a);
        return 0;
    }
    uint64_t k = from;
    for (uint32_t n = 0; n < FST_CHANNEL_LOT && k <= v.mask && c->findings == before; n++, k++) {
        check_cell(c, i, &v, k);
        if (k < fst_ring_nodes(&v) || k < fst_ring_refs(&v))
            check_node(c, i, &v, (uint32_t)k);
    }
    bool more = k <= v.mask && c->findings == before;
    if (!more && c->findings == before)
        check_bounds(c, i, &v);
    if (!more && c->findings == before)
        check_head(c, i, &v);
    for (uint32_t s = 0; !more && v.flags & FST_CHANNEL_TOPIC && s < fst_subscriber_top(&v) && c->findings == before; s++)
        check_subscriber(c, i, &v, s);
    if (v.flags & FST_CHANNEL_LOCK)
        fst_check_lock(c, "lock", i, &v.ring->lock);
    fst_channel_looked(c->a, &v);
    return more ? k : 0;
}

static void check_ring(struct fst_check *c, uint32_t i)
{
    uint64_t next = 0;
    do
        next = check_lot(c, i, next);
    while (next);
}

void fst_check_channels(struct fst_check *c)
{
    uint32_t top = fst_channel_top(c->a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t state = fst_load_acquire(&fst_channel_at(c->a, i)->state);
        if (fst_check_state(c, "channel", i, state, FST_CHANNEL_ENDED) && fst_state(state) == FST_CHANNEL_LIVE)
            check_ring(c, i);
    }
}
