/* item.h - the keys of stores: items, which all stores share, and what they hold.
 *
 *   - FREE -> OWNED: by whoever puts a key that is not there, or makes its value; by
 *     compare-and-swap.
 *   - OWNED -> HELD: by the same process; then everybody finds the key. Or OWNED -> FREE: that
 *     process gave up; or it died, and a batch, or whoever wants the key, says so.
 *   - HELD -> HELD: the value is replaced; by compare-and-swap, as in all changes.
 *   - HELD -> FREE: the key is removed, evicted or expired; or its object's group was destroyed.
 *
 * A hold keeps its object as a message does, but for any number of takers. The scan looks at holds
 * before it looks at the processes' tables, because references move from there to these. Whoever
 * puts has an entry of its own while it writes the hold, and whoever replaces has one of the old
 * object before it swings the hold away: so somebody asks a batch to look at the object, after a
 * kill as well.
 *
 * Whoever looks up writes its entry, and then finds the hold as it was, with its tag: from then on
 * it has what the hold holds. So an item may be used for another key at once, like an object of a
 * TYPESAFE_BY_RCU cache: what was read of it counts only if the hold has not changed meanwhile. The
 * model is models/store.pml.
 */
#ifndef FST_STORE_ITEM_H
#define FST_STORE_ITEM_H

#include "platform/atomics.h"
#include "refs/word.h"
#include "region/region.h"

/* ---- ids: class << 30 | index ---- */

#define FST_ITEM_INDEX_BITS 30
static_assert(FST_MAX_ITEMS <= 1u << FST_ITEM_INDEX_BITS, "an id's bits");

static inline uint32_t fst_item_id(uint32_t class, uint32_t index)
{
    return class << FST_ITEM_INDEX_BITS | index;
}

static inline uint32_t fst_item_class(uint32_t id)
{
    return id >> FST_ITEM_INDEX_BITS;
}

static inline uint32_t fst_item_index(uint32_t id)
{
    return id & ((1u << FST_ITEM_INDEX_BITS) - 1);
}

static inline uint32_t fst_item_class_of(uint32_t key_bytes)
{
    uint32_t class = 0;
    while (sizeof(struct fst_item) + key_bytes > fst_item_class_bytes[class])
        class ++;
    return class;
}

/* Does the id name an item that was ever used? Nothing may be read of any other. */
static inline bool fst_item_ok(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = fst_item_class(id);
    return class < FST_ITEM_CLASSES && fst_below(a, FST_T_ITEM + class, fst_item_index(id), &a->sb->item_top[class]);
}

static inline struct fst_item *fst_item_at(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = fst_item_class(id);
    return (struct fst_item *)fst_at(a, FST_T_ITEM + class, fst_item_index(id), fst_item_class_bytes[class]);
}

static inline uint64_t *fst_hold_at(const struct fst_arena *a, uint32_t id)
{
    return (uint64_t *)fst_at(a, FST_T_HOLD + fst_item_class(id), fst_item_index(id), sizeof(uint64_t));
}

/* ---- holds ---- */

static inline uint32_t fst_hold_kind(uint64_t hold)
{
    return (uint32_t)(hold & FST_HOLD_KIND);
}

static inline uint64_t fst_hold_value(uint64_t hold)
{
    return hold >> FST_HOLD_SHIFT & FST_OID_MASK;
}

/* The word that follows this hold, with the next tag. */
static inline uint64_t fst_hold_next(uint64_t hold, enum fst_hold_kind kind, uint64_t value)
{
    return ((hold >> FST_HOLD_TAG_SHIFT) + 1) << FST_HOLD_TAG_SHIFT | value << FST_HOLD_SHIFT | (uint64_t)kind;
}

/* Which of the item's two `versions` belongs to the hold. */
static inline uint32_t fst_hold_parity(uint64_t hold)
{
    return (uint32_t)(hold >> FST_HOLD_TAG_SHIFT) & 1;
}

/* Swing the hold from exactly this word. False: it is another one by now. */
static inline bool fst_hold_swing(const struct fst_arena *a, uint32_t id, uint64_t seen, enum fst_hold_kind kind, uint64_t value)
{
    return fst_cas64(fst_hold_at(a, id), &seen, fst_hold_next(seen, kind, value));
}

/* Is the hold OWNED by a process that is gone? */
bool fst_hold_orphaned(struct fst_arena *a, uint64_t hold);

/* ---- items ---- */

struct fst_hashed_key {
    const void *bytes;
    uint32_t nbytes;
    uint8_t kind;
    uint64_t hash;
};

/* The hash of a key. The arena's uuid is in it, so nobody who does not know the arena can choose
 * keys with the same hash. */
uint64_t fst_item_hash(const struct fst_arena *a, const void *bytes, uint32_t nbytes, uint8_t kind);

static inline uint8_t *fst_item_key(struct fst_item *item)
{
    return (uint8_t *)(item + 1);
}

/* Is the item this key's, in this store? The answer counts only if the hold does not change
 * meanwhile. */
bool fst_item_is(const struct fst_item *item, uint32_t store, const struct fst_hashed_key *key);

/* Own a FREE item for this key; *hold receives its word. FST_NONE: there is none, so commit more
 * (fst_item_grow) and try again. */
uint32_t fst_item_claim(struct fst_arena *a, uint32_t store, const struct fst_hashed_key *key, uint64_t *hold);
/* Commit more items of the class, and raise their bound. Without locks. FST_FULL, FST_OS. */
int fst_item_grow(struct fst_arena *a, uint32_t class);

/* Is the time of its key over? */
bool fst_item_expired(const struct fst_item *item);

#endif
