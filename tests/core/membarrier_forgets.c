/* membarrier_forgets.c - does this kernel's membarrier(2) reach a processor on which a thread of
 * the reader's process has just ended?
 *
 *   membarrier_forgets
 *
 * A registered process on processor 0 spins; another one on processor 1 calls
 * membarrier(GLOBAL_EXPEDITED) and counts the interrupts that processor 0 gets for it
 * (/proc/interrupts). First as it is; then after a thread of the spinning process has ended there.
 * Linux 5.11 ("sched: fix exit_mm vs membarrier") clears the processor's mark at a thread's end,
 * and the switch to another thread of the same process does not set it again. Prints both counts;
 * not a test of ours, but the reason why our readers fence for themselves.
 */
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS 1000

static uint32_t *step; /* shared: what the spinning process is to do next, and has done */

static void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        exit(77);
}

static void await(uint32_t value)
{
    while (__atomic_load_n(step, __ATOMIC_ACQUIRE) != value) {
    }
}

static void *end_here(void *unused)
{
    pin(0);
    return unused;
}

static void spin(void)
{
    pthread_t t;
    pin(0);
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0);
    __atomic_store_n(step, 1, __ATOMIC_RELEASE);
    await(2);
    pthread_create(&t, NULL, end_here, NULL);
    pthread_join(t, NULL);
    __atomic_store_n(step, 3, __ATOMIC_RELEASE);
    await(4);
}

/* Function call interrupts of processor 0 so far. */
static long interrupts(void)
{
    char line[4096];
    long count = -1;
    FILE *f = fopen("/proc/interrupts", "r");
    while (f && count < 0 && fgets(line, sizeof line, f))
        if (strstr(line, "unction call interrupts"))
            count = strtol(strchr(line, ':') + 1, NULL, 10);
    if (f)
        fclose(f);
    return count;
}

static long reached(void)
{
    long before = interrupts();
    for (int i = 0; i < CALLS; i++)
        syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
    return interrupts() - before;
}

int main(void)
{
    step = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (step == MAP_FAILED || sysconf(_SC_NPROCESSORS_ONLN) < 2 || interrupts() < 0) {
        puts("needs two processors and /proc/interrupts");
        return 77;
    }
    pid_t child = fork();
    if (child == 0) {
        spin();
        _exit(0);
    }
    pin(1);
    await(1);
    printf("%d calls, a running reader: %ld interrupts\n", CALLS, reached());
    __atomic_store_n(step, 2, __ATOMIC_RELEASE);
    await(3);
    printf("%d calls, after a thread of it has ended there: %ld interrupts\n", CALLS, reached());
    __atomic_store_n(step, 4, __ATOMIC_RELEASE);
    waitpid(child, NULL, 0);
    return 0;
}
