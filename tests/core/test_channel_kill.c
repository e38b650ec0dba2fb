/* Channels and kills: a process is killed, or stopped, at each of its writes in put, get and the
 * rest, and others go on: they find everything that is not the victim's, once, and nothing of it is
 * left behind. Then storms, with counts.
 */
#include "channel_operations.h"

#ifdef __SANITIZE_ADDRESS__
#define STRIDE 5
#else
#define STRIDE 1
#endif

static bool kill_at(const struct operation *o, uint64_t n)
{
    snprintf(doing, sizeof doing, "%s, point %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    bool killed = end_victim(start_victim(o, 0, NULL), 0);
    reap_victims_children();
    look(&o, 1);
    CHECK_EQ(base_channels, fst_channel_list(a, NULL, 0));
    alarm(0);
    return killed;
}

static void run_kills(const struct operation *o)
{
    uint64_t n = 1;
    while (kill_at(o, n)) {
        if (atomic_load(&test_failures)) {
            TEST_FAIL("%s: killed at point %llu", o->name, (unsigned long long)n);
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

/* The victim is stopped at its n-th write. Everybody else goes on, without a batch. False: it has
 * fewer. */
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
        drain(kept, false);
        drain(jobs, true);
        kill(pid, SIGCONT);
        REQUIRE(waitpid(pid, &status, 0) == pid);
    }
    CHECK_EQ(0, status);
    settle(a);
    drain(kept, false);
    drain(jobs, true);
    remove_leftovers();
    settle(a);
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
    alarm(0);
    return stopped;
}

static void run_stops(const struct operation *o)
{
    uint64_t n = 1;
    while (stop_at(o, n) && !atomic_load(&test_failures))
        n += STRIDE;
    if (atomic_load(&test_failures))
        TEST_FAIL("%s: stopped at point %llu", o->name, (unsigned long long)n);
}

static const char *const stoppable[] = {
    "put", "put and wake", "put an object", "get", "get an object and drop it", "take and finish a job"};

static void stops(void)
{
    for (size_t i = 0; i < sizeof stoppable / sizeof *stoppable; i++)
        for (int k = 0; k < COUNT; k++)
            if (strcmp(channel_operations[k].name, stoppable[i]) == 0)
                run_stops(&channel_operations[k]);
}

/* ---- storms ---- */

#define WORKERS  4
#define MESSAGES 40000u

static struct {
    uint32_t begun[2]; /* by producer: the number that it puts, or has put last */
    uint32_t put[2];   /* and what it knows to be put */
    uint32_t over;
    uint8_t taken[2][MESSAGES]; /* by a consumer that is alive */
} * storm;

static void storm_producer(uint32_t me)
{
    for (;;) {
        uint32_t n = storm->begun[me];
        if (n >= MESSAGES)
            return;
        uint64_t number = (uint64_t)me << 32 | n;
        struct fst_ref ref, *object = NULL;
        if (n % 3 == 0) {
            ref = alloc_one(a, pool);
            fill(ref.data, ref.nbytes, number);
            object = &ref;
        }
        int rc;
        while ((rc = put_to(kept, number, object, n % 2)) == FST_WAIT)
            fst_channel_wait(kept, false, FST_FOREVER);
        if (rc)
            _exit(3);
        __atomic_store_n(&storm->put[me], n + 1, __ATOMIC_SEQ_CST);
        __atomic_store_n(&storm->begun[me], n + 1, __ATOMIC_SEQ_CST);
        if (object && n % 2)
            fst_drop(a, &ref);
    }
}

static void storm_consumer(void)
{
    uint64_t number;
    struct fst_received r;
    for (;;) {
        int rc = get_from(kept, &number, &r);
        if (rc == FST_WAIT && __atomic_load_n(&storm->over, __ATOMIC_SEQ_CST))
            return;
        if (rc == FST_WAIT) {
            fst_channel_wait(kept, true, FST_FOREVER);
            continue;
        }
        if (rc || atomic_load(&test_failures))
            _exit(4);
        __atomic_fetch_add(&storm->taken[number >> 32][(uint32_t)number], 1, __ATOMIC_SEQ_CST);
        if (r.has_ref)
            fst_drop(a, &r.ref);
    }
}

static pid_t storm_start(uint32_t worker)
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        atomic_store(&test_failures, 0);
        if (worker < 2)
            storm_producer(worker);
        else
            storm_consumer();
        _exit(0);
    }
    return pid;
}

static bool put_everything(void)
{
    return __atomic_load_n(&storm->begun[0], __ATOMIC_SEQ_CST) >= MESSAGES &&
           __atomic_load_n(&storm->begun[1], __ATOMIC_SEQ_CST) >= MESSAGES;
}

/* Producers and consumers are killed and come again, until everything was put. Who puts again what
 * it may have put: at most one for each death. */
static void storms(void)
{
    pid_t pid[WORKERS];
    uint32_t killed[2] = {0}, seed = 12345;
    storm = shared_memory(sizeof *storm);
    for (uint32_t i = 0; i < WORKERS; i++)
        pid[i] = storm_start(i);
    while (!put_everything()) {
        usleep(1000 + seed % 3000);
        seed = seed * 1103515245u + 12345u;
        uint32_t i = seed >> 16 & 3;
        kill(pid[i], SIGKILL);
        int status;
        CHECK(waitpid(pid[i], &status, 0) == pid[i]);
        CHECK(WIFSIGNALED(status) || status == 0);
        killed[i / 2] += WIFSIGNALED(status) != 0;
        pid[i] = storm_start(i);
        if (seed >> 20 & 1)
            settle(a);
        if (atomic_load(&test_failures))
            break;
    }
    for (uint32_t i = 0; i < 2; i++)
        CHECK_CHILD(pid[i]);
    __atomic_store_n(&storm->over, 1, __ATOMIC_SEQ_CST);
    for (uint32_t i = 2; i < WORKERS; i++)
        CHECK_CHILD(pid[i]);
    uint32_t missing = 0, twice = 0;
    for (uint32_t p = 0; p < 2; p++)
        for (uint32_t n = 0; n < MESSAGES; n++) {
            missing += storm->taken[p][n] == 0;
            twice += storm->taken[p][n] > 1;
        }
    printf("# %u producers and %u consumers killed: %u missing, %u twice\n", killed[0], killed[1], missing, twice);
    CHECK(missing <= killed[1]); /* what a killed consumer had taken */
    CHECK(twice <= killed[0]);   /* what a killed producer had put, and could not know */
    settle(a);
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
    drain(kept, false);
}

int main(int argc, char **argv)
{
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", COUNT + 2);
    for (int i = 0; i < COUNT + 2; i++) {
        const char *name = i < COUNT ? channel_operations[i].name : i == COUNT ? "stopped anywhere" : "storms";
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strstr(name, argv[k]) != NULL;
        const char *skip = !wanted ? "not asked for" : i <= COUNT && !fst_has_fault_points() ? "built without fault points" : NULL;
        atomic_store(&test_failures, 0);
        if (!skip) {
            begin();
            if (i < COUNT)
                run_kills(&channel_operations[i]);
            else if (i == COUNT)
                stops();
            else
                storms();
            end();
        }
        bool bad = atomic_load(&test_failures) != 0;
        failed += bad;
        printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", i + 1, name, skip ? " # SKIP " : "", skip ? skip : "");
    }
    return failed != 0;
}
