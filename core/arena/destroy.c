/* destroy.c - close() and destroy() as programs call them: teardown/end.h ends what they name, and
 * a batch is asked for. */
#include "alloc/cache.h"
#include "flagstone.h"
#include "platform/error.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "region/lock.h"
#include "teardown/end.h"

/* ---- the synchronous way ---- */

void fst_destroy_synchronously(fst_arena *a, bool on, fst_go_on *go_on, void *context)
{
    a->go_on = go_on;
    a->go_on_context = context;
    a->synchronous = on;
}

/* Get the thread's state, and acquire the lock. FST_IN_SECTION, FST_HELD. */
static int begin_synchronous(struct fst_arena *a, struct fst_thread **t)
{
    *t = fst_thread_get(a);
    if (!*t)
        return fst_thread_refused(a);
    if ((*t)->nest)
        return fst_fail(FST_IN_SECTION, "destroying synchronously inside read() would wait for itself");
    /* teardown_lock protects nothing: whoever takes it over has nothing to mend. */
    return fst_lock_in_time(a, &a->sb->teardown_lock) == FST_TRY_BUSY ? fst_lock_held(a) : FST_OK;
}

#define ASK (100 * FST_MS) /* ns between two questions to the caller whether to go on waiting */

static bool may_go_on(struct fst_arena *a, uint64_t began)
{
    return !a->go_on || a->go_on(a->go_on_context, fst_now() - began);
}

/* Do as kmem_cache_destroy() did before "slab: remove synchronous rcu_barrier() call in memcg cache
 * release path" (Linux 4.11): wait for a grace period for each child cache, with the lock held that
 * every destroyer needs, and then release. */
static void end_synchronous(struct fst_thread *t, uint32_t children)
{
    struct fst_arena *a = t->arena;
    bool more = false, go_on = true;
    uint64_t began = fst_now();
    struct fst_batch_options options = {.timeout = ASK, .more = &more};
    for (uint32_t i = 0; i < children && go_on; i++)
        for (uint64_t cookie = fst_gp_cookie(a); go_on && fst_grace_wait(a, cookie, ASK, NULL) == FST_TIMEOUT;)
            go_on = may_go_on(a, began);
    for (uint32_t batch = fst_batch_begun(a); go_on && fst_batch_wait(t, batch, &options) == FST_TIMEOUT;)
        go_on = may_go_on(a, began);
    fst_unlock(a, &a->sb->teardown_lock);
    if (more || !go_on)
        fst_reaper_ended(a);
}

/* ---- groups ---- */

static int end_group(fst_arena *a, uint64_t group, enum fst_group_state state)
{
    struct fst_thread *t = NULL;
    uint32_t children;
    bool wait = a->synchronous && state == FST_GROUP_DESTROYED;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena %s is attached read-only: a group cannot be ended", fst_arena_called(a));
    rc = wait ? begin_synchronous(a, &t) : FST_OK;
    if (rc)
        return rc;
    rc = fst_end_group_by_id(a, group, state, &children);
    if (wait && rc == FST_HELD)
        fst_unlock(a, &a->sb->teardown_lock);
    else if (wait)
        end_synchronous(t, children);
    else if (rc == FST_OK)
        fst_reaper_ended(a);
    return fst_verdict(a, rc);
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

int fst_cache_destroy(fst_arena *a, uint64_t cache, bool *name_only)
{
    struct fst_thread *t = NULL;
    uint32_t body, children = 0;
    char name[FST_NAME_MAX];
    bool wait = a->synchronous;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena %s is attached read-only: a cache cannot be destroyed", fst_arena_called(a));
    if (!fst_thread_get(a)) /* whoever looks for users does so in a section */
        return fst_thread_refused(a);
    enum fst_end_cache what = fst_end_name(a, cache, &body, name);
    if (what == FST_END_RETIRED)
        what = fst_end_retired(a, cache, body, name);
    if (what == FST_END_LAST) {
        rc = wait ? begin_synchronous(a, &t) : FST_OK;
        if (rc)
            return rc;
        what = fst_end_cache(a, cache, body, name, &children);
        if (wait && what == FST_END_HELD)
            fst_unlock(a, &a->sb->teardown_lock);
        else if (wait)
            end_synchronous(t, children);
        else if (what == FST_END_LAST)
            fst_reaper_ended(a);
    }
    if (what == FST_END_RETIRED)
        fst_reaper_ended(a);
    if (name_only)
        *name_only = what == FST_END_NAME;
    if (what == FST_END_HELD)
        return fst_verdict(a, fst_lock_held(a));
    if (what == FST_END_BUSY)
        return fst_verdict(a, FST_BUSY);
    return fst_verdict(a, what == FST_END_NOTHING ? fst_cache_ended(a, cache) : FST_OK);
}
