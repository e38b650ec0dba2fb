/* traced.h - a child whose parent steps it through an operation, one machine instruction at a time,
 * or sees its system calls.
 *
 * The child calls stop_for_the_tracer() right before the operation. Where it is stepped it sets a
 * flag in shared memory, `done`, right after it: only instructions of the operation are counted.
 */
#ifndef FST_TEST_TRACED_H
#define FST_TEST_TRACED_H

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>

#include "support.h"

/* In the child. */
HELPER void stop_for_the_tracer(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
        _exit(2);
    raise(SIGSTOP);
}

static uint64_t step_on(pid_t pid, uint64_t n, const uint32_t *done, void (*look_after)(pid_t pid))
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
        if (look_after)
            look_after(pid);
    }
    return n;
}

/* Let a child that stops for its tracer go n instructions (0: to its end), and `look`, if that is
 * wanted, after each of them. Returns how many it went before it was done; n: it is not yet. Both
 * are on one processor meanwhile: to wake another one that idles takes longer than all else of a
 * step. */
HELPER uint64_t step_and_look(pid_t pid, uint64_t n, const uint32_t *done, void (*look_after)(pid_t pid))
{
    cpu_set_t all, one;
    int processor = sched_getcpu();
    bool pinned = processor >= 0 && sched_getaffinity(0, sizeof all, &all) == 0;
    if (pinned) {
        CPU_ZERO(&one);
        CPU_SET(processor, &one);
        sched_setaffinity(0, sizeof one, &one);
        sched_setaffinity(pid, sizeof one, &one);
    }
    uint64_t went = step_on(pid, n, done, look_after);
    if (pinned) {
        sched_setaffinity(0, sizeof all, &all);
        sched_setaffinity(pid, sizeof all, &all);
    }
    return went;
}

HELPER uint64_t step(pid_t pid, uint64_t n, const uint32_t *done)
{
    return step_and_look(pid, n, done, NULL);
}

/* Let a child that stops for its tracer run to its end, which must be a good one; `begins` is told
 * of each system call before it is made. */
HELPER void see_system_calls(pid_t pid, void (*begins)(pid_t pid, const struct __ptrace_syscall_info *call, void *context),
                             void *context)
{
    struct __ptrace_syscall_info info;
    int status = 0, signal = 0;
    REQUIRE(test_wait(pid, &status) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    REQUIRE(ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)PTRACE_O_TRACESYSGOOD) == 0);
    for (;;) {
        REQUIRE(ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal) == 0);
        REQUIRE(test_wait(pid, &status) == pid);
        if (!WIFSTOPPED(status))
            break;
        signal = WSTOPSIG(status);
        if (signal != (SIGTRAP | 0x80))
            continue;
        signal = 0;
        REQUIRE(ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) > 0);
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            begins(pid, &info, context);
    }
    CHECK_EQ(0, status);
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

/* Why a child cannot be traced here, or NULL. In CI it has to be possible, but for the emulator. */
HELPER const char *cannot_trace(void)
{
    static int can = -1;
    const char *ci = getenv("CI");
    if (can < 0)
        can = can_trace() || (ci && strcmp(ci, "true") == 0 && !getenv("FST_TEST_EMULATED"));
    return can ? NULL : "no ptrace here";
}

#endif
