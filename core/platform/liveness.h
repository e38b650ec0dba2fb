/* liveness.h - the kernel says who is alive.
 *
 * A process holds a write lock on its own byte of the arena's file, through an open file
 * description of its own (OFD lock). The kernel releases it when the last thread is gone, whatever
 * happened; nobody else can hold it, and asking does not take it. Two ranges of bytes far beyond
 * the file's end:
 *
 *     ALIVE + slot      this process lives and may hold references
 *     PRESENT + slot    this process counts for "the last one out removes the arena"; let go at
 *                       exit, before it dies
 *
 * Why not: POSIX record locks are lost when anyone in the process closes the file; a lock on the
 * data descriptor is shared with whoever inherits it; a pid means nothing in another pid namespace;
 * /proc shows a living process as a zombie when only its first thread has ended.
 */
#ifndef FST_PLATFORM_LIVENESS_H
#define FST_PLATFORM_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FST_LOCK_ALIVE   ((off_t)1 << 60)
#define FST_LOCK_PRESENT (((off_t)1 << 60) + (1 << 20))
#define FST_LOCK_HEIRS   (((off_t)1 << 60) + (2 << 20)) /* see refs/heirs.h: some for each slot */
#define FST_HEIRS_BYTES  64
/* a byte that a description is told by, far from all others */
#define FST_LOCK_MARK ((off_t)1 << 61)

/* A new open file description of the same file, close-on-exec, so that its locks are nobody
 * else's. -1 and errno on failure. */
int fst_liveness_reopen(int fd);

/* An open file description and what keeps it. A descriptor's number may be closed behind our
 * back (a program that becomes a daemon closes what it does not know) and then be another
 * file's; a page that is mapped through the description keeps it, and its locks, until the page
 * is unmapped or the process ends or executes another program. Nothing is ever read or written
 * there. */
struct fst_description {
    int fd;     /* -1: none, or lost */
    void *page; /* NULL: nothing keeps it but its number */
    /* a byte that it holds locked: which description a number stands for is told by it */
    off_t mark;
};

/* Map the page; a forked child has it only if `inherited`. False and errno. */
bool fst_description_keep(struct fst_description *d, bool inherited);

/* Does fd, which is a descriptor of the file, stand for the kept description? Its own lock does
 * not show through itself. */
bool fst_description_is(const struct fst_description *d, int fd);

/* From now on forked children do not have it; or they do. */
bool fst_description_private(const struct fst_description *d);
bool fst_description_inherit(const struct fst_description *d);

/* Let go of the page, and with it of the locks, if no number is left. */
void fst_description_unmap(struct fst_description *d);

/* 0: locks of open file descriptions can be had; otherwise why not. */
int fst_liveness_missing(int lock_fd);

/* Lock bytes [start, start + count) for writing without waiting; false when somebody holds one
 * of them. */
bool fst_liveness_try(int lock_fd, off_t start, off_t count);
void fst_liveness_release(int lock_fd, off_t start, off_t count);

/* Does another open file description hold a lock in [start, start + count)? Returns its first
 * byte's offset from start, or -1. */
int64_t fst_liveness_find(int lock_fd, off_t start, off_t count);

#endif
