/* bury.h - from the death of a process to its free slot.
 *
 * What it leaves, and who mends it:
 *   its references             LIVE and DROPPED entries count as dropped: the batch takes them
 *                              (reclaim/batch.c)
 *   its read-side sections     its thread slots are freed before the batch's grace period
 *                              (fst_finish_deaths)
 *   slabs it was carving or    found by their owner word (fst_finish_burials)
 *   closing, or allocated from
 *   locks it held              taken over by who waits for them, who rebuilds what they protect
 *                              (region/lock.c)
 *   groups it had open         an entry like any other: the batch closes the group
 *   a batch it ran             batch_dirty: begun again
 *   messages it sent           stay in flight: they belong to the arena (refs/inflight.c)
 *   nodes of channels          freed, or queued again (reclaim/letters.c)
 *   its slot                   DEAD until its entries are EMPTY, then FREE (fst_bury_end)
 *
 * A batch looks for the dead, has teardown/finish.c mend what is not in here, releases what the
 * dead held, and ends the burial of those whose entries are EMPTY. Killed in any of these steps,
 * the next batch finds the slot DEAD and does them again: each is idempotent.
 */
#ifndef FST_PROCESS_BURY_H
#define FST_PROCESS_BURY_H

#include "region/region.h"

/* Ask the kernel about every process; the dead become DEAD, with a record of their burial. Returns
 * how many slots are DEAD. Under the reaper's lock, like all that follows. */
uint32_t fst_bury_probe(struct fst_arena *a);

/* Is this slot DEAD, with nothing left in its table of entries? */
bool fst_bury_due(struct fst_arena *a, uint32_t slot);

/* Let nobody look into its table any more. Returns whether the table has memory to give back: that
 * has to wait for those who look into it now, in a section. PAIR(table) */
bool fst_bury_close_table(struct fst_arena *a, uint32_t slot);

/* DEAD -> FREE, with the record closed. `unread`: nobody looks into the table, and its memory goes
 * back to the system; otherwise it stays for the slot's next owner. */
void fst_bury_end(struct fst_arena *a, uint32_t slot, bool unread);

#endif
