/* Locks whose owners are killed: exclusion, takeover exactly once, and only from the dead. */
#include <pthread.h>
#include <sched.h>

#include "platform/atomics.h"
#include "region/lock.h"
#include "support.h"

#define ROUNDS 20000

static struct shared {
    uint32_t lock;
    uint32_t inside;
    uint64_t plain; /* not atomic: only the lock protects it */
    uint32_t taken_over, come, gone;
} * s;
static fst_arena *a;

static void set_up(void)
{
    s = shared_memory(sizeof *s);
    a = anonymous(16 * MIB);
}

static void tear_down(void)
{
    fst_arena_unref(a);
    munmap(s, sizeof *s);
}

static void *count_up(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(!lock_word(a, &s->lock));
        CHECK_EQ(0, __atomic_fetch_add(&s->inside, 1, __ATOMIC_RELAXED));
        s->plain++;
        __atomic_fetch_sub(&s->inside, 1, __ATOMIC_RELAXED);
        fst_unlock(a, &s->lock);
    }
    return unused;
}

static void two_threads(struct peer *parent, void *context)
{
    pthread_t other;
    (void)parent;
    (void)context;
    pthread_create(&other, NULL, count_up, NULL);
    count_up(NULL);
    pthread_join(other, NULL);
}

static void contention(void)
{
    set_up();
    struct peer p[3];
    for (int i = 0; i < 3; i++)
        p[i] = peer_start(two_threads, NULL);
    count_up(NULL);
    for (int i = 0; i < 3; i++)
        peer_end(&p[i]);
    CHECK_EQ(7 * ROUNDS, s->plain);
    CHECK_EQ(0, s->lock & ~FST_LOCK_WAITERS);
    tear_down();
}

static void keep(struct peer *parent)
{
    peer_say(parent, 'h');
    peer_hear(parent); /* for ever, unless it is told to let go */
    fst_unlock(a, &s->lock);
    peer_say(parent, 'u');
    peer_hear(parent);
}

static void hold(struct peer *parent, void *context)
{
    (void)context;
    CHECK(!lock_word(a, &s->lock));
    keep(parent);
}

static void inherit(struct peer *parent, void *context)
{
    (void)context;
    CHECK(lock_word(a, &s->lock));
    keep(parent);
}

static void wait_for_lock(struct peer *parent, void *context)
{
    (void)context;
    peer_say(parent, 'w');
    if (lock_word(a, &s->lock))
        fst_add32(&s->taken_over, 1);
    s->plain++;
    fst_unlock(a, &s->lock);
}

/* Three wait, the owner is killed: one of them rebuilds, the others find things in order. */
static void dead_owner(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL), p[3];
    PEER_WAIT(&owner, 'h');
    for (int i = 0; i < 3; i++) {
        p[i] = peer_start(wait_for_lock, NULL);
        PEER_WAIT(&p[i], 'w');
    }
    usleep(20000); /* so that some sleep; the result is the same if they do not */
    CHECK_EQ(0, s->plain);
    peer_kill(&owner);
    for (int i = 0; i < 3; i++)
        peer_end(&p[i]);
    CHECK_EQ(1, s->taken_over);
    CHECK_EQ(3, s->plain);
    tear_down();
}

/* Who takes over and is killed while rebuilding is a dead owner itself. */
static void dead_rebuilder(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    peer_kill(&owner);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        CHECK(lock_word(a, &s->lock));
        kill(getpid(), atomic_load(&test_failures) ? SIGTERM : SIGKILL);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(lock_word(a, &s->lock));
    fst_unlock(a, &s->lock);
    CHECK(!lock_word(a, &s->lock));
    fst_unlock(a, &s->lock);
    tear_down();
}

/* A stopped owner is alive. */
static void stopped_owner(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    kill(owner.pid, SIGSTOP);
    int status;
    waitpid(owner.pid, &status, WUNTRACED);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(FST_TRY_BUSY, fst_trylock(a, &s->lock));
    struct peer waiter = peer_start(wait_for_lock, NULL);
    PEER_WAIT(&waiter, 'w');
    usleep(30000); /* several times a waiter's patience */
    CHECK_EQ(0, s->plain);
    kill(owner.pid, SIGCONT);
    peer_say(&owner, 'g');
    PEER_WAIT(&owner, 'u');
    peer_end(&waiter);
    CHECK_EQ(0, s->taken_over);
    CHECK_EQ(1, s->plain);
    peer_end(&owner);
    tear_down();
}

/* Somebody who waits says so in the word. Has this thread waited? */
static bool waited(void)
{
    CHECK_EQ(FST_TRY_BUSY, fst_lock_in_time(a, &s->lock));
    return fst_load_relaxed(&s->lock) & FST_LOCK_WAITERS;
}

static void forget_waiters(void)
{
    __atomic_fetch_and(&s->lock, ~FST_LOCK_WAITERS, __ATOMIC_RELAXED);
}

/* Who is told to stop begins no wait: not at the second lock either, nor at the thousandth. A batch
 * gives up one wait, and begins no other one. */
static void waits_that_do_not_begin(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    uint32_t stop = 1;
    struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = FST_FOREVER, .stop = &stop});
    CHECK(!waited());
    stop = 0;
    fst_wait_for((struct fst_waits){.own = true, .patience = 1000000, .stop = &stop, .once = true});
    CHECK(waited());
    forget_waiters();
    CHECK(!waited());
    /* nor anything that waits briefly in between */
    struct fst_waits batch = fst_wait_briefly();
    CHECK(!waited());
    fst_wait_for(batch);
    fst_wait_for((struct fst_waits){.own = true, .patience = 1000000});
    CHECK(waited());
    forget_waiters();
    CHECK(waited());
    fst_wait_for(before);
    peer_say(&owner, 'g');
    PEER_WAIT(&owner, 'u');
    peer_end(&owner);
    tear_down();
}

static void try_lock(void)
{
    set_up();
    CHECK_EQ(FST_TRY_OK, fst_trylock(a, &s->lock));
    /* our own other thread's, as far as the lock knows */
    CHECK_EQ(FST_TRY_BUSY, fst_trylock(a, &s->lock));
    fst_unlock(a, &s->lock);
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    CHECK_EQ(FST_TRY_BUSY, fst_trylock(a, &s->lock));
    peer_kill(&owner);
    CHECK_EQ(FST_TRY_TAKEN_OVER, fst_trylock(a, &s->lock));
    fst_unlock(a, &s->lock);
    CHECK_EQ(FST_TRY_OK, fst_trylock(a, &s->lock));
    fst_unlock(a, &s->lock);
    tear_down();
}

/* The slot of the dead owner is somebody else's by now: its generation tells. */
static void reused_slot(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    uint32_t slot = fst_lock_owner(s->lock);
    peer_kill(&owner);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER)); /* buries it */
    uint32_t other = 0;
    struct peer next = peer_start(inherit, NULL); /* inherits the slot, and waits for the lock */
    PEER_WAIT(&next, 'h');
    CHECK_EQ(slot, fst_lock_owner(s->lock));
    other = s->lock;
    CHECK_EQ(FST_TRY_BUSY, fst_trylock(a, &s->lock));
    CHECK_EQ(other, s->lock);
    peer_kill(&next);
    tear_down();
}

#define TAKEOVERS 30000

static void meet(uint32_t *count, uint32_t round)
{
    fst_add32(count, 1);
    for (int i = 0; __atomic_load_n(count, __ATOMIC_ACQUIRE) < 2 * round; i++) {
        fst_pause();
        if (i % 1000 == 999)
            sched_yield();
    }
}

static void take_at_once(uint32_t dead, bool first)
{
    for (uint32_t round = 1; round <= TAKEOVERS; round++) {
        if (first)
            __atomic_store_n(&s->lock, dead, __ATOMIC_SEQ_CST);
        meet(&s->come, round);
        if (fst_trylock(a, &s->lock) == FST_TRY_TAKEN_OVER)
            fst_add32(&s->taken_over, 1);
        meet(&s->gone, round);
    }
}

static void take_with_parent(struct peer *parent, void *context)
{
    (void)parent;
    take_at_once(*(uint32_t *)context, false);
}

/* Two find the owner dead at the same moment: one of them gets the lock. */
static void takeover_at_once(void)
{
    set_up();
    struct peer owner = peer_start(hold, NULL);
    PEER_WAIT(&owner, 'h');
    uint32_t dead = s->lock;
    struct peer other = peer_start(take_with_parent, &dead);
    peer_kill(&owner);
    take_at_once(dead, true);
    peer_end(&other);
    CHECK_EQ(TAKEOVERS, s->taken_over);
    s->lock = 0;
    tear_down();
}

static void storm_worker(struct peer *parent, void *context)
{
    (void)context;
    for (;;) {
        if (lock_word(a, &s->lock))
            s->inside = 0; /* rebuild */
        if (s->inside != 0)
            peer_say(parent, 'x'); /* two inside, or an unreported dead owner */
        s->inside = 1;
        s->plain++;
        s->inside = 0;
        fst_unlock(a, &s->lock);
    }
}

/* Owners and waiters are killed at random; nobody is ever inside together with another. */
static void kill_storm(void)
{
    set_up();
    uint64_t random = 42;
    struct peer p[3];
    for (int i = 0; i < 3; i++)
        p[i] = peer_start(storm_worker, NULL);
    for (int k = 0; k < 150; k++) {
        usleep((useconds_t)(next_random(&random) % 3000));
        int victim = (int)(next_random(&random) % 3);
        kill(p[victim].pid, SIGKILL);
        waitpid(p[victim].pid, NULL, 0);
        close(p[victim].out);
        CHECK_EQ(0, peer_hear(&p[victim]));
        close(p[victim].in);
        p[victim] = peer_start(storm_worker, NULL);
    }
    for (int i = 0; i < 3; i++) {
        kill(p[i].pid, SIGKILL);
        waitpid(p[i].pid, NULL, 0);
        close(p[i].out);
        CHECK_EQ(0, peer_hear(&p[i]));
        close(p[i].in);
    }
    CHECK(s->plain > 0);
    lock_word(a, &s->lock);
    fst_unlock(a, &s->lock);
    tear_down();
}

TEST_MAIN(CASE(contention), CASE(dead_owner), CASE(dead_rebuilder), CASE(stopped_owner), CASE(waits_that_do_not_begin),
          CASE(try_lock), CASE(takeover_at_once), CASE(reused_slot), CASE(kill_storm))
