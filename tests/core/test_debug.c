/* Caches that are debugged: every fault is found once, where it is, and nothing that is none. */
#include "alloc/debug.h"
#include "alloc/sizeclass.h"
#include "support.h"

#define ZP (FST_CACHE_RED_ZONE | FST_CACHE_POISON)

static fst_arena *a;

static fst_arena *open_debugged(uint32_t debug)
{
    struct fst_open_options o = {.capacity = 64 * MIB, .create = FST_CREATE_NEW, .mode = 0600, .debug = debug};
    REQUIRE(fst_arena_open(&o, &a) == FST_OK);
    return a;
}

static size_t quiet_check(void)
{
    return fst_check(a, NULL, NULL);
}

static void release(void)
{
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
}

static size_t faults(struct fst_fault *out)
{
    uint64_t lost;
    return fst_debug_faults(out, 64, &lost);
}

static void end(void)
{
    struct fst_fault none[64];
    faults(none);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static const uint64_t SIZES[] = {1, 7, 8, 64, 100, 1000, 4096, 5000, 40000, 100000, 1 << 20};
#define N (sizeof SIZES / sizeof *SIZES)

/* An object has all its bytes, at its alignment, and no more: of a cache and by number of bytes. */
static void objects_are_as_large_as_asked(void)
{
    open_debugged(FST_CACHE_DEBUG);
    for (size_t i = 0; i < 2 * N; i++) {
        uint64_t size = SIZES[i / 2], child = 0;
        char name[32];
        snprintf(name, sizeof name, "c%zu", i);
        if (i % 2)
            child = root_child(a, name, size, FST_CACHE_DEBUG);
        struct fst_ref ref[20], back;
        for (int k = 0; k < 20; k++) {
            ref[k] = i % 2 ? alloc_one(a, child) : alloc_bytes(a, size);
            CHECK_EQ(size, ref[k].nbytes);
            CHECK_EQ(0x5a, *(uint8_t *)ref[k].data);
            memset(ref[k].data, k, size);
        }
        CHECK_CLEAN(a);
        struct fst_handle handle;
        CHECK_EQ(FST_OK, fst_handle_of(a, &ref[3], &handle));
        CHECK_EQ(FST_OK, fst_resolve(a, &handle, &back));
        CHECK_EQ(size, back.nbytes);
        fst_drop(a, &back);
        for (int k = 0; k < 20; k++) {
            CHECK_EQ(k, ((uint8_t *)ref[k].data)[size - 1]);
            fst_drop(a, &ref[k]);
        }
        release();
        CHECK_CLEAN(a);
    }
    CHECK_EQ(0, fst_debug_fault_count());
    end();
}

/* A byte behind each, wherever its size ends; found by check() and, once, by the drop. */
static void overruns_are_found(void)
{
    struct fst_fault f[64];
    open_debugged(ZP);
    for (size_t i = 0; i < 2 * N; i++) {
        char name[32];
        uint64_t size = SIZES[i / 2];
        snprintf(name, sizeof name, "c%zu", i);
        struct fst_ref ref = i % 2 ? alloc_one(a, root_child(a, name, size, ZP)) : alloc_bytes(a, size);
        ((uint8_t *)ref.data)[size] = 0x12;
        CHECK_EQ(1, quiet_check());
        CHECK_EQ(1, quiet_check());
        fst_drop(a, &ref);
        release();
        CHECK_EQ(0, quiet_check());
        CHECK_EQ(1, faults(f));
        CHECK_EQ(FST_FAULT_RED_ZONE, f[0].kind);
        CHECK_EQ(size, f[0].offset);
        CHECK_EQ(1, f[0].count);
        CHECK_EQ(0x12, f[0].found[0]);
        CHECK_EQ(0xcc, f[0].expected);
    }
    end();
}

/* By check() while it is free; by whoever is given it next, once. */
static void writes_after_free_are_found(void)
{
    struct fst_fault f[64];
    open_debugged(0);
    uint64_t child = root_child(a, "c", 64, ZP);
    struct fst_ref stays = alloc_one(a, child); /* or the slab would go */
    for (int at = 0; at < 80; at++) {
        struct fst_ref ref = alloc_one(a, child);
        uint8_t *p = ref.data;
        fst_drop(a, &ref);
        release();
        CHECK_EQ(0, quiet_check());
        p[at < 64 ? at : 64] ^= 0x13;
        CHECK_EQ(1, quiet_check());
        struct fst_ref others[600];
        size_t n = 0;
        do
            others[n] = alloc_one(a, child);
        while (others[n++].data != p && n < 600);
        CHECK_EQ(0, quiet_check());
        CHECK_EQ(1, faults(f));
        CHECK_EQ(at < 64 ? FST_FAULT_POISON : FST_FAULT_RED_ZONE, f[0].kind);
        CHECK_EQ(at < 64 ? at : 64, f[0].offset);
        while (n)
            fst_drop(a, &others[--n]);
        release();
    }
    fst_drop(a, &stays);
    end();
}

static void free_twice_is_reported(void)
{
    struct fst_fault f[64];
    open_debugged(0);
    struct fst_ref ref = alloc_one(a, root_child(a, "c", 64, FST_CACHE_STORE_USER));
    CHECK_EQ(FST_OK, fst_free(a, &ref));
    CHECK_EQ(FST_STALE, fst_free(a, &ref));
    CHECK_EQ(1, faults(f));
    CHECK_EQ(FST_FAULT_DOUBLE_FREE, f[0].kind);
    CHECK_EQ(getpid(), f[0].about.pid);
    CHECK_EQ(getpid(), f[0].holders[0]);
    CHECK_EQ(1, quiet_check());
    fst_drop(a, &ref);
    fst_barrier(a, FST_FOREVER);
    end();
}

static size_t counted;

static void count(void *context, const struct fst_fault *fault)
{
    (void)context;
    counted += fault->finder == 0;
}

static unsigned heard;

static void hear(void)
{
    heard++;
}

/* Whoever looks at the arena later finds what was found, in whatever process: the last of it. */
static void what_was_found_is_written_down(void)
{
    struct fst_fault f[64];
    open_debugged(0);
    uint64_t child = root_child(a, "c", 64, ZP | FST_CACHE_STORE_USER);
    struct fst_ref ref = alloc_one(a, child);
    ((uint8_t *)ref.data)[64] = 0x12;
    counted = 0;
    CHECK_EQ(FST_OK, fst_debug_walk(a, count, NULL));
    CHECK_EQ(1, counted);
    CHECK_EQ(0, fst_debug_log(a, f, 64));
    fst_debug_hear(hear);
    pid_t pid = fork();
    if (pid == 0) {
        fst_drop(a, &ref);
        CHECK_EQ(1, heard);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    fst_debug_hear(NULL);
    REQUIRE(fst_debug_log(a, f, 64) == 1);
    CHECK_EQ(FST_FAULT_RED_ZONE, f[0].kind);
    CHECK_EQ(ref.oid, f[0].about.oid);
    CHECK_EQ(getpid(), f[0].about.pid);
    CHECK_EQ(pid, f[0].finder);
    CHECK_EQ(64, f[0].offset);
    CHECK_EQ(0x12, f[0].found[0]);
    CHECK(f[0].holders[0] == getpid() || f[0].holders[1] == getpid());
    counted = 0;
    CHECK_EQ(FST_OK, fst_debug_walk(a, count, NULL));
    CHECK_EQ(0, counted); /* it was found */
    for (int i = 0; i < 20; i++)
        fst_debug_leaked(a, &(struct fst_debug_info){.nbytes = 100 + (uint64_t)i}, 1);
    CHECK_EQ(6, fst_debug_log(a, f, 64));
    CHECK_EQ(119, f[0].about.nbytes);
    CHECK_EQ(114, f[5].about.nbytes);
    fst_drop(a, &ref);
    release();
    end();
}

static void count_living(void *context, const struct fst_debug_info *info)
{
    (void)context;
    counted += info->allocated;
}

static size_t living(void)
{
    counted = 0;
    CHECK_EQ(FST_OK, fst_debug_list(a, 0, count_living, NULL));
    return counted;
}

/* What its allocator has dropped lives while somebody else refers to it. */
static void shared_objects_live_on(void)
{
    open_debugged(0);
    struct fst_ref ref = alloc_one(a, root_child(a, "c", 64, FST_CACHE_STORE_USER));
    struct fst_message message;
    CHECK_EQ(1, living());
    CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
    fst_drop(a, &ref);
    release();
    CHECK_EQ(1, living());
    CHECK_EQ(FST_OK, fst_take(a, &message, &ref));
    CHECK_EQ(1, living());
    fst_drop(a, &ref);
    CHECK_EQ(0, living()); /* it is only waiting for a batch */
    release();
    CHECK_EQ(0, living());
    end();
}

/* check() says what lives in a group that was destroyed, while somebody holds it. */
static void leaks_are_found(void)
{
    open_debugged(0);
    uint64_t cache = make_cache(a, "c", 64, FST_CACHE_STORE_USER), group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, group)), other = alloc_one(a, child_of(a, cache, group));
    CHECK_CLEAN(a);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK_EQ(2, quiet_check());
    fst_drop(a, &other);
    CHECK_EQ(1, quiet_check());
    fst_drop(a, &ref);
    CHECK_CLEAN(a);
    release();
    end();
}

/* Of initial content, and of memory that readers may look at, nothing is poisoned. */
static void what_outlives_an_object_is_not_poisoned(void)
{
    open_debugged(0);
    for (int typesafe = 0; typesafe < 2; typesafe++) {
        struct fst_cache_spec spec = {.name = typesafe ? "t" : "i", .size = 64, .init = "initial", .init_bytes = 8};
        spec.flags = FST_CACHE_DEBUG | (typesafe ? FST_CACHE_TYPESAFE_BY_RCU : 0);
        uint64_t cache;
        CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
        struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
        CHECK(memcmp(ref.data, "initial", 8) == 0);
        const uint8_t *p = ref.data;
        fst_drop(a, &ref);
        release();
        CHECK(memcmp(p, "initial", 8) == 0);
        CHECK_CLEAN(a);
    }
    end();
}

/* F: the neighbour's drop finds it. */
static void neighbours_are_looked_at(void)
{
    struct fst_fault f[64];
    open_debugged(0);
    uint64_t child = root_child(a, "c", 64, ZP | FST_CACHE_CONSISTENCY);
    struct fst_ref one = alloc_one(a, child), other = alloc_one(a, child);
    ((uint8_t *)one.data)[64] = 1;
    fst_drop(a, &other);
    CHECK_EQ(1, faults(f));
    CHECK_EQ(one.oid, f[0].about.oid);
    fst_drop(a, &one);
    release();
    CHECK_EQ(0, faults(f));
    end();
}

/* A process that has never heard of it drops and releases as well as any. */
static void others_release(void)
{
    open_debugged(0);
    uint64_t cache = make_cache(a, "c", 64, FST_CACHE_DEBUG);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
    struct fst_message message;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
    const uint8_t *p = ref.data;
    fst_drop(a, &ref);
    pid_t pid = fork();
    if (pid == 0) {
        a->plain = true;
        CHECK_EQ(FST_OK, fst_take(a, &message, &ref));
        fst_drop(a, &ref);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
        CHECK_EQ(0x6b, *p);
        CHECK_CLEAN(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    CHECK_CLEAN(a);
    end();
}

struct letter {
    struct fst_message message;
    uint64_t cache;
};

/* Drops and releases what it is sent; its data is mapped read-only. */
static void release_readonly(const char *path, int from)
{
    struct fst_open_options o = {.path = path, .create = FST_OPEN_EXISTING, .readonly = true};
    struct fst_cache_info cache;
    struct fst_fault f[64];
    struct fst_ref ref;
    struct letter l;
    CHECK_EQ(sizeof l, (size_t)read(from, &l, sizeof l));
    REQUIRE(fst_arena_open(&o, &a) == FST_OK);
    CHECK_EQ(FST_OK, fst_take(a, &l.message, &ref));
    CHECK_EQ(FST_OK, fst_cache_look(a, l.cache, &cache)); /* as the binding does */
    fst_drop(a, &ref);
    CHECK_EQ(1, faults(f));
    release();
    CHECK_EQ(0, faults(f)); /* it was said */
    fst_arena_unref(a);
}

/* Nor does it matter that a process may only read: what it drops is compared, what it releases is
 * poisoned, and both are written down. */
static void readers_release(void)
{
    const char *path = new_path("reader");
    int pipes[2];
    REQUIRE(pipe(pipes) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        release_readonly(path, pipes[0]);
        CHILD_EXIT();
    }
    a = open_named(path);
    struct letter l = {.cache = make_cache(a, "c", 64, ZP | FST_CACHE_STORE_USER)};
    uint64_t child = child_of(a, l.cache, fst_group_root(a));
    struct fst_ref stays = alloc_one(a, child); /* or the slab would go */
    struct fst_ref ref = alloc_one(a, child);
    uint8_t *p = ref.data;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &l.message));
    fst_drop(a, &ref);
    p[64] = 0x12;
    CHECK_EQ(sizeof l, (size_t)write(pipes[1], &l, sizeof l));
    CHECK_CHILD(pid);
    struct fst_fault f[64];
    struct fst_debug_info info;
    CHECK_EQ(0x6b, p[0]);
    CHECK_EQ(0xa5, p[63]);
    CHECK_EQ(0xcc, p[64]);
    CHECK_CLEAN(a);
    REQUIRE(fst_debug_info_of(a, fst_oid_slab(ref.oid), fst_oid_object(ref.oid), &info));
    CHECK_EQ(pid, info.freed_pid);
    CHECK_EQ(1, fst_debug_log(a, f, 64));
    CHECK_EQ(FST_FAULT_RED_ZONE, f[0].kind);
    CHECK_EQ(pid, f[0].finder);
    p[5] = 1; /* by a stale view */
    CHECK_EQ(1, quiet_check());
    p[5] = 0x6b;
    fst_drop(a, &stays);
    release();
    close(pipes[0]);
    close(pipes[1]);
    end();
}

static void sites_are_interned(void)
{
    open_debugged(0);
    uint32_t one, again, other;
    char text[100];
    CHECK_EQ(FST_OK, fst_debug_site_add(a, "a.py:3 f", 8, &one));
    CHECK_EQ(FST_OK, fst_debug_site_add(a, "a.py:3 f", 8, &again));
    CHECK_EQ(FST_OK, fst_debug_site_add(a, "a.py:4 f", 8, &other));
    CHECK(one && one == again && one != other);
    CHECK_EQ(8, fst_debug_site_text(a, one, text, sizeof text));
    CHECK(memcmp(text, "a.py:3 f", 8) == 0);
    CHECK_EQ(0, fst_debug_site_text(a, other + 1, text, sizeof text));
    end();
}

static uint32_t enough;

static void *keep_asking(void *nothing)
{
    struct fst_fault none[1];
    uint64_t lost;
    while (!fst_load_relaxed(&enough))
        fst_debug_faults(none, 1, &lost);
    return nothing;
}

/* A fork while another thread asks for faults leaves no mutex locked in the child, which begins
 * without any faults: its parent tells of them. */
static void forks_while_faults_are_asked_for(void)
{
    SKIP_UNDER_THREAD_SANITIZER();
    open_debugged(ZP);
    pthread_t thread;
    pthread_create(&thread, NULL, keep_asking, NULL);
    for (int i = 0; i < 50; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct fst_fault found[1];
            uint64_t lost;
            CHECK_EQ(0, fst_debug_faults(found, 1, &lost));
            CHILD_EXIT();
        }
        CHECK_CHILD(pid);
    }
    fst_store_relaxed(&enough, 1);
    pthread_join(thread, NULL);
    end();
}

TEST_MAIN(CASE(objects_are_as_large_as_asked), CASE(overruns_are_found), CASE(writes_after_free_are_found),
          CASE(free_twice_is_reported), CASE(what_outlives_an_object_is_not_poisoned), CASE(neighbours_are_looked_at),
          CASE(others_release), CASE(readers_release), CASE(what_was_found_is_written_down), CASE(shared_objects_live_on),
          CASE(leaks_are_found), CASE(sites_are_interned), CASE(forks_while_faults_are_asked_for))
