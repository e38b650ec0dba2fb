/* file.h - the arena's file, through descriptors that are provably its.
 *
 * A number is trusted only after fstat() found the arena's device and inode behind it, just before
 * it is used; what the kernel says of the dead is believed only if it is so just after, too. Which
 * open file description a number stands for, where that matters (locks of our own, close), is told
 * by a byte that the description holds locked (platform/liveness.h). When the numbers are lost, the
 * file is opened anew: by its path, or through the kernel's list of mappings, which is for the
 * privileged. Where neither is possible memory is still taken and given back, through the mappings;
 * nobody can be asked whether he lives, so everybody counts as alive.
 */
#ifndef FST_REGION_FILE_H
#define FST_REGION_FILE_H

#include "region/region.h"

/* A descriptor of the file, to be put back at once; -1 and errno: there is no way to the file. */
int fst_file_get(struct fst_arena *a);
void fst_file_put(struct fst_arena *a, int fd);

/* A new open file description of it, close-on-exec. -1 and errno. */
int fst_file_reopen(struct fst_arena *a);

/* Is there a way to the file? FST_CLOSED, with what became of it. */
int fst_file_reachable(struct fst_arena *a);
/* The same as a text, for who has an errno value from above. */
const char *fst_file_lost(const struct fst_arena *a, int error);

/* A descriptor to pass on to other processes: it stays the attachment's own. -1 and errno. */
int fst_file_handed(struct fst_arena *a);

/* The number of the description that holds this process's locks, or -1: it was closed, and only
 * the mapping keeps them. */
int fst_file_lock(struct fst_arena *a);

/* Close and unmap a description. A number that is not provably its own stays as it is. */
void fst_file_drop(struct fst_arena *a, struct fst_description *d);
/* The same for all that the attachment has. */
void fst_file_close(struct fst_arena *a);
/* In a forked child: close the numbers that are its parent's. */
void fst_file_forked(struct fst_arena *a);

/* As fst_liveness_find, through whatever description: our own lock may show. */
int64_t fst_file_find(struct fst_arena *a, off_t start, off_t count);
/* Does any other process hold one of the bytes that there is one of for each slot? */
bool fst_file_others(struct fst_arena *a, off_t base);

/* See to it that the file has at least this length, and never cut it: two may do so at once. What
 * comes new is a hole. FST_FULL, or FST_OS with a sentence that names `ulimit -f` where that is in
 * the way: beyond it lies no error but a signal that kills. */
int fst_file_extend(int fd, uint64_t length);
/* The limit alone: FST_OS, FST_OK. */
int fst_file_fits_limit(uint64_t length);

/* Bytes of the data region, once more and for writing, where this process maps it read-only. */
struct fst_mapped {
    void *base; /* NULL: nothing is mapped */
    uint64_t bytes;
};
/* At the offset; NULL and errno. To be unmapped. */
uint8_t *fst_file_map_data(struct fst_arena *a, uint64_t offset, uint64_t bytes, struct fst_mapped *out);
void fst_file_unmap_data(struct fst_mapped *m);

/* fst_commit and fst_punch. */
int fst_file_commit(struct fst_arena *a, uint64_t offset, uint64_t length);
int fst_file_punch(struct fst_arena *a, uint64_t offset, uint64_t length);

#endif
