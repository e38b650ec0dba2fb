/* futex.h - sleep on a 32-bit word in shared memory, and wake its sleepers.
 *
 * Every wait is bounded: the process that should wake a sleeper may have been killed. So a sleeper
 * wakes up by itself and asks the kernel who lives (platform/liveness.h).
 */
#ifndef FST_PLATFORM_FUTEX_H
#define FST_PLATFORM_FUTEX_H

#include <stddef.h>
#include <stdint.h>

#include "flagstone.h" /* fst_now: the one clock of the core, CLOCK_BOOTTIME */

#define FST_MS 1000000ull /* nanoseconds */

/* Nobody who may have to be woken by others sleeps for longer (ns), because the kernel counts one
 * that is stopped or killed as woken, and who would wake him may be killed before that. */
#define FST_SLEEP_NS (10 * FST_MS)

/* Sleep while *word == expected, for at most timeout_ns. The call returns on a wake-up, a change, a
 * signal or the time-out and does not say which: callers look at the word again. */
void fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns);
/* Wake up to `count` sleepers; the result is how many were woken. */
int fst_futex_wake(const uint32_t *word, int count);

/* A word to sleep on while it is `expected`. */
struct fst_sleep {
    const uint32_t *word;
    uint32_t expected;
};
#define FST_FUTEX_MOST 128 /* words of one fst_futex_wait_any */
/* How many words a thread can sleep on at once: FST_FUTEX_MOST, or 1 where the kernel has no
 * futex_waitv (before Linux 5.16), or forbids it (seccomp), which may also begin later. */
size_t fst_futex_most(void);
/* As fst_futex_wait, for `n` words at once, FST_FUTEX_MOST at most. Where the kernel cannot do
 * that, it sleeps on the last of them alone. */
void fst_futex_wait_any(const struct fst_sleep *all, size_t n, uint64_t timeout_ns);

#endif
