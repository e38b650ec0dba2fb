/* mapping.h - files and address space: map an arena's file, have the system give memory for it, and
 * give memory back. */
#ifndef FST_PLATFORM_MAPPING_H
#define FST_PLATFORM_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a page of the system: 4 KiB, and on aarch64 16 or 64 KiB as well. What is mapped begins
 * at a multiple of it in the file; the arena's own pages (FST_PAGE) are smaller on such systems.
 * The build option page_size gives a larger number, which then holds for mappings as if it were the
 * system's. */
uint64_t fst_system_page(void);

/* Map `length` bytes of fd at `offset`, shared and left out of core dumps. NULL, with errno, on
 * failure. */
void *fst_map(int fd, uint64_t offset, uint64_t length, bool writable, bool huge_pages);
/* Map as fst_map does, at an address that is a multiple of `align`, which is a power of two and at
 * least a page: so offsets in the file keep their alignment in memory. */
void *fst_map_aligned(int fd, uint64_t offset, uint64_t length, uint64_t align, bool writable, bool huge_pages);
void fst_unmap(void *base, uint64_t length);

/* Map zeroed memory for this process alone. It is reserved, costs nothing until it is touched, and
 * is left out of core dumps. NULL, with errno, on failure. */
void *fst_map_private(uint64_t length);
/* Make such a mapping larger, at the same address or another. NULL, with errno, when it stays as it
 * was. */
void *fst_map_more(void *base, uint64_t length, uint64_t more);

/* Is there room for so many bytes under the limits of this process's memory cgroups
 * (platform/memlimit.h)? Ask before fst_commit, fst_append or fst_populate, so that a cgroup at its
 * limit is an error and not a SIGKILL. */
bool fst_commit_allowed(uint64_t length);

/* Have the system give memory for these bytes before they are touched, so that a full file system
 * is an error here and not a SIGBUS there. To repeat it does no harm. 0 or an errno value; ENOSPC
 * and ENOMEM say that there is no room. */
int fst_commit(int fd, uint64_t offset, uint64_t length);

/* Make the file reach to offset + length where it is shorter. The new bytes are a hole, and what
 * others have appended stays. 0 or an errno value, as fst_commit. */
int fst_append(int fd, uint64_t offset, uint64_t length);

/* What had no room when the calling thread's last commit failed: "the file system", or a sentence
 * about a memory cgroup. */
const char *fst_commit_refused_by(void);

/* Commit mapped bytes, and give mapped bytes back, in a process that has no descriptor of the file.
 * Pages that have memory already keep it; after a failure some pages may have it. 0 or an errno
 * value. */
int fst_populate(void *base, uint64_t length);
int fst_remove(void *base, uint64_t length);

/* Make huge pages of mapped bytes that are all committed, if the system can. Address and length are
 * multiples of a huge page. The call waits for the copy. Unlike MADV_HUGEPAGE it does not depend on
 * how the tmpfs is mounted (Linux 6.1, Documentation/admin-guide/mm/transhuge.rst). */
void fst_collapse(void *base, uint64_t length);

/* Give whole pages back to the system; they read as zeros afterwards. 0 or an errno value. */
int fst_punch(int fd, uint64_t offset, uint64_t length);

#endif
