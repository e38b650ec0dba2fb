/* liveness.h - the kernel says who is alive.
 *
 * A process holds a write lock on its own byte of the arena's file, through an open file
 * description of its own (an OFD lock). The kernel releases it when the last thread is gone,
 * whatever happened. Nobody else can hold it, and asking whether it is held does not acquire it.
 * The bytes lie in two ranges far beyond the file's end:
 *
 *     ALIVE + slot      this process lives and may hold references
 *     PRESENT + slot    this process counts for "the last one out removes the arena"; it lets
 *                       go of this byte at exit, before it dies
 *
 * Other ways do not serve. POSIX record locks are lost when any code in the process closes the
 * file; a lock on the data descriptor is shared with whoever inherits it; a pid means nothing in
 * another pid namespace; /proc shows a living process as a zombie when only its first thread has
 * ended.
 */
#ifndef FST_PLATFORM_LIVENESS_H
#define FST_PLATFORM_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define FST_LOCK_ALIVE   ((off_t)1 << 60)
#define FST_LOCK_PRESENT (((off_t)1 << 60) + (1 << 20))
/* 64 bytes for each slot: see refs/heirs.h */
#define FST_LOCK_HEIRS  (((off_t)1 << 60) + (2 << 20))
#define FST_HEIRS_BYTES 64
/* Bytes from here on are marks: a description is recognized by the one that it holds locked. */
#define FST_LOCK_MARK ((off_t)1 << 61)

/* Open a new file description of the same file, close-on-exec, so that its locks belong to nobody
 * else. -1 and errno on failure. */
int fst_liveness_reopen(int fd);

/* An open file description, and what keeps it open. The program may close a descriptor that it does
 * not know (as one does that becomes a daemon), and the number may then be another file's. A page
 * that is mapped through the description keeps it open, and with it its locks, until the page is
 * unmapped, or the process ends or executes another program. Nothing is ever read or written in
 * that page. */
struct fst_description {
    int fd;     /* -1: there is none, or it was lost */
    void *page; /* NULL: only the number keeps the description open */
    /* the byte that this description holds locked, by which it is told from others */
    off_t mark;
};

/* Map the page; a forked child gets it only if `inherited`. False, with errno, on failure. */
bool fst_description_keep(struct fst_description *d, bool inherited);

/* Does fd, which is a descriptor of the file, stand for the kept description? A lock does not show
 * in a query through its own description, so the mark seems free through that one alone. */
bool fst_description_is(const struct fst_description *d, int fd);

/* Forked children do not get the page from now on (private), or they do (inherit). */
bool fst_description_private(const struct fst_description *d);
bool fst_description_inherit(const struct fst_description *d);

/* Unmap the page. The description is closed by that, and its locks are gone, if no number is
 * left. */
void fst_description_unmap(struct fst_description *d);

/* 0 if the kernel has locks of open file descriptions; otherwise the errno value that says why
 * not. */
int fst_liveness_missing(int lock_fd);

/* Lock bytes [start, start + count) for writing without waiting; false when somebody holds one
 * of them. */
bool fst_liveness_try(int lock_fd, off_t start, off_t count);
void fst_liveness_release(int lock_fd, off_t start, off_t count);

/* Does another open file description hold a lock in [start, start + count)? Returns its first
 * byte's offset from start, or -1. */
int64_t fst_liveness_find(int lock_fd, off_t start, off_t count);

#endif
