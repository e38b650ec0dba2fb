/* view.h - this process's view of an arena: where its tables are mapped, and what the process keeps
 * beside them. Process-local memory. What upper layers keep in it is behind pointers to their own
 * types.
 */
#ifndef FST_REGION_VIEW_H
#define FST_REGION_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/liveness.h"
#include "region/layout.h"

struct fst_damage;  /* region/damage.h: what contradicts itself */
struct fst_thread;  /* rcu/thread.h: this process's threads */
struct fst_refs;    /* refs/reftable.h: private counts, free entries, index of shared objects */
struct fst_reaper;  /* reclaim/reaper.h: the reaper thread */
struct fst_entries; /* region/entries.h: others' tables of references, as far as they are mapped */
struct fst_batch;   /* reclaim/batch.h: what a batch run by this process remembers */

#define FST_QUOTA_GROUPS 64u

/* Children of this process that have no place in the arena: refs/heirs.h. */
struct fst_heirs {
    struct fst_description now; /* what the next of them inherits; no number */
    off_t before;               /* the byte of the one before */
    uint32_t turn;              /* which flag of entries is for those who inherit `now` */
    uint32_t kept[2];           /* entries with each flag */
    uint32_t asking;
};

struct fst_arena {
    struct fst_superblock *sb; /* the control region's start */
    uint8_t *data;
    /* mapped address of each table; a slab id may name one too many */
    uint8_t *table[FST_T_COUNT + 1];
    /* descriptors of each that are known to be committed; grows when asked for more (fst_beyond) */
    uint32_t room[FST_T_COUNT + 1];
    uint32_t top[FST_T_COUNT + 1]; /* the highest bound of each that was seen */
    struct fst_damage *damage;
    struct fst_superblock known; /* as validated: the constant part is read here */
    uint64_t capacity_pages;
    /* carries this process's liveness locks and nothing else: region/file.h */
    struct fst_description lock;
    /* to be passed on, or to replace a lost one; mostly there is none */
    struct fst_description handed;
    uint32_t handing; /* somebody makes it */
    bool readonly;
    bool synchronous; /* see fst_destroy_synchronously, for the next two, too */
    bool (*go_on)(void *context, uint64_t waited);
    void *go_on_context;
    bool usable; /* false in a forked child that could not be given a slot */
    /* usable, and no object of a cache that is debugged was seen by this process: its drops are
     * asked nothing more */
    bool plain;
    char refused[200]; /* why it could not */
    struct fst_heirs heirs;
    uint32_t slot;     /* our process slot */
    uint32_t slot_low; /* its generation's low bits, as they stand in lock words */
    /* How many messages of a group this process may send before it counts: refs/quota.h */
    uint64_t quota[FST_QUOTA_GROUPS];
    struct fst_process *self;
    struct fst_thread *threads;   /* under fst_local_mutex */
    struct fst_channel_use *uses; /* channels that are open here: channel/use.h */
    struct fst_refs *refs;
    uint64_t *entries;    /* this process's reference entries */
    uint32_t max_entries; /* of any process */
    struct fst_entries *others;
    uint32_t *counts; /* beside each: see refs/reftable.h */
    struct fst_reaper *reaper;
    struct fst_batch *batch;
    /* for people: where a thread of this process last waited in vain, and behind whom */
    const uint32_t *stuck_at;
    uint32_t stuck_word;
    uint32_t references;    /* of the process to this attachment */
    struct fst_arena *next; /* list of attachments */
    uint64_t device, inode; /* identity of the file */
    char path[256];
};

/* What people call it. */
static inline const char *fst_arena_called(const struct fst_arena *a)
{
    return a->path[0] ? a->path : "(anonymous)";
}

#endif
