/* flagstone_debug.h - part of flagstone.h: caches that are debugged, as the kernel's slub_debug
 * does it. Off, it costs nothing: a cache without these flags is as it is without this file.
 */
#ifndef FLAGSTONE_DEBUG_H
#define FLAGSTONE_DEBUG_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Flags of a cache, and of an arena for all of its size classes. POISON is dropped where content
 * outlives an object: with initial content or FST_CACHE_TYPESAFE_BY_RCU. */
#define FST_CACHE_CONSISTENCY 16u  /* F: each operation looks at the whole slab */
#define FST_CACHE_RED_ZONE    32u  /* Z */
#define FST_CACHE_POISON      64u  /* P */
#define FST_CACHE_STORE_USER  128u /* U: who allocated, who freed */
#define FST_CACHE_DEBUG       (FST_CACHE_CONSISTENCY | FST_CACHE_RED_ZONE | FST_CACHE_POISON | FST_CACHE_STORE_USER)

/* The flags that the arena was created with. */
uint32_t fst_arena_debug(fst_arena *arena);

/* Has this process seen an object of a cache that is debugged? Says so of every one that has
 * allocated one, or opened its cache. */
bool fst_debug_seen(const fst_arena *arena);

enum fst_fault_kind {
    FST_FAULT_RED_ZONE = 1, /* bytes behind the object were written */
    FST_FAULT_BEFORE = 2,   /* bytes before the next object were written */
    FST_FAULT_POISON = 3,   /* bytes of an object were written after it was freed */
    FST_FAULT_RECORD = 4,   /* the record itself was */
    FST_FAULT_DOUBLE_FREE = 5,
    FST_FAULT_LEAK = 6, /* objects (`count`, of `nbytes` together) lived when their group ended */
};

/* An object of a cache that is debugged, and who had it. */
struct fst_debug_info {
    uint64_t oid, cache, group; /* ids */
    uint64_t nbytes;            /* what was asked for */
    bool allocated;
    uint32_t allocated_site, freed_site; /* numbers of sites, 0: not known */
    int32_t pid, freed_pid;
    uint32_t thread, freed_thread;
    uint64_t allocated_at, freed_at; /* ns since boot; freed_at 0: not in this life */
};

struct fst_fault {
    uint8_t uuid[16]; /* of the arena */
    enum fst_fault_kind kind;
    struct fst_debug_info about;
    int64_t offset;       /* from the object's start: the first wrong byte */
    uint64_t count;       /* bytes from the first wrong one to the last */
    uint32_t found_bytes; /* how many of them are here */
    uint8_t found[8];
    uint8_t expected;
    int32_t holders[4]; /* processes that refer to it, as many as fit; 0: none */
    int32_t finder;     /* the process that found it */
    uint64_t found_at;  /* ns since boot */
};

/* What this process has found at allocations and frees since the last call, the oldest first: up to
 * max; *lost receives how many more there were than are kept (64). */
size_t fst_debug_faults(struct fst_fault *out, size_t max, uint64_t *lost);
/* How many it has found so far: one load. */
uint32_t fst_debug_fault_count(void);

/* From now on this is called whenever this process has found something, by the thread that did,
 * which may be the reaper's and may hold locks: it takes note, and no more. NULL: nobody is. */
typedef void fst_debug_heard(void);
void fst_debug_hear(fst_debug_heard *heard);

/* The last faults that any process has found in the arena, the newest first: up to max, of 6. */
size_t fst_debug_log(fst_arena *arena, struct fst_fault *out, size_t max);
/* Objects that live where their group ends: for the log. `about` has group, cache, site and who
 * allocated one of them, `nbytes` of all. */
void fst_debug_leaked(fst_arena *arena, const struct fst_debug_info *about, uint64_t objects);
/* What is wrong now and was not found yet: each with its finder 0. */
typedef void fst_debug_wrong(void *context, const struct fst_fault *fault);
int fst_debug_walk(fst_arena *arena, fst_debug_wrong *wrong, void *context);

/* Every object of a cache that is debugged, in a group (id; 0: in all), if allocated. */
typedef void fst_debug_found(void *context, const struct fst_debug_info *info);
int fst_debug_list(fst_arena *arena, uint64_t group, fst_debug_found *found, void *context);

/* Who is asked, in a cache with STORE_USER, where an allocation or a drop comes from: returns the
 * number of a site, 0: not known. The one function that the core calls back; it is called without
 * locks, by the thread that allocates or drops, and may take the interpreter's lock. */
typedef uint32_t fst_debug_where(fst_arena *arena);
void fst_debug_ask(fst_debug_where *where);

/* The number of a text that says where something happens: interned in the arena, at most 480 bytes,
 * some 4,000 of them in one arena; *site 0: no room. */
int fst_debug_site_add(fst_arena *arena, const char *text, size_t bytes, uint32_t *site);
/* Its text, up to room bytes; returns its length, 0: there is none. */
size_t fst_debug_site_text(fst_arena *arena, uint32_t site, char *out, size_t room);

#ifdef __cplusplus
}
#endif
#endif
