/* children.h - walking the children of a group, or of a cache, and moving all of them on.
 *
 * A child is on the list of its group and on the list of its cache from its birth until it is
 * released. Both lists change under names_lock only; a walk is either one section of that lock, or
 * goes on over several, a lot in each, because the lock is everybody's:
 *
 *     struct fst_children w = fst_children_of_cache(a, cache);
 *     while (fst_children_lock(&w)) {
 *         for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE;)
 *             ...
 *         fst_children_unlock(&w);
 *     }
 *
 * What a walk may miss: a child that is on the list from its first section to its last is met at
 * least once. When the child to go on with has changed its state between two sections, and may have
 * left the list, the walk begins again from the head (`restarted`): so a child may be met twice.
 * One that is born meanwhile may be missed. What was met in an earlier section may have been
 * released since: look at its state. Damage ends a walk early, and is noted.
 */
#ifndef FST_ALLOC_CHILDREN_H
#define FST_ALLOC_CHILDREN_H

#include "region/region.h"

#define FST_CHILDREN_LOT 256u /* met in one section of the lock */

struct fst_children {
    struct fst_arena *a;
    uint32_t cache, group; /* whose: one of them is FST_NONE */
    uint32_t at;           /* to go on with; FST_NONE: that was the last */
    uint32_t left;         /* to be met in this section */
    uint32_t steps;        /* along the list: damage may have made a circle of it */
    uint64_t state;        /* of `at`, when the last section ended */
    bool begun, restarted;
    bool held; /* the walk has ended early: the lock could not be had in time */
};

/* Walks that have not begun. In one section of the lock, which the caller holds, call
 * fst_children_next alone. */
static inline struct fst_children fst_children_of_cache(struct fst_arena *a, uint32_t cache)
{
    return (struct fst_children){.a = a, .cache = cache, .group = FST_NONE, .at = FST_NONE, .left = UINT32_MAX};
}

static inline struct fst_children fst_children_of_group(struct fst_arena *a, uint32_t group)
{
    return (struct fst_children){.a = a, .cache = FST_NONE, .group = group, .at = FST_NONE, .left = UINT32_MAX};
}

/* Under names_lock: the next child, or FST_NONE at the end of the list, or of the lot. */
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

/* Take names_lock for a lot. False, and no lock: all were met, or `held`. */
bool fst_children_lock(struct fst_children *w);
void fst_children_unlock(struct fst_children *w);

/* A lot in an array, for what must not be done under the lock. 0: all were met, or
 * `held`. Takes names_lock, and gives it back. */
uint32_t fst_children_lot(struct fst_children *w, uint32_t ids[FST_CHILDREN_LOT]);

/* Move every child of a group to OFFLINE or ENDED. Under names_lock. */
void fst_children_end_group(struct fst_arena *a, uint32_t group, enum fst_child_state state);

/* Move every child of a cache to ENDED or OFFLINE, after the cache has ended or was retired; from
 * LIVE to ENDING, while destroy() looks for its users, and back. Under the cache's lock `ending`,
 * so that no child is added meanwhile; they take names_lock for a lot at a time. False: it
 * could not be had in time, and some were not moved. *ended grows by how many were. */
bool fst_children_end_cache(struct fst_arena *a, uint32_t cache, enum fst_child_state state, uint32_t *ended);
bool fst_children_suspend(struct fst_arena *a, uint32_t cache);
bool fst_children_resume(struct fst_arena *a, uint32_t cache);

#endif
