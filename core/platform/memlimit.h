/* memlimit.h - is there room under the memory limits of this process's cgroups?
 *
 * What is committed on a tmpfs counts for the memory cgroup of whoever commits it. Beyond the
 * limit there is no error: the kernel kills. So whoever commits asks first. It is an answer of the
 * moment: others of the same cgroup may be quicker, and what the process needs beside the arena is
 * not the arena's to know; some room is left for both.
 *
 * Everything is found by paths below /sys/fs/cgroup and /proc. Where these are not mounted, or no
 * descriptor is free, there is no check. Takes some ten microseconds for each limit, and is asked
 * again when a sixteenth of the room was used, or after 50 ms.
 *
 * The first version is tried against the kernel (tests/process/test_memory_limit.py), and the
 * second too where a kernel gives its memory controller; elsewhere only against files that look
 * like it (tests/core/test_memlimit.c).
 */
#ifndef FST_PLATFORM_MEMLIMIT_H
#define FST_PLATFORM_MEMLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* May so many bytes more be taken? False: `why` is who has no room for them, for a sentence. */
bool fst_memlimit_room(uint64_t bytes, char *why, size_t size);

/* Where to look: /sys/fs/cgroup and /proc. What was found elsewhere does not hold any more. */
extern const char *fst_memlimit_cgroups, *fst_memlimit_proc;

#endif
