/* Ends that meet a batch: groups closed and destroyed while one waits for a reader, a batch that
 * was broken off or killed, readers of a cache whose group ends. No reaper thread runs, so that
 * each batch is one of the test's. */
#include <fcntl.h>
#include <pthread.h>

#include "alloc/slab.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "refs/word.h"
#include "support.h"
#include "teardown/queue.h"

#define MS 1000000ull

static fst_arena *a;
static uint64_t cache, root_objects;

static void set_up(void)
{
    a = anonymous(256 * MIB);
    fst_reaper_stop(a, true);
    cache = make_cache(a, "ending", 64, 0);
    root_objects = child_of(a, cache, fst_group_root(a));
}

static void tear_down(void)
{
    alarm(0);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- a reader that holds up a batch ---- */

static pthread_t reader, batch;
static atomic_int reading, leave;

static void *read_on(void *unused)
{
    REQUIRE(fst_read_lock(a) == FST_OK);
    atomic_store(&reading, 1);
    while (!atomic_load(&leave))
        usleep(500);
    fst_read_unlock(a);
    return unused;
}

static void begin_reading(void)
{
    atomic_store(&reading, 0);
    atomic_store(&leave, 0);
    REQUIRE(pthread_create(&reader, NULL, read_on, NULL) == 0);
    while (!atomic_load(&reading))
        usleep(100);
}

static void end_reading(void)
{
    atomic_store(&leave, 1);
    pthread_join(reader, NULL);
}

static void *run_batch(void *unused)
{
    CHECK_EQ(FST_OK, fst_reclaim(a, UINT64_MAX, 10000 * MS));
    return unused;
}

/* Something for a batch to wait for. */
static void drop_a_shared_object(void)
{
    struct fst_ref ref = alloc_one(a, root_objects), again;
    struct fst_handle handle;
    fst_handle_of(a, &ref, &handle);
    REQUIRE(fst_resolve(a, &handle, &again) == FST_OK);
    fst_drop(a, &ref);
    fst_drop(a, &again);
}

/* A batch that waits for the reader; `walk`: it looks at all groups, as after a death. */
static void begin_batch(bool walk)
{
    drop_a_shared_object();
    if (walk)
        __atomic_store_n(&a->sb->ended_walk, 1, __ATOMIC_SEQ_CST);
    begin_reading();
    uint64_t grace = __atomic_load_n(&a->sb->gp_seq, __ATOMIC_SEQ_CST);
    REQUIRE(pthread_create(&batch, NULL, run_batch, NULL) == 0);
    while (__atomic_load_n(&a->sb->gp_seq, __ATOMIC_SEQ_CST) == grace)
        usleep(100);
}

static void end_batch(void)
{
    end_reading();
    pthread_join(batch, NULL);
}

static bool gone(uint64_t group)
{
    struct fst_group_info info;
    return fst_group_get_info(a, group, &info) == FST_CLOSED;
}

/* ---- cases ---- */

static void closed_during_a_walk(void)
{
    set_up();
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    alarm(30); /* a queue that leads back to itself is walked for ever */
    begin_batch(true);
    CHECK_EQ(FST_OK, fst_group_close(a, group));
    end_batch();
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK(gone(group));
    tear_down();
}

static void destroyed_after_a_batch_took_it_as_closed(void)
{
    set_up();
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, group));
    struct fst_message message;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_group_close(a, group));
    begin_batch(false);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    end_batch();
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK_EQ(0, fst_inflight_list(a, NULL, 0));
    CHECK(gone(group));
    tear_down();
}

static void taken_after_a_batch_was_broken_off(void)
{
    set_up();
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, group)), taken;
    struct fst_message message;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
    fst_drop(a, &ref);
    begin_reading();
    CHECK_EQ(FST_TIMEOUT, fst_reclaim(a, UINT64_MAX, 20 * MS)); /* has condemned the object */
    REQUIRE(fst_take(a, &message, &taken) == FST_OK);
    end_reading();
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    begin_batch(true);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    end_batch();
    uint64_t word = *fst_word_of(a, taken.oid);
    CHECK(word & FST_WORD_ALLOCATED);
    CHECK_EQ(fst_handle_generation(&message.handle), fst_word_gen(word));
    fst_drop(a, &taken);
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK(gone(group));
    tear_down();
}

static void typesafe_memory_of_a_closed_group(void)
{
    set_up();
    uint64_t typed = make_cache(a, "typed", 64, FST_CACHE_TYPESAFE_BY_RCU);
    uint64_t others = root_child(a, "others", 4096, 0), group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, typed, group)), more[32];
    memset(ref.data, 1, 64);
    begin_reading();
    CHECK_EQ(FST_OK, fst_group_close(a, group));
    fst_drop(a, &ref);
    for (int i = 0; i < 32; i++) {
        more[i] = alloc_one(a, others);
        memset(more[i].data, 2, 4096);
    }
    CHECK_EQ(1, *(const char *)ref.data); /* as the reader, who began before, would see it */
    end_reading();
    for (int i = 0; i < 32; i++)
        fst_drop(a, &more[i]);
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK(gone(group));
    tear_down();
}

/* Closed slabs wait for a reader when their cache has ended already: their child's descriptor
 * waits with them, however the batch goes through its queues, and nothing of it is charged to
 * whoever has a descriptor next. */
static void child_outlives_its_slabs(void)
{
    enum { N = 20 };
    struct fst_ref refs[N];
    struct fst_cache_info info;
    set_up();
    uint64_t typed = make_cache(a, "typed", 4096, FST_CACHE_TYPESAFE_BY_RCU), root = fst_group_root(a);
    uint64_t child = child_of(a, typed, root), used = used_bytes(a);
    for (int i = 0; i < N; i++)
        refs[i] = alloc_one(a, child);
    for (int i = 0; i < N; i++)
        fst_drop(a, &refs[i]);
    CHECK(used_bytes(a) > used);
    begin_reading();
    CHECK_EQ(FST_OK, fst_cache_destroy(a, typed, NULL));
    uint64_t grace = __atomic_load_n(&a->sb->gp_seq, __ATOMIC_SEQ_CST);
    REQUIRE(pthread_create(&batch, NULL, run_batch, NULL) == 0);
    while (__atomic_load_n(&a->sb->gp_seq, __ATOMIC_SEQ_CST) == grace)
        usleep(100);
    /* No object was condemned: what the batch waits for is the slabs. */
    uint64_t next = make_cache(a, "next", 4096, 0), its = child_of(a, next, root);
    CHECK((uint32_t)its != (uint32_t)child);
    for (int i = 0; i < N; i++)
        refs[i] = alloc_one(a, its);
    CHECK_EQ(FST_OK, fst_cache_get_info(a, next, &info));
    uint64_t bytes = info.bytes;
    CHECK_CLEAN(a);
    end_batch();
    CHECK_EQ(FST_CLOSED, fst_cache_get_info(a, typed, &info));
    CHECK_EQ(FST_OK, fst_cache_get_info(a, next, &info));
    CHECK_EQ(bytes, info.bytes);
    CHECK_EQ(used + bytes, used_bytes(a));
    for (int i = 0; i < N; i++)
        fst_drop(a, &refs[i]);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, next, NULL));
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK_EQ(used, used_bytes(a));
    tear_down();
}

static void typesafe_groups_share_a_grace_period(void)
{
    enum { GROUPS = 200 };
    static uint64_t groups[GROUPS];
    set_up();
    uint64_t typed = make_cache(a, "typed", 64, FST_CACHE_TYPESAFE_BY_RCU);
    for (int i = 0; i < GROUPS; i++) {
        groups[i] = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        struct fst_ref ref = alloc_one(a, child_of(a, typed, groups[i]));
        fst_drop(a, &ref);
    }
    uint64_t before = a->sb->grace_periods;
    for (int i = 0; i < GROUPS; i++) {
        CHECK_EQ(FST_OK, fst_group_destroy(a, groups[i]));
        fst_group_unref(a, groups[i]);
    }
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK(gone(groups[0]) && gone(groups[GROUPS - 1]));
    CHECK(a->sb->grace_periods - before < 10);
    tear_down();
}

static void dropping_in_a_section(void)
{
    enum { OBJECTS = 500 };
    static struct fst_ref refs[OBJECTS];
    uint64_t used = 0;
    set_up();
    CHECK_EQ(FST_OK, fst_read_lock(a));
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < OBJECTS; i++)
            refs[i] = alloc_one(a, root_objects);
        for (int i = 0; i < OBJECTS; i++)
            fst_drop(a, &refs[i]);
        if (!round)
            used = a->sb->used_pages;
    }
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    CHECK_EQ(used, a->sb->used_pages);
    tear_down();
}

/* A batch releases a group's word and is killed before it closes the group: nobody who opens the
 * name waits for it. */
static void opened_while_a_dead_batch_closes(void)
{
    if (!fst_has_fault_points()) {
        SKIP("needs -Dfault_points=true");
        return;
    }
    set_up();
    bool passed = false;
    for (uint64_t point = 1; point < 400 && !passed; point++) {
        uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
        fst_group_unref(a, group);
        pid_t pid = fork();
        if (pid == 0) {
            fst_fault_arm(point);
            fst_barrier(a, 5000 * MS);
            fst_fault_arm(0);
            _exit(0);
        }
        int status = 0;
        REQUIRE(waitpid(pid, &status, 0) == pid);
        passed = WIFEXITED(status);
        alarm(20);
        group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
        alarm(0);
        fst_group_unref(a, group);
        CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    }
    CHECK(passed);
    tear_down();
}

/* Killed while it brings a zone of pages into use: what is found there is not taken before the
 * zone is whole. */
static void zone_half_in_use(void)
{
    if (!fst_has_fault_points()) {
        SKIP("needs -Dfault_points=true");
        return;
    }
    static struct fst_ref refs[40];
    for (uint64_t point = 20; point < 300; point += 40) {
        set_up();
        uint64_t large = root_child(a, "large", MIB, 0);
        for (int i = 0; i < 16; i++)
            refs[i] = alloc_one(a, large); /* the first zone is full */
        pid_t pid = fork();
        if (pid == 0) {
            struct fst_ref ref;
            fst_fault_arm(point);
            fst_alloc(a, large, &ref);
            _exit(0);
        }
        REQUIRE(waitpid(pid, NULL, 0) == pid);
        CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
        for (int i = 16; i < 40; i++)
            refs[i] = alloc_one(a, large);
        CHECK_CLEAN(a);
        for (int i = 0; i < 40; i++)
            fst_drop(a, &refs[i]);
        tear_down();
    }
}

/* A batch takes so many groups, the longest waiting first, and what these free appears before
 * the rest is looked at; barrier() goes on until all are through. */
static void bounded(void)
{
    enum { EACH = FST_ENDED_GROUPS, N = 2 * EACH + 1000 };
    static uint64_t groups[N];
    struct fst_arena_info info;
    struct fst_batch_info batches[4];
    struct fst_child_counts children;
    set_up();
    fst_lock_sample(1);
    for (int i = 0; i < N; i++) {
        groups[i] = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        struct fst_ref ref = alloc_one(a, child_of(a, cache, groups[i]));
        fst_drop(a, &ref);
    }
    uint64_t full = used_bytes(a);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(FST_OK, fst_group_destroy(a, groups[i]));
        fst_group_unref(a, groups[i]);
    }
    fst_child_count(a, &children);
    CHECK_EQ(1, children.live);
    CHECK_EQ(N, children.queued);
    fst_arena_get_info(a, &info);
    CHECK_EQ(N, info.groups_waiting);
    CHECK(!gone(groups[0]));
    uint64_t used = full;
    for (int i = 0; i < 3; i++) {
        struct fst_batch_options plain = {.timeout = FST_FOREVER};
        CHECK_EQ(FST_OK, fst_batch_run(fst_thread_get(a), &plain));
        CHECK(used_bytes(a) < used);
        used = used_bytes(a);
        CHECK(gone(groups[i * EACH]));
        CHECK(i == 2 || !gone(groups[N - 1]));
    }
    CHECK_EQ(3, fst_batch_list(a, batches, 4));
    CHECK_EQ(N - 2 * EACH, batches[0].groups);
    CHECK_EQ(N - 2 * EACH, batches[0].children);
    CHECK_EQ(EACH, batches[1].groups);
    CHECK(batches[0].number == batches[1].number + 1 && batches[0].duration > 0);
    fst_arena_get_info(a, &info);
    CHECK_EQ(0, info.groups_waiting);
    CHECK(info.hold_cpu_ns > 0 && info.hold_wall_ns > 0);
    CHECK(info.hold_wall_lock[0] && info.hold_cpu_lock[0]);
    CHECK_EQ(0, used);
    CHECK_EQ(1, state_of(a).groups);
    fst_lock_sample(256);
    tear_down();
}

/* One group with more children than a batch writes down, and a cache with as many. */
static void many_children(void)
{
    enum { N = FST_ENDED_CHILDREN + 800 };
    set_up();
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0),
             other = make_group(a, "o", fst_group_root(a), FST_NO_LIMIT, 0);
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "c%d", i);
        struct fst_cache_spec spec = {.name = name, .size = 8, .flags = FST_CACHE_NO_MERGE};
        uint64_t one;
        REQUIRE(fst_cache_open(a, &spec, &one) == FST_OK);
        child_of(a, one, group);
        uint64_t each = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        child_of(a, cache, each);
    }
    struct fst_ref ref = alloc_one(a, child_of(a, cache, group));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_group_destroy(a, other));
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    fst_group_unref(a, other);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK(gone(group) && gone(other));
    struct fst_child_counts children;
    fst_child_count(a, &children);
    CHECK_EQ(N + 1, children.live);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    fst_child_count(a, &children);
    CHECK_EQ(0, children.live + children.deactivated + children.queued + children.releasing);
    CHECK_EQ(N, state_of(a).caches);
    tear_down();
}

/* Groups below one that is destroyed end with it, however many and however deep. */
static void trees(void)
{
    enum { WIDE = 700, DEEP = 300 };
    static uint64_t all[WIDE + DEEP + 1];
    set_up();
    uint64_t top = all[0] = make_group(a, "top", fst_group_root(a), FST_NO_LIMIT, 0), parent = top;
    for (int i = 0; i < DEEP; i++)
        parent = all[1 + i] = make_group(a, NULL, parent, FST_NO_LIMIT, FST_GROUP_LASTING);
    for (int i = 0; i < WIDE; i++)
        all[1 + DEEP + i] = make_group(a, NULL, i % 2 ? top : all[i % DEEP], FST_NO_LIMIT, 0);
    uint64_t child = child_of(a, cache, parent);
    struct fst_ref ref = alloc_one(a, child);
    CHECK_EQ(FST_OK, fst_group_destroy(a, top));
    struct fst_ref other;
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &other));
    for (int i = 0; i < WIDE + DEEP + 1; i++) {
        struct fst_group_info info;
        CHECK(fst_group_get_info(a, all[i], &info) == FST_CLOSED || info.state == FST_GROUP_DESTROYED);
        fst_group_unref(a, all[i]);
    }
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(DEEP + 2, state_of(a).groups); /* the object's group, and those above it */
    struct fst_keeper keeper[2];
    struct fst_use use[2];
    CHECK_EQ(1, fst_use_list(a, use, 2));
    CHECK(use[0].slot < FST_MAX_PROCESSES && use[0].cache == cache && use[0].group == parent);
    CHECK_EQ(1, use[0].objects);
    CHECK_EQ(64, use[0].bytes);
    CHECK_EQ(1, fst_use_list(a, use, 1)); /* no room but for the rest */
    CHECK(use[0].slot == UINT32_MAX && use[0].objects == 1 && use[0].bytes == 64);
    CHECK_EQ(1, fst_keeper_list(a, keeper, 2));
    CHECK_EQ(parent, keeper[0].group);
    CHECK_EQ(getpid(), keeper[0].pid);
    CHECK_EQ(1, keeper[0].references);
    CHECK_EQ(64, keeper[0].bytes);
    CHECK(keeper[0].ended_ns > 0);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, state_of(a).groups);
    CHECK_EQ(0, fst_keeper_list(a, keeper, 2));
    tear_down();
}

/* ---- caches that end while batches run ---- */

#define CACHES 20000

static void run_batches(struct peer *parent, void *context)
{
    (void)context;
    peer_say(parent, 'r');
    fcntl(parent->in, F_SETFL, O_NONBLOCK);
    char c;
    while (read(parent->in, &c, 1) < 0) {
        /* Something on the queues, so that the batch waits for their lock. */
        uint64_t group = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        CHECK_EQ(FST_OK, fst_group_destroy(a, group));
        fst_group_unref(a, group);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    }
}

/* A batch may take the queue while the destroyer has not come to the cache's children yet: they
 * must not be forgotten. */
static void caches_end_beside_batches(void)
{
    set_up();
    alarm(60);
    size_t before = fst_cache_list(a, NULL, 0);
    struct peer p = peer_start(run_batches, NULL);
    PEER_WAIT(&p, 'r');
    for (int i = 0; i < CACHES; i++) {
        uint64_t mine = make_cache(a, "short", 100, FST_CACHE_NO_MERGE);
        struct fst_ref ref = alloc_one(a, child_of(a, mine, fst_group_root(a)));
        fst_drop(a, &ref);
        CHECK_EQ(FST_OK, fst_cache_destroy(a, mine, NULL));
        if (i % 500 == 499) /* or a starved peer lets the arena fill */
            CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    }
    peer_say(&p, 'e');
    peer_end(&p);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(before, fst_cache_list(a, NULL, 0));
    tear_down();
}

TEST_MAIN(CASE(caches_end_beside_batches), CASE(bounded), CASE(many_children), CASE(trees), CASE(closed_during_a_walk),
          CASE(destroyed_after_a_batch_took_it_as_closed), CASE(taken_after_a_batch_was_broken_off),
          CASE(typesafe_memory_of_a_closed_group), CASE(child_outlives_its_slabs), CASE(typesafe_groups_share_a_grace_period),
          CASE(dropping_in_a_section), CASE(opened_while_a_dead_batch_closes), CASE(zone_half_in_use))
