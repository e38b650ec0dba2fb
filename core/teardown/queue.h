/* queue.h - what has ended and waits for a batch: groups in the order of their ends, caches, and
 * children whose slabs became empty late.
 *
 * Whoever ends a group or a cache links it (fst_registry_queue_group, fst_registry_queue_cache); a
 * batch splices a bounded number of groups from the queue, the longest waiting first, and leaves
 * the rest to the next one: what they free appears early, however many there are. Their children
 * are written down when they are spliced, so that visiting them needs no lock; one that was
 * released meanwhile, and may have become another group's, is looked at for nothing.
 *
 * The queue is derived: the descriptors' states say the same. Losing what was spliced, or the whole
 * queue, loses nothing, because `ended_walk` makes a batch look at every descriptor there is.
 * models/teardown.pml.
 */
#ifndef FST_TEARDOWN_QUEUE_H
#define FST_TEARDOWN_QUEUE_H

#include "alloc/children.h"
#include "region/region.h"

/* Enough to be worth a grace period beside long readers, released in some ten milliseconds. */
#define FST_ENDED_GROUPS   8192u
#define FST_ENDED_CHILDREN 16384u

/* What a batch has spliced. */
struct fst_ended {
    uint32_t caches; /* linked by next_ended */
    bool slabs;      /* some ended child has an empty slab that only a batch can give back */
    bool walk;       /* look at everything: somebody was killed, and the queues may miss some */
    bool many;       /* the one group that was spliced has more children than fit below */
    uint32_t n_groups, n_children;
    uint32_t groups[FST_ENDED_GROUPS];
    uint32_t children[FST_ENDED_CHILDREN]; /* of the groups */
};

/* Splice the queues into *ended. `all`: the last batch was broken off. False: nothing is
 * there. */
bool fst_queue_splice(struct fst_arena *a, bool all, struct fst_ended *ended);

/* The batch is through with a group that it spliced: true when it ended further meanwhile and is
 * queued again, for the next one. With all groups, or all caches: what was queued since stays
 * queued. Under names_lock. */
bool fst_queue_group_done(struct fst_arena *a, uint32_t group);
void fst_queue_all_groups_done(struct fst_arena *a);
void fst_queue_all_caches_done(struct fst_arena *a);

/* ---- visiting what was spliced ---- */

/* Each of these is begun as {.a = a, .ended = ended}. Without locks. */
struct fst_ended_children {
    struct fst_arena *a;
    const struct fst_ended *ended;
    uint32_t i; /* how many of the descriptors, or of those written down, were met */
    /* those are over: now the lists of the group with many, and of the caches */
    bool lists;
    uint32_t cache;        /* of which comes next */
    uint32_t steps;        /* along the caches */
    uint32_t lot_i, lot_n; /* in ids */
    struct fst_children walk;
    uint32_t ids[FST_CHILDREN_LOT];
};

struct fst_ended_groups {
    struct fst_arena *a;
    const struct fst_ended *ended;
    uint32_t i;
};

/* The next child that has ended, or is OFFLINE; the next group that has ended; FST_NONE: there
 * is no more. A child may come twice. */
uint32_t fst_ended_next_child(struct fst_ended_children *w);
uint32_t fst_ended_next_group(struct fst_ended_groups *w);

#endif
