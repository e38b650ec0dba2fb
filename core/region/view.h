/* view.h - this process's view of an arena: where its tables are mapped, and what the process keeps
 * beside them.
 *
 * All of this is process-local memory. What upper layers keep in it lies behind pointers to types
 * of their own.
 */
#ifndef FST_REGION_VIEW_H
#define FST_REGION_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/liveness.h"
#include "region/layout.h"

struct fst_damage;  /* region/damage.h: contradictions that were noticed */
struct fst_thread;  /* rcu/thread.h: this process's threads */
struct fst_refs;    /* refs/reftable.h: private counts, free entries, index of shared objects */
struct fst_reaper;  /* reclaim/reaper.h: the reaper thread */
struct fst_entries; /* region/entries.h: other processes' tables of references that are mapped */
struct fst_batch;   /* reclaim/batch.h: what a batch run by this process remembers */

#define FST_QUOTA_GROUPS 64u

/* What this process keeps for forked children that have no place in the arena: refs/heirs.h. */
struct fst_heirs {
    struct fst_description now; /* what the next of them inherits; it has no number */
    off_t before;               /* the byte of the description before `now` */
    /* which flag in counts of entries stands for children that inherit `now` */
    uint32_t turn;
    uint32_t kept[2]; /* entries with each flag */
    uint32_t asking;  /* 1: a thread asks whether such children are gone */
};

struct fst_arena {
    struct fst_superblock *sb; /* the control region's start */
    uint8_t *data;
    /* mapped address of each table; one more, because the class in a damaged slab id may be one too
     * many */
    uint8_t *table[FST_T_COUNT + 1];
    /* descriptors of each table that are known to be committed; fst_beyond looks for more */
    uint32_t room[FST_T_COUNT + 1];
    uint32_t top[FST_T_COUNT + 1]; /* the highest bound of each table that was seen */
    struct fst_damage *damage;
    struct fst_superblock known; /* as validated: its constant part is read from here */
    uint64_t capacity_pages;
    /* carries this process's liveness locks, and nothing else uses it: region/file.h */
    struct fst_description lock;
    /* a description to be passed on, or in place of a lost one; mostly there is none */
    struct fst_description handed;
    uint32_t handing; /* 1: a thread is making `handed` */
    bool readonly;
    bool synchronous; /* see fst_destroy_synchronously, also for the next two */
    bool (*go_on)(void *context, uint64_t waited);
    void *go_on_context;
    bool usable; /* false in a forked child that could be given no slot */
    /* usable, and this process has seen no object of a cache that is debugged: its drops need not
     * ask any more */
    bool plain;
    char refused[200]; /* why this forked child is not usable */
    struct fst_heirs heirs;
    uint32_t slot;     /* this process's slot */
    uint32_t slot_low; /* the low bits of the slot's generation, as lock words have them */
    /* how many messages of a group this process may send before it counts again: refs/quota.h */
    uint64_t quota[FST_QUOTA_GROUPS];
    struct fst_process *self;     /* the descriptor of the slot */
    struct fst_thread *threads;   /* under fst_local_mutex */
    struct fst_channel_use *uses; /* channels that are open in this process: channel/use.h */
    struct fst_refs *refs;
    uint64_t *entries;          /* this process's reference entries */
    uint32_t max_entries;       /* entries that any process may have */
    struct fst_entries *others; /* tables of other processes */
    uint32_t *counts;           /* the number of owners of each entry: refs/reftable.h */
    struct fst_reaper *reaper;
    struct fst_batch *batch;
    /* for people: the lock for which a thread of this process last waited in vain, and its word
     * then */
    const uint32_t *stuck_at;
    uint32_t stuck_word;
    uint32_t references;    /* references of this process to this attachment */
    struct fst_arena *next; /* the list of attachments */
    uint64_t device, inode; /* which identify the file */
    char path[256];
    /* by slab, modulo this length: which channel its ring was last found to be of */
    uint16_t ring_hints[FST_MAX_CHANNELS];
};

/* What people call the arena. */
static inline const char *fst_arena_called(const struct fst_arena *a)
{
    return a->path[0] ? a->path : "(anonymous)";
}

#endif
