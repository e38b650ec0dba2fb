/* emulated.h - what QEMU's emulation of another processor cannot do, by the names of cases.
 *
 * FST_TEST_EMULATED=1 (tools/aarch64) skips them. Each was seen to fail in the same way where QEMU
 * emulates x86-64 on x86-64, or to end on a machine's own processor in a second, so it says nothing
 * of the core.
 */
#ifndef FST_TEST_EMULATED_H
#define FST_TEST_EMULATED_H

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *reason;
} emulated_cannot[] = {
    {"with_busy_threads", "emulated: a fork beside threads may leave the emulator's own locks held in the child"},
    {"with_ending_threads", "emulated: a fork beside threads may leave the emulator's own locks held in the child"},
    {"without_waitv", "emulated: the emulator has no seccomp"},
    {"without_membarrier", "emulated: the emulator has no seccomp"},
    {"ended_beside_an_owner", "emulated: the emulator has no seccomp"},
    {"big_capacity", "emulated: the emulator has a record of its own for each page of a TiB that is mapped"},
};

/* Why the case cannot run here; NULL: it can. */
__attribute__((unused)) static const char *emulated_unable(const char *name)
{
    if (!getenv("FST_TEST_EMULATED"))
        return NULL;
    for (size_t i = 0; i < sizeof emulated_cannot / sizeof *emulated_cannot; i++)
        if (strcmp(name, emulated_cannot[i].name) == 0)
            return emulated_cannot[i].reason;
    return NULL;
}

#endif
