#include "store/item.h"

#include <string.h>

#include "platform/error.h"
#include "platform/futex.h"
#include "region/lock.h"
#include "region/table.h"

#define PROBES 64u /* holds that are looked at before the table grows instead */

/* Where this thread looks first, for each class; any value will do. */
static _Thread_local uint32_t cursor[FST_ITEM_CLASSES];

/* ---- keys ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* The first 8 bytes as one number, or all n of them, with zeros behind. No copy of n bytes: the
 * processor would have to wait for that before it can read them as one number. */
static uint64_t word_at(const uint8_t *p, uint32_t n)
{
    uint64_t w = 0;
    uint32_t low = 0, high = 0;
    if (n >= 8) {
        memcpy(&w, p, 8);
    } else if (n >= 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        w = low | (uint64_t)high << (n - 4) * 8;
    } else if (n) {
        w = p[0] | (uint64_t)p[n / 2] << n / 2 * 8 | (uint64_t)p[n - 1] << (n - 1) * 8;
    }
    return w;
}

uint64_t fst_item_hash(const struct fst_arena *a, const void *bytes, uint32_t nbytes, uint8_t kind)
{
    const uint8_t *p = bytes;
    uint64_t seed = word_at(a->known.uuid, 8), more = word_at(a->known.uuid + 8, 8) | 1;
    uint64_t h = seed ^ ((uint64_t)nbytes << 8 | kind);
    for (uint32_t at = 0; at < nbytes; at += 16) {
        uint32_t left = nbytes - at;
        h = mix(word_at(p + at, left) ^ more, (left > 8 ? word_at(p + at + 8, left - 8) : 0) ^ h ^ 0x9e3779b97f4a7c15ull);
    }
    return mix(h ^ more, 0xe7037ed1a0b428dbull ^ seed);
}

bool fst_item_is(const struct fst_item *item, uint32_t store, const struct fst_hashed_key *key)
{
    return fst_load_relaxed(&item->hash) == key->hash && item->store == store && item->key_bytes == key->nbytes &&
           item->key_kind == key->kind && memcmp(item + 1, key->bytes, key->nbytes) == 0;
}

bool fst_item_expired(const struct fst_item *item)
{
    uint64_t expires = fst_load_relaxed(&item->expires);
    return __builtin_expect(expires != 0, 0) && fst_now() >= expires;
}

/* ---- claiming ---- */

static uint64_t own_value(const struct fst_arena *a)
{
    return fst_lock_own_word(a);
}

bool fst_hold_orphaned(struct fst_arena *a, uint64_t hold)
{
    uint32_t owner = (uint32_t)fst_hold_value(hold);
    return fst_hold_kind(hold) == FST_HOLD_OWNED && !fst_slot_alive(a, fst_lock_owner(owner), owner >> FST_LOCK_GEN_SHIFT);
}

static bool try_claim(struct fst_arena *a, uint32_t id, uint64_t *hold)
{
    uint64_t seen = fst_load_relaxed(fst_hold_at(a, id));
    if (fst_hold_kind(seen) != FST_HOLD_FREE || !fst_hold_swing(a, id, seen, FST_HOLD_OWNED, own_value(a)))
        return false;
    *hold = fst_hold_next(seen, FST_HOLD_OWNED, own_value(a));
    cursor[fst_item_class(id)] = fst_item_index(id) + 1;
    return true;
}

/* Own one of the next `probes` holds from the cursor on. */
static uint32_t find(struct fst_arena *a, uint32_t class, uint32_t probes, uint64_t *hold)
{
    uint32_t top = fst_item_top(a, class), at = top ? cursor[class] % top : 0;
    for (uint32_t i = 0; i < probes && i < top; i++, at = at + 1 < top ? at + 1 : 0)
        if (try_claim(a, fst_item_id(class, at), hold))
            return fst_item_id(class, at);
    cursor[class] = at;
    return FST_NONE;
}

uint32_t fst_item_claim(struct fst_arena *a, uint32_t store, const struct fst_hashed_key *key, uint64_t *hold)
{
    uint32_t class = fst_item_class_of(key->nbytes), id = find(a, class, PROBES, hold);
    if (id == FST_NONE && fst_item_top(a, class) >= a->known.tables[FST_T_ITEM + class].count)
        id = find(a, class, UINT32_MAX, hold);
    if (id == FST_NONE)
        return id;
    struct fst_item *item = fst_item_at(a, id);
    fst_store_relaxed(&item->hash, key->hash);
    fst_store_relaxed(&item->store, store);
    fst_store_relaxed(&item->key_kind, key->kind);
    fst_store_relaxed(&item->key_bytes, (uint8_t)key->nbytes);
    fst_store_relaxed(&item->used, 0);
    memcpy(fst_item_key(item), key->bytes, key->nbytes);
    return id;
}

int fst_item_grow(struct fst_arena *a, uint32_t class)
{
    uint32_t top = fst_item_top(a, class), most = (uint32_t)a->known.tables[FST_T_ITEM + class].count;
    if (top >= most)
        return fst_fail(FST_FULL, "all %u items of stores are in use: fewer keys, or a second arena", most);
    uint32_t more = top < 4096 ? 64 : top / 64, want = most - top < more ? most : top + more;
    int rc = fst_table_commit(a, FST_T_HOLD + class, want);
    if (rc == FST_OK)
        rc = fst_table_commit(a, FST_T_ITEM + class, want);
    if (rc == FST_OK && fst_cas32(&a->sb->item_top[class], &top, want))
        cursor[class] = top;
    return rc;
}
