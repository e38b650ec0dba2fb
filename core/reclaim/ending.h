/* ending.h - the batch's part in ending caches and groups: arena/destroy.c unlinked them at once, this releases them. */
#ifndef FST_RECLAIM_ENDING_H
#define FST_RECLAIM_ENDING_H

#include "region/region.h"

/* What a batch has taken off the queue; the descriptors' states say the same, so losing it loses nothing. */
struct fst_ended {
    uint32_t head; /* groups, linked by next_ended */
    bool caches;   /* look at all caches */
    bool walk;     /* look at all groups: somebody was killed, and the queue may miss some */
};

/* Call visit for every child that has ended (not merely OFFLINE) among what was taken. */
void fst_ended_children(struct fst_arena *a, const struct fst_ended *ended, void (*visit)(void *context, uint32_t child),
                        void *context);

/* Call visit for every ended group among what was taken: nobody may be left to ask for it, as for a lasting one. */
void fst_ended_groups(struct fst_arena *a, const struct fst_ended *ended, void (*visit)(void *context, uint32_t group),
                      void *context);

/* Take the queue. `all`: the last batch was broken off. */
struct fst_ended fst_ended_take(struct fst_arena *a, bool all);

/* The batch is over: release what is empty. Offline children's empty slabs are given back here; *stop ends a wait for their readers. */
void fst_ended_release(struct fst_arena *a, const struct fst_ended *ended, uint64_t owner, const uint32_t *stop);

/* Nobody refers to the group any more (its word was released by a batch): close it. */
void fst_ending_group_unreferenced(struct fst_arena *a, uint32_t group);

#endif
