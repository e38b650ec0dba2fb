/* The reaper thread is there when there is something for it: nothing here asks for a batch but a
 * drop. An alarm ends a wait for ever. */
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "support.h"

#define PATIENCE 30

static fst_arena *a;

static void set_up(void)
{
    alarm(PATIENCE);
    a = anonymous(16 * MIB);
}

static void tear_down(void)
{
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    alarm(0);
}

static uint64_t released(void)
{
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    return info.released_objects;
}

/* Drop a shared object, which only a batch can release. */
static void drop_shared(void)
{
    struct fst_ref ref = alloc_bytes(a, 100), again;
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    CHECK_EQ(FST_OK, fst_take(a, &m, &again));
    fst_drop(a, &again);
    fst_drop(a, &ref);
}

static void wait_for_release(uint64_t before)
{
    while (released() == before)
        usleep(500);
}

/* No thread slot is free when it starts: it takes the first one that is. */
static void without_a_thread_slot(void)
{
    set_up();
    CHECK_EQ(FST_OK, fst_read_lock(a)); /* ours is there */
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    uint32_t slots[FST_MAX_THREADS], n = 0;
    while (fst_thread_slot_claim(a, a->slot, &slots[n]) == FST_OK)
        n++;
    uint64_t before = released();
    drop_shared();
    usleep(50000); /* it looks for a slot, and finds none */
    while (n-- > 0)
        fst_thread_slot_free(a, slots[n]);
    wait_for_release(before);
    tear_down();
}

/* Stopping it works while it has none. */
static void stopped_without_a_thread_slot(void)
{
    set_up();
    CHECK_EQ(FST_OK, fst_read_lock(a));
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    uint32_t slots[FST_MAX_THREADS], n = 0;
    while (fst_thread_slot_claim(a, a->slot, &slots[n]) == FST_OK)
        n++;
    drop_shared();
    fst_reaper_stop(a, false);
    while (n-- > 0)
        fst_thread_slot_free(a, slots[n]);
    tear_down();
}

/* The parent leaves; its child, forked meanwhile, goes on. */
static void of_a_child_whose_parent_leaves(void)
{
    set_up();
    fst_reaper_stop(a, true);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        alarm(PATIENCE);
        uint64_t before = released();
        drop_shared();
        wait_for_release(before);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    tear_down();
}

/* A fork stops it in the middle of a batch, which a reader holds up: afterwards it goes on by
 * itself. */
static void after_a_fork(void)
{
    set_up();
    struct peer p = peer_start(read_until_told, a);
    PEER_WAIT(&p, 'r');
    uint64_t before = released();
    drop_shared();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0)
        _exit(0);
    CHECK_CHILD(pid);
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'l');
    wait_for_release(before);
    peer_end(&p);
    tear_down();
}

static void attach_and_wait(struct peer *parent, void *context)
{
    CHECK_EQ('a', peer_hear(parent));
    fst_arena *other = open_named(context);
    alloc_bytes(other, 100);
    peer_say(parent, 'a');
    peer_hear(parent);
}

/* Whose whole life lay between two looks of a thread that was alone is buried all the same. */
static void killed_between_two_looks(void)
{
    alarm(PATIENCE);
    char path[128];
    snprintf(path, sizeof path, "%s", new_path("between"));
    /* before, so that no fork wakes the thread */
    struct peer p = peer_start(attach_and_wait, path);
    a = open_named(path);
    fst_arena_watch(a);
    uint64_t before = released();
    usleep(200000); /* it has looked, and found nobody: it sleeps for seconds */
    peer_say(&p, 'a');
    PEER_WAIT(&p, 'a');
    peer_kill(&p);
    wait_for_release(before);
    tear_down();
}

TEST_MAIN(CASE(killed_between_two_looks), CASE(without_a_thread_slot), CASE(stopped_without_a_thread_slot),
          CASE(of_a_child_whose_parent_leaves), CASE(after_a_fork))
