/* membarrier.h - full barriers in other threads, paid for by the thread that asks: membarrier(2).
 *
 * "Near" are the threads of this process, reached by MEMBARRIER_CMD_PRIVATE_EXPEDITED. It takes 0.1
 * us, and an interrupt on each other processor that runs one of them. The first call takes as long
 * as a far one, because it registers the process. "Far" are all threads of the machine, reached by
 * MEMBARRIER_CMD_GLOBAL, which waits for a grace period of the kernel's, 8 to 16 ms.
 * MEMBARRIER_CMD_GLOBAL_EXPEDITED reaches as far and is nearly as quick as near, but it misses
 * threads and so is not used (docs/design/README.md).
 */
#ifndef FST_PLATFORM_MEMBARRIER_H
#define FST_PLATFORM_MEMBARRIER_H

#include <stdbool.h>

/* Does the kernel have both? It may be built without them, run some processors without ticks
 * (nohz_full), or forbid the call (seccomp). The kernel is asked once. */
bool fst_membarrier_usable(void);

/* Between call and return each near thread (each thread of the machine) has passed a full barrier
 * or has not run; so has the caller. False: the kernel does not have it. */
bool fst_membarrier_near(void);
bool fst_membarrier_far(void);

#endif
