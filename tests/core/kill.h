/* kill.h - what the tests that kill at every point share: a survivor that holds objects and looks,
 * and victims.
 *
 * The survivor has no reaper thread, so that every step of an operation is the victim's. A victim
 * is forked from it, prepares, and runs an operation (kill_operations.h) in which it is killed; up
 * to two are under way at once, each with a struct work of its own. After a kill the survivor must
 * find a clean arena at once, its bytes, every operation working (an alarm ends a wait that does
 * not), and after everything is dropped and two batches, exactly what it began with.
 */
#ifndef FST_TEST_KILL_H
#define FST_TEST_KILL_H

#include <pthread.h>
#include <sys/prctl.h>

/* All that the operations need: below, `a` is the arena, and inline functions have parameters of
 * that name. */
#include "alloc/active.h"
#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/children.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "arena/folder.h"
#include "platform/atomics.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "refs/word.h"
#include "region/lock.h"
#include "support.h"

#define HELD     30
#define VICTIMS  2
#define PATIENCE 30 /* seconds until a wait counts as endless */

static fst_arena *a;
static char path[128];
static uint64_t pool, pool_cache, typed_cache, root;
static struct fst_ref held[HELD];
static struct state base;
static uint64_t base_caches[16], base_groups[16];

/* What an operation's steps hand to each other; the survivor's and the victim's copies part at
 * the fork. */
static struct work {
    struct fst_ref ref, more[40];
    struct fst_message message, group_message;
    struct fst_handle handle;
    uint64_t cache, child, group, bytes;
    uint64_t point; /* where the victim dies */
    int n, number;
    char other_path[192];
} work[VICTIMS], *w = work;

/* Written by victims. */
static struct {
    uint64_t passed;
    uint32_t done, prepared, gave_way;
} * report;

struct operation {
    const char *name;
    void (*before)(void);  /* in the survivor */
    void (*prepare)(void); /* in the victim */
    void (*run)(void);     /* in the victim, armed */
    void (*after)(void);   /* in the survivor: let go of what `before` took */
    /* the survivor only waits: its own operations would ask for what nobody else asks for */
    bool quiet;
};

static char doing[256]; /* for messages */

static void give_up(int signal)
{
    (void)signal;
    fprintf(stderr, "# %s: a survivor waits for ever\n", doing);
    _exit(1);
}

/* A victim beside another one may find that the other has taken what it wanted; it ends there,
 * and that is counted. */
static bool may_give_way;

static void give_way(int rc, const char *what)
{
    if (may_give_way) {
        report[w->number].gave_way = 1;
        report[w->number].done = 1;
        _exit(0);
    }
    TEST_FAIL("%s gave %d: %s", what, rc, fst_last_error());
}

#define MUST(call)                \
    do {                          \
        int rc_ = (call);         \
        if (rc_)                  \
            give_way(rc_, #call); \
    } while (0)

/* A name of this victim's own. */
static const char *named(const char *what)
{
    static char name[64];
    snprintf(name, sizeof name, "%s%d", what, w->number);
    return name;
}

/* ---- the survivor ---- */

static void start(void)
{
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* a victim's children are ours to wait for */
    signal(SIGALRM, give_up);
    report = shared_memory(VICTIMS * sizeof *report);
    snprintf(path, sizeof path, "%s", new_path("kill"));
    a = open_named(path);
    fst_reaper_stop(a, true);
    root = fst_group_root(a);
    pool_cache = make_cache(a, "pool", 1000, 0);
    pool = child_of(a, pool_cache, root);
    typed_cache = make_cache(a, "typed", 500, FST_CACHE_TYPESAFE_BY_RCU);
    for (uint64_t i = 0; i < HELD; i++) {
        held[i] = i % 3 ? alloc_one(a, pool) : alloc_bytes(a, i * i * i * 4);
        fill(held[i].data, held[i].nbytes, i);
    }
    settle(a);
    base = state_of(a);
    CHECK(fst_cache_list(a, base_caches, 16) <= 16);
    fst_group_list(a, base_groups, 16);
}

static bool listed(uint64_t id, const uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Caches outlive who made them, lasting groups too. */
static void remove_leftovers(void)
{
    uint64_t ids[64];
    size_t n = fst_group_list(a, ids, 64);
    for (size_t i = 0; i < n && i < 64; i++)
        if (!listed(ids[i], base_groups, base.groups))
            fst_group_destroy(a, ids[i]);
    n = fst_cache_list(a, ids, 64);
    for (size_t i = 0; i < n && i < 64; i++) {
        if (listed(ids[i], base_caches, base.caches))
            continue;
        int rc = fst_cache_destroy(a, ids[i], NULL);
        if (rc != FST_OK && rc != FST_CLOSED)
            TEST_FAIL("a cache cannot be destroyed: %s", fst_last_error());
    }
}

static void every_operation_works(void)
{
    struct fst_ref ref[20], out;
    struct fst_message m;
    struct fst_handle h;
    for (uint64_t i = 0; i < 20; i++) {
        ref[i] = alloc_one(a, pool);
        fill(ref[i].data, 1000, i);
    }
    CHECK_EQ(FST_OK, fst_share(a, &ref[0], &m));
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    fst_drop(a, &out);
    fst_handle_of(a, &ref[1], &h);
    CHECK_EQ(FST_OK, fst_resolve(a, &h, &out));
    fst_drop(a, &out);
    for (uint64_t i = 0; i < 20; i++) {
        CHECK(filled(ref[i].data, 1000, i));
        fst_drop(a, &ref[i]);
    }
    out = alloc_bytes(a, 300000);
    fst_drop(a, &out);
    uint64_t cache = make_cache(a, "survivor", 40, 0), group = make_group(a, "survivor", root, MIB, 0);
    out = alloc_one(a, child_of(a, cache, group));
    CHECK_EQ(FST_OK, fst_free(a, &out));
    fst_drop(a, &out);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
}

static void check_held(void)
{
    for (uint64_t i = 0; i < HELD; i++)
        CHECK(filled(held[i].data, held[i].nbytes, i));
}

/* Whoever was killed while writing a record of a burial has left none, or the next has finished
 * it. */
static void check_burials(void)
{
    struct fst_burial_info b[64];
    size_t n = fst_burial_list(a, b, 64);
    for (size_t i = 0; i < n; i++) {
        CHECK(b[i].pid > 0 && b[i].noticed_at && b[i].finished_at >= b[i].noticed_at);
        CHECK(b[i].objects < 1000 && b[i].groups < 10 && b[i].bytes < 64 * MIB);
        CHECK(b[i].number <= fst_burial_count(a) && (i == 0 || b[i].number < b[i - 1].number));
    }
}

/* What the survivor must find after kills in these operations. */
static void look(const struct operation *const *o, int count)
{
    bool quiet = false;
    for (int i = 0; i < count; i++)
        quiet |= o[i]->quiet;
    CHECK_CLEAN(a);
    check_held();
    if (!quiet)
        every_operation_works();
    check_held();
    for (int i = 0; i < count; i++) {
        w = &work[i];
        if (o[i]->after)
            o[i]->after();
    }
    settle(a);
    remove_leftovers();
    settle(a);
    CHECK_STATE(base, state_of(a));
    check_burials();
    check_held();
    CHECK_CLEAN(a);
}

/* ---- victims ---- */

/* In the survivor, before the i-th victim of the operation is forked. */
static void before_victim(const struct operation *o, int i, uint64_t point)
{
    w = &work[i];
    memset(w, 0, sizeof *w);
    w->number = i;
    w->point = point;
    snprintf(w->other_path, sizeof w->other_path, "%s-other%d", path, i);
    memset(&report[i], 0, sizeof report[i]);
    if (o->before)
        o->before();
}

/* Fork the i-th victim; it prepares, waits until *go (NULL: not at all), and runs the operation. */
static pid_t start_victim(const struct operation *o, int i, const uint32_t *go)
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid)
        return pid;
    w = &work[i];
    atomic_store(&test_failures, 0);
    alarm(PATIENCE);
    fst_reaper_stop(a, true);
    if (o->prepare)
        o->prepare();
    __atomic_store_n(&report[i].prepared, 1, __ATOMIC_SEQ_CST);
    while (go && !__atomic_load_n(go, __ATOMIC_SEQ_CST))
        fst_pause();
    fst_fault_arm(w->point);
    o->run();
    if (fst_fault_passed() > report[i].passed)
        report[i].passed = fst_fault_passed();
    if (w->point == 0 && report[i].passed == 0) /* nothing to be killed at: then right after it */
        kill(getpid(), SIGKILL);
    report[i].done = 1;
    _exit(atomic_load(&test_failures) != 0);
}

HELPER void wait_until_prepared(pid_t pid, int i)
{
    while (!__atomic_load_n(&report[i].prepared, __ATOMIC_SEQ_CST) && !__atomic_load_n(&report[i].gave_way, __ATOMIC_SEQ_CST)) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
            return;
        usleep(50);
    }
}

/* True: it was killed where it should be. */
HELPER bool end_victim(pid_t pid, int i)
{
    int status = 0;
    waitpid(pid, &status, 0);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (!killed && status != 0)
        TEST_FAIL("the victim ended with status 0x%x", (unsigned)status);
    CHECK_EQ(killed, !report[i].done);
    return killed;
}

HELPER void reap_victims_children(void)
{
    while (waitpid(-1, NULL, 0) > 0) {
    }
}

#endif
