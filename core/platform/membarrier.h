/* membarrier.h - the heavy side of an asymmetric barrier: readers pay a compiler barrier, the updater a system call.
 *
 * membarrier(2) GLOBAL_EXPEDITED makes every running thread of every *registered* process pass a full barrier. Registration
 * is inherited over fork, lost by exec, and its absence is silent: register at every attach.
 */
#ifndef FST_PLATFORM_MEMBARRIER_H
#define FST_PLATFORM_MEMBARRIER_H

#include <stdbool.h>

/* Register this process as a receiver. False where the kernel or a seccomp filter says no. */
bool fst_membarrier_register(void);

/* The heavy barrier. PAIR(read-section): orders the caller's earlier writes before any later read of a reader, and a reader's
 * earlier writes before the caller's later reads. */
void fst_membarrier(void);

#endif
