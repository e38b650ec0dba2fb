/* check_stores.c - check the descriptors of stores, their indexes, and what items hold. Holds
 * change without a lock, so each is looked at alone. */
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "refs/word.h"
#include "region/lock.h"
#include "store/index.h"
#include "store/item.h"
#include "store/store.h"

static void check_hold(struct fst_check *c, uint32_t id)
{
    const uint64_t *at = fst_hold_at(c->a, id);
    uint64_t held = fst_load_acquire(at), value = fst_hold_value(held);
    if (fst_hold_kind(held) == FST_HOLD_FREE) {
        if (value)
            fst_check_say(c, "item %x of stores is free, and says %llx", id, (unsigned long long)held);
        return;
    }
    const struct fst_item *item = fst_item_at(c->a, id);
    uint32_t store = item->store;
    const uint64_t *word = fst_hold_kind(held) == FST_HOLD_HELD && !fst_oid_is_group(value) ? fst_word_of(c->a, value) : NULL;
    bool good = fst_hold_kind(held) == FST_HOLD_OWNED || (word && (fst_load_acquire(word) & FST_WORD_ALLOCATED));
    bool whole = fst_hold_kind(held) != FST_HOLD_HELD ||
                 (store < fst_store_top(c->a) && sizeof *item + item->key_bytes <= fst_item_class_bytes[fst_item_class(id)]);
    /* A batch frees what a store that has ended held, and only then says so. */
    bool ending = store < fst_store_top(c->a) && fst_state(fst_load_acquire(&fst_store_at(c->a, store)->state)) != FST_STORE_LIVE;
    fst_acquire_fence();
    if (ending || (good && whole && fst_hold_kind(held) <= FST_HOLD_HELD) || fst_load_relaxed(at) != held)
        return;
    fst_check_say(c, "item %x of store %u holds %llx", id, store, (unsigned long long)held);
}

static void check_index(struct fst_check *c, uint32_t i)
{
    struct fst_store *s = fst_store_at(c->a, i);
    struct fst_index x;
    if (!fst_store_lock(c->a, i)) {
        c->held = true;
        return;
    }
    if (fst_state(fst_load_acquire(&s->state)) == FST_STORE_LIVE && fst_index_see(c->a, s, &x)) {
        uint64_t filled = 0;
        for (uint64_t at = 0; at < x.size; at++)
            filled += fst_load_relaxed(&x.slots[at]) != FST_SLOT_EMPTY;
        if (filled != s->filled)
            fst_check_say(c, "store %u: %s filled in its index, and it says %llu", i, fst_many(filled, "slot is", "slots are"),
                          (unsigned long long)s->filled);
    }
    fst_store_unlock(c->a, i);
}

void fst_check_stores(struct fst_check *c)
{
    uint32_t top = fst_store_top(c->a);
    for (uint32_t i = 0; i < top; i++) {
        struct fst_store *s = fst_store_at(c->a, i);
        uint64_t state = fst_load_acquire(&s->state);
        fst_check_lock(c, "store", i, &s->lock);
        if (fst_check_state(c, "store", i, state, FST_STORE_ENDED) && fst_state(state) == FST_STORE_LIVE)
            check_index(c, i);
    }
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++)
        for (uint32_t i = 0, items = fst_item_top(c->a, class); i < items; i++)
            check_hold(c, fst_item_id(class, i));
}
