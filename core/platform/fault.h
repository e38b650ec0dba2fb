/* fault.h - kill or stop the process at its n-th write to shared memory.
 *
 * Every write to shared memory that matters goes through the operations of atomics.h, and each of
 * them ends in FST_FAULT(). In an ordinary build that is nothing. In a build with
 * -Dfault_points=true a test arms the n-th point (fst_fault_arm, fst_fault_stop), and the process
 * sends itself SIGKILL or SIGSTOP there: what the survivors find is what a kill or a stop at that
 * instruction leaves behind.
 */
#ifndef FST_PLATFORM_FAULT_H
#define FST_PLATFORM_FAULT_H

#include <stdint.h>

#include "flagstone.h"

#ifdef FST_FAULT_POINTS
void fst_fault_point(void);
#define FST_FAULT() fst_fault_point()
#else
#define FST_FAULT() ((void)0)
#endif

#endif
