/* destroy.c - ending groups and caches: unlinked at once here, released by a batch (reclaim/ending.c). */
#include <stdio.h>
#include <string.h>

#include "alloc/active.h"
#include "alloc/cache.h"
#include "alloc/children.h"
#include "alloc/group.h"
#include "alloc/revoke.h"
#include "crash/process.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* ---- the synchronous way ---- */

void fst_destroy_synchronously(fst_arena *a, bool on)
{
    a->synchronous = on;
}

/* The thread's state, and the lock; FST_IN_SECTION. */
static int begin_synchronous(struct fst_arena *a, struct fst_thread **t)
{
    *t = fst_thread_get(a);
    if (!*t)
        return fst_thread_refused(a);
    if ((*t)->nest)
        return fst_fail(FST_IN_SECTION, "destroying synchronously inside read() would wait for itself");
    fst_lock(a, &a->sb->teardown_lock); /* it protects nothing: whoever takes it over has nothing to mend */
    return FST_OK;
}

/* As kmem_cache_destroy() did before "slab: remove synchronous rcu_barrier() call in memcg cache release path" (Linux 4.11): a grace period for
 * each child cache, waited for with the lock held that every destroyer needs; then the release. */
static void end_synchronous(struct fst_thread *t, uint32_t children)
{
    struct fst_arena *a = t->arena;
    struct fst_batch_options options = {.timeout = FST_FOREVER};
    for (uint32_t i = 0; i < children; i++)
        fst_grace_wait(a, fst_gp_cookie(a), FST_FOREVER, NULL);
    fst_batch_wait(t, fst_batch_begun(a), &options);
    fst_unlock(a, &a->sb->teardown_lock);
}

/* ---- groups ---- */

/* How many children a group has. Under names_lock. */
static uint32_t children_of(struct fst_arena *a, uint32_t group)
{
    struct fst_children w = fst_children_of_group(a, group);
    uint32_t n = 0;
    while (fst_children_next(&w) != FST_NONE)
        n++;
    return n;
}

#define MINE 16u

/* Which of the group's children this thread allocates from: up to MINE. Under names_lock. */
static uint32_t allocated_from(struct fst_thread *t, uint32_t group, uint32_t mine[MINE])
{
    struct fst_arena *a = t->arena;
    struct fst_children w = fst_children_of_group(a, group);
    uint32_t n = 0;
    for (uint32_t child; n < MINE && (child = fst_children_next(&w)) != FST_NONE;)
        if (fst_active_is(t, child))
            mine[n++] = child;
    return n;
}

static int end_group(fst_arena *a, uint64_t group, enum fst_group_state state)
{
    struct fst_thread *t = NULL;
    uint32_t index, children = 0;
    bool wait = a->synchronous && state == FST_GROUP_DESTROYED;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only: a group cannot be ended");
    rc = wait ? begin_synchronous(a, &t) : FST_OK;
    if (rc)
        return rc;
    fst_registry_lock(a);
    bool found = fst_group_find(a, group, &index), below = false;
    uint64_t now = 0;
    uint32_t mine[MINE], n_mine = 0;
    if (found && index != 0) {
        if (fst_thread_current->arena == a)
            n_mine = allocated_from(fst_thread_current, index, mine);
        children = wait ? children_of(a, index) : 0;
        fst_group_end(a, index, state);
        now = fst_group_at(a, index)->state;
        below = fst_group_at(a, index)->children != 0;
    }
    fst_registry_unlock(a);
    /* What we let go of ourselves, no batch has to take away from us with a barrier. */
    for (uint32_t i = 0; i < n_mine; i++)
        fst_active_let_go(fst_thread_current, mine[i]);
    if (below && state == FST_GROUP_DESTROYED)
        fst_group_destroy_below(a, index, now);
    if (wait)
        end_synchronous(t, children);
    if (found && index == 0)
        return fst_fail(FST_INVALID, "the root group lives as long as its arena");
    if (fst_is_damaged(a))
        return fst_damage(a);
    if (!found)
        return fst_fail(FST_CLOSED, "the group is gone");
    if (!wait)
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

int fst_cache_open(fst_arena *a, const struct fst_cache_spec *spec, uint64_t *cache)
{
    bool retired = false;
    int rc = fst_cache_find_or_make(a, spec, cache, &retired);
    if (retired)
        fst_reaper_ended(a);
    return rc;
}

struct users {
    uint32_t processes, references, in_flight;
    char names[256];
};

static bool of_cache(struct fst_arena *a, uint64_t oid, uint32_t cache)
{
    if (fst_oid_is_group(oid))
        return false;
    const struct fst_slab *s = fst_slab_at(a, fst_oid_slab(oid));
    return fst_is_child(a, s->child) && fst_child_at(a, s->child)->cache == cache;
}

/* Its group was destroyed: the next batch ends the message. */
static bool ends(struct fst_arena *a, uint64_t oid)
{
    return fst_state(fst_load_acquire(&fst_child_at(a, fst_slab_at(a, fst_oid_slab(oid))->child)->state)) == FST_CHILD_ENDED;
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
    struct fst_table_look look;
    uint32_t n = 0;
    if (!fst_refs_look(a, slot, &look))
        return; /* fst_cache_destroy has seen that it may */
    for (uint32_t i = 0; i < look.top; i++)
        n += counts(a, fst_load_acquire(&look.entries[i]), cache);
    fst_refs_looked(&look);
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
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        uint64_t oid = fst_inflight_oid(word);
        u.in_flight += (word & FST_INFLIGHT_LIVE) && fst_word_of(a, oid) && of_cache(a, oid, cache) && !ends(a, oid);
    }
    top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++)
        if (fst_state(fst_load_acquire(&fst_process_at(a, slot)->state)) == FST_PROCESS_LIVE)
            count_process(a, slot, cache, &u);
    return u;
}

static int busy(const char *name, const struct users *u)
{
    return fst_fail(FST_BUSY, "cache %s is in use: %u references of %u processes (%s), %u in flight", name, u->references,
                    u->processes, u->names[0] ? u->names : "none", u->in_flight);
}

/* Look for users of the body, whose lock `ending` is held: false, with a sentence, when there are any.
 * One of the two sees the other: a resolve under way writes its entry, then looks at the child's state; we set the state, fence, then look
 * at the entries. PAIR(cache-ending). An allocation says that it is under way, and looks at the state then: those of this process are waited
 * for. In another process one that just began may not show: its Block then outlives the cache, as one does that outlives its group. */
static bool unused(struct fst_arena *a, uint32_t body, const char *name)
{
#ifndef FST_MUTANT_NO_SUSPENSION
    fst_children_suspend(a, body);
#endif
    fst_full_fence();
    fst_revoke_suspended(a, body);
    struct users u = count_users(a, body);
    if (!u.references && !u.in_flight && !fst_is_damaged(a))
        return true;
    fst_children_resume(a, body);
    busy(name, &u);
    return false;
}

/* What destroy() of this name means now. */
enum step { DONE, GONE, LAST, RETIRED };

static enum step begin(struct fst_arena *a, uint64_t cache, uint32_t *index, uint32_t *body, char name[FST_NAME_MAX])
{
    enum step step = GONE;
    fst_registry_lock(a);
    if (fst_cache_body(a, cache, body) && fst_cache_find(a, cache, index)) {
        memcpy(name, fst_cache_at(a, *index)->name, FST_NAME_MAX);
        step = fst_cache_unname(a, *index) ? DONE : LAST;
    } else if (fst_cache_retired(a, cache)) {
        step = RETIRED;
        *body = (uint32_t)cache;
        memcpy(name, fst_cache_at(a, *body)->name, FST_NAME_MAX);
        if (!fst_cache_find(a, cache, index) || fst_state(fst_cache_at(a, *index)->state) != FST_CACHE_RETIRED)
            *body = FST_NONE; /* gone, or it lives on by other names, whose users are their business */
    }
    fst_registry_unlock(a);
    return step;
}

/* Still the last name, now that nobody uses an object: end the body. */
static enum step finish(struct fst_arena *a, uint64_t cache, uint32_t body, uint64_t *ended)
{
    uint32_t index, now;
    enum step step = GONE;
    fst_registry_lock(a);
    if (fst_cache_body(a, cache, &now) && now == body && fst_cache_find(a, cache, &index)) {
        step = fst_cache_unname(a, index) ? DONE : LAST;
        if (step == LAST)
            fst_cache_end(a, index, body, FST_CACHE_ENDED);
        *ended = fst_cache_at(a, body)->state;
    }
    fst_registry_unlock(a);
    return step;
}

static void queue(struct fst_arena *a, uint32_t body, uint64_t ended)
{
    fst_registry_lock(a);
    fst_cache_queue(a, body, ended);
    fst_registry_unlock(a);
}

static int gone(void)
{
    return fst_fail(FST_CLOSED, "the cache is gone");
}

/* It ends by itself with its last object: nothing to do but to say who uses one. body FST_NONE: nobody can. */
static int end_retired(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name)
{
    uint32_t index;
    struct users u = {0};
    if (body != FST_NONE)
        u = count_users(a, body);
    if ((u.references || u.in_flight) && fst_cache_find(a, cache, &index))
        return busy(name, &u);
    fst_reaper_ended(a);
    return fst_verdict(a, FST_OK);
}

int fst_cache_destroy(fst_arena *a, uint64_t cache, bool *name_only)
{
    uint32_t index, body;
    char name[FST_NAME_MAX];
    bool ignored;
    name_only = name_only ? name_only : &ignored;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only: a cache cannot be destroyed");
    if (!fst_thread_get(a)) /* whoever looks for users looks in a section */
        return fst_thread_refused(a);
    enum step step = begin(a, cache, &index, &body, name);
    *name_only = step == DONE || (step == RETIRED && body == FST_NONE);
    if (step == RETIRED)
        return end_retired(a, cache, body, name);
    if (step != LAST)
        return step == DONE ? FST_OK : gone();
    struct fst_thread *t = NULL;
    uint32_t children = 0;
    bool wait = a->synchronous;
    rc = wait ? begin_synchronous(a, &t) : FST_OK;
    if (rc)
        return rc;
    fst_cache_lock_ending(a, body);
    uint64_t ended = 0;
    bool free = unused(a, body, name);
    if (free) {
        step = finish(a, cache, body, &ended);
        if (step == LAST) {
            children = fst_children_end_cache(a, body, FST_CHILD_ENDED);
            queue(a, body, ended);
        } else
            fst_children_resume(a, body);
        *name_only = step == DONE;
    }
    fst_cache_unlock_ending(a, body);
    if (wait)
        end_synchronous(t, children);
    if (fst_is_damaged(a))
        return fst_damage(a);
    if (!free)
        return FST_BUSY;
    if (step == GONE)
        return gone();
    if (step == LAST && !wait)
        fst_reaper_ended(a);
    return FST_OK;
}
