#include "platform/membarrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/atomics.h"

bool fst_membarrier_register(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

void fst_membarrier(void)
{
    fst_full_fence();
#ifndef FST_MUTANT_NO_HEAVY_BARRIER
    syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0);
#endif
    fst_full_fence();
}
