/* Stores and kills: a process is killed, or stopped, at each of its writes in put, replace, look up
 * and the rest, and the batch that buries it at some of its own; others go on: they find all of a
 * change or nothing of it, and nothing of the victim is left behind.
 */
#include "store_operations.h"

#include "kill_again.h"
#include "stepping.h"
#include "watching.h"

static void look_at_stores(void)
{
    CHECK_EQ(base_stores, fst_store_list(a, NULL, 0));
}

/* ---- stopped ---- */

/* Everybody looks up, and puts into another store; the same store is given up, or goes on. */
static void use_stores(void)
{
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
}

static bool store_stop_at(const struct operation *o, uint64_t n)
{
    alarm(PATIENCE);
    bool stopped = stop_at(o, n, use_stores);
    if (o->after != after_growth)
        take_away(kept, 7);
    settle(a);
    works(kept);
    nothing_is_left();
    alarm(0);
    return stopped;
}

static void stops(void)
{
    static const char *const stoppable[] = {"put", "replace", "remove", "look up", "make"};
    run_stops(store_operations, COUNT, stoppable, sizeof stoppable / sizeof *stoppable, store_stop_at);
}

static void no_system_call_under_a_lock(void)
{
    for (int i = 0; i < COUNT; i++)
        watch_operation(&store_operations[i], look_at_stores);
}

static const char *name_of(int i)
{
    return i < COUNT ? store_operations[i].name : i == COUNT ? "stopped anywhere" : "no system call under a lock";
}

static void run(int i)
{
    begin();
    if (i < COUNT)
        kill_anywhere(&store_operations[i], &(struct kill_run){5, look_at_stores, kill_some_batches});
    else if (i == COUNT)
        stops();
    else
        no_system_call_under_a_lock();
    end();
}

static const char *unable(int i)
{
    return i < COUNT ? cannot_kill(i) : i == COUNT ? without_fault_points(i) : cannot_watch(i);
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){COUNT + 2, name_of, unable, run}, argc, argv);
}
