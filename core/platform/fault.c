#include "platform/fault.h"

#include <signal.h>
#include <unistd.h>

#include "flagstone_test.h"

/* The counts belong to one thread, so that a reaper thread of the same process neither counts nor
 * dies in place of the thread under test. */
static _Thread_local uint64_t passed;
static _Thread_local uint64_t armed;
static _Thread_local int signal_then = SIGKILL;

#ifdef FST_FAULT_POINTS
void fst_fault_point(void)
{
    if (++passed != armed)
        return;
    kill(getpid(), signal_then);
    while (signal_then == SIGKILL)
        pause();
}
#endif

void fst_fault_stop(uint64_t nth)
{
    fst_fault_arm(nth);
    signal_then = SIGSTOP;
}

void fst_fault_arm(uint64_t nth)
{
    signal_then = SIGKILL;
    passed = 0;
    armed = nth;
}

bool fst_has_fault_points(void)
{
#ifdef FST_FAULT_POINTS
    return true;
#else
    return false;
#endif
}

uint64_t fst_fault_passed(void)
{
    return passed;
}
