#include "reclaim/ending.h"

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/group.h"
#include "alloc/slab.h"
#include "platform/futex.h"
#include "reclaim/release.h"

struct fst_ended fst_ended_take(struct fst_arena *a, bool all)
{
    struct fst_superblock *sb = a->sb;
    struct fst_ended taken = {.head = FST_NONE};
    if (!all && fst_load_relaxed(&sb->ended_head) == FST_NONE && !fst_load_relaxed(&sb->ended_caches) &&
        !fst_load_relaxed(&sb->ended_walk))
        return taken;
    fst_registry_lock(a);
    taken.walk = all || sb->ended_walk;
    taken.caches = all || sb->ended_caches;
    taken.head = sb->ended_head;
    fst_store_relaxed(&sb->ended_head, FST_NONE);
    fst_store_relaxed(&sb->ended_walk, 0);
    fst_store_relaxed(&sb->ended_caches, 0);
    if (taken.walk)
        fst_registry_finish_endings(a); /* of a killed destroyer, which held no lock just then */
    fst_registry_unlock(a);
    return taken;
}

/* A group whose word was released but whose state was not moved on: the reaper was killed in between. */
static void finish_unreferenced(struct fst_arena *a)
{
    for (uint32_t i = 1; i < fst_load_acquire(&a->sb->group_top); i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE && !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED))
            fst_ending_group_unreferenced(a, i);
    }
}

/* Every ended child there is: for batches after one that was broken off, and for caches. */
static void visit_all(struct fst_arena *a, void (*visit)(void *context, uint32_t child), void *context)
{
    uint32_t top = fst_load_acquire(&a->sb->child_top);
    for (uint32_t i = 0; i < top; i++) {
        uint32_t state = fst_state(fst_load_acquire(&fst_child_at(a, i)->state));
        if (state == FST_CHILD_ENDED || state == FST_CHILD_OFFLINE)
            visit(context, i);
    }
}

/* visit() takes locks, so the children are written down first: a drop may release one meanwhile, and its link would lead elsewhere. */
static void visit_group(struct fst_arena *a, uint32_t group, void (*visit)(void *context, uint32_t child), void *context)
{
    uint32_t ids[64], n = 0, i;
    fst_registry_lock(a);
    for (i = fst_group_at(a, group)->first; i != FST_NONE && n < 64; i = fst_child_at(a, i)->next_in_group)
        ids[n++] = i;
    fst_registry_unlock(a);
    if (i != FST_NONE) {
        visit_all(a, visit, context);
        return;
    }
    for (i = 0; i < n; i++)
        visit(context, ids[i]);
}

void fst_ended_children(struct fst_arena *a, const struct fst_ended *ended, void (*visit)(void *context, uint32_t child),
                        void *context)
{
    if (ended->walk || ended->caches) {
        visit_all(a, visit, context);
        return;
    }
    for (uint32_t g = ended->head; g != FST_NONE; g = fst_group_at(a, g)->next_ended)
        visit_group(a, g, visit, context);
}

void fst_ended_groups(struct fst_arena *a, const struct fst_ended *ended, void (*visit)(void *context, uint32_t group),
                      void *context)
{
    uint32_t top = fst_load_acquire(&a->sb->group_top);
    if (!ended->walk) {
        for (uint32_t g = ended->head; g != FST_NONE; g = fst_group_at(a, g)->next_ended)
            if (fst_state(fst_load_acquire(&fst_group_at(a, g)->state)) > FST_GROUP_LIVE)
                visit(context, g);
        return;
    }
    for (uint32_t g = 1; g < top; g++)
        if (fst_state(fst_load_acquire(&fst_group_at(a, g)->state)) > FST_GROUP_LIVE)
            visit(context, g);
}

#define SHRINK_NS (1000 * FST_MS) /* for the grace periods of the slabs of all TYPESAFE_BY_RCU caches together */

struct release {
    struct fst_arena *a;
    uint64_t owner, began, bytes;
    const uint32_t *stop;
    struct fst_closed closed;
};

/* What is not over in time is open again, and the next batch's. */
static bool give(struct release *r)
{
    uint64_t gone = fst_now() - r->began;
    return fst_slab_give_closed(r->a, &r->closed, gone < SHRINK_NS ? SHRINK_NS - gone : 0, r->stop, &r->bytes);
}

static void shrink_child(void *context, uint32_t child)
{
    struct release *r = context;
    uint32_t state = fst_state(fst_load_acquire(&fst_child_at(r->a, child)->state));
    if (state != FST_CHILD_OFFLINE && state != FST_CHILD_ENDED)
        return;
    while (!fst_slab_close_empty(r->a, child, r->owner, &r->closed, &r->bytes) && give(r)) {
    }
}

static void release_child(void *context, uint32_t child)
{
    struct release *r = context;
    fst_release_child(r->a, child);
}

void fst_ended_release(struct fst_arena *a, const struct fst_ended *ended, uint64_t owner, const uint32_t *stop)
{
    struct release r;
    uint32_t next;
    r.a = a;
    r.owner = owner;
    r.stop = stop;
    r.began = fst_now();
    r.bytes = r.closed.n = 0;
    if (ended->walk)
        finish_unreferenced(a);
    fst_ended_children(a, ended, shrink_child, &r);
    give(&r);
    fst_ended_children(a, ended, release_child, &r);
    if (ended->head == FST_NONE && !ended->caches && !ended->walk)
        return;
    fst_registry_lock(a);
    if (ended->walk) {
        fst_group_taken_all(a);
    } else {
        for (uint32_t g = ended->head; g != FST_NONE; g = next) {
            next = fst_group_at(a, g)->next_ended;
            fst_group_taken(a, g);
        }
    }
    for (uint32_t i = 0; (ended->caches || ended->walk) && i < a->sb->cache_top; i++)
        fst_cache_try_release(a, i);
    fst_registry_unlock(a);
}

void fst_ending_group_unreferenced(struct fst_arena *a, uint32_t group)
{
    fst_registry_lock(a);
    struct fst_group *g = fst_group_at(a, group);
    if (!(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED)) {
        fst_group_end(a, group, FST_GROUP_CLOSED);
        fst_group_try_release(a, group);
    }
    fst_registry_unlock(a);
}
