/* batch.h - the batch: whatever died is released together, after one grace period.
 *
 *   1  splice    DROPPED entries become TAKEN, and so do dead processes' LIVE entries; ended groups
 *                and caches leave their queues (reclaim/drops.h, teardown/queue.h)
 *   2  condemn   the words of TAKEN entries, and of all objects of ended children, become
 *                CONDEMNED; in-flight entries of ended groups end (teardown/words.h)
 *   3  wait      a fence, and one grace period (reclaim/holders.h)
 *   4  scan      stores and in-flight entries first, the processes' tables last (references move in
 *                that direction only, so none is missed): a LIVE or DROPPED entry of the word's
 *                generation takes CONDEMNED away (refs/scan.h)
 *   5  release   what is still CONDEMNED is swung to free, generation + 1; empty slabs, children,
 *                groups and caches follow (teardown/release.h)
 *   6  empty     TAKEN entries become EMPTY (reclaim/drops.h)
 *
 * What a batch has under way is all in the states of shared memory. A reaper that is killed, or
 * breaks off because a reader does not leave, leaves batch_dirty set, and the next batch begins
 * again at 1 over everything. The model is models/references.pml.
 */
#ifndef FST_RECLAIM_BATCH_H
#define FST_RECLAIM_BATCH_H

#include "rcu/thread.h"
#include "region/region.h"

struct fst_batch_options {
    bool deaths; /* ask the kernel who is alive */
    /* look only at what processes have dropped; nobody waits for such a batch, so it has no
     * number */
    bool drops_only;
    bool give_back; /* give empty slabs back to the page allocator */
    /* also empty slabs from which threads of other processes allocate, which may take 10 ms
     * (alloc/revoke.h) */
    bool others;
    uint64_t timeout;     /* ns, for the grace period and for locks */
    const uint32_t *stop; /* not 0: the batch is broken off; the pointer may be NULL */
    /* becomes true when something became empty that only another batch can give back; the pointer
     * may be NULL */
    bool *more;
};

/* Allocate what this process needs to run batches, so that no batch needs memory. FST_FULL. */
int fst_batch_create(struct fst_arena *a);
void fst_batch_destroy(struct fst_arena *a);

/* Run one batch. FST_BUSY: another process or thread runs one; or, with `drops_only`, there is more
 * to do. FST_TIMEOUT, FST_HELD, FST_OS: it was broken off. FST_CORRUPTED. In no section. */
int fst_batch_run(struct fst_thread *t, const struct fst_batch_options *options);

/* Run batches, or wait for those of others, until the number of the last one that was over has
 * passed `cookie`. FST_TIMEOUT, FST_OS, FST_CORRUPTED. In no section. */
int fst_batch_wait(struct fst_thread *t, uint32_t cookie, const struct fst_batch_options *options);

/* The number of the last batch that was over, and that of the newest begun, at one moment. False:
 * the two contradict each other. */
bool fst_batch_numbers(const struct fst_arena *a, uint32_t *over, uint32_t *begun);

/* The number of the newest batch: either that of the last one that was over, or the next. The batch
 * after it sees all that was done before this call. */
uint32_t fst_batch_begun(struct fst_arena *a);

#endif
