/* What the arena says about those who died: whose death it was, and what was reclaimed. */
#include <sys/prctl.h>

#include "reclaim/reaper.h"
#include "region/entries.h"
#include "support.h"

static char path[128];

static void open_here(struct peer *parent, fst_arena **a)
{
    (void)parent;
    REQUIRE(try_open(path, 0, FST_OPEN_EXISTING, a) == FST_OK);
}

/* Three private objects, two shared ones, one that a message has too, and a group. */
static void hold_things(struct peer *parent, void *context)
{
    (void)context;
    fst_arena *a;
    prctl(PR_SET_NAME, "a victim");
    open_here(parent, &a);
    uint64_t pool = root_child(a, "pool", 1000, 0);
    struct fst_ref ref[6];
    struct fst_message m;
    for (int i = 0; i < 6; i++)
        ref[i] = alloc_one(a, pool);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(FST_OK, fst_share(a, &ref[i], &m));
        struct fst_ref again;
        if (i && fst_take(a, &m, &again) == FST_OK)
            fst_drop(a, &again);
    }
    make_group(a, "its group", fst_group_root(a), MIB, 0);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static fst_arena *fresh(void)
{
    snprintf(path, sizeof path, "%s", new_path("burial"));
    return open_named(path);
}

/* The one burial, that of a victim that is killed when it is ready. */
static struct fst_burial_info burial_of(fst_arena *a, void (*victim)(struct peer *, void *))
{
    struct fst_burial_info b;
    struct peer p = peer_start(victim, NULL);
    PEER_WAIT(&p, 'r');
    peer_kill(&p);
    settle(a);
    REQUIRE(fst_burial_list(a, &b, 1) == 1);
    return b;
}

static void says_what_was_reclaimed(void)
{
    fst_arena *a = fresh();
    CHECK_EQ(0, fst_burial_count(a));
    struct peer p = peer_start(hold_things, NULL);
    PEER_WAIT(&p, 'r');
    struct fst_burial_info b[4];
    CHECK_EQ(0, fst_burial_list(a, b, 4));
    uint64_t before = fst_now();
    peer_kill(&p);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    /* Its parent's slot, which it was forked with, and its own: that of the arena it opened by
     * itself is the same. */
    CHECK_EQ(1, fst_burial_count(a));
    REQUIRE(fst_burial_list(a, b, 4) == 1);
    CHECK_EQ(p.pid, b[0].pid);
    CHECK_EQ(getpid(), b[0].reaper);
    CHECK_EQ(getuid(), b[0].uid);
    CHECK_EQ(1, b[0].number);
    CHECK_EQ(5, b[0].objects);
    CHECK_EQ(5 * 1000, b[0].bytes);
    CHECK_EQ(1, b[0].groups);
    CHECK(b[0].noticed_at >= before && b[0].finished_at >= b[0].noticed_at && b[0].finished_at <= fst_now());
    fst_arena_unref(a);
}

/* Four shared objects, of which it drops three without a batch. */
static void drop_and_hold(struct peer *parent, void *context)
{
    (void)context;
    fst_arena *a;
    open_here(parent, &a);
    fst_reaper_stop(a, true);
    uint64_t pool = root_child(a, "pool", 1000, 0);
    for (int i = 0; i < 4; i++) {
        struct fst_ref ref = alloc_one(a, pool);
        struct fst_message m;
        CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
        if (i) {
            fst_drop(a, &ref);
            CHECK_EQ(FST_OK, fst_take(a, &m, &ref));
            fst_drop(a, &ref);
        } else {
            CHECK_EQ(FST_OK, fst_take(a, &m, &ref));
        }
    }
    peer_say(parent, 'r');
    peer_hear(parent);
}

/* A pool ends its workers right after they have let go of their arguments. */
static void counts_what_was_held_not_what_was_dropped(void)
{
    fst_arena *a = fresh();
    struct fst_burial_info b = burial_of(a, drop_and_hold);
    CHECK_EQ(1, b.objects);
    CHECK_EQ(1000, b.bytes);
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    CHECK_EQ(4 * 1000, info.released_bytes);
    fst_arena_unref(a);
}

/* One object of each way to lie in a slab: with others, alone, and of no common size. */
static const uint64_t sizes[] = {100, 40000, 65536, 65537, 70000, 8 * MIB};
#define SIZES (sizeof sizes / sizeof *sizes)

static void hold_sizes(struct peer *parent, void *context)
{
    (void)context;
    fst_arena *a;
    open_here(parent, &a);
    for (size_t i = 0; i < SIZES; i++)
        alloc_bytes(a, sizes[i]);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static void counts_bytes_of_every_size(void)
{
    fst_arena *a = fresh();
    uint64_t sum = 0;
    for (size_t i = 0; i < SIZES; i++)
        sum += sizes[i];
    struct fst_burial_info b = burial_of(a, hold_sizes);
    CHECK_EQ(SIZES, b.objects);
    CHECK(b.bytes >= sum && b.bytes < sum + sum / 4); /* a size class is at most a quarter larger */
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    CHECK_EQ(b.bytes, info.released_bytes);
    fst_arena_unref(a);
}

static void leave(struct peer *parent, void *context)
{
    (void)context;
    fst_arena *a;
    open_here(parent, &a);
    fst_arena_unref(a);
}

static void says_nothing_of_who_left(void)
{
    fst_arena *a = fresh();
    struct peer p = peer_start(leave, NULL);
    peer_end(&p);
    settle(a);
    struct fst_burial_info b[4];
    size_t n = fst_burial_list(a, b, 4);
    for (size_t i = 0; i < n; i++)
        /* the attachment it was forked with has died with it */
        CHECK(b[i].objects == 0 && b[i].groups == 0);
    fst_arena_unref(a);
}

#define MANY 45

static void keeps_the_last(void)
{
    fst_arena *a = fresh();
    struct peer p[MANY];
    for (int i = 0; i < MANY; i++) {
        p[i] = peer_start(hold_things, NULL);
        PEER_WAIT(&p[i], 'r');
    }
    for (int i = 0; i < MANY; i++)
        peer_kill(&p[i]);
    settle(a);
    struct fst_burial_info b[2 * MANY];
    size_t n = fst_burial_list(a, b, 2 * MANY);
    CHECK_EQ(MANY, fst_burial_count(a));
    CHECK_EQ(32, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(MANY - i, b[i].number);
        CHECK(b[i].pid > 0 && b[i].finished_at);
        CHECK_EQ(5, b[i].objects);
    }
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    CHECK_EQ(MANY, info.deaths);
    fst_arena_unref(a);
}

static void run_batch_for_ever(struct peer *parent, void *context)
{
    fst_arena *a = context;
    peer_hear(parent);
    fst_barrier(a, FST_FOREVER);
}

static void says_who_runs_a_batch(void)
{
    fst_arena *a = fresh();
    struct fst_arena_info info;
    fst_reaper_stop(a, true);
    settle(a);
    fst_arena_get_info(a, &info);
    CHECK_EQ(0, info.batch_pid);
    struct fst_ref ref = alloc_bytes(a, 100);
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    struct peer p = peer_start(run_batch_for_ever, a);
    fst_read_lock(a); /* what the batch waits for */
    fst_drop(a, &ref);
    fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false);
    peer_say(&p, 'g');
    do
        fst_arena_get_info(a, &info);
    while (info.batch_pid != (uint64_t)p.pid || info.batch_ns == 0);
    kill(p.pid, SIGSTOP);
    int status;
    CHECK(waitpid(p.pid, &status, WUNTRACED) == p.pid && WIFSTOPPED(status));
    fst_read_unlock(a);
    fst_arena_get_info(a, &info);
    CHECK_EQ(p.pid, info.batch_pid);
    uint64_t then = info.batch_ns;
    usleep(2000);
    fst_arena_get_info(a, &info);
    CHECK(info.batch_ns > then);
    peer_kill(&p);
    settle(a);
    fst_arena_get_info(a, &info);
    CHECK_EQ(0, info.batch_pid);
    fst_arena_unref(a);
}

#define HELD    100000
#define READERS 3

static void hold_many(struct peer *parent, void *context)
{
    (void)context;
    fst_arena *a;
    open_here(parent, &a);
    uint64_t pool = root_child(a, "small", 8, 0);
    for (int i = 0; i < HELD; i++)
        alloc_one(a, pool);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static void look_for_ever(struct peer *parent, void *context)
{
    uint32_t *looking = context;
    struct fst_process_info info[8];
    struct fst_keeper keepers[8];
    fst_arena *a;
    open_here(parent, &a);
    uint64_t cache = make_cache(a, "small", 8, 0);
    struct fst_ref mine = alloc_one(a, root_child(a, "small", 8, 0));
    uint32_t holders[8];
    peer_say(parent, 'r');
    while (fst_load_relaxed(looking)) {
        CHECK(fst_process_list(a, info, 8) >= 2);
        fst_keeper_list(a, keepers, 8);
        CHECK(fst_holders(a, &mine, holders, 8) == 1);
        CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
    }
    fst_drop(a, &mine);
}

/* A hole that somebody reads is memory again, and SIGBUS where the file system is full: so
 * nobody reads what is given back. */
static void nobody_reads_what_was_given_back(void)
{
    fst_arena *a = fresh();
    uint32_t *looking = shared_memory(sizeof *looking);
    fst_store_relaxed(looking, 1);
    struct peer readers[READERS];
    for (int i = 0; i < READERS; i++) {
        readers[i] = peer_start(look_for_ever, looking);
        PEER_WAIT(&readers[i], 'r');
    }
    for (int i = 0; i < 30; i++) {
        struct peer p = peer_start(hold_many, NULL);
        PEER_WAIT(&p, 'r');
        uint32_t slot = FST_NONE;
        for (uint32_t k = 0; k < fst_process_top(a); k++)
            if (fst_entry_top(a, k) >= HELD)
                slot = k;
        REQUIRE(slot != FST_NONE);
        peer_kill(&p);
        while (fst_state(fst_load_acquire(&fst_process_at(a, slot)->state)) != FST_PROCESS_FREE)
            fst_barrier(a, FST_FOREVER);
        off_t table = (off_t)fst_entries_offset(a, slot);
        off_t end = table + (off_t)(a->max_entries * sizeof(uint64_t));
        usleep(1000); /* who read a bound before goes on reading */
        if (fst_process_at(a, slot)->entries_committed > FST_PAGE)
            continue; /* it was not given back, because somebody was reading */
        off_t data = lseek(a->lock.fd, table + FST_PAGE, SEEK_DATA);
        CHECK(data < 0 || data >= end);
    }
    fst_store_relaxed(looking, 0);
    for (int i = 0; i < READERS; i++)
        peer_end(&readers[i]);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    munmap(looking, sizeof *looking);
}

TEST_MAIN(CASE(nobody_reads_what_was_given_back), CASE(says_what_was_reclaimed), CASE(counts_bytes_of_every_size),
          CASE(counts_what_was_held_not_what_was_dropped), CASE(says_nothing_of_who_left), CASE(keeps_the_last),
          CASE(says_who_runs_a_batch))
