/* ending.h - the batch's part in ending caches and groups: arena/destroy.c unlinked them at once, this releases them.
 *
 * A batch takes a bounded number of groups off the queue, the longest waiting first, and leaves the rest to the next one: what they free
 * appears early, however many there are. Their children are written down when they are taken, so that visiting them needs no lock; one
 * that was released meanwhile, and may have become another group's, is looked at for nothing. models/teardown.pml.
 */
#ifndef FST_RECLAIM_ENDING_H
#define FST_RECLAIM_ENDING_H

#include "region/region.h"

#define FST_ENDED_GROUPS   8192u /* enough to be worth a grace period beside long readers, released in some ten milliseconds */
#define FST_ENDED_CHILDREN 16384u

/* What a batch has taken; the descriptors' states say the same, so losing it loses nothing. */
struct fst_ended {
    uint32_t caches; /* linked by next_ended */
    bool slabs;      /* some ended child has an empty slab that only a batch can give back */
    bool walk;       /* look at everything: somebody was killed, and the queues may miss some */
    bool many;       /* the one group that was taken has more children than fit below */
    uint32_t n_groups, n_children;
    uint32_t groups[FST_ENDED_GROUPS];
    uint32_t children[FST_ENDED_CHILDREN]; /* of the groups */
};

typedef void fst_visit(void *context, uint32_t index);

/* Take from the queues into *ended. `all`: the last batch was broken off. False: there was nothing. */
bool fst_ended_take(struct fst_arena *a, bool all, struct fst_ended *ended);

/* Call visit for every child that has ended, or is OFFLINE, among what was taken; for every ended group. */
void fst_ended_children(struct fst_arena *a, const struct fst_ended *ended, fst_visit *visit, void *context);
void fst_ended_groups(struct fst_arena *a, const struct fst_ended *ended, fst_visit *visit, void *context);

/* The batch is over: release what is empty. `words` is called for every child first, to free its objects, and `word` for every group. OFFLINE
 * children's empty slabs are given back here; *stop ends a wait for the readers of TYPESAFE_BY_RCU ones. Returns how many children were
 * released. */
uint32_t fst_ended_release(struct fst_arena *a, const struct fst_ended *ended, uint64_t owner, const uint32_t *stop,
                           fst_visit *words, fst_visit *word, void *context);

/* Nobody refers to the group any more (its word was released by a batch): close it. */
void fst_ending_group_unreferenced(struct fst_arena *a, uint32_t group);

#endif
