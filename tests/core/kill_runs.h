/* kill_runs.h - a victim is killed, or stopped, at each point of an operation in turn. */
#ifndef FST_TEST_KILL_RUNS_H
#define FST_TEST_KILL_RUNS_H

#include "kill.h"

/* What a test adds to the kill at each point; all of it may be missing. */
struct kill_run {
    /* points from one kill to the next, under a sanitizer, which is slow */
    uint64_t stride;
    void (*look)(void);                                   /* the survivor, after look() */
    void (*again)(const struct operation *o, uint64_t n); /* when it was killed at the n-th point */
};

/* Run the operation in a victim that is killed at its n-th point. False: it has fewer. */
HELPER bool kill_at(const struct operation *o, uint64_t n, const struct kill_run *run)
{
    snprintf(doing, sizeof doing, "%s, point %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    bool killed = end_victim(start_victim(o, 0, NULL), 0);
    reap_victims_children();
    look(&o, 1);
    if (run->look)
        run->look();
    alarm(0);
    return killed;
}

/* At each point, until the operation has no more of them. */
HELPER void run_kills(const struct operation *o, const struct kill_run *run)
{
    uint64_t n = 1, kills = 0, stride = 1;
#ifdef __SANITIZE_ADDRESS__
    stride = run->stride;
#endif
    for (; kill_at(o, n, run) && !atomic_load(&test_failures); n += stride, kills++)
        if (run->again)
            run->again(o, n);
    if (atomic_load(&test_failures))
        TEST_FAIL("in: %s", doing);
    else
        printf("# %s: %llu points, %llu kills\n", o->name, (unsigned long long)n - 1, (unsigned long long)kills);
}

/* Run the operation in a process that is stopped at its n-th write, and let everybody else go on
 * meanwhile (`beside`). False: it has fewer. */
HELPER bool stop_at(const struct operation *o, uint64_t n, void (*beside)(void))
{
    snprintf(doing, sizeof doing, "%s, stopped at %llu", o->name, (unsigned long long)n);
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
        beside();
        kill(pid, SIGCONT);
        REQUIRE(waitpid(pid, &status, 0) == pid);
    }
    CHECK_EQ(0, status);
    return stopped;
}

/* What the survivor must find at last, when nothing is left of all that. */
HELPER void nothing_is_left(void)
{
    settle(a);
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
}

/* Stop these operations, found by name, at each of their points: `stop` says whether there was
 * one. */
HELPER void run_stops(const struct operation *all, int count, const char *const *names, size_t n_names,
                      bool (*stop)(const struct operation *o, uint64_t n))
{
    uint64_t stride = 1;
#ifdef __SANITIZE_ADDRESS__
    stride = 5;
#endif
    for (size_t i = 0; i < n_names; i++)
        for (int k = 0; k < count; k++)
            for (uint64_t n = 1; strcmp(all[k].name, names[i]) == 0 && stop(&all[k], n) && !atomic_load(&test_failures);
                 n += stride) {
            }
    if (atomic_load(&test_failures))
        TEST_FAIL("in: %s", doing);
}

HELPER const char *without_fault_points(int i)
{
    (void)i;
    return fst_has_fault_points() ? NULL : "built without fault points";
}

#endif
