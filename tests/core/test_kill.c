/* Every write counted: for each operation, a process is killed at each of its writes to shared
 * memory in turn, and a survivor looks at what that leaves.
 */
#include "kill_operations.h"

/* Under a sanitizer, which is slow, only some of the points. */
#ifdef __SANITIZE_ADDRESS__
#define STRIDE 7
#else
#define STRIDE 1
#endif

/* Run the operation in a victim that is killed at its n-th point. False: it has fewer. */
static bool kill_at(const struct operation *o, uint64_t n)
{
    snprintf(doing, sizeof doing, "%s, point %llu", o->name, (unsigned long long)n);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    bool killed = end_victim(start_victim(o, 0, NULL), 0);
    reap_victims_children();
    look(&o, 1);
    alarm(0);
    return killed;
}

static void run(const struct operation *o)
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
        printf("# %s: %llu points, %llu kills\n", o->name, (unsigned long long)report->passed,
               (unsigned long long)(n - 1) / STRIDE);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    int count = OPERATIONS, failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("1..%d\n", count);
    for (int i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strstr(operations[i].name, argv[k]) != NULL;
        const char *skip = !fst_has_fault_points() ? "built without fault points" : !wanted ? "not asked for" : NULL;
        atomic_store(&test_failures, 0);
        if (!skip) {
            start();
            run(&operations[i]);
            fst_arena_unref(a);
        }
        bool bad = atomic_load(&test_failures) != 0;
        failed += bad;
        printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", i + 1, operations[i].name, skip ? " # SKIP " : "", skip ? skip : "");
    }
    return failed != 0;
}
