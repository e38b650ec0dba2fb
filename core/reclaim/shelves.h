/* shelves.h - what stores hold, in a batch: what the dead were putting, what has ended, and stores
 * that have ended.
 *
 * A hold keeps its object as an in-flight entry does, and the scan counts it. What a dead process
 * had claimed becomes FREE. What is held of a group or cache that was destroyed goes before the
 * scan, and the same for keys whose time has come. The objects of a store that has ended are asked
 * for altogether, as soon as nobody who changes it can be in the middle; then it is FREE.
 *
 * Killed anywhere in here: the next batch finds the same processes DEAD, and the same stores ENDED.
 * models/store.pml.
 */
#ifndef FST_RECLAIM_SHELVES_H
#define FST_RECLAIM_SHELVES_H

#include "rcu/thread.h"
#include "teardown/words.h"

struct fst_shelves {
    /* by descriptor: those whose objects were condemned. Others may end meanwhile */
    uint64_t ended[FST_MAX_STORES / 64];
    bool any; /* one of them */
};

/* Before the splice, which takes what that drops: let go of keys whose time has come. */
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

/* A key of this process's has this time. True: it is the first. */
bool fst_shelves_will_expire(struct fst_arena *a, uint64_t at);
/* Has this process, which is about to leave, claimed a key? Then the next batch buries it. */
bool fst_shelves_owns(struct fst_arena *a);

/* Step 2 of a batch. `revoke`: something has ended, or somebody has died; `everything`: in a batch.
 * Returns how many words the scan has to look for. */
uint64_t fst_shelves_condemn(struct fst_arena *a, struct fst_shelves *sh, bool revoke, bool everything, struct fst_scan *scan);
/* Step 4, before the tables are scanned. */
void fst_shelves_scan(struct fst_arena *a, const struct fst_shelves *sh, const struct fst_scan *scan);
/* Step 5. */
void fst_shelves_finish(struct fst_thread *t, const struct fst_shelves *sh, const struct fst_scan *scan, struct fst_released *r);

#endif
