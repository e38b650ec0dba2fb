/* ring.h - the memory of a channel, and a queue in it that no kill and no stop holds up.
 *
 * Cells of a ring, and nodes that carry messages. A message lies in a node; a cell says which node
 * is at which position.
 *
 *   put    a node FREE -> OWNED, the message into it, QUEUED at the tail's position; then the cell
 *          of that position, which says (position, EMPTY) or what was there a round ago, becomes
 *          (position, node): it is in the queue.
 *
 *   get    the node that the head's cell leads to QUEUED -> OWNED: taken. The message out of it,
 *          then FREE. The cell stays as it is.
 *
 *   close  the tail's cell becomes (position, CLOSED): it cannot race with a put.
 *
 * The tail is the first position that nothing was put to, the head the first that nothing was taken
 * from. The words `tail` and `head` are hints that lie at most there: a process begins where it
 * came to itself, or at the hint, and goes on from one used position to the next. Whoever passes
 * one position in FST_RING_HINTED moves the hint behind it, so that a line which all write is
 * written rarely; in a topic, whose subscribers go by the hints, each time.
 *
 * No cell says that somebody is at it, so nobody has to be waited for. Positions have 40 bits and
 * wrap around; a node's word names its own, so that who was stopped in between does not take a
 * later message for its own.
 *
 * Killed anywhere: a node OWNED by the dead process, or one that says QUEUED and is in no cell. The
 * batch that buries it frees these (reclaim/letters.h), before its process slot is used again.
 * models/channel.pml.
 *
 * Nothing that lies in the ring is trusted: what is constant is copied when it is opened, numbers
 * of nodes are compared with how many there are, and a walk that goes on for ever ends as damage.
 */
#ifndef FST_CHANNEL_RING_H
#define FST_CHANNEL_RING_H

#include "platform/atomics.h"
#include "region/file.h"
#include "region/rings.h"

/* nodes more than messages: for those who are putting and taking */
#define FST_RING_SLACK  64u
#define FST_RING_HINTED 16u /* a power of two */
/* positions that a process may be ahead of a hint: some were killed before they moved it */
#define FST_RING_BEHIND      64u
#define FST_RING_CAPACITY    (1u << 20)
#define FST_RING_INLINE_MOST 4000u

/* A process's view of a ring. */
struct fst_ring_view {
    struct fst_arena *a;
    struct fst_ring *ring;
    const uint32_t *over; /* whether it has ended: `ring->ended`, and later channel/use.c's own */
    uint64_t *cells;
    uint64_t *refs;
    uint8_t *nodes;
    struct fst_subscriber *subscribers; /* of a topic */
    uint64_t mask;                      /* cells - 1 */
    uint64_t hinted;                    /* a hint is moved behind positions with all these bits */
    uint64_t seen_tail, seen_head;      /* where this process came to */
    uint32_t capacity, stride, inline_bytes, flags;
    struct fst_mapped mapped; /* where data is mapped read-only: the ring, to be unmapped */
};

/* What a ring for so many messages needs. */
uint32_t fst_ring_cells(uint32_t capacity, uint32_t flags);
uint64_t fst_ring_bytes(uint32_t capacity, uint32_t inline_bytes, uint32_t flags);

/* See the ring that the descriptor leads to; somebody keeps its object from being released.
 * FST_STALE: it is gone. FST_OS. The second is for who only reads. */
int fst_ring_map(struct fst_arena *a, const struct fst_channel *c, struct fst_ring_view *v);
int fst_ring_look(struct fst_arena *a, const struct fst_channel *c, struct fst_ring_view *v);
/* Has the ring been released? */
bool fst_ring_gone(const struct fst_arena *a, const struct fst_channel *c);
void fst_ring_unmap(struct fst_ring_view *v);

/* Before anybody else can see it. */
void fst_ring_format(struct fst_ring_view *v);

/* ---- nodes ---- */

static inline struct fst_node *fst_node_at(const struct fst_ring_view *v, uint32_t node)
{
    return (struct fst_node *)(void *)(v->nodes + (uint64_t)node * v->stride);
}

static inline uint8_t *fst_node_bytes(struct fst_node *n)
{
    return (uint8_t *)(n + 1);
}

static inline uint64_t fst_node_word(uint64_t state, uint32_t slot, uint64_t position)
{
    return state | (uint64_t)slot << FST_NODE_SLOT_SHIFT | position << FST_NODE_POSITION_SHIFT;
}

static inline uint32_t fst_node_slot(uint64_t word)
{
    return (uint32_t)(word >> FST_NODE_SLOT_SHIFT) & (FST_MAX_PROCESSES - 1);
}

static inline uint64_t fst_node_position(uint64_t word)
{
    return word >> FST_NODE_POSITION_SHIFT;
}
static_assert(FST_MAX_PROCESSES <= 1u << 16, "a slot's bits");

/* What object a message holds. */
static inline uint64_t fst_node_ref(uint64_t oid)
{
    return FST_NODE_HELD | oid << 1;
}

static inline uint64_t fst_node_oid(uint64_t ref)
{
    return ref >> 1 & FST_OID_MASK;
}

static inline bool fst_position_before(uint64_t position, uint64_t other)
{
    return ((position - other) & FST_POSITION_MASK) >> (FST_POSITION_BITS - 1);
}

static inline uint64_t *fst_cell_at(const struct fst_ring_view *v, uint64_t position)
{
    return &v->cells[position & v->mask];
}

static inline uint64_t fst_cell(uint64_t position, uint64_t node)
{
    return (position & FST_POSITION_MASK) | node << FST_CELL_NODE_SHIFT;
}

static inline uint64_t fst_cell_position(uint64_t c)
{
    return c & FST_POSITION_MASK;
}

/* The node that a cell leads to, or NULL. */
static inline struct fst_node *fst_cell_node(const struct fst_ring_view *v, uint64_t c)
{
    uint64_t node = c >> FST_CELL_NODE_SHIFT;
    return node - 1 <= v->mask ? fst_node_at(v, (uint32_t)(node - 1)) : NULL;
}

static inline bool fst_node_queued_at(uint64_t word, uint64_t position)
{
    return (word & FST_NODE_STATE) == FST_NODE_QUEUED && fst_node_position(word) == position;
}

#endif
