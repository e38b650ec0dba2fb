/* Every instruction counted: a victim is stepped through an operation by its parent, with ptrace,
 * and killed after n machine instructions, for each n. The fault points of test_kill.c lie where
 * the source has its writes; here the compiler's code is taken as it is, and this is the one test
 * of kills that says something about a release build.
 *
 * Some of the instructions, evenly, from a start that SEED=n moves; all of them with
 * FST_TEST_SOAK=1.
 */
#include "kill_operations.h"

#include "stepping.h"

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

static const char *name_of(int i)
{
    return stepped[i].name;
}

static void run_one(int i)
{
    start();
    step_through(&stepped[i], NULL);
    fst_arena_unref(a);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){STEPPED, name_of, cannot_step, run_one}, argc, argv);
}
