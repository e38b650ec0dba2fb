/* flagstone_debug.h - caches that are debugged, as the kernel's slub_debug does it. It is a part of
 * flagstone.h, whose conventions hold here as well. A cache without these flags costs nothing more.
 */
#ifndef FLAGSTONE_DEBUG_H
#define FLAGSTONE_DEBUG_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of a cache, and of an arena for all of its size classes. The letters are those of
 * slub_debug. POISON is dropped where content outlives an object: with initial content or
 * FST_CACHE_TYPESAFE_BY_RCU. */
#define FST_CACHE_CONSISTENCY 16u  /* F: each operation looks at the whole slab */
#define FST_CACHE_RED_ZONE    32u  /* Z: bytes around each object tell who writes beyond its end */
#define FST_CACHE_POISON      64u  /* P: a freed object has a pattern that tells who writes to it */
#define FST_CACHE_STORE_USER  128u /* U: who allocated, who freed, from which site */
#define FST_CACHE_DEBUG       (FST_CACHE_CONSISTENCY | FST_CACHE_RED_ZONE | FST_CACHE_POISON | FST_CACHE_STORE_USER)

/* The flags of this header, for size classes, with which the arena was created. */
uint32_t fst_arena_debug(fst_arena *arena);

/* Has this process seen an object of a cache that is debugged? True in each process that has
 * allocated one, or opened its cache. */
bool fst_debug_seen(const fst_arena *arena);

/* What can be wrong with an object. */
enum fst_fault_kind {
    FST_FAULT_RED_ZONE = 1,    /* bytes behind the object were written */
    FST_FAULT_BEFORE = 2,      /* bytes before the next object were written */
    FST_FAULT_POISON = 3,      /* bytes of an object were written after it was freed */
    FST_FAULT_RECORD = 4,      /* the record behind the object was overwritten */
    FST_FAULT_DOUBLE_FREE = 5, /* free() was called twice */
    /* `count` objects, of `nbytes` together, lived when their group ended */
    FST_FAULT_LEAK = 6,
};

/* An object of a cache that is debugged, and who had it. */
struct fst_debug_info {
    uint64_t oid, cache, group;          /* object id; ids */
    uint64_t nbytes;                     /* what was asked for */
    bool allocated;                      /* it is allocated now */
    uint32_t allocated_site, freed_site; /* numbers of sites; 0: not known */
    /* of the process that allocated it, and of the one that dropped it last; 0: not known */
    int32_t pid, freed_pid;
    uint32_t thread, freed_thread;
    /* ns since boot; freed_at 0: it was not dropped in this life */
    uint64_t allocated_at, freed_at;
};

/* Something that is wrong with an object. */
struct fst_fault {
    uint8_t uuid[16]; /* of the arena */
    enum fst_fault_kind kind;
    struct fst_debug_info about;
    int64_t offset;       /* the first wrong byte, from the object's start */
    uint64_t count;       /* bytes from the first wrong one to the last */
    uint32_t found_bytes; /* how many of them are in `found` */
    uint8_t found[8];
    uint8_t expected;   /* what each of them should be */
    int32_t holders[4]; /* processes that refer to it, as many as fit; 0: none */
    int32_t finder;     /* the process that found it */
    uint64_t found_at;  /* ns since boot */
};

/* The faults that this process has found at allocations and frees since the last call, the oldest
 * first: up to `max`. *lost receives how many more there were than are kept (64). The result is how
 * many `out` received. */
size_t fst_debug_faults(struct fst_fault *out, size_t max, uint64_t *lost);
/* How many faults this process has found so far. This is one load. */
uint32_t fst_debug_fault_count(void);

/* From now on `heard` is called whenever this process has found a fault, by the thread that found
 * it, which may be the reaper thread and may hold locks: so it only takes note. NULL: nobody is
 * called. */
typedef void fst_debug_heard(void);
void fst_debug_hear(fst_debug_heard *heard);

/* The last faults that any process has found in the arena, the newest first: up to `max`, and 6 at
 * most. The result is how many. */
size_t fst_debug_log(fst_arena *arena, struct fst_fault *out, size_t max);
/* Put objects that live where their group ends into that log. `about` has group and cache, site and
 * allocator of one of them, and the bytes of all in `nbytes`. */
void fst_debug_leaked(fst_arena *arena, const struct fst_debug_info *about, uint64_t objects);
/* Tell of each fault that is there now and was not found before; its `finder` is 0. FST_HELD,
 * FST_CORRUPTED. */
typedef void fst_debug_wrong(void *context, const struct fst_fault *fault);
int fst_debug_walk(fst_arena *arena, fst_debug_wrong *wrong, void *context);

/* Tell of every allocated object of caches that are debugged, in one group (id; 0: in all).
 * FST_HELD, FST_CORRUPTED. */
typedef void fst_debug_found(void *context, const struct fst_debug_info *info);
int fst_debug_list(fst_arena *arena, uint64_t group, fst_debug_found *found, void *context);

/* Tell of every reference of a process to an object of a cache that is debugged: the slot of the
 * process, and the object. FST_CORRUPTED. */
typedef void fst_debug_holder(void *context, uint32_t process, uint64_t oid);
int fst_debug_holders(fst_arena *arena, fst_debug_holder *found, void *context);

/* Set the function that is asked, in a cache with FST_CACHE_STORE_USER, where an allocation or a
 * drop comes from; it returns the number of a site, 0: not known. The thread that allocates or
 * drops calls it, without any lock, so it may acquire the interpreter's lock. */
typedef uint32_t fst_debug_where(fst_arena *arena);
void fst_debug_ask(fst_debug_where *where);

/* The number of a text that says where something happens. Texts of at most 480 bytes are interned
 * in the arena, some 4,000 of them. *site 0: there is no room. FST_OK, FST_CLOSED,
 * FST_CORRUPTED. */
int fst_debug_site_add(fst_arena *arena, const char *text, size_t bytes, uint32_t *site);
/* The text of a site, up to `room` bytes of it. The result is how many; 0: there is none. */
size_t fst_debug_site_text(fst_arena *arena, uint32_t site, char *out, size_t room);

#ifdef __cplusplus
}
#endif
#endif
