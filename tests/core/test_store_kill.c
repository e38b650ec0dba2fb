/* Stores and kills: a process is killed, or stopped, at each of its writes in put, replace, look up
 * and the rest, and the batch that buries it at some of its own; others go on: they find all of a
 * change or nothing of it, and nothing of the victim is left behind.
 */
#include "store_operations.h"

#ifdef __SANITIZE_ADDRESS__
#define STRIDE 5
#else
#define STRIDE 1
#endif

static void look_at(const struct operation *o)
{
    look(&o, 1);
    CHECK_EQ(base_stores, fst_store_list(a, NULL, 0));
}

static bool kill_at(const struct operation *o, uint64_t n)
{
    snprintf(doing, sizeof doing, "%s, point %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    bool killed = end_victim(start_victim(o, 0, NULL), 0);
    reap_victims_children();
    look_at(o);
    alarm(0);
    return killed;
}

/* And whose batch puts it right, at its m-th. */
static const struct operation batch = {"batch", NULL, NULL, barrier, NULL, false};

static bool kill_twice(const struct operation *o, uint64_t n, uint64_t m)
{
    static uint32_t *go;
    if (!go)
        go = shared_memory(sizeof *go);
    *go = 0;
    snprintf(doing, sizeof doing, "%s, point %llu, then %s, point %llu", o->name, (unsigned long long)n, batch.name,
             (unsigned long long)m);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    before_victim(&batch, 1, m);
    pid_t second = start_victim(&batch, 1, go);
    w = &work[0];
    end_victim(start_victim(o, 0, NULL), 0);
    __atomic_store_n(go, 1, __ATOMIC_SEQ_CST);
    bool killed = end_victim(second, 1);
    reap_victims_children();
    w = &work[0];
    look_at(o);
    alarm(0);
    return killed;
}

static void run_kills(const struct operation *o)
{
    uint64_t n = 1, seed = 99;
    while (kill_at(o, n)) {
        for (int k = 0; k < 2 && !atomic_load(&test_failures); k++)
            kill_twice(o, n, 1 + next_random(&seed) % 80);
        if (atomic_load(&test_failures)) {
            TEST_FAIL("%s", doing);
            return;
        }
        n += STRIDE;
    }
    if (atomic_load(&test_failures))
        TEST_FAIL("%s: not killed, after %llu points", o->name, (unsigned long long)n - 1);
    else
        printf("# %s: %llu points\n", o->name, (unsigned long long)n - 1);
}

/* ---- stopped ---- */

/* The victim is stopped at its n-th write. Everybody looks up, and puts into another store; the
 * same store is given up, or goes on. False: it has fewer writes. */
static bool stop_at(const struct operation *o, uint64_t n)
{
    snprintf(doing, sizeof doing, "%s, stopped at %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    before_victim(o, 0, 0);
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        fst_reaper_stop(a, true);
        if (o->prepare)
            o->prepare();
        may_give_way = true; /* others may take what it wanted */
        fst_fault_stop(n);
        o->run();
        _exit(0);
    }
    int status;
    REQUIRE(waitpid(pid, &status, WUNTRACED) == pid);
    bool stopped = WIFSTOPPED(status);
    if (stopped) {
        struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = 1000000});
        uint64_t found = value_in(kept, 7);
        CHECK(found == 0 || found == 1 || found == 9);
        CHECK_EQ(FST_OK, put_in(other, 7, 3));
        CHECK_EQ(3, value_in(other, 7));
        CHECK_EQ(FST_OK, take_away(other, 7));
        int rc = put_in(kept, 12, 4);
        CHECK(rc == FST_OK || rc == FST_HELD);
        CHECK_EQ(rc == FST_OK ? 4 : 0, value_in(kept, 12));
        rc = rc == FST_OK ? take_away(kept, 12) : FST_OK;
        CHECK_EQ(FST_OK, rc);
        fst_wait_for(before);
        kill(pid, SIGCONT);
        REQUIRE(waitpid(pid, &status, 0) == pid);
    }
    CHECK_EQ(0, status);
    if (o->after != after_growth)
        take_away(kept, 7);
    settle(a);
    works(kept);
    settle(a);
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
    alarm(0);
    return stopped;
}

static void stops(void)
{
    static const char *const stoppable[] = {"put", "replace", "remove", "look up", "make"};
    for (size_t i = 0; i < sizeof stoppable / sizeof *stoppable; i++)
        for (int k = 0; k < COUNT; k++)
            for (uint64_t n = 1; strcmp(store_operations[k].name, stoppable[i]) == 0 && stop_at(&store_operations[k], n) &&
                                 !atomic_load(&test_failures);
                 n += STRIDE) {
            }
    if (atomic_load(&test_failures))
        TEST_FAIL("%s", doing);
}

int main(int argc, char **argv)
{
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", COUNT + 1);
    for (int i = 0; i <= COUNT; i++) {
        const char *name = i < COUNT ? store_operations[i].name : "stopped anywhere";
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strstr(name, argv[k]) != NULL;
        const char *skip = !wanted ? "not asked for" : !fst_has_fault_points() ? "built without fault points" : NULL;
        atomic_store(&test_failures, 0);
        if (!skip) {
            begin();
            if (i < COUNT)
                run_kills(&store_operations[i]);
            else
                stops();
            end();
        }
        bool bad = atomic_load(&test_failures) != 0;
        failed += bad;
        printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", i + 1, name, skip ? " # SKIP " : "", skip ? skip : "");
    }
    return failed != 0;
}
