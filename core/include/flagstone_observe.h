/* flagstone_observe.h - what observers use: numbers about everything in an arena, who holds it, and
 * whether its structures agree. It is a part of flagstone.h, whose conventions hold here as well.
 *
 * Nothing in here changes the arena. A list is filled up to `max`. Numbers of things that others
 * are changing belong to slightly different moments.
 */
#ifndef FLAGSTONE_OBSERVE_H
#define FLAGSTONE_OBSERVE_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- arenas ---------------------------------------------------------------------------------- */

/* The numbers of an arena. */
struct fst_arena_info {
    uint8_t uuid[16];
    char path[256];      /* empty: anonymous */
    uint64_t capacity;   /* bytes of data at most */
    uint64_t used;       /* bytes of the pages that slabs and large objects hold */
    uint64_t committed;  /* bytes that the system has given, metadata included */
    uint64_t control;    /* the part of committed that is metadata */
    uint64_t created_at; /* seconds since the epoch */
    bool readonly, lasting, anonymous;
    bool unlinked; /* the file has lost its name, so nobody new can attach by name */
    /* since the arena was created */
    uint64_t batches, grace_periods, released_objects, released_bytes, deaths;
    uint64_t batch_last_ns;  /* how long the last batch took */
    uint32_t groups_waiting; /* closed or destroyed, and not yet spliced by a batch */
    /* which shared lock was held for longest, in wall and in CPU time: "names", "pages", "child";
     * "": none was seen */
    char hold_wall_lock[8], hold_cpu_lock[8];
    uint64_t hold_wall_ns, hold_cpu_ns; /* for how long, sampled: see fst_lock_sample */
    /* the reader that a grace period has waited for since a second or longer; pid 0: there is
     * none */
    uint64_t stalled_pid, stalled_tid, stalled_ns;
    /* who runs a batch now, and for how long already; pid 0: nobody does */
    uint64_t batch_pid, batch_ns;
};
int fst_arena_get_info(fst_arena *arena, struct fst_arena_info *out);

/* What a file is, without attaching to it: for listings. FST_LAYOUT: it is no arena of this layout;
 * FST_MISSING, FST_REFUSED, FST_CORRUPTED, FST_OS. */
struct fst_peek {
    uint8_t uuid[16];
    uint64_t capacity, used, committed, created_at;
    uint32_t processes;   /* attached and alive */
    bool lasting, orphan; /* orphan: no process has it attached, and it is not lasting */
};
int fst_peek(const char *path, struct fst_peek *out);

/* ---- caches and groups ----------------------------------------------------------------------- */

/* The parameters and numbers of a cache. */
struct fst_cache_info {
    uint64_t id;
    char name[FST_NAME_MAX];
    char format[FST_FORMAT_MAX]; /* as much of it as there is room for */
    uint32_t format_bytes;       /* bytes of the whole format, without the final zero */
    /* bytes: of an object, its alignment, from one object to the next */
    uint64_t size, align, stride;
    uint32_t flags, state; /* state: 1 live, 3 ended, 4 alias, 6 retired */
    /* id of the cache that it shares memory with; equal to `id` unless it is an alias */
    uint64_t merged_into;
    /* how many other caches have been merged into this one */
    uint32_t aliases;
    /* counted now: slabs, the objects in them, those allocated, bytes of the pages */
    uint64_t slabs, objects, allocated, bytes;
    uint32_t children; /* groups in which it has a child */
};
/* FST_CLOSED: there is no such cache; FST_HELD. */
int fst_cache_get_info(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* The whole format of a cache, as much of it as there is room for, with a final zero. FST_CLOSED,
 * FST_HELD. */
int fst_cache_format(fst_arena *arena, uint64_t cache, char *out, size_t room);
/* Do what fst_cache_get_info does, but without any lock: slabs, objects, allocated, bytes and
 * children are 0, because they have to be counted. FST_CLOSED. */
int fst_cache_look(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* The ids of all caches that are not FREE: up to `max` into ids. The result is their number, which
 * may exceed `max`. */
size_t fst_cache_list(fst_arena *arena, uint64_t *ids, size_t max);

/* The numbers of a group. */
struct fst_group_info {
    uint64_t id, parent;
    char name[FST_NAME_MAX];
    uint32_t state;              /* 1 live, 2 closed, 3 destroyed */
    bool released;               /* it has ended, and none of its memory is left */
    uint32_t flags, children;    /* FST_GROUP_*; how many groups are below it, directly */
    uint64_t limit, usage, peak; /* bytes; FST_NO_LIMIT */
    /* allocations that met the limit; that failed for good; calls of fst_reclaim for it */
    uint64_t limit_hits, failed, reclaims;
    uint64_t messages_expire; /* ns; 0: never */
};
/* FST_CLOSED: there is no such group. */
int fst_group_get_info(fst_arena *arena, uint64_t group, struct fst_group_info *out);
/* The ids of all groups that are not FREE, as fst_cache_list. */
size_t fst_group_list(fst_arena *arena, uint64_t *ids, size_t max);
/* The ids of the caches that have a child in this group, as fst_cache_list. */
size_t fst_group_caches(fst_arena *arena, uint64_t group, uint64_t *ids, size_t max);
/* The folder of the cgroup that the group ends with, cut to `size` bytes with the final zero. The
 * result is its length; 0: it ends with none. */
size_t fst_group_cgroup(fst_arena *arena, uint64_t group, char *path, size_t size);

/* ---- objects and messages -------------------------------------------------------------------- */

/* The slots of processes that refer to the object now: up to `max`. The result is their number. */
size_t fst_holders(fst_arena *arena, const struct fst_ref *ref, uint32_t *processes, size_t max);
/* The ids of cache and group of the object. FST_INVALID: it is gone. */
int fst_object_owner(fst_arena *arena, const struct fst_ref *ref, uint64_t *cache, uint64_t *group);
/* A sentence about who holds the memory: by process, in flight, awaiting a batch, and stalled
 * behind which reader. */
void fst_describe_usage(fst_arena *arena, char *text, size_t size);

/* A message in flight. */
struct fst_inflight_info {
    uint32_t entry, tag; /* as in struct fst_message */
    bool is_group;       /* it names a group, and not an object */
    struct fst_handle handle;
    uint64_t nbytes, group, cache; /* ids */
    int32_t pid;                   /* the sender's, in its own pid namespace */
    char command[16];
    /* the sender has the arena attached; also false where it was killed before it said who it
     * was */
    bool sender_alive;
    uint64_t age; /* ns */
};
/* About how many messages there are in flight. */
size_t fst_inflight_count(fst_arena *arena);
/* Fill in up to `max` of them; the result is their number, which may exceed `max`. */
size_t fst_inflight_list(fst_arena *arena, struct fst_inflight_info *out, size_t max);

/* ---- channels -------------------------------------------------------------------------------- */

/* A channel, topic or lock. */
struct fst_channel_info {
    uint64_t id, group;
    char name[FST_NAME_MAX];
    uint32_t state; /* 1 live, 2 ended */
    uint32_t capacity, inline_bytes, flags;
    uint32_t waiting; /* messages that wait in it */
    /* messages that are taken, and with FST_CHANNEL_ACK not acknowledged; otherwise about to be */
    uint32_t taken;
    bool closed;
    uint64_t bytes; /* bytes of its memory */
};
/* FST_CLOSED: there is no such channel. */
int fst_channel_get_info(fst_arena *arena, uint64_t channel, struct fst_channel_info *out);
/* The ids of all channels that are not FREE, as fst_cache_list. */
size_t fst_channel_list(fst_arena *arena, uint64_t *ids, size_t max);
/* FST_CHANNEL_TOPIC, FST_CHANNEL_LOCK, or 0: a channel. UINT32_MAX: there is none any more. Its
 * ring is not looked at. */
uint32_t fst_channel_kind(fst_arena *arena, uint64_t channel);

/* ---- processes, batches, and what they keep -------------------------------------------------- */

/* An attached process, or one that is dead and not yet buried. */
struct fst_process_info {
    uint32_t slot;
    int32_t pid; /* in its own pid namespace */
    uint32_t uid;
    bool alive, self, readonly;
    char command[16];
    char arguments[192];
    uint64_t started; /* ns since boot */
    /* its live entries; its entries that await a batch; bytes of what the live ones refer to */
    uint64_t references, dropped, bytes;
    uint32_t threads; /* with a thread slot */
};
/* Fill in up to `max` of them; the result is their number. */
size_t fst_process_list(fst_arena *arena, struct fst_process_info *out, size_t max);

/* What was reclaimed from a process that died without leaving. */
struct fst_burial_info {
    uint64_t number; /* the burial's, counted from 1 */
    /* the pid of the dead, and that of the process that buried it; each in its own pid namespace */
    int32_t pid, reaper;
    uint32_t uid;
    char command[16];
    uint64_t noticed_at, finished_at; /* ns since boot; finished_at 0: under way */
    uint64_t objects, bytes, groups;  /* that nobody else used, so they were released with it */
    bool tended;                      /* see fst_arena_tended */
};
/* The last burials, newest first, up to `max`. The result is how many. */
size_t fst_burial_list(fst_arena *arena, struct fst_burial_info *out, size_t max);
/* The number of the newest burial. This is a load, so it is cheap to ask in passing. */
uint64_t fst_burial_count(fst_arena *arena);

/* What a batch did. */
struct fst_batch_info {
    uint32_t number;
    uint32_t groups, children; /* groups spliced from the queue; child caches released */
    uint64_t objects, bytes;   /* released */
    uint64_t began;            /* ns since boot */
    uint64_t duration;         /* ns */
    uint64_t grace_ns;         /* the part of it in which the batch waited for readers */
};
/* The last batches, newest first: up to `max`, and 16 at most. The result is how many. */
size_t fst_batch_list(fst_arena *arena, struct fst_batch_info *out, size_t max);

/* Child caches by state: live, in use; deactivated: their group was closed; queued: ended and
 * waiting for a batch, or kept by references; releasing: spliced by the running batch. The call
 * looks at every child there is. */
struct fst_child_counts {
    uint32_t live, deactivated, queued, releasing;
};
void fst_child_count(fst_arena *arena, struct fst_child_counts *out);

/* Does a thread of this process, maybe the one that runs batches, wait for a lock of the arena that
 * another process still has? Then fst_last_error() has a sentence about it. Locks of programs
 * (FST_CHANNEL_LOCK) do not count. For people: two threads that begin to wait at once may be
 * mistaken for each other. */
bool fst_held_up(fst_arena *arena);

/* Whose read-side section has been open for longest, in grace periods, among those that a grace
 * period has waited for? False: nobody's. */
bool fst_section_in_the_way(fst_arena *arena, int32_t *pid, uint32_t *tid);

/* Who keeps something that has ended from being released: by references of a process (or in flight:
 * pid 0) to objects of a group that was closed or destroyed, or to a closed group itself. A process
 * that has a destroyed group open keeps nothing by that. What forked children without a place in
 * the arena inherited is kept by the process that forked them, also after its death. */
struct fst_keeper {
    uint64_t group; /* id */
    int32_t pid;
    char command[16];
    uint64_t references, bytes;
    uint64_t ended_ns; /* how long ago the group ended */
    bool for_children; /* such children of it live, and these references may be theirs alone */
};
/* Fill in up to `max` of them; the result is how many were filled in. The call looks at every
 * reference. */
size_t fst_keeper_list(fst_arena *arena, struct fst_keeper *out, size_t max);
/* Fill in, like fst_keeper_list, who refers to objects of one cache, whatever their groups. */
size_t fst_cache_keepers(fst_arena *arena, uint64_t cache, struct fst_keeper *out, size_t max);

/* Objects that a process refers to: one row for each process, cache and group. */
struct fst_use {
    uint32_t slot;         /* of the process; UINT32_MAX: everything for which there was no row */
    uint64_t cache, group; /* ids */
    uint64_t objects, bytes;
};
/* Fill in up to `max` rows, in no order; the result is how many. The call looks at every reference
 * once, and needs no memory but `out`: what finds no row near its place is counted in the last
 * one. */
size_t fst_use_list(fst_arena *arena, struct fst_use *out, size_t max);

/* ---- do the structures agree? ---------------------------------------------------------------- */

/* Validate every structure. found(context, text) is called for each contradiction; the result is
 * their number. The arena may be in use: what is changing during the look is looked at again, under
 * the lock that protects it. FST_CHECK_HELD: a lock took longer than the thread waits (FST_HELD),
 * and nothing had been found until then. */
#define FST_CHECK_HELD SIZE_MAX
size_t fst_check(fst_arena *arena, void (*found)(void *context, const char *text), void *context);

/* Set how often this process measures for how long it holds a shared lock: once in so many
 * acquisitions. The default is 256; 0: never. */
void fst_lock_sample(uint32_t every);

#ifdef __cplusplus
}
#endif
#endif
