/* shelves.h - what stores hold, in a batch: keys that the dead were putting, objects that have
 * ended, and stores that have ended.
 *
 * A hold keeps its object as an in-flight entry does, and the scan counts it. A hold that a dead
 * process had claimed becomes FREE. Holds of objects whose group or cache was destroyed are let go
 * of before the scan, and so are those of keys whose time is over. All objects of a store that has
 * ended are condemned together, as soon as no process can be in the middle of changing it; then the
 * store is FREE.
 *
 * After a kill in here the next batch finds the same processes DEAD, and the same stores ENDED. The
 * model is models/store.pml.
 */
#ifndef FST_RECLAIM_SHELVES_H
#define FST_RECLAIM_SHELVES_H

#include "rcu/thread.h"
#include "teardown/words.h"

struct fst_shelves {
    /* by descriptor: stores whose objects were condemned; others may end meanwhile */
    uint64_t ended[FST_MAX_STORES / 64];
    bool any; /* `ended` is not empty */
};

/* Let go of keys whose time is over; *dropped becomes true when that left a request. This comes
 * before the splice, which includes it. */
void fst_shelves_expire(struct fst_thread *t, bool *dropped);
static inline bool fst_shelves_expiring(const struct fst_arena *a, uint64_t now)
{
    return fst_load_relaxed(&a->sb->item_expires_at) <= now;
}

static inline uint64_t fst_shelves_expires_in(const struct fst_arena *a, uint64_t now)
{
    uint64_t at = fst_load_relaxed(&a->sb->item_expires_at);
    return at == UINT64_MAX ? at : at > now ? at - now : 0;
}

/* Note that a key of this process expires at this time. True: it is the first to expire. */
bool fst_shelves_will_expire(struct fst_arena *a, uint64_t at);
/* Has this process, which is about to leave, claimed a key? Then the next batch buries it. */
bool fst_shelves_owns(struct fst_arena *a);

/* End the stores whose group is over (store/store.h). This comes before what has ended is spliced,
 * because a group of a store's own ends with the store. */
void fst_shelves_end(struct fst_arena *a);

/* How many looks at items a batch takes. */
uint64_t fst_shelves_looks(const struct fst_arena *a);

/* Step 2 of a batch. `ended`: something has ended, and `scan` looks for its objects. `killed`:
 * somebody has died. `everything`: the last batch was broken off. The result is how many words the
 * scan has to look for. */
uint64_t fst_shelves_condemn(struct fst_arena *a, struct fst_shelves *sh, bool ended, bool killed, bool everything,
                             struct fst_scan *scan);
/* Step 4 of a batch, before the tables are scanned. */
void fst_shelves_scan(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_scan *scan);
/* Step 5 of a batch. */
void fst_shelves_finish(struct fst_thread *t, const struct fst_shelves *sh, const struct fst_scan *scan, struct fst_released *r);

#endif
