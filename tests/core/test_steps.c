/* Every instruction counted: a victim is stepped through an operation by its parent, with ptrace,
 * and killed after n machine instructions, for each n. The fault points of test_kill.c lie where
 * the source has its writes; here the compiler's code is taken as it is, and this is the one test
 * of kills that says something about a release build.
 *
 * Some of the instructions, evenly, from a start that SEED=n moves; all of them with
 * FST_TEST_SOAK=1.
 */
#include "kill_operations.h"
#include "traced.h"

#define SOME_KILLS 40

/* With fault points or a sanitizer the code is another one. */
#if defined FST_FAULT_POINTS || defined __SANITIZE_ADDRESS__
static const bool released = false;
#else
static const bool released = true;
#endif

static bool soak, can;
static uint64_t offset;

static void use_new_slab(void)
{
    open_group_and_child();
    warm_up();
}

static const struct operation stepped[] = {
    {"alloc from the active slab", NULL, warm_up, alloc_pool, NULL, false},
    {"alloc with a partial slab", NULL, NULL, alloc_pool, NULL, false},
    {"alloc with a new slab", NULL, use_new_slab, alloc_charged, NULL, false},
    {"alloc with initial content", NULL, open_cache_and_child, alloc_init, NULL, false},
    {"drop private", NULL, alloc_pool, drop_ref, NULL, false},
    {"drop shared", NULL, alloc_and_share, drop_ref, NULL, false},
    {"share", NULL, alloc_pool, share_ref, NULL, false},
    {"take", post_object, NULL, take_message, NULL, false},
    {"resolve", post_object, NULL, resolve_handle, NULL, false},
    {"resolve what it has", NULL, NULL, resolve_held, NULL, false},
    {"rescue", leave_condemned, kill_reader, resolve_handle, wait_for_reader, false},
    {"free", alloc_pool, NULL, free_ref, drop_ref, false},
    {"free private and drop", NULL, alloc_pool, free_and_drop, NULL, false},
    {"group open", NULL, NULL, open_group, NULL, false},
    {"group's child creation", NULL, open_group, child_of_group, NULL, false},
    {"group destroy", NULL, use_group, destroy_group, NULL, false},
    {"group take", post_group, NULL, take_group, NULL, false},
};
#define STEPPED ((int)(sizeof stepped / sizeof *stepped))

static const struct operation *stepping;

static void prepare_and_stop(void)
{
    if (stepping->prepare)
        stepping->prepare();
    stop_for_the_tracer();
}

/* Kill the victim after n instructions, n = 0: at its end. */
static uint64_t kill_after(const struct operation *o, uint64_t n)
{
    snprintf(doing, sizeof doing, "%s, instruction %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    stepping = o;
    before_victim(o, 0, UINT64_MAX); /* no fault point */
    struct operation stopped = {o->name, NULL, prepare_and_stop, o->run, NULL, false};
    pid_t pid = start_victim(&stopped, 0, NULL);
    uint64_t went = step(pid, n, &report[0].done);
    int status;
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    look(&o, 1);
    alarm(0);
    return went;
}

static void run(const struct operation *o)
{
    uint64_t length = kill_after(o, 0), kills = 0;
    CHECK(length > 10);
    uint64_t stride = soak || length <= SOME_KILLS ? 1 : length / SOME_KILLS;
    for (uint64_t n = 1 + offset % stride; n <= length && !atomic_load(&test_failures); n += stride, kills++)
        kill_after(o, n);
    if (atomic_load(&test_failures))
        TEST_FAIL("%s", doing);
    else
        printf("# %s: %llu instructions, %llu kills\n", o->name, (unsigned long long)length, (unsigned long long)kills);
}

static const char *name_of(int i)
{
    return stepped[i].name;
}

static const char *unable(int i)
{
    const char *ci = getenv("CI");
    bool must = ci && strcmp(ci, "true") == 0;
    (void)i;
    return !released ? "not a release build" : !can && !must ? "no ptrace here" : NULL;
}

static void run_one(int i)
{
    start();
    CHECK(can);
    if (can)
        run(&stepped[i]);
    fst_arena_unref(a);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    const char *number = getenv("SEED");
    offset = number ? strtoull(number, NULL, 0) : 0;
    soak = getenv("FST_TEST_SOAK") != NULL;
    can = can_trace();
    return test_each(&(struct test_cases){STEPPED, name_of, unable, run_one}, argc, argv);
}
