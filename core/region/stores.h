/* stores.h - every byte of a store: its descriptor, its items, what they hold, and its index. */
#ifndef FST_REGION_STORES_H
#define FST_REGION_STORES_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "flagstone.h"

/* A store is a descriptor, found by its name. Each of its keys is an *item*, a descriptor in a
 * table that all stores share (store/item.h). Beside each item lies a word, its *hold*, which says
 * what object the key holds (region/bits.h). The holds are the truth; they lie close together,
 * because each batch looks at all of them. A store's index is a run of slots in a table that all
 * stores share; it finds items by the hash of a key, and is derived (store/index.h).
 *
 * struct fst_store
 *      0       8       16     24      32      36    64     68         72        80      88
 *      | state | index | next | group | flags | pad | lock | sleepers | version | count |
 *      88       96     104   128    192   256
 *      | filled | hand | pad | name | pad | */
enum fst_store_state {
    FST_STORE_FREE = 0,
    FST_STORE_LIVE = 1,
    FST_STORE_ENDED = 2, /* its name is free; batches let go of what its items hold */
};

struct fst_store {
    uint64_t state;
    /* first slot | log2 of their number << 32 | how often it was moved << 40; 0: none yet */
    uint64_t index;
    uint64_t next;  /* the same of slots that are reserved and being filled; 0: none */
    uint64_t group; /* id of the group that the store ends with */
    uint32_t flags; /* FST_STORE_* of flagstone_store.h */
    uint32_t pad0[7];
    uint32_t lock; /* of whoever changes the store; looking up does not need it */
    /* futex for those who wait until the store changes: count << 1 | somebody may sleep */
    uint32_t sleepers;
    uint64_t version; /* counts the store's changes, each after it was made */
    uint64_t count;   /* keys with a value; derived, as the two below; batches do not count */
    uint64_t filled;  /* slots of the index that are not EMPTY */
    uint64_t hand;    /* where eviction looks next; a hint */
    uint32_t pad1[6];
    char name[FST_NAME_MAX];
    uint64_t pad2[8];
};
static_assert(offsetof(struct fst_store, lock) == 64, "layout");
static_assert(offsetof(struct fst_store, name) == 128, "layout");
static_assert(sizeof(struct fst_store) == 256, "layout");

#define FST_INDEX_LOG2_SHIFT  32
#define FST_INDEX_MOVED_SHIFT 40

/* An item; behind it lie the key's bytes. The process that has claimed its hold writes it, before
 * the hold says HELD. `used` is a hint.
 * struct fst_item
 *      0      8          24        32      36         37     38          39    40
 *      | hash | versions | expires | store | key_kind | used | key_bytes | pad | */
struct fst_item {
    uint64_t hash;
    /* the store's version, and below it the value's kind, which is the user's: one for holds whose
     * tag is even, and one for odd ones. Written before the hold */
    uint64_t versions[2];
    uint64_t expires; /* ns since boot; 0: never */
    uint32_t store;   /* index of the store's descriptor */
    uint8_t key_kind; /* the user's, part of the key */
    uint8_t used;     /* 1: it was looked up since the hand of the eviction passed by */
    uint8_t key_bytes;
    uint8_t pad;
};
static_assert(sizeof(struct fst_item) == 40, "layout");

/* Tables of items by the length of their keys: the bytes of an item with its key. */
#define FST_ITEM_CLASSES 3
#define FST_KEY_MOST     255u
static const uint16_t fst_item_class_bytes[FST_ITEM_CLASSES] = {64, 128, 296};
static_assert(296 - sizeof(struct fst_item) >= FST_KEY_MOST, "layout");

/* A slot of an index: item id + 2 | upper half of the hash << 32. */
#define FST_SLOT_EMPTY 0u
#define FST_SLOT_GONE  1u /* a key was removed here: whoever looks for another one goes on */

#endif
