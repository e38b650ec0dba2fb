#include "reclaim/ending.h"

#include <stdio.h>
#include <string.h>

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/group.h"
#include "alloc/slab.h"
#include "crash/process.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/membarrier.h"
#include "reclaim/reaper.h"
#include "reclaim/release.h"
#include "refs/inflight.h"
#include "refs/word.h"

/* ---- the batch's side ---- */

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

static void visit_group(struct fst_arena *a, uint32_t group, void (*visit)(void *context, uint32_t child), void *context)
{
    uint32_t next;
    for (uint32_t i = fst_group_at(a, group)->first; i != FST_NONE; i = next) {
        next = fst_child_at(a, i)->next_in_group;
        visit(context, i);
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

/* Only a batch releases an ended group's children, so the lists are still while it walks them: nothing is added to an ended group. A
 * private drop may release a child: then the walk below sees a FREE child and its stale link, and visit() looks at the state. */
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
            if (fst_state(fst_load_acquire(&fst_group_at(a, g)->state)) == FST_GROUP_DESTROYED)
                visit(context, g);
        return;
    }
    for (uint32_t g = 1; g < top; g++)
        if (fst_state(fst_load_acquire(&fst_group_at(a, g)->state)) == FST_GROUP_DESTROYED)
            visit(context, g);
}

struct release {
    struct fst_arena *a;
    uint64_t owner;
};

static void release_child(void *context, uint32_t child)
{
    struct release *r = context;
    struct fst_child *c = fst_child_at(r->a, child);
    uint32_t state = fst_state(fst_load_acquire(&c->state));
    if (state != FST_CHILD_OFFLINE && state != FST_CHILD_ENDED)
        return;
    fst_slab_shrink_child(r->a, child, r->owner, 1000 * FST_MS);
    fst_release_child(r->a, child);
}

void fst_ended_release(struct fst_arena *a, const struct fst_ended *ended, uint64_t owner)
{
    struct release r = {a, owner};
    uint32_t next;
    if (ended->walk)
        finish_unreferenced(a);
    fst_ended_children(a, ended, release_child, &r);
    if (ended->head == FST_NONE && !ended->caches && !ended->walk)
        return;
    fst_registry_lock(a);
    if (ended->walk) {
        for (uint32_t i = 1; i < a->sb->group_top; i++)
            fst_group_taken(a, i);
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

/* ---- groups ---- */

static int end_group(fst_arena *a, uint64_t group, enum fst_group_state state)
{
    uint32_t index;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only: a group cannot be ended");
    fst_registry_lock(a);
    bool found = fst_group_find(a, group, &index);
    if (found && index != 0)
        fst_group_end(a, index, state);
    fst_registry_unlock(a);
    if (found && index == 0)
        return fst_fail(FST_INVALID, "the root group lives as long as its arena");
    if (!found)
        return fst_fail(FST_CLOSED, "the group is gone");
    fst_reaper_ended(a);
    return FST_OK;
}

int fst_group_close(fst_arena *a, uint64_t group)
{
    return end_group(a, group, FST_GROUP_CLOSED);
}

int fst_group_destroy(fst_arena *a, uint64_t group)
{
    return end_group(a, group, FST_GROUP_DESTROYED);
}

/* ---- caches ---- */

struct users {
    uint32_t processes, references, in_flight;
    char names[256];
};

static bool of_cache(struct fst_arena *a, uint64_t oid, uint32_t cache)
{
    if (fst_oid_is_group(oid))
        return false;
    const struct fst_slab *s = fst_slab_at(a, fst_oid_slab(oid));
    return s->child < a->sb->child_top && fst_child_at(a, s->child)->cache == cache;
}

static bool counts(struct fst_arena *a, uint64_t entry, uint32_t cache)
{
    if (fst_entry_state(entry) != FST_ENTRY_LIVE)
        return false;
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(a, oid);
    if (!word || !of_cache(a, oid, cache))
        return false;
    uint64_t w = fst_load_acquire(word);
    return (w & FST_WORD_ALLOCATED) && fst_entry_matches(entry, w);
}

static void count_process(struct fst_arena *a, uint32_t slot, uint32_t cache, struct users *u)
{
    const struct fst_process *p = fst_process_at(a, slot);
    const uint64_t *entries = fst_entries_of(a, slot);
    uint32_t n = 0, top = fst_load_acquire(&p->entry_top);
    for (uint32_t i = 0; i < top && i < FST_MAX_ENTRIES; i++)
        n += counts(a, fst_load_acquire(&entries[i]), cache);
    if (!n || !fst_process_alive(a, slot))
        return;
    size_t at = strlen(u->names);
    snprintf(u->names + at, sizeof u->names - at, "%s%u by pid %d (%.15s)", at ? ", " : "", n, p->pid, p->command);
    u->references += n;
    u->processes++;
}

static struct users count_users(struct fst_arena *a, uint32_t cache)
{
    struct users u = {0};
    uint32_t top = fst_load_acquire(&a->sb->inflight_top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        u.in_flight += (word & FST_INFLIGHT_LIVE) && of_cache(a, fst_inflight_oid(word), cache);
    }
    top = fst_load_acquire(&a->sb->process_top);
    for (uint32_t slot = 0; slot < top; slot++)
        if (fst_process_state(fst_load_acquire(&fst_process_at(a, slot)->state)) == FST_PROCESS_LIVE)
            count_process(a, slot, cache, &u);
    return u;
}

/* One of the two sees the other: an allocation or a resolve under way writes its entry, then looks at the child's state; we set the
 * state, pass the heavy barrier, then look at the entries. PAIR(cache-ending) */
int fst_cache_destroy(fst_arena *a, uint64_t cache)
{
    uint32_t index;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only: a cache cannot be destroyed");
    fst_registry_lock(a);
    if (!fst_cache_find(a, cache, &index) || fst_state(fst_cache_at(a, index)->state) != FST_CACHE_LIVE) {
        fst_registry_unlock(a);
        return fst_fail(FST_CLOSED, "the cache is gone");
    }
    struct fst_cache *c = fst_cache_at(a, index);
    fst_child_suspend_all_of_cache(a, index, true);
    if (a->can_membarrier)
        fst_membarrier();
    else
        fst_full_fence();
    struct users u = count_users(a, index);
    bool busy = u.references || u.in_flight;
    if (busy) {
        fst_child_suspend_all_of_cache(a, index, false);
    } else {
        fst_store_release(&c->state, fst_state_moved(c->state, FST_CACHE_ENDED));
        fst_child_end_all_of_cache(a, index);
        fst_store_relaxed(&a->sb->ended_caches, 1);
    }
    fst_registry_unlock(a);
    if (busy)
        return fst_fail(FST_BUSY, "cache %s is in use: %u references of %u processes (%s), %u in flight", c->name, u.references,
                        u.processes, u.names[0] ? u.names : "none", u.in_flight);
    fst_reaper_ended(a);
    return FST_OK;
}
