/* membarrier.h - a full barrier in other threads, paid for by who asks: membarrier(2).
 *
 * "Near": the threads of this process, by MEMBARRIER_CMD_PRIVATE_EXPEDITED; 0.1 us, or an interrupt
 * each of the other processors that run one. The first one takes as long as a far one, because the
 * process has to be registered. "Far": all threads of the machine, by MEMBARRIER_CMD_GLOBAL, which
 * waits for a grace period of the kernel's; 8 to 16 ms. MEMBARRIER_CMD_GLOBAL_EXPEDITED, which is
 * as far and nearly as quick, is not used: it misses threads (docs/design/README.md).
 */
#ifndef FST_PLATFORM_MEMBARRIER_H
#define FST_PLATFORM_MEMBARRIER_H

#include <stdbool.h>

/* Are both to be had? The kernel may be built without, run some processors without ticks
 * (nohz_full), or forbid them (seccomp). Asks the kernel once. */
bool fst_membarrier_usable(void);

/* Each such thread has passed a full barrier between call and return, or has not run; so has the
 * caller. False: it cannot be had. */
bool fst_membarrier_near(void);
bool fst_membarrier_far(void);

#endif
