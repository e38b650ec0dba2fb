#include "rcu/grace.h"

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "process/slot.h"
#include "rcu/thread.h"

#define SPIN_NS 30000ull /* a short section ends sooner than a sleeper would wake up */
/* A killed reader wakes nobody, and a reader that is leaving may not have seen that somebody
 * sleeps; so a sleeper looks again after this time. */
#define SLEEP_NS (5 * FST_MS)

uint64_t fst_gp_cookie(fst_arena *a)
{
    fst_full_fence();
    return fst_load_acquire(&a->sb->gp_seq);
}

bool fst_gp_done(fst_arena *a, uint64_t cookie)
{
    return fst_load_acquire(&a->sb->gp_completed) > cookie;
}

struct wait {
    struct fst_arena *a;
    uint64_t seq;    /* the grace period that this waiter began */
    uint64_t cookie; /* the one that serves it is any with a number above this */
    uint64_t began, timeout;
    const uint32_t *stop;
};

static bool holds_up(const struct fst_thread_slot *s, uint64_t seq)
{
    /* PAIR(read-section): what the section did happened before this load. */
    uint64_t seen = fst_load_acquire(&s->seq);
    return seen != 0 && seen < seq;
}

/* Note who holds up the grace period. Callers wait in slices: whoever waits next for the same
 * section leaves the report as it is. */
static void report_stall(const struct wait *w, uint32_t index, uint64_t seq)
{
    struct fst_superblock *sb = w->a->sb;
    if (fst_load_relaxed(&sb->stalled_thread) == index + 1 && fst_load_relaxed(&sb->stalled_seq) == seq)
        return;
    fst_store_relaxed(&sb->stalled_since, w->began);
    fst_store_relaxed(&sb->stalled_seq, seq);
    fst_store_relaxed(&sb->stalled_thread, index + 1);
}

static int timed_out(const struct wait *w, uint32_t index)
{
    const struct fst_thread_slot *s = fst_thread_slot_at(w->a, index);
    uint32_t process = fst_thread_owner_process(fst_load_acquire(&s->owner));
    return fst_fail(FST_TIMEOUT, "a read-side section of process %d thread %u is still open",
                    process < fst_process_top(w->a) ? fst_process_at(w->a, process)->pid : 0, s->tid);
}

/* Did another waiter's grace period begin late enough, and is it over? */
static bool served(const struct wait *w)
{
    return fst_load_acquire(&w->a->sb->gp_completed) > w->cookie;
}

static int sleep_for(const struct wait *w, struct fst_thread_slot *s, uint32_t index)
{
    while (holds_up(s, w->seq)) {
        if (served(w))
            return FST_OK;
        if (w->stop && fst_load_relaxed(w->stop))
            return timed_out(w, index);
        uint64_t waited = fst_now() - w->began;
        if (waited >= w->timeout)
            return timed_out(w, index);
        uint64_t seen = fst_load_relaxed(&s->seq);
        fst_store_relaxed(&s->waiter, 1);
        /* The reader sees the waiter's flag when it leaves. Otherwise this thread sees below that
         * it has left, or the kernel does, which compares the word again before it lets this thread
         * sleep. A leaving store that takes longer than all this to arrive costs the wait below,
         * and nothing else. */
        fst_full_fence();
        if (!holds_up(s, w->seq))
            break;
        uint64_t left = w->timeout - waited;
        fst_futex_wait((const uint32_t *)(const void *)&s->seq, (uint32_t)seen, left < SLEEP_NS ? left : SLEEP_NS);
        if (holds_up(s, w->seq)) {
            uint32_t process = fst_thread_owner_process(fst_load_acquire(&s->owner));
            if (process >= fst_process_top(w->a) || !fst_process_alive(w->a, process))
                /* A dead reader reads nothing; its slot is freed by the batch that buries it. */
                break;
            report_stall(w, index, seen);
        }
    }
    return FST_OK;
}

static int wait_for(const struct wait *w, uint32_t index)
{
    struct fst_thread_slot *s = fst_thread_slot_at(w->a, index);
    if (!holds_up(s, w->seq))
        return FST_OK;
    uint64_t until = fst_now() + SPIN_NS;
    while (fst_now() < until) {
        for (int i = 0; i < 20; i++)
            fst_pause();
        if (!holds_up(s, w->seq))
            return FST_OK;
    }
    return sleep_for(w, s, index);
}

bool fst_grace_numbers(const struct fst_arena *a, uint64_t *over, uint64_t *begun)
{
    *over = fst_load_acquire(&a->sb->gp_completed);
    *begun = fst_load_acquire(&a->sb->gp_seq);
    return *over <= *begun && *begun && !(*begun >> 62);
}

static int check_numbers(const struct fst_arena *a)
{
    uint64_t over, begun;
    if (!fst_grace_numbers(a, &over, &begun))
        fst_damaged(a, "grace period %llu is over, and %llu have begun", (unsigned long long)over, (unsigned long long)begun);
    return fst_verdict(a, FST_OK);
}

int fst_grace_wait(struct fst_arena *a, uint64_t cookie, uint64_t timeout, const uint32_t *stop)
{
    struct fst_superblock *sb = a->sb;
    if (fst_load_acquire(&sb->gp_completed) > cookie)
        return check_numbers(a);
    int rc = check_numbers(a);
    if (rc)
        return rc;
    struct wait w = {.a = a, .cookie = cookie, .timeout = timeout, .stop = stop, .began = fst_now()};
    w.seq = fst_add64(&sb->gp_seq, 1) + 1;
    /* PAIR(read-section): a reader that this thread does not see in a section has read nothing yet,
     * and will find gone what was unlinked before. */
    fst_full_fence();
    uint32_t top = fst_thread_top(a);
    for (uint32_t i = 0; i < top && !served(&w); i++) {
        rc = wait_for(&w, i);
        if (rc)
            return rc;
    }
    if (served(&w))
        return check_numbers(a);
    if (fst_is_damaged(a))
        return fst_damage(a); /* maybe not all threads were looked at */
    /* This needs no second barrier: leaving is a release store, and this thread has loaded what it
     * stored (M_PLAINLEAVE in the model). */
    fst_max64(&sb->gp_completed, w.seq);
    fst_add64(&sb->grace_periods, 1);
    return FST_OK;
}
