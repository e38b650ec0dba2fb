#include "platform/membarrier.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEEDED (MEMBARRIER_CMD_GLOBAL | MEMBARRIER_CMD_PRIVATE_EXPEDITED | MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)

static pthread_once_t asked = PTHREAD_ONCE_INIT, registered = PTHREAD_ONCE_INIT;
static bool usable;

static long call(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

static void ask(void)
{
    long has = call(MEMBARRIER_CMD_QUERY);
    usable = has >= 0 && (has & NEEDED) == NEEDED;
}

bool fst_membarrier_usable(void)
{
    pthread_once(&asked, ask);
    return usable;
}

static void enter(void)
{
    call(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}

bool fst_membarrier_near(void)
{
    if (!fst_membarrier_usable())
        return false;
    /* A forked child inherits the registration, and `registered`, which says so. */
    pthread_once(&registered, enter);
    return call(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0;
}

bool fst_membarrier_far(void)
{
    return fst_membarrier_usable() && call(MEMBARRIER_CMD_GLOBAL) == 0;
}
