#include "alloc/registry.h"

#include <string.h>

#include "alloc/names.h"
#include "alloc/shape.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "region/lock.h"
#include "region/table.h"

static uint32_t *top_of(struct fst_arena *a, enum fst_table_kind kind)
{
    struct fst_superblock *sb = a->sb;
    return kind == FST_T_CACHE ? &sb->cache_top : kind == FST_T_CHILD ? &sb->child_top : &sb->group_top;
}

static uint32_t *free_of(struct fst_arena *a, enum fst_table_kind kind)
{
    struct fst_superblock *sb = a->sb;
    return kind == FST_T_CACHE ? &sb->cache_free : kind == FST_T_CHILD ? &sb->child_free : &sb->group_free;
}

static uint32_t *next_free_of(struct fst_arena *a, enum fst_table_kind kind, uint32_t index)
{
    if (kind == FST_T_CACHE)
        return &fst_cache_at(a, index)->next_free;
    return kind == FST_T_CHILD ? &fst_child_at(a, index)->next_free : &fst_group_at(a, index)->next_free;
}

void fst_registry_put(struct fst_arena *a, enum fst_table_kind kind, uint32_t index)
{
    fst_store_relaxed(next_free_of(a, kind, index), *free_of(a, kind));
    fst_store_relaxed(free_of(a, kind), index);
}

static uint64_t state_of(const struct fst_arena *a, enum fst_table_kind kind, uint32_t index)
{
    if (kind == FST_T_CACHE)
        return fst_cache_at(a, index)->state;
    return kind == FST_T_CHILD ? fst_child_at(a, index)->state : fst_group_at(a, index)->state;
}

/* Is there room for so many descriptors in the tables of names? */
static bool names_room(const struct fst_arena *a, enum fst_table_kind kind, uint64_t count)
{
    if (kind == FST_T_CACHE)
        return fst_names_room(a, FST_NAMES_CACHE, count) && fst_names_room(a, FST_NAMES_SHAPE, count);
    return kind != FST_T_GROUP || fst_names_room(a, FST_NAMES_GROUP, count);
}

uint32_t fst_registry_new(struct fst_arena *a, enum fst_table_kind kind)
{
    uint32_t index = *free_of(a, kind);
    if (index != FST_NONE) {
        if (fst_state(state_of(a, kind, index)) != 0)
            fst_damaged(a, "number %u of the %s is in use, and among the free ones", index, fst_table_name(kind));
        if (fst_is_damaged(a))
            return FST_NONE;
        fst_store_relaxed(free_of(a, kind), *next_free_of(a, kind, index));
        return index;
    }
    uint32_t *top = top_of(a, kind), count = fst_top_of(a, kind);
    if (((uint64_t)count + 1) * a->known.tables[kind].size > fst_load_acquire(&a->sb->tables[kind].committed) ||
        !names_room(a, kind, (uint64_t)count + 1))
        return FST_NONE;
    if (fst_damaged_beyond(a, kind, count) || fst_is_damaged(a))
        return FST_NONE;
    fst_store_release(top, count + 1);
    return count;
}

void fst_registry_expect(struct fst_arena *a, enum fst_table_kind kind)
{
    uint32_t index = fst_load_relaxed(free_of(a, kind));
    if (index >= fst_top_of(a, kind))
        return;
    const uint8_t *d = (const uint8_t *)a->table[kind] + index * a->known.tables[kind].size;
    for (uint64_t at = 0; at < a->known.tables[kind].size; at += FST_LINE)
        __builtin_prefetch(d + at, 1);
    /* The loads are done by the time that the lock is acquired, because that waits for loads before
     * it. */
    for (uint64_t at = 0; at < a->known.tables[kind].size; at += FST_LINE)
        fst_load_relaxed((const uint64_t *)(const void *)(d + at));
}

int fst_registry_grow(struct fst_arena *a, enum fst_table_kind kind)
{
    uint64_t count = (uint64_t)fst_top_of(a, kind) + 1;
    int rc = fst_table_commit(a, kind, count);
    if (rc == FST_OK && kind == FST_T_GROUP)
        rc = fst_names_grow(a, FST_NAMES_GROUP, count);
    if (rc == FST_OK && kind == FST_T_CACHE)
        rc = fst_names_grow(a, FST_NAMES_CACHE, count);
    if (rc == FST_OK && kind == FST_T_CACHE)
        rc = fst_names_grow(a, FST_NAMES_SHAPE, count);
    return rc;
}

/* ---- lists and tables of names ---- */

void fst_registry_link_child(struct fst_arena *a, uint32_t index)
{
    struct fst_child *c = fst_child_at(a, index);
    struct fst_cache *cache = fst_cache_at(a, c->cache);
    struct fst_group *group = fst_group_at(a, c->group);
    fst_store_relaxed(&c->next_in_cache, cache->first);
    fst_store_relaxed(&c->prev_in_cache, FST_NONE);
    if (cache->first != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, cache->first)->prev_in_cache, index);
    fst_store_relaxed(&cache->first, index);
    fst_store_relaxed(&c->next_in_group, group->first);
    fst_store_relaxed(&c->prev_in_group, FST_NONE);
    if (group->first != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, group->first)->prev_in_group, index);
    fst_store_relaxed(&group->first, index);
    if (c->group == 0)
        fst_store_relaxed(&cache->root_child, index);
}

void fst_registry_unlink_child(struct fst_arena *a, uint32_t index)
{
    struct fst_child *c = fst_child_at(a, index);
    struct fst_cache *cache = fst_cache_at(a, c->cache);
    struct fst_group *group = fst_group_at(a, c->group);
    if (c->next_in_cache != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, c->next_in_cache)->prev_in_cache, c->prev_in_cache);
    if (c->prev_in_cache != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, c->prev_in_cache)->next_in_cache, c->next_in_cache);
    else
        fst_store_relaxed(&cache->first, c->next_in_cache);
    if (c->next_in_group != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, c->next_in_group)->prev_in_group, c->prev_in_group);
    if (c->prev_in_group != FST_NONE)
        fst_store_relaxed(&fst_child_at(a, c->prev_in_group)->next_in_group, c->next_in_group);
    else
        fst_store_relaxed(&group->first, c->next_in_group);
    if (c->group == 0)
        fst_store_relaxed(&cache->root_child, FST_NONE);
}

uint32_t fst_registry_hash_name(const char *name, uint32_t parent)
{
    return fst_names_hash(parent, name, strnlen(name, FST_NAME_MAX));
}

uint32_t fst_registry_hash_shape(uint64_t size, uint64_t align, const char *format)
{
    uint64_t words[2] = {size, align};
    /* Only as much of the format as a descriptor has room for is hashed; whatever has the same hash
     * is compared. */
    return fst_names_hash(fst_names_hash(0, words, sizeof words), format, strnlen(format, FST_FORMAT_MAX - 1));
}

bool fst_registry_mergeable(const struct fst_cache *c)
{
    uint32_t never = FST_CACHE_NO_MERGE | FST_CACHE_TYPESAFE_BY_RCU | FST_CACHE_SIZE_CLASS;
    return !(c->flags & never) && !fst_shape_has_init(c);
}

/* Put an alias on its body's list, behind the first: so the alias that speaks for a body without a
 * name stays the same when others come. */
static void link_alias(struct fst_arena *a, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index), *body = fst_cache_at(a, c->merged);
    struct fst_cache *first = body->first_alias != FST_NONE ? fst_cache_at(a, body->first_alias) : NULL;
    fst_store_relaxed(&c->prev_alias, body->first_alias);
    fst_store_relaxed(&c->next_alias, first ? first->next_alias : FST_NONE);
    if (first && first->next_alias != FST_NONE)
        fst_store_relaxed(&fst_cache_at(a, first->next_alias)->prev_alias, index);
    fst_store_relaxed(first ? &first->next_alias : &body->first_alias, index);
    fst_store_relaxed(&body->aliases, body->aliases + 1);
}

void fst_registry_unlink_alias(struct fst_arena *a, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index), *body = fst_cache_at(a, c->merged);
    if (c->next_alias != FST_NONE)
        fst_store_relaxed(&fst_cache_at(a, c->next_alias)->prev_alias, c->prev_alias);
    fst_store_relaxed(c->prev_alias != FST_NONE ? &fst_cache_at(a, c->prev_alias)->next_alias : &body->first_alias, c->next_alias);
    fst_store_relaxed(&body->aliases, body->aliases - 1);
    fst_names_remove(a, FST_NAMES_CACHE, index);
}

void fst_registry_link_cache(struct fst_arena *a, uint32_t index)
{
    const struct fst_cache *c = fst_cache_at(a, index);
    uint32_t state = fst_state(c->state);
    if (state == FST_CACHE_LIVE || state == FST_CACHE_ALIAS)
        fst_names_add(a, FST_NAMES_CACHE, index, fst_registry_hash_name(c->name, 0));
    if ((state == FST_CACHE_LIVE || state == FST_CACHE_NAMELESS) && fst_registry_mergeable(c))
        fst_names_add(a, FST_NAMES_SHAPE, index, fst_registry_hash_shape(c->size, c->align, c->format));
    if (state == FST_CACHE_ALIAS)
        link_alias(a, index);
}

void fst_registry_link_group(struct fst_arena *a, uint32_t index, uint32_t hash)
{
    struct fst_group *g = fst_group_at(a, index), *p = fst_group_at(a, g->parent);
    if (fst_state(g->state) == FST_GROUP_LIVE && g->name[0])
        fst_names_add(a, FST_NAMES_GROUP, index, hash);
    fst_store_relaxed(&g->prev_sibling, FST_NONE);
    fst_store_relaxed(&g->next_sibling, p->first_group);
    if (p->first_group != FST_NONE)
        fst_store_relaxed(&fst_group_at(a, p->first_group)->prev_sibling, index);
    fst_store_relaxed(&p->first_group, index);
    fst_store_relaxed(&p->children, p->children + 1);
}

void fst_registry_unlink_group(struct fst_arena *a, uint32_t index)
{
    struct fst_group *g = fst_group_at(a, index), *p = fst_group_at(a, g->parent);
    if (g->next_sibling != FST_NONE)
        fst_store_relaxed(&fst_group_at(a, g->next_sibling)->prev_sibling, g->prev_sibling);
    fst_store_relaxed(g->prev_sibling != FST_NONE ? &fst_group_at(a, g->prev_sibling)->next_sibling : &p->first_group,
                      g->next_sibling);
    fst_store_relaxed(&p->children, p->children - 1);
}

int fst_registry_check_child(struct fst_arena *a, uint64_t child_id, uint64_t *state)
{
    uint32_t child = (uint32_t)child_id;
    if (fst_is_child(a, child)) {
        *state = fst_load_acquire(&fst_child_at(a, child)->state);
        if (fst_id_is(child_id, *state) && fst_state(*state) == FST_CHILD_LIVE)
            return FST_OK;
    }
    return fst_owner_ended(a);
}

/* ---- what has ended ---- */

void fst_registry_queue_group(struct fst_arena *a, uint32_t index)
{
    struct fst_group *g = fst_group_at(a, index);
    if (g->flags & FST_GROUP_QUEUED) {
        /* A batch splices the queue under this lock, after it has said that it began. */
        if (fst_load_relaxed(&a->sb->batch_started) != 0)
            fst_store_relaxed(&g->flags, g->flags | FST_GROUP_AGAIN);
        return;
    }
    struct fst_superblock *sb = a->sb;
    fst_store_relaxed(&g->flags, g->flags | FST_GROUP_QUEUED);
    fst_store_relaxed(&g->next_ended, FST_NONE);
    fst_store_release(sb->ended_head == FST_NONE ? &sb->ended_head : &fst_group_at(a, sb->ended_tail)->next_ended, index);
    fst_store_relaxed(&sb->ended_tail, index);
    fst_store_relaxed(&sb->ended_groups, sb->ended_groups + 1);
}

void fst_registry_queue_cache(struct fst_arena *a, uint32_t body, uint64_t state)
{
    struct fst_cache *c = fst_cache_at(a, body);
    if (c->state != state || c->queued)
        return; /* a batch that looks at everything was quicker */
    fst_store_relaxed(&c->queued, 1);
    fst_store_relaxed(&c->next_ended, a->sb->ended_caches);
    fst_store_relaxed(&a->sb->ended_caches, body);
}

/* ---- after a kill ---- */

static bool below_destroyed(struct fst_arena *a, uint32_t group)
{
    for (uint32_t n = 0; fst_step(a, FST_T_GROUP, group, &n); group = fst_group_at(a, group)->parent)
        if (fst_state(fst_group_at(a, group)->state) == FST_GROUP_DESTROYED)
            return true;
    return false;
}

/* Does somebody look for users of the cache? Then its children are rightly ENDING, and the lock's
 * owner goes on. */
static bool being_ended(struct fst_arena *a, const struct fst_cache *c)
{
    uint32_t word = fst_load_acquire(&c->ending);
    return word && fst_slot_alive(a, fst_lock_owner(word), word >> FST_LOCK_GEN_SHIFT);
}

/* The state that this child has to have after the end of its group or cache. A child that is ENDING
 * without a destroyer goes back to LIVE. */
static uint32_t due_state(struct fst_arena *a, const struct fst_child *c)
{
    uint32_t state = fst_state(c->state), group = fst_state(fst_group_at(a, c->group)->state);
    const struct fst_cache *cache = fst_cache_at(a, c->cache);
    if (fst_state(cache->state) == FST_CACHE_ENDED || group == FST_GROUP_DESTROYED)
        return FST_CHILD_ENDED;
    bool offline = group == FST_GROUP_CLOSED;
#ifndef FST_MUTANT_RETIRED_LIVE
    offline = offline || fst_state(cache->state) == FST_CACHE_RETIRED;
#endif
    if ((state == FST_CHILD_LIVE || state == FST_CHILD_ENDING) && offline)
        return FST_CHILD_OFFLINE;
    if (state == FST_CHILD_ENDING)
        return being_ended(a, cache) ? FST_CHILD_ENDING : FST_CHILD_LIVE;
    return state;
}

void fst_registry_finish_later(struct fst_arena *a)
{
    fst_swap32(&a->sb->ended_walk, 1);
}

void fst_registry_finish_endings(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_group_top(a); i++) {
        struct fst_group *g = fst_group_at(a, i);
        uint32_t state = fst_state(g->state);
        if (state == FST_GROUP_FREE || state == FST_GROUP_DESTROYED || !below_destroyed(a, g->parent))
            continue;
        if (state == FST_GROUP_LIVE && g->name[0])
            fst_names_remove(a, FST_NAMES_GROUP, i);
        fst_store_release(&g->state, fst_state_moved(g->state, FST_GROUP_DESTROYED));
    }
    for (uint32_t i = 0; i < fst_child_top(a); i++) {
        struct fst_child *c = fst_child_at(a, i);
        if (fst_state(c->state) == FST_CHILD_FREE || c->cache >= fst_cache_top(a) || c->group >= fst_group_top(a))
            continue;
        uint32_t due = due_state(a, c);
        if (due != fst_state(c->state))
            fst_store_release(&c->state, fst_state_moved(c->state, due));
    }
}

/* Make each ALIAS of a body that has ended FREE: its destroyer was killed between the two steps of
 * fst_cache_end, and it names nothing any more. */
static void finish_names(struct fst_arena *a)
{
    for (uint32_t i = 0; i < fst_cache_top(a); i++) {
        struct fst_cache *c = fst_cache_at(a, i);
        uint32_t body = c->merged < fst_cache_top(a) ? fst_state(fst_cache_at(a, c->merged)->state) : FST_CACHE_FREE;
        if (fst_state(c->state) == FST_CACHE_ALIAS && body != FST_CACHE_LIVE && body != FST_CACHE_NAMELESS)
            fst_store_release(&c->state, fst_state_moved(c->state, FST_CACHE_FREE));
    }
}

static void rebuild_caches(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    sb->cache_free = FST_NONE;
    fst_names_clear(a, FST_NAMES_CACHE);
    fst_names_clear(a, FST_NAMES_SHAPE);
    finish_names(a);
    for (uint32_t i = 0; i < fst_cache_top(a); i++) {
        struct fst_cache *c = fst_cache_at(a, i);
        fst_store_relaxed(&c->first, FST_NONE);
        fst_store_relaxed(&c->root_child, FST_NONE);
        fst_store_relaxed(&c->first_alias, FST_NONE);
        fst_store_relaxed(&c->aliases, 0);
    }
    for (uint32_t i = fst_cache_top(a); i-- > 0;) {
        if (fst_state(fst_cache_at(a, i)->state) == FST_CACHE_FREE)
            fst_registry_put(a, FST_T_CACHE, i);
        else
            fst_registry_link_cache(a, i);
    }
}

static void rebuild_groups(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    sb->group_free = FST_NONE;
    fst_names_clear(a, FST_NAMES_GROUP);
    for (uint32_t i = 0; i < fst_group_top(a); i++) {
        struct fst_group *g = fst_group_at(a, i);
        fst_store_relaxed(&g->first, FST_NONE);
        fst_store_relaxed(&g->first_group, FST_NONE);
        fst_store_relaxed(&g->children, 0);
    }
    for (uint32_t i = fst_group_top(a); i-- > 0;) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) == FST_GROUP_FREE)
            fst_registry_put(a, FST_T_GROUP, i);
        else if (g->parent < fst_group_top(a))
            fst_registry_link_group(a, i, fst_registry_hash_name(g->name, g->parent));
    }
}

static void rebuild_children(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    sb->child_free = FST_NONE;
    for (uint32_t i = fst_child_top(a); i-- > 0;) {
        const struct fst_child *c = fst_child_at(a, i);
        if (fst_state(c->state) == FST_CHILD_FREE)
            fst_registry_put(a, FST_T_CHILD, i);
        else if (c->cache < fst_cache_top(a) && c->group < fst_group_top(a))
            fst_registry_link_child(a, i);
    }
}

static void rebuild(struct fst_arena *a)
{
    rebuild_caches(a);
    rebuild_groups(a);
    rebuild_children(a);
    fst_registry_finish_endings(a);
    /* The queues are emptied: a batch that looks at everything misses none of what was on them. */
    fst_store_relaxed(&a->sb->ended_head, FST_NONE);
    fst_store_relaxed(&a->sb->ended_caches, FST_NONE);
    fst_store_relaxed(&a->sb->ended_spliced, a->sb->ended_groups);
    fst_store_relaxed(&a->sb->ended_walk, 1);
}

bool fst_registry_lock(struct fst_arena *a)
{
    enum fst_try got = fst_lock_in_time(a, &a->sb->names_lock);
    if (got == FST_TRY_TAKEN_OVER)
        rebuild(a);
    return got != FST_TRY_BUSY;
}

void fst_registry_unlock(struct fst_arena *a)
{
    fst_unlock(a, &a->sb->names_lock);
}
