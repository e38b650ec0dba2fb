/* memlimit.h - is there room under the memory limits of this process's cgroups?
 *
 * What is committed on a tmpfs counts for the memory cgroup of the process that commits it. Beyond
 * the limit there is no error: the kernel kills. So whoever commits asks here first. The answer is
 * one of the moment: other processes of the same cgroup may be quicker, and the arena cannot know
 * what else the process needs. Some room is left for both.
 *
 * Everything is found by paths below /sys/fs/cgroup and /proc. Where these are not mounted, or no
 * descriptor is free, there is no check. A look takes some ten microseconds for each limit, and is
 * taken again when a sixteenth of the room was used, or after 50 ms.
 *
 * Version 1 of cgroups is tested against the kernel (tests/process/test_memory_limit.py), and
 * version 2 where a kernel gives it the memory controller. Elsewhere version 2 is tested only
 * against files that look like its own (tests/core/test_memlimit.c).
 */
#ifndef FST_PLATFORM_MEMLIMIT_H
#define FST_PLATFORM_MEMLIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* May this process use so many bytes more? If not, `why` receives who has no room for them, as a
 * part of a sentence. */
bool fst_memlimit_room(uint64_t bytes, char *why, size_t size);

/* The folders in which to look, /sys/fs/cgroup and /proc; tests set others. An answer from one
 * folder does not hold for another. */
extern const char *fst_memlimit_cgroups, *fst_memlimit_proc;

#endif
