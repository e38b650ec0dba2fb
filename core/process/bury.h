/* bury.h - from the death of a process to its free slot.
 *
 * What the process leaves, and who mends it:
 *
 *   its references             LIVE and DROPPED entries count as dropped: the batch splices them
 *                              (reclaim/drops.c)
 *   its read-side sections     its thread slots are freed before the batch's grace period
 *                              (fst_finish_deaths)
 *   slabs it was carving or    found by their owner word (fst_finish_burials)
 *   closing, or allocated from
 *   locks it held              taken over by whoever waits for them, who rebuilds what they protect
 *                              (region/lock.c)
 *   groups it had open         an entry like any other: the batch closes the group
 *   a batch it ran             batch_dirty: the next one begins again
 *   messages it sent           stay in flight: they belong to the arena (refs/inflight.c)
 *   nodes of channels          freed, or queued again (reclaim/letters.c)
 *   keys of stores             freed if it was putting them (reclaim/shelves.c)
 *   its slot                   DEAD until its entries are EMPTY, then FREE (fst_bury_end)
 *
 * A batch looks for the dead, has teardown/finish.c mend what is not mended in here, releases what
 * the dead held, and ends the burial of those whose entries are EMPTY. If it is killed in any of
 * these steps, the next batch finds the slot DEAD and does them again: each step can be repeated.
 */
#ifndef FST_PROCESS_BURY_H
#define FST_PROCESS_BURY_H

#include "region/region.h"

/* Ask the kernel about every process. Those that are dead become DEAD, with a record of their
 * burial; the result is how many slots are DEAD. Under the reaper's lock, like all functions
 * below. */
uint32_t fst_bury_probe(struct fst_arena *a);

/* Is this slot DEAD, with nothing left in its table of entries? */
bool fst_bury_due(struct fst_arena *a, uint32_t slot);

/* Let nobody look into the slot's table of entries any more. The result says whether the table has
 * memory to give back, which has to wait for those who look into it now, in a section.
 * PAIR(table) */
bool fst_bury_close_table(struct fst_arena *a, uint32_t slot);

/* Close the record and make the slot FREE. `unread`: nobody looks into the table any more, so its
 * memory goes back to the system; otherwise it stays for the slot's next process. */
void fst_bury_end(struct fst_arena *a, uint32_t slot, bool unread);

#endif
