/* Slabs: shapes, who allocates from which, when they are given back. */
#include <pthread.h>

#include "alloc/child.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "alloc/slab.h"
#include "refs/word.h"
#include "support.h"

#define MANY 3000

static fst_arena *a;

static void shapes(void)
{
    for (uint64_t size = 1; size <= 300000; size += size < 600 ? 1 : 997) {
        for (uint64_t align = 8; align <= 65536; align *= 2) {
            struct fst_shape s = fst_shape_of(size, align, 0);
            uint64_t bytes = (uint64_t)s.pages << FST_PAGE_SHIFT;
            CHECK(s.stride >= size && s.stride % align == 0 && s.stride < size + align);
            CHECK(s.objects >= 1 && s.objects <= 512 && s.objects * s.stride <= bytes);
            CHECK(s.objects <= fst_slab_class_words[s.slab_class]);
            CHECK((FST_PAGE << s.align_order) >= align || align <= FST_PAGE);
            CHECK(s.objects == 1 || bytes <= 65536 + FST_PAGE);
            CHECK(s.objects == 1 || s.stride <= 65536 / 2);
        }
    }
    CHECK_EQ(8, fst_shape_align(1));
    CHECK_EQ(16, fst_shape_align(48));
    CHECK_EQ(64, fst_shape_align(4096));
}

/* Objects of a slab do not overlap, and keep what is written to them. */
static void contents(uint64_t size)
{
    static struct fst_ref ref[MANY];
    a = anonymous(64 * MIB);
    uint64_t child = root_child(a, "c", size, 0);
    int n = size > 4096 ? 100 : MANY;
    for (int i = 0; i < n; i++) {
        ref[i] = alloc_one(a, child);
        CHECK_EQ(size, ref[i].nbytes);
        fill(ref[i].data, size, (uint64_t)i * 7919);
    }
    for (int i = 0; i < n; i++)
        CHECK(filled(ref[i].data, size, (uint64_t)i * 7919));
    CHECK_CLEAN(a);
    for (int i = 0; i < n; i += 2)
        fst_drop(a, &ref[i]);
    for (int i = 0; i < n; i += 2) {
        ref[i] = alloc_one(a, child);
        fill(ref[i].data, size, (uint64_t)i * 7919);
    }
    uint64_t full = used_bytes(a);
    for (int i = 0; i < n; i++)
        CHECK(filled(ref[i].data, size, (uint64_t)i * 7919));
    for (int i = 0; i < n; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK(full > 0);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void contents_of_all_sizes(void)
{
    static const uint64_t sizes[] = {1, 8, 9, 63, 64, 100, 512, 513, 4095, 4096, 4097, 30000, 32768, 32769, 65536, 65537, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        contents(sizes[i]);
}

/* Freed objects are used again before another slab is taken. */
static void reuse(void)
{
    a = anonymous(64 * MIB);
    uint64_t child = root_child(a, "c", 128, 0);
    struct fst_ref ref = alloc_one(a, child);
    uint64_t used = used_bytes(a);
    for (int i = 0; i < 100000; i++) {
        fst_drop(a, &ref);
        ref = alloc_one(a, child);
    }
    CHECK_EQ(used, used_bytes(a));
    fst_drop(a, &ref);
    fst_arena_unref(a);
}

static void *alloc_in_thread(void *context)
{
    *(struct fst_ref *)context = alloc_one(a, *(uint64_t *)((struct fst_ref *)context + 1));
    return NULL;
}

/* A full arena is full only when no slab has a free object, other threads' active slabs
 * included. */
static void no_object_is_forgotten(void)
{
    static struct fst_ref ref[70000];
    struct {
        struct fst_ref ref;
        uint64_t child;
    } other;
    pthread_t t;
    size_t n = 0, objects;
    a = anonymous(MIB);
    uint64_t child = other.child = root_child(a, "c", 64, 0);
    while (fst_alloc(a, child, &ref[n]) == FST_OK)
        n++;
    CHECK_EQ(MIB, used_bytes(a));
    objects = n;
    CHECK_EQ(MIB / 64, objects);
    CHECK_EQ(FST_FULL, fst_alloc(a, child, &ref[n]));
    /* Another thread finds the one object that this thread has given back to its own active
     * slab, and to one it has let go of. */
    for (size_t i = 1; i <= n; i += n - 2) {
        fst_drop(a, &ref[n - i]);
        pthread_create(&t, NULL, alloc_in_thread, &other);
        pthread_join(t, NULL);
        CHECK_EQ(FST_FULL, fst_alloc(a, child, &ref[n - i]));
        fst_drop(a, &other.ref);
        ref[n - i] = alloc_one(a, child);
    }
    CHECK_CLEAN(a);
    for (size_t i = 0; i < n; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(0, used_bytes(a));
    fst_arena_unref(a);
}

static void stealer(struct peer *parent, void *context)
{
    uint64_t child = *(uint64_t *)context;
    struct fst_ref ref;
    PEER_WAIT(parent, 'g');
    CHECK_EQ(FST_OK, fst_alloc(a, child, &ref));
    fill(ref.data, 64, 5);
    peer_say(parent, 'a');
    PEER_WAIT(parent, 'd');
    CHECK(filled(ref.data, 64, 5));
    fst_drop(a, &ref);
    peer_say(parent, 'd');
    peer_hear(parent);
}

/* The same in another process; and what it drops comes back to the slab's owner. */
static void steal_from_a_process(void)
{
    static struct fst_ref ref[1200];
    a = anonymous(64 * 1024);
    uint64_t child = root_child(a, "c", 64, 0);
    struct peer p = peer_start(stealer, &child);
    size_t n = 0;
    while (fst_alloc(a, child, &ref[n]) == FST_OK)
        n++;
    CHECK_EQ(1024, n);
    fst_drop(a, &ref[n - 1]);
    peer_say(&p, 'g');
    PEER_WAIT(&p, 'a');
    CHECK_EQ(FST_FULL, fst_alloc(a, child, &ref[n - 1]));
    peer_say(&p, 'd');
    PEER_WAIT(&p, 'd');
    CHECK_EQ(FST_OK, fst_alloc(a, child, &ref[n - 1]));
    peer_end(&p);
    for (size_t i = 0; i < n; i++)
        fst_drop(a, &ref[i]);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void *exit_with_slab(void *child)
{
    for (int i = 0; i < 200; i++) {
        struct fst_ref ref = alloc_one(a, *(uint64_t *)child);
        fst_drop(a, &ref);
    }
    return NULL;
}

/* The slab of a thread that has ended is the next thread's. */
static void slabs_of_ended_threads(void)
{
    a = anonymous(16 * MIB);
    uint64_t child = root_child(a, "c", 64, 0);
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        pthread_create(&t, NULL, exit_with_slab, &child);
        pthread_join(t, NULL);
    }
    CHECK_EQ(1, fst_child_at(a, (uint32_t)child)->slabs);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A thread that ends gives back every reference entry that it kept for itself. */
static void *exit_with_entries(void *child)
{
    struct fst_ref ref[FST_THREAD_ENTRIES];
    for (uint32_t i = 0; i < FST_THREAD_ENTRIES; i++)
        ref[i] = alloc_one(a, *(uint64_t *)child);
    for (uint32_t i = 0; i < FST_THREAD_ENTRIES; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_THREAD_ENTRIES, fst_thread_get(a)->entry_count);
    return NULL;
}

static void entries_of_ended_threads(void)
{
    a = anonymous(16 * MIB);
    uint64_t child = root_child(a, "c", 64, 0);
    for (int i = 0; i < 100; i++) {
        pthread_t t;
        pthread_create(&t, NULL, exit_with_entries, &child);
        pthread_join(t, NULL);
    }
    CHECK(a->self->entry_top <= 2 * FST_THREAD_ENTRIES);
    fst_arena_unref(a);
}

/* ---- shrink ---- */

static void shrink_gives_empty_slabs_back(void)
{
    static struct fst_ref ref[MANY];
    uint64_t bytes;
    a = anonymous(64 * MIB);
    uint64_t cache = make_cache(a, "c", 64, 0), child = child_of(a, cache, fst_group_root(a));
    for (int i = 0; i < MANY; i++)
        ref[i] = alloc_one(a, child);
    uint64_t before = used_bytes(a);
    for (int i = 1; i < MANY; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
    CHECK(bytes > 0 && used_bytes(a) + bytes <= before);
    CHECK_EQ(fst_child_at(a, (uint32_t)child)->pages * (uint64_t)FST_PAGE, used_bytes(a));
    fill(ref[0].data, 64, 1);
    for (int i = 1; i < MANY; i++)
        ref[i] = alloc_one(a, child);
    CHECK(filled(ref[0].data, 64, 1));
    for (int i = 0; i < MANY; i++)
        fst_drop(a, &ref[i]);
    CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A thread's idea of its active slab outlives the slab: the descriptor is another cache's by
 * then, where another thread allocates. */
static void active_slab_is_gone(void)
{
    uint64_t bytes;
    struct {
        struct fst_ref ref;
        uint64_t child;
    } theirs;
    pthread_t t;
    a = anonymous(16 * MIB);
    uint64_t cache = make_cache(a, "c", 48, 0), child = child_of(a, cache, fst_group_root(a));
    theirs.child = root_child(a, "o", 56, 0);
    for (int i = 0; i < 3; i++) {
        struct fst_ref ref = alloc_one(a, child);
        uint32_t id = fst_oid_slab(ref.oid);
        fst_drop(a, &ref);
        CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
        REQUIRE(pthread_create(&t, NULL, alloc_in_thread, &theirs) == 0);
        pthread_join(t, NULL);
        CHECK_EQ(id, fst_oid_slab(theirs.ref.oid));
        fst_drop(a, &theirs.ref); /* so that the first word is free in either life */
        ref = alloc_one(a, child);
        CHECK_EQ((uint32_t)child, fst_slab_at(a, fst_oid_slab(ref.oid))->child);
        fst_drop(a, &ref);
        settle(a);
    }
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A slab of a TYPESAFE_BY_RCU cache waits for the readers before its memory is another type's; a
 * wait that is broken off loses nothing. */
static void typesafe_slab_waits(void)
{
    uint64_t bytes;
    a = anonymous(16 * MIB);
    uint64_t cache = make_cache(a, "t", 64, FST_CACHE_TYPESAFE_BY_RCU), child = child_of(a, cache, fst_group_root(a));
    struct peer p = peer_start(read_until_told, a); /* first, so that it has no reference */
    PEER_WAIT(&p, 'r');
    struct fst_ref ref = alloc_one(a, child);
    uint64_t used = used_bytes(a);
    fst_drop(a, &ref);
    CHECK_EQ(used, used_bytes(a));
    CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes)); /* gives up after its patience */
    CHECK_EQ(0, bytes);
    CHECK_EQ(used, used_bytes(a));
    CHECK_CLEAN(a);
    fst_barrier(a, 20000000);
    CHECK_EQ(used, used_bytes(a));
    peer_say(&p, 'g');
    PEER_WAIT(&p, 'l');
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    peer_end(&p);
    fst_arena_unref(a);
}

static void killed_shrinker(struct peer *parent, void *context)
{
    uint64_t bytes;
    peer_say(parent, 's');
    fst_cache_shrink(a, *(uint64_t *)context, &bytes);
    peer_say(parent, 'e');
}

/* The same when who waits is killed: its slab does not become another type's either. */
static void typesafe_slab_of_a_dead_shrinker(void)
{
    a = anonymous(16 * MIB);
    uint64_t cache = make_cache(a, "t", 64, FST_CACHE_TYPESAFE_BY_RCU), child = child_of(a, cache, fst_group_root(a));
    struct fst_ref ref = alloc_one(a, child);
    uint64_t used = used_bytes(a);
    fst_drop(a, &ref);
    struct peer p = peer_start(read_until_told, a);
    PEER_WAIT(&p, 'r');
    struct peer q = peer_start(killed_shrinker, &cache);
    PEER_WAIT(&q, 's');
    usleep(100000); /* it has begun to wait, or not: both are right */
    peer_kill(&q);
    fst_barrier(a, 100000000);
    CHECK_EQ(used, used_bytes(a));
    peer_say(&p, 'g');
    PEER_WAIT(&p, 'l');
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    peer_end(&p);
    fst_arena_unref(a);
}

/* ---- many threads ---- */

static uint64_t shared_child;

static void *churn(void *seed)
{
    struct fst_ref ref[64];
    uint64_t random = (uint64_t)(uintptr_t)seed, tag[64];
    int n = 0;
    for (int i = 0; i < 60000; i++) {
        uint64_t r = next_random(&random);
        if (n == 64 || (n && r & 1)) {
            int k = (int)((r >> 8) % (uint64_t)n);
            CHECK(filled(ref[k].data, 48, tag[k]));
            fst_drop(a, &ref[k]);
            ref[k] = ref[--n];
            tag[k] = tag[n];
        } else if (fst_alloc(a, shared_child, &ref[n]) == FST_OK) {
            tag[n] = r;
            fill(ref[n++].data, 48, r);
        }
    }
    while (n)
        fst_drop(a, &ref[--n]);
    return NULL;
}

static void churn_process(struct peer *parent, void *context)
{
    (void)context;
    pthread_t t;
    pthread_create(&t, NULL, churn, (void *)(uintptr_t)(getpid() + 1));
    churn((void *)(uintptr_t)getpid());
    pthread_join(t, NULL);
    peer_say(parent, 'd');
}

/* So little memory that they steal from each other all the time, and somebody shrinks meanwhile. */
static void churn_in_a_full_arena(void)
{
    SKIP_UNDER_THREAD_SANITIZER();
    uint64_t bytes;
    a = anonymous(16 * 1024);
    uint64_t cache = make_cache(a, "c", 48, 0);
    shared_child = child_of(a, cache, fst_group_root(a));
    struct peer p[2] = {peer_start(churn_process, NULL), peer_start(churn_process, NULL)};
    for (int i = 0; i < 2000; i++)
        fst_cache_shrink(a, cache, &bytes);
    for (int i = 0; i < 2; i++) {
        PEER_WAIT(&p[i], 'd');
        peer_end(&p[i]);
    }
    settle(a);
    CHECK_CLEAN(a);
    CHECK_EQ(0, used_bytes(a));
    fst_arena_unref(a);
}

TEST_MAIN(CASE(shapes), CASE(contents_of_all_sizes), CASE(reuse), CASE(no_object_is_forgotten), CASE(steal_from_a_process),
          CASE(slabs_of_ended_threads), CASE(entries_of_ended_threads), CASE(shrink_gives_empty_slabs_back),
          CASE(active_slab_is_gone), CASE(typesafe_slab_waits), CASE(typesafe_slab_of_a_dead_shrinker), CASE(churn_in_a_full_arena))
