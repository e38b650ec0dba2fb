/* ring.h - the memory of a channel, and a queue in it that no kill and no stop holds up.
 *
 * A ring has cells, and nodes that carry messages. A message lies in a node; a cell says which node
 * is at which position.
 *
 *   - put: a node goes from FREE to OWNED, the message is written into it, and it becomes QUEUED at
 *     the tail's position. Then the cell of that position, which says (position, EMPTY) or what was
 *     there a round ago, becomes (position, node): now the message is in the queue.
 *   - get: the node to which the head's cell leads goes from QUEUED to OWNED: it is taken. The
 *     message is read, then the node becomes FREE. The cell stays as it is.
 *   - close: the tail's cell becomes (position, CLOSED), so a close cannot race with a put.
 *
 * The tail is the first position that nothing was put to, and the head the first that nothing was
 * taken from. The words `tail` and `head` are hints that never lie beyond these. A process begins
 * where it came to itself, or at the hint, and goes on from one used position to the next. Whoever
 * passes one position in FST_RING_HINTED moves the hint behind it, so that a line which all
 * processes write is written rarely; in a topic, whose subscribers go by the hints, each position
 * moves it.
 *
 * No cell says that somebody is at it, so nobody has to be waited for. Positions have 40 bits and
 * wrap around; a node's word has its own position, so that a process that was stopped in between
 * does not take a later message for its own.
 *
 * A kill anywhere leaves a node OWNED by the dead process, or one that says QUEUED and is in no
 * cell. The batch that buries the process frees these (reclaim/letters.h), before its slot is used
 * again. The model is models/channel.pml.
 *
 * Nothing that lies in the ring is trusted: what is constant is copied when the ring is opened,
 * numbers of nodes are compared with how many there are, and a walk that goes on for ever ends as
 * damage.
 */
#ifndef FST_CHANNEL_RING_H
#define FST_CHANNEL_RING_H

#include "platform/atomics.h"
#include "region/file.h"
#include "region/rings.h"

/* There are so many more nodes than messages, for processes that are just putting and taking. */
#define FST_RING_SLACK  64u
#define FST_RING_HINTED 16u /* positions between two moves of a hint, a power of two */
/* A process may be so many positions ahead of a hint, because others were killed before they moved
 * it. */
#define FST_RING_BEHIND      64u
#define FST_RING_CAPACITY    (1u << 20)
#define FST_RING_INLINE_MOST 4000u

/* Bounds on nodes are raised by so many at a time. */
#define FST_RING_STEP FST_RING_SLACK

/* A process's view of a ring. */
struct fst_ring_view {
    struct fst_arena *a;
    struct fst_ring *ring;
    struct fst_channel *channel; /* the descriptor; NULL: it has none yet */
    uint32_t number;             /* of the descriptor */
    /* points to `ring->ended`; later to a word of channel/use.c, when the ring has been let go
     * of */
    const uint32_t *over;
    uint64_t *cells;
    uint64_t *refs;
    uint8_t *nodes;
    struct fst_subscriber *subscribers; /* of a topic */
    uint64_t mask;                      /* cells - 1 */
    /* a hint is moved behind positions that have all these bits */
    uint64_t hinted;
    uint64_t seen_tail, seen_head; /* positions that this process came to */
    /* what this process knows the descriptor's bounds to be at least; 0: it has raised none */
    uint32_t seen_nodes, seen_refs;
    bool said; /* the process's slot says that it may own nodes here */
    uint32_t capacity, stride, inline_bytes, flags;
    /* where the data region is mapped read-only: the ring, mapped for writing, to be unmapped */
    struct fst_mapped mapped;
};

/* How many cells, and how many bytes, a ring for so many messages needs. */
uint32_t fst_ring_cells(uint32_t capacity, uint32_t flags);
uint64_t fst_ring_bytes(uint32_t capacity, uint32_t inline_bytes, uint32_t flags);

/* Map the ring that the descriptor leads to, while somebody keeps its object from being released.
 * fst_ring_look maps it for reading only, and needs no unmapping; fst_ring_map_new, when it has no
 * descriptor in the table yet. FST_STALE: the object is gone. FST_OS, FST_CORRUPTED. */
int fst_ring_map(struct fst_arena *a, uint32_t channel, struct fst_ring_view *v);
int fst_ring_look(struct fst_arena *a, uint32_t channel, struct fst_ring_view *v);
int fst_ring_map_new(struct fst_arena *a, const struct fst_channel *c, struct fst_ring_view *v);
/* Has the ring been released? */
bool fst_ring_gone(const struct fst_arena *a, const struct fst_channel *c);
void fst_ring_unmap(struct fst_ring_view *v);

/* Make the ring empty, before anybody else can see it. */
void fst_ring_format(struct fst_ring_view *v);

/* ---- what was used of a ring ----
 *
 * A ring for a million messages may have carried three. So whoever looks through it for what others
 * left goes to two bounds, on nodes that were owned and on nodes that referred to an object; and a
 * batch looks for what a dead process had only where its slot says that it may have had something.
 * All three are written before the node is: a kill in between has a few nodes too many looked at.
 */

/* How many nodes may be other than FREE, and how many may refer to an object. PAIR(reference): a
 * bound is raised before a reference lies there, so it is loaded where the references are. */
static inline uint32_t fst_ring_nodes(const struct fst_ring_view *v)
{
    uint32_t top = fst_load_acquire(&v->channel->nodes_top);
    return top <= v->mask + 1 ? top : (uint32_t)v->mask + 1;
}

static inline uint32_t fst_ring_refs(const struct fst_ring_view *v)
{
    uint32_t top = fst_load_acquire(&v->channel->refs_top);
    return top <= v->mask + 1 ? top : (uint32_t)v->mask + 1;
}

void fst_ring_say_slowly(struct fst_ring_view *v);
void fst_ring_own_slowly(struct fst_ring_view *v, uint32_t node);
void fst_ring_refer_slowly(struct fst_ring_view *v, uint32_t node);

/* This process may come to own a node of others, or a subscription. */
static inline void fst_ring_say(struct fst_ring_view *v)
{
    if (__builtin_expect(!fst_load_relaxed(&v->said), 0))
        fst_ring_say_slowly(v);
}

/* This process is about to own this FREE node. */
static inline void fst_ring_own(struct fst_ring_view *v, uint32_t node)
{
    if (__builtin_expect(node >= fst_load_relaxed(&v->seen_nodes), 0))
        fst_ring_own_slowly(v, node);
}

/* This node is about to refer to an object. */
static inline void fst_ring_refer(struct fst_ring_view *v, uint32_t node)
{
    if (__builtin_expect(node >= fst_load_relaxed(&v->seen_refs), 0))
        fst_ring_refer_slowly(v, node);
}

/* In a forked child: what the parent's slot says is not said by the child's. */
static inline void fst_ring_forked(struct fst_ring_view *v)
{
    fst_own_store_relaxed(&v->said, false);
    fst_own_store_relaxed(&v->seen_nodes, 0);
}

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

/* The word that says what object a message holds. */
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

/* The node to which a cell leads, or NULL. */
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
