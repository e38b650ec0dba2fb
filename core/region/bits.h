/* bits.h - what the bits of the shared words say: object ids, object words, reference and
 * in-flight entries. They are put together and taken apart in refs/word.h.
 *
 * object id (39 bits)   class:3 | slab index:27 | object index:9
 * Class 7 is that of groups, and a group's index stands in place of the slab's.
 *
 * object word (64 bits, atomic, one for each object, in its slab's descriptor)
 *      0       5       10      24           64
 *      | flags | check | slack | generation |
 * slack: the size of the object minus what was asked for (size classes); or, with FST_WORD_FORMED,
 * the number of the object's form (alloc/form.h), which says both what was asked for and what the
 * object means
 *
 * reference entry (64 bits, atomic)
 *      0       2           41               64
 *      | state | object id | low generation |
 * In state EMPTY all bits are 0.
 *
 * in-flight entry's word (64 bits, atomic)
 *      0      1           40    64
 *      | live | object id | tag |
 * tag: counts the uses of this entry; the message carries it
 */
#ifndef FST_REGION_BITS_H
#define FST_REGION_BITS_H

#include <stdint.h>

#define FST_WORD_ALLOCATED 1ull
#define FST_WORD_SHARED    2ull /* another process may have, or have had, a reference */
/* a batch will release the object; or, on a free word, its slab is being given back */
#define FST_WORD_CONDEMNED 4ull
#define FST_WORD_FREED     8ull /* fst_free() was called: handles fail, references keep the bytes */
/* a handle was given out; a handle of an object with neither this nor SHARED does not resolve */
#define FST_WORD_HANDED      16ull
#define FST_WORD_FLAGS       31ull
#define FST_WORD_CHECK_SHIFT 5
#define FST_WORD_CHECK       (31ull << FST_WORD_CHECK_SHIFT)
#define FST_WORD_SLACK_SHIFT 10
#define FST_WORD_SLACK       (16383ull << FST_WORD_SLACK_SHIFT)
#define FST_WORD_FORMED      (8192ull << FST_WORD_SLACK_SHIFT)
#define FST_WORD_GEN_SHIFT   24
#define FST_WORD_GEN1        (1ull << FST_WORD_GEN_SHIFT)

#define FST_OID_BITS  39
#define FST_OID_MASK  ((1ull << FST_OID_BITS) - 1)
#define FST_OID_GROUP 7u /* class of a group's id */

enum fst_entry_state {
    FST_ENTRY_EMPTY = 0,
    FST_ENTRY_LIVE = 1,    /* this process uses the object */
    FST_ENTRY_DROPPED = 2, /* it does not any more: a request to a batch to look at the object */
    FST_ENTRY_TAKEN = 3,   /* a batch is serving that request */
};
#define FST_ENTRY_STATE     3ull
#define FST_ENTRY_GEN_SHIFT 41
#define FST_ENTRY_GEN_BITS  23

#define FST_INFLIGHT_LIVE      1ull
#define FST_INFLIGHT_TAG_SHIFT 40
#define FST_INFLIGHT_TAG_MASK  ((1u << 24) - 1)

/* ---- channels: cells and nodes of a ring (channel/ring.h) ----
 *
 * cell (64 bits, atomic)
 *      0          40     64
 *      | position | node |            node: its number + 1; 0: EMPTY, all ones: CLOSED
 *
 * node's word (64 bits, atomic)
 *      0       2       3     8      24         64
 *      | state | again | pad | slot | position |
 * what object a node's message holds (64 bits, atomic)
 *      0      1           40    64
 *      | held | object id | pad |
 *
* again: the message was in the queue, and goes back there if the owner of the node dies.
 * slot: the process that wrote the word. position: where the node is QUEUED, or was last. */
enum fst_node_state {
    FST_NODE_FREE = 0,
    FST_NODE_OWNED = 1,
    /* in the queue if the cell of its position leads to it; otherwise its putter is about to write
     * that cell, or was killed before */
    FST_NODE_QUEUED = 2,
};
#define FST_NODE_STATE          3ull
#define FST_NODE_AGAIN          4ull
#define FST_NODE_SLOT_SHIFT     8
#define FST_NODE_POSITION_SHIFT 24
#define FST_NODE_HELD           1ull
/* set in nbytes: the message means nothing without its object */
#define FST_NODE_REFERS 0x80000000u

/* a subscriber's word (64 bits, atomic)
 *      0       2      4     8        32      64
 *      | state | slow | pad | serial | owner |
 * owner: the process, as a lock's word names it (region/lock.h). serial: counts the uses of the
 * record */
enum fst_subscriber_state {
    FST_SUBSCRIBER_FREE = 0,
    FST_SUBSCRIBER_COMING = 1, /* it was claimed, and its cursor is not written yet */
    FST_SUBSCRIBER_LIVE = 2,
};
#define FST_SUBSCRIBER_STATE        3ull
#define FST_SUBSCRIBER_SLOW_SHIFT   2
#define FST_SUBSCRIBER_SERIAL_SHIFT 8
#define FST_SUBSCRIBER_SERIAL       (0xffffffull << FST_SUBSCRIBER_SERIAL_SHIFT)
#define FST_SUBSCRIBER_OWNER_SHIFT  32

#define FST_POSITION_BITS   40
#define FST_POSITION_MASK   ((1ull << FST_POSITION_BITS) - 1)
#define FST_CELL_NODE_SHIFT FST_POSITION_BITS
#define FST_CELL_EMPTY      0u
#define FST_CELL_CLOSED     0xffffffu
/* the cell of no position: the result of a walk that found no end */
#define FST_CELL_NOWHERE UINT64_MAX

/* ---- stores: what an item holds (region/stores.h) ----
 *
 * hold (64 bits, atomic)
 *      0      2       41    64
 *      | kind | value | tag |
* value: HELD: an object id; OWNED: the owner's process slot and generation, as in a lock's word
 * tag: counts the changes of this word, so that whoever finds the word unchanged knows that it did
 * not change in between */
enum fst_hold_kind {
    FST_HOLD_FREE = 0,
    FST_HOLD_OWNED = 1, /* by the process that makes it: it has no value yet */
    FST_HOLD_HELD = 2,
};
#define FST_HOLD_KIND      3ull
#define FST_HOLD_SHIFT     2
#define FST_HOLD_TAG_SHIFT 41

#endif
