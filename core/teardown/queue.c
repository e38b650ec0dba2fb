#include "teardown/queue.h"

#include "alloc/registry.h"
#include "platform/atomics.h"
#include "platform/error.h"

#define LOT 256u /* groups that are spliced in one section of the lock */

/* ---- splicing ---- */

/* Write down the group's children, if there is room for all. Under names_lock. */
static bool note_children(struct fst_arena *a, uint32_t group, struct fst_ended *e)
{
    struct fst_children w = fst_children_of_group(a, group);
    uint32_t n = e->n_children;
    for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE;) {
        if (n == FST_ENDED_CHILDREN)
            return false;
        e->children[n++] = child;
    }
    e->n_children = n;
    return true;
}

/* Unlink the group that has waited longest from the queue. Under names_lock. */
static uint32_t pop_group(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    uint32_t index = sb->ended_head;
    struct fst_group *g = fst_group_at(a, index);
    if (!fst_is_group(a, index) || fst_state(g->state) <= FST_GROUP_LIVE || !(g->flags & FST_GROUP_QUEUED)) {
        fst_damaged(a, "group %u is on the list of ended groups: state %u, flags %x", index, fst_state(g->state), g->flags);
        return FST_NONE;
    }
    fst_store_relaxed(&sb->ended_head, g->next_ended);
    fst_store_relaxed(&sb->ended_spliced, sb->ended_spliced + 1);
    fst_store_relaxed(&g->next_ended, FST_NONE);
    return index;
}

/* Splice the group that has waited longest. True: there may be more to splice. Under names_lock. */
static bool splice_group(struct fst_arena *a, struct fst_ended *e)
{
    uint32_t index = a->sb->ended_head;
    if (index == FST_NONE || e->n_groups == FST_ENDED_GROUPS)
        return false;
    if (!note_children(a, index, e)) {
        if (e->n_groups)
            return false; /* this group and those after it are left to the next batch */
        e->many = true;
    }
    index = pop_group(a);
    if (index == FST_NONE)
        return false;
    e->groups[e->n_groups++] = index;
    return !e->many;
}

bool fst_queue_splice(struct fst_arena *a, bool all, struct fst_ended *e)
{
    struct fst_superblock *sb = a->sb;
    e->caches = FST_NONE;
    e->n_groups = e->n_children = 0;
    e->slabs = e->walk = e->many = false;
    if (!all && fst_load_relaxed(&sb->ended_head) == FST_NONE && fst_load_relaxed(&sb->ended_caches) == FST_NONE &&
        !fst_load_relaxed(&sb->ended_walk) && !fst_load_relaxed(&sb->ended_slabs))
        return false;
    if (!fst_registry_lock(a))
        return false;
    e->walk = fst_swap32(&sb->ended_walk, 0) || all; /* others set both without the lock */
    e->slabs = fst_swap32(&sb->ended_slabs, FST_ENDED_SLABS_NONE) != FST_ENDED_SLABS_NONE;
    e->caches = sb->ended_caches;
    fst_store_relaxed(&sb->ended_caches, FST_NONE);
    if (e->walk)
        fst_registry_finish_endings(a); /* what a destroyer that was killed without a lock left */
    bool more;
    do {
        uint32_t n = 0;
        while ((more = splice_group(a, e)) && ++n < LOT) {
        }
        fst_registry_unlock(a);
        /* If the lock is not acquired again, the other groups wait for the next batch. */
    } while (more && fst_registry_lock(a));
    return true;
}

/* ---- being through with what was spliced ---- */

bool fst_queue_group_done(struct fst_arena *a, uint32_t group)
{
    struct fst_group *g = fst_group_at(a, group);
#ifdef FST_MUTANT_NOT_AGAIN
    bool again = false;
#else
    bool again = g->flags & FST_GROUP_AGAIN;
#endif
    fst_store_relaxed(&g->flags, g->flags & ~(FST_GROUP_QUEUED | FST_GROUP_AGAIN));
    if (again)
        fst_registry_queue_group(a, group);
    return again;
}

void fst_queue_all_groups_done(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_group_top(a); i++) {
        struct fst_group *g = fst_group_at(a, i);
        if (g->flags & FST_GROUP_QUEUED)
            fst_store_relaxed(&g->flags, g->flags & ~FST_GROUP_QUEUED);
    }
    /* A group that was queued since is linked, and must not be linked a second time. */
    uint32_t steps = 0;
    for (uint32_t i = a->sb->ended_head; fst_step(a, FST_T_GROUP, i, &steps); i = fst_group_at(a, i)->next_ended)
        fst_store_relaxed(&fst_group_at(a, i)->flags, fst_group_at(a, i)->flags | FST_GROUP_QUEUED);
}

void fst_queue_all_caches_done(struct fst_arena *a)
{
    for (uint32_t i = 0; i < fst_cache_top(a); i++)
        if (fst_cache_at(a, i)->queued)
            fst_store_relaxed(&fst_cache_at(a, i)->queued, 0);
    uint32_t steps = 0;
    for (uint32_t i = a->sb->ended_caches; fst_step(a, FST_T_CACHE, i, &steps); i = fst_cache_at(a, i)->next_ended)
        fst_store_relaxed(&fst_cache_at(a, i)->queued, 1);
}

/* ---- visiting ---- */

static bool has_ended(struct fst_arena *a, uint32_t child)
{
    uint32_t state = fst_state(fst_load_acquire(&fst_child_at(a, child)->state));
    return state == FST_CHILD_ENDED || state == FST_CHILD_OFFLINE;
}

/* Load descriptors of later children, and their first slabs, into the processor's cache ahead of
 * time: the children lie in memory in no order. */
static inline void prefetch(struct fst_arena *a, const struct fst_ended *e, uint32_t i)
{
    if (i + 12 < e->n_children) {
        const struct fst_child *c = fst_child_at(a, e->children[i + 12]);
        __builtin_prefetch(c);
        __builtin_prefetch(&c->lock);
    }
    if (i + 6 >= e->n_children)
        return;
    const struct fst_child *c = fst_child_at(a, e->children[i + 6]);
    uint32_t id = fst_load_relaxed(&c->partial), other = fst_load_relaxed(&c->full);
    id = id == FST_NONE ? other : id;
    if (!fst_slab_id_ok(a, id))
        return;
    const uint8_t *s = (const uint8_t *)fst_slab_at(a, id);
    for (uint32_t line = 0; line < 4; line++)
        __builtin_prefetch(s + line * FST_LINE);
}

/* The next lot from the lists: of the group with many children, then of one cache after the other.
 * False: all were met. */
static bool next_lot(struct fst_ended_children *w)
{
    struct fst_arena *a = w->a;
    while ((w->lot_n = fst_children_lot(&w->walk, w->ids)) == 0) {
        if (!fst_step(a, FST_T_CACHE, w->cache, &w->steps))
            return false;
        w->walk = fst_children_of_cache(a, w->cache);
        w->cache = fst_cache_at(a, w->cache)->next_ended;
    }
    w->lot_i = 0;
    return true;
}

static void begin_lists(struct fst_ended_children *w)
{
    w->lists = true;
    w->cache = w->ended->caches;
    w->walk = fst_children_of_group(w->a, FST_NONE);
    if (w->ended->many)
        w->walk = fst_children_of_group(w->a, w->ended->groups[0]);
    else
        w->walk.begun = true; /* the walk has ended, because it is at FST_NONE */
}

uint32_t fst_ended_next_child(struct fst_ended_children *w)
{
    struct fst_arena *a = w->a;
    const struct fst_ended *e = w->ended;
    uint32_t child;
    if (e->walk || e->slabs) {
        while (w->i < fst_child_top(a))
            if (has_ended(a, child = w->i++))
                return child;
        return FST_NONE;
    }
    while (w->i < e->n_children) {
        prefetch(a, e, w->i);
        if (has_ended(a, child = e->children[w->i++]))
            return child;
    }
    if (!w->lists)
        begin_lists(w);
    while (w->lot_i < w->lot_n || next_lot(w))
        if (has_ended(a, child = w->ids[w->lot_i++]))
            return child;
    return FST_NONE;
}

uint32_t fst_ended_next_group(struct fst_ended_groups *w)
{
    struct fst_arena *a = w->a;
    const struct fst_ended *e = w->ended;
    uint32_t n = e->walk ? fst_group_top(a) : e->n_groups;
    if (e->walk && w->i == 0)
        w->i = 1; /* the root group never ends */
    while (w->i < n) {
        if (!e->walk && w->i + 8 < n)
            __builtin_prefetch(fst_group_at(a, e->groups[w->i + 8]));
        uint32_t group = e->walk ? w->i : e->groups[w->i];
        w->i++;
        if (fst_state(fst_load_acquire(&fst_group_at(a, group)->state)) > FST_GROUP_LIVE)
            return group;
    }
    return FST_NONE;
}
