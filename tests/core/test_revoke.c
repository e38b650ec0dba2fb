/* Slabs are taken from the threads that own them: alloc/revoke.h. */
#include <sys/syscall.h>
#include <sys/wait.h>

#include "alloc/registry.h"
#include "alloc/slab.h"
#include "confined.h"
#include "refs/word.h"
#include "support.h"

#define SIZE 64

static fst_arena *a;
static uint64_t cache, child;

static void set_up(uint64_t bytes)
{
    a = anonymous(bytes);
    cache = make_cache(a, "c", SIZE, 0);
    child = child_of(a, cache, fst_group_root(a));
}

static void tear_down(void)
{
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static uint64_t owner_of(const struct fst_ref *ref)
{
    return fst_slab_at(a, fst_oid_slab(ref->oid))->owner;
}

/* ---- without membarrier ---- */

static void confined(struct peer *parent, void *context)
{
    static struct fst_ref ref[2000];
    uint64_t bytes;
    int n = 0;
    forbid_call(__NR_membarrier);
    PEER_WAIT(parent, 'o');
    a = open_named((const char *)context);
    cache = make_cache(a, "c", SIZE, 0);
    child = child_of(a, cache, fst_group_root(a));
    for (int round = 0; round < 3; round++) { /* it allocates and drops like any other */
        for (n = 0; n < 500; n++)
            fill((ref[n] = alloc_one(a, child)).data, SIZE, (uint64_t)n);
        for (int i = 0; i < n; i++) {
            CHECK(filled(ref[i].data, SIZE, (uint64_t)i));
            fst_drop(a, &ref[i]);
        }
    }
    CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes)); /* what it owns itself it can give back */
    CHECK_EQ(0, used_bytes(a));
    ref[0] = alloc_one(a, child);
    CHECK_EQ(1, fst_slab_at(a, fst_oid_slab(ref[0].oid))->fenced);
    fst_drop(a, &ref[0]);
    peer_say(parent, 'k');
    PEER_WAIT(parent, 's'); /* an empty slab that it owned was taken from it */
    CHECK_EQ(0, used_bytes(a));
    ref[0] = alloc_one(a, child);
    fst_drop(a, &ref[0]);
    peer_say(parent, 'k');
    PEER_WAIT(parent, 'e');
    fst_arena_unref(a);
}

/* First of all: a process asks once whether it can be had. */
static void without_membarrier(void)
{
    char *path = shared_memory(128);
    uint64_t bytes;
    snprintf(path, 128, "%s", new_path("confined"));
    struct peer p = peer_start(confined, path);
    a = open_named(path);
    cache = make_cache(a, "c", SIZE, 0);
    child = child_of(a, cache, fst_group_root(a));
    TELL(p, 'o');
    CHECK(used_bytes(a) > 0);
    CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
    CHECK_EQ(0, used_bytes(a));
    TELL(p, 's');
    peer_say(&p, 'e');
    peer_end(&p);
    tear_down();
}

static void destroys_confined(struct peer *parent, void *context)
{
    forbid_call(__NR_membarrier);
    PEER_WAIT(parent, 'd');
    a = open_named((const char *)context);
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    settle(a);
    CHECK(used_bytes(a) > 0);
    CHECK_EQ(FST_ENDED_SLABS_LATER, a->sb->ended_slabs); /* so its reaper thread sleeps */
    peer_say(parent, 'k');
    PEER_WAIT(parent, 's');
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(FST_ENDED_SLABS_NONE, a->sb->ended_slabs);
    peer_say(parent, 'k');
    PEER_WAIT(parent, 'e');
    fst_arena_unref(a);
}

/* Who ends a group and cannot make the owner of its empty slab let go of it neither waits nor
 * tries again and again. The owner lets go of it when it allocates in vain. */
static void ended_beside_an_owner(void)
{
    char *path = shared_memory(128);
    snprintf(path, 128, "%s", new_path("destroys"));
    struct peer p = peer_start(destroys_confined, path);
    a = open_named(path);
    cache = make_cache(a, "c", SIZE, 0);
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    child = child_of(a, cache, group);
    struct fst_ref ref = alloc_one(a, child);
    CHECK_EQ(0, fst_slab_at(a, fst_oid_slab(ref.oid))->fenced);
    fst_drop(a, &ref);
    TELL(p, 'd');
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &ref));
    TELL(p, 's');
    fst_group_unref(a, group);
    peer_say(&p, 'e');
    peer_end(&p);
    tear_down();
}

/* ---- taken away ---- */

#define ALL (64 * 1024 / SIZE)

static struct fst_ref theirs[ALL + 1];
static size_t taken;

static void *take_what_there_is(void *unused)
{
    (void)unused;
    while (taken <= ALL && fst_alloc(a, child, &theirs[taken]) == FST_OK)
        taken++;
    return NULL;
}

/* How many objects another thread gets, which is gone then, and its slabs nobody's. */
static size_t taken_by_another(void)
{
    pthread_t t;
    size_t before = taken;
    REQUIRE(pthread_create(&t, NULL, take_what_there_is, NULL) == 0);
    pthread_join(t, NULL);
    return taken - before;
}

/* What its owner frees in a slab that was taken from it is found by whoever looks for it. */
static void freed_after_it_was_taken(void)
{
    static struct fst_ref ref[ALL];
    size_t n = 0;
    set_up(64 * 1024);
    while (n < ALL && fst_alloc(a, child, &ref[n]) == FST_OK)
        n++;
    CHECK_EQ(ALL, n);
    fst_drop(a, &ref[--n]);
    CHECK(owner_of(&ref[n - 1]) != 0);
    CHECK_EQ(1, taken_by_another());
    CHECK_EQ(0, owner_of(&ref[n - 1]));
    while (n > ALL / 2) {
        fst_drop(a, &ref[--n]);
        CHECK_EQ(1, taken_by_another());
    }
    while (n)
        fst_drop(a, &ref[--n]);
    CHECK_EQ(ALL / 2, taken_by_another());
    while (taken)
        fst_drop(a, &theirs[--taken]);
    tear_down();
}

/* ---- stopped while it allocates ---- */

struct stop {
    uint64_t point; /* the write after which it stops */
    bool stopped;   /* there was such a point */
};

static void stop_and_go_on(struct peer *parent, void *context)
{
    struct stop *s = context;
    struct fst_ref ref = alloc_one(a, child);
    fst_drop(a, &ref);
    peer_say(parent, 'r');
    PEER_WAIT(parent, 'g');
    fst_fault_stop(s->point);
    ref = alloc_one(a, child);
    s->stopped = fst_fault_passed() >= s->point;
    fst_fault_stop(0);
    fill(ref.data, SIZE, 9);
    peer_say(parent, 'a');
    PEER_WAIT(parent, 'd');
    CHECK(filled(ref.data, SIZE, 9));
    fst_drop(a, &ref);
    peer_say(parent, 'd');
    peer_hear(parent);
}

static void wait_until_stopped(const struct peer *p)
{
    int status = 0;
    CHECK(waitpid(p->pid, &status, WUNTRACED) == p->pid);
    CHECK(WIFSTOPPED(status));
}

static void other_objects(struct fst_ref *ref, size_t n, size_t missing)
{
    size_t got = 0;
    while (got < n && fst_alloc(a, child, &ref[got]) == FST_OK)
        fill(ref[got].data, SIZE, got), got++;
    CHECK(got + missing == n);
    for (size_t i = 0; i < got; i++) {
        CHECK(filled(ref[i].data, SIZE, i));
        fst_drop(a, &ref[i]);
    }
}

/* Its slab is left to it, whatever others need; all else goes on, and so does it. */
static void stopped_while_it_allocates(void)
{
    static struct fst_ref ref[64 * 1024 / SIZE];
    struct stop *s = shared_memory(sizeof *s);
    uint64_t bytes;
    if (!fst_has_fault_points())
        return;
    s->stopped = true;
    for (s->point = 1; s->stopped; s->point++) {
        set_up(64 * 1024);
        struct peer p = peer_start(stop_and_go_on, s);
        PEER_WAIT(&p, 'r');
        peer_say(&p, 'g');
        if (s->point > 8)
            break;
        /* it says that it allocates, entry, word; and then that it is done */
        bool inside = s->point <= 3;
        if (s->point <= 4) {
            wait_until_stopped(&p);
            CHECK_EQ(FST_OK, fst_cache_shrink(a, cache, &bytes));
            CHECK_EQ(inside || s->point == 4, used_bytes(a) > 0);
            other_objects(ref, sizeof ref / sizeof *ref, inside ? 64 * 1024 / SIZE / 16 : 1);
            CHECK_CLEAN(a);
            kill(p.pid, SIGCONT);
        }
        PEER_WAIT(&p, 'a');
        other_objects(ref, sizeof ref / sizeof *ref, 1);
        CHECK_CLEAN(a);
        peer_say(&p, 'd');
        PEER_WAIT(&p, 'd');
        peer_end(&p);
        tear_down();
    }
}

/* ---- all at once ---- */

#define ROUNDS 200000

static atomic_bool over;
static atomic_bool awaited; /* the slab was not taken away yet */

static void *own(void *seed)
{
    struct fst_ref ref[3];
    uint64_t random = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < ROUNDS || atomic_load(&awaited); i++) {
        uint64_t tag = next_random(&random);
        int n = 1 + (int)(tag % 3);
        for (int k = 0; k < n; k++)
            if (fst_alloc(a, child, &ref[k]) == FST_OK)
                ((_Atomic uint64_t *)ref[k].data)[0] = tag + (uint64_t)k;
            else
                n = k;
        for (int k = n; k-- > 0;) {
            CHECK_EQ(tag + (uint64_t)k, ((_Atomic uint64_t *)ref[k].data)[0]);
            fst_drop(a, &ref[k]);
        }
    }
    atomic_store(&over, true);
    return NULL;
}

/* One thread allocates as fast as it can, another takes its slab away whenever it is empty. */
static void shrinks_against_an_owner(void)
{
    pthread_t t;
    uint64_t bytes;
    set_up(MIB);
    atomic_store(&over, false);
    atomic_store(&awaited, true);
    REQUIRE(pthread_create(&t, NULL, own, (void *)1) == 0);
    while (!atomic_load(&over)) {
        fst_cache_shrink(a, cache, &bytes);
        if (bytes > 0)
            atomic_store(&awaited, false);
    }
    pthread_join(t, NULL);
    tear_down();
}

/* Two that have one slab between them: each takes it from the other. */
static void thieves(void)
{
    pthread_t t[2];
    set_up(4096);
    for (int i = 0; i < 2; i++)
        REQUIRE(pthread_create(&t[i], NULL, own, (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    tear_down();
}

static void thief(struct peer *parent, void *context)
{
    own(context);
    peer_say(parent, 'k');
}

/* The same in two processes: after the first times they share it. */
static void thieves_of_two_processes(void)
{
    SKIP_UNDER_THREAD_SANITIZER();
    set_up(4096);
    struct peer p[2] = {peer_start(thief, (void *)1), peer_start(thief, (void *)2)};
    for (int i = 0; i < 2; i++) {
        PEER_WAIT(&p[i], 'k');
        peer_end(&p[i]);
    }
    tear_down();
}

TEST_MAIN(CASE(without_membarrier), CASE(ended_beside_an_owner), CASE(freed_after_it_was_taken), CASE(stopped_while_it_allocates),
          CASE(shrinks_against_an_owner), CASE(thieves), CASE(thieves_of_two_processes))
