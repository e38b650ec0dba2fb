/* Groups that come and go while others use them: descriptors go on to other lives, and nothing
 * is mixed up. */
#include <pthread.h>

#include "alloc/run.h"
#include "reclaim/reaper.h"

#include "groups.h"

/* 3,000 groups, each with memory of two caches, ended in all ways: nothing grows. */
static void many_lives(void)
{
    set_up();
    for (int i = 0; i < 800; i++) {
        uint64_t job = make_group(a, i % 3 ? "job" : NULL, fst_group_root(a), MIB, 0);
        struct fst_ref x = alloc_one(a, child_of(a, cache, job)), y;
        CHECK_EQ(FST_OK, fst_alloc_bytes(a, job, 10, &y));
        if (i % 4 == 0)
            fst_group_close(a, job);
        if (i % 4 == 1)
            fst_group_destroy(a, job);
        fst_drop(a, &x);
        if (i % 4 == 2)
            fst_group_destroy(a, job);
        fst_drop(a, &y);
        fst_group_unref(a, job);
        if (i % 100 == 0)
            settle(a);
    }
    settle(a);
    CHECK(a->sb->group_top <= 250 && a->sb->child_top <= 500);
    tear_down();
}

/* A group with more caches than a batch writes down at a time. */
static void many_caches(void)
{
    set_up();
    for (int round = 0; round < 2; round++) {
        uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
        struct fst_ref ref[200];
        struct fst_message m;
        for (int i = 0; i < 200; i++) {
            char name[16];
            snprintf(name, sizeof name, "c%d", i);
            ref[i] = alloc_one(a, child_of(a, make_cache(a, name, 64, 0), job));
            if (i % 2)
                fst_share(a, &ref[i], &m);
            fst_drop(a, &ref[i]);
        }
        if (round)
            fst_group_close(a, job);
        else
            fst_group_destroy(a, job);
        fst_group_unref(a, job);
        settle(a);
        CHECK_EQ(0, info_of(job).state);
        CHECK_EQ(0, used_bytes(a));
    }
    tear_down();
}

/* Groups begin and end in several processes, while another one destroys the cache that they all
 * use. */
static void live_and_die(struct peer *parent, void *context)
{
    (void)context;
    uint64_t random = (uint64_t)getpid();
    PEER_WAIT(parent, 'g');
    for (int i = 0; i < 1000; i++) {
        uint64_t r = next_random(&random), job, child;
        struct fst_group_spec spec = {.name = r & 1 ? "shared" : NULL, .parent = fst_group_root(a)};
        bool created;
        CHECK_EQ(FST_OK, fst_group_open(a, &spec, &job, &created));
        struct fst_cache_spec cs = {.name = "common", .size = 512};
        uint64_t common = 0;
        CHECK_EQ(FST_OK, fst_cache_open(a, &cs, &common));
        struct fst_ref ref;
        if (fst_child_open(a, common, job, &child) == FST_OK && fst_alloc(a, child, &ref) == FST_OK) {
            fill(ref.data, 512, r);
            if (r & 2)
                fst_group_destroy(a, job);
            if (r & 4)
                fst_cache_destroy(a, common, NULL);
            CHECK(filled(ref.data, 512, r));
            fst_drop(a, &ref);
        }
        if (r & 8)
            fst_group_close(a, job);
        fst_group_unref(a, job);
    }
}

static void churn_of_groups(void)
{
    set_up();
    struct peer p[3];
    for (int i = 0; i < 3; i++)
        p[i] = peer_start(live_and_die, NULL);
    for (int i = 0; i < 3; i++)
        peer_say(&p[i], 'g');
    for (int i = 0; i < 200; i++) {
        uint64_t ids[16];
        fst_group_list(a, ids, 16);
        CHECK_CLEAN(a);
        fst_barrier(a, 1000000000);
    }
    for (int i = 0; i < 3; i++)
        peer_end(&p[i]);
    tear_down();
}

/* ---- children whose descriptors go on to other lives ---- */

static _Atomic uint64_t victim_group;
static atomic_int recycled;

static void *alloc_in_victims(void *unused)
{
    for (int n = 0; !atomic_load(&recycled); n++) {
        struct fst_ref ref;
        int rc = fst_alloc_bytes(a, atomic_load(&victim_group), n % 2 ? 100 : 100000, &ref);
        if (rc != FST_OK && rc != FST_CLOSED) {
            TEST_FAIL("status %d: %s", rc, fst_last_error());
            break;
        }
        if (rc == FST_OK)
            fst_drop(a, &ref);
    }
    return unused;
}

/* Whoever allocates from a group that ends meanwhile is told so, whatever its child's descriptor
 * has become: the one for large objects has no size in common for its slabs, the other one has. */
static void recycled_children(void)
{
    a = anonymous(64 * MIB);
    pthread_t t[2];
    uint64_t root = fst_group_root(a), group = make_group(a, NULL, root, FST_NO_LIMIT, 0);
    atomic_store(&victim_group, group);
    atomic_store(&recycled, 0);
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&t[i], NULL, alloc_in_victims, NULL) == 0);
    for (int i = 0; i < 800; i++) {
        uint64_t next = make_group(a, NULL, root, FST_NO_LIMIT, 0);
        struct fst_ref ref;
        if (i % 2 && fst_alloc_bytes(a, next, 100000, &ref) == FST_OK)
            fst_drop(a, &ref);
        atomic_store(&victim_group, next);
        CHECK_EQ(FST_OK, fst_group_destroy(a, group));
        fst_group_unref(a, group);
        group = next;
        if (i % 8 == 0)
            CHECK_EQ(FST_OK, fst_reclaim(a, UINT64_MAX, FST_FOREVER));
    }
    atomic_store(&recycled, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    fst_group_destroy(a, group);
    fst_group_unref(a, group);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(1, state_of(a).groups);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- attributes of what goes away ---- */

struct published {
    uint64_t group;
    uint32_t stop;
};

static void write_limits(struct peer *parent, void *context)
{
    struct published *shared = context;
    peer_say(parent, 'g');
    while (!__atomic_load_n(&shared->stop, __ATOMIC_ACQUIRE)) {
        uint64_t group = __atomic_load_n(&shared->group, __ATOMIC_ACQUIRE);
        int rc = group ? fst_group_set_limit(a, group, 4096) : FST_OK;
        CHECK(rc == FST_OK || rc == FST_CLOSED);
    }
}

/* A limit is written to the group that was meant, or to none: not to the one that has its
 * descriptor next. */
static void limit_of_a_group_that_goes(void)
{
    enum { ROUNDS = 5000 };
    struct published *shared = shared_memory(sizeof *shared);
    set_up();
    fst_reaper_stop(a, true);
    uint64_t pages = child_of(a, cache, fst_group_root(a));
    struct peer p = peer_start(write_limits, shared);
    PEER_WAIT(&p, 'g');
    for (int i = 0; i < ROUNDS && !atomic_load(&test_failures); i++) {
        uint64_t group = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        for (int k = 0; k < 5; k++) { /* the lock that a limit is written under is busy */
            struct fst_ref ref = alloc_one(a, pages);
            fst_drop(a, &ref);
            uint64_t bytes;
            fst_cache_shrink(a, cache, &bytes);
        }
        CHECK_EQ(FST_NO_LIMIT, info_of(group).limit);
        __atomic_store_n(&shared->group, group, __ATOMIC_RELEASE);
        while (info_of(group).limit == FST_NO_LIMIT) {
        }
        CHECK_EQ(FST_OK, fst_group_destroy(a, group));
        fst_group_unref(a, group);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    }
    __atomic_store_n(&shared->stop, 1, __ATOMIC_RELEASE);
    peer_end(&p);
    tear_down();
    munmap(shared, sizeof *shared);
}

/* ---- the synchronous way ---- */

static void synchronous(void)
{
    a = anonymous(16 * MIB);
    uint64_t root = fst_group_root(a), group = make_group(a, "g", root, FST_NO_LIMIT, 0), seen;
    uint64_t one = make_cache(a, "one", 64, 0), two = make_cache(a, "two", 128, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, one, group)), other = alloc_one(a, child_of(a, two, group));
    fst_drop(a, &ref);
    fst_drop(a, &other);
    fst_destroy_synchronously(a, true, NULL, NULL);
    CHECK_EQ(FST_OK, fst_read_lock(a));
    CHECK_EQ(FST_IN_SECTION, fst_group_destroy(a, group));
    CHECK_EQ(FST_IN_SECTION, fst_cache_destroy(a, two, NULL));
    fst_read_unlock(a);
    CHECK(!group_ended(group));
    seen = a->sb->gp_completed;
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK(a->sb->gp_completed >= seen + 2); /* one for each child */
    struct fst_group_info info;
    CHECK_EQ(FST_CLOSED, fst_group_get_info(a, group, &info));
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, two, NULL));
    struct fst_cache_info gone;
    CHECK_EQ(FST_CLOSED, fst_cache_get_info(a, two, &gone));
    fst_destroy_synchronously(a, false, NULL, NULL);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void *reads(void *arg)
{
    struct {
        uint32_t entered, over;
    } *x = arg;
    CHECK_EQ(FST_OK, fst_read_lock(a));
    fst_store_release(&x->entered, 1);
    while (!fst_load_acquire(&x->over))
        usleep(1000);
    fst_read_unlock(a);
    return NULL;
}

static bool three_times(void *asked, uint64_t waited)
{
    CHECK(waited > 0);
    return ++*(uint32_t *)asked < 3;
}

/* A reader does not end: whoever destroys is asked whether to go on, and the lock is free again
 * when it does not. */
static void synchronous_beside_a_reader(void)
{
    struct {
        uint32_t entered, over;
    } x = {0};
    uint32_t asked = 0;
    pthread_t thread;
    a = anonymous(16 * MIB);
    uint64_t root = fst_group_root(a), group = make_group(a, "g", root, FST_NO_LIMIT, 0);
    uint64_t one = make_cache(a, "one", 64, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, one, group));
    fst_drop(a, &ref);
    CHECK_EQ(0, pthread_create(&thread, NULL, reads, &x));
    while (!fst_load_acquire(&x.entered))
        usleep(1000);
    fst_destroy_synchronously(a, true, three_times, &asked);
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK_EQ(3, asked);
    CHECK_EQ(0, fst_load_acquire(&a->sb->teardown_lock));
    fst_store_release(&x.over, 1);
    CHECK_EQ(0, pthread_join(thread, NULL));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, one, NULL));
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(recycled_children), CASE(synchronous), CASE(synchronous_beside_a_reader), CASE(many_lives), CASE(many_caches),
          CASE(churn_of_groups), CASE(limit_of_a_group_that_goes))
