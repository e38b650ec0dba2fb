#include "teardown/end.h"

#include <string.h>

#include "alloc/active.h"
#include "alloc/cache.h"
#include "alloc/children.h"
#include "alloc/group.h"
#include "alloc/names.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/release.h"
#include "teardown/users.h"

/* ---- groups ---- */

void fst_end_group(struct fst_arena *a, uint32_t index, enum fst_group_state state, uint64_t when)
{
    struct fst_group *g = fst_group_at(a, index);
    uint32_t now = fst_state(g->state);
    if (now == FST_GROUP_FREE || now >= (uint32_t)state)
        return;
    if (now == FST_GROUP_LIVE) {
        if (g->name[0])
            fst_names_remove(a, FST_NAMES_GROUP, index);
        fst_store_relaxed(&g->ended_at, when);
    }
    fst_store_release(&g->state, fst_state_moved(g->state, state));
    fst_children_end_group(a, index, state == FST_GROUP_DESTROYED ? FST_CHILD_ENDED : FST_CHILD_OFFLINE);
    fst_registry_queue_group(a, index);
}

/* The group after this one among those below `top`, where a parent comes before those below it.
 * FST_NONE: this was the last. */
static uint32_t next_below(struct fst_arena *a, uint32_t index, uint32_t top)
{
    const struct fst_group *g = fst_group_at(a, index);
    uint32_t steps = 0;
    if (g->first_group != FST_NONE)
        return g->first_group;
    while (index != top && g->next_sibling == FST_NONE) {
        index = g->parent;
        if (!fst_step(a, FST_T_GROUP, index, &steps))
            return FST_NONE;
        g = fst_group_at(a, index);
    }
    return index == top ? FST_NONE : g->next_sibling;
}

#define LOT 32u /* groups that are ended in one section of the lock */

void fst_end_groups_below(struct fst_arena *a, uint32_t top, uint64_t state)
{
    uint32_t at = top, steps = 0;
    uint64_t seen = state;
    while (at != FST_NONE) {
        uint64_t when = fst_now();
        if (!fst_registry_lock(a)) {
            fst_registry_finish_later(a);
            return;
        }
        /* A batch may have released the group at which this walk stopped: then begin again. Those
         * that are destroyed stay so, and the top is released only after all below it. */
        if (fst_group_at(a, at)->state != seen) {
            at = top;
            steps = 0;
        }
        if (fst_group_at(a, top)->state != state)
            at = FST_NONE;
        for (uint32_t n = 0; at != FST_NONE && n < LOT; n++) {
            at = next_below(a, at, top);
            if (fst_step(a, FST_T_GROUP, at, &steps))
                fst_end_group(a, at, FST_GROUP_DESTROYED, when);
            if (fst_is_damaged(a))
                at = FST_NONE;
        }
        seen = at == FST_NONE ? 0 : fst_group_at(a, at)->state;
        fst_registry_unlock(a);
    }
}

/* children whose slabs a thread lets go of at once; a batch revokes those of the others */
#define MINE 16u

int fst_end_group_by_id(struct fst_arena *a, uint64_t id, enum fst_group_state state, uint32_t *children)
{
    struct fst_thread *t = fst_thread_current;
    uint32_t index, mine[MINE], n_mine = 0;
    uint64_t now = 0, when = fst_now();
    bool below = false;
    *children = 0;
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
#ifdef FST_MUTANT_CLOCK_INSIDE
    when = fst_now();
#endif
    bool found = fst_group_find(a, id, &index);
    if (found && index != 0) {
        struct fst_children w = fst_children_of_group(a, index);
        for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE; ++*children)
            if (n_mine < MINE && t->arena == a && fst_active_is(t, child))
                mine[n_mine++] = child;
        fst_end_group(a, index, state, when);
        now = fst_group_at(a, index)->state;
        below = state == FST_GROUP_DESTROYED && fst_group_at(a, index)->children != 0;
    }
    fst_registry_unlock(a);
    for (uint32_t i = 0; i < n_mine; i++)
        fst_active_let_go(t, mine[i]);
    if (below)
        fst_end_groups_below(a, index, now);
    if (found && index == 0)
        return fst_fail(FST_INVALID, "the root group lives as long as its arena");
    return fst_verdict(a, found ? FST_OK : fst_group_ended(a, id));
}

void fst_end_unreferenced(struct fst_arena *a, uint32_t group)
{
    struct fst_group *g = fst_group_at(a, group);
    if (fst_load_relaxed(&g->flags) & FST_GROUP_STORES)
        fst_store_relaxed(&a->sb->store_look, 1); /* stores end with the group */
    if (fst_state(fst_load_acquire(&g->state)) > FST_GROUP_LIVE && (fst_load_relaxed(&g->flags) & FST_GROUP_QUEUED))
        return; /* ended already, and released by the batch that has spliced it, or will */
    uint64_t when = fst_now();
    if (!fst_registry_lock(a)) {
        fst_registry_finish_later(a); /* the next batch finds the group LIVE without its word */
        return;
    }
    if (!(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED)) {
        fst_end_group(a, group, FST_GROUP_CLOSED, when);
        fst_release_group(a, group);
    }
    fst_registry_unlock(a);
}

/* ---- caches ---- */

enum fst_end_cache fst_end_name(struct fst_arena *a, uint64_t cache, uint32_t *body, char name[FST_NAME_MAX])
{
    uint32_t index;
    enum fst_end_cache what = FST_END_NOTHING;
    if (!fst_registry_lock(a))
        return FST_END_HELD;
    if (fst_cache_body(a, cache, body) && fst_cache_find(a, cache, &index)) {
        memcpy(name, fst_cache_at(a, index)->name, FST_NAME_MAX);
        what = fst_cache_end_name(a, index) ? FST_END_NAME : FST_END_LAST;
    } else if (fst_cache_retired(a, cache)) {
        what = FST_END_RETIRED;
        *body = (uint32_t)cache;
        memcpy(name, fst_cache_at(a, *body)->name, FST_NAME_MAX);
        if (!fst_cache_find(a, cache, &index) || fst_state(fst_cache_at(a, index)->state) != FST_CACHE_RETIRED)
            /* Either it is gone, or it lives on by other names, and their users do not matter
             * here. */
            what = FST_END_NAME;
    }
    fst_registry_unlock(a);
    return what;
}

enum fst_end_cache fst_end_retired(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name)
{
    uint32_t index;
    struct fst_users u = fst_users_count(a, body);
    if ((!u.references && !u.in_flight && !u.unseen[0]) || !fst_cache_find(a, cache, &index))
        return FST_END_RETIRED;
    fst_users_busy(a, name, &u);
    return FST_END_BUSY;
}

/* If the name is still the last one, now that nobody uses an object: end the body. */
static enum fst_end_cache end_last(struct fst_arena *a, uint64_t cache, uint32_t body, uint64_t *ended)
{
    uint32_t index, now;
    enum fst_end_cache what = FST_END_NOTHING;
    if (!fst_registry_lock(a))
        return FST_END_HELD;
    if (fst_cache_body(a, cache, &now) && now == body && fst_cache_find(a, cache, &index)) {
        what = fst_cache_end_name(a, index) ? FST_END_NAME : FST_END_LAST;
        if (what == FST_END_LAST)
            fst_cache_end(a, index, body, FST_CACHE_ENDED);
        *ended = fst_cache_at(a, body)->state;
    }
    fst_registry_unlock(a);
    return what;
}

/* False: the lock took longer than this thread waits, so only a batch that looks at everything will
 * find the cache. */
static bool queue(struct fst_arena *a, uint32_t body, uint64_t ended)
{
    if (!fst_registry_lock(a))
        return false;
    fst_registry_queue_cache(a, body, ended);
    fst_registry_unlock(a);
    return true;
}

enum fst_end_cache fst_end_cache(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name, uint32_t *children)
{
    uint64_t ended = 0;
    *children = 0;
    if (!fst_cache_lock_ending(a, body))
        return FST_END_HELD;
    int users = fst_users_look(a, body, name);
    enum fst_end_cache what = users == FST_HELD ? FST_END_HELD : FST_END_BUSY;
    if (users == FST_OK)
        what = end_last(a, cache, body, &ended);
    bool whole = what != FST_END_HELD;
    if (what == FST_END_LAST)
        whole = fst_children_end_cache(a, body, FST_CHILD_ENDED, children) && queue(a, body, ended);
    else if (whole && what != FST_END_BUSY)
        whole = fst_children_resume(a, body);
    if (whole)
        fst_cache_unlock_ending(a, body);
    else
        fst_cache_abandon_ending(a, body); /* as a kill here would leave it */
    return what;
}
