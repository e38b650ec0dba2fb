/* processes.h - every byte of what stands for processes in shared memory: their slots, the slots of
 * their threads, and the records of their burials.
 */
#ifndef FST_REGION_PROCESSES_H
#define FST_REGION_PROCESSES_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "region/layout.h"

/* A process slot belongs to the process that holds the lock on its byte (platform/liveness.h).
 *
 * struct fst_process
 *      0       8     12    16        24      28          32        48                  56
 *      | state | pid | uid | started | flags | entry_top | command | entries_committed |
 *      56        60       64          256        768
 *      | dropped | burial | arguments | channels | */
enum fst_process_state {
    FST_PROCESS_FREE = 0,
    /* the holder of its byte is filling it in; nothing refers to it yet */
    FST_PROCESS_JOINING = 1,
    FST_PROCESS_LIVE = 2,
    /* a batch found its byte unlocked; its entries count as dropped until they are gone */
    FST_PROCESS_DEAD = 3,
};

struct fst_process {
    uint64_t state;
    int32_t pid; /* in the process's own pid namespace: for people */
    uint32_t uid;
    uint64_t started; /* ns since boot, when it attached */
    uint32_t flags;   /* FST_PROCESS_* */
    /* entries used since it attached, raised before the entry is written: a bound for whoever
     * scans */
    uint32_t entry_top;
    char command[16];
    uint64_t entries_committed; /* of its part of the table of entries, in bytes */
    uint32_t dropped;           /* entries dropped since a batch last spliced them; a hint */
    uint32_t burial;            /* DEAD: the low half of its burial's number; 0: it has none yet */
    char arguments[192];
    /* a bit for each descriptor of a channel: may the process own nodes or subscriptions there? Set
     * before it does, and cleared by the slot's next process */
    uint64_t channels[FST_MAX_CHANNELS / 64];
};
static_assert(sizeof(struct fst_process) == 768, "layout");

#define FST_PROCESS_READONLY 1u
#define FST_PROCESS_REAPER   2u /* its reaper thread runs */
#define FST_PROCESS_LEFT     4u /* it is ending in good order: no death when its lock is gone */
/* it was forked and has not used the arena yet, so it may go on to exec */
#define FST_PROCESS_FORKED 8u
/* it keeps references for forked children that have no place: refs/heirs.h */
#define FST_PROCESS_HEIRS  16u
#define FST_PROCESS_TENDED 32u /* see fst_arena_tended */

/* What was reclaimed from a process that died, for people (process/burial.c). It is written under
 * reaper_lock and read without it: `number` is 0 while the other fields are being filled in.
 * struct fst_burial
 *      0        8            16            24    28    32     36       40           48      56
 *      | number | noticed_at | finished_at | pid | uid | slot | reaper | generation | bytes |
 *      56        64        80       88      96    128
 *      | objects | command | groups | flags | pad | */
struct fst_burial {
    /* counted from 1; the record lies at this number modulo FST_MAX_BURIALS */
    uint64_t number;
    uint64_t noticed_at;  /* ns since boot */
    uint64_t finished_at; /* 0: not everything that it had is released yet */
    int32_t pid;          /* in the process's own pid namespace */
    uint32_t uid;
    uint32_t slot;
    int32_t reaper;      /* pid of the process that ran the batch */
    uint64_t generation; /* of the process slot */
    uint64_t bytes;      /* of those objects */
    uint64_t objects;    /* released because nobody else referred to them */
    char command[16];
    uint64_t groups; /* closed because nobody else had them open */
    uint64_t flags;  /* of the process slot */
    uint64_t pad[4];
};
static_assert(offsetof(struct fst_burial, command) == 64, "layout");
static_assert(sizeof(struct fst_burial) == 128, "layout");

/* The slot of a thread: one busy line, written only by its thread, but for `waiter` and `owner`.
 * struct fst_thread_slot
 *      0     8            12       16      24    28           32    64
 *      | seq | allocating | waiter | owner | tid | generation | pad | */
struct fst_thread_slot {
    /* number of the grace period at which the thread's outermost section began; 0: it is in no
     * section */
    uint64_t seq;
    /* id + 1 of the owned slab that the thread is allocating from at this moment; 0: none */
    uint32_t allocating;
    uint32_t waiter; /* 1: somebody sleeps on seq's low half until the section ends */
    /* process slot + 1 | generation << 16; 0: free. Claimed by compare-and-swap. */
    uint64_t owner;
    uint32_t tid; /* for people */
    /* counts its ends, so that a thread is told from the next one that has this slot */
    uint32_t generation;
    uint8_t pad[32];
};
static_assert(sizeof(struct fst_thread_slot) == 64, "layout");

#endif
