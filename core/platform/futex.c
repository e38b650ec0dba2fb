#include "platform/futex.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "platform/atomics.h"

/* The headers that this is built with may be older than the kernel that it runs on. */
#define WAITV     449 /* the number of futex_waitv on every architecture but Alpha */
#define WAITV_U32 2   /* a word of 32 bits, which other processes have, too */
struct waitv {
    uint64_t expected, word;
    uint32_t flags, reserved;
};

enum { UNASKED = 0, CAN, CANNOT };
static uint32_t asked;

void fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / 1000000000ull), .tv_nsec = (long)(timeout_ns % 1000000000ull)};
    syscall(SYS_futex, word, FUTEX_WAIT, expected, &ts, NULL, 0);
}

int fst_futex_wake(const uint32_t *word, int count)
{
    return (int)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

static bool refused(void)
{
    return errno == ENOSYS || errno == EPERM || errno == EACCES;
}

size_t fst_futex_most(void)
{
    if (fst_load_relaxed(&asked) == UNASKED) /* no words at all are an error, but another one */
        fst_own_store_relaxed(&asked, syscall(WAITV, NULL, 0, 0, NULL, 0) && refused() ? CANNOT : CAN);
    return fst_load_relaxed(&asked) == CAN ? FST_FUTEX_MOST : 1;
}

void fst_futex_wait_any(const struct fst_sleep *all, size_t n, uint64_t timeout_ns)
{
    struct waitv words[FST_FUTEX_MOST];
    struct timespec until;
    if (fst_futex_most() > 1) {
        for (size_t i = 0; i < n; i++)
            words[i] = (struct waitv){.expected = all[i].expected, .word = (uintptr_t)all[i].word, .flags = WAITV_U32};
        clock_gettime(CLOCK_MONOTONIC, &until);
        uint64_t ns = (uint64_t)until.tv_nsec + timeout_ns;
        until.tv_sec += (time_t)(ns / 1000000000ull);
        until.tv_nsec = (long)(ns % 1000000000ull);
        if (syscall(WAITV, words, n, 0, &until, CLOCK_MONOTONIC) >= 0 || !refused())
            return;
        fst_own_store_relaxed(&asked, CANNOT); /* a filter came meanwhile */
    }
    fst_futex_wait(all[n - 1].word, all[n - 1].expected, timeout_ns);
}

uint64_t fst_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}
