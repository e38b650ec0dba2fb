#include "alloc/registry.h"

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

uint32_t fst_registry_new(struct fst_arena *a, enum fst_table_kind kind)
{
    uint32_t index = *free_of(a, kind);
    if (index != FST_NONE) {
        fst_store_relaxed(free_of(a, kind), *next_free_of(a, kind, index));
        return index;
    }
    uint32_t *top = top_of(a, kind);
    const struct fst_table *t = &a->sb->tables[kind];
    if ((uint64_t)(*top + 1) * t->size > fst_load_acquire(&t->committed))
        return FST_NONE;
    index = *top;
    fst_store_release(top, index + 1);
    return index;
}

int fst_registry_grow(struct fst_arena *a, enum fst_table_kind kind)
{
    return fst_table_commit(a, kind, (uint64_t)fst_load_relaxed(top_of(a, kind)) + 1);
}

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

static bool below_destroyed(struct fst_arena *a, uint32_t group)
{
    for (; group < a->sb->group_top; group = fst_group_at(a, group)->parent)
        if (fst_state(fst_group_at(a, group)->state) == FST_GROUP_DESTROYED)
            return true;
    return false;
}

/* What a group's or cache's end means for this child; ENDING without a destroyer goes back to LIVE. */
static uint32_t due_state(struct fst_arena *a, const struct fst_child *c)
{
    uint32_t state = fst_state(c->state), group = fst_state(fst_group_at(a, c->group)->state);
    if (fst_state(fst_cache_at(a, c->cache)->state) == FST_CACHE_ENDED || group == FST_GROUP_DESTROYED)
        return FST_CHILD_ENDED;
    if (state == FST_CHILD_LIVE || state == FST_CHILD_ENDING)
        return group == FST_GROUP_CLOSED ? FST_CHILD_OFFLINE : FST_CHILD_LIVE;
    return state;
}

/* Finish what a killed close() or destroy() has begun: the state of the group or cache is the truth. */
static void finish_endings(struct fst_arena *a)
{
    for (uint32_t i = 1; i < a->sb->group_top; i++) {
        struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) != FST_GROUP_FREE && fst_state(g->state) != FST_GROUP_DESTROYED && below_destroyed(a, g->parent))
            fst_store_release(&g->state, fst_state_moved(g->state, FST_GROUP_DESTROYED));
    }
    for (uint32_t i = 0; i < a->sb->child_top; i++) {
        struct fst_child *c = fst_child_at(a, i);
        if (fst_state(c->state) == FST_CHILD_FREE || c->cache >= a->sb->cache_top || c->group >= a->sb->group_top)
            continue;
        uint32_t due = due_state(a, c);
        if (due != fst_state(c->state))
            fst_store_release(&c->state, fst_state_moved(c->state, due));
    }
}

static void rebuild(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    sb->cache_free = sb->child_free = sb->group_free = FST_NONE;
    for (uint32_t i = sb->cache_top; i-- > 0;) {
        struct fst_cache *c = fst_cache_at(a, i);
        fst_store_relaxed(&c->first, FST_NONE);
        fst_store_relaxed(&c->root_child, FST_NONE);
        if (fst_state(c->state) == FST_CACHE_FREE)
            fst_registry_put(a, FST_T_CACHE, i);
    }
    for (uint32_t i = sb->group_top; i-- > 0;) {
        struct fst_group *g = fst_group_at(a, i);
        fst_store_relaxed(&g->first, FST_NONE);
        fst_store_relaxed(&g->children, 0);
        if (fst_state(g->state) == FST_GROUP_FREE)
            fst_registry_put(a, FST_T_GROUP, i);
    }
    for (uint32_t i = 0; i < sb->group_top; i++) {
        struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) != FST_GROUP_FREE && g->parent < sb->group_top)
            fst_store_relaxed(&fst_group_at(a, g->parent)->children, fst_group_at(a, g->parent)->children + 1);
    }
    for (uint32_t i = sb->child_top; i-- > 0;) {
        struct fst_child *c = fst_child_at(a, i);
        if (fst_state(c->state) == FST_CHILD_FREE)
            fst_registry_put(a, FST_T_CHILD, i);
        else if (c->cache < sb->cache_top && c->group < sb->group_top)
            fst_registry_link_child(a, i);
    }
    finish_endings(a);
    fst_store_relaxed(&sb->ended_walk, 1);
}

void fst_registry_lock(struct fst_arena *a)
{
    if (fst_lock(a, &a->sb->names_lock))
        rebuild(a);
}

void fst_registry_unlock(struct fst_arena *a)
{
    fst_unlock(a, &a->sb->names_lock);
}
