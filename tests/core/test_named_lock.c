/* Locks for programs: exclusion between processes that are killed at any write, who gets it after a
 * death, and what is left of one.
 */
#include <pthread.h>
#include <signal.h>

#include "arena/channel.h"
#include "region/lock.h"
#include "support.h"

static fst_channel_use *open_lock(fst_arena *a, const char *name)
{
    struct fst_channel_spec spec = {.name = name, .capacity = 1, .flags = FST_CHANNEL_LOCK, .group = fst_group_root(a)};
    return open_channel_as(a, &spec);
}

static fst_arena *a;
static fst_channel_use *u;
static bool inherited;

static bool may_acquire(uint64_t timeout)
{
    struct fst_waiter waiter = {0};
    struct fst_awaited lock = {.what = FST_AWAITS_LOCK, .channel = u};
    return fst_await(&waiter, &lock, 1, timeout);
}

static int wait_for(pid_t pid)
{
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    return status;
}

static void owned_and_given_back(void)
{
    struct fst_named_lock_owner owner;
    a = anonymous(16 * MIB);
    u = open_lock(a, "one");
    fst_channel_use *same = open_lock(a, "one"), *other = open_lock(a, "other");
    CHECK_EQ(FST_INVALID, fst_named_lock_release(u));
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    CHECK(!inherited);
    CHECK_EQ(FST_BUSY, fst_named_lock_acquire(u, FST_FOREVER, &inherited));
    CHECK_EQ(FST_BUSY, fst_named_lock_acquire(same, FST_FOREVER, &inherited)); /* by any way in */
    CHECK_EQ(FST_OK, fst_named_lock_acquire(other, 0, &inherited));
    fst_named_lock_look(same, &owner);
    CHECK(owner.owned && owner.own && !owner.dead);
    CHECK_EQ(FST_OK, fst_named_lock_release(same));
    CHECK_EQ(FST_INVALID, fst_named_lock_release(u));
    CHECK_EQ(FST_OK, fst_named_lock_release(other));
    fst_channel_leave(u);
    fst_channel_leave(same);
    fst_channel_leave(other);
    CHECK_CLEAN(a);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0)); /* nobody owns them, nobody has them open */
    fst_arena_unref(a);
}

static void *another_thread(void *rc)
{
    *(int *)rc = fst_named_lock_acquire(u, 20 * 1000000, &inherited);
    return NULL;
}

static void a_thread_waits_for_another(void)
{
    pthread_t thread;
    int rc = -1;
    a = anonymous(16 * MIB);
    u = open_lock(a, "threads");
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    pthread_create(&thread, NULL, another_thread, &rc);
    pthread_join(thread, NULL);
    CHECK_EQ(FST_WAIT, rc);
    CHECK_EQ(FST_OK, fst_named_lock_release(u));
    pthread_create(&thread, NULL, another_thread, &rc);
    pthread_join(thread, NULL);
    CHECK_EQ(FST_OK, rc);
    /* its thread has ended: still the process's */
    CHECK_EQ(FST_WAIT, fst_named_lock_acquire(u, 0, &inherited));
    CHECK_EQ(FST_OK, fst_named_lock_release(u));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

static void *give_back_soon(void *unused)
{
    usleep(2000);
    CHECK_EQ(FST_OK, fst_named_lock_release(u));
    return unused;
}

/* For a thread that waits in the place of others: it owns nothing afterwards. */
static void waited_for_without_acquiring(void)
{
    pthread_t thread;
    a = anonymous(16 * MIB);
    u = open_lock(a, "waited for");
    CHECK(may_acquire(FST_FOREVER)); /* it is free */
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    CHECK(!may_acquire(0));
    CHECK(!may_acquire(1000000));
    pthread_create(&thread, NULL, give_back_soon, NULL);
    while (!may_acquire(FST_FOREVER))
        ;
    pthread_join(thread, NULL);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
        _exit(0); /* with it */
    }
    CHECK_EQ(0, wait_for(pid));
    CHECK(may_acquire(0)); /* its owner is dead */
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    CHECK(inherited);
    CHECK_EQ(FST_OK, fst_channel_destroy(u));
    CHECK(may_acquire(FST_FOREVER)); /* nobody will own it */
    fst_channel_leave(u);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void a_child_owns_nothing_of_its_parent(void)
{
    a = anonymous(16 * MIB);
    u = open_lock(a, "fork");
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(FST_WAIT, fst_named_lock_acquire(u, 1000000, &inherited));
        CHECK_EQ(FST_INVALID, fst_named_lock_release(u));
        CHILD_EXIT();
    }
    CHECK_EQ(0, wait_for(pid));
    CHECK_EQ(FST_OK, fst_named_lock_release(u));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

/* Killed at each write, with the lock and on the way to it. The next one has it at once, and is
 * told that it was owned exactly when the word says so; also when the dead one was the last that
 * had it open. */
static void killed_anywhere(void)
{
    if (!fst_has_fault_points()) {
        test_skipped = "built without fault points";
        return;
    }
    for (uint64_t n = 1, killed = 1; killed; n++) {
        a = anonymous(16 * MIB);
        pid_t pid = fork();
        if (pid == 0) {
            fst_channel_use *mine = open_lock(a, "killed");
            fst_fault_arm(n);
            for (int i = 0; i < 3; i++) {
                CHECK_EQ(FST_OK, fst_named_lock_acquire(mine, 0, &inherited));
                CHECK_EQ(FST_OK, fst_named_lock_release(mine));
            }
            _exit(0);
        }
        killed = wait_for(pid) != 0;
        settle(a);
        settle(a);
        u = open_lock(a, "killed");
        uint32_t word = ((struct fst_channel_use *)u)->v.ring->lock;
        CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
        CHECK_EQ(word != 0, inherited);
        if (n == 1)
            CHECK(inherited); /* dead right behind the swing that made it the owner */
        CHECK_EQ(FST_OK, fst_named_lock_release(u));
        CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
        CHECK(!inherited);
        CHECK_EQ(FST_OK, fst_named_lock_release(u));
        fst_channel_leave(u);
        settle(a);
        settle(a);
        CHECK_EQ(0, fst_channel_list(a, NULL, 0));
        CHECK_CLEAN(a);
        fst_arena_unref(a);
    }
}

static void destroyed_under_who_waits(void)
{
    a = anonymous(16 * MIB);
    u = open_lock(a, "gone");
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(FST_CLOSED, fst_named_lock_acquire(u, FST_FOREVER, &inherited));
        CHILD_EXIT();
    }
    CHECK_EQ(FST_OK, fst_channel_destroy(u));
    CHECK_EQ(0, wait_for(pid));
    CHECK_EQ(FST_CLOSED, fst_named_lock_acquire(u, 0, &inherited));
    fst_channel_leave(u);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    fst_arena_unref(a);
}

/* Wait in vain for a lock that the test owns; the arena may be attached anew, read-only. A
 * program's lock is its own affair: nobody is told that the process that owns it may be stopped.
 * And what remembers the wait must not look at a ring that is gone. */
static void wait_in_vain(const char *readonly)
{
    struct fst_open_options o = {.path = readonly, .create = FST_OPEN_EXISTING, .readonly = true};
    fst_arena *mine = a;
    if (readonly) {
        fst_arena_unref(a);
        REQUIRE(fst_arena_open(&o, &mine) == FST_OK);
    }
    fst_channel_use *lock = open_lock(mine, "busy");
    CHECK_EQ(FST_WAIT, fst_named_lock_acquire(lock, 20 * 1000000, &inherited));
    CHECK(!fst_held_up(mine));
    fst_channel_leave(lock);
    CHECK(!fst_held_up(mine));
    fst_arena_unref(mine);
}

static void a_wait_for_a_program_is_no_wait_for_the_arena(void)
{
    const char *path = new_path("busy");
    a = open_named(path);
    u = open_lock(a, "busy");
    CHECK_EQ(FST_OK, fst_named_lock_acquire(u, 0, &inherited));
    for (int readonly = 0; readonly < 2; readonly++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            wait_in_vain(readonly ? path : NULL);
            CHILD_EXIT();
        }
        CHECK_EQ(0, wait_for(pid));
    }
    CHECK_EQ(FST_OK, fst_named_lock_release(u));
    fst_channel_leave(u);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

#define STORM 8

static struct {
    uint32_t inside;
    uint64_t plain, entered[STORM], inherited;
} * storm;

static void storm_worker(int number)
{
    for (;;) {
        CHECK_EQ(FST_OK, fst_named_lock_acquire(u, FST_FOREVER, &inherited));
        if (inherited) { /* somebody was killed in here */
            storm->inherited++;
            storm->inside = 0;
        }
        if (__atomic_fetch_add(&storm->inside, 1, __ATOMIC_RELAXED) != 0)
            _exit(9);
        storm->plain++;
        storm->entered[number]++;
        __atomic_fetch_sub(&storm->inside, 1, __ATOMIC_RELAXED);
        CHECK_EQ(FST_OK, fst_named_lock_release(u));
    }
}

/* Never two inside, whoever is killed: then somebody inherits it. */
static void a_storm_of_kills(void)
{
    pid_t pids[STORM];
    uint32_t kills = 0;
    uint64_t seed = 7;
    storm = shared_memory(sizeof *storm);
    a = anonymous(16 * MIB);
    u = open_lock(a, "storm");
    for (int i = 0; i < STORM; i++)
        if ((pids[i] = fork()) == 0)
            storm_worker(i);
    for (int round = 0; round < 150; round++) {
        int i = (int)(next_random(&seed) % STORM), status;
        usleep(2000);
        kill(pids[i], SIGKILL);
        REQUIRE(waitpid(pids[i], &status, 0) == pids[i]);
        /* it has not met another one inside */
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        kills++;
        if ((pids[i] = fork()) == 0)
            storm_worker(i);
    }
    for (int i = 0; i < STORM; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    uint64_t sum = 0;
    for (int i = 0; i < STORM; i++)
        sum += storm->entered[i];
    CHECK(storm->plain >= sum && storm->plain <= sum + kills + STORM); /* killed between the two */
    CHECK(sum > 0);
    printf("# %llu times inside, %u kills, %llu inherited\n", (unsigned long long)sum, kills, (unsigned long long)storm->inherited);
    fst_channel_leave(u);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    munmap(storm, sizeof *storm);
}

TEST_MAIN(CASE(owned_and_given_back), CASE(a_thread_waits_for_another), CASE(waited_for_without_acquiring),
          CASE(a_child_owns_nothing_of_its_parent), CASE(killed_anywhere), CASE(destroyed_under_who_waits),
          CASE(a_wait_for_a_program_is_no_wait_for_the_arena), CASE(a_storm_of_kills))
