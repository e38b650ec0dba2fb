/* More than one kill: for each operation of kill_operations.h
 *
 *   a second kill   a victim is killed at a point of it, and then a process that puts things right
 *                   - a batch, the locks, an attach, a shrink - at a point of that
 *   two at once     two victims, each in an operation of its own, killed at a point of it
 *
 * The survivor must find everything as after a single kill. Points are chosen at random (SEED=n
 * repeats them), some for each operation; with FST_TEST_SOAK=1 every point of the operation is a
 * victim's.
 */
#include "kill_operations.h"
#include "kill_runs.h"

#define SOME_POINTS 3
#define RECOVERIES  3 /* kills in the recovery from one point */

static uint64_t seed_state, points_of[OPERATIONS];
static bool soak;

/* In 1..n, or 0 for none. */
static uint64_t one_of(uint64_t n)
{
    return n ? 1 + next_random(&seed_state) % n : 0;
}

/* ---- what puts things right ---- */

static void run_batch(void)
{
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
}

static void take_locks(void)
{
    take_names();
    take_child();
    take_pages();
    alloc_forty();
    drop_forty();
}

static void attach_again(void)
{
    fst_arena_unref(a);
    attach_and_alloc();
    fst_reaper_stop(a, true);
    run_batch();
}

static void shrink_all(void)
{
    shrink_cache();
    shrink_arena();
}

static const struct operation recoveries[] = {
    {"batch", NULL, NULL, run_batch, NULL, false},
    {"locks", NULL, NULL, take_locks, NULL, false},
    {"attach", NULL, NULL, attach_again, NULL, false},
    {"shrink", NULL, NULL, shrink_all, NULL, false},
};
#define RECOVERY_KINDS (sizeof recoveries / sizeof *recoveries)

/* ---- a second kill ---- */

/* The recovery begins when the victim is dead, in a process that was there before it: nobody but
 * that one puts anything right. */
static bool kill_twice(const struct operation *o, uint64_t n, const struct operation *recovery, uint64_t m)
{
    static uint32_t *go;
    if (!go)
        go = shared_memory(sizeof *go);
    *go = 0;
    snprintf(doing, sizeof doing, "%s, point %llu, then %s, point %llu", o->name, (unsigned long long)n, recovery->name,
             (unsigned long long)m);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    before_victim(recovery, 1, m);
    pid_t second = start_victim(recovery, 1, go);
    end_victim(start_victim(o, 0, NULL), 0);
    __atomic_store_n(go, 1, __ATOMIC_SEQ_CST);
    bool killed = end_victim(second, 1);
    reap_victims_children();
    look(&o, 1);
    alarm(0);
    return killed;
}

static bool second_kills(const struct operation *o, uint64_t points)
{
    uint64_t tried = 0, twice = 0, count = soak && points ? points : SOME_POINTS;
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t n = soak && points ? i : one_of(points);
        const struct operation *recovery = &recoveries[next_random(&seed_state) % RECOVERY_KINDS];
        kill_twice(o, n, recovery, 0);
        tried++;
        uint64_t recovery_points = report[1].passed;
        for (int k = 0; k < RECOVERIES && !atomic_load(&test_failures); k++, tried++)
            twice += kill_twice(o, n, recovery, one_of(recovery_points));
        if (atomic_load(&test_failures)) {
            fprintf(stderr, "# in: %s\n", doing);
            return false;
        }
    }
    CHECK(twice > 0);
    printf("# second kill: %s: %llu points, %llu runs, killed twice in %llu\n", o->name, (unsigned long long)points,
           (unsigned long long)tried, (unsigned long long)twice);
    return true;
}

/* ---- two at once ---- */

static int kill_both(const struct operation *const *o, const uint64_t *n)
{
    static uint32_t *go;
    if (!go)
        go = shared_memory(sizeof *go);
    *go = 0;
    snprintf(doing, sizeof doing, "%s, point %llu, beside %s, point %llu", o[0]->name, (unsigned long long)n[0], o[1]->name,
             (unsigned long long)n[1]);
    alarm(PATIENCE);
    pid_t pid[VICTIMS];
    for (int i = 0; i < VICTIMS; i++)
        before_victim(o[i], i, n[i]);
    may_give_way = true;
    for (int i = 0; i < VICTIMS; i++) {
        pid[i] = start_victim(o[i], i, go);
        wait_until_prepared(pid[i], i);
    }
    may_give_way = false;
    __atomic_store_n(go, 1, __ATOMIC_SEQ_CST);
    int killed = 0;
    for (int i = 0; i < VICTIMS; i++)
        killed += end_victim(pid[i], i);
    reap_victims_children();
    look(o, VICTIMS);
    alarm(0);
    return killed;
}

static void two_at_once(int index)
{
    uint64_t tried = 0, both = 0, gave_way = 0, points = points_of[index];
    uint64_t count = soak && points ? points : SOME_POINTS;
    for (uint64_t i = 1; i <= count; i++, tried++) {
        int beside = (int)(next_random(&seed_state) % OPERATIONS);
        const struct operation *o[VICTIMS] = {&operations[index], &operations[beside]};
        uint64_t n[VICTIMS] = {soak && points ? i : one_of(points), one_of(points_of[beside])};
        both += kill_both(o, n) == VICTIMS;
        gave_way += report[0].gave_way | report[1].gave_way;
        if (atomic_load(&test_failures)) {
            fprintf(stderr, "# in: %s\n", doing);
            return;
        }
    }
    printf("# two at once: %s: %llu points, %llu runs, both killed in %llu, one gave way in %llu\n", operations[index].name,
           (unsigned long long)points, (unsigned long long)tried, (unsigned long long)both, (unsigned long long)gave_way);
}

/* How many points the operation has. */
static uint64_t measure(const struct operation *o)
{
    snprintf(doing, sizeof doing, "%s, to its end", o->name);
    alarm(PATIENCE);
    before_victim(o, 0, 0);
    CHECK(!end_victim(start_victim(o, 0, NULL), 0) || report[0].passed == 0);
    reap_victims_children();
    look(&o, 1);
    alarm(0);
    return report[0].passed;
}

static const char *name_of(int i)
{
    return operations[i].name;
}

static void run(int i)
{
    start();
    if (second_kills(&operations[i], points_of[i]))
        two_at_once(i);
    fst_arena_unref(a);
}

/* One case for each operation, named as it is. */
int main(int argc, char **argv)
{
    const char *number = getenv("SEED");
    uint64_t seed = number && *number ? strtoull(number, NULL, 0) : 1;
    soak = getenv("FST_TEST_SOAK") != NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("# SEED=%llu\n", (unsigned long long)seed);
    seed_state = seed * 0x9e3779b97f4a7c15ull | 1;
    for (int i = 0; i < OPERATIONS && fst_has_fault_points(); i++) {
        start();
        points_of[i] = measure(&operations[i]);
        fst_arena_unref(a);
    }
    return test_each(&(struct test_cases){OPERATIONS, name_of, without_fault_points, run}, argc, argv);
}
