/* mapping.h - files and address space: make, size, map, commit and give back memory of an
 * arena's file. */
#ifndef FST_PLATFORM_MAPPING_H
#define FST_PLATFORM_MAPPING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the system's pages: 4 KiB, and on aarch64 16 or 64 KiB as well. What is mapped begins at
 * a multiple in the file; an arena's own pages, FST_PAGE, are smaller there. The build option
 * page_size says a larger one, which then holds for what is mapped as if it were the system's. */
uint64_t fst_system_page(void);

/* Map length bytes of fd at offset, shared. Left out of core dumps. NULL and errno on failure. */
void *fst_map(int fd, uint64_t offset, uint64_t length, bool writable, bool huge_pages);
/* The same at an address that is a multiple of `align`, a power of two and at least a page:
 * offsets in the file keep their alignment. */
void *fst_map_aligned(int fd, uint64_t offset, uint64_t length, uint64_t align, bool writable, bool huge_pages);
void fst_unmap(void *base, uint64_t length);

/* Process-local zeroed memory, reserved and not charged until touched; not copied into core
 * dumps. NULL and errno. */
void *fst_map_private(uint64_t length);
/* More of it, maybe elsewhere. NULL and errno: it stays as it was. */
void *fst_map_more(void *base, uint64_t length, uint64_t more);

/* To be asked before either of the next two, so that a memory cgroup at its limit is an error
 * and not a SIGKILL (platform/memlimit.h). */
bool fst_commit_allowed(uint64_t length);

/* Take the bytes from the system before they are touched, so that a full file system is an error
 * here and not a SIGBUS there. Idempotent. 0 or an errno value; ENOSPC and ENOMEM: there is no
 * room. */
int fst_commit(int fd, uint64_t offset, uint64_t length);

/* Make the file reach to offset + length, where it is shorter; the bytes stay a hole, and what
 * others have appended stays. */
int fst_append(int fd, uint64_t offset, uint64_t length);

/* Who had no room for it, in the calling thread: "the file system", or a sentence about a memory
 * cgroup. */
const char *fst_commit_refused_by(void);

/* The same of mapped bytes, for who has no descriptor: pages that are there already stay, and on
 * failure some are. */
int fst_populate(void *base, uint64_t length);
int fst_remove(void *base, uint64_t length);

/* Make huge pages of mapped bytes that are all committed, if the system can: both are multiples
 * of one's size. Waits for the copy. Unlike MADV_HUGEPAGE it does not depend on how the tmpfs is
 * mounted (Linux 6.1, Documentation/admin-guide/mm/transhuge.rst). */
void fst_collapse(void *base, uint64_t length);

/* Give whole pages back to the system; they read as zeros afterwards. 0 or an errno value. */
int fst_punch(int fd, uint64_t offset, uint64_t length);

#endif
