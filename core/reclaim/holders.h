/* holders.h - who still refers to what a batch has condemned? Steps 3 and 4 of a batch: one grace
 * period, then a look at everybody who may hold an object.
 *
 * There are three kinds of holders, and references move from the earlier ones to the later: stores
 * (reclaim/shelves.h), messages in channels (reclaim/letters.h) and in flight, processes. They are
 * looked at in this order, so that no reference is missed on its way (refs/scan.h).
 *
 * A kill in here leaves some words that are not CONDEMNED any more. The next batch begins again
 * over everything.
 */
#ifndef FST_RECLAIM_HOLDERS_H
#define FST_RECLAIM_HOLDERS_H

#include "reclaim/letters.h"
#include "reclaim/shelves.h"

/* How long to wait for readers, and how long that took. */
struct fst_holders_wait {
    uint64_t timeout;     /* ns */
    const uint32_t *stop; /* becoming non-zero ends the wait; may be NULL */
    uint64_t waited;      /* ns; when there was nothing to wait for, 0 */
};

/* Wait for a grace period, and take CONDEMNED away from the words of objects that somebody still
 * refers to. After they were condemned. FST_OK: what is CONDEMNED now is referred to by nobody.
 * FST_TIMEOUT, or FST_OS when a process's references could not be looked at: nothing may be
 * released. In no section. */
int fst_holders_ask(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_letters *l, const struct fst_scan *scan,
                    struct fst_holders_wait *wait);

#endif
