/* Channels and kills: a process is killed, or stopped, at each of its writes in put, get and the
 * rest, and others go on: they find everything that is not the victim's, once, and nothing of it is
 * left behind. Then storms, with counts.
 */
#include "channel_operations.h"

#include "kill_again.h"
#include "stepping.h"
#include "watching.h"

static void look_at_channels(void)
{
    CHECK_EQ(base_channels, fst_channel_list(a, NULL, 0));
}

/* ---- stopped ---- */

/* Everybody else goes on, without a batch. */
static void drain_all(void)
{
    drain(kept, false);
    drain(jobs, true);
}

static bool channel_stop_at(const struct operation *o, uint64_t n)
{
    alarm(PATIENCE);
    bool stopped = stop_at(o, n, drain_all);
    settle(a);
    drain_all();
    remove_leftovers();
    nothing_is_left();
    alarm(0);
    return stopped;
}

static const char *const stoppable[] = {
    "put", "put and wake", "put an object", "get", "get an object and drop it", "take and finish a job"};

static void stops(void)
{
    run_stops(channel_operations, COUNT, stoppable, sizeof stoppable / sizeof *stoppable, channel_stop_at);
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
    nothing_is_left();
    drain(kept, false);
}

static void no_system_call_under_a_lock(void)
{
    for (int i = 0; i < COUNT; i++)
        watch_operation(&channel_operations[i], look_at_channels);
}

static const char *name_of(int i)
{
    static const char *const others[] = {"stopped anywhere", "storms", "no system call under a lock"};
    return i < COUNT ? channel_operations[i].name : others[i - COUNT];
}

static const char *unable(int i)
{
    return i < COUNT ? cannot_kill(i) : i == COUNT ? without_fault_points(i) : i == COUNT + 2 ? cannot_watch(i) : NULL;
}

static void run(int i)
{
    begin();
    if (i < COUNT)
        kill_anywhere(&channel_operations[i], &(struct kill_run){5, look_at_channels, kill_some_batches});
    else if (i == COUNT)
        stops();
    else if (i == COUNT + 1)
        storms();
    else
        no_system_call_under_a_lock();
    end();
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){COUNT + 3, name_of, unable, run}, argc, argv);
}
