/* children.h - walking the children of a group, or of a cache, and moving all of them on.
 *
 * A child is on the list of its group and on the list of its cache from its birth until it is
 * released. Both lists change only under names_lock. A walk is either one section of that lock, or
 * goes on over several, with a lot of children in each, because other processes need the lock:
 *
 *     struct fst_children w = fst_children_of_cache(a, cache);
 *     while (fst_children_lock(&w)) {
 *         for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE;)
 *             ...
 *         fst_children_unlock(&w);
 *     }
 *
 * What a walk may miss: a child that is on the list from the walk's first section to its last is
 * met at least once. When the child to go on with has changed its state between two sections, and
 * may have left the list, the walk begins again from the head (`restarted`), so a child may be met
 * twice. A child that is born meanwhile may be missed. What was met in an earlier section may have
 * been released since, so look at its state. Damage ends a walk early, and is noted.
 */
#ifndef FST_ALLOC_CHILDREN_H
#define FST_ALLOC_CHILDREN_H

#include "region/region.h"

#define FST_CHILDREN_LOT 256u /* children that are met in one section of the lock */

struct fst_children {
    struct fst_arena *a;
    uint32_t cache, group; /* whose children; one of the two is FST_NONE */
    uint32_t at;           /* the child to go on with; FST_NONE: there is none more */
    uint32_t left;         /* children to be met in this section */
    uint32_t steps;        /* steps along the list, of which damage may have made a circle */
    uint64_t state;        /* the state of `at` when the last section ended */
    bool begun, restarted;
    bool held; /* the walk has ended early, because the lock took longer than this thread waits */
};

/* Walks that have not begun. In one section of the lock, which the caller holds, it calls
 * fst_children_next alone. */
static inline struct fst_children fst_children_of_cache(struct fst_arena *a, uint32_t cache)
{
    return (struct fst_children){.a = a, .cache = cache, .group = FST_NONE, .at = FST_NONE, .left = UINT32_MAX};
}

static inline struct fst_children fst_children_of_group(struct fst_arena *a, uint32_t group)
{
    return (struct fst_children){.a = a, .cache = FST_NONE, .group = group, .at = FST_NONE, .left = UINT32_MAX};
}

/* The next child, or FST_NONE at the end of the list or of the lot. Under names_lock. */
static inline uint32_t fst_children_next(struct fst_children *w)
{
    struct fst_arena *a = w->a;
    bool of_group = w->group != FST_NONE;
    if (!w->begun) {
        w->at = of_group ? fst_group_at(a, w->group)->first : fst_cache_at(a, w->cache)->first;
        w->steps = 0;
        w->begun = true;
    }
    uint32_t child = w->at;
    if (w->left == 0)
        return FST_NONE;
    if (!fst_step(a, FST_T_CHILD, child, &w->steps)) {
        w->at = FST_NONE;
        return FST_NONE;
    }
    w->left--;
    const struct fst_child *c = fst_child_at(a, child);
    w->at = of_group ? c->next_in_group : c->next_in_cache;
    return child;
}

/* Acquire names_lock for a lot of children. False, and the lock is not acquired: all were met, or
 * `held`. */
bool fst_children_lock(struct fst_children *w);
void fst_children_unlock(struct fst_children *w);

/* Put a lot of children into an array, for what must not be done under the lock. 0: all were met,
 * or `held`. It acquires names_lock and gives it back. */
uint32_t fst_children_lot(struct fst_children *w, uint32_t ids[FST_CHILDREN_LOT]);

/* Move every child of a group to OFFLINE or ENDED. Under names_lock. */
void fst_children_end_group(struct fst_arena *a, uint32_t group, enum fst_child_state state);

/* Move every child of a cache on: to ENDED or OFFLINE, after the cache has ended or was retired;
 * from LIVE to ENDING, while destroy() looks for its users; and back. Under the cache's lock
 * `ending`, so that no child is added meanwhile; names_lock is acquired for a lot at a time. False:
 * it took longer than this thread waits, and some were not moved. *ended grows by how many were. */
bool fst_children_end_cache(struct fst_arena *a, uint32_t cache, enum fst_child_state state, uint32_t *ended);
bool fst_children_suspend(struct fst_arena *a, uint32_t cache);
bool fst_children_resume(struct fst_arena *a, uint32_t cache);

#endif
