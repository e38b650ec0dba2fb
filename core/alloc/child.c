#include "alloc/child.h"

#include "alloc/cache.h"
#include "alloc/children.h"
#include "alloc/group.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "rcu/thread.h"
#include "refs/word.h"
#include "region/lock.h"

/* ---- finding and making ---- */

static bool group_live(struct fst_arena *a, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (!fst_is_group(a, index))
        return false;
    uint64_t state = fst_load_acquire(&fst_group_at(a, index)->state);
    return fst_id_is(id, state) && fst_state(state) == FST_GROUP_LIVE;
}

static uint32_t find(struct fst_arena *a, uint32_t cache, uint32_t group)
{
    if (group == 0)
        return fst_cache_at(a, cache)->root_child;
    struct fst_children w = fst_children_of_group(a, group);
    uint32_t i;
    while ((i = fst_children_next(&w)) != FST_NONE) {
        const struct fst_child *c = fst_child_at(a, i);
        if (c->cache == cache && fst_state(c->state) == FST_CHILD_LIVE)
            break;
    }
    return i;
}

/* Fill the descriptor in. Its lock is left alone: it outlives the descriptor's lives, and somebody
 * who still has the last life's index may hold it. */
static void make(struct fst_arena *a, uint32_t index, uint32_t cache, uint32_t group)
{
    struct fst_child *c = fst_child_at(a, index);
    const struct fst_cache *of = fst_cache_at(a, cache);
    struct fst_shape shape = fst_shape_of(of->size, of->align, of->flags);
    if (!shape.objects) {
        fst_damaged(a, "cache %u has objects of %s aligned to %s", cache, fst_exact(of->size), fst_exact(of->align));
        return;
    }
    fst_store_relaxed(&c->cache, cache);
    fst_store_relaxed(&c->group, group);
    fst_store_relaxed(&c->size, of->size);
    fst_store_relaxed(&c->stride, shape.stride);
    fst_store_relaxed(&c->objects, shape.objects);
    fst_store_relaxed(&c->pages, shape.pages);
    fst_store_relaxed(&c->align_order, shape.align_order);
    fst_store_relaxed(&c->flags, of->flags | (fst_shape_has_init(of) ? FST_CHILD_HAS_INIT : 0));
    fst_store_relaxed(&c->slab_class, shape.slab_class);
    fst_store_relaxed(&c->shared, 0);
    fst_store_relaxed(&c->partial, FST_NONE);
    fst_store_relaxed(&c->full, FST_NONE);
    fst_store_relaxed(&c->slabs, 0);
    fst_store_relaxed(&c->used_pages, 0);
    fst_store_release(&c->state, fst_state_next(c->state, FST_CHILD_LIVE));
    fst_registry_link_child(a, index);
}

/* What to do when there is no such child. WAIT: a destroy() is looking for users of the cache, and
 * the cache gets no child meanwhile. */
enum open { OPEN, MAKE, WAIT, GONE };

static enum open look_up(struct fst_arena *a, uint64_t cache, uint64_t group, uint32_t *body, uint32_t *index)
{
    *index = FST_NONE;
    if (!fst_cache_body(a, cache, body) || !group_live(a, group))
        return GONE;
    *index = find(a, *body, (uint32_t)group);
    if (*index != FST_NONE && fst_child_at(a, *index)->cache != *body)
        fst_damaged(a, "child cache %u is cache %u's, and is one of cache %u's", *index, fst_child_at(a, *index)->cache, *body);
    if (*index != FST_NONE)
        return OPEN;
    return fst_load_relaxed(&fst_cache_at(a, *body)->ending) ? WAIT : MAKE;
}

int fst_child_open(fst_arena *a, uint64_t cache, uint64_t group, uint64_t *child)
{
    int rc = fst_thread_usable(a);
    while (rc == FST_OK) {
        uint32_t body, index;
        fst_registry_expect(a, FST_T_CHILD);
        if (!fst_registry_lock(a))
            return fst_lock_held(a);
        enum open what = look_up(a, cache, group, &body, &index);
        if (what == MAKE && (index = fst_registry_new(a, FST_T_CHILD)) != FST_NONE)
            make(a, index, body, (uint32_t)group);
        if (index != FST_NONE) {
            *child = fst_id(index, fst_child_at(a, index)->state);
            if (!fst_shape_sized(a, fst_child_at(a, index)))
                (void)fst_shape_check(a, index, fst_child_at(a, index)->state, 0, 0);
        }
        bool group_ended = what == GONE && !group_live(a, group);
        fst_registry_unlock(a);
        if (fst_is_damaged(a))
            return fst_damage(a);
        if (index != FST_NONE)
            return FST_OK;
        if (what == GONE && group_ended)
            return fst_group_ended(a, group);
        if (what == GONE)
            return fst_cache_ended(a, cache);
        if (what == WAIT) {
            if (!fst_cache_resumed(a, body))
                return fst_lock_held(a);
            continue;
        }
        rc = fst_registry_grow(a, FST_T_CHILD);
    }
    return rc;
}

uint64_t fst_child_resumed(struct fst_arena *a, uint64_t child)
{
    uint32_t index = (uint32_t)child;
    if (!fst_is_child(a, index))
        return 0;
    const struct fst_child *c = fst_child_at(a, index);
    uint64_t state;
    while (fst_state(state = fst_load_acquire(&c->state)) == FST_CHILD_ENDING && !fst_is_damaged(a))
        if (!fst_cache_resumed_for(a, index))
            break;
    return fst_id_is(child, state) ? state : 0;
}

int fst_object_owner(fst_arena *a, const struct fst_ref *ref, uint64_t *cache, uint64_t *group)
{
    return fst_child_owner(a, fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(ref->oid))->child), cache, group);
}

int fst_child_owner(struct fst_arena *a, uint32_t child, uint64_t *cache, uint64_t *group)
{
    if (!fst_is_child(a, child))
        return fst_fail(FST_INVALID, "no such child cache");
    const struct fst_child *c = fst_child_at(a, child);
    *cache = fst_id(c->cache, fst_cache_at(a, c->cache)->state);
    *group = fst_id(c->group, fst_group_at(a, c->group)->state);
    return fst_verdict(a, FST_OK);
}
