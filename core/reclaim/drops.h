/* drops.h - what processes have dropped, in a batch: requests in their tables of references, and
 * all that a dead process held.
 *
 * An entry that is DROPPED, or LIVE in a dead process's table, becomes TAKEN; the word of its
 * object is condemned. After the scan, what is still CONDEMNED is freed, and the entry becomes
 * EMPTY. The order matters: an entry is the only request there is for its object, so it stays until
 * the object is free, or somebody else refers to it.
 *
 * A kill in here leaves entries TAKEN and words CONDEMNED. The next batch begins again over
 * everything, and finds both. The model is models/references.pml.
 */
#ifndef FST_RECLAIM_DROPS_H
#define FST_RECLAIM_DROPS_H

#include "rcu/thread.h"
#include "teardown/words.h"

/* A batch remembers up to so many TAKEN entries, so that it need not look for them again. */
#define FST_TAKEN_FEW 1024u

struct fst_taken {
    uint32_t slot : 31;
    uint32_t held : 1; /* its process died with it: it had not dropped the object */
    uint32_t entry;
};

struct fst_drops {
    uint64_t n_taken;                         /* how many entries are TAKEN */
    uint64_t spliced[FST_MAX_PROCESSES / 64]; /* by slot: entries in its table may be TAKEN */
    uint64_t held[FST_MAX_PROCESSES / 64];    /* by slot: some of these may be `held` */
    struct fst_taken taken[FST_TAKEN_FEW];    /* the first of the TAKEN entries */
};

/* Steps 1 and 2 of a batch, for the tables of all processes; *condemned grows by how many words the
 * scan has to look for. `everything`: the last batch was broken off. FST_OS: a table could not be
 * looked at. */
int fst_drops_condemn(struct fst_arena *a, struct fst_drops *d, bool everything, struct fst_scan *scan, uint64_t *condemned);

/* Steps 5 and 6 of a batch: free what is still CONDEMNED, release what becomes empty with it, and
 * empty the entries. FST_OS: a table could not be looked at. Under no lock but the reaper's. */
int fst_drops_finish(struct fst_thread *t, const struct fst_drops *d, const struct fst_scan *scan, struct fst_released *released);

#endif
