#include "region/region.h"

#include <string.h>

#include "platform/atomics.h"
#include "platform/error.h"

const char *fst_table_name(enum fst_table_kind kind)
{
    static const char *const names[] = {
        [FST_T_PROCESS] = "process slots",
        [FST_T_THREAD] = "thread slots",
        [FST_T_ENTRY] = "reference entries",
        [FST_T_INFLIGHT] = "in-flight entries",
        [FST_T_CACHE] = "caches",
        [FST_T_CHILD] = "child caches",
        [FST_T_GROUP] = "groups",
        [FST_T_CACHE_NAMES] = "buckets of caches",
        [FST_T_CACHE_SHAPES] = "buckets of caches",
        [FST_T_GROUP_NAMES] = "buckets of groups",
        [FST_T_CGROUP] = "bound cgroups",
        [FST_T_ZONE] = "zones",
        [FST_T_ZONE_SUMMARY] = "zone summaries",
        [FST_T_BURIAL] = "burials",
        [FST_T_CHANNEL] = "channels",
        [FST_T_FORM] = "forms",
        [FST_T_FORM_NAMES] = "buckets of forms",
        [FST_T_STORE] = "stores",
        [FST_T_SLOT] = "slots of stores' indexes",
        [FST_T_ITEM] = "items of stores",
        [FST_T_ITEM + 1] = "items of stores with long keys",
        [FST_T_ITEM + 2] = "items of stores with very long keys",
        [FST_T_HOLD] = "holds of stores",
        [FST_T_HOLD + 1] = "holds of stores with long keys",
        [FST_T_HOLD + 2] = "holds of stores with very long keys",
    };
    static_assert(sizeof names / sizeof *names == FST_T_SLAB, "a name for each kind of table");
    return kind < FST_T_SLAB ? names[kind] : "slab descriptors";
}

/* ---- bounds ---- */

/* How many descriptors of the table are committed, as the table itself says. */
static uint32_t find_room(const struct fst_arena *a, uint32_t kind)
{
    if (kind >= FST_T_COUNT)
        return 0;
    const struct fst_table *t = &a->known.tables[kind];
    uint64_t n = fst_load_acquire(&a->sb->tables[kind].committed) / t->size;
    uint32_t room = (uint32_t)(n < t->count ? n : t->count);
    if (room > fst_room(a, kind))
        fst_own_store_relaxed(&a->damage->arena->room[kind], room);
    return room > fst_room(a, kind) ? room : fst_room(a, kind);
}

/* A descriptor that is FREE, and whose links all lead nowhere. */
static void *stand_in(const struct fst_arena *a, uint32_t kind)
{
    void *at = a->damage->stand_in + (size_t)kind * FST_STAND_IN_BYTES;
    memset(at, 0, FST_STAND_IN_BYTES);
    if (kind == FST_T_CACHE) {
        struct fst_cache *c = at;
        c->first = c->merged = c->init_slab = c->next_free = c->root_child = FST_NONE;
        c->first_alias = c->next_alias = c->prev_alias = c->next_ended = FST_NONE;
    } else if (kind == FST_T_CHILD) {
        struct fst_child *c = at;
        c->cache = c->group = c->partial = c->full = c->next_free = FST_NONE;
        c->next_in_cache = c->prev_in_cache = c->next_in_group = c->prev_in_group = FST_NONE;
    } else if (kind == FST_T_GROUP) {
        struct fst_group *g = at;
        g->parent = g->first = g->next_free = g->next_ended = FST_NONE;
        g->first_group = g->next_sibling = g->prev_sibling = FST_NONE;
    } else if (kind >= FST_T_SLAB) {
        struct fst_slab *s = at;
        s->child = s->next = s->prev = FST_NONE;
    }
    return at;
}

void *fst_beyond(const struct fst_arena *a, uint32_t kind, uint32_t index)
{
    if (index < find_room(a, kind))
        return a->table[kind] + (uint64_t)index * a->known.tables[kind].size;
#ifdef FST_MUTANT_ANYWHERE
    if (kind < FST_T_COUNT)
        return a->table[kind] + (uint64_t)index * a->known.tables[kind].size;
#endif
    fst_damaged(a, "something leads to number %u of the %s, of which there are %u", index, fst_table_name(kind), fst_room(a, kind));
    return stand_in(a, kind);
}

uint32_t fst_top_moved(const struct fst_arena *a, uint32_t kind, const uint32_t *word)
{
    uint32_t *mine = &a->damage->arena->top[kind];
    uint32_t seen = fst_load_acquire(mine);
    uint32_t top = fst_load_acquire(word); /* loaded after what was seen of it */
    if (top < seen) {
        fst_damaged(a, "there were %u %s, and now there are %u", seen, fst_table_name(kind), top);
        return seen;
    }
    if (top > fst_room(a, kind) && top > find_room(a, kind)) {
        fst_damaged(a, "there are %u %s, of which %u have memory", top, fst_table_name(kind), fst_room(a, kind));
        return seen;
    }
    uint32_t had = seen;
    while (had < top && !fst_own_cas32(mine, &had, top)) {
    }
    return top;
}

/* Where in the superblock the bound of a table's used part is; 0: it has none. */
#define TOP(field) offsetof(struct fst_superblock, field)
static const uint16_t top_offsets[FST_T_SLAB] = {
    [FST_T_PROCESS] = TOP(process_top),  [FST_T_THREAD] = TOP(thread_top), [FST_T_INFLIGHT] = TOP(inflight_top),
    [FST_T_CACHE] = TOP(cache_top),      [FST_T_CHILD] = TOP(child_top),   [FST_T_GROUP] = TOP(group_top),
    [FST_T_CGROUP] = TOP(cgroup_top),    [FST_T_ZONE] = TOP(zones),        [FST_T_CHANNEL] = TOP(channel_top),
    [FST_T_STORE] = TOP(store_top),      [FST_T_ITEM] = TOP(item_top[0]),  [FST_T_ITEM + 1] = TOP(item_top[1]),
    [FST_T_ITEM + 2] = TOP(item_top[2]), [FST_T_FORM] = TOP(form_top),
};
#undef TOP
static_assert(sizeof(struct fst_superblock) <= UINT16_MAX, "offsets in 16 bits");

uint32_t fst_top_of(const struct fst_arena *a, uint32_t kind)
{
    if (kind >= FST_T_COUNT)
        return 0;
    if (kind >= FST_T_SLAB)
        return fst_top(a, kind, &a->sb->slab_top[kind - FST_T_SLAB]);
    const uint16_t at = top_offsets[kind];
    return at ? fst_top(a, kind, (const uint32_t *)(const void *)((const uint8_t *)a->sb + at)) : find_room(a, kind);
}

bool fst_used_beyond(const struct fst_arena *a, uint32_t kind, uint32_t top)
{
    const uint64_t *beyond = NULL;
    if (top >= find_room(a, kind))
        return false;
    if (kind == FST_T_THREAD)
        beyond = &fst_thread_slot_at(a, top)->owner;
    else if (kind == FST_T_GROUP)
        beyond = &fst_group_at(a, top)->state;
    else if (kind >= FST_T_SLAB || kind == FST_T_PROCESS || kind == FST_T_INFLIGHT || kind == FST_T_CACHE || kind == FST_T_CHILD ||
             kind == FST_T_CGROUP || kind == FST_T_CHANNEL || kind == FST_T_STORE || kind == FST_T_FORM)
        /* All of these have the word to look at in the beginning. */
        beyond = (const uint64_t *)(const void *)(a->table[kind] + (uint64_t)top * a->known.tables[kind].size);
    return beyond && fst_load_acquire(beyond) && fst_top_of(a, kind) == top;
}

bool fst_damaged_beyond(const struct fst_arena *a, uint32_t kind, uint32_t top)
{
    if (!fst_used_beyond(a, kind, top))
        return false;
    fst_damaged(a, "there are %u %s, and one more was in use", top, fst_table_name(kind));
    return true;
}

int fst_tops_check(const struct fst_arena *a)
{
    for (uint32_t kind = 0; kind < FST_T_COUNT; kind++)
        fst_damaged_beyond(a, kind, fst_top_of(a, kind));
    return fst_damage(a);
}

uint32_t fst_entry_top(const struct fst_arena *a, uint32_t slot)
{
    const struct fst_process *p = fst_process_at(a, slot);
    uint32_t top = 0;
    uint64_t bytes = 0;
    /* Look more than once: a batch may be emptying the table and giving its memory back, and the
     * slot's next process may be filling it. */
    for (int tries = 0; tries < 100; tries++) {
        top = fst_load_acquire(&p->entry_top);
        bytes = fst_load_acquire(&p->entries_committed);
        if (top <= a->max_entries && top * sizeof(uint64_t) <= bytes)
            return top;
    }
    fst_damaged(a, "process slot %u has %s, and memory of %s for them", slot, fst_many(top, "reference entry", "reference entries"),
                fst_exact(bytes));
    return 0;
}

/* ---- walks ---- */

bool fst_lost(const struct fst_arena *a, uint32_t kind, uint32_t index, uint32_t steps)
{
    uint32_t top = fst_top_of(a, kind);
#ifdef FST_MUTANT_CIRCLES
    steps = 0;
#endif
    if (index < top && steps <= top)
        return false;
    if (index >= top)
        fst_damaged(a, "a link leads to number %u of the %s, of which there are %u", index, fst_table_name(kind), top);
    else
        fst_damaged(a, "links of the %s go in a circle, at %u", fst_table_name(kind), index);
    return true;
}

/* ---- answers ---- */

int fst_owner_ended(const struct fst_arena *a)
{
    return fst_fail(FST_CLOSED, "the cache or the group has ended, of arena %s: it was closed or destroyed; open it again",
                    fst_arena_called(a));
}

int fst_is_readonly(const struct fst_arena *a)
{
    return fst_fail(FST_READONLY, "the arena %s is attached read-only", fst_arena_called(a));
}
