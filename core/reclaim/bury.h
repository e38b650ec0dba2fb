/* bury.h - what a dead process leaves, and who mends it.
 *
 *   its references        LIVE and DROPPED entries count as dropped: the batch takes them             reclaim/batch.c
 *   its read-side sections  its thread slots are freed before the batch's grace period                fst_bury_probe
 *   slabs it was carving or closing, its active slabs   found by their owner word                     fst_bury_finish
 *   locks it held         taken over by who waits for them, who rebuilds what they protect            region/lock.c
 *   groups it had open    an entry like any other: the group is closed by the batch                   reclaim/batch.c
 *   a batch it ran        batch_dirty: begun again                                                    reclaim/batch.c
 *   messages it sent      stay in flight: they belong to the arena                                    refs/inflight.c
 *   its slot              DEAD until its entries are EMPTY, then FREE                                 fst_bury_finish
 *
 * Who is alive and cannot have a lock in time leaves a slab in the same way, and says so in superblock.loose.
 * Killed in any of these steps, the next batch finds the slot DEAD and does them again: each is idempotent.
 */
#ifndef FST_RECLAIM_BURY_H
#define FST_RECLAIM_BURY_H

#include "region/region.h"

/* Ask the kernel about every process; the dead become DEAD and their thread slots free. Returns how many slots are DEAD. */
uint32_t fst_bury_probe(struct fst_arena *a);

/* For every DEAD slot whose entries are all EMPTY: recover its slabs, free the slot. Under the reaper's lock. The memory of their tables goes
 * back to the system after a grace period; where that is not over at once, it stays for the slot's next owner. */
void fst_bury_finish(struct fst_arena *a, uint64_t me);

#endif
