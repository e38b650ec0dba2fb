/* urcu.c - liburcu's memb flavour doing what core.c does with sections and grace periods. Prints
 * JSON: nanoseconds by name. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <urcu.h>

#define DROPS 1000

struct object {
    struct rcu_head head;
    char data[48];
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void release(struct rcu_head *head)
{
    free(caa_container_of(head, struct object, head));
}

int main(int argc, char **argv)
{
    double limit = argc > 1 ? atof(argv[1]) * 1e9 : 1e8, began, took;
    long count = 0;
    rcu_register_thread();
    began = now();
    do {
        for (int i = 0; i < 1000; i++) {
            rcu_read_lock();
            __asm__ volatile("" ::: "memory");
            rcu_read_unlock();
        }
        count += 1000;
    } while ((took = now() - began) < limit);
    printf("{\"section\": %.3f, ", took / (double)count);
    count = 0;
    began = now();
    do {
        synchronize_rcu();
        count++;
    } while ((took = now() - began) < limit);
    printf("\"synchronize, idle\": %.3f, ", took / (double)count);
    count = 0;
    took = 0;
    for (began = now(); now() - began < limit || count < 3; count++) {
        static struct object *objects[DROPS];
        for (int i = 0; i < DROPS; i++)
            objects[i] = calloc(1, sizeof **objects);
        double start = now();
        for (int i = 0; i < DROPS; i++)
            call_rcu(&objects[i]->head, release);
        rcu_barrier();
        took += now() - start;
    }
    printf("\"1,000 shared drops and a barrier\": %.3f}\n", took / (double)count);
    rcu_unregister_thread();
    return 0;
}
