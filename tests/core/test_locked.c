/* No system call under a lock, in each operation of the core (watching.h). Those of channels and
 * stores are watched by test_channel_kill.c and test_store_kill.c.
 */
#include "kill_operations.h"

#include "watching.h"

#define MANY 1500 /* more than a thread has entries, so that memory is asked for on the way */

static uint64_t open_nameless(void)
{
    struct fst_group_spec spec = {.parent = root};
    uint64_t group = 0;
    bool created;
    MUST(fst_group_open(a, &spec, &group, &created));
    return group;
}

static void open_many_groups(void)
{
    static uint64_t groups[MANY];
    for (int i = 0; i < MANY; i++)
        groups[i] = open_nameless();
    for (int i = 0; i < MANY; i++)
        fst_group_unref(a, groups[i]);
    MUST(fst_barrier(a, FST_FOREVER));
}

static void use_many_groups(void)
{
    for (int i = 0; i < 300; i++) {
        uint64_t group = open_nameless(), child;
        struct fst_ref ref;
        for (int k = 0; k < i % 5; k++) /* and each lock is the one that is timed, now and then */
            MUST(fst_group_set_limit(a, group, MIB));
        MUST(fst_child_open(a, pool_cache, group, &child));
        MUST(fst_alloc(a, child, &ref));
        MUST(fst_group_destroy(a, group));
        fst_drop(a, &ref);
        fst_group_unref(a, group);
    }
    MUST(fst_barrier(a, FST_FOREVER));
}

static const struct operation more[] = {
    {"many groups open", NULL, NULL, open_many_groups, NULL, false},
    {"many groups used", NULL, NULL, use_many_groups, NULL, false},
};
#define MORE ((int)(sizeof more / sizeof *more))

static const struct operation *operation_of(int i)
{
    return i < MORE ? &more[i] : &operations[i - MORE];
}

static const char *name_of(int i)
{
    return operation_of(i)->name;
}

static void run_one(int i)
{
    start();
    watch_operation(operation_of(i), NULL);
    fst_arena_unref(a);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){OPERATIONS + MORE, name_of, cannot_watch, run_one}, argc, argv);
}
