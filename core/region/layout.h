/* layout.h - every byte of an arena's file.
 *
 * From big to small: an *arena* is one file, mapped by every process that attaches. Its *control
 * region* holds the superblock and the tables below; its *data region* holds pages of user bytes
 * and nothing else. A *page* is 4 KiB of the data region. A *slab* is a run of pages cut into equal
 * *objects*, described by a slab descriptor with one *word* for each object. A *cache* is a named
 * type of object; a *child* is a cache's private part for one *group*, and slabs belong to
 * children. A *process slot* stands for an attached process, with a table of *reference entries*; a
 * *thread slot* for one of its threads.
 *
 *   file   0            4 KiB                                    data_offset              file size
 *          | superblock | processes | threads | in flight | ... | data pages | references |
 *
 * From 4 KiB on lie the tables, each page-aligned, sparse, and committed by prefix.
 *
 * The tables of references come last, one for each process slot that was ever used: the file grows
 * with them, and each process maps those that it needs (region/entries.h).
 *
 * Nothing here is a pointer: ids are indexes into tables. An id of a descriptor that may be reused
 * carries a generation, and a descriptor is reused only as the same kind of thing.
 *
 * Authoritative (one atomic operation each; everything else is derived from them and can be
 * rebuilt): the superblock's constant part and its state; slab states with page and pages; object
 * words; reference and in-flight entries; state words of caches, children, groups, processes; their
 * names and parameters, written before the state that publishes them.
 */
#ifndef FST_REGION_LAYOUT_H
#define FST_REGION_LAYOUT_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

#include "flagstone.h"
#include "region/bits.h"

#define FST_PAGE          4096u
#define FST_PAGE_SHIFT    12
#define FST_EXTENT_PAGES  64u /* memory is committed and given back in extents of 256 KiB */
#define FST_MAX_PROCESSES 1024u
#define FST_MAX_THREADS   4096u
/* reference entries of one process; here and below: of a large arena (shape_tables) */
#define FST_MAX_ENTRIES  (1u << 20)
#define FST_MIN_ENTRIES  (1u << 16) /* of a small one */
#define FST_MAX_INFLIGHT (1u << 21)
#define FST_MIN_INFLIGHT (1u << 16)
#define FST_MAX_CACHES   (1u << 17)
#define FST_MIN_CACHES   (1u << 12)
#define FST_MAX_CHILDREN (1u << 21)
#define FST_MAX_GROUPS   (1u << 21)
#define FST_MIN_GROUPS   (1u << 14) /* and children */
/* There is one for so many bytes of capacity. */
#define FST_BYTES_FOR_ENTRY    32u
#define FST_BYTES_FOR_INFLIGHT 128u
#define FST_BYTES_FOR_CACHE    4096u
#define FST_BYTES_FOR_GROUP    1024u
#define FST_BYTES_FOR_ITEM     512u
#define FST_BYTES_FOR_CGROUP   16384u
#define FST_BYTES_FOR_STORE    8192u
#define FST_MAX_CGROUPS        (1u << 12)
#define FST_MIN_CGROUPS        (1u << 8)
#define FST_MAX_BURIALS        32u
#define FST_MAX_CHANNELS       (1u << 12)
#define FST_MAX_STORES         (1u << 12)
#define FST_MIN_STORES         (1u << 9)
#define FST_MAX_ITEMS          (1u << 22) /* of each class */
#define FST_MIN_ITEMS          (1u << 11)
#define FST_MAX_SLOTS          (1u << 25)
#define FST_ZONE_EXTENTS       64u /* bookkeeping of pages comes in zones of 16 MiB */
#define FST_ZONE_PAGES         (FST_ZONE_EXTENTS * FST_EXTENT_PAGES)
#define FST_ZONE_CLASSES       7u
/* the data region lies at a multiple of it in every process */
#define FST_ALIGN_MAX (2u << 20)
/* numbers of pages have 32 bits, and FST_NONE is none */
#define FST_MAX_CAPACITY ((1ull << 44) - FST_ALIGN_MAX)
#define FST_NONE         UINT32_MAX /* "no such index" */

/* ---- tables ---------------------------------------------------------------------------------- */

enum fst_table_kind {
    FST_T_PROCESS,
    FST_T_THREAD,
    /* as many for each process slot, committed process by process; behind the data region */
    FST_T_ENTRY,
    FST_T_INFLIGHT,
    FST_T_CACHE,
    FST_T_CHILD,
    FST_T_GROUP,
    FST_T_CACHE_NAMES,  /* buckets: first descriptor of each, + 1 (alloc/names.h) */
    FST_T_CACHE_SHAPES, /* the same */
    FST_T_GROUP_NAMES,  /* the same */
    FST_T_CGROUP,       /* which groups end with which cgroups */
    FST_T_ZONE,         /* which pages are free, see pages.c */
    FST_T_ZONE_SUMMARY, /* FST_ZONE_CLASSES bitmaps of zones, committed whole */
    FST_T_BURIAL,       /* a ring of the last deaths, committed whole */
    FST_T_CHANNEL,
    FST_T_FORM,
    FST_T_FORM_NAMES, /* FST_FORM_BUCKETS: the first form of each, + 1 (alloc/form.h) */
    FST_T_STORE,
    FST_T_SLOT, /* of indexes of stores */
    FST_T_ITEM, /* FST_ITEM_CLASSES tables of items, and as many of what they hold */
    FST_T_HOLD = FST_T_ITEM + 3,
    /* FST_SLAB_CLASSES tables of slab descriptors, by the number of words they carry */
    FST_T_SLAB = FST_T_HOLD + 3,
    FST_T_COUNT = FST_T_SLAB + 7
};

/* struct fst_table
 *      0        8       16     20    24          32
 *      | offset | count | size | pad | committed |
 * offset, count, size are constant. committed: bytes of the table taken from the system, from
 * its start; only grows. */
struct fst_table {
    uint64_t offset;
    uint64_t count;
    uint32_t size;
    uint32_t pad;
    uint64_t committed;
};
static_assert(sizeof(struct fst_table) == 32, "layout");

/* ---- superblock ------------------------------------------------------------------------------ */

#define FST_MAGIC 0x454e4f5453474c46ull /* "FLGSTONE", also the byte-order mark */

/* Has an ended child an empty slab that only a batch can give back? Then the next one looks at
 * all children. A hint. */
enum fst_ended_slabs {
    FST_ENDED_SLABS_NONE = 0,
    FST_ENDED_SLABS_NOW = 1,
    /* its owner was left alone, and may be for long: the next batch, but none is asked for */
    FST_ENDED_SLABS_LATER = 2,
};

/* Life of an arena, in superblock.state. A file is linked to its name only in state READY. */
enum fst_arena_state {
    FST_ARENA_READY = 1,
    /* the last one out is unlinking it, or was killed doing so: never attach */
    FST_ARENA_REMOVED = 2,
};

/* What was found wrong with an object of a cache that is debugged (alloc/debug.h says by whom).
 * Written by who found it, `number` last; 0 while it is being written. The rest as in struct
 * fst_fault.
 * struct fst_fault_record
 *      0        8          16    24      32      40       48      56       64
 *      | number | found_at | oid | cache | group | nbytes | count | offset |
 *      64             72         80               84           88    92          96
 *      | allocated_at | freed_at | allocated_site | freed_site | pid | freed_pid |
 *      96       100            104    108      112       128     136        140           144
 *      | thread | freed_thread | kind | finder | holders | found | expected | found_bytes | */
struct fst_fault_record {
    uint64_t number;
    uint64_t found_at; /* ns since boot */
    uint64_t oid, cache, group;
    uint64_t nbytes, count;
    int64_t offset;
    uint64_t allocated_at, freed_at;
    uint32_t allocated_site, freed_site;
    int32_t pid, freed_pid;
    uint32_t thread, freed_thread;
    uint32_t kind;
    int32_t finder;
    int32_t holders[4];
    uint8_t found[8];
    uint32_t expected, found_bytes;
};
static_assert(sizeof(struct fst_fault_record) == 144, "layout");

/* What a batch did. Written by who runs it, `number` last; 0 while it is being written.
 * struct fst_batch_record
 *      0        4        8          12    16        24      32      40         48         56    64
 *      | number | groups | children | pad | objects | bytes | began | duration | grace_ns | pad |
 */
struct fst_batch_record {
    uint32_t number;
    uint32_t groups;   /* taken: closed, destroyed or no more referenced */
    uint32_t children; /* child caches released */
    uint32_t pad0;
    uint64_t objects; /* released */
    uint64_t bytes;   /* of these objects */
    uint64_t began;   /* ns since boot */
    uint64_t duration;
    uint64_t grace_ns; /* the part of the duration that it waited for readers */
    uint64_t pad1;
};
static_assert(sizeof(struct fst_batch_record) == 64, "layout");

/* A hash table of names: how many buckets it has, and how many descriptors are in it. */
struct fst_buckets {
    uint32_t buckets;
    uint32_t entries;
};

/* The constant part is written before the arena becomes visible, and covered by `checksum`. Then
 * comes the changing part, each busy word on a cache line of its own.
 * struct fst_superblock
 *      0       8             16     32        36      40         48             56            64
 *      | magic | fingerprint | uuid | version | flags | capacity | control_size | data_offset |
 *      64           72       1096
 *      | created_at | tables | ... */
struct fst_superblock {
    uint64_t magic;
    /* of this file's structures: two builds that disagree refuse each other */
    uint64_t fingerprint;
    uint8_t uuid[16];
    uint32_t version;  /* FST_LAYOUT_VERSION, for people */
    uint32_t flags;    /* FST_ARENA_* */
    uint64_t capacity; /* bytes of the data region */
    uint64_t control_size;
    uint64_t data_offset;
    uint64_t created_at;                  /* seconds since the epoch */
    struct fst_table tables[FST_T_COUNT]; /* all but .committed constant */
    uint64_t checksum;

    /* grace periods (rcu/grace.c): read by every section, written once a grace period */
    alignas(64) uint64_t gp_seq; /* number of the newest grace period begun; starts at 1 */
    uint64_t gp_completed;       /* highest number known to be over */
    uint64_t state;              /* enum fst_arena_state */
    uint64_t lasting;            /* 1: outlives its processes */

    /* pages (region/pages.c), all under pages_lock, all derived from the slab descriptors */
    alignas(64) uint32_t pages_lock;
    uint32_t zones;        /* zones in use, from 0; only grows */
    uint64_t used_pages;   /* in runs that somebody owns */
    uint32_t slab_free[7]; /* first free descriptor of each class */
    /* descriptors ever used of each class: authoritative bound, only grows */
    uint32_t slab_top[7];

    /* names of caches and groups (alloc/names.c, alloc/registry.c) */
    alignas(64) uint32_t names_lock;
    uint32_t cache_top; /* descriptors ever used: authoritative bounds, only grow */
    uint32_t child_top;
    uint32_t group_top;
    uint32_t cache_free; /* first free descriptor, derived */
    uint32_t child_free;
    uint32_t group_free;
    struct fst_buckets buckets[3]; /* by enum fst_names; derived */
    uint32_t cgroup_top;           /* records ever used: authoritative bound, only grows */
    uint32_t channel_top;          /* the same */
    /* 1: a channel has ended, or lost its last user: a batch is asked for. A hint */
    uint32_t channel_look;
    /* descriptors ever used, and items of each class: authoritative bounds, only grow */
    uint32_t store_top;
    uint32_t item_top[3];
    uint32_t store_look;    /* 1: a store has ended: a batch is asked for. A hint */
    uint32_t teardown_lock; /* serializes the synchronous way of ending (arena/destroy.c) */

    /* the reaper (reclaim/batch.c) */
    alignas(64) uint32_t reaper_lock;
    /* futex: number of batches completed; whoever waits for memory sleeps on it */
    uint32_t batches;
    uint32_t batches_begun; /* the running batch's number, or the last one's */
    /* 1: a batch is under way, or was broken off: the next one looks at everything */
    uint32_t batch_dirty;
    /* how many wait for memory: a drop that sees one asks for a batch at once */
    uint32_t waiters;
    /* first and last of the groups that wait for a batch, first come first, linked by next_ended;
     * FST_NONE: none. Derived, as all these, under names_lock */
    uint32_t ended_head;
    uint32_t ended_tail;
    /* how many groups have been queued so far; the difference to the next are waiting */
    uint32_t ended_groups;
    uint32_t ended_spliced; /* how many of them batches have spliced */
    /* first cache that waits for a batch, linked by next_ended; FST_NONE: none */
    uint32_t ended_caches;
    /* 1: the lists may miss some (somebody was killed): look at all groups and caches */
    uint32_t ended_walk;
    uint32_t ended_slabs;  /* enum fst_ended_slabs */
    uint32_t batch_groups; /* taken by the running batch */
    /* 1: slabs were left as a dead process leaves them, because a lock was held: the next batch
     * looks at all. A hint */
    uint32_t loose;
    uint64_t batch_started;                /* ns since boot, 0 while none runs */
    struct fst_batch_record batch_log[16]; /* of the last batches, by number; for people */
    uint64_t released_objects;
    uint64_t released_bytes;
    uint64_t grace_periods;
    uint64_t deaths; /* processes buried */
    /* number of the newest record in the ring of burials, or the one before it */
    uint64_t burials;
    /* which lock was held for longest (offset in the superblock; 1: a child's), in wall and in CPU
     * time, and how long. Sampled (region/lock.h); for people */
    uint32_t hold_lock[2];
    uint64_t hold_ns[2];
    /* slot + 1 of the reader that a grace period waits for, 0: none; stale when its seq has gone
     * on */
    uint32_t stalled_thread;
    /* futex: runs that are being given back to the system, free in a moment; under pages_lock,
     * derived */
    uint32_t holes;
    uint64_t stalled_seq;   /* the reader's seq */
    uint64_t stalled_since; /* when somebody first waited for it */
    uint64_t barriers;      /* over other threads begun so far (alloc/revoke.h) */

    /* in-flight entries (refs/inflight.c) */
    alignas(64) uint32_t inflight_top; /* entries ever used: authoritative bound, only grows */
    uint64_t item_expires_at;          /* the same for keys of stores */
    /* ns since boot: no message expires before; UINT64_MAX: none will. A hint
     * (reclaim/message.h) */
    uint64_t expire_at;

    alignas(64) uint32_t process_top; /* process slots ever used */
    uint32_t thread_top;
    uint32_t form_top; /* the same of forms */

    /* number of the newest record of a fault; for people */
    alignas(64) uint64_t faults;
    struct fst_fault_record fault_log[6]; /* by number */
};
static_assert(sizeof(struct fst_superblock) <= FST_PAGE, "layout");
static_assert(offsetof(struct fst_superblock, tables) == 72, "layout");

#define FST_ARENA_ANONYMOUS  1u
#define FST_ARENA_HUGE_PAGES 2u /* and FST_CACHE_DEBUG: of its size classes */
#define FST_LAYOUT_VERSION   6u

/* ---- in-flight entries --------------------------------------------------------------------------
 * struct fst_inflight
 *      0      8            16        24    28    32        48       52      56      60    64
 *      | word | generation | sent_at | pid | use | command | sender | group | ended | pad |
 * word: authoritative; while not live it keeps the tag of the entry's next use. The rest is
 * written after it, `use` last: it speaks of the use with tag use - 1, and of nothing when that
 * is not the word's tag. It is for people, for who counts and for who drops. `ended` is written
 * before a use is ended by somebody who does not take it: the tag of that use | why << 24 (enum
 * fst_inflight_why). */
enum fst_inflight_why {
    FST_INFLIGHT_LOADED = 0,    /* by somebody; or it was never said */
    FST_INFLIGHT_DROPPED = 1,   /* fst_inflight_drop_from */
    FST_INFLIGHT_EXPIRED = 2,   /* its group's messages_expire */
    FST_INFLIGHT_DESTROYED = 3, /* its group or cache was destroyed */
};

struct fst_inflight {
    uint64_t word;
    uint64_t generation; /* of the object */
    uint64_t sent_at;    /* ns since boot */
    int32_t pid;         /* the sender's, in its own pid namespace */
    uint32_t use;
    char command[16];
    /* process slot and generation, as in a lock's word (region/lock.h): whether it lives is
     * asked of the kernel */
    uint32_t sender;
    uint32_t group; /* index of the object's group */
    uint32_t ended;
    uint32_t pad;
};
static_assert(offsetof(struct fst_inflight, sender) == 48, "layout");
static_assert(sizeof(struct fst_inflight) == 64, "layout");

/* Who may use which of `count` entries (refs/quota.h): those below OPEN are anybody's. Of the
 * others, a sender takes one while it has fewer than MOST in flight, and its object's group, too
 * (but for the root group), and while as many are left as all processes' SHAREs; or while it has
 * less than its SHARE. */
#define FST_INFLIGHT_OPEN(count)  ((count) / 2)
#define FST_INFLIGHT_MOST(count)  ((count) / 2)
#define FST_INFLIGHT_SHARE(count) ((count) / 8192)
static_assert(FST_INFLIGHT_OPEN(8192u) + 2 * FST_INFLIGHT_SHARE(8192u) * FST_MAX_PROCESSES < 8192u, "a share for everybody");
static_assert(FST_INFLIGHT_SHARE(FST_MIN_INFLIGHT) > 0, "a share for everybody");

/* ---- pages --------------------------------------------------------------------------------------
 *
 * What check() proves of them, under pages_lock (observe/check_pages.c):
 *   - each page of the zones in use is free, or named by exactly one slab descriptor that is not
 *     FREE
 *   - superblock.used_pages = the sum of `pages` of all descriptors that are not FREE
 *   - superblock.holes = how many descriptors are HOLE
 *   - a child's used_pages = the sum of `pages` of its slabs; those without a child are the root's
 *   - a group's usage = the sum of used_pages of its children + the sum of `usage` of the groups
 *     below it
 *   - a class's list slab_free has each FREE descriptor below slab_top once, and no other
 *
 * Derived, all of it, but `committed`. An extent belongs to exactly one class: the largest order
 * of an aligned free block in it (0 to 5), 6 when it is wholly free, none when it has no free
 * page.
 * struct fst_zone
 *      0         56          64     576    584   640
 *      | classes | committed | free | idle | pad |
 * class[k]: bit e: extent e is of class k. committed: bit e: its memory was taken from the
 * system as a whole. free[e]: bit p: page p of extent e is free. */
struct fst_zone {
    uint64_t classes[FST_ZONE_CLASSES];
    uint64_t committed;
    uint64_t free[FST_ZONE_EXTENTS];
    /* bit e: extent e was wholly free and committed at the last look of shrink: see pages.c */
    uint64_t idle;
    uint64_t pad[7];
};
static_assert(sizeof(struct fst_zone) == 640, "layout");

#define FST_STATE_GEN_SHIFT 16 /* in the state word of every descriptor */

/* ---- slabs --------------------------------------------------------------------------------------
 *
 * state word: state:4 | class check:12 | generation:48. Who may move it on:
 *   FREE     -> CARVING   under pages_lock, by who takes the run
 *   CARVING  -> LIVE      by the same thread, which `owner` names; a batch finishes what a dead
 *                         thread left
 *   LIVE     -> CLOSING   under the child's lock, every word closed; `owner` names who does it
 *   CLOSING  -> FREE      under pages_lock, run given back, generation + 1
 *   FREE     -> HOLE -> FREE   a run whose memory is being given back to the system
 *                         (region/pages.c)
 *
 * A run of pages belongs to the descriptor that is not FREE and names it: that is the whole
 * truth about pages.
 *
 * What check() proves of them, under their child's lock: a LIVE slab of a child is on exactly
 * one of its lists; the child's `slabs` = how many are on both; an owned slab is on FULL; each
 * word has its check bits, and nothing but CONDEMNED where it is free.
 *
 * struct fst_slab
 *      0       8       12     16      20        22    24      32      40     44     48     49
 *      | state | child | page | pages | objects | pad | owner | asked | next | prev | list |
 *      49       50      52       53    56        64
 *      | shared | frees | fenced | pad | revoked |
 * then the words. In classes 0 and 1 (few, large objects) each word has a cache line of its own:
 * two processes that use neighbouring objects would otherwise pay for each other (3 against 40
 * ns). */
enum fst_slab_state {
    FST_SLAB_FREE = 0,
    FST_SLAB_CARVING = 1,
    FST_SLAB_LIVE = 2,
    FST_SLAB_CLOSING = 3,
    FST_SLAB_HOLE = 4,
};

enum fst_slab_list { FST_LIST_NONE = 0, FST_LIST_PARTIAL = 1, FST_LIST_FULL = 2 };

struct fst_slab {
    uint64_t state;
    uint32_t child; /* index of the child cache it belongs to */
    uint32_t page;  /* first page */
    uint32_t pages;
    uint16_t objects;
    uint16_t pad0;
    /* thread that allocates from it, carves or closes it: slot + 1 | FST_OWNER_* | generation <<
     * 32; 0: nobody */
    uint64_t owner;
    uint64_t asked; /* one-object slabs of a size class: bytes asked for */
    uint32_t next;  /* slab ids; on the child's list, or the next free descriptor. Derived. */
    uint32_t prev;
    uint8_t list; /* enum fst_slab_list, under the child's lock; FULL is also read by who frees */
    /* not 0: taken from another process's thread, for many to allocate from: owned again when it
     * has come to 0 */
    uint8_t shared;
    /* frees by others than the owner since the last recount; a hint that it may be empty */
    uint16_t frees;
    /* 1: its owner fences after it has said that it allocates from it: who revokes passes no
     * barrier */
    uint8_t fenced;
    uint8_t pad1[3];
    /* with FST_OWNER_REVOKED: the first barrier after which the owner is out of the way
     * (alloc/revoke.h) */
    uint64_t revoked;
};
static_assert(sizeof(struct fst_slab) == 64, "layout");

#define FST_SLAB_CLASSES            7
#define FST_SLAB_INDEX_BITS         27
#define FST_SLAB_ID(class_, index_) (((uint32_t)(class_) << FST_SLAB_INDEX_BITS) | (uint32_t)(index_))
#define FST_SLAB_ID_CLASS(id_)      ((id_) >> FST_SLAB_INDEX_BITS)
#define FST_SLAB_ID_INDEX(id_)      ((id_) & ((1u << FST_SLAB_INDEX_BITS) - 1))

/* words of a descriptor, and the distance between two of them, by class */
static const uint16_t fst_slab_class_words[FST_SLAB_CLASSES] = {1, 8, 32, 64, 128, 256, 512};
static const uint8_t fst_slab_class_shift[FST_SLAB_CLASSES] = {6, 6, 3, 3, 3, 3, 3};

#endif
