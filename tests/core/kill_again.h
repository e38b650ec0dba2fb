/* kill_again.h - a victim is killed at its n-th write, and then the process whose batch puts things
 * right at its m-th; another one must. */
#ifndef FST_TEST_KILL_AGAIN_H
#define FST_TEST_KILL_AGAIN_H

#include "kill.h"

static void run_a_batch(void)
{
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
}

static const struct operation a_batch = {"batch", NULL, NULL, run_a_batch, NULL, false};

/* The batch begins when the victim is dead, in a process that was there before it. */
static bool kill_twice(const struct operation *o, uint64_t n, uint64_t m)
{
    static uint32_t *go;
    if (!go)
        go = shared_memory(sizeof *go);
    *go = 0;
    snprintf(doing, sizeof doing, "%s, point %llu, then %s, point %llu", o->name, (unsigned long long)n, a_batch.name,
             (unsigned long long)m);
    alarm(PATIENCE);
    before_victim(o, 0, n);
    before_victim(&a_batch, 1, m);
    pid_t second = start_victim(&a_batch, 1, go);
    w = &work[0];
    end_victim(start_victim(o, 0, NULL), 0);
    __atomic_store_n(go, 1, __ATOMIC_SEQ_CST);
    bool killed = end_victim(second, 1);
    reap_victims_children();
    w = &work[0];
    look(&o, 1);
    alarm(0);
    return killed;
}

/* At some of the batch's writes: for struct kill_run. */
static void kill_some_batches(const struct operation *o, uint64_t n)
{
    static uint64_t seed = 99;
    for (int k = 0; k < 2 && !atomic_load(&test_failures); k++)
        kill_twice(o, n, 1 + next_random(&seed) % 80);
}

#endif
