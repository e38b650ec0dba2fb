/* letters.h - what nodes of channels refer to, in a batch: what the dead had in their hands, and
 * channels that have ended.
 *
 * A node refers to its object as an entry does to the process's. While it is QUEUED, or its owner
 * lives, the scan counts it. What a dead process owned, or was about to put, is asked for and
 * released like its entries, and then the node is FREE; with acknowledgements what it had taken
 * goes back into the queue. The nodes of a channel that has ended are asked for altogether; its
 * ring goes when nobody has it open.
 *
 * Killed anywhere in here: the next batch finds the same processes DEAD, and the same channels
 * ENDED. models/handover.pml.
 */
#ifndef FST_RECLAIM_LETTERS_H
#define FST_RECLAIM_LETTERS_H

#include "rcu/thread.h"
#include "teardown/words.h"

struct fst_letters {
    bool any;                              /* somebody is dead */
    uint64_t dead[FST_MAX_PROCESSES / 64]; /* by slot */
    /* by descriptor: those whose objects were condemned. Others may end meanwhile */
    uint64_t ended[FST_MAX_CHANNELS / 64];
    /* by descriptor: an earlier batch found their rings unreferenced, and could not say so */
    uint64_t unsaid[FST_MAX_CHANNELS / 64];
};

/* Step 2 of a batch, after what has ended was condemned. Returns how many words the scan has to
 * look for. */
uint64_t fst_letters_condemn(struct fst_arena *a, struct fst_letters *l, struct fst_scan *scan);
/* Step 4, before the tables are scanned. */
void fst_letters_scan(struct fst_arena *a, const struct fst_letters *l, const struct fst_scan *scan);
/* Step 5. */
void fst_letters_finish(struct fst_thread *t, const struct fst_letters *l, const struct fst_scan *scan, struct fst_released *r);

/* Has this process, which is about to leave, a node in its hands? Then the next batch buries it. */
bool fst_letters_owns(struct fst_arena *a);

#endif
