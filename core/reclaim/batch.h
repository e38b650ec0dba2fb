/* batch.h - the batch: whatever died is released together, after one grace period.
 *
 *   1  splice    DROPPED entries become TAKEN; dead processes' LIVE entries too; ended groups and
 *                caches are taken off their queue (reclaim/drops.h, teardown/queue.h)
 *   2  condemn   the words of TAKEN entries, and of all objects of ended children, become
 *                CONDEMNED; in-flight entries of ended groups end (teardown/words.h)
 *   3  wait      a fence, and one grace period (reclaim/holders.h)
 *   4  scan      in-flight entries first, the processes' tables last (references move in that
 *                direction only, so none is missed): a LIVE or DROPPED entry of the word's
 *                generation takes CONDEMNED away (refs/scan.h)
 *   5  release   what is still CONDEMNED: one swing to free, generation + 1; empty slabs, children,
 *                groups, caches go with it (teardown/release.h)
 *   6  empty     TAKEN entries become EMPTY (reclaim/drops.h)
 *
 * Everything a batch has taken is a state in shared memory. A reaper that is killed, or breaks off
 * because a reader does not leave, leaves batch_dirty set, and the next batch begins again at 1
 * over everything. The model is models/references.pml.
 */
#ifndef FST_RECLAIM_BATCH_H
#define FST_RECLAIM_BATCH_H

#include "rcu/thread.h"
#include "region/region.h"

struct fst_batch_options {
    bool deaths; /* ask the kernel who is alive */
    /* what processes have dropped, and nothing else: not a batch that anybody waits for, so it
     * has no number */
    bool drops_only;
    bool give_back; /* give empty slabs back to the page allocator */
    /* also those that threads of other processes keep to allocate from: may take 10 ms
     * (alloc/revoke.h) */
    bool others;
    uint64_t timeout;     /* for the grace period */
    const uint32_t *stop; /* becoming non-zero breaks it off; may be NULL */
    /* becomes true when something became empty that only another batch can give back; may be
     * NULL */
    bool *more;
};

/* What this process needs to run batches: no batch needs more memory. FST_FULL. */
int fst_batch_create(struct fst_arena *a);
void fst_batch_destroy(struct fst_arena *a);

/* Run one batch. FST_BUSY when another process or thread runs one, or `drops_only` and there is
 * more to do; FST_TIMEOUT when broken off. In no section. */
int fst_batch_run(struct fst_thread *t, const struct fst_batch_options *options);

/* Run batches, or wait for those of others, until number `batches` has passed `cookie`.
 * FST_TIMEOUT. In no section. */
int fst_batch_wait(struct fst_thread *t, uint32_t cookie, const struct fst_batch_options *options);

/* The last batch that was over, and the newest begun, at one moment. False when the one does not
 * follow from the other. */
bool fst_batch_numbers(const struct fst_arena *a, uint32_t *over, uint32_t *begun);

/* The number of the newest batch: the next one sees all that was done before this call. It is
 * the last that was over, or the one after it. */
uint32_t fst_batch_begun(struct fst_arena *a);

#endif
