/* flagstone.h - the public header of the core: shared memory between processes that cleans up after itself.
 *
 * An *arena* is one file in memory, mapped by every process that attaches. It holds typed *caches* of *objects*. A process uses an
 * object through a *reference*; the bytes of an object are not reused while any live process holds one. What a killed process held
 * is given back by a *batch*, which any other process runs.
 *
 * Conventions for everything below
 *   - Functions return FST_OK (0) or a negative enum fst_status; fst_last_error() then has the sentence for people, in the calling
 *     thread. Where a function returns something else, it says so.
 *   - Every function may be called from any thread, and processes need no coordination of their own, unless a line says otherwise.
 *   - No function calls back into its caller. Some take locks that all processes share, for microseconds; a process that is stopped in there
 *     keeps the lock, and then they answer FST_HELD when the thread's patience is over (fst_patience), with nothing changed. What cannot be
 *     put off (a drop, letting go, the end of a thread) never waits for such a lock: a batch does it later. Those marked "may wait" wait
 *     for something else, too.
 *   - Sizes are bytes, times are nanoseconds; FST_FOREVER never ends, 0 does not wait.
 *   - Indexes (cache, group, child, process) are small integers into tables of the arena; an index of something that is gone is found
 *     out and refused, because the `uint64_t` ids carry a generation: low 32 bits index, high 32 bits generation.
 */
#ifndef FLAGSTONE_H
#define FLAGSTONE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FST_NAME_MAX       64         /* bytes of a name with its final zero */
#define FST_FORMAT_MAX     1024       /* bytes of a cache's format text, with a final zero, that are in its description */
#define FST_FORMAT_LONGEST (16 << 20) /* bytes of a whole one, with its final zero */
#define FST_FOREVER        UINT64_MAX
#define FST_NO_LIMIT       UINT64_MAX

enum fst_status {
    FST_OK = 0,
    FST_FULL = -1,        /* the file system, the capacity or a table is used up */
    FST_LIMIT = -2,       /* a group's limit */
    FST_BUSY = -3,        /* in use; nothing changed */
    FST_MISMATCH = -4,    /* exists with other parameters */
    FST_STALE = -5,       /* the handle's object is gone */
    FST_READONLY = -6,    /* this attachment may not write */
    FST_CLOSED = -7,      /* arena, group or cache was closed or destroyed */
    FST_LAYOUT = -8,      /* another version's or another program's file */
    FST_CORRUPTED = -9,   /* the arena's structures contradict each other */
    FST_EXISTS = -10,     /* must not exist, but does */
    FST_MISSING = -11,    /* must exist, but does not */
    FST_INVALID = -12,    /* an argument makes no sense */
    FST_OS = -13,         /* a system call failed: fst_last_errno() */
    FST_IN_SECTION = -14, /* would wait for the caller's own read-side section */
    FST_TIMEOUT = -15,    /* the time is over */
    FST_REFUSED = -16,    /* not a regular file of this user */
    FST_FOREIGN = -17,    /* a handle of another arena */
    FST_WAIT = -18,       /* a channel is full, or empty: fst_channel_wait and try again */
    FST_END = -19,        /* a channel was closed: nothing can be put, or everything was taken */
    FST_HELD = -20,       /* a lock is held by somebody for longer than this thread waits, or it would have to wait and may not;
                             nothing has changed */
};

const char *fst_last_error(void); /* of the calling thread; valid until its next failing call */
int fst_last_errno(void);

/* How long the calling thread waits, ns at each time, for a lock that all processes share, or for something else that a function without
 * "may wait" may come to (memory on its way back to the system, a barrier in all processes): FST_FOREVER until told otherwise; 0: not at all,
 * for who holds what other threads wait for. fst_patience_default: as long as fst_patience_of_all says, which is for all threads that have not
 * said. */
void fst_patience(uint64_t ns);
void fst_patience_default(void);
void fst_patience_of_all(uint64_t ns);

typedef struct fst_arena fst_arena; /* this process's attachment to an arena; reference-counted */

/* ---- arenas ----------------------------------------------------------------------------------------------------------------- */

enum fst_create { FST_OPEN_OR_CREATE = 0, FST_CREATE_NEW = 1, FST_OPEN_EXISTING = 2 };

struct fst_open_options {
    const char *path;  /* absolute path on a tmpfs; NULL: anonymous (memfd) */
    uint64_t capacity; /* bytes of data at most; 0: 1 GiB if created, whatever it has if it exists */
    enum fst_create create;
    bool readonly; /* map data read-only; alloc, free, destroy fail with FST_READONLY */
    bool lasting;  /* the arena outlives its processes (recorded when it is created; attaching with true sets it too) */
    bool huge_pages;
    uint32_t mode; /* permissions of a file that is created */
};

/* Attach to the arena, or create it. A process has one attachment to an arena: opening it again gives the same one with one more
 * reference (so `readonly` must agree: FST_MISMATCH). Removes what crashed processes of this user left in the folder of `path`.
 * May wait: up to a second, in steps of a millisecond, while others create and remove the name again and again, and as long as another
 * thread of this process opens or leaves an arena. */
int fst_arena_open(const struct fst_open_options *options, fst_arena **out);

/* Attach through a file descriptor of the arena's file, which stays the caller's. */
int fst_arena_open_fd(int fd, bool readonly, fst_arena **out);

/* The attachment of this process to the arena with this uuid, with one more reference, or NULL. */
fst_arena *fst_arena_find(const uint8_t uuid[16]);

/* From now on this process looks for deaths, and for messages that expire, though it shares nothing itself: starts a thread. */
void fst_arena_watch(fst_arena *arena);

/* Let go of one reference. The last one detaches: this process's references to objects are dropped, and the last process to leave
 * removes a named arena that is not lasting. Never fails. May wait: for the reaper thread of this process to stop. */
void fst_arena_unref(fst_arena *arena);

/* Called once when the process is about to end: for every attachment, stop the reaper thread, count as gone for "the last one
 * removes the arena", but keep mappings and references, because other threads may still look at them. */
void fst_leave_all(void);

/* Does this process still have the arena attached after fork? (An attachment that could not be
 * carried over is dead; what was inherited through it stays as it is, and is not to be used.) */
bool fst_arena_usable(const fst_arena *arena);
/* FST_OK; or FST_CLOSED, and why it could not be carried over. */
int fst_arena_refused(const fst_arena *arena);
/* How many such attachments this process has: 0 nearly always. Changes only at a fork. */
extern uint32_t fst_unusable;

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
    char hold_wall_lock[8],
        hold_cpu_lock[8];               /* the shared lock that was held for longest, as wall and as CPU time; "": none seen */
    uint64_t hold_wall_ns, hold_cpu_ns; /* sampled: see fst_lock_sample */
    uint64_t stalled_pid, stalled_tid, stalled_ns; /* the reader that a grace period waits for; pid 0: none */
    uint64_t batch_pid, batch_ns;                  /* who runs a batch now, and for how long already; pid 0: nobody */
};
int fst_arena_get_info(fst_arena *arena, struct fst_arena_info *out);
/* A descriptor of the file, close-on-exec, for passing on: it stays the attachment's. FST_CLOSED. */
int fst_arena_fd(fst_arena *arena);

/* What a file is, without attaching: for listings. FST_LAYOUT for anything that is not an arena of this layout. */
struct fst_peek {
    uint8_t uuid[16];
    uint64_t capacity, used, committed, created_at;
    uint32_t processes;   /* attached and alive */
    bool lasting, orphan; /* orphan: no process has it, and it is not lasting */
};
int fst_peek(const char *path, struct fst_peek *out);

/* Remove every arena of this user in the folder that no live process has and that is not lasting. *removed (may be NULL) receives
 * their paths in malloc'ed memory, each with its final zero and one more zero at the end, or NULL. Returns the number removed, or a negative status. */
int fst_gc(const char *folder, char **removed);

/* Remove the arena's name. Processes that have it keep it. FST_MISSING, FST_REFUSED, FST_LAYOUT. */
int fst_unlink(const char *path);

/* ---- caches and groups ------------------------------------------------------------------------------------------------------ */

#define FST_CACHE_TYPESAFE_BY_RCU 1u /* objects are reused at once, memory keeps its type until a grace period after */
#define FST_CACHE_NO_MERGE        2u
#define FST_CACHE_SIZE_CLASS      4u /* one of the caches behind fst_alloc_bytes */
#define FST_CACHE_CHANNELS        8u /* the one that rings of channels are of */

struct fst_cache_spec {
    const char *name;
    uint64_t size;      /* bytes of an object, 1 to the arena's capacity */
    uint64_t align;     /* 0: natural (largest power of two that divides size, at most 64), else a power of two */
    uint32_t flags;     /* FST_CACHE_TYPESAFE_BY_RCU, FST_CACHE_NO_MERGE */
    const char *format; /* kept with the cache, compared on opening; FST_FORMAT_LONGEST - 1 bytes at most */
    const void *init;   /* initial content of each object, init_bytes <= size; the rest is zero. NULL: none */
    uint32_t init_bytes;
    bool replace; /* one of this name with other parameters is retired, and a new one made */
};

/* Open the cache of this name, or create it. FST_MISMATCH when it exists with other parameters: then *cache is that one, unless
 * spec.replace retires it: its name is the new one's at once, whoever allocates from it gets FST_CLOSED, its objects live on until they are
 * dropped, and it goes with the last of them. Of merged caches only the name goes. A new cache of the same size, alignment
 * and format as one that exists becomes an alias of it, as compatible kmem_caches are merged: the two share memory, and each name can be
 * destroyed. Never with initial content, FST_CACHE_TYPESAFE_BY_RCU or FST_CACHE_NO_MERGE, on either side. */
int fst_cache_open(fst_arena *arena, const struct fst_cache_spec *spec, uint64_t *cache);

/* End the cache. FST_BUSY while a live process or an in-flight entry refers to an object of it; then nothing has changed, and
 * fst_last_error() names counts by process. Its name is free when the call returns. One of several names of merged caches is just taken
 * away (*name_only; it may be NULL): the others, and all objects, live on. Of a cache that was replaced the name has gone already, and it
 * goes with its last object. Allocations from this cache, and no others, wait while it looks. */
int fst_cache_destroy(fst_arena *arena, uint64_t cache, bool *name_only);

/* Give the empty slabs of the cache, in all groups, back; *bytes receives how much, also with FST_HELD. */
int fst_cache_shrink(fst_arena *arena, uint64_t cache, uint64_t *bytes);

struct fst_cache_info {
    uint64_t id;
    char name[FST_NAME_MAX];
    char format[FST_FORMAT_MAX]; /* as much of it as there is room for */
    uint32_t format_bytes;       /* of all of it, without the final zero */
    uint64_t size, align, stride;
    uint32_t flags, state;                     /* state: 1 live, 3 ended, 4 alias, 6 retired */
    uint64_t merged_into;                      /* id; equal to `id` unless this is an alias */
    uint32_t aliases;                          /* how many other caches have been merged into this one */
    uint64_t slabs, objects, allocated, bytes; /* counted now: slabs, their objects, those allocated, bytes of pages held */
    uint32_t children;
};
int fst_cache_get_info(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* All of a cache's format text, as much of it as there is room for, with a final zero. */
int fst_cache_format(fst_arena *arena, uint64_t cache, char *out, size_t room);
/* The same without slabs, objects, allocated, bytes and children, which have to be counted: 0. */
int fst_cache_look(fst_arena *arena, uint64_t cache, struct fst_cache_info *out);
/* Ids of all caches that are not FREE: up to max into ids; returns their number (which may exceed max). */
size_t fst_cache_list(fst_arena *arena, uint64_t *ids, size_t max);

#define FST_GROUP_LASTING 1u
#define FST_GROUP_CGROUP  2u /* lasts until its cgroup ends */

struct fst_group_spec {
    const char *name; /* NULL: without a name */
    uint64_t parent;  /* id */
    uint64_t limit;   /* bytes, rounded down to pages; FST_NO_LIMIT */
    bool set_limit;   /* false: keep the limit of an existing group */
    uint64_t
        messages_expire; /* ns after which a message of an object of it that nobody took is dropped; 0: never, or as its parent has it */
    bool set_messages_expire; /* false: keep that of an existing group */
    uint32_t flags;           /* FST_GROUP_LASTING */
    enum fst_create create;
};

uint64_t fst_group_root(fst_arena *arena);
/* Open the live group of this name under this parent, or create one. Holds a reference to it for this process (fst_group_unref).
 * *created tells which. FST_MISMATCH when set_limit and the live group has another limit; FST_EXISTS, FST_MISSING as spec.create says. */
int fst_group_open(fst_arena *arena, const struct fst_group_spec *spec, uint64_t *group, bool *created);
/* The same for a group that ends with the Linux cgroup of this folder (v1 or v2), and not with its processes: a batch destroys it, in a process
 * of the same mount namespace and root folder. FST_MISSING, FST_INVALID when it is none; FST_MISMATCH when the live group ends otherwise. */
int fst_group_open_cgroup(fst_arena *arena, const struct fst_group_spec *spec, const char *path, uint64_t *group, bool *created);
/* The folder of the cgroup that the group ends with, cut to size; returns its length, 0: none. */
size_t fst_group_cgroup(fst_arena *arena, uint64_t group, char *path, size_t size);
void fst_group_unref(fst_arena *arena, uint64_t group);
/* The same for who has remembered where the reference is: fst_group_entry, right after it was taken. Saves looking for it. */
uint32_t fst_group_entry(fst_arena *arena, uint64_t group);
void fst_group_unref_at(fst_arena *arena, uint64_t group, uint32_t entry);
int fst_group_close(fst_arena *arena, uint64_t group);   /* offline: no more allocations */
int fst_group_destroy(fst_arena *arena, uint64_t group); /* and everything in it is freed now; never waits */
/* From now on, whoever destroys a group or a cache through this attachment waits until it is released: one grace period for each child cache
 * of it, one destroyer at a time in the whole arena. It is how the kernel did it before 4.11, to compare with; nobody should want it. Then
 * both may wait, and fail with FST_IN_SECTION. */
void fst_destroy_synchronously(fst_arena *arena, bool on);
int fst_group_set_limit(fst_arena *arena, uint64_t group, uint64_t limit);

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

/* The part of a cache that belongs to a group, made when it is first asked for. What fst_alloc takes: an index, checked at use. */
int fst_child_open(fst_arena *arena, uint64_t cache, uint64_t group, uint64_t *child);

/* ---- objects ---------------------------------------------------------------------------------------------------------------- */

/* A reference of this process to an object. Plain data: copying it copies no reference. */
struct fst_ref {
    void *data;
    uint64_t nbytes; /* what was asked for */
    uint64_t oid;    /* object id */
    uint32_t entry;  /* in this process's reference table */
};

/* 16 bytes that name an object for ever and guarantee nothing. */
struct fst_handle {
    uint64_t generation_tag; /* generation:40 | arena tag:24 (from the uuid) */
    uint64_t oid_slab;       /* object id:39 | low bits of the slab's generation:25 */
};

/* A handle with an in-flight reference: what travels in a pickle. 24 bytes. */
struct fst_message {
    struct fst_handle handle;
    uint32_t entry; /* in-flight entry; UINT32_MAX: none */
    uint32_t tag;   /* use of that entry */
};

/* Allocate an object of the child. The fast path touches no lock and needs no compare-and-swap; when it needs memory it may take
 * locks for microseconds and system calls to commit memory, but it never waits for a grace period.
 * FST_FULL, FST_LIMIT: fst_reclaim() and try again. FST_CLOSED: group or cache has ended. FST_READONLY. */
int fst_alloc(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* The same if there is a free object in a slab that is there; else FST_BUSY: call fst_alloc. Takes microseconds, and none for memory of the
 * system: for callers that hold what others wait for. */
int fst_alloc_at_once(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* Up to n objects; *got receives how many. FST_OK when all n were had. */
int fst_alloc_many(fst_arena *arena, uint64_t child, size_t n, struct fst_ref *out, size_t *got);
/* The same for any number of bytes through size classes; 0 is allowed and gives an object of 0 bytes. */
int fst_alloc_bytes(fst_arena *arena, uint64_t group, uint64_t nbytes, struct fst_ref *out);

/* Free what can be freed without waiting for others: run a batch, give back empty slabs. Counted for the group that is short of
 * memory (UINT64_MAX: none). Returns FST_OK when something may have
 * become free. FST_IN_SECTION inside a read-side section, FST_TIMEOUT. May wait: one grace period. */
int fst_reclaim(fst_arena *arena, uint64_t group, uint64_t timeout);
/* Count an allocation of the group that failed for good. */
void fst_group_note_failed(fst_arena *arena, uint64_t group);
/* Sleep until memory may have become free, at most timeout. May wait. */
void fst_wait_for_memory(fst_arena *arena, uint64_t timeout);
/* A sentence about who holds the memory: by process, in flight, awaiting a batch, stalled behind which reader. */
void fst_describe_usage(fst_arena *arena, char *text, size_t size);

/* Drop this reference. Never fails, never waits. */
void fst_drop(fst_arena *arena, const struct fst_ref *ref);
/* One more reference of this process to the same object, for a second owner of *ref; drop both. */
void fst_hold(fst_arena *arena, const struct fst_ref *ref);
/* One more reference of this process to the object that has this byte, which the caller knows that this process uses: looks through all of
 * its references. FST_MISSING: the address lies in none. */
int fst_ref_at(fst_arena *arena, const void *address, struct fst_ref *out);
/* Free the object for everyone: handles go stale; references and in-flight references keep the bytes until they are dropped.
 * The caller still has its reference. FST_STALE when somebody has freed it before, FST_READONLY. */
int fst_free(fst_arena *arena, const struct fst_ref *ref);

/* The object's handle, which guarantees nothing. Only an object whose handle was given out here can be resolved. */
int fst_handle_of(fst_arena *arena, const struct fst_ref *ref, struct fst_handle *out);
/* A reference from a bare handle, or FST_STALE, FST_FOREIGN. */
int fst_resolve(fst_arena *arena, const struct fst_handle *handle, struct fst_ref *out);
/* Put a reference in flight. The message may be copied, stored and taken in any attached process. */
int fst_share(fst_arena *arena, const struct fst_ref *ref, struct fst_message *out);
/* Take a message: its in-flight reference becomes this process's, or (taken before, dropped) as for a bare handle. */
int fst_take(fst_arena *arena, const struct fst_message *message, struct fst_ref *out);
/* The same for groups. */
int fst_group_share(fst_arena *arena, uint64_t group, struct fst_message *out);
int fst_group_take(fst_arena *arena, const struct fst_message *message, uint64_t *group);

/* Who refers to the object now: process slots, up to max; returns their number. */
size_t fst_holders(fst_arena *arena, const struct fst_ref *ref, uint32_t *processes, size_t max);
/* Cache and group of the object: ids. FST_INVALID when it is gone. */
int fst_object_owner(fst_arena *arena, const struct fst_ref *ref, uint64_t *cache, uint64_t *group);

struct fst_inflight_info {
    uint32_t entry, tag;
    bool is_group;
    struct fst_handle handle;
    uint64_t nbytes, group, cache; /* ids */
    int32_t pid;                   /* sender */
    char command[16];
    bool sender_alive; /* it has the arena attached; false, too, where it was killed before it said who it was */
    uint64_t age;      /* ns */
};
/* How many there are, about. */
size_t fst_inflight_count(fst_arena *arena);
/* Up to max of them; returns their number, which may exceed max. */
size_t fst_inflight_list(fst_arena *arena, struct fst_inflight_info *out, size_t max);
/* Drop those that have expired now, and not when a batch comes to it; returns how many. */
size_t fst_inflight_expire(fst_arena *arena);
/* Drop in-flight references at least `older_than` ns old, of one group (UINT64_MAX: any), and of one
 * sender: with this pid (0: any), or (dead) of those that have the arena no more, however they left
 * it: the kernel says so. Returns how many. */
size_t fst_inflight_drop_from(fst_arena *arena, uint64_t older_than, uint64_t group, int32_t pid, bool dead);

/* ---- channels ----------------------------------------------------------------------------------------------------------------
 *
 * Bounded queues of messages, each for one taker, found by name. A message is some bytes, or an object, or both. No process that is stopped
 * or killed anywhere holds up another, or loses it a message; what a killed one had taken is lost with it, or, with acknowledgements, comes
 * again. */

#define FST_CHANNEL_ACK     1u /* what was taken and not acknowledged goes back into the queue when its taker dies */
#define FST_CHANNEL_LASTING 2u /* lives without a process that has it open, until it, its group or its arena ends */

struct fst_channel_spec {
    const char *name;      /* NULL: without a name */
    uint32_t capacity;     /* messages that may wait; 1 to 1,048,576 */
    uint32_t inline_bytes; /* of a message, at most 4,000 */
    uint32_t flags;        /* FST_CHANNEL_* */
    uint64_t group;        /* id: what the memory is charged to */
};

/* A process's use of a channel. May be used by many threads, and after a fork by the child. */
typedef struct fst_channel_use fst_channel_use;

/* Open the channel of this name, or create it. FST_MISMATCH: it exists with other parameters (`group` apart). */
int fst_channel_open(fst_arena *arena, const struct fst_channel_spec *spec, enum fst_create how, fst_channel_use **out,
                     bool *created);
/* Let others open it who have no name: a message that keeps the channel until it is taken. */
int fst_channel_share(fst_channel_use *use, struct fst_message *out);
int fst_channel_join(fst_arena *arena, const struct fst_message *message, fst_channel_use **out);
/* Let go of it; nobody uses it meanwhile. The last process to do so ends it, unless it is lasting. */
void fst_channel_leave(fst_channel_use *use);
uint64_t fst_channel_id(const fst_channel_use *use);
/* About how many messages wait. */
uint32_t fst_channel_length(const fst_channel_use *use);

struct fst_letter {
    const void *bytes;
    uint32_t nbytes;     /* at most the channel's inline_bytes */
    uint32_t kind;       /* the user's, given to the taker */
    struct fst_ref *ref; /* an object of the caller's, NULL: none */
    bool keep;           /* the caller's reference stays; otherwise it moves, and is the caller's no more when FST_OK is returned */
};
/* FST_WAIT: full. FST_END: closed. FST_CLOSED: ended. FST_STALE: the object's group or cache was destroyed meanwhile, and its reference is gone. */
int fst_channel_put(fst_channel_use *use, const struct fst_letter *letter);

struct fst_received {
    uint32_t nbytes, kind;
    bool has_ref;
    struct fst_ref ref;
    uint32_t node; /* for fst_channel_done */
    uint64_t word;
};
/* `bytes` has room for inline_bytes. FST_WAIT: empty. FST_END: closed, and everything was taken. FST_CLOSED: ended. Messages whose object was
 * destroyed with its group or cache are passed over. */
int fst_channel_get(fst_channel_use *use, void *bytes, struct fst_received *out);
/* With FST_CHANNEL_ACK: the message is done with. FST_STALE: it was before, or it is another process's. */
int fst_channel_done(fst_channel_use *use, const struct fst_received *taken);

/* Until a get (taker), or a put, may go on: then true. Some milliseconds at most, whatever the timeout. May wait. */
bool fst_channel_wait(fst_channel_use *use, bool taker, uint64_t timeout);
/* Nothing is put any more; what is there can be taken. Idempotent. */
int fst_channel_close(fst_channel_use *use);
/* The channel ends now: its name is free, everybody's put and get fail with FST_CLOSED, what waits is dropped. */
int fst_channel_destroy(fst_channel_use *use);

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

/* ---- grace periods and batches ------------------------------------------------------------------------------------------------ */

/* Begin and end a read-side section of the calling thread; they nest. Inside, nothing waits or reclaims. fst_read_lock fails with
 * FST_FULL when the arena has no free thread slot, FST_CLOSED. fst_read_unlock must come from the same thread: FST_INVALID. */
int fst_read_lock(fst_arena *arena);
int fst_read_unlock(fst_arena *arena);
bool fst_in_section(fst_arena *arena);

/* Wait until every section that was open at the call has ended. May wait. FST_IN_SECTION, FST_TIMEOUT. */
int fst_synchronize(fst_arena *arena, uint64_t timeout);
/* Wait until everything that was dropped or ended before the call, by anyone, is released; gives empty slabs back to the page
 * allocator. May wait. FST_IN_SECTION, FST_TIMEOUT. */
int fst_barrier(fst_arena *arena, uint64_t timeout);
/* The same in slices: begin gives a cookie, wait may be called again with it after FST_TIMEOUT. */
int fst_barrier_begin(fst_arena *arena, uint64_t *cookie);
int fst_barrier_wait(fst_arena *arena, uint64_t cookie, uint64_t timeout);
/* Give memory back to the system; *bytes receives how much. Waits for a grace period, and not longer than the timeout: what it is not over
 * for stays. FST_IN_SECTION. */
int fst_shrink(fst_arena *arena, uint64_t timeout, uint64_t *bytes);

/* Grace periods in polled form. */
uint64_t fst_gp_cookie(fst_arena *arena);
bool fst_gp_done(fst_arena *arena, uint64_t cookie);

/* ---- looking ------------------------------------------------------------------------------------------------------------------ */

struct fst_process_info {
    uint32_t slot;
    int32_t pid;
    uint32_t uid;
    bool alive, self, readonly;
    char command[16];
    char arguments[192];
    uint64_t started;                    /* ns since boot */
    uint64_t references, dropped, bytes; /* live entries; entries awaiting a batch; bytes of what the live ones refer to */
    uint32_t threads;
};
size_t fst_process_list(fst_arena *arena, struct fst_process_info *out, size_t max);

/* What was reclaimed from processes that died without leaving. */
struct fst_burial_info {
    uint64_t number;     /* counts them, from 1 */
    int32_t pid, reaper; /* its own, and that of the process that buried it; each in its own pid namespace */
    uint32_t uid;
    char command[16];
    uint64_t noticed_at, finished_at; /* ns since boot; finished_at 0: under way */
    uint64_t objects, bytes, groups;  /* that nobody else used: released with it */
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

/* Child caches by state: in use; deactivated (their group was closed); ended and queued for a batch, or kept by references; taken by the
 * running batch. Looks at every child there is. */
struct fst_child_counts {
    uint32_t live, deactivated, queued, releasing;
};
void fst_child_count(fst_arena *arena, struct fst_child_counts *out);

/* Whose read-side section has been open for longest, in grace periods, of those that somebody has begun to wait for. False: nobody's. */
bool fst_section_in_the_way(fst_arena *arena, int32_t *pid, uint32_t *tid);

/* Who keeps something that has ended from being released: references of a process (or in flight: pid 0) to objects of a group that was
 * closed or destroyed, or to a closed group itself. Who has a destroyed group open keeps nothing. */
struct fst_keeper {
    uint64_t group; /* id */
    int32_t pid;
    char command[16];
    uint64_t references, bytes;
    uint64_t ended_ns; /* how long ago the group ended */
};
/* Up to max of them; returns how many were found, at most max. Looks at every reference. */
size_t fst_keeper_list(fst_arena *arena, struct fst_keeper *out, size_t max);
/* The same of the objects of one cache, whatever their groups. */
size_t fst_cache_keepers(fst_arena *arena, uint64_t cache, struct fst_keeper *out, size_t max);

/* Validate every structure. Calls found(context, text) for each contradiction; returns their number. The arena may be in use:
 * what is changing during the look is looked at again under the lock that protects it. FST_CHECK_HELD: a lock was held for longer than the
 * thread waits (FST_HELD), and nothing was found until then. */
#define FST_CHECK_HELD SIZE_MAX
size_t fst_check(fst_arena *arena, void (*found)(void *context, const char *text), void *context);

uint64_t fst_now(void); /* ns since boot */

/* How often this process looks how long it holds a shared lock: every so many acquisitions (256 unless set; 0 never). */
void fst_lock_sample(uint32_t every);

#ifdef __cplusplus
}
#endif
#endif
