/* attach.h - what the files of this folder share: the list of this process's attachments.
 *
 * The locks of this process, outermost first, are: fst_open_mutex (opening, closing, forking), each
 * reaper's mutex, fst_local_mutex (rcu/thread.h), and the mutex of each table of references. All
 * but the reapers' are held over a fork.
 */
#ifndef FST_ARENA_ATTACH_H
#define FST_ARENA_ATTACH_H

#include <pthread.h>

#include "region/region.h"

extern pthread_mutex_t fst_open_mutex;
extern struct fst_arena *fst_attachments; /* under fst_open_mutex */

/* Register the fork handlers and the function for the end of threads; this is done once. FST_OS,
 * for good, when it failed. */
int fst_attach_init(void);
int fst_fork_init(void);

/* ---- leaving (arena/leave.c) ---- */

/* Let go of the thread's slabs without waiting for a lock: what a lock that is held keeps this
 * thread from giving back, a batch finds. Under fst_local_mutex, which other threads of this
 * process need. */
void fst_arena_disown(struct fst_thread *t);

/* Let go of PRESENT. If nobody else is present and the arena is not lasting, remove its name. To
 * repeat it does no harm. */
void fst_arena_leave(struct fst_arena *a);

/* Give back all that this process has of the arena, and leave it. Its slot becomes FREE if nothing
 * of the process is left; otherwise it stays LIVE without its lock, and a batch buries it. */
void fst_arena_detach(struct fst_arena *a);

#endif
