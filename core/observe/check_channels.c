/* check_channels.c - descriptors of channels and their rings. Nothing in a ring is under a lock:
 * what is being changed is looked at again. */
#include "channel/channel.h"
#include "observe/check.h"
#include "platform/atomics.h"
#include "refs/word.h"
#include "region/lock.h"

/* What the word says, and what it refers to, if that is the same before and after. */
static void check_node(struct fst_check *c, uint32_t channel, const struct fst_ring_view *v, uint32_t k)
{
    const struct fst_node *n = fst_node_at(v, k);
    uint64_t word = fst_load_acquire(&n->word), ref = fst_load_acquire(&v->refs[k]);
    uint64_t *object = fst_word_of(c->a, fst_node_oid(ref));
    bool held = ref & FST_NODE_HELD, there = held && object && (fst_load_acquire(object) & FST_WORD_ALLOCATED);
    bool known = (word & FST_NODE_STATE) <= FST_NODE_QUEUED;
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

static void check_ring(struct fst_check *c, uint32_t i)
{
    struct fst_ring_view v;
    size_t before = c->findings;
    uint32_t given_up = fst_lock_given_up();
    if (!fst_channel_look(c->a, i, &v)) {
        c->held |= fst_lock_given_up() != given_up;
        return;
    }
    for (uint64_t k = 0; k <= v.mask && c->findings == before; k++) {
        check_cell(c, i, &v, k);
        check_node(c, i, &v, (uint32_t)k);
    }
    fst_channel_looked(c->a, &v);
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
