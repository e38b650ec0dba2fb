/* Caches: what opening again compares, and what destroying waits for, changes and leaves. */
#include <pthread.h>

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/children.h"
#include "refs/reftable.h"

#include "caches.h"

static void open_again(void)
{
    a = anonymous(16 * MIB);
    char init[8] = "initial";
    struct fst_cache_spec spec = {.name = "c", .size = 100, .align = 16, .format = "f", .init = init, .init_bytes = 8}, other;
    uint64_t first, again;
    CHECK_EQ(FST_OK, open_spec(&spec, &first));
    uint64_t used = used_bytes(a);
    CHECK_EQ(FST_OK, open_spec(&spec, &again));
    CHECK_EQ(first, again);
    CHECK_EQ(used, used_bytes(a)); /* the second initial content was not kept */
#define MISMATCH(change)                                    \
    do {                                                    \
        other = spec;                                       \
        change;                                             \
        CHECK_EQ(FST_MISMATCH, open_spec(&other, &again));  \
        CHECK(strstr(fst_last_error(), "cache c") != NULL); \
    } while (0)
    MISMATCH(other.size = 101);
    MISMATCH(other.align = 32);
    MISMATCH(other.format = "g");
    MISMATCH(other.format = NULL);
    MISMATCH(other.flags = FST_CACHE_TYPESAFE_BY_RCU);
    MISMATCH(other.init_bytes = 7);
    MISMATCH(other.init = "otherxx");
    MISMATCH(other.init = NULL);
    CHECK_EQ(used, used_bytes(a));
    struct fst_cache_info info;
    CHECK_EQ(FST_OK, fst_cache_get_info(a, first, &info));
    CHECK_EQ(100, info.size);
    CHECK_EQ(16, info.align);
    CHECK_EQ(112, info.stride);
    CHECK(strcmp(info.name, "c") == 0 && strcmp(info.format, "f") == 0);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, first, NULL));
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(FST_CLOSED, fst_cache_get_info(a, first, &info));
    tear_down();
}

static void bad_parameters(void)
{
    a = anonymous(16 * MIB);
    char name[FST_NAME_MAX + 10];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    uint64_t cache;
    struct fst_cache_spec spec = {.name = "c", .size = 100}, bad;
#define INVALID(change)                                 \
    do {                                                \
        bad = spec;                                     \
        change;                                         \
        CHECK_EQ(FST_INVALID, open_spec(&bad, &cache)); \
    } while (0)
    INVALID(bad.name = "");
    INVALID(bad.name = name);
    INVALID(bad.size = 0);
    INVALID(bad.size = 16 * MIB + 1);
    INVALID(bad.size = UINT64_MAX);
    INVALID(bad.size = 1ull << 63);
    INVALID(bad.align = 48);
    INVALID(bad.align = 1ull << 63);
    INVALID(bad.align = 2 * FST_ALIGN_MAX);
    INVALID((bad.init = name, bad.init_bytes = 101));
    CHECK_EQ(0, state_of(a).caches);
    name[FST_NAME_MAX - 1] = 0; /* the longest */
    spec.name = name;
    CHECK_EQ(FST_OK, open_spec(&spec, &cache));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    struct fst_ref ref;
    uint64_t child;
    CHECK_EQ(FST_CLOSED, fst_child_open(a, cache, fst_group_root(a), &child));
    CHECK_EQ(FST_CLOSED, fst_child_open(a, 12345, fst_group_root(a), &child));
    CHECK_EQ(FST_CLOSED, fst_alloc(a, 77, &ref));
    CHECK_EQ(FST_CLOSED, fst_alloc(a, UINT64_MAX, &ref));
    CHECK_EQ(FST_CLOSED, fst_cache_destroy(a, UINT64_MAX, NULL));
    tear_down();
}

/* A destroy that is refused changes nothing, names who uses the cache, and works later. */
static void busy(void)
{
    struct post *post = shared_memory(sizeof *post);
    a = anonymous(16 * MIB);
    struct peer p = peer_start(hold_one, post);
    uint64_t cache = make_cache(a, "busy", 64, 0), child = child_of(a, cache, fst_group_root(a));
    struct fst_ref ref = alloc_one(a, child), other;
    char pid[32];
    fill(ref.data, 64, 1);
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL)); /* mine */
    CHECK(strstr(fst_last_error(), "by this process itself: 1 reference ") != NULL);
    fst_share(a, &ref, &post->m);
    fst_drop(a, &ref);
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL)); /* in flight */
    CHECK(strstr(fst_last_error(), "1 in flight") != NULL);
    TELL(p, 't');
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL)); /* the peer's */
    snprintf(pid, sizeof pid, "1 by pid %d", (int)p.pid);
    CHECK(strstr(fst_last_error(), pid) != NULL);
    /* Nothing has changed. */
    CHECK_EQ(cache, make_cache(a, "busy", 64, 0));
    CHECK_EQ(child, child_of(a, cache, fst_group_root(a)));
    other = alloc_one(a, child);
    fst_drop(a, &other);
    CHECK_CLEAN(a);
    TELL(p, 'd');
    /* What only awaits a batch does not count. */
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &other));
    CHECK_EQ(FST_CLOSED, fst_cache_destroy(a, cache, NULL));
    settle(a);
    CHECK_EQ(0, state_of(a).caches);
    CHECK_EQ(0, used_bytes(a));
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

/* A killed process's references do not make a cache busy. */
static void busy_with_the_dead(void)
{
    struct post *post = shared_memory(sizeof *post);
    a = anonymous(16 * MIB);
    struct peer p = peer_start(hold_one, post);
    uint64_t cache = make_cache(a, "busy", 64, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
    fst_share(a, &ref, &post->m);
    fst_drop(a, &ref);
    TELL(p, 't');
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
    peer_kill(&p);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
    munmap(post, sizeof *post);
}

static uint32_t looks; /* at a process's references */

bool __real_fst_refs_look(struct fst_arena *arena, uint32_t slot, struct fst_table_look *look);
bool __wrap_fst_refs_look(struct fst_arena *arena, uint32_t slot, struct fst_table_look *look);
bool __wrap_fst_refs_look(struct fst_arena *arena, uint32_t slot, struct fst_table_look *look)
{
    fst_add32(&looks, 1);
    return __real_fst_refs_look(arena, slot, look);
}

/* Whoever destroys a cache looks at what others hold only if an object of it is allocated. */
static void nobody_is_asked_in_vain(void)
{
    a = anonymous(64 * MIB);
    struct fst_ref ref;
    for (int allocate = 0; allocate < 3; allocate++) {
        uint64_t cache = make_cache(a, "asked", 64, 0), child = child_of(a, cache, fst_group_root(a));
        looks = 0;
        if (allocate > 0)
            ref = alloc_one(a, child);
        if (allocate == 2) {
            CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
            CHECK(looks > 0);
        }
        if (allocate > 0)
            fst_drop(a, &ref);
        looks = 0;
        CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
        CHECK_EQ(0, looks);
        settle(a);
    }
    tear_down();
}

/* The name is free when destroy() returns, while the old cache's memory still waits for a
 * reader. */
static void name_reuse(void)
{
    a = anonymous(16 * MIB);
    struct peer p = peer_start(read_until_told, a);
    PEER_WAIT(&p, 'r');
    uint64_t cache = make_cache(a, "name", 64, FST_CACHE_TYPESAFE_BY_RCU), child = child_of(a, cache, fst_group_root(a)), bytes;
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_message m;
    struct fst_handle h;
    fst_share(a, &ref, &m);
    fst_take(a, &m, &out);
    fst_handle_of(a, &ref, &h);
    fst_drop(a, &out);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    CHECK(used_bytes(a) > 0);
    CHECK_EQ(FST_STALE, fst_resolve(a, &h, &out));
    uint64_t next = make_cache(a, "name", 128, 0);
    CHECK(next != cache);
    struct fst_ref fresh = alloc_one(a, child_of(a, next, fst_group_root(a)));
    fill(fresh.data, 128, 2);
    fst_barrier(a, 1000000);
    CHECK_EQ(2, state_of(a).caches);
    peer_end(&p);
    settle(a);
    CHECK_EQ(1, state_of(a).caches);
    CHECK(filled(fresh.data, 128, 2));
    CHECK_EQ(FST_OK, fst_cache_shrink(a, next, &bytes));
    CHECK_EQ(FST_CLOSED, fst_cache_shrink(a, cache, &bytes));
    fst_drop(a, &fresh);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, next, NULL));
    tear_down();
}

/* 2,000 caches of one name, one after the other: descriptors, memory and references do not grow. */
static void many_lives(void)
{
    a = anonymous(16 * MIB);
    for (int i = 0; i < 2000; i++) {
        char init[8] = "12345678";
        struct fst_cache_spec spec = {.name = "life", .size = 64 + (uint64_t)i % 5, .init = init, .init_bytes = 8};
        uint64_t cache;
        CHECK_EQ(FST_OK, open_spec(&spec, &cache));
        struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
        fst_drop(a, &ref);
        CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
        if (i % 50 == 0) {
            settle(a);
            CHECK_EQ(0, used_bytes(a));
            CHECK_EQ(0, state_of(a).caches);
        }
    }
    settle(a);
    CHECK(a->sb->cache_top <= 60 && a->sb->child_top <= 60);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
}

/* Several processes open, use and destroy one name as fast as they can. */
static void churn(struct peer *parent, void *context)
{
    (void)context;
    PEER_WAIT(parent, 'g');
    uint64_t random = (uint64_t)getpid();
    for (int i = 0; i < 1500; i++) {
        struct fst_cache_spec spec = {.name = i & 1 ? "one" : "two", .size = 64, .init = "abcdefgh", .init_bytes = 8};
        uint64_t cache = 0, child = 0;
        CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
        int rc = fst_child_open(a, cache, fst_group_root(a), &child);
        CHECK(rc == FST_OK || rc == FST_CLOSED);
        struct fst_ref ref;
        if (rc == FST_OK && (rc = fst_alloc(a, child, &ref)) == FST_OK) {
            CHECK(memcmp(ref.data, "abcdefgh", 8) == 0);
            fill(ref.data, 64, random);
            CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
            CHECK(filled(ref.data, 64, random));
            fst_drop(a, &ref);
        } else {
            CHECK_EQ(FST_CLOSED, rc);
        }
        rc = fst_cache_destroy(a, cache, NULL);
        CHECK(rc == FST_OK || rc == FST_BUSY || rc == FST_CLOSED);
    }
}

static void look(struct peer *parent, void *context)
{
    uint32_t *stop = context;
    PEER_WAIT(parent, 'g');
    while (!__atomic_load_n(stop, __ATOMIC_ACQUIRE)) {
        uint64_t ids[16];
        size_t n = fst_cache_list(a, ids, 16);
        for (size_t i = 0; i < n && i < 16; i++) {
            struct fst_cache_info info;
            uint64_t bytes;
            int rc = fst_cache_get_info(a, ids[i], &info);
            CHECK(rc == FST_OK || rc == FST_CLOSED);
            rc = fst_cache_shrink(a, ids[i], &bytes);
            CHECK(rc == FST_OK || rc == FST_CLOSED);
        }
        CHECK_CLEAN(a);
    }
}

static void churn_of_names(void)
{
    uint32_t *stop = shared_memory(sizeof *stop);
    a = anonymous(256 * MIB); /* room for all caches that await a batch */
    struct peer p[4];
    for (int i = 0; i < 4; i++)
        p[i] = peer_start(i < 3 ? churn : look, stop);
    for (int i = 0; i < 4; i++)
        peer_say(&p[i], 'g');
    for (int i = 0; i < 3; i++)
        peer_end(&p[i]);
    __atomic_store_n(stop, 1, __ATOMIC_RELEASE);
    peer_end(&p[3]);
    settle(a); /* only the two that live are left */
    uint64_t ids[2];
    size_t n = fst_cache_list(a, ids, 2);
    CHECK(n <= 2);
    for (size_t i = 0; i < n && i < 2; i++)
        CHECK_EQ(FST_OK, fst_cache_destroy(a, ids[i], NULL));
    settle(a);
    CHECK_EQ(0, state_of(a).caches);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
    munmap(stop, sizeof *stop);
}

/* A size class is a cache: destroyed while others allocate from it, it comes back. */
static void *alloc_sizes(void *unused)
{
    for (int i = 0; i < 3000; i++) {
        struct fst_ref ref;
        int rc = fst_alloc_bytes(a, fst_group_root(a), i & 1 ? 100 : 100000, &ref);
        CHECK(rc == FST_OK || rc == FST_CLOSED);
        if (rc == FST_OK) {
            memset(ref.data, i, ref.nbytes);
            fst_drop(a, &ref);
        }
    }
    return unused;
}

static void destroyed_size_classes(void)
{
    pthread_t t;
    a = anonymous(16 * MIB);
    pthread_create(&t, NULL, alloc_sizes, NULL);
    for (int i = 0; i < 3000; i++) {
        uint64_t ids[8];
        size_t n = fst_cache_list(a, ids, 8);
        for (size_t k = 0; k < n && k < 8; k++) {
            int rc = fst_cache_destroy(a, ids[k], NULL);
            CHECK(rc == FST_OK || rc == FST_BUSY || rc == FST_CLOSED);
        }
    }
    pthread_join(t, NULL);
    tear_down();
}

static void killed_destroyer(struct peer *parent, void *context)
{
    uint64_t *cache = context;
    CHECK(fst_cache_lock_ending(a, (uint32_t)*cache));
    fst_children_suspend(a, (uint32_t)*cache);
    peer_say(parent, 's');
    peer_hear(parent);
}

/* Who destroys is killed while it looks for users: the cache goes on. Waiters for its lock see
 * to that. */
static void destroyer_killed_while_looking(void)
{
    a = anonymous(16 * MIB);
    uint64_t cache = make_cache(a, "c", 64, 0), child = child_of(a, cache, fst_group_root(a));
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_handle h;
    fst_handle_of(a, &ref, &h);
    struct peer p = peer_start(killed_destroyer, &cache);
    PEER_WAIT(&p, 's');
    peer_kill(&p);
    CHECK_EQ(FST_OK, fst_resolve(a, &h, &out));
    fst_drop(a, &out);
    fst_drop(a, &ref);
    ref = alloc_one(a, child);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    settle(a);
    CHECK_EQ(0, state_of(a).caches);
    tear_down();
}

/* Opens and destroys one cache again and again. Its table of references is long, so that looking
 * for users takes a while after the other process's, which comes first. */
static void destroy_often(struct peer *parent, void *context)
{
    enum { LONG = 30000, ROUNDS = 3000 };
    static struct fst_ref refs[LONG];
    uint32_t *done = context;
    uint64_t other = root_child(a, "other", 8, 0), cache;
    for (int i = 0; i < LONG; i++)
        refs[i] = alloc_one(a, other);
    peer_say(parent, 'g');
    for (int i = 0; i < ROUNDS; i++) {
        cache = make_cache(a, "race", 64, FST_CACHE_NO_MERGE);
        int rc = fst_cache_destroy(a, cache, NULL);
        CHECK(rc == FST_OK || rc == FST_BUSY || rc == FST_CLOSED);
    }
    for (int i = 0; i < LONG; i++)
        fst_drop(a, &refs[i]);
    __atomic_store_n(done, 1, __ATOMIC_RELEASE);
}

/* Who has an object keeps its cache, from the moment in which the allocation returns: destroy()
 * counts users with allocations held off. */
static void allocated_while_destroyed(void)
{
    uint32_t *done = shared_memory(sizeof *done);
    uint64_t child, had = 0;
    struct fst_cache_info info;
    a = anonymous(64 * MIB);
    struct peer p = peer_start(destroy_often, done);
    PEER_WAIT(&p, 'g');
    while (!__atomic_load_n(done, __ATOMIC_ACQUIRE) && !atomic_load(&test_failures)) {
        struct fst_ref ref;
        uint64_t cache = make_cache(a, "race", 64, FST_CACHE_NO_MERGE);
        if (fst_child_open(a, cache, fst_group_root(a), &child))
            continue;
        for (int i = 0; i < 100 && fst_alloc(a, child, &ref) == FST_OK; i++, had++) {
            CHECK_EQ(FST_OK, fst_cache_get_info(a, cache, &info));
            CHECK_EQ(FST_CACHE_LIVE, info.state);
            fst_drop(a, &ref);
        }
    }
    CHECK(had > 0);
    peer_end(&p);
    fst_cache_destroy(a, make_cache(a, "race", 64, FST_CACHE_NO_MERGE), NULL);
    tear_down();
    munmap(done, sizeof *done);
}

static void info_of(uint64_t cache, struct fst_cache_info *info)
{
    CHECK_EQ(FST_OK, fst_cache_get_info(a, cache, info));
}

/* Compatible caches share memory, and each of the names can go. */
static void merged(void)
{
    a = anonymous(16 * MIB);
    uint64_t first = make_cache(a, "first", 64, 0), second = make_cache(a, "second", 64, 0), third = make_cache(a, "third", 64, 0);
    uint64_t root = fst_group_root(a), child = child_of(a, first, root);
    struct fst_cache_info info;
    bool name_only;
    CHECK(first != second && second != third);
    CHECK_EQ(child, child_of(a, second, root));
    info_of(first, &info);
    CHECK_EQ(2, info.aliases);
    CHECK_EQ(first, info.merged_into);
    info_of(second, &info);
    CHECK_EQ(first, info.merged_into);
    CHECK_EQ(4, info.state);
    CHECK(strcmp(info.name, "second") == 0);

    /* Its own name goes, with an object in use: the aliases do not notice, and the first of them
     * speaks for the memory. */
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 64, 1);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, first, &name_only));
    CHECK(name_only);
    CHECK_EQ(FST_CLOSED, fst_child_open(a, first, root, &child));
    CHECK_EQ(FST_CLOSED, fst_cache_destroy(a, first, NULL));
    CHECK_EQ(child, child_of(a, third, root));
    info_of(second, &info);
    CHECK_EQ(second, info.merged_into);
    CHECK_EQ(1, info.state);
    CHECK_EQ(1, info.aliases);
    CHECK_EQ(1, info.allocated);
    info_of(third, &info);
    CHECK_EQ(second, info.merged_into);
    CHECK_EQ(2, state_of(a).caches);
    uint64_t again = make_cache(a, "first", 64, FST_CACHE_NO_MERGE); /* the name is free */
    CHECK(child != child_of(a, again, root));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, again, NULL));

    /* One of several, then the last: that one asks for users. */
    CHECK_EQ(FST_OK, fst_cache_destroy(a, second, &name_only));
    CHECK(name_only);
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, third, &name_only));
    CHECK(strstr(fst_last_error(), "cache third") != NULL);
    CHECK(filled(ref.data, 64, 1));
    fst_drop(a, &ref);
    ref = alloc_one(a, child);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, third, &name_only));
    CHECK(!name_only);
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &ref));
    settle(a);
    CHECK_EQ(0, state_of(a).caches);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
}

static void never_merged(void)
{
    a = anonymous(16 * MIB);
    uint64_t plain = make_cache(a, "plain", 64, 0), root = fst_group_root(a);
    struct fst_cache_spec specs[] = {
        {.name = "no", .size = 64, .flags = FST_CACHE_NO_MERGE},
        {.name = "rcu", .size = 64, .flags = FST_CACHE_TYPESAFE_BY_RCU},
        {.name = "init", .size = 64, .init = "i", .init_bytes = 1},
        {.name = "format", .size = 64, .format = "f"},
        {.name = "align", .size = 64, .align = 4096},
        {.name = "size", .size = 72, .align = 64},
    };
    struct fst_cache_info info;
    uint64_t cache;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        CHECK_EQ(FST_OK, fst_cache_open(a, &specs[i], &cache));
        info_of(cache, &info);
        CHECK_EQ(cache, info.merged_into);
        CHECK(child_of(a, plain, root) != child_of(a, cache, root));
    }
    /* A size class neither merges with a cache of its size, nor is in the way of its name. */
    struct fst_ref ref = alloc_bytes(a, 64);
    cache = make_cache(a, "size-64", 64, 0);
    info_of(cache, &info);
    CHECK_EQ(plain, info.merged_into);
    fst_drop(a, &ref);
    info_of(plain, &info);
    CHECK_EQ(1, info.aliases);
    tear_down();
}

/* More names than one bucket holds, of caches and groups, each found again until it goes. */
static void many_names(void)
{
    enum { N = 3000 };
    static uint64_t caches[N], groups[N];
    a = anonymous(64 * MIB);
    uint64_t root = fst_group_root(a);
    char name[32];
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%d", i);
        caches[i] = make_cache(a, name, 8 + 8 * (uint64_t)(i % 700), 0);
        groups[i] = make_group(a, name, root, FST_NO_LIMIT, FST_GROUP_LASTING);
    }
    for (int i = 0; i < N; i += 3) {
        CHECK_EQ(FST_OK, fst_cache_destroy(a, caches[i], NULL));
        CHECK_EQ(FST_OK, fst_group_destroy(a, groups[i]));
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "n%d", i);
        uint64_t cache = make_cache(a, name, 8 + 8 * (uint64_t)(i % 700), 0);
        uint64_t group = make_group(a, name, root, FST_NO_LIMIT, FST_GROUP_LASTING);
        CHECK_EQ(i % 3 != 0, cache == caches[i]);
        CHECK_EQ(i % 3 != 0, group == groups[i]);
        CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
        CHECK_EQ(FST_OK, fst_group_destroy(a, group));
        fst_group_unref(a, group);
    }
    for (int i = 0; i < N; i++)
        fst_group_unref(a, groups[i]);
    settle(a);
    CHECK_EQ(0, state_of(a).caches);
    tear_down();
}

TEST_MAIN(CASE(merged), CASE(never_merged), CASE(many_names), CASE(open_again), CASE(bad_parameters), CASE(busy),
          CASE(busy_with_the_dead), CASE(nobody_is_asked_in_vain), CASE(name_reuse), CASE(many_lives), CASE(churn_of_names),
          CASE(destroyed_size_classes), CASE(destroyer_killed_while_looking), CASE(allocated_while_destroyed))
