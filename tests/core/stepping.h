/* stepping.h - kills of a victim after n machine instructions: its parent steps it (traced.h). The
 * fault points of a test's own build lie where the source has its writes; here the compiler's code
 * is taken as it is: so only in a release build. Some of the instructions, evenly, from a start
 * that SEED=n moves; all of them with FST_TEST_SOAK=1.
 */
#ifndef FST_TEST_STEPPING_H
#define FST_TEST_STEPPING_H

#include "kill_runs.h"
#include "traced.h"

#define SOME_KILLS 40
#define FEWEST     12
/* A step may take a tenth of a millisecond: of a long operation so many kills that all of them
 * together take so many steps. */
#define SOME_STEPS 300000

/* With fault points or a sanitizer the code is another one. */
#if defined FST_FAULT_POINTS || defined __SANITIZE_ADDRESS__
static const bool released = false;
#else
static const bool released = true;
#endif

static const struct operation *stepping;
static void (*after_each)(pid_t pid); /* instruction; or NULL */

static void prepare_and_stop(void)
{
    if (stepping->prepare)
        stepping->prepare();
    stop_for_the_tracer();
}

/* Kill the victim after n instructions, n = 0: at its end. */
static uint64_t kill_after(const struct operation *o, uint64_t n, void (*look_too)(void))
{
    snprintf(doing, sizeof doing, "%s, instruction %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    stepping = o;
    before_victim(o, 0, UINT64_MAX); /* no fault point */
    struct operation stopped = {o->name, NULL, prepare_and_stop, o->run, NULL, false};
    pid_t pid = start_victim(&stopped, 0, NULL);
    uint64_t went = step_and_look(pid, n, &report[0].done, after_each);
    int status;
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    look(&o, 1);
    if (look_too)
        look_too();
    alarm(0);
    return went;
}

/* At some of its instructions; `look_too`, if any: the survivor, after look(). */
HELPER void step_through(const struct operation *o, void (*look_too)(void))
{
    const char *number = getenv("SEED");
    bool soak = getenv("FST_TEST_SOAK") != NULL;
    uint64_t offset = number ? strtoull(number, NULL, 0) : 0, length = kill_after(o, 0, look_too), kills = 0;
    CHECK(length > 10);
    uint64_t most = 2 * SOME_STEPS / length;
    most = most > SOME_KILLS ? SOME_KILLS : most < FEWEST ? FEWEST : most;
    uint64_t stride = soak || length <= most ? 1 : length / most;
    for (uint64_t n = 1 + offset % stride; n <= length && !atomic_load(&test_failures); n += stride, kills++)
        kill_after(o, n, look_too);
    if (atomic_load(&test_failures))
        TEST_FAIL("%s", doing);
    else
        printf("# %s: %llu instructions, %llu kills\n", o->name, (unsigned long long)length, (unsigned long long)kills);
}

/* Why instructions cannot be counted here, or NULL. */
HELPER const char *cannot_step(int i)
{
    (void)i;
    return released ? cannot_trace() : "not a release build";
}

/* At each write, or where the build has no fault points at some instructions. */
HELPER void kill_anywhere(const struct operation *o, const struct kill_run *run)
{
    if (fst_has_fault_points())
        run_kills(o, run);
    else
        step_through(o, run->look);
}

HELPER const char *cannot_kill(int i)
{
    return fst_has_fault_points() ? NULL : cannot_step(i);
}

#endif
