#include "reclaim/reaper.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "alloc/run.h"
#include "alloc/slab.h"
#include "channel/use.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/liveness.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/message.h"
#include "reclaim/pressure.h"
#include "reclaim/shelves.h"
#include "refs/heirs.h"
#include "refs/reftable.h"
#include "region/file.h"
#include "teardown/cgroup.h"
#include "teardown/queue.h"

#define ENOUGH 1024u /* so many drops are worth a batch */
/* or so many bytes, so that objects go round in the processor's cache */
#define ENOUGH_BYTES (4u << 20)
/* A large object counts only for this part of its bytes, because allocators use it again
 * (reclaim/reuse.h). */
#define REUSED 16u
/* After a first drop the thread waits for more: for so long, and for so much longer for each look
 * that a batch takes, which makes an eighth of one processor's time at most. */
#define GATHER_NS   (3 * FST_MS)
#define GATHER_MOST (200 * FST_MS)
#define LOOK_NS     8u
/* A batch is due after one drop for so many looks that it takes, or after so many bytes for each of
 * them: so what a batch costs is shared by as many drops. */
#define LOOK_DROPS 4u
#define LOOK_BYTES 64u
#define TICK_NS    (400 * FST_MS) /* between two looks for deaths */
/* Between two looks of fst_reaper_greet, for each process slot. To look at one takes 1 us, so this
 * is a twentieth of the time of a process that forks all the time. */
#define GREET_NS 20000u
/* A grace period may take so long before the thread breaks the batch off and tries again. */
#define GRACE_NS   (200 * FST_MS)
#define OUTLAST_NS (10 * FST_MS) /* for the kernel to be done with a thread that has ended */
#define OVERDUE_NS (20 * FST_MS) /* between two attempts to give up messages that have expired */
/* Between two looks for memory that nobody used meanwhile, whoever looks: it goes back to the
 * system after two to three such times, unless the system is short of memory. A page that is used
 * again costs a fraction of one that the system has to find, clear and map anew, and what runs
 * again and again pauses for seconds. (jemalloc's dirty_decay_ms is 10 s, too.) */
#define IDLE_NS (5000 * FST_MS)

enum { KICK_NONE = 0, KICK_GATHER = 1, KICK_NOW = 2 };

struct fst_reaper {
    pthread_mutex_t mutex; /* for starting and stopping the thread */
    pthread_t thread;
    pid_t tid; /* the kernel's name of it */
    bool running;
    bool forbidden; /* for good: the attachment is going, or the process ends */
    /* 1: messages may expire, so after a fork the thread runs again, even if only for that */
    uint32_t expects;
    uint32_t kick; /* futex: enum above */
    uint32_t stop;
    /* bytes of objects that were dropped since this process's last batch, as far as they count */
    uint64_t bytes;
    uint64_t looked; /* ns since boot, when this process last looked for deaths; 0: never */
};

/* Is any other process attached? */
static bool have_company(struct fst_arena *a)
{
    return fst_file_others(a, FST_LOCK_ALIVE);
}

/* How many ns until a message or a key expires. */
static uint64_t expires_in(const struct fst_arena *a)
{
    uint64_t message = fst_message_expires_in(a), key = fst_shelves_expires_in(a, fst_now());
    return message < key ? message : key;
}

/* How many ns to sleep if nobody kicks: until the next look for deaths, or until something
 * expires. */
static uint64_t tick(const struct fst_arena *a, bool company)
{
    uint64_t ns = company || fst_cgroup_any(a) ? TICK_NS : 10 * TICK_NS, expiry = expires_in(a);
    /* Wake a moment after it has expired. What is overdue waits for another process's batch. */
    expiry = !expiry ? OVERDUE_NS : expiry < ns ? expiry + FST_MS : ns;
    return expiry < ns ? expiry : ns;
}

/* What the thread remembers between two ticks. */
struct idle {
    uint64_t looked; /* ns since boot */
    uint64_t used_pages;
};

/* Is it this process's turn to look for memory that nobody uses? Each look marks what it finds, and
 * gives back what was marked, so the time between two is one for all processes. */
static bool idle_turn(struct fst_arena *a, uint64_t now)
{
    uint64_t looked = fst_load_relaxed(&a->sb->idle_looked);
    if (looked <= now && now - looked < IDLE_NS)
        return false;
    return fst_cas64(&a->sb->idle_looked, &looked, now);
}

/* Nothing was allocated or given back for a while: give empty slabs back to the page allocator, and
 * extents that were already free at the last such look to the system. */
static void idle(struct fst_thread *t, struct idle *i)
{
    struct fst_arena *a = t->arena;
    uint64_t now = fst_now(), used = fst_load_relaxed(&a->sb->used_pages);
    if (now - i->looked < IDLE_NS)
        return;
    if (used != i->used_pages) {
        *i = (struct idle){.looked = now, .used_pages = used};
        return;
    }
    if (!idle_turn(a, now))
        return;
    i->looked = now;
    struct fst_batch_options options = {.give_back = true, .timeout = GRACE_NS, .stop = &a->reaper->stop};
    if (fst_batch_run(t, &options) == FST_OK)
        fst_run_punch(a, true, t->name);
    i->used_pages = fst_load_relaxed(&a->sb->used_pages);
}

/* The system is short of memory: give it everything that nobody uses, at once. */
static void relieve(struct fst_thread *t)
{
    struct fst_arena *a = t->arena;
    struct fst_batch_options options = {
        .deaths = true, .give_back = true, .others = true, .timeout = GRACE_NS, .stop = &a->reaper->stop};
    fst_batch_run(t, &options); /* when another batch runs, its memory goes back at the next tick */
    fst_run_punch(a, false, t->name);
}

/* Is there anything that this process has dropped, or that anybody has ended, that no batch has
 * spliced yet, and that does not wait for a later look? */
static bool pending(struct fst_arena *a)
{
    return fst_load_seq_cst(&a->self->dropped) != 0 || fst_load_seq_cst(&a->sb->ended_head) != FST_NONE ||
           fst_load_seq_cst(&a->sb->ended_caches) != FST_NONE || fst_load_seq_cst(&a->sb->channel_look) != 0 ||
           fst_load_seq_cst(&a->sb->store_look) != 0 || fst_load_seq_cst(&a->sb->ended_slabs) == FST_ENDED_SLABS_NOW ||
           fst_load_relaxed(&a->sb->loose) != 0;
}

/* How many groups wait for a batch. */
static uint32_t waiting(struct fst_arena *a)
{
    return fst_load_relaxed(&a->sb->ended_groups) - fst_load_relaxed(&a->sb->ended_spliced);
}

/* How many looks a batch takes: as many as this process has entries, or as it took when it last ran
 * one. */
static uint64_t looks(const struct fst_arena *a)
{
    uint64_t own = fst_load_relaxed(&a->refs->live), all = fst_load_relaxed(&a->refs->all);
    return own > all ? own : all;
}

/* Wait a little for more to do. True: a batch of another process began after the kick and is over,
 * so nothing is left to do. */
static bool gather(struct fst_arena *a)
{
    struct fst_reaper *r = a->reaper;
    uint32_t begun = fst_load_acquire(&a->sb->batches_begun); /* PAIR(batch-number) */
    /* Whoever ended a group may want its memory, so do not wait for longer then. */
    uint64_t wait = GATHER_NS + (waiting(a) ? 0 : looks(a) * LOOK_NS);
    fst_futex_wait(&r->kick, KICK_GATHER, wait < GATHER_MOST ? wait : GATHER_MOST);
    if ((int32_t)(fst_load_acquire(&a->sb->batches) - begun) <= 0)
        return false;
    /* Whoever drops counts first and kicks then. So either its kick comes after this swap, or its
     * count is seen below, and this thread gathers again. */
    uint32_t kick = KICK_GATHER, none = KICK_NONE;
    if (!fst_own_cas32(&r->kick, &kick, KICK_NONE))
        return false;
    if (pending(a))
        fst_own_cas32(&r->kick, &none, KICK_GATHER);
    return true;
}

/* Let go of rings that have ended and that this process had open. */
static void let_go(struct fst_arena *a)
{
    if (fst_uses_let_go(a))
        fst_reaper_dropped(a, 0);
}

static void *loop(void *argument)
{
    struct fst_arena *a = argument;
    struct fst_reaper *r = a->reaper;
    struct fst_thread *t;
    struct idle i = {.looked = fst_now()};
    struct fst_pressure pressure;
    r->tid = (pid_t)syscall(SYS_gettid);
    /* When all thread slots are in use, one may become free. */
    while (!(t = fst_thread_get(a)) && !fst_load_acquire(&r->stop))
        fst_futex_wait(&r->stop, 0, TICK_NS);
    if (t)
        fst_own_store_relaxed(&t->batches, true);
    /* Whoever stops this thread must not have to wait for another process. */
    fst_wait_for((struct fst_waits){.own = true, .patience = GRACE_NS, .stop = &r->stop});
    fst_pressure_open(&pressure);
    while (!fst_load_acquire(&r->stop)) {
        bool company = have_company(a);
        if (fst_load_acquire(&r->kick) == KICK_NONE)
            fst_futex_wait(&r->kick, KICK_NONE, tick(a, company));
        bool served = fst_load_acquire(&r->kick) == KICK_GATHER && gather(a);
        if (fst_load_acquire(&r->stop))
            break;
        if (fst_is_damaged(a)) { /* nothing may be released any more, so only wait to be stopped */
            fst_futex_wait(&r->stop, 0, TICK_NS);
            continue;
        }
        if (served)
            continue;
        fst_heirs_ask(a);
        let_go(a);
        uint32_t kick = fst_own_swap32(&r->kick, KICK_NONE);
        fst_own_store_relaxed(&a->refs->fresh, 0);
        fst_own_store_relaxed(&r->bytes, 0);
        struct fst_batch_options options = {.deaths = true, .timeout = GRACE_NS, .stop = &r->stop};
        fst_own_store_relaxed(&r->looked, fst_now());
        if (kick == KICK_NONE && fst_pressure_high(&pressure)) {
            relieve(t);
            continue;
        }
        /* A process that came and was killed between two looks was never seen as company, and waits
         * to be buried. */
        if (kick == KICK_NONE && !company && !fst_cgroup_any(a) && !pending(a) && !fst_load_relaxed(&a->sb->batch_dirty) &&
            expires_in(a) && !fst_process_any_dead(a)) {
            idle(t, &i);
            continue;
        }
        int rc = fst_batch_run(t, &options);
        let_go(a); /* of rings that the batch has ended */
        /* If another batch was running, it may not have what this thread was kicked for; and there
         * may be more than a batch splices. So try again soon, or at once if there is enough for a
         * grace period. */
        uint32_t none = KICK_NONE, again = waiting(a) >= FST_ENDED_GROUPS / 4 && rc == FST_OK ? KICK_NOW : KICK_GATHER;
        if (pending(a) || (kick != KICK_NONE && rc != FST_OK))
            fst_own_cas32(&r->kick, &none, again);
        if (kick == KICK_NONE)
            idle(t, &i);
    }
    return NULL;
}

static void start(struct fst_arena *a)
{
    struct fst_reaper *r = a->reaper;
    pthread_mutex_lock(&r->mutex);
    if (!r->running && !r->forbidden && a->usable) {
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's threads */
        fst_own_store_seq_cst(&r->stop, 0);
        /* This is set before the thread exists: it must never find itself not running, and wait for
         * this mutex, under which it is joined. */
        fst_own_store_release(&r->running, true);
        bool started = pthread_create(&r->thread, NULL, loop, a) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (!started)
            fst_own_store_release(&r->running, false);
        else
            fst_store_relaxed(&a->self->flags, a->self->flags | FST_PROCESS_REAPER);
    }
    pthread_mutex_unlock(&r->mutex);
}

static void kick(struct fst_arena *a, uint32_t how)
{
    struct fst_reaper *r = a->reaper;
    if (!fst_load_acquire(&r->running))
        start(a);
    uint32_t seen = fst_load_relaxed(&r->kick);
    while (seen < how) {
        if (fst_own_cas32(&r->kick, &seen, how)) {
            fst_futex_wake(&r->kick, 1);
            return;
        }
    }
}

void fst_reaper_dropped(struct fst_arena *a, uint64_t bytes)
{
    struct fst_reaper *r = a->reaper;
    fst_add32(&a->self->dropped, 1);
    /* Neither this counter nor `bytes` is exact: threads may overwrite each other's sum, and a
     * batch under way may have spliced some of what they count. */
    if (bytes >= FST_REAPER_LARGE)
        bytes /= REUSED;
    uint64_t sum = fst_load_relaxed(&r->bytes) + bytes;
    fst_own_store_relaxed(&r->bytes, sum);
    uint64_t n = looks(a), enough = n / LOOK_DROPS > ENOUGH ? n / LOOK_DROPS : ENOUGH;
    bool now = fst_load_relaxed(&a->refs->fresh) >= enough || sum >= ENOUGH_BYTES + n * LOOK_BYTES;
    kick(a, now || fst_load_relaxed(&a->sb->waiters) ? KICK_NOW : KICK_GATHER);
}

void fst_reaper_ended(struct fst_arena *a)
{
    kick(a, waiting(a) >= FST_ENDED_GROUPS ? KICK_NOW : KICK_GATHER);
}

void fst_reaper_expect(struct fst_arena *a)
{
    fst_store_relaxed(&a->reaper->expects, 1);
    kick(a, KICK_GATHER); /* the thread may be about to sleep for as long as it found before */
}

void fst_reaper_watch(struct fst_arena *a)
{
    if (!fst_load_acquire(&a->reaper->running))
        start(a);
}

void fst_reaper_greet(struct fst_arena *a)
{
    struct fst_reaper *r = a->reaper;
    uint64_t now = fst_now(), looked = fst_load_relaxed(&r->looked);
    if (!a->usable || (looked && now - looked < fst_process_top(a) * GREET_NS))
        return;
    fst_own_store_relaxed(&r->looked, now);
    struct fst_thread *t = fst_process_any_dead(a) ? fst_thread_get(a) : NULL;
    bool more = false;
    struct fst_batch_options options = {.deaths = true, .timeout = FST_MS, .more = &more};
    if (t && !t->nest)
        fst_batch_run(t, &options); /* when another batch runs, that one will do */
    if (more)
        fst_reaper_ended(a);
}

int fst_reaper_create(struct fst_arena *a)
{
    a->reaper = calloc(1, sizeof *a->reaper);
    if (!a->reaper)
        return fst_fail(FST_FULL, "out of memory");
    pthread_mutex_init(&a->reaper->mutex, NULL);
    return FST_OK;
}

/* A thread that was joined still counts as one of the process until the kernel is done with it, and
 * Python warns of a fork beside threads. */
static void outlast(pid_t tid)
{
    pid_t pid = getpid();
    for (uint64_t until = fst_now() + OUTLAST_NS; syscall(SYS_tgkill, pid, tid, 0) == 0 && fst_now() < until;)
        sched_yield();
}

void fst_reaper_stop(struct fst_arena *a, bool for_good)
{
    struct fst_reaper *r = a->reaper;
    pthread_mutex_lock(&r->mutex);
    r->forbidden |= for_good;
    if (r->running) {
        fst_own_store_seq_cst(&r->stop, 1);
        fst_own_store_seq_cst(&r->kick, KICK_NOW);
        fst_futex_wake(&r->kick, 1);
        fst_futex_wake(&r->stop, 1);
        pthread_join(r->thread, NULL);
        if (!for_good)
            outlast(r->tid);
        fst_own_store_release(&r->running, false);
        fst_store_relaxed(&a->self->flags, a->self->flags & ~FST_PROCESS_REAPER);
    }
    pthread_mutex_unlock(&r->mutex);
}

void fst_reaper_resume(struct fst_arena *a)
{
    if (a->usable && pending(a))
        kick(a, KICK_GATHER);
    else if (a->usable && fst_load_relaxed(&a->reaper->expects))
        fst_reaper_watch(a);
}

void fst_reaper_destroy(struct fst_arena *a)
{
    free(a->reaper);
    a->reaper = NULL;
}

void fst_reaper_forked(struct fst_arena *a)
{
    struct fst_reaper *r = a->reaper;
    pthread_mutex_init(&r->mutex, NULL);
    r->running = false;
    r->forbidden = false; /* it was the parent that was about to leave */
    r->kick = KICK_NONE;
    r->bytes = 0;
}
