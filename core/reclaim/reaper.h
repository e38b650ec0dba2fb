/* reaper.h - when batches run: this process's reaper thread.
 *
 * The thread starts when this process first has something for it and is stopped at detach and
 * before a fork. It sleeps until it is kicked; while other processes are attached it also looks for
 * deaths about twice a second. A first drop wakes it and it waits some milliseconds for more, so
 * that a grace period serves many; a full table of drops, or somebody who waits for memory, cuts
 * that short. Large objects are mostly used again before that, without it: reclaim/reuse.h.
 */
#ifndef FST_RECLAIM_REAPER_H
#define FST_RECLAIM_REAPER_H

#include "region/region.h"

/* Bytes of an object that is worth a batch of its own (reclaim/reuse.h): allocators see to
 * these, so that drops of them do not hurry the reaper. */
#define FST_REAPER_LARGE (64u << 10)

/* This process dropped a shared reference (an entry is DROPPED) to an object of so many bytes.
 * Any thread; never fails. */
void fst_reaper_dropped(struct fst_arena *a, uint64_t bytes);
/* A group or cache was ended. */
void fst_reaper_ended(struct fst_arena *a);
/* A message expires sooner than others, or one may be sent: look again how long to sleep. */
void fst_reaper_expect(struct fst_arena *a);
/* This process shares objects with others: watch over their deaths. */
void fst_reaper_watch(struct fst_arena *a);

/* Who is about to bring a process to the arena, by attaching or by forking, looks for deaths
 * first, unless somebody of this process did so a moment ago: so that crashed processes do not
 * pile up where no thread of ours is running, and each takes a slot from the living. Waits for
 * no reader for longer than a millisecond. In a section: nothing. */
void fst_reaper_greet(struct fst_arena *a);

int fst_reaper_create(struct fst_arena *a);
/* Stop the thread, if it runs; it starts again when next needed, unless `for_good`. */
void fst_reaper_stop(struct fst_arena *a, bool for_good);
/* After a fork, in the parent: start it again if there is something for it, which it may have
 * been stopped in the middle of. */
void fst_reaper_resume(struct fst_arena *a);
void fst_reaper_destroy(struct fst_arena *a);
/* In a forked child: the thread does not exist here. */
void fst_reaper_forked(struct fst_arena *a);

#endif
