/* Objects: allocated and dropped, of all sizes, with what they begin with; and the table of
 * references. */
#include <pthread.h>

#include "refs/claim.h"
#include "refs/reftable.h"

#include "objects.h"

static void alloc_and_drop(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    CHECK_EQ(64, ref.nbytes);
    CHECK_EQ(0, (uintptr_t)ref.data % 64);
    CHECK(word_of(&ref) & FST_WORD_ALLOCATED);
    CHECK(!(word_of(&ref) & FST_WORD_SHARED));
    uint64_t generation = generation_of(a, &ref);
    fst_drop(a, &ref);
    CHECK_EQ(generation + 1, fst_word_gen(word_of(&ref)));
    CHECK(!(word_of(&ref) & FST_WORD_FLAGS)); /* a private drop needs no batch */
    tear_down();
}

static void hold_counts(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 64, 1);
    fst_hold(a, &ref);
    fst_hold(a, &ref);
    fst_drop(a, &ref);
    fst_drop(a, &ref);
    struct fst_ref other = alloc_one(a, child);
    CHECK(other.data != ref.data);
    CHECK(filled(ref.data, 64, 1));
    fst_drop(a, &ref);
    fst_drop(a, &other);
    tear_down();
}

/* ---- the reference table ---- */

/* Behind a grace period that does not end, a loop of resolve and drop takes its own entry back
 * each time. */
static void revive_uses_one_entry(void)
{
    set_up();
    struct peer p = peer_start(read_until_told, a);
    PEER_WAIT(&p, 'r');
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_handle h;
    struct fst_message m;
    fst_handle_of(a, &ref, &h);
    fst_share(a, &ref, &m);
    fill(ref.data, 64, 4);
    uint64_t live = a->refs->live;
    fst_drop(a, &ref);
    for (int i = 0; i < 20000; i++) {
        CHECK_EQ(FST_OK, fst_resolve(a, &h, &out));
        CHECK_EQ(ref.entry, out.entry);
        fst_drop(a, &out);
        if (i % 1000 == 0)
            fst_barrier(a, 1000000);
    }
    CHECK(a->refs->live <= live + 1);
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    CHECK(filled(out.data, 64, 4));
    fst_drop(a, &out);
    peer_end(&p);
    tear_down();
}

/* The table grows to its bound; then it is an error that names it, and everything works again
 * with a few entries less. */
static void full_reference_table(void)
{
    static struct fst_ref *ref;
    a = anonymous(64 * MIB);
    child = root_child(a, "c", 8, 0);
    ref = calloc(FST_MAX_ENTRIES + 1, sizeof *ref);
    size_t got;
    int rc = fst_alloc_many(a, child, FST_MAX_ENTRIES + 1, ref, &got);
    CHECK_EQ(FST_FULL, rc);
    CHECK_EQ(FST_MAX_ENTRIES, got);
    CHECK(strstr(fst_last_error(), "reference entries") != NULL);
    struct fst_message m;
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_share(a, &ref[5], &m)); /* in flight takes none of ours */
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));     /* nor does what we refer to already */
    fst_drop(a, &out);
    for (size_t i = 0; i < 10; i++)
        fst_drop(a, &ref[i]);
    for (size_t i = 0; i < 9; i++)
        ref[i] = alloc_one(a, child);
    fst_drop(a, &ref[10]);
    for (size_t i = 0; i < got; i++)
        if (i != 9 && i != 10)
            fst_drop(a, &ref[i]);
    free(ref);
    tear_down();
}

static void full_in_flight(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    struct fst_message m;
    uint32_t n = 0;
    while (fst_share(a, &ref, &m) == FST_OK)
        n++;
    /* more than its share, so that is all that one sender has */
    CHECK_EQ(FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)), n);
    CHECK(strstr(fst_last_error(), "in-flight") != NULL);
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    fst_drop(a, &out);
    fst_drop(a, &ref);
    CHECK_EQ(FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)) - 1, fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false));
    tear_down();
}

/* Two threads drop the two references that one process has to an object, again and again. */
static struct fst_ref contended;

static void *drop_contended(void *barrier)
{
    for (int i = 0; i < 3000; i++) {
        pthread_barrier_wait(barrier);
        fst_drop(a, &contended);
        pthread_barrier_wait(barrier);
    }
    return NULL;
}

static void two_threads_drop(void)
{
    pthread_t t;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 2);
    set_up();
    pthread_create(&t, NULL, drop_contended, &barrier);
    for (int i = 0; i < 3000; i++) {
        struct fst_message m;
        contended = alloc_one(a, child);
        if (i & 1)
            fst_share(a, &contended, &m);
        fst_hold(a, &contended);
        pthread_barrier_wait(&barrier);
        fst_drop(a, &contended);
        pthread_barrier_wait(&barrier);
    }
    pthread_join(t, NULL);
    tear_down();
}

/* ---- many, sizes, alignments, content ---- */

static void alloc_many(void)
{
    static struct fst_ref ref[5000];
    size_t got;
    set_up();
    CHECK_EQ(FST_OK, fst_alloc_many(a, child, 5000, ref, &got));
    CHECK_EQ(5000, got);
    for (size_t i = 0; i < got; i++)
        fill(ref[i].data, 64, i);
    for (size_t i = 0; i < got; i++)
        CHECK(filled(ref[i].data, 64, i));
    for (size_t i = 0; i < got; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_OK, fst_alloc_many(a, child, 0, ref, &got));
    CHECK_EQ(0, got);
    /* As many as there is room for, and the reason why not more. */
    uint64_t big = root_child(a, "big", MIB, 0);
    CHECK_EQ(FST_FULL, fst_alloc_many(a, big, 100, ref, &got));
    CHECK(got >= 60 && got <= 64);
    for (size_t i = 0; i < got; i++)
        fst_drop(a, &ref[i]);
    tear_down();
}

static const uint64_t sizes[] = {0,    1,     7,     8,     9,     63,    64,    65,    80,     81,     1000,   4095,    4096,
                                 4097, 32767, 32768, 57344, 57345, 65535, 65536, 65537, 100000, 262144, 300001, MIB - 1, MIB};

/* The number of bytes that was asked for arrives exactly, from every size class, in another
 * process. */
static void size_classes(void)
{
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(receive, post);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fst_ref ref = alloc_bytes(a, sizes[i]);
        CHECK_EQ(sizes[i], ref.nbytes);
        post->nbytes = sizes[i];
        post->seed = i;
        fill(ref.data, sizes[i], i);
        fst_share(a, &ref, &post->m);
        fst_handle_of(a, &ref, &post->h);
        TELL(p, 't');
        TELL(p, 'd');
        TELL(p, 'h');
        fst_drop(a, &ref);
        TELL(p, 'd');
    }
    for (uint64_t n = 0; n <= 1500; n++) {
        struct fst_ref ref = alloc_bytes(a, n), other = alloc_bytes(a, n);
        CHECK_EQ(n, ref.nbytes);
        fill(ref.data, n, n);
        fill(other.data, n, n + 1);
        CHECK(filled(ref.data, n, n));
        fst_drop(a, &ref);
        fst_drop(a, &other);
    }
    struct fst_ref out;
    CHECK_EQ(FST_FULL, fst_alloc_bytes(a, fst_group_root(a), UINT64_MAX, &out));
    CHECK_EQ(FST_FULL, fst_alloc_bytes(a, fst_group_root(a), 1ull << 63, &out));
    CHECK_EQ(FST_FULL, fst_alloc_bytes(a, fst_group_root(a), 64 * MIB + 1, &out));
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

/* Runs of many extents and zones, up to the whole arena. */
static void large_runs(void)
{
    a = anonymous(100 * MIB);
    for (int round = 0; round < 3; round++) {
        struct fst_ref x = alloc_bytes(a, 40 * MIB + 1), y = alloc_bytes(a, 20 * MIB), none;
        memset(x.data, 0xaa, x.nbytes);
        memset(y.data, 0x55, y.nbytes);
        CHECK(((uint8_t *)x.data)[x.nbytes - 1] == 0xaa && ((uint8_t *)x.data)[0] == 0xaa);
        CHECK_EQ(FST_FULL, fst_alloc_bytes(a, fst_group_root(a), 60 * MIB, &none));
        fst_drop(a, &x);
        fst_drop(a, &y);
        settle(a);
        CHECK_EQ(0, used_bytes(a));
        x = alloc_bytes(a, 100 * MIB);
        ((uint8_t *)x.data)[100 * MIB - 1] = 1;
        fst_drop(a, &x);
        settle(a);
    }
    uint64_t bytes;
    CHECK_EQ(FST_OK, fst_shrink(a, 5000000000u, &bytes));
    CHECK_EQ(100 * MIB, bytes);
    struct fst_ref x = alloc_bytes(a, 50 * MIB);
    CHECK_EQ(0, ((uint8_t *)x.data)[MIB]); /* holes read as zeros */
    fst_drop(a, &x);
    tear_down();
}

static void alignments(void)
{
    a = anonymous(64 * MIB);
    for (uint64_t align = 8; align <= FST_ALIGN_MAX; align *= 2) {
        char name[32];
        snprintf(name, sizeof name, "align-%llu", (unsigned long long)align);
        struct fst_cache_spec spec = {.name = name, .size = align + 3, .align = align};
        uint64_t cache = 0;
        struct fst_ref ref[5];
        CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
        child = child_of(a, cache, fst_group_root(a));
        for (int i = 0; i < 5; i++) {
            ref[i] = alloc_one(a, child);
            CHECK_EQ(0, (uintptr_t)ref[i].data % align);
            fill(ref[i].data, align + 3, (uint64_t)i);
        }
        for (int i = 0; i < 5; i++) {
            CHECK(filled(ref[i].data, align + 3, (uint64_t)i));
            fst_drop(a, &ref[i]);
        }
        settle(a);
    }
    tear_down();
}

static void initial_content(void)
{
    char init[100];
    fill(init, sizeof init, 21);
    for (uint32_t flags = 0; flags <= FST_CACHE_TYPESAFE_BY_RCU; flags += FST_CACHE_TYPESAFE_BY_RCU) {
        a = anonymous(64 * MIB);
        struct fst_cache_spec spec = {.name = "i", .size = 200, .init = init, .init_bytes = sizeof init, .flags = flags};
        uint64_t cache = 0;
        static const char zeros[100];
        CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
        uint64_t base = used_bytes(a);
        child = child_of(a, cache, fst_group_root(a));
        for (int round = 0; round < 3; round++) {
            struct fst_ref ref[300];
            for (int i = 0; i < 300; i++) {
                ref[i] = alloc_one(a, child);
                if (flags && round)
                    continue; /* reused at once, with what was in it */
                CHECK(filled(ref[i].data, 100, 21));
                CHECK(memcmp((char *)ref[i].data + 100, zeros, 100) == 0);
            }
            for (int i = 0; i < 300; i++) {
                if (!flags)
                    memset(ref[i].data, 0xff, 200);
                fst_drop(a, &ref[i]);
            }
        }
        settle(a);
        CHECK_EQ(base, used_bytes(a));
        CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
        tear_down();
    }
}

/* TYPESAFE_BY_RCU: a lookup that never writes finds, inside its section, an object of the type
 * with a generation to compare. */
struct typed {
    uint64_t type, key;
};

static void typed_reader(struct peer *parent, void *context)
{
    uint8_t **slots = context;
    uint64_t looked = 0;
    peer_say(parent, 'r');
    for (;;) {
        fst_read_lock(a);
        struct typed *t = __atomic_load_n((struct typed **)(void *)&slots[looked % 64], __ATOMIC_ACQUIRE);
        if (t)
            CHECK_EQ(0x1234567, __atomic_load_n(&t->type, __ATOMIC_RELAXED));
        fst_read_unlock(a);
        looked++;
        if (atomic_load(&test_failures))
            peer_say(parent, 'x');
    }
}

static void typesafe(void)
{
    struct typed **slots = shared_memory(64 * sizeof *slots);
    struct fst_ref ref[64];
    a = anonymous(4 * MIB);
    struct typed init = {.type = 0x1234567};
    struct fst_cache_spec spec = {
        .name = "t", .size = sizeof init, .init = &init, .init_bytes = sizeof init, .flags = FST_CACHE_TYPESAFE_BY_RCU};
    uint64_t cache = 0, bytes;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
    uint64_t base = used_bytes(a); /* the initial content */
    child = child_of(a, cache, fst_group_root(a));
    struct peer p = peer_start(typed_reader, slots);
    PEER_WAIT(&p, 'r');
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 64; i++) {
            ref[i] = alloc_one(a, child);
            struct typed *t = ref[i].data;
            CHECK_EQ(0x1234567, t->type);
            t->key = (uint64_t)round;
            __atomic_store_n(&slots[i], t, __ATOMIC_RELEASE);
        }
        for (int i = 0; i < 64; i++) {
            __atomic_store_n(&slots[i], NULL, __ATOMIC_RELEASE);
            fst_drop(a, &ref[i]);
        }
        do /* it does not wait for ever: the reader may have been preempted inside its section */
            CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
        while (used_bytes(a) > base);
        struct fst_ref other = alloc_bytes(a, 3 * MIB); /* the same pages, as another type */
        memset(other.data, 0xee, other.nbytes);
        fst_drop(a, &other);
        settle(a);
    }
    kill(p.pid, SIGKILL);
    CHECK_EQ(p.pid, waitpid(p.pid, NULL, 0));
    CHECK_EQ(0, peer_hear(&p)); /* not an x */
    close(p.in);
    close(p.out);
    settle(a);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    tear_down();
    munmap(slots, 64 * sizeof *slots);
}

#define STREAM_ROUNDS 20

/* Many messages one after the other through one reader; everything in flight arrives. */
static void stream(void)
{
    SKIP_UNDER_THREAD_SANITIZER();
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(receive, post);
    for (int round = 0; round < STREAM_ROUNDS; round++) {
        post->count = 1000;
        for (uint64_t i = 0; i < post->count; i++) {
            struct fst_ref ref = alloc_bytes(a, i % 3000);
            fill(ref.data, i % 3000, i);
            CHECK_EQ(FST_OK, fst_share(a, &ref, &post->many[i]));
            fst_drop(a, &ref);
        }
        TELL(p, 'm');
    }
    peer_end(&p);
    CHECK_EQ(0, state_of(a).in_flight);
    tear_down();
    munmap(post, sizeof *post);
}

static void readonly(void)
{
    const char *path = new_path("ro");
    int up[2];
    REQUIRE(pipe(up) == 0);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct fst_message m;
        struct fst_ref out;
        struct fst_open_options o = {.path = path, .create = FST_OPEN_EXISTING, .readonly = true};
        CHECK_EQ(sizeof m, (size_t)read(up[0], &m, sizeof m));
        REQUIRE(fst_arena_open(&o, &a) == FST_OK);
        CHECK_EQ(FST_OK, fst_take(a, &m, &out));
        CHECK(filled(out.data, 64, 31));
        CHECK_EQ(FST_READONLY, fst_free(a, &out));
        struct fst_ref none;
        CHECK_EQ(FST_READONLY, fst_alloc_bytes(a, fst_group_root(a), 8, &none));
        CHECK_EQ(FST_READONLY, fst_group_destroy(a, fst_group_root(a)));
        uint64_t ids[8];
        CHECK(fst_cache_list(a, ids, 8) > 0);
        CHECK_EQ(FST_READONLY, fst_cache_destroy(a, ids[0], NULL));
        fst_drop(a, &out);
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    a = open_named(path);
    struct fst_ref ref = alloc_one(a, root_child(a, "c", 64, 0));
    struct fst_message m;
    fill(ref.data, 64, 31);
    fst_share(a, &ref, &m);
    CHECK_EQ(sizeof m, (size_t)write(up[1], &m, sizeof m));
    CHECK_CHILD(pid);
    fst_drop(a, &ref);
    close(up[0]);
    close(up[1]);
    tear_down();
    CHECK(access(path, F_OK) != 0);
}

TEST_MAIN(CASE(alloc_and_drop), CASE(hold_counts), CASE(revive_uses_one_entry), CASE(full_reference_table), CASE(full_in_flight),
          CASE(two_threads_drop), CASE(alloc_many), CASE(size_classes), CASE(large_runs), CASE(alignments), CASE(initial_content),
          CASE(typesafe), CASE(stream), CASE(readonly))
