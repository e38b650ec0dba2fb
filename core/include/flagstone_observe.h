/* flagstone_observe.h - what observers use: numbers about everything in an arena, who holds it, and
 * whether its structures agree. Part of flagstone.h, whose conventions hold here as well.
 *
 * Nothing in here changes the arena. A list is filled up to `max`; numbers of things that others
 * are changing belong to slightly different moments.
 */
#ifndef FLAGSTONE_OBSERVE_H
#define FLAGSTONE_OBSERVE_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- arenas ---------------------------------------------------------------------------------- */

struct fst_arena_info {
    uint8_t uuid[16];
    char path[256]; /* empty: anonymous */
    uint64_t capacity;
    uint64_t used;       /* bytes of the pages that slabs and large objects hold */
    uint64_t committed;  /* bytes taken from the system, metadata included */
    uint64_t control;    /* the part of committed that is metadata */
    uint64_t created_at; /* seconds since the epoch */
    bool readonly, lasting, anonymous;
    bool unlinked; /* the file lost its name from outside: nobody new can attach by name */
    uint64_t batches, grace_periods, released_objects, released_bytes, deaths;
    uint64_t batch_last_ns;
    uint32_t groups_waiting; /* closed or destroyed, not yet taken by a batch */
    /* the shared lock that was held for longest, as wall and as CPU time; "": none seen */
    char hold_wall_lock[8], hold_cpu_lock[8];
    uint64_t hold_wall_ns, hold_cpu_ns; /* sampled: see fst_lock_sample */
    /* the reader that a grace period waits for; pid 0: none */
    uint64_t stalled_pid, stalled_tid, stalled_ns;
    /* who runs a batch now, and for how long already; pid 0: nobody */
    uint64_t batch_pid, batch_ns;
};
int fst_arena_get_info(fst_arena *arena, struct fst_arena_info *out);

/* What a file is, without attaching: for listings. FST_LAYOUT for anything that is not an arena
 * of this layout. */
struct fst_peek {
    uint8_t uuid[16];
    uint64_t capacity, used, committed, created_at;
    uint32_t processes;   /* attached and alive */
    bool lasting, orphan; /* orphan: no process has it, and it is not lasting */
};
int fst_peek(const char *path, struct fst_peek *out);

/* ---- caches and groups ----------------------------------------------------------------------- */

struct fst_cache_info {
    uint64_t id;
    char name[FST_NAME_MAX];
    char format[FST_FORMAT_MAX]; /* as much of it as there is room for */
    uint32_t format_bytes;       /* of all of it, without the final zero */
    uint64_t size, align, stride;
    uint32_t flags, state; /* state: 1 live, 3 ended, 4 alias, 6 retired */
    uint64_t merged_into;  /* id; equal to `id` unless this is an alias */
    /* how many other caches have been merged into this one */
    uint32_t aliases;
    /* counted now: slabs, their objects, those allocated, bytes of pages held */
    uint64_t slabs, objects, allocated, bytes;
    uint32_t children;
};
int fst_cache_get_info(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* All of a cache's format text, as much of it as there is room for, with a final zero. */
int fst_cache_format(fst_arena *arena, uint64_t cache, char *out, size_t room);
/* The same without slabs, objects, allocated, bytes and children, which have to be counted: 0. */
int fst_cache_look(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* Ids of all caches that are not FREE: up to max into ids; returns their number (which may
 * exceed max). */
size_t fst_cache_list(fst_arena *arena, uint64_t *ids, size_t max);

struct fst_group_info {
    uint64_t id, parent;
    char name[FST_NAME_MAX];
    uint32_t state; /* 1 live, 2 closed, 3 destroyed */
    bool released;  /* ended, and none of its memory is left: what a Teardown waits for */
    uint32_t flags, children;
    uint64_t limit, usage, peak; /* bytes */
    uint64_t limit_hits, failed, reclaims;
    uint64_t messages_expire; /* ns; 0: never */
};
int fst_group_get_info(fst_arena *arena, uint64_t group, struct fst_group_info *out);
size_t fst_group_list(fst_arena *arena, uint64_t *ids, size_t max);
/* The caches that have a child in this group: ids. */
size_t fst_group_caches(fst_arena *arena, uint64_t group, uint64_t *ids, size_t max);
/* The folder of the cgroup that the group ends with, cut to size; returns its length, 0: none. */
size_t fst_group_cgroup(fst_arena *arena, uint64_t group, char *path, size_t size);

/* ---- objects and messages -------------------------------------------------------------------- */

/* Who refers to the object now: process slots, up to max; returns their number. */
size_t fst_holders(fst_arena *arena, const struct fst_ref *ref, uint32_t *processes, size_t max);
/* Cache and group of the object: ids. FST_INVALID when it is gone. */
int fst_object_owner(fst_arena *arena, const struct fst_ref *ref, uint64_t *cache, uint64_t *group);
/* A sentence about who holds the memory: by process, in flight, awaiting a batch, stalled behind
 * which reader. */
void fst_describe_usage(fst_arena *arena, char *text, size_t size);

struct fst_inflight_info {
    uint32_t entry, tag;
    bool is_group;
    struct fst_handle handle;
    uint64_t nbytes, group, cache; /* ids */
    int32_t pid;                   /* sender */
    char command[16];
    /* it has the arena attached; false, too, where it was killed before it said who it was */
    bool sender_alive;
    uint64_t age; /* ns */
};
/* How many there are, about. */
size_t fst_inflight_count(fst_arena *arena);
/* Up to max of them; returns their number, which may exceed max. */
size_t fst_inflight_list(fst_arena *arena, struct fst_inflight_info *out, size_t max);

/* ---- channels -------------------------------------------------------------------------------- */

struct fst_channel_info {
    uint64_t id, group;
    char name[FST_NAME_MAX];
    uint32_t state; /* 1 live, 2 ended */
    uint32_t capacity, inline_bytes, flags;
    uint32_t waiting; /* messages */
    uint32_t taken;   /* with FST_CHANNEL_ACK: and not acknowledged; else about to be */
    bool closed;
    uint64_t bytes; /* of its ring */
};
int fst_channel_get_info(fst_arena *arena, uint64_t channel, struct fst_channel_info *out);
/* Ids of all channels that are not FREE: up to max; returns their number. */
size_t fst_channel_list(fst_arena *arena, uint64_t *ids, size_t max);

/* ---- processes, batches, and what they keep -------------------------------------------------- */

struct fst_process_info {
    uint32_t slot;
    int32_t pid;
    uint32_t uid;
    bool alive, self, readonly;
    char command[16];
    char arguments[192];
    uint64_t started; /* ns since boot */
    /* live entries; entries awaiting a batch; bytes of what the live ones refer to */
    uint64_t references, dropped, bytes;
    uint32_t threads;
};
size_t fst_process_list(fst_arena *arena, struct fst_process_info *out, size_t max);

/* What was reclaimed from processes that died without leaving. */
struct fst_burial_info {
    uint64_t number; /* counts them, from 1 */
    /* its own, and that of the process that buried it; each in its own pid namespace */
    int32_t pid, reaper;
    uint32_t uid;
    char command[16];
    uint64_t noticed_at, finished_at; /* ns since boot; finished_at 0: under way */
    uint64_t objects, bytes, groups;  /* that nobody else used: released with it */
    bool tended;                      /* see fst_arena_tended */
};
/* Of the last burials, newest first, up to max; returns how many. */
size_t fst_burial_list(fst_arena *arena, struct fst_burial_info *out, size_t max);
/* Number of the newest one. A load: cheap enough to ask in passing. */
uint64_t fst_burial_count(fst_arena *arena);

/* What a batch did. */
struct fst_batch_info {
    uint32_t number;
    uint32_t groups, children; /* groups taken off the queue; child caches released */
    uint64_t objects, bytes;   /* released */
    uint64_t began;            /* ns since boot */
    uint64_t duration;         /* ns, of which it waited for readers: */
    uint64_t grace_ns;
};
/* The last batches, newest first: up to max of at most 16; returns how many. */
size_t fst_batch_list(fst_arena *arena, struct fst_batch_info *out, size_t max);

/* Child caches by state: in use; deactivated (their group was closed); ended and queued for a
 * batch, or kept by references; taken by the running batch. Looks at every child there is. */
struct fst_child_counts {
    uint32_t live, deactivated, queued, releasing;
};
void fst_child_count(fst_arena *arena, struct fst_child_counts *out);

/* Does a thread of this process, the one that runs batches maybe, wait for a lock that another
 * process still has? Then fst_last_error() has a sentence about it. For people: two threads that
 * begin to wait at once may be mistaken for each other. */
bool fst_held_up(fst_arena *arena);

/* Whose read-side section has been open for longest, in grace periods, of those that somebody
 * has begun to wait for. False: nobody's. */
bool fst_section_in_the_way(fst_arena *arena, int32_t *pid, uint32_t *tid);

/* Who keeps something that has ended from being released: references of a process (or in flight:
 * pid 0) to objects of a group that was closed or destroyed, or to a closed group itself. Who
 * has a destroyed group open keeps nothing. What forked children inherited that could be given
 * no place in the arena is kept by the process that forked them, also after its death. */
struct fst_keeper {
    uint64_t group; /* id */
    int32_t pid;
    char command[16];
    uint64_t references, bytes;
    uint64_t ended_ns; /* how long ago the group ended */
    bool for_children; /* such children of it live: these may be theirs alone */
};
/* Up to max of them; returns how many were found, at most max. Looks at every reference. */
size_t fst_keeper_list(fst_arena *arena, struct fst_keeper *out, size_t max);
/* The same of the objects of one cache, whatever their groups. */
size_t fst_cache_keepers(fst_arena *arena, uint64_t cache, struct fst_keeper *out, size_t max);

/* Objects that a process refers to, by cache and group: one row for each three of them. */
struct fst_use {
    uint32_t slot;         /* of the process; UINT32_MAX: what there was no row for, all together */
    uint64_t cache, group; /* ids */
    uint64_t objects, bytes;
};
/* Up to max rows, in no order; returns how many. Looks at every reference once, in bounded time,
 * and needs no memory but `out`: what finds no row near its place is counted in the last one. */
size_t fst_use_list(fst_arena *arena, struct fst_use *out, size_t max);

/* ---- do the structures agree? ---------------------------------------------------------------- */

/* Validate every structure. Calls found(context, text) for each contradiction; returns their
 * number. The arena may be in use: what is changing during the look is looked at again under the
 * lock that protects it. FST_CHECK_HELD: a lock was held for longer than the thread waits
 * (FST_HELD), and nothing was found until then. */
#define FST_CHECK_HELD SIZE_MAX
size_t fst_check(fst_arena *arena, void (*found)(void *context, const char *text), void *context);

/* How often this process looks how long it holds a shared lock: every so many acquisitions (256
 * unless set; 0 never). */
void fst_lock_sample(uint32_t every);

#ifdef __cplusplus
}
#endif
#endif
