/* file.h - the arena's file, through descriptors that provably belong to it.
 *
 * A program may close descriptors that it does not know, and open other files under their numbers.
 * So a number is trusted only after fstat() has found the arena's device and inode behind it, just
 * before it is used; and what the kernel answers about the dead is believed only if that is still
 * so just after. Which open file description a number stands for, where that matters (for this
 * process's own locks, and before a close), is told by a byte that the description holds locked
 * (platform/liveness.h).
 *
 * When the numbers are lost, the file is opened anew: by its path, or through the kernel's list of
 * mappings, which only privileged processes may use. Where neither works, memory is still committed
 * and given back through the mappings; but the kernel cannot be asked who lives, so everybody
 * counts as alive.
 */
#ifndef FST_REGION_FILE_H
#define FST_REGION_FILE_H

#include "region/region.h"

/* A descriptor of the file, to be given back with fst_file_put at once. -1, with errno: there is no
 * way to the file. */
int fst_file_get(struct fst_arena *a);
void fst_file_put(struct fst_arena *a, int fd);

/* A new open file description of the arena's file, close-on-exec. -1, with errno, on failure. */
int fst_file_reopen(struct fst_arena *a);

/* Is there a way to the file? If not, FST_CLOSED, with a sentence about what became of it. */
int fst_file_reachable(struct fst_arena *a);
/* What became of the file, as a sentence, for a caller that has the errno value of fst_file_get or
 * fst_file_reopen. */
const char *fst_file_lost(const struct fst_arena *a, int error);

/* A descriptor to pass on to other processes; it stays the attachment's own. -1, with errno, on
 * failure. */
int fst_file_handed(struct fst_arena *a);

/* The number of the description that holds this process's locks. -1: the number was closed, and
 * only the mapped page keeps the locks. */
int fst_file_lock(struct fst_arena *a);

/* Close and unmap a description. A number that is not provably the description's own stays open. */
void fst_file_drop(struct fst_arena *a, struct fst_description *d);
/* Close and unmap both descriptions of the attachment. */
void fst_file_close(struct fst_arena *a);
/* In a forked child: close the numbers that belong to its parent's attachment. */
void fst_file_forked(struct fst_arena *a);

/* Ask as fst_liveness_find does, through any description of the file: this process's own locks may
 * show. */
int64_t fst_file_find(struct fst_arena *a, off_t start, off_t count);
/* Does any other process hold its byte of the range that begins at `base`, which has one for each
 * slot? */
bool fst_file_others(struct fst_arena *a, off_t base);

/* See to it that the file has at least this length. It is never cut, and two processes may do so at
 * once. What is new is a hole. FST_FULL; or FST_OS, with a sentence that names `ulimit -f` where
 * that is the reason: the system does not answer a write beyond that limit with an error but with a
 * signal that kills. */
int fst_file_extend(int fd, uint64_t length);
/* Compare the length with `ulimit -f` alone: FST_OS or FST_OK. */
int fst_file_fits_limit(uint64_t length);

/* Bytes of the data region, mapped once more and for writing in a process that has it read-only. */
struct fst_mapped {
    void *base; /* NULL: nothing is mapped */
    uint64_t bytes;
};
/* The byte at the offset; NULL, with errno, on failure. The caller unmaps it with
 * fst_file_unmap_data. */
uint8_t *fst_file_map_data(struct fst_arena *a, uint64_t offset, uint64_t bytes, struct fst_mapped *out);
void fst_file_unmap_data(struct fst_mapped *m);

/* fst_commit, after the question whether the cgroup has room, and fst_punch: each through a
 * descriptor, or through the mapping where there is none. 0 or an errno value. */
int fst_file_commit(struct fst_arena *a, uint64_t offset, uint64_t length);
int fst_file_punch(struct fst_arena *a, uint64_t offset, uint64_t length);

#endif
