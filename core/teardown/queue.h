/* queue.h - what has ended and waits for a batch: groups in the order of their ends, caches, and
 * children whose slabs became empty late.
 *
 * Whoever ends a group or a cache links it (fst_registry_queue_group, fst_registry_queue_cache). A
 * batch splices a bounded number of groups from the queue, the longest waiting first, and leaves
 * the others to the next batch: so what they free appears early, however many there are. Their
 * children are written down when they are spliced, so that visiting them needs no lock. A child
 * that was released meanwhile, and may have become another group's, is looked at for nothing.
 *
 * The queue is derived: the descriptors' states say the same. When what was spliced is lost, or the
 * whole queue, nothing is lost, because `ended_walk` makes a batch look at every descriptor there
 * is. The model is models/teardown.pml.
 */
#ifndef FST_TEARDOWN_QUEUE_H
#define FST_TEARDOWN_QUEUE_H

#include "alloc/children.h"
#include "region/region.h"

/* The most that a batch splices: enough to be worth a grace period beside long readers, and
 * released in some ten milliseconds. */
#define FST_ENDED_GROUPS   8192u
#define FST_ENDED_CHILDREN 16384u

/* What a batch has spliced. */
struct fst_ended {
    uint32_t caches; /* the first spliced cache; linked by next_ended */
    bool slabs;      /* some ended child has an empty slab that only a batch can give back */
    bool walk;       /* look at everything, because the queues may miss something after a kill */
    bool many;       /* the one group that was spliced has more children than fit below */
    uint32_t n_groups, n_children;
    uint32_t groups[FST_ENDED_GROUPS];
    uint32_t children[FST_ENDED_CHILDREN]; /* children of those groups */
};

/* Splice the queues into *ended. `all`: the last batch was broken off. False: nothing has ended, or
 * names_lock took longer than this thread waits. */
bool fst_queue_splice(struct fst_arena *a, bool all, struct fst_ended *ended);

/* Note that the batch is through with a group that it spliced; or with all groups, or all caches,
 * where what was queued since stays queued. True: the group ended further meanwhile and is queued
 * again, for the next batch. Under names_lock. */
bool fst_queue_group_done(struct fst_arena *a, uint32_t group);
void fst_queue_all_groups_done(struct fst_arena *a);
void fst_queue_all_caches_done(struct fst_arena *a);

/* ---- visiting what was spliced ---- */

/* Each of these is initialized as {.a = a, .ended = ended}. Without locks. */
struct fst_ended_children {
    struct fst_arena *a;
    const struct fst_ended *ended;
    uint32_t i; /* how many descriptors, or children that were written down, have been met */
    /* those are done: now come the lists of the group with many children, and of the caches */
    bool lists;
    uint32_t cache;        /* the cache whose children come next */
    uint32_t steps;        /* steps along the list of caches */
    uint32_t lot_i, lot_n; /* the next one in ids, and how many there are */
    struct fst_children walk;
    uint32_t ids[FST_CHILDREN_LOT];
};

struct fst_ended_groups {
    struct fst_arena *a;
    const struct fst_ended *ended;
    uint32_t i;
};

/* The next child that has ended or is OFFLINE; the next group that has ended. FST_NONE: there is
 * none more. A child may come twice. */
uint32_t fst_ended_next_child(struct fst_ended_children *w);
uint32_t fst_ended_next_group(struct fst_ended_groups *w);

#endif
