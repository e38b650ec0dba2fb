/* flagstone.h - the public header of the core: shared memory between processes that cleans up after
 * itself.
 *
 * An *arena* is one file in memory, mapped by every process that attaches. It holds typed *caches*
 * of *objects*. A process uses an object through a *reference*; the bytes of an object are not
 * reused while any live process holds one. What a killed process held is given back by a *batch*,
 * which any other process runs.
 *
 * This part is what programs use: arenas, caches and groups, objects, grace periods. It brings the
 * others along: flagstone_types.h (what all of them speak of, and the conventions),
 * flagstone_channel.h (queues between processes), flagstone_store.h (objects found by name),
 * flagstone_observe.h (numbers, who holds what, check), and flagstone_debug.h (caches that are
 * debugged). Only flagstone_test.h, for tests, is apart.
 */
#ifndef FLAGSTONE_H
#define FLAGSTONE_H

#include "flagstone_channel.h"
#include "flagstone_debug.h"
#include "flagstone_observe.h"
#include "flagstone_store.h"
#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How long the calling thread waits, ns at each time, for a lock that all processes share, or
 * for something else that a function without "may wait" may come to (memory on its way back to
 * the system, a barrier in all processes): FST_FOREVER until told otherwise; 0: not at all, for
 * who holds what other threads wait for. fst_patience_default: as long as fst_patience_of_all
 * says, which is for all threads that have not said. */
void fst_patience(uint64_t ns);
void fst_patience_default(void);
void fst_patience_of_all(uint64_t ns);

/* ---- arenas ---------------------------------------------------------------------------------- */

struct fst_open_options {
    const char *path; /* absolute path on a tmpfs; NULL: anonymous (memfd) */
    /* bytes of data at most; 0: 1 GiB if created, whatever it has if it exists */
    uint64_t capacity;
    enum fst_create create;
    bool readonly; /* map data read-only; alloc, free, destroy fail with FST_READONLY */
    /* the arena outlives its processes (recorded when it is created; attaching with true sets it
     * too) */
    bool lasting;
    bool huge_pages;
    uint32_t mode;  /* permissions of a file that is created */
    uint32_t debug; /* FST_CACHE_DEBUG: of the size classes of one that is created */
};

/* Attach to the arena, or create it. A process has one attachment to an arena: opening it again
 * gives the same one with one more reference (so `readonly` must agree: FST_MISMATCH). Removes
 * what crashed processes of this user left in the folder of `path`. May wait: up to a second, in
 * steps of a millisecond, while others create and remove the name again and again, and as long
 * as another thread of this process opens or leaves an arena. */
int fst_arena_open(const struct fst_open_options *options, fst_arena **out);

/* Attach through a file descriptor of the arena's file, which stays the caller's. */
int fst_arena_open_fd(int fd, bool readonly, fst_arena **out);

/* The attachment of this process to the arena with this uuid, with one more reference, or NULL. */
fst_arena *fst_arena_find(const uint8_t uuid[16]);

/* From now on this process looks for deaths, and for messages that expire, though it shares
 * nothing itself: starts a thread. */
void fst_arena_watch(fst_arena *arena);

/* In good order this process is ended by a signal of whoever started it: a pool's worker. Its
 * burial says so, for whoever tells people of the dead. */
void fst_arena_tended(fst_arena *arena);

/* Let go of one reference. The last one detaches: this process's references to objects are
 * dropped, and the last process to leave removes a named arena that is not lasting. Never fails.
 * May wait: for the reaper thread of this process to stop. */
void fst_arena_unref(fst_arena *arena);

/* Called once when the process is about to end: for every attachment, stop the reaper thread,
 * count as gone for "the last one removes the arena", but keep mappings and references, because
 * other threads may still look at them. */
void fst_leave_all(void);

/* Does this process still have the arena attached after fork? (An attachment that could not be
 * carried over is dead; what was inherited through it stays as it is, and is not to be used.) */
bool fst_arena_usable(const fst_arena *arena);
/* FST_OK; or FST_CLOSED, and why it could not be carried over. */
int fst_arena_refused(const fst_arena *arena);
/* How many such attachments this process has: 0 nearly always. Changes only at a fork. */
extern uint32_t fst_unusable;

/* A descriptor of the file, close-on-exec, for passing on: it stays the attachment's.
 * FST_CLOSED. */
int fst_arena_fd(fst_arena *arena);

/* Remove every arena of this user in the folder that no live process has and that is not
 * lasting. *removed (may be NULL) receives their paths in malloc'ed memory, each with its final
 * zero and one more zero at the end, or NULL. Returns the number removed, or a negative status. */
int fst_gc(const char *folder, char **removed);

/* Remove the arena's name. Processes that have it keep it. FST_MISSING, FST_REFUSED, FST_LAYOUT. */
int fst_unlink(const char *path);

/* ---- caches and groups ----------------------------------------------------------------------- */

/* Objects are reused at once, and memory keeps its type until a grace period after. */
#define FST_CACHE_TYPESAFE_BY_RCU 1u
#define FST_CACHE_NO_MERGE        2u
#define FST_CACHE_SIZE_CLASS      4u /* one of the caches behind fst_alloc_bytes */
#define FST_CACHE_CHANNELS        8u /* the one that rings of channels are of */

struct fst_cache_spec {
    const char *name;
    uint64_t size; /* bytes of an object, 1 to the arena's capacity */
    /* 0: natural (largest power of two that divides size, at most 64), else a power of two */
    uint64_t align;
    /* FST_CACHE_TYPESAFE_BY_RCU, FST_CACHE_NO_MERGE; and FST_CACHE_DEBUG, of a new one: whoever
     * opens it gets it as it was made */
    uint32_t flags;
    /* kept with the cache, compared on opening; FST_FORMAT_LONGEST - 1 bytes at most */
    const char *format;
    /* initial content of each object, init_bytes <= size; the rest is zero. NULL: none */
    const void *init;
    uint32_t init_bytes;
    bool replace; /* one of this name with other parameters is retired, and a new one made */
};

/* Open the cache of this name, or create it. FST_MISMATCH when it exists with other parameters:
 * then *cache is that one, unless spec.replace retires it: its name is the new one's at once,
 * whoever allocates from it gets FST_CLOSED, its objects live on until they are dropped, and it
 * goes with the last of them. Of merged caches only the name goes. A new cache of the same size,
 * alignment and format as one that exists becomes an alias of it, as compatible kmem_caches are
 * merged: the two share memory, and each name can be destroyed. Never with initial content,
 * FST_CACHE_TYPESAFE_BY_RCU or FST_CACHE_NO_MERGE, on either side. */
int fst_cache_open(fst_arena *arena, const struct fst_cache_spec *spec, uint64_t *cache);

/* End the cache. FST_BUSY while a live process or an in-flight entry refers to an object of it;
 * then nothing has changed, and fst_last_error() names counts by process. Its name is free when
 * the call returns. One of several names of merged caches is just taken away (*name_only; it may
 * be NULL): the others, and all objects, live on. Of a cache that was replaced the name has gone
 * already, and it goes with its last object. Allocations from this cache, and no others, wait
 * while it looks. May wait: a tenth of a second for a process that is stopped in the middle of an
 * allocation from it. */
int fst_cache_destroy(fst_arena *arena, uint64_t cache, bool *name_only);

/* Give the empty slabs of the cache, in all groups, back; *bytes receives how much, also with
 * FST_HELD. */
int fst_cache_shrink(fst_arena *arena, uint64_t cache, uint64_t *bytes);

#define FST_GROUP_LASTING 1u
#define FST_GROUP_CGROUP  2u /* lasts until its cgroup ends */

struct fst_group_spec {
    const char *name; /* NULL: without a name */
    uint64_t parent;  /* id */
    uint64_t limit;   /* bytes, rounded down to pages; FST_NO_LIMIT */
    bool set_limit;   /* false: keep the limit of an existing group */
    /* ns after which a message of an object of it that nobody took is dropped; 0: never, or as its
     * parent has it */
    uint64_t messages_expire;
    bool set_messages_expire; /* false: keep that of an existing group */
    uint32_t flags;           /* FST_GROUP_LASTING */
    enum fst_create create;
};

uint64_t fst_group_root(fst_arena *arena);
/* Open the live group of this name under this parent, or create one. Holds a reference to it for
 * this process (fst_group_unref). *created tells which. FST_MISMATCH when set_limit and the live
 * group has another limit; FST_EXISTS, FST_MISSING as spec.create says. */
int fst_group_open(fst_arena *arena, const struct fst_group_spec *spec, uint64_t *group, bool *created);
/* The same for a group that ends with the Linux cgroup of this folder (v1 or v2), and not with
 * its processes: a batch destroys it, in a process of the same mount namespace and root folder.
 * FST_MISSING, FST_INVALID when it is none; FST_MISMATCH when the live group ends otherwise. */
int fst_group_open_cgroup(fst_arena *arena, const struct fst_group_spec *spec, const char *path, uint64_t *group, bool *created);
void fst_group_unref(fst_arena *arena, uint64_t group);
/* The same for who has remembered where the reference is: fst_group_entry, right after it was
 * taken. Saves looking for it. */
uint32_t fst_group_entry(fst_arena *arena, uint64_t group);
void fst_group_unref_at(fst_arena *arena, uint64_t group, uint32_t entry);
int fst_group_close(fst_arena *arena, uint64_t group); /* offline: no more allocations */
/* and everything in it is freed now: waits for no reader, holder or batch */
int fst_group_destroy(fst_arena *arena, uint64_t group);
/* From now on, whoever destroys a group or a cache through this attachment waits until it is
 * released: one grace period for each child cache of it, one destroyer at a time in the whole
 * arena. It is how the kernel did it before 4.11, to compare with; nobody should want it. Then
 * both may wait, and fail with FST_IN_SECTION. There is no timeout: while it waits, `go_on` (may
 * be NULL) is asked every now and then, with the nanoseconds that it has waited; false, and the
 * call returns, and what is left is released like anything else. */
typedef bool fst_go_on(void *context, uint64_t waited);
void fst_destroy_synchronously(fst_arena *arena, bool on, fst_go_on *go_on, void *context);
int fst_group_set_limit(fst_arena *arena, uint64_t group, uint64_t limit);

/* The part of a cache that belongs to a group, made when it is first asked for. What fst_alloc
 * takes: an index, checked at use. */
int fst_child_open(fst_arena *arena, uint64_t cache, uint64_t group, uint64_t *child);

/* ---- objects --------------------------------------------------------------------------------- */

/* Allocate an object of the child. The fast path touches no lock and needs no compare-and-swap;
 * when it needs memory it may take locks for microseconds and system calls to commit memory, 10
 * to 20 ms to take slabs from threads of other processes, and a twentieth of a second when the
 * last free pages are just going back to the system. No grace period is waited for. FST_FULL,
 * FST_LIMIT: fst_reclaim() and try again. FST_CLOSED: group or cache has ended. FST_READONLY. */
int fst_alloc(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* The same if there is a free object in a slab that is there; else FST_BUSY: call fst_alloc.
 * Takes microseconds, and none for memory of the system: for callers that hold what others wait
 * for. */
int fst_alloc_at_once(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* Up to n objects; *got receives how many. FST_OK when all n were had. */
int fst_alloc_many(fst_arena *arena, uint64_t child, size_t n, struct fst_ref *out, size_t *got);
/* The same for any number of bytes through size classes; 0 is allowed and gives an object of 0
 * bytes. */
int fst_alloc_bytes(fst_arena *arena, uint64_t group, uint64_t nbytes, struct fst_ref *out);

/* What an object without a cache of its own means: a text of the caller's, kept beside it. Texts
 * are interned: the arena keeps each once, for as long as it lives, and numbers it from 1 on. */
struct fst_form_spec {
    uint32_t form; /* its number; 0: the text is kept behind the object's own bytes */
    const char *text;
    size_t text_bytes;
};
/* The number of the text among those of objects with so many bytes; made if there is none. 0: it
 * has none and gets none, because it is longer than 480 bytes, or all 8,190 are in use, or half of
 * them are and the caller has not used it before (`again`). */
int fst_form_intern(fst_arena *arena, const char *text, size_t text_bytes, uint64_t nbytes, bool again, uint32_t *form);
/* As fst_alloc_bytes, with a form, which everybody who gets the object finds. */
int fst_alloc_form(fst_arena *arena, uint64_t group, uint64_t nbytes, const struct fst_form_spec *form, struct fst_ref *out);
/* The text of the object's form: as much of it as there is room for, and its
 * length. FST_CORRUPTED: it was overwritten. */
int fst_form_text(fst_arena *arena, const struct fst_ref *ref, char *out, size_t room, size_t *text_bytes);

/* Free what can be freed without waiting for others: run a batch, give back empty slabs. Counted
 * for the group that is short of memory (UINT64_MAX: none). Returns FST_OK when something may
 * have become free. FST_IN_SECTION inside a read-side section, FST_TIMEOUT. May wait: one grace
 * period. */
int fst_reclaim(fst_arena *arena, uint64_t group, uint64_t timeout);
/* Count an allocation of the group that failed for good. */
void fst_group_note_failed(fst_arena *arena, uint64_t group);
/* Sleep until memory may have become free, at most timeout. May wait. */
void fst_wait_for_memory(fst_arena *arena, uint64_t timeout);
/* Drop this reference. Never fails, and waits for each lock a fifth of a millisecond at most. */
void fst_drop(fst_arena *arena, const struct fst_ref *ref);
/* One more reference of this process to the same object, for a second owner of *ref; drop both. */
void fst_hold(fst_arena *arena, const struct fst_ref *ref);
/* One more reference of this process to the object that has this byte, which the caller knows
 * that this process uses: looks through all of its references. FST_MISSING: the address lies in
 * none. */
int fst_ref_at(fst_arena *arena, const void *address, struct fst_ref *out);
/* Free the object for everyone: handles go stale; references and in-flight references keep the
 * bytes until they are dropped. The caller still has its reference. FST_STALE when somebody has
 * freed it before, FST_READONLY. */
int fst_free(fst_arena *arena, const struct fst_ref *ref);

/* The object's handle, which guarantees nothing. Only an object whose handle was given out here
 * can be resolved. */
int fst_handle_of(fst_arena *arena, const struct fst_ref *ref, struct fst_handle *out);
/* A reference from a bare handle, or FST_STALE, FST_FOREIGN. */
int fst_resolve(fst_arena *arena, const struct fst_handle *handle, struct fst_ref *out);
/* Put a reference in flight. The message may be copied, stored and taken in any attached
 * process. */
int fst_share(fst_arena *arena, const struct fst_ref *ref, struct fst_message *out);
/* Take a message: its in-flight reference becomes this process's, or (taken before, dropped) as
 * for a bare handle. */
int fst_take(fst_arena *arena, const struct fst_message *message, struct fst_ref *out);
/* The same for groups. */
int fst_group_share(fst_arena *arena, uint64_t group, struct fst_message *out);
int fst_group_take(fst_arena *arena, const struct fst_message *message, uint64_t *group);

/* Drop those that have expired now, and not when a batch comes to it; returns how many. */
size_t fst_inflight_expire(fst_arena *arena);
/* Drop in-flight references at least `older_than` ns old, of one group (UINT64_MAX: any), and of
 * one sender: with this pid (0: any), or (dead) of those that have the arena no more, however
 * they left it: the kernel says so. Returns how many. */
size_t fst_inflight_drop_from(fst_arena *arena, uint64_t older_than, uint64_t group, int32_t pid, bool dead);

/* ---- grace periods and batches --------------------------------------------------------------- */

/* Begin and end a read-side section of the calling thread; they nest. Inside, nothing waits or
 * reclaims. fst_read_lock fails with FST_FULL when the arena has no free thread slot,
 * FST_CLOSED. fst_read_unlock must come from the same thread: FST_INVALID. */
int fst_read_lock(fst_arena *arena);
int fst_read_unlock(fst_arena *arena);
bool fst_in_section(fst_arena *arena);

/* Wait until every section that was open at the call has ended. May wait. FST_IN_SECTION,
 * FST_TIMEOUT. */
int fst_synchronize(fst_arena *arena, uint64_t timeout);
/* Wait until everything that was dropped or ended before the call, by anyone, is released; gives
 * empty slabs back to the page allocator. May wait. FST_IN_SECTION, FST_TIMEOUT. */
int fst_barrier(fst_arena *arena, uint64_t timeout);
/* The same in slices: begin gives a cookie, wait may be called again with it after FST_TIMEOUT. */
int fst_barrier_begin(fst_arena *arena, uint64_t *cookie);
int fst_barrier_wait(fst_arena *arena, uint64_t cookie, uint64_t timeout);
/* Give memory back to the system; *bytes receives how much. Waits for a grace period, and not
 * longer than the timeout: what it is not over for stays. FST_IN_SECTION. */
int fst_shrink(fst_arena *arena, uint64_t timeout, uint64_t *bytes);

/* Grace periods in polled form. */
uint64_t fst_gp_cookie(fst_arena *arena);
bool fst_gp_done(fst_arena *arena, uint64_t cookie);

uint64_t fst_now(void); /* ns since boot */

#ifdef __cplusplus
}
#endif
#endif
