/* letters.h - what nodes of channels refer to, in a batch: nodes that the dead owned, and those of
 * channels that have ended.
 *
 * A node refers to its object as an entry does to a process's. While the node is QUEUED, or its
 * owner lives, the scan counts it. What a dead process owned, or was about to put, is condemned and
 * released like its entries, and then the node is FREE; with acknowledgements, what it had taken
 * goes back into the queue. All nodes of a channel that has ended are condemned together; its ring
 * goes when nobody has it open.
 *
 * Where no node ever referred to anything, and no dead process ever owned a node, a batch looks at
 * the descriptor alone.
 *
 * After a kill in here the next batch finds the same processes DEAD, and the same channels ENDED.
 * The model is models/handover.pml.
 */
#ifndef FST_RECLAIM_LETTERS_H
#define FST_RECLAIM_LETTERS_H

#include "rcu/thread.h"
#include "teardown/words.h"

struct fst_letters {
    bool any;                              /* some process is dead */
    uint64_t dead[FST_MAX_PROCESSES / 64]; /* by slot: processes that are dead */
    /* by descriptor: channels of which they may have owned something */
    uint64_t theirs[FST_MAX_CHANNELS / 64];
    /* by descriptor: channels whose objects were condemned; others may end meanwhile */
    uint64_t ended[FST_MAX_CHANNELS / 64];
    /* by descriptor: channels whose rings an earlier batch found unreferenced, which it could not
     * say */
    uint64_t unsaid[FST_MAX_CHANNELS / 64];
};

/* How many looks at nodes a batch takes; one that is above `most` need not be exact. */
uint64_t fst_letters_looks(const struct fst_arena *a, uint64_t most);

/* Step 2 of a batch, after what has ended was condemned. The result is how many words the scan has
 * to look for. */
uint64_t fst_letters_condemn(struct fst_arena *a, struct fst_letters *l, struct fst_scan *scan);
/* Step 4 of a batch, before the tables are scanned. */
void fst_letters_scan(struct fst_arena *a, const struct fst_letters *l, const struct fst_scan *scan);
/* Step 5 of a batch. */
void fst_letters_finish(struct fst_thread *t, const struct fst_letters *l, const struct fst_scan *scan, struct fst_released *r);

/* Does this process, which is about to leave, own a node? Then the next batch buries it. */
bool fst_letters_owns(struct fst_arena *a);

#endif
