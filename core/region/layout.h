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
 * From 4 KiB on lie the tables, each page-aligned, sparse, and committed from its start as far as
 * it is used.
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
/* Reference entries of one process. Here and below the largest number is that of a large arena, the
 * least that of a small one; shape_tables() in superblock.c chooses. */
#define FST_MAX_ENTRIES  (1u << 20)
#define FST_MIN_ENTRIES  (1u << 16)
#define FST_MAX_INFLIGHT (1u << 21)
#define FST_MIN_INFLIGHT (1u << 16)
#define FST_MAX_CACHES   (1u << 17)
#define FST_MIN_CACHES   (1u << 12)
#define FST_MAX_GROUPS   (1u << 21)
#define FST_MIN_GROUPS   (1u << 14) /* of groups and of children */
/* The bytes of capacity for which there is one descriptor of each kind. */
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
/* bytes; the data region lies at a multiple of this address in every process, so that huge pages
 * fit */
#define FST_ALIGN_MAX (2u << 20)
/* bytes; numbers of pages have 32 bits, and FST_NONE is none of them */
#define FST_MAX_CAPACITY ((1ull << 44) - FST_ALIGN_MAX)
#define FST_NONE         UINT32_MAX /* "no such index" */

/* ---- tables ---------------------------------------------------------------------------------- */

enum fst_table_kind {
    FST_T_PROCESS,
    FST_T_THREAD,
    /* as many for each process slot, committed for each process alone; they lie behind the data
     * region */
    FST_T_ENTRY,
    FST_T_INFLIGHT,
    FST_T_CACHE,
    FST_T_CHILD,
    FST_T_GROUP,
    FST_T_CACHE_NAMES,  /* buckets: the first descriptor of each, + 1 (alloc/names.h) */
    FST_T_CACHE_SHAPES, /* buckets of bodies by what they have to share to be merged */
    FST_T_GROUP_NAMES,  /* buckets of groups by name and parent */
    FST_T_CGROUP,       /* which groups end with which cgroups */
    FST_T_ZONE,         /* which pages are free, see region/pages.c */
    FST_T_ZONE_SUMMARY, /* FST_ZONE_CLASSES bitmaps of zones, committed as a whole */
    FST_T_BURIAL,       /* a ring of the last deaths, committed as a whole */
    FST_T_CHANNEL,
    FST_T_FORM,
    FST_T_FORM_NAMES, /* FST_FORM_BUCKETS buckets: the first form of each, + 1 (alloc/form.h) */
    FST_T_STORE,
    FST_T_SLOT, /* slots of the indexes of stores */
    FST_T_ITEM, /* FST_ITEM_CLASSES tables of items, and as many of their holds */
    FST_T_HOLD = FST_T_ITEM + 3,
    /* FST_SLAB_CLASSES tables of slab descriptors, by the number of words in a descriptor */
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

/* Has an ended child an empty slab that only a batch can give back? Then the next batch looks at
 * all children. This is a hint. */
enum fst_ended_slabs {
    FST_ENDED_SLABS_NONE = 0,
    FST_ENDED_SLABS_NOW = 1,
    /* the owner of such a slab was left alone, and may be for long: the next batch looks, but
     * nobody asks for one */
    FST_ENDED_SLABS_LATER = 2,
};

/* The life of an arena, in superblock.state. A file is linked to its name only in state READY. */
enum fst_arena_state {
    FST_ARENA_READY = 1,
    /* the last process to leave is unlinking the file, or was killed while it did: never attach */
    FST_ARENA_REMOVED = 2,
};

/* What was found wrong with an object of a cache that is debugged (alloc/debug.h says by whom).
 * Whoever found it writes the record: `number` last, and 0 while the rest is being written. The
 * other fields are those of struct fst_fault.
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

/* What a batch did. The process that runs it writes the record: `number` last, and 0 while the rest
 * is being written.
 * struct fst_batch_record
 *      0        4        8          12    16        24      32      40         48         56    64
 *      | number | groups | children | pad | objects | bytes | began | duration | grace_ns | pad |
 */
struct fst_batch_record {
    uint32_t number;
    uint32_t groups;   /* spliced from the queue: closed, destroyed or referred to no more */
    uint32_t children; /* child caches released */
    uint32_t pad0;
    uint64_t objects; /* released */
    uint64_t bytes;   /* of these objects */
    uint64_t began;   /* ns since boot */
    uint64_t duration;
    uint64_t grace_ns; /* the part of the duration in which it waited for readers */
    uint64_t pad1;
};
static_assert(sizeof(struct fst_batch_record) == 64, "layout");

/* The sizes of a hash table of names: how many buckets it has, and how many descriptors are in
 * it. */
struct fst_buckets {
    uint32_t buckets;
    uint32_t entries;
};

/* The constant part is written before the arena becomes visible, and covered by `checksum`. Behind
 * it comes the changing part, each busy word on a cache line of its own.
 * struct fst_superblock
 *      0       8             16     32        36      40         48             56            64
 *      | magic | fingerprint | uuid | version | flags | capacity | control_size | data_offset |
 *      64           72       1096
 *      | created_at | tables | ... */
struct fst_superblock {
    uint64_t magic;
    /* a number over this file's structures: builds with different numbers refuse each other's
     * arenas */
    uint64_t fingerprint;
    uint8_t uuid[16];
    uint32_t version;  /* FST_LAYOUT_VERSION, for people */
    uint32_t flags;    /* FST_ARENA_* */
    uint64_t capacity; /* bytes of the data region */
    uint64_t control_size;
    uint64_t data_offset;
    uint64_t created_at;                  /* seconds since the epoch */
    struct fst_table tables[FST_T_COUNT]; /* all constant but .committed */
    uint64_t checksum;

    /* grace periods (rcu/grace.c): read by every section, written once a grace period */
    alignas(64) uint64_t gp_seq; /* number of the newest grace period begun; starts at 1 */
    uint64_t gp_completed;       /* highest number known to be over */
    uint64_t state;              /* enum fst_arena_state */
    uint64_t lasting;            /* 1: outlives its processes */

    /* pages (region/pages.c), under pages_lock, derived from the slab descriptors */
    alignas(64) uint32_t pages_lock;
    uint32_t zones;        /* zones in use, from 0; only grows */
    uint64_t used_pages;   /* in runs that somebody owns */
    uint32_t slab_free[7]; /* first free descriptor of each class */
    /* descriptors ever used of each class: an authoritative bound that only grows */
    uint32_t slab_top[7];
    /* ns since boot, when somebody last looked for memory that nobody uses. A hint, which no lock
     * protects */
    uint64_t idle_looked;

    /* names of caches and groups (alloc/names.c, alloc/registry.c) */
    alignas(64) uint32_t names_lock;
    /* descriptors ever used: an authoritative bound that only grows, as the two below */
    uint32_t cache_top;
    uint32_t child_top;
    uint32_t group_top;
    uint32_t cache_free; /* first free descriptor, derived */
    uint32_t child_free;
    uint32_t group_free;
    struct fst_buckets buckets[3]; /* by enum fst_names; derived */
    uint32_t cgroup_top;           /* records ever used: an authoritative bound that only grows */
    uint32_t channel_top;          /* descriptors ever used: the same */
    /* 1: a channel has ended, or lost its last user, and a batch is asked for. A hint */
    uint32_t channel_look;
    /* descriptors ever used, and items ever used of each class: authoritative bounds that only
     * grow */
    uint32_t store_top;
    uint32_t item_top[3];
    uint32_t store_look;    /* 1: a store has ended, and a batch is asked for. A hint */
    uint32_t teardown_lock; /* serializes the synchronous way of ending (arena/destroy.c) */

    /* the reaper (reclaim/batch.c) */
    alignas(64) uint32_t reaper_lock;
    /* futex: the number of batches completed; whoever waits for memory sleeps on it */
    uint32_t batches;
    uint32_t batches_begun; /* the running batch's number, or the last one's */
    /* 1: a batch is under way, or was broken off: the next one looks at everything */
    uint32_t batch_dirty;
    /* how many threads wait for memory: a drop that sees one asks for a batch at once */
    uint32_t waiters;
    /* first and last of the groups that wait for a batch, in the order in which they ended, linked
     * by next_ended; FST_NONE: none. Derived, under names_lock, as the four below */
    uint32_t ended_head;
    uint32_t ended_tail;
    /* how many groups have been queued so far; those that are not yet spliced are waiting */
    uint32_t ended_groups;
    uint32_t ended_spliced; /* how many of them batches have spliced so far */
    /* first cache that waits for a batch, linked by next_ended; FST_NONE: none */
    uint32_t ended_caches;
    /* 1: the lists may miss some, because somebody was killed or gave up: the next batch looks at
     * all groups and caches */
    uint32_t ended_walk;
    uint32_t ended_slabs;  /* enum fst_ended_slabs */
    uint32_t batch_groups; /* groups spliced by the running batch */
    /* 1: slabs were left as a dead process leaves them, because a lock was held: the next batch
     * looks at all slabs. A hint */
    uint32_t loose;
    uint64_t batch_started;                /* ns since boot, 0 while none runs */
    struct fst_batch_record batch_log[16]; /* the last batches, by number; for people */
    uint64_t released_objects;
    uint64_t released_bytes;
    uint64_t grace_periods;
    uint64_t deaths; /* processes buried */
    /* the number of the newest record in the ring of burials, or of the one before it */
    uint64_t burials;
    /* which lock was held for longest (its offset in the superblock; 1: a child's), in wall and in
     * CPU time, and for how long. Sampled (region/lock.c); for people */
    uint32_t hold_lock[2];
    uint64_t hold_ns[2];
    /* slot + 1 of the reader that a grace period waits for, 0: none; it says nothing once that
     * reader's seq is another one */
    uint32_t stalled_thread;
    /* futex: how many runs are being given back to the system, to be free in a moment; derived,
     * under pages_lock */
    uint32_t holes;
    uint64_t stalled_seq;   /* the reader's seq at that time */
    uint64_t stalled_since; /* ns since boot: when somebody first waited for it */
    uint64_t barriers;      /* barriers over other threads begun so far (alloc/revoke.h) */

    /* in-flight entries (refs/inflight.c) */
    alignas(64) uint32_t inflight_top; /* entries ever used: authoritative bound, only grows */
    /* ns since boot: no key of a store expires before this. A hint */
    uint64_t item_expires_at;
    /* ns since boot: no message expires before this; UINT64_MAX: none will. A hint
     * (reclaim/message.h) */
    uint64_t expire_at;

    /* process slots ever used: an authoritative bound that only grows, as the two below */
    alignas(64) uint32_t process_top;
    uint32_t thread_top;
    uint32_t form_top;

    /* the number of the newest record of a fault; for people */
    alignas(64) uint64_t faults;
    struct fst_fault_record fault_log[6]; /* the last faults, by number */
};
static_assert(sizeof(struct fst_superblock) <= FST_PAGE, "layout");
static_assert(offsetof(struct fst_superblock, tables) == 72, "layout");

#define FST_ARENA_ANONYMOUS  1u
#define FST_ARENA_HUGE_PAGES 2u /* beside these flags: FST_CACHE_DEBUG, of the size classes */
#define FST_LAYOUT_VERSION   7u

/* ---- in-flight entries --------------------------------------------------------------------------
 * struct fst_inflight
 *      0      8            16        24    28    32        48       52      56      60    64
 *      | word | generation | sent_at | pid | use | command | sender | group | ended | pad |
 * word: authoritative; while it is not live it keeps the tag of the entry's next use. The other
 * fields are written after it, `use` last: they speak of the use with tag use - 1, and say nothing
 * when that is not the word's tag. People read them, and whoever counts or drops messages. `ended`
 * is written before a use is ended by a process that does not take it: the tag of that use | why <<
 * 24 (enum fst_inflight_why). */
enum fst_inflight_why {
    FST_INFLIGHT_LOADED = 0,    /* somebody took it; or nobody has said how it ended */
    FST_INFLIGHT_DROPPED = 1,   /* fst_inflight_drop_from */
    FST_INFLIGHT_EXPIRED = 2,   /* its group's messages_expire */
    FST_INFLIGHT_DESTROYED = 3, /* the object's group or cache was destroyed */
};

struct fst_inflight {
    uint64_t word;
    uint64_t generation; /* of the object */
    uint64_t sent_at;    /* ns since boot */
    int32_t pid;         /* the sender's, in its own pid namespace */
    uint32_t use;
    char command[16];
    /* process slot and generation, as in a lock's word (region/lock.h); the kernel is asked whether
     * that process lives */
    uint32_t sender;
    uint32_t group; /* index of the object's group */
    uint32_t ended;
    uint32_t pad;
};
static_assert(offsetof(struct fst_inflight, sender) == 48, "layout");
static_assert(sizeof(struct fst_inflight) == 64, "layout");

/* Who may use which of `count` entries (refs/quota.h). Those below OPEN are anybody's. A sender may
 * put a message into another one as long as it has fewer than MOST in flight, its object's group
 * has so, too (but for the root group), and as many entries are left as the SHAREs of all
 * processes; or as long as it has less than its own SHARE. */
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
 * Everything here is derived but `committed`. An extent belongs to exactly one class: the largest
 * order of an aligned free block in it (0 to 5); 6 when it is wholly free; none when it has no free
 * page.
 * struct fst_zone
 *      0         56          64     576    584   640
 *      | classes | committed | free | idle | pad |
 * classes[k], bit e: extent e is of class k. committed, bit e: the system has given memory for the
 * whole extent e. free[e], bit p: page p of extent e is free. */
struct fst_zone {
    uint64_t classes[FST_ZONE_CLASSES];
    uint64_t committed;
    uint64_t free[FST_ZONE_EXTENTS];
    /* bit e: extent e was wholly free and committed when shrink last looked (region/pages.c) */
    uint64_t idle;
    uint64_t pad[7];
};
static_assert(sizeof(struct fst_zone) == 640, "layout");

#define FST_STATE_GEN_SHIFT 16 /* the generation's place in the state word of every descriptor */

/* ---- slabs --------------------------------------------------------------------------------------
 *
 * state word: state:4 | class check:12 | generation:48. Who may change the state:
 *   FREE     -> CARVING   the thread that reserves the run, under pages_lock
 *   CARVING  -> LIVE      the same thread, which `owner` names; a batch finishes what a dead thread
 *                         left
 *   LIVE     -> CLOSING   the thread that `owner` names, under the child's lock, when every word is
 *                         closed
 *   CLOSING  -> FREE      under pages_lock: the run is given back, generation + 1
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
 * Behind it lie the words. In classes 0 and 1 (few, large objects) each word has a cache line of
 * its own: two processes that use neighbouring objects would otherwise pay for each other, 40 ns
 * instead of 3. */
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
    /* the thread that allocates from it, carves or closes it: slot + 1 | FST_OWNER_* | generation
     * << 32; 0: nobody */
    uint64_t owner;
    uint64_t asked; /* one-object slabs of a size class: bytes that were asked for */
    /* slab ids: the next one on the child's list, or the next free descriptor; derived */
    uint32_t next;
    uint32_t prev;
    uint8_t list; /* enum fst_slab_list, under the child's lock; FULL is also read by who frees */
    /* not 0: revoked from a thread of another process, for many threads to allocate from; a thread
     * may own it again when this has come down to 0 */
    uint8_t shared;
    /* frees by threads other than the owner since the last recount; a hint that it may be empty */
    uint16_t frees;
    /* 1: the owner passes a fence after it has said that it allocates from this slab, so whoever
     * revokes it needs no barrier */
    uint8_t fenced;
    uint8_t pad1[3];
    /* with FST_OWNER_REVOKED: the number that barriers over threads have to reach for the owner to
     * be out of the way (alloc/revoke.h) */
    uint64_t revoked;
};
static_assert(sizeof(struct fst_slab) == 64, "layout");

#define FST_SLAB_CLASSES            7
#define FST_SLAB_INDEX_BITS         27
#define FST_SLAB_ID(class_, index_) (((uint32_t)(class_) << FST_SLAB_INDEX_BITS) | (uint32_t)(index_))
#define FST_SLAB_ID_CLASS(id_)      ((id_) >> FST_SLAB_INDEX_BITS)
#define FST_SLAB_ID_INDEX(id_)      ((id_) & ((1u << FST_SLAB_INDEX_BITS) - 1))

/* the words of a descriptor by class, and below it the log2 of the distance in bytes between two of
 * them */
static const uint16_t fst_slab_class_words[FST_SLAB_CLASSES] = {1, 8, 32, 64, 128, 256, 512};
static const uint8_t fst_slab_class_shift[FST_SLAB_CLASSES] = {6, 6, 3, 3, 3, 3, 3};

#endif
