#include "platform/fault.h"

#include <signal.h>
#include <unistd.h>

/* Thread-local, so that a reaper thread of the same process neither counts nor dies for the thread under test. */
static _Thread_local uint64_t passed;
static _Thread_local uint64_t armed;

#ifdef FST_FAULT_POINTS
void fst_fault_point(void)
{
    if (++passed == armed) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}
#endif

void fst_fault_arm(uint64_t nth)
{
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
