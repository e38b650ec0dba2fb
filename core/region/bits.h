/* bits.h - what the bits of the shared words say: object ids, object words, reference and
 * in-flight entries. They are put together and taken apart in refs/word.h.
 *
 * object id (39 bits)   class:3 | slab index:27 | object index:9
 * class 7: a group, its index in place of the slab's
 *
 * object word (64 bits, atomic, one for each object, in its slab's descriptor)
 *      0       5       10      24           64
 *      | flags | check | slack | generation |
 * slack: size of the object minus what was asked for (size classes)
 *
 * reference entry (64 bits, atomic)
 *      0       2           41               64
 *      | state | object id | low generation |
 * state EMPTY: all bits 0
 *
 * in-flight entry's word (64 bits, atomic)
 *      0      1           40    64
 *      | live | object id | tag |
 * tag: counts the uses of this entry, carried in the message
 */
#ifndef FST_REGION_BITS_H
#define FST_REGION_BITS_H

#include <stdint.h>

#define FST_WORD_ALLOCATED   1ull
#define FST_WORD_SHARED      2ull  /* somebody else may have, or have had, a reference */
#define FST_WORD_CONDEMNED   4ull  /* a batch will release it, or (on a free word) its slab is being given back */
#define FST_WORD_FREED       8ull  /* free() was called: handles fail, references keep the bytes */
#define FST_WORD_HANDED      16ull /* somebody was given a handle: without this or SHARED, none resolves */
#define FST_WORD_FLAGS       31ull
#define FST_WORD_CHECK_SHIFT 5
#define FST_WORD_CHECK       (31ull << FST_WORD_CHECK_SHIFT)
#define FST_WORD_SLACK_SHIFT 10
#define FST_WORD_SLACK       (16383ull << FST_WORD_SLACK_SHIFT)
#define FST_WORD_GEN_SHIFT   24
#define FST_WORD_GEN1        (1ull << FST_WORD_GEN_SHIFT)

#define FST_OID_BITS  39
#define FST_OID_MASK  ((1ull << FST_OID_BITS) - 1)
#define FST_OID_GROUP 7u /* class of a group's id */

enum fst_entry_state {
    FST_ENTRY_EMPTY = 0,
    FST_ENTRY_LIVE = 1,    /* this process uses the object */
    FST_ENTRY_DROPPED = 2, /* it does not any more: a request to look at the object */
    FST_ENTRY_TAKEN = 3,   /* a batch has taken the request */
};
#define FST_ENTRY_STATE     3ull
#define FST_ENTRY_GEN_SHIFT 41
#define FST_ENTRY_GEN_BITS  23

#define FST_INFLIGHT_LIVE      1ull
#define FST_INFLIGHT_TAG_SHIFT 40
#define FST_INFLIGHT_TAG_MASK  ((1u << 24) - 1)

#endif
