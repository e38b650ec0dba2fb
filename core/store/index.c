#include "store/index.h"

#include "alloc/registry.h"
#include "platform/error.h"
#include "region/table.h"

#define LEAST 512u /* slots of the smallest run, which fill a page */

static uint64_t start_of(uint64_t word)
{
    return (uint32_t)word;
}

static uint64_t size_of(uint64_t word)
{
    return word ? 1ull << (word >> FST_INDEX_LOG2_SHIFT & 63) : 0;
}

bool fst_index_see(const struct fst_arena *a, const struct fst_store *s, struct fst_index *out)
{
    uint64_t word = fst_load_acquire(&s->index), last = start_of(word) + size_of(word) - 1;
    out->word = word;
    out->size = size_of(word);
    out->slots = (uint64_t *)(void *)a->table[FST_T_SLOT] + start_of(word);
    if (__builtin_expect(!word || last < fst_room(a, FST_T_SLOT), 1))
        return true;
    fst_beyond(a, FST_T_SLOT, last < FST_NONE ? (uint32_t)last : FST_NONE);
    return last < fst_room(a, FST_T_SLOT);
}

/* ---- searching ---- */

static inline uint32_t slot_item(uint64_t slot)
{
    return (uint32_t)slot - 2;
}

uint32_t fst_index_next(const struct fst_index *x, struct fst_search *search)
{
    while (search->steps < x->size) {
        uint64_t at = (search->hash + search->steps++) & (x->size - 1), slot = fst_load_acquire(&x->slots[at]);
        if (slot == FST_SLOT_EMPTY)
            break;
        if (slot != FST_SLOT_GONE && slot >> 32 == search->hash >> 32) {
            search->at = at;
            return slot_item(slot);
        }
    }
    return FST_NONE;
}

uint32_t fst_index_item(const struct fst_arena *a, uint32_t store, const struct fst_index *x, uint64_t at)
{
    uint64_t slot = fst_load_acquire(&x->slots[at & (x->size - 1)]);
    if (slot == FST_SLOT_EMPTY || slot == FST_SLOT_GONE || !fst_item_ok(a, slot_item(slot)))
        return FST_NONE;
    const struct fst_item *item = fst_item_at(a, slot_item(slot));
    return item->store == store && fst_load_relaxed(&item->hash) >> 32 == slot >> 32 ? slot_item(slot) : FST_NONE;
}

/* ---- changing ---- */

bool fst_index_roomy(const struct fst_store *s, const struct fst_index *x)
{
    return (s->filled + 1) * 4 <= x->size * 3;
}

/* Add a slot. True: it was EMPTY before. A killed putter may have left one that leads to the
 * item. */
static bool add(const struct fst_index *x, uint64_t hash, uint32_t item)
{
    uint64_t *into = NULL, slot = (uint64_t)(item + 2) | (hash >> 32) << 32, seen = FST_SLOT_GONE;
    for (uint64_t i = 0; i < x->size && seen != FST_SLOT_EMPTY; i++) {
        uint64_t *at = &x->slots[(hash + i) & (x->size - 1)];
        seen = fst_load_relaxed(at);
        if (seen == slot)
            return false;
        if (!into && (seen == FST_SLOT_EMPTY || seen == FST_SLOT_GONE))
            into = at;
    }
    if (!into)
        return false; /* there always is one: fst_index_roomy */
    bool empty = fst_load_relaxed(into) == FST_SLOT_EMPTY;
    fst_store_release(into, slot);
    return empty;
}

void fst_index_add(struct fst_store *s, const struct fst_index *x, uint64_t hash, uint32_t item)
{
    if (add(x, hash, item))
        fst_store_relaxed(&s->filled, s->filled + 1);
}

void fst_index_remove(struct fst_store *s, const struct fst_index *x, uint64_t at)
{
    uint64_t mask = x->size - 1;
    if (fst_load_relaxed(&x->slots[(at + 1) & mask]) != FST_SLOT_EMPTY) {
        fst_store_release(&x->slots[at], FST_SLOT_GONE);
        return;
    }
    /* No search goes on from this slot, so none needs the slots before it that once had a key
     * either. */
    uint64_t n = 0;
    do {
        fst_store_release(&x->slots[at], FST_SLOT_EMPTY);
        at = (at - 1) & mask;
    } while (++n < x->size && fst_load_relaxed(&x->slots[at]) == FST_SLOT_GONE);
    fst_store_relaxed(&s->filled, s->filled > n ? s->filled - n : 0);
}

void fst_index_recount(struct fst_arena *a, uint32_t store)
{
    struct fst_store *s = fst_store_at(a, store);
    struct fst_index x;
    uint64_t filled = 0, count = 0;
    if (!fst_index_see(a, s, &x))
        return;
    for (uint64_t i = 0; i < x.size; i++) {
        uint32_t id = fst_index_item(a, store, &x, i);
        filled += fst_load_relaxed(&x.slots[i]) != FST_SLOT_EMPTY;
        count += id != FST_NONE && fst_hold_kind(fst_load_acquire(fst_hold_at(a, id))) == FST_HOLD_HELD;
    }
    fst_store_relaxed(&s->filled, filled);
    fst_store_relaxed(&s->count, count);
    fst_store_relaxed(&s->next, 0);
    /* A process that was killed may have changed something and not said so. */
    fst_store_release(&s->version, s->version + 1);
}

/* ---- growing ---- */

/* All runs begin and end between parts of LEAST slots, of which find_run looks at so many at
 * once. */
#define PARTS 4096u

/* Set the bits of those parts from `base` on that the run of this word has. */
static void mark(uint64_t *taken, uint64_t base, uint64_t word)
{
    uint64_t first = start_of(word) / LEAST, end = (start_of(word) + size_of(word) + LEAST - 1) / LEAST;
    if (!word || end <= base || first >= base + PARTS)
        return;
    first = first > base ? first - base : 0;
    end = end - base < PARTS ? end - base : PARTS;
    for (uint64_t at = first; at < end; at = (at / 64 + 1) * 64) {
        uint64_t bits = UINT64_MAX << at % 64;
        taken[at / 64] |= end / 64 == at / 64 ? bits & ~(UINT64_MAX << end % 64) : bits;
    }
}

/* Find a place where so many slots belong to no store, at the front if there is one. Under
 * names_lock. */
static uint64_t find_run(struct fst_arena *a, uint64_t size)
{
    uint64_t need = size / LEAST, base = 0, free = 0;
    for (; base * LEAST < FST_NONE; base += PARTS) {
        uint64_t taken[PARTS / 64] = {0};
        for (uint32_t i = 0, top = fst_store_top(a); i < top; i++) {
            mark(taken, base, fst_store_at(a, i)->index);
            mark(taken, base, fst_store_at(a, i)->next);
        }
        for (uint64_t at = 0; at < PARTS; at++) {
            free = taken[at / 64] >> at % 64 & 1 ? 0 : free + 1;
            if (free == need)
                return (base + at + 1 - need) * LEAST;
        }
    }
    return base * LEAST; /* there is none, nor will it fit there */
}

int fst_index_commit(struct fst_arena *a, uint64_t slots)
{
    return fst_table_commit(a, FST_T_SLOT, slots);
}

static int reserve(struct fst_arena *a, struct fst_store *s, uint64_t size, uint64_t *commit)
{
    uint32_t log2 = (uint32_t)__builtin_ctzll(size);
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    fst_store_relaxed(&s->next, 0);
    uint64_t start = find_run(a, size), moved = (s->index >> FST_INDEX_MOVED_SHIFT) + 1;
    uint64_t word = start | (uint64_t)log2 << FST_INDEX_LOG2_SHIFT | moved << FST_INDEX_MOVED_SHIFT;
    bool fits = (start + size) * sizeof(uint64_t) <= fst_load_acquire(&a->sb->tables[FST_T_SLOT].committed);
    if (fits)
        fst_store_release(&s->next, word);
    fst_registry_unlock(a);
    *commit = start + size;
    return fits ? FST_OK : FST_WAIT;
}

int fst_index_grow(struct fst_arena *a, uint32_t store, uint64_t *commit)
{
    struct fst_store *s = fst_store_at(a, store);
    struct fst_index old, new;
    uint64_t size = LEAST, filled = 0;
    if (!fst_index_see(a, s, &old))
        return fst_damage(a);
    while (size < s->count * 2 + 2 && size < FST_MAX_SLOTS)
        size *= 2;
    int rc = reserve(a, s, size, commit);
    if (rc)
        return rc;
    struct fst_store said = {.index = s->next};
    if (!fst_index_see(a, &said, &new))
        return fst_damage(a);
    for (uint64_t i = 0; i < size; i++)
        fst_own_store_relaxed(&new.slots[i], FST_SLOT_EMPTY);
    for (uint64_t i = 0; i < old.size; i++) {
        uint32_t id = fst_index_item(a, store, &old, i);
        if (id != FST_NONE && fst_hold_kind(fst_load_acquire(fst_hold_at(a, id))) != FST_HOLD_FREE)
            filled += add(&new, fst_load_relaxed(&fst_item_at(a, id)->hash), id);
    }
    fst_store_release(&s->index, said.index);
    fst_store_relaxed(&s->next, 0);
    fst_store_relaxed(&s->filled, filled);
    return FST_OK;
}
