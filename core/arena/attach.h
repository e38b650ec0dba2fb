/* attach.h - what the files of this folder share: the list of this process's attachments.
 *
 * Locks of the process, outermost first: fst_open_mutex (opening, closing, forking), each reaper's
 * mutex, fst_local_mutex (rcu/thread.h), each table of references' mutex. All but the reapers' are
 * held over a fork.
 */
#ifndef FST_ARENA_ATTACH_H
#define FST_ARENA_ATTACH_H

#include <pthread.h>

#include "region/region.h"

extern pthread_mutex_t fst_open_mutex;
extern struct fst_arena *fst_attachments; /* under fst_open_mutex */

/* Register the fork handlers and the end of threads, once: FST_OS for good if that failed. */
int fst_attach_init(void);
int fst_fork_init(void);

/* ---- leaving (arena/leave.c) ---- */

/* Let go of the thread's slabs without waiting for a lock: a batch finds what a lock that is held
 * keeps us from giving back. Under fst_local_mutex, which other threads of this process need. */
void fst_arena_disown(struct fst_thread *t);

/* Let go of PRESENT; if nobody else is present and the arena is not lasting, remove its name.
 * Idempotent. */
void fst_arena_leave(struct fst_arena *a);

/* Give back all that this process has of the arena, and leave it. Our slot becomes FREE if nothing
 * of ours is left; otherwise it stays LIVE without its lock, and a batch buries it. */
void fst_arena_detach(struct fst_arena *a);

#endif
