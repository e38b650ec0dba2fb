/* support.h - what several tests of the core need: arenas with names of their own, processes that
 * talk over pipes, and the state that an arena has to come back to.
 *
 * A peer is a forked process. peer_say() and peer_hear() pass one byte each way, so that a test
 * puts the steps of two processes in an order without waiting for a time.
 */
#ifndef FST_TEST_SUPPORT_H
#define FST_TEST_SUPPORT_H

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "flagstone_test.h"
#include "harness.h"
#include "platform/atomics.h"
#include "refs/word.h"
#include "region/lock.h"

/* Not every test uses every helper. */
#define HELPER __attribute__((unused)) static

#define MIB (1ull << 20)

/* ---- arenas ---- */

/* A folder of this process's own on the tmpfs, because whoever opens an arena removes what
 * crashed processes left beside it. */
static char own_folder[48];

static pid_t folder_maker;

HELPER void remove_folder(void)
{
    if (folder_maker == getpid())
        rmdir(own_folder);
}

HELPER const char *folder(void)
{
    if (!own_folder[0]) {
        /* a pid may be another container's as well, or that of a killed run; where a run has a
         * folder, it removes what killed tests leave */
        const char *of_run = getenv("FST_TEST_FOLDER");
        snprintf(own_folder, sizeof own_folder, "%s/fst-ctest-XXXXXX", of_run ? of_run : "/dev/shm");
        REQUIRE(mkdtemp(own_folder) != NULL);
        folder_maker = getpid();
        atexit(remove_folder);
    }
    return own_folder;
}

HELPER const char *new_path(const char *what)
{
    static char path[8][128];
    static unsigned n;
    char *p = path[n++ % 8];
    snprintf(p, sizeof path[0], "%s/%s-%u", folder(), what, n);
    return p;
}

HELPER int try_open(const char *path, uint64_t capacity, enum fst_create how, fst_arena **out)
{
    struct fst_open_options o = {.path = path, .capacity = capacity, .create = how, .mode = 0600};
    return fst_arena_open(&o, out);
}

HELPER fst_arena *open_named(const char *path)
{
    fst_arena *a = NULL;
    REQUIRE(try_open(path, 64 * MIB, FST_OPEN_OR_CREATE, &a) == FST_OK);
    return a;
}

HELPER fst_arena *anonymous(uint64_t capacity)
{
    fst_arena *a = NULL;
    REQUIRE(try_open(NULL, capacity, FST_CREATE_NEW, &a) == FST_OK);
    return a;
}

HELPER uint64_t make_cache(fst_arena *a, const char *name, uint64_t size, uint32_t flags)
{
    struct fst_cache_spec spec = {.name = name, .size = size, .flags = flags};
    uint64_t cache = 0;
    if (fst_cache_open(a, &spec, &cache))
        TEST_FAIL("cache %s: %s", name, fst_last_error());
    return cache;
}

HELPER uint64_t child_of(fst_arena *a, uint64_t cache, uint64_t group)
{
    uint64_t child = 0;
    if (fst_child_open(a, cache, group, &child))
        TEST_FAIL("child: %s", fst_last_error());
    return child;
}

/* The child of a new cache in the root group. */
HELPER uint64_t root_child(fst_arena *a, const char *name, uint64_t size, uint32_t flags)
{
    return child_of(a, make_cache(a, name, size, flags), fst_group_root(a));
}

HELPER uint64_t make_group(fst_arena *a, const char *name, uint64_t parent, uint64_t limit, uint32_t flags)
{
    struct fst_group_spec spec = {
        .name = name, .parent = parent, .limit = limit, .set_limit = limit != FST_NO_LIMIT, .flags = flags};
    uint64_t group = 0;
    bool created;
    if (fst_group_open(a, &spec, &group, &created))
        TEST_FAIL("group %s: %s", name ? name : "(none)", fst_last_error());
    return group;
}

/* Of an object that the caller has a reference to. */
HELPER uint64_t generation_of(const struct fst_arena *a, const struct fst_ref *ref)
{
    return fst_word_gen(fst_load_acquire(fst_word_of(a, ref->oid)));
}

HELPER struct fst_ref alloc_one(fst_arena *a, uint64_t child)
{
    struct fst_ref ref = {0};
    if (fst_alloc(a, child, &ref)) {
        TEST_FAIL("alloc: %s", fst_last_error());
        _exit(1);
    }
    return ref;
}

HELPER struct fst_ref alloc_bytes(fst_arena *a, uint64_t nbytes)
{
    struct fst_ref ref = {0};
    if (fst_alloc_bytes(a, fst_group_root(a), nbytes, &ref)) {
        TEST_FAIL("alloc_bytes(%llu): %s", (unsigned long long)nbytes, fst_last_error());
        _exit(1);
    }
    return ref;
}

HELPER fst_channel_use *open_channel_as(fst_arena *a, const struct fst_channel_spec *spec)
{
    fst_channel_use *u = NULL;
    bool created;
    if (fst_channel_open(a, spec, FST_OPEN_OR_CREATE, &u, &created)) {
        TEST_FAIL("open: %s", fst_last_error());
        _exit(1);
    }
    return u;
}

/* ---- locks ---- */

/* Acquire, however long it takes. True: taken over from a dead owner. */
HELPER bool lock_word(fst_arena *a, uint32_t *word)
{
    struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = FST_FOREVER});
    bool taken_over = fst_lock_in_time(a, word) == FST_TRY_TAKEN_OVER;
    fst_wait_for(before);
    return taken_over;
}

/* ---- the state of an arena ---- */

HELPER void print_finding(void *context, const char *text)
{
    (void)context;
    fprintf(stderr, "# check: %s\n", text);
}
#define CHECK_CLEAN(arena) CHECK_EQ(0, fst_check((arena), print_finding, NULL))

HELPER uint64_t used_bytes(fst_arena *a)
{
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    return info.used;
}

/* What has to be the same again when everything was let go. */
struct state {
    uint64_t used, dropped, allocated;
    size_t caches, groups, processes, in_flight;
};

HELPER struct state state_of(fst_arena *a)
{
    struct fst_process_info p[64];
    struct state s = {.used = used_bytes(a)};
    uint64_t ids[64];
    s.caches = fst_cache_list(a, ids, 64);
    for (size_t i = 0; i < s.caches && i < 64; i++) {
        struct fst_cache_info info;
        if (fst_cache_get_info(a, ids[i], &info) == FST_OK)
            s.allocated += info.allocated;
    }
    s.groups = fst_group_list(a, NULL, 0);
    s.processes = fst_process_list(a, p, 64);
    for (size_t i = 0; i < s.processes && i < 64; i++)
        s.dropped += p[i].dropped;
    s.in_flight = fst_inflight_list(a, NULL, 0);
    return s;
}

#define CHECK_STATE(want, got)                \
    do {                                      \
        struct state w_ = (want), g_ = (got); \
        CHECK_EQ(w_.used, g_.used);           \
        CHECK_EQ(w_.dropped, g_.dropped);     \
        CHECK_EQ(w_.allocated, g_.allocated); \
        CHECK_EQ(w_.caches, g_.caches);       \
        CHECK_EQ(w_.groups, g_.groups);       \
        CHECK_EQ(w_.processes, g_.processes); \
        CHECK_EQ(w_.in_flight, g_.in_flight); \
    } while (0)

HELPER void settle(fst_arena *a)
{
    fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false);
    for (int i = 0; i < 2; i++)
        if (fst_barrier(a, FST_FOREVER))
            TEST_FAIL("barrier: %s", fst_last_error());
}

/* ---- bytes ---- */

HELPER void fill(void *data, uint64_t nbytes, uint64_t seed)
{
    uint8_t *p = data;
    for (uint64_t i = 0; i < nbytes; i++)
        p[i] = (uint8_t)((seed + i) * 0x9e3779b97f4a7c15ull >> 56);
}

HELPER bool filled(const void *data, uint64_t nbytes, uint64_t seed)
{
    const uint8_t *p = data;
    for (uint64_t i = 0; i < nbytes; i++)
        if (p[i] != (uint8_t)((seed + i) * 0x9e3779b97f4a7c15ull >> 56))
            return false;
    return true;
}

/* A reproducible stream of numbers (xorshift64*). */
HELPER uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dull;
}

/* ---- processes ---- */

struct peer {
    pid_t pid;
    int in, out; /* this side's ends */
};

/* Memory that forked processes share with this one, zeroed. */
HELPER void *shared_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(p != MAP_FAILED);
    return p;
}

HELPER void peer_say(const struct peer *p, char c)
{
    if (write(p->out, &c, 1) != 1)
        TEST_FAIL("peer %d does not listen", (int)p->pid);
}

/* The other side's next byte, 0 when it is gone. */
HELPER char peer_hear(const struct peer *p)
{
    char c = 0;
    ssize_t n;
    do
        n = read(p->in, &c, 1);
    while (n < 0 && errno == EINTR);
    return n == 1 ? c : 0;
}
#define PEER_WAIT(p, c) CHECK_EQ((c), peer_hear(p))

/* Ask for one step, and wait until the peer has done it. */
#define TELL(peer, c)            \
    do {                         \
        peer_say(&(peer), (c));  \
        PEER_WAIT(&(peer), 'k'); \
    } while (0)

HELPER struct peer peer_start(void (*body)(struct peer *parent, void *context), void *context)
{
    int down[2], up[2];
    pid_t before = getpid();
    REQUIRE(pipe(down) == 0 && pipe(up) == 0);
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct peer parent = {.pid = before, .in = down[0], .out = up[1]};
        /* A test that is broken off, as on a broken build, leaves nobody behind. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != before)
            _exit(1);
        close(down[1]);
        close(up[0]);
        atomic_store(&test_failures, 0);
        body(&parent, context);
        CHILD_EXIT();
    }
    close(down[0]);
    close(up[1]);
    return (struct peer){.pid = pid, .in = up[0], .out = down[1]};
}

/* The peer ends by itself. */
HELPER void peer_end(struct peer *p)
{
    close(p->out);
    CHECK_CHILD(p->pid);
    close(p->in);
}

HELPER void peer_kill(struct peer *p)
{
    int status = 0;
    kill(p->pid, SIGKILL);
    CHECK(test_wait(p->pid, &status) == p->pid);
    close(p->in);
    close(p->out);
}

/* A peer, whose context is the arena: in a read-side section until it is told to leave it. */
HELPER void read_until_told(struct peer *parent, void *context)
{
    CHECK_EQ(FST_OK, fst_read_lock(context));
    peer_say(parent, 'r');
    peer_hear(parent);
    CHECK_EQ(FST_OK, fst_read_unlock(context));
    peer_say(parent, 'l');
    peer_hear(parent);
}

#endif
