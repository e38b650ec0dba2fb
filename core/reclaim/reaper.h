/* reaper.h - when batches run: this process's reaper thread.
 *
 * The thread starts when this process first has something for it, and is stopped at detach and
 * before a fork. It sleeps until it is kicked; while other processes are attached it also looks for
 * deaths about twice a second. A first drop wakes it, and it waits some milliseconds for more, so
 * that one grace period serves many. A full table of drops, or a thread that waits for memory, cuts
 * that short. Large objects are mostly used again before that, without the thread
 * (reclaim/reuse.h).
 */
#ifndef FST_RECLAIM_REAPER_H
#define FST_RECLAIM_REAPER_H

#include "region/region.h"

/* Bytes of an object for which a batch of its own pays (reclaim/reuse.h): allocators run it, so
 * drops of such objects do not hurry the reaper. */
#define FST_REAPER_LARGE (64u << 10)

/* This process has dropped a shared reference (made an entry DROPPED) to an object of so many
 * bytes. Any thread may call this; it never fails. */
void fst_reaper_dropped(struct fst_arena *a, uint64_t bytes);
/* A group or cache has ended, so a batch is to run. */
void fst_reaper_ended(struct fst_arena *a);
/* A message expires sooner than others, or one may be sent: look again how long to sleep. */
void fst_reaper_expect(struct fst_arena *a);
/* This process shares objects with others: start the thread, which looks for their deaths. */
void fst_reaper_watch(struct fst_arena *a);

/* Look for deaths before another process comes to the arena, by attaching or by forking, unless
 * this process did so a moment ago: so that crashed processes do not pile up where no reaper thread
 * is running, each in a slot that a living one could have. It waits for a reader for a millisecond
 * at most. In a section it does nothing. */
void fst_reaper_greet(struct fst_arena *a);

int fst_reaper_create(struct fst_arena *a);
/* Stop the thread, if it runs. It starts again when it is next needed, unless `for_good`. */
void fst_reaper_stop(struct fst_arena *a, bool for_good);
/* In the parent, after a fork: start the thread again if there is something for it, because it may
 * have been stopped in the middle of something. */
void fst_reaper_resume(struct fst_arena *a);
void fst_reaper_destroy(struct fst_arena *a);
/* In a forked child, where the thread does not exist: begin anew. */
void fst_reaper_forked(struct fst_arena *a);

#endif
