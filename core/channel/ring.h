/* ring.h - the memory of a channel, and a queue in it that no kill and no stop holds up.
 *
 * Cells of a ring, and nodes that carry messages. A message lies in a node; a cell says which node
 * is at which position.
 *
 *   put    a node FREE -> OWNED, the message into it, QUEUED at the tail's position; then the cell
 *          of that position from (position, EMPTY) to (position, node): it is in the queue. The
 *          tail is moved on. get    the node that the head's cell leads to QUEUED -> OWNED: taken.
 *          The cell becomes EMPTY for the position one round on, by whoever finds that it was
 *          taken; the head is moved on. The message out of it, then FREE. close  the tail's cell
 *          from EMPTY to CLOSED: it cannot race with a put.
 *
 * No cell says that somebody is at it, so nobody has to be waited for: who finds tail, head or a
 * cell behind moves it on. Positions have 40 bits and wrap around; a node's word names its own, so
 * that who was stopped in between does not take a later message for its own.
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
#include "region/region.h"
#include "region/rings.h"

/* nodes more than messages: for those who are putting and taking */
#define FST_RING_SLACK       64u
#define FST_RING_CAPACITY    (1u << 20)
#define FST_RING_INLINE_MOST 4000u

/* A process's view of a ring. */
struct fst_ring_view {
    struct fst_arena *a;
    struct fst_ring *ring;
    uint64_t *cells;
    uint64_t *refs;
    uint8_t *nodes;
    struct fst_subscriber *subscribers; /* of a topic */
    uint64_t mask;                      /* cells - 1 */
    uint32_t capacity, stride, inline_bytes, flags;
    void *mapped; /* where data is mapped read-only: a mapping of its own, to be unmapped */
    uint64_t mapped_bytes;
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

/* Is the node, QUEUED as it says, in the queue? */
bool fst_node_in_cell(const struct fst_ring_view *v, uint32_t node, uint64_t word);

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

/* OWNED by us becomes FREE. */
void fst_node_free(struct fst_node *n);

/* ---- the queue ---- */

/* A FREE node for us to own; FST_NONE: there is none. */
uint32_t fst_ring_claim(const struct fst_ring_view *v);

enum fst_ring_result { FST_RING_OK, FST_RING_WAIT, FST_RING_CLOSED };

/* Put the node, whose word is `owned`, into the queue. WAIT: it is full. Else the node is OWNED by
 * us still. `always`: it was in the queue before, and the capacity does not count. */
enum fst_ring_result fst_ring_publish(const struct fst_ring_view *v, uint32_t node, uint64_t owned, bool always);

/* Own the node that is queued at this position, which is the first one, or none: false. */
bool fst_ring_evict(const struct fst_ring_view *v, uint64_t position, uint32_t *node);

/* Own the first node of the queue. WAIT: there is none; CLOSED: and there will be none. */
enum fst_ring_result fst_ring_get(const struct fst_ring_view *v, uint32_t *node);

/* Full, or empty, at this moment? CLOSED counts as neither. */
bool fst_ring_full(const struct fst_ring_view *v);
bool fst_ring_empty(const struct fst_ring_view *v);

/* Nothing is put any more. Idempotent. */
void fst_ring_close(const struct fst_ring_view *v);

bool fst_ring_closed(const struct fst_ring_view *v);

/* About how many wait. */
uint32_t fst_ring_length(const struct fst_ring_view *v);

/* ---- waiting (models/waiting.pml) ---- */

/* Sleep until the ring is, perhaps, not empty (takers), or not full. Some milliseconds at most: who
 * was woken for us may have been killed. */
void fst_ring_sleep(const struct fst_ring_view *v, bool taker, uint64_t timeout);
/* In two steps, for who waits for something else: look between them. False: say it again. */
bool fst_ring_say_asleep(uint32_t *word, uint32_t *mine);
void fst_ring_await(uint32_t *word, uint32_t mine, uint64_t timeout);
/* Somebody of those who sleep, or all of them. */
void fst_ring_wake_all(const struct fst_ring_view *v);
void fst_ring_wake_slowly(uint32_t *word);
void fst_ring_wake_sleepers(uint32_t *word); /* all of these */
static inline void fst_ring_wake(uint32_t *word)
{
    /* after the swing that there is something to wake for */
    if (__builtin_expect(fst_load_seq_cst(word) & 1, 0))
        fst_ring_wake_slowly(word);
}

#endif
