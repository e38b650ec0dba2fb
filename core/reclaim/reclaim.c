/* reclaim.c - waiting for memory and for grace periods, on request and in the calling thread:
 * batches as the public header has them. */
#include <stdio.h>
#include <string.h>

#include "alloc/group.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "flagstone_test.h"
#include "platform/error.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "region/file.h"

/* Get the thread's state, if the thread may wait here. */
static int may_wait(struct fst_arena *a, const char *what, struct fst_thread **t)
{
    *t = fst_thread_get(a);
    if (!*t)
        return fst_thread_refused(a);
    if ((*t)->nest)
        return fst_fail(FST_IN_SECTION, "%s inside read() would wait for itself", what);
    return fst_file_reachable(a); /* otherwise a process that was killed would be waited for */
}

int fst_read_lock(fst_arena *a)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return fst_thread_refused(a);
    fst_section_enter(t);
    return FST_OK;
}

static __attribute__((noinline)) int no_section(const struct fst_arena *a)
{
    return a->usable ? fst_fail(FST_INVALID, "this thread is in no read-side section: a section ends in the thread that began it")
                     : fst_thread_usable(a);
}

int fst_read_unlock(fst_arena *a)
{
    struct fst_thread *t = fst_thread_get(a);
    if (__builtin_expect(!t || !t->nest, 0))
        return no_section(a);
    fst_section_leave(t);
    return FST_OK;
}

bool fst_in_section(fst_arena *a)
{
    struct fst_thread *t = fst_thread_get(a);
    return t && t->nest;
}

uint64_t fst_section_age(fst_arena *a, uint32_t turns)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return 0;
    fst_section_enter(t);
    /* There is no fence before this load: a process that begins a grace period after it has to see
     * to it that this section shows. The section's own number may be far older, if this thread was
     * stopped before it showed: grace periods that ended meanwhile did not have to wait for it. */
    uint64_t begun = fst_load_acquire(&a->sb->gp_seq), over = 0;
    while (turns-- > 0 && over <= begun)
        over = fst_load_acquire(&a->sb->gp_completed);
    fst_section_leave(t);
    return over > begun ? over - begun : 0;
}

int fst_synchronize(fst_arena *a, uint64_t timeout)
{
    struct fst_thread *t;
    int rc = may_wait(a, "synchronize()", &t);
    return rc ? rc : fst_grace_wait(a, fst_gp_cookie(a), timeout, NULL);
}

static void count(struct fst_arena *a, uint64_t group, bool failed)
{
    uint32_t index;
    if (group == UINT64_MAX || !fst_group_find(a, group, &index))
        return;
    struct fst_group *g = fst_group_at(a, index);
    fst_add64(failed ? &g->failed : &g->reclaims, 1);
}

void fst_group_note_failed(fst_arena *a, uint64_t group)
{
    count(a, group, true);
}

int fst_reclaim(fst_arena *a, uint64_t group, uint64_t timeout)
{
    struct fst_thread *t;
    int rc = may_wait(a, "reclaiming memory", &t);
    if (rc)
        return rc;
    bool more = false;
    struct fst_batch_options options = {.deaths = true, .give_back = true, .others = true, .timeout = timeout, .more = &more};
    count(a, group, false);
    uint32_t cookie = fst_load_acquire(&a->sb->batches);
    rc = fst_batch_wait(t, cookie, &options);
    if (more)
        fst_reaper_ended(a);
    return rc;
}

void fst_wait_for_memory(fst_arena *a, uint64_t timeout)
{
    struct fst_superblock *sb = a->sb;
    if (fst_thread_usable(a))
        return;
    uint32_t seen = fst_load_acquire(&sb->batches);
    /* A kill before the subtraction makes drops a little more eager, which does no harm. */
    fst_add32(&sb->waiters, 1);
    fst_full_fence(); /* PAIR(waiters) */
    fst_futex_wait(&sb->batches, seen, timeout < 10 * FST_MS ? timeout : 10 * FST_MS);
    fst_add32(&sb->waiters, UINT32_MAX);
}

int fst_barrier_begin(fst_arena *a, uint64_t *cookie)
{
    struct fst_thread *t;
    int rc = may_wait(a, "barrier()", &t);
    fst_full_fence(); /* PAIR(batch-number) */
    *cookie = fst_batch_begun(a);
    return fst_verdict(a, rc);
}

int fst_barrier_wait(fst_arena *a, uint64_t cookie, uint64_t timeout)
{
    struct fst_thread *t;
    int rc = may_wait(a, "barrier()", &t);
    if (rc)
        return rc;
    bool more = false;
    struct fst_batch_options options = {.deaths = true, .give_back = true, .others = true, .timeout = timeout, .more = &more};
    rc = fst_batch_wait(t, (uint32_t)cookie, &options);
    /* A batch splices so many groups and no more. A group that it finds without references is ended
     * by it, and released by the next one. So go on until all that are queued by now were
     * spliced. */
    uint32_t queued = fst_load_acquire(&a->sb->ended_groups);
    while (rc == FST_OK && (int32_t)(queued - fst_load_acquire(&a->sb->ended_spliced)) > 0 &&
           fst_load_acquire(&a->sb->ended_head) != FST_NONE)
        rc = fst_batch_wait(t, fst_batch_begun(a), &options);
    if (more)
        fst_reaper_ended(a);
    return fst_verdict(a, rc);
}

int fst_barrier(fst_arena *a, uint64_t timeout)
{
    uint64_t cookie;
    int rc = fst_barrier_begin(a, &cookie);
    return rc ? rc : fst_barrier_wait(a, cookie, timeout);
}

int fst_shrink(fst_arena *a, uint64_t timeout, uint64_t *bytes)
{
    struct fst_thread *t;
    *bytes = 0;
    int rc = may_wait(a, "shrink()", &t);
    if (rc)
        return rc;
    rc = fst_reclaim(a, UINT64_MAX, timeout);
    if (fst_is_damaged(a))
        return fst_damage(a);
    *bytes = fst_run_punch(a, false, t->name);
    return fst_verdict(a, rc == FST_TIMEOUT ? FST_OK : rc);
}
