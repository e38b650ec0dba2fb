#include "reclaim/ending.h"

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/children.h"
#include "alloc/group.h"
#include "alloc/slab.h"
#include "platform/futex.h"

#define LOT 256u /* groups looked at in one section of the lock */

/* ---- taking ---- */

/* The group's children, if there is room for all. Under names_lock. */
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

/* True: there may be more to take. Under names_lock. */
static bool take_group(struct fst_arena *a, struct fst_ended *e)
{
    uint32_t index = a->sb->ended_head;
    if (index == FST_NONE || e->n_groups == FST_ENDED_GROUPS)
        return false;
    if (!note_children(a, index, e)) {
        if (e->n_groups)
            return false; /* the next batch's */
        e->many = true;
    }
    index = fst_group_take_ended(a);
    if (index == FST_NONE)
        return false;
    e->groups[e->n_groups++] = index;
    return !e->many;
}

bool fst_ended_take(struct fst_arena *a, bool all, struct fst_ended *e)
{
    struct fst_superblock *sb = a->sb;
    e->caches = FST_NONE;
    e->n_groups = e->n_children = 0;
    e->slabs = e->walk = e->many = false;
    if (!all && fst_load_relaxed(&sb->ended_head) == FST_NONE && fst_load_relaxed(&sb->ended_caches) == FST_NONE &&
        !fst_load_relaxed(&sb->ended_walk) && !fst_load_relaxed(&sb->ended_slabs))
        return false;
    fst_registry_lock(a);
    e->walk = all || sb->ended_walk;
    e->slabs = sb->ended_slabs != FST_ENDED_SLABS_NONE;
    e->caches = sb->ended_caches;
    fst_store_relaxed(&sb->ended_walk, 0);
    fst_store_relaxed(&sb->ended_slabs, FST_ENDED_SLABS_NONE);
    fst_store_relaxed(&sb->ended_caches, FST_NONE);
    if (e->walk)
        fst_registry_finish_endings(a); /* of a killed destroyer, which held no lock just then */
    bool more;
    do {
        uint32_t n = 0;
        while ((more = take_group(a, e)) && ++n < LOT) {
        }
        fst_registry_unlock(a);
        if (more)
            fst_registry_lock(a);
    } while (more);
    return true;
}

/* ---- visiting ---- */

static bool has_ended(struct fst_arena *a, uint32_t child)
{
    uint32_t state = fst_state(fst_load_acquire(&fst_child_at(a, child)->state));
    return state == FST_CHILD_ENDED || state == FST_CHILD_OFFLINE;
}

static void visit_all(struct fst_arena *a, fst_visit *visit, void *context)
{
    uint32_t top = fst_child_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (has_ended(a, i))
            visit(context, i);
}

/* Those of a whole walk: visit() takes locks. */
static void visit_walk(struct fst_children w, fst_visit *visit, void *context)
{
    uint32_t ids[FST_CHILDREN_LOT], n;
    while ((n = fst_children_lot(&w, ids)) != 0)
        for (uint32_t i = 0; i < n; i++)
            if (has_ended(w.a, ids[i]))
                visit(context, ids[i]);
}

/* Ends come in no order of memory: ask for the descriptors of the next children, and of their first slabs, ahead of time. */
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

void fst_ended_children(struct fst_arena *a, const struct fst_ended *e, fst_visit *visit, void *context)
{
    if (e->walk || e->slabs) {
        visit_all(a, visit, context);
        return;
    }
    for (uint32_t i = 0; i < e->n_children; i++) {
        prefetch(a, e, i);
        if (has_ended(a, e->children[i]))
            visit(context, e->children[i]);
    }
    if (e->many)
        visit_walk(fst_children_of_group(a, e->groups[0]), visit, context);
    uint32_t steps = 0;
    for (uint32_t c = e->caches; fst_step(a, FST_T_CACHE, c, &steps); c = fst_cache_at(a, c)->next_ended)
        visit_walk(fst_children_of_cache(a, c), visit, context);
}

static inline void prefetch_group(struct fst_arena *a, const struct fst_ended *e, uint32_t i)
{
    if (i + 8 < e->n_groups)
        __builtin_prefetch(fst_group_at(a, e->groups[i + 8]));
}

void fst_ended_groups(struct fst_arena *a, const struct fst_ended *e, fst_visit *visit, void *context)
{
    uint32_t top = fst_group_top(a);
    for (uint32_t i = 0; i < e->n_groups && !e->walk; i++) {
        prefetch_group(a, e, i);
        if (fst_state(fst_load_acquire(&fst_group_at(a, e->groups[i])->state)) > FST_GROUP_LIVE)
            visit(context, e->groups[i]);
    }
    for (uint32_t g = 1; g < top && e->walk; g++)
        if (fst_state(fst_load_acquire(&fst_group_at(a, g)->state)) > FST_GROUP_LIVE)
            visit(context, g);
}

/* ---- releasing ---- */

#define SHRINK_NS (1000 * FST_MS) /* for the grace periods of the slabs of all TYPESAFE_BY_RCU caches together */

struct release {
    struct fst_arena *a;
    fst_visit *words;
    void *context;
    uint64_t began, bytes;
    const uint32_t *stop;
    struct fst_closed closed;
    struct fst_revoke revoke;
    uint32_t released;
    uint32_t n;
    uint32_t lot[64]; /* children whose slabs are closed, and who may go when these are given back */
};

static void finish_lot(struct release *r)
{
#ifdef FST_MUTANT_CHILD_BY_ITSELF
    r->released += fst_child_release(r->a, r->lot, r->n);
    fst_slab_give_now(r->a, &r->closed, &r->bytes);
#else
    fst_slab_give_now(r->a, &r->closed, &r->bytes);
    r->released += fst_child_release(r->a, r->lot, r->n);
#endif
    r->n = 0;
}

/* What is not over in time is open again, and the next batch's. */
static bool give(struct release *r)
{
    uint64_t gone = fst_now() - r->began;
    return fst_slab_give_closed(r->a, &r->closed, gone < SHRINK_NS ? SHRINK_NS - gone : 0, r->stop, &r->bytes);
}

static void release_child(void *context, uint32_t child)
{
    struct release *r = context;
    r->words(r->context, child);
    if (fst_is_damaged(r->a))
        return;
    while (!fst_slab_close_empty(&r->revoke, child, &r->closed, &r->bytes) && give(r)) {
    }
    r->lot[r->n++] = child;
    if (r->n == sizeof r->lot / sizeof *r->lot)
        finish_lot(r);
}

static void release_again(void *context, uint32_t child)
{
    struct release *r = context;
    r->released += fst_child_release(r->a, &child, 1);
}

/* A group whose word was released but whose state was not moved on: the reaper was killed in between. */
static void finish_unreferenced(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_group_top(a); i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE && !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED))
            fst_ending_group_unreferenced(a, i);
    }
}

static void release_groups(struct fst_arena *a, const struct fst_ended *e, fst_visit *word, void *context)
{
    for (uint32_t from = 0; from < e->n_groups; from += LOT) {
        uint32_t to = from + LOT < e->n_groups ? from + LOT : e->n_groups;
        for (uint32_t i = from; i < to; i++) {
            prefetch_group(a, e, i);
            word(context, e->groups[i]);
        }
        fst_registry_lock(a);
        for (uint32_t i = from; i < to; i++)
            fst_group_taken(a, e->groups[i]);
        fst_registry_unlock(a);
    }
}

/* Every group there is but those queued since. */
static void release_all_groups(struct fst_arena *a, const struct fst_ended *e, fst_visit *word, void *context)
{
    fst_ended_groups(a, e, word, context);
    fst_registry_lock(a);
    fst_group_taken_all(a);
    fst_registry_unlock(a);
}

static void release_caches(struct fst_arena *a, const struct fst_ended *e)
{
    fst_registry_lock(a);
    uint32_t steps = 0;
    for (uint32_t c = e->caches, next; !e->walk && fst_step(a, FST_T_CACHE, c, &steps); c = next) {
        next = fst_cache_at(a, c)->next_ended;
        fst_cache_taken(a, c);
    }
    if (e->walk)
        fst_cache_taken_all(a);
    fst_registry_unlock(a);
}

uint32_t fst_ended_release(struct fst_arena *a, const struct fst_ended *e, uint64_t owner, const uint32_t *stop, fst_visit *words,
                           fst_visit *word, void *context)
{
    struct release r;
    r.a = a;
    r.words = words;
    r.context = context;
    r.revoke = (struct fst_revoke){.a = a, .me = owner, .others = true};
    r.stop = stop;
    r.began = fst_now();
    r.bytes = 0;
    r.closed.n = r.closed.now_n = r.n = r.released = 0;
    if (e->walk)
        finish_unreferenced(a);
    r.revoke.ended =
        !e->walk && !e->slabs; /* what was taken had ended before any barrier of ours; of what a walk finds nobody knows that */
    do {
        fst_ended_children(a, e, release_child, &r);
        finish_lot(&r);
    } while (r.revoke.want_far && fst_revoke_far(&r.revoke));
    /* Where no barrier can be had, or a thread is stopped while it allocates, asking at once would be asking for ever. */
    uint32_t none = FST_ENDED_SLABS_NONE;
    if (r.revoke.left)
        fst_cas32(&a->sb->ended_slabs, &none, FST_ENDED_SLABS_LATER);
    if (r.closed.n && give(&r))
        fst_ended_children(a, e, release_again, &r);
    if (e->caches != FST_NONE || e->walk)
        release_caches(a, e);
    (e->walk ? release_all_groups : release_groups)(a, e, word, context);
    return r.released;
}

void fst_ending_group_unreferenced(struct fst_arena *a, uint32_t group)
{
    struct fst_group *g = fst_group_at(a, group);
    if (fst_state(fst_load_acquire(&g->state)) > FST_GROUP_LIVE && (fst_load_relaxed(&g->flags) & FST_GROUP_QUEUED))
        return; /* ended already, and the batch that has taken it, or will, releases it */
    fst_registry_lock(a);
    if (!(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED)) {
        fst_group_end(a, group, FST_GROUP_CLOSED);
        fst_group_try_release(a, group);
    }
    fst_registry_unlock(a);
}
