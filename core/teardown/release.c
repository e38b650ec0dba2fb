#include "teardown/release.h"

#include "alloc/close.h"
#include "alloc/registry.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "platform/atomics.h"
#include "platform/futex.h"
#include "refs/word.h"

/* The most ns for the grace periods of the slabs of all TYPESAFE_BY_RCU caches together. */
#define SHRINK_NS  (1000 * FST_MS)
#define LOT        64u  /* children that are released in one section of the lock */
#define GROUPS_LOT 256u /* groups that are released in one section of the lock */

/* ---- cache, group, child: under names_lock ---- */

static void release_cache(struct fst_arena *a, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index);
    if ((fst_state(c->state) != FST_CACHE_ENDED && fst_state(c->state) != FST_CACHE_RETIRED) || c->first != FST_NONE || c->queued)
        return;
    /* A kill before the slab is CLOSING leaves everything as it was. After a kill behind that, the
     * next look for slabs without an owner releases the slab, and the next batch finds that it is
     * not LIVE any more. */
    uint32_t id = c->init_slab;
    if (fst_is_damaged(a) || (id != FST_NONE && !fst_slab_id_ok(a, id)))
        return;
    struct fst_slab *init = id != FST_NONE ? fst_slab_at(a, id) : NULL;
    bool release = init && fst_state(init->state) == FST_SLAB_LIVE && init->child == FST_NONE;
    if (release) {
        fst_store_relaxed(&init->owner, FST_OWNER_NOBODY);
        fst_store_release(&init->state, fst_state_moved(init->state, FST_SLAB_CLOSING));
    }
    fst_store_relaxed(&c->init_slab, FST_NONE); /* before the slab can be another cache's */
    if (release)
        fst_run_release(a, id, init->state);
    fst_store_release(&c->state, fst_state_moved(c->state, FST_CACHE_FREE));
    fst_registry_put(a, FST_T_CACHE, index);
}

static bool group_over(struct fst_arena *a, uint32_t index)
{
    const struct fst_group *g = fst_group_at(a, index);
    uint32_t state = fst_state(g->state);
    return index != 0 && !fst_is_damaged(a) && (state == FST_GROUP_CLOSED || state == FST_GROUP_DESTROYED) &&
           g->first == FST_NONE && !g->children && !(g->flags & FST_GROUP_QUEUED) &&
           !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED);
}

void fst_release_group(struct fst_arena *a, uint32_t index)
{
    if (!group_over(a, index))
        return;
    do { /* then its parent, if that waited for nothing else */
        struct fst_group *g = fst_group_at(a, index);
        uint32_t parent = g->parent;
        fst_registry_unlink_group(a, index);
        /* A killed batch may have left the flag AGAIN without QUEUED (fst_queue_all_groups_done). A
         * FREE group that has it would be queued because of it (M_KEEPAGAIN in the model). */
        fst_store_relaxed(&g->flags, g->flags & ~FST_GROUP_AGAIN);
        fst_store_release(&g->state, fst_state_moved(g->state, FST_GROUP_FREE));
        fst_registry_put(a, FST_T_GROUP, index);
        index = parent;
    } while (group_over(a, index));
}

static bool child_over(const struct fst_child *c)
{
    uint32_t state = fst_state(fst_load_acquire(&c->state));
    bool ended = state == FST_CHILD_OFFLINE || state == FST_CHILD_ENDED;
#ifdef FST_MUTANT_CHILD_BY_ITSELF
    return ended;
#else
    return ended && fst_load_relaxed(&c->used_pages) == 0;
#endif
}

/* Release up to 64 children. In the result, bit i says that the i-th is gone. */
static uint64_t release_some(struct fst_arena *a, const uint32_t *children, uint32_t n)
{
    uint64_t gone = 0;
    if (fst_is_damaged(a))
        return 0;
    /* Others wait for names_lock meanwhile, so wait for this lock briefly: what is not released now
     * is left to the next batch. A slab that is being made is charged already, or will find the
     * state changed. */
    if (!fst_run_lock_briefly(a))
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        struct fst_child *c = fst_child_at(a, children[i]);
        if (!child_over(c))
            continue;
        fst_registry_unlink_child(a, children[i]);
        fst_store_release(&c->state, fst_state_moved(c->state, FST_CHILD_FREE));
        gone |= 1ull << i;
    }
    fst_run_unlock(a);
    for (uint32_t i = 0; i < n; i++) {
        if (!(gone >> i & 1))
            continue;
        struct fst_child *c = fst_child_at(a, children[i]);
        fst_registry_put(a, FST_T_CHILD, children[i]);
        release_cache(a, c->cache);
        fst_release_group(a, c->group);
    }
    return gone;
}

uint32_t fst_release_children(struct fst_arena *a, const uint32_t *children, uint32_t n)
{
    uint32_t released = 0;
    for (uint32_t from = 0; from < n; from += 64) {
        uint32_t some = n - from < 64 ? n - from : 64;
        bool any = false;
        for (uint32_t i = 0; i < some && !any; i++)
            any = child_over(fst_child_at(a, children[from + i]));
        if (!any)
            continue;
        if (!fst_registry_lock(a))
            break;
        released += (uint32_t)__builtin_popcountll(release_some(a, children + from, some));
        fst_registry_unlock(a);
    }
    return released;
}

bool fst_release_after_free(struct fst_thread *t, uint64_t oid)
{
    struct fst_arena *a = t->arena;
    uint32_t id = fst_oid_slab(oid), child = fst_load_relaxed(&fst_slab_at(a, id)->child);
    bool more = fst_slab_freed(a, id, t->name);
    if (fst_is_child(a, child) && fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) != FST_CHILD_LIVE)
        fst_release_children(a, &child, 1);
    return more;
}

/* ---- what a batch has spliced ---- */

struct release {
    struct fst_arena *a;
    uint64_t began, bytes;
    const uint32_t *stop;
    struct fst_closed closed;
    struct fst_revoke revoke;
    uint32_t released;
    uint32_t n;
    /* children whose slabs are closed, and that may be released when these are given back */
    uint32_t lot[LOT];
};

static void finish_lot(struct release *r)
{
#ifdef FST_MUTANT_CHILD_BY_ITSELF
    r->released += fst_release_children(r->a, r->lot, r->n);
    fst_close_give_now(r->a, &r->closed, &r->bytes);
#else
    fst_close_give_now(r->a, &r->closed, &r->bytes);
    r->released += fst_release_children(r->a, r->lot, r->n);
#endif
    r->n = 0;
}

/* Give back the slabs that need a grace period. Those for which it is not over in time are open
 * again, and left to the next batch. */
static bool give(struct release *r)
{
    uint64_t gone = fst_now() - r->began;
    return fst_close_give(r->a, &r->closed, gone < SHRINK_NS ? SHRINK_NS - gone : 0, r->stop, &r->bytes);
}

static void release_child(struct release *r, uint32_t child)
{
    if (fst_is_damaged(r->a))
        return;
    while (!fst_close_empty(&r->revoke, child, &r->closed, &r->bytes) && give(r)) {
    }
    r->lot[r->n++] = child;
    if (r->n == LOT)
        finish_lot(r);
}

static void release_children(struct release *r, const struct fst_ended *e, const struct fst_scan *scan,
                             struct fst_released *released)
{
    struct fst_arena *a = r->a;
    do {
        struct fst_ended_children w = {.a = a, .ended = e};
        for (uint32_t child; (child = fst_ended_next_child(&w)) != FST_NONE;) {
            fst_words_release_child(a, scan, child, released);
            release_child(r, child);
        }
        finish_lot(r);
    } while (r->revoke.want_far && fst_revoke_far(&r->revoke));
    /* Where the system has no barrier, or a thread is stopped while it allocates, asking again at
     * once would go on for ever. */
    uint32_t none = FST_ENDED_SLABS_NONE;
    if (r->revoke.left)
        fst_cas32(&a->sb->ended_slabs, &none, FST_ENDED_SLABS_LATER);
    if (!r->closed.n || !give(r))
        return;
    struct fst_ended_children again = {.a = a, .ended = e};
    for (uint32_t child; (child = fst_ended_next_child(&again)) != FST_NONE;)
        r->released += fst_release_children(a, &child, 1);
}

static void release_caches(struct fst_arena *a, const struct fst_ended *e)
{
    if (e->caches == FST_NONE && !e->walk)
        return;
    if (!fst_registry_lock(a))
        return;
    uint32_t steps = 0;
    for (uint32_t c = e->caches, next; !e->walk && fst_step(a, FST_T_CACHE, c, &steps); c = next) {
        next = fst_cache_at(a, c)->next_ended;
        fst_store_relaxed(&fst_cache_at(a, c)->queued, 0);
        release_cache(a, c);
    }
    if (e->walk) {
        fst_queue_all_caches_done(a);
        for (uint32_t i = 0; i < fst_cache_top(a); i++)
            release_cache(a, i);
    }
    fst_registry_unlock(a);
}

/* Let go of a spliced group, and release it unless it is queued again. Under names_lock. */
static void release_taken(struct fst_arena *a, uint32_t group)
{
    if (!fst_queue_group_done(a, group))
        fst_release_group(a, group);
}

static void release_groups(struct fst_arena *a, const struct fst_ended *e, const struct fst_scan *scan,
                           struct fst_released *released)
{
    struct fst_ended_groups w = {.a = a, .ended = e};
    for (uint32_t from = 0; from < e->n_groups; from += GROUPS_LOT) {
        uint32_t to = from + GROUPS_LOT < e->n_groups ? from + GROUPS_LOT : e->n_groups;
        for (uint32_t group; w.i < to && (group = fst_ended_next_group(&w)) != FST_NONE;)
            fst_words_release_group(a, scan, group, released);
        if (!fst_registry_lock(a))
            return; /* they stay QUEUED, as a killed batch leaves them */
        for (uint32_t i = from; i < to; i++)
            release_taken(a, e->groups[i]);
        fst_registry_unlock(a);
    }
}

/* Release every group that has ended, but for those that were queued since. */
static void release_all_groups(struct fst_arena *a, const struct fst_ended *e, const struct fst_scan *scan,
                               struct fst_released *released)
{
    struct fst_ended_groups w = {.a = a, .ended = e};
    for (uint32_t group; (group = fst_ended_next_group(&w)) != FST_NONE;)
        fst_words_release_group(a, scan, group, released);
    if (!fst_registry_lock(a))
        return;
    fst_queue_all_groups_done(a);
    for (uint32_t i = 1; i < fst_group_top(a); i++)
        if (!(fst_group_at(a, i)->flags & FST_GROUP_QUEUED))
            release_taken(a, i);
    fst_registry_unlock(a);
}

void fst_release_ended(struct fst_arena *a, const struct fst_ended *e, const struct fst_scan *scan, uint64_t owner,
                       const uint32_t *stop, struct fst_released *released)
{
    struct release r;
    r.a = a;
    r.revoke = (struct fst_revoke){.a = a, .me = owner, .others = true};
    /* What was spliced had ended before any barrier of this thread; of what a walk finds nobody
     * knows that. */
    r.revoke.ended = !e->walk && !e->slabs;
    r.stop = stop;
    r.began = fst_now();
    r.bytes = 0;
    r.closed.n = r.closed.now_n = r.n = r.released = 0;
    release_children(&r, e, scan, released);
    release_caches(a, e);
    (e->walk ? release_all_groups : release_groups)(a, e, scan, released);
    released->children += r.released;
}

/* ---- all that is empty ---- */

void fst_release_empty(struct fst_thread *t, bool others, uint64_t timeout, const uint32_t *stop)
{
    struct fst_arena *a = t->arena;
    uint32_t top = fst_child_top(a);
    uint64_t began = fst_now(), bytes = 0, patience = timeout;
    struct fst_revoke revoke = {.a = a, .me = t->name, .others = others};
    struct fst_closed closed;
    closed.n = closed.now_n = 0;
    do {
        for (uint32_t i = 0; i < top; i++) {
            const struct fst_child *c = fst_child_at(a, i);
            if (fst_state(fst_load_acquire(&c->state)) == FST_CHILD_FREE || fst_load_relaxed(&c->used_pages) == 0)
                continue;
            while (!fst_close_empty(&revoke, i, &closed, &bytes) && fst_close_give(a, &closed, patience, stop, &bytes)) {
                uint64_t gone = fst_now() - began;
                patience = gone < timeout ? timeout - gone : 0;
            }
        }
        fst_close_give_now(a, &closed, &bytes);
    } while (revoke.want_far && fst_revoke_far(&revoke));
    fst_close_give(a, &closed, patience, stop, &bytes);
    for (uint32_t i = 0; i < top; i++)
        fst_release_children(a, &i, 1); /* if that child has ended */
}
