/* holders.h - who still refers to what a batch has condemned? Steps 3 and 4 of a batch: one grace
 * period, then a look at everybody who may hold an object.
 *
 * There are three kinds of holders, and references move from each to the next: stores
 * (reclaim/shelves.h), messages in channels (reclaim/letters.h) and in flight, processes. They are
 * looked at in this order, so that no reference is missed on its way (refs/scan.h).
 */
#ifndef FST_RECLAIM_HOLDERS_H
#define FST_RECLAIM_HOLDERS_H

#include "reclaim/letters.h"
#include "reclaim/shelves.h"

/* How long to wait for readers, and how long that took. */
struct fst_holders_wait {
    uint64_t timeout;     /* ns */
    const uint32_t *stop; /* not 0: the wait ends; the pointer may be NULL */
    uint64_t waited;      /* ns; 0 when there was nothing to wait for */
};

/* How many looks a batch takes at what stores and channels hold; one that is above `most` need not
 * be exact. */
uint64_t fst_holders_looks(const struct fst_arena *a, uint64_t most);

/* Wait for a grace period, and take CONDEMNED away from the words of objects to which somebody
 * still refers. This comes after they were condemned. FST_OK: nobody refers to what is CONDEMNED
 * now. FST_TIMEOUT, or FST_OS when a process's references could not be looked at: nothing may be
 * released. In no section. */
int fst_holders_ask(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_letters *l, const struct fst_scan *scan,
                    struct fst_holders_wait *wait);

#endif
