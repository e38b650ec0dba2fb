/* traced.h - a child that its parent steps through an operation, one machine instruction at a time.
 *
 * The child calls stop_for_the_tracer() right before the operation, and sets a flag in shared
 * memory, `done`, right after it: only instructions of the operation are counted.
 */
#ifndef FST_TEST_TRACED_H
#define FST_TEST_TRACED_H

#include <signal.h>
#include <sys/ptrace.h>

#include "support.h"

/* In the child. */
HELPER void stop_for_the_tracer(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(2);
    raise(SIGSTOP);
}

/* Let a child that stops for its tracer go n instructions (0: to its end). Returns how many it went
 * before it was done; n: it is not yet. */
HELPER uint64_t step(pid_t pid, uint64_t n, const uint32_t *done)
{
    int status = 0;
    REQUIRE(test_wait(pid, &status) == pid);
    if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP) {
        TEST_FAIL("the child's status before its first step is 0x%x", (unsigned)status);
        return 0;
    }
    for (uint64_t i = 0; n == 0 || i < n; i++) {
        int signal = 0;
        do {
            if (ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)signal) || test_wait(pid, &status) != pid ||
                !WIFSTOPPED(status)) {
                TEST_FAIL("the child's status after %llu steps is 0x%x", (unsigned long long)i, (unsigned)status);
                return i;
            }
            signal = WSTOPSIG(status);
        } while (signal != SIGTRAP);
        if (__atomic_load_n(done, __ATOMIC_RELAXED))
            return i;
    }
    return n;
}

/* May this process trace its children? */
HELPER bool can_trace(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        stop_for_the_tracer();
        _exit(0);
    }
    int status;
    bool stopped = test_wait(pid, &status) == pid && WIFSTOPPED(status);
    bool can = stopped && ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0 && test_wait(pid, &status) == pid && WIFSTOPPED(status);
    kill(pid, SIGKILL);
    if (stopped)
        test_wait(pid, NULL);
    return can;
}

#endif
