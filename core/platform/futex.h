/* futex.h - sleep on a 32-bit word in shared memory, and wake its sleepers.
 *
 * Every wait is bounded: the process that should wake a sleeper may have been killed. So a sleeper
 * wakes up by itself and asks the kernel who lives (platform/liveness.h).
 */
#ifndef FST_PLATFORM_FUTEX_H
#define FST_PLATFORM_FUTEX_H

#include <stdint.h>

#include "flagstone.h" /* fst_now: the one clock of the core, CLOCK_BOOTTIME */

#define FST_MS 1000000ull /* nanoseconds */

/* Sleep while *word == expected, for at most timeout_ns. The call returns on a wake-up, a change, a
 * signal or the time-out and does not say which: callers look at the word again. */
void fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t timeout_ns);
/* Wake up to `count` sleepers; the result is how many were woken. */
int fst_futex_wake(const uint32_t *word, int count);

#endif
