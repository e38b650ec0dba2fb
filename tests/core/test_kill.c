/* Every write counted: for each operation, a process is killed at each of its writes to shared
 * memory in turn, and a survivor looks at what that leaves.
 */
#include "kill_operations.h"
#include "kill_runs.h"

static const char *name_of(int i)
{
    return operations[i].name;
}

static void run(int i)
{
    start();
    run_kills(&operations[i], &(struct kill_run){.stride = 7});
    fst_arena_unref(a);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){OPERATIONS, name_of, without_fault_points, run}, argc, argv);
}
