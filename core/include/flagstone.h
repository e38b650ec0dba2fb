/* flagstone.h - the public header of the core: shared memory between processes that cleans up after
 * itself.
 *
 * An *arena* is one file in memory, mapped by every process that attaches. It holds typed *caches*
 * of *objects*. A process uses an object through a *reference*; the bytes of an object are not
 * reused while any live process holds one. What a killed process held is released by a *batch*,
 * which any other process runs.
 *
 * This part is what programs use: arenas, caches and groups, objects, grace periods. It includes
 * the others: flagstone_types.h (the types of all parts, and the conventions), flagstone_channel.h
 * (queues between processes, topics, locks), flagstone_store.h (objects found by name),
 * flagstone_await.h (one thread that waits for many of these), flagstone_observe.h (numbers, who
 * holds what, check), and flagstone_debug.h (caches that are debugged). Only flagstone_test.h, for
 * tests, is not included.
 */
#ifndef FLAGSTONE_H
#define FLAGSTONE_H

#include "flagstone_await.h"
#include "flagstone_channel.h"
#include "flagstone_debug.h"
#include "flagstone_observe.h"
#include "flagstone_store.h"
#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How long the calling thread waits, in ns, each time that it needs a lock which all processes
 * share, or something else that a function without "may wait" may come to (memory on its way back
 * to the system, a barrier in all processes). It is FST_FOREVER until a thread sets it; 0 does not
 * wait at all, for threads that hold what other threads wait for. After fst_patience_default the
 * thread waits as long as fst_patience_of_all says, which holds for all threads of the process that
 * have set nothing. */
void fst_patience(uint64_t ns);
void fst_patience_default(void);
void fst_patience_of_all(uint64_t ns);

/* ---- arenas ---------------------------------------------------------------------------------- */

struct fst_open_options {
    const char *path; /* absolute path on a tmpfs; NULL: anonymous (memfd) */
    /* bytes of data at most, rounded up to the system's pages; 0: 1 GiB for an arena that is
     * created, and of an existing one what it has */
    uint64_t capacity;
    enum fst_create create;
    bool readonly; /* map the data read-only; alloc, free, destroy fail with FST_READONLY */
    /* the arena outlives its processes; this is recorded when it is created, and attaching with
     * true sets it as well */
    bool lasting;
    bool huge_pages; /* of an arena that is created: use huge pages where the system can */
    /* permissions of a file that is created, as for chmod(2): 0600, for instance */
    uint32_t mode;
    /* FST_CACHE_* of flagstone_debug.h, for the size classes of an arena that is created */
    uint32_t debug;
};

/* Attach to the arena, or create it, as options.create says. A process has one attachment to an
 * arena: opening the arena again gives the same attachment with one more reference, and has to
 * agree about `readonly` (FST_MISMATCH). The call also removes what crashed processes of this user
 * left in the folder of `path`.
 *
 * Errors: FST_EXISTS, FST_MISSING as options.create says; FST_INVALID: the path is not absolute, or
 * the capacity too large; FST_REFUSED: not a regular file of this user on a tmpfs; FST_LAYOUT,
 * FST_CORRUPTED; FST_FULL: no room, or no process slot; FST_CLOSED: others kept removing it;
 * FST_OS.
 *
 * May wait: up to a second, in steps of a millisecond, while others create and remove the name
 * again and again; and as long as another thread of this process opens or leaves an arena.
 */
int fst_arena_open(const struct fst_open_options *options, fst_arena **out);

/* Attach through a descriptor of the arena's file, which stays the caller's. It fails as
 * fst_arena_open does. */
int fst_arena_open_fd(int fd, bool readonly, fst_arena **out);

/* The attachment of this process to the arena with this uuid, with one more reference; NULL: it has
 * none. */
fst_arena *fst_arena_find(const uint8_t uuid[16]);

/* From now on this process looks for deaths, and for messages that expire, even if it shares
 * nothing itself: this starts its reaper thread. */
void fst_arena_watch(fst_arena *arena);

/* Say that it is in good order when a signal of its parent ends this process, as it does a pool's
 * worker. The burial says so to whoever tells people of the dead. */
void fst_arena_tended(fst_arena *arena);

/* Let go of one reference to the attachment. The last one detaches: this process's references to
 * objects are dropped, and the last process to leave removes a named arena that is not lasting. It
 * never fails. May wait: for the reaper thread of this process to stop, and 50 ms for a last
 * batch. */
void fst_arena_unref(fst_arena *arena);

/* To be called once, when the process is about to end. For every attachment it stops the reaper
 * thread, and counts this process as gone for "the last one removes the arena". Mappings and
 * references stay, because other threads may still look at them. */
void fst_leave_all(void);

/* For whoever runs code of its own in the parent after a fork, as Python does, and counts threads
 * first: no reaper thread runs from fork() until fst_fork_end(). The thread that forks calls both,
 * and need not call the second in the child. Without them they run again when fork() returns. */
void fst_fork_begin(void);
void fst_fork_end(void);

/* Does this process still have the arena attached after a fork? An attachment for which the child
 * could be given no place is not usable: what was inherited through it stays as it is, and must not
 * be used. */
bool fst_arena_usable(const fst_arena *arena);
/* FST_OK; or FST_CLOSED, and the sentence says why the child was given no place. */
int fst_arena_refused(const fst_arena *arena);
/* How many attachments of this process are not usable: nearly always 0. It changes only at a
 * fork. */
extern uint32_t fst_unusable;

/* A descriptor of the arena's file, close-on-exec, for passing on. It stays the attachment's, so
 * the caller does not close it. FST_CLOSED: the file can be opened no more. */
int fst_arena_fd(fst_arena *arena);

/* Remove every arena of this user in the folder that no live process has and that is not lasting.
 * *removed (`removed` may be NULL) receives their paths in memory from malloc, each with its final
 * zero and one more zero at the end; or NULL. The result is the number removed, or FST_REFUSED (not
 * on a tmpfs), FST_MISSING, FST_OS. */
int fst_gc(const char *folder, char **removed);

/* Remove the arena's name. Processes that have it attached keep it. FST_MISSING, FST_REFUSED,
 * FST_LAYOUT, FST_CORRUPTED, FST_OS. */
int fst_unlink(const char *path);

/* ---- caches and groups ----------------------------------------------------------------------- */

/* The objects are reused at once, but their memory stays memory of this cache until a grace period
 * after the last one was freed. */
#define FST_CACHE_TYPESAFE_BY_RCU 1u
#define FST_CACHE_NO_MERGE        2u /* the cache shares memory with no other */
#define FST_CACHE_SIZE_CLASS      4u /* one of the caches behind fst_alloc_bytes */
#define FST_CACHE_CHANNELS        8u /* the cache of the rings of channels */

/* A cache to be opened. The caller's texts and bytes are copied. */
struct fst_cache_spec {
    const char *name; /* 1 to 63 bytes */
    uint64_t size;    /* bytes of an object, 1 to the arena's capacity */
    /* bytes, a power of two; 0: natural (the largest power of two that divides size, at most 64) */
    uint64_t align;
    /* FST_CACHE_TYPESAFE_BY_RCU, FST_CACHE_NO_MERGE, and FST_CACHE_DEBUG. Those of FST_CACHE_DEBUG
     * are for a new cache: whoever opens it later gets it as it was made */
    uint32_t flags;
    /* a text about the objects, kept with the cache and compared on opening; FST_FORMAT_LONGEST - 1
     * bytes at most; NULL: the same as "" */
    const char *format;
    /* the initial content of each object, init_bytes <= size, behind which all bytes are zero;
     * NULL: none */
    const void *init;
    uint32_t init_bytes;
    bool replace; /* a cache of this name with other parameters is retired, and a new one made */
};

/* Open the cache of this name, or create it. FST_MISMATCH: it exists with other parameters, and
 * *cache is that one.
 *
 * With spec.replace that one is retired instead: its name is the new one's at once, whoever
 * allocates from it gets FST_CLOSED, its objects live on until they are dropped, and it goes with
 * the last of them. Of merged caches only the name goes.
 *
 * A new cache of the same size, alignment and format as one that exists becomes an alias of it, as
 * compatible kmem_caches are merged: the two share memory, and each name can be destroyed. That
 * never happens with initial content, FST_CACHE_TYPESAFE_BY_RCU or FST_CACHE_NO_MERGE on either
 * side.
 *
 * Other errors: FST_INVALID, FST_FULL, FST_LIMIT, FST_HELD; FST_READONLY: such an attachment cannot
 * replace a cache, nor make one with initial content or a long format.
 */
int fst_cache_open(fst_arena *arena, const struct fst_cache_spec *spec, uint64_t *cache);

/* End the cache. FST_BUSY: a live process or an in-flight entry refers to an object of it; then
 * nothing has changed, and fst_last_error() names counts by process. Its name is free when the call
 * returns. When merged caches have other names, only this name is removed (*name_only is true;
 * `name_only` may be NULL), and the others, and all objects, live on. A cache that was replaced has
 * lost its name already; it goes with its last object. Other errors: FST_CLOSED: it has ended
 * already; FST_HELD, FST_READONLY, FST_FULL.
 *
 * Allocations from this cache, and from no other, wait while the call looks for users. May wait: a
 * tenth of a second for a thread that is stopped in the middle of an allocation from it.
 */
int fst_cache_destroy(fst_arena *arena, uint64_t cache, bool *name_only);

/* Give back the empty slabs of the cache, in all groups. *bytes receives how many bytes, also with
 * FST_HELD. FST_CLOSED; FST_IN_SECTION. May wait: with FST_CACHE_TYPESAFE_BY_RCU for a grace period
 * in each group that has empty slabs, a second each at most. */
int fst_cache_shrink(fst_arena *arena, uint64_t cache, uint64_t *bytes);

#define FST_GROUP_LASTING 1u /* lives without a process that has it open */
#define FST_GROUP_CGROUP  2u /* lives until its cgroup ends */

/* A group to be opened. */
struct fst_group_spec {
    const char *name; /* 1 to 63 bytes; NULL: without a name */
    uint64_t parent;  /* id of the group above; fst_group_root at least */
    uint64_t limit;   /* bytes, rounded down to pages of 4 KiB; FST_NO_LIMIT */
    bool set_limit;   /* false: no limit for a new group; an existing one keeps its own */
    /* ns after which a message of an object of the group that nobody took is dropped; 0: never */
    uint64_t messages_expire;
    /* false: a new group has its parent's; an existing one keeps its own */
    bool set_messages_expire;
    uint32_t flags; /* FST_GROUP_LASTING */
    enum fst_create create;
};

/* The id of the root group, which lives as long as the arena. */
uint64_t fst_group_root(fst_arena *arena);
/* Open the live group of this name under this parent, or create one; *created says which. This
 * process holds a reference to it then (fst_group_unref). FST_MISMATCH: the live group has another
 * limit, or another messages_expire, and the spec sets it. FST_EXISTS, FST_MISSING as spec.create
 * says; FST_CLOSED: the parent has ended; FST_INVALID, FST_FULL, FST_HELD. */
int fst_group_open(fst_arena *arena, const struct fst_group_spec *spec, uint64_t *group, bool *created);
/* Open or create in the same way a group that ends with the Linux cgroup of this folder (version 1
 * or 2), and not with its processes: a batch destroys it, in a process of the same mount namespace
 * and root folder. FST_MISSING, FST_INVALID: the folder is none of a cgroup; FST_MISMATCH: the live
 * group ends otherwise. */
int fst_group_open_cgroup(fst_arena *arena, const struct fst_group_spec *spec, const char *path, uint64_t *group, bool *created);
/* Let go of a reference to the group. The last one closes a group that is not lasting. */
void fst_group_unref(fst_arena *arena, uint64_t group);
/* Let go of a reference whose place the caller has remembered, which saves looking for it:
 * fst_group_entry gives the place, right after the reference was made. */
uint32_t fst_group_entry(fst_arena *arena, uint64_t group);
void fst_group_unref_at(fst_arena *arena, uint64_t group, uint32_t entry);
/* Close the group: it becomes offline, and nothing is allocated in it any more. FST_CLOSED: it is
 * gone; FST_INVALID: the root group; FST_READONLY, FST_HELD. */
int fst_group_close(fst_arena *arena, uint64_t group);
/* Destroy the group and those below it: everything in them is freed now. It waits for no reader,
 * holder or batch. It fails as fst_group_close does. */
int fst_group_destroy(fst_arena *arena, uint64_t group);
/* From now on, whoever destroys a group or a cache through this attachment waits until it is
 * released: for one grace period for each child cache of it, and with one destroyer at a time in
 * the whole arena. That is how the kernel did it before 4.11, to compare with; no program should
 * want it. Both calls may wait then, and fail with FST_IN_SECTION. There is no timeout: while such
 * a call waits, `go_on` (may be NULL) is asked every tenth of a second, with the ns that it has
 * waited. If the answer is false, the call returns, and what is left is released like anything
 * else. */
typedef bool fst_go_on(void *context, uint64_t waited);
void fst_destroy_synchronously(fst_arena *arena, bool on, fst_go_on *go_on, void *context);
/* Set the group's limit, in bytes, rounded down to pages; FST_NO_LIMIT. What is in use already
 * stays. FST_CLOSED, FST_HELD. */
int fst_group_set_limit(fst_arena *arena, uint64_t group, uint64_t limit);

/* The part of a cache that belongs to a group, made when it is first asked for. *child is what
 * fst_alloc wants: an id that is checked at use. FST_CLOSED: the cache or the group has ended;
 * FST_FULL, FST_HELD. */
int fst_child_open(fst_arena *arena, uint64_t cache, uint64_t group, uint64_t *child);

/* ---- objects --------------------------------------------------------------------------------- */

/* Allocate an object of the child. The fast path touches no lock and needs no compare-and-swap.
 * When it needs memory, it may acquire locks for microseconds, make system calls to commit memory,
 * take 10 to 20 ms to revoke slabs from threads of other processes, and a twentieth of a second
 * when the last free pages are just on their way back to the system. It waits for no grace period.
 * FST_FULL, FST_LIMIT: call fst_reclaim() and try again. FST_CLOSED: group or cache has ended.
 * FST_READONLY, FST_HELD. */
int fst_alloc(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* Allocate an object only if a slab that is there has a free one; otherwise FST_BUSY: call
 * fst_alloc. It takes microseconds and never asks the system for memory, for callers that hold what
 * others wait for. */
int fst_alloc_at_once(fst_arena *arena, uint64_t child, struct fst_ref *out);
/* Allocate up to n objects; *got receives how many. FST_OK: all n were allocated; otherwise the
 * error of the first that was not, as fst_alloc. */
int fst_alloc_many(fst_arena *arena, uint64_t child, size_t n, struct fst_ref *out, size_t *got);
/* Allocate an object of any number of bytes, through size classes; 0 is allowed. It fails as
 * fst_alloc does. */
int fst_alloc_bytes(fst_arena *arena, uint64_t group, uint64_t nbytes, struct fst_ref *out);

/* What an object without a cache of its own means: a text of the caller's, kept beside the object.
 * Texts are interned: the arena keeps each once, for as long as it lives, and numbers them from 1
 * on. */
struct fst_form_spec {
    uint32_t form; /* the text's number; 0: the text is kept behind the object's own bytes */
    const char *text;
    size_t text_bytes;
};
/* The number of the text among those of objects with so many bytes; it is made if there is none.
 * *form 0: the text has no number, because it is longer than 480 bytes, or all 8,190 numbers are in
 * use, or half of them are and the caller has not used the text before (`again`). FST_OK in both
 * cases; FST_CLOSED, FST_CORRUPTED. */
int fst_form_intern(fst_arena *arena, const char *text, size_t text_bytes, uint64_t nbytes, bool again, uint32_t *form);
/* Allocate as fst_alloc_bytes does, with a form that everybody who gets the object finds. */
int fst_alloc_form(fst_arena *arena, uint64_t group, uint64_t nbytes, const struct fst_form_spec *form, struct fst_ref *out);
/* The text of the object's form: `out` receives as much of it as there is room for, and *text_bytes
 * its length, 0 for an object without a form. FST_CORRUPTED: the text was overwritten. */
int fst_form_text(fst_arena *arena, const struct fst_ref *ref, char *out, size_t room, size_t *text_bytes);

/* Free what can be freed without waiting for others to drop it: run a batch, and give back empty
 * slabs. It is counted for `group`, which is short of memory (UINT64_MAX: for none). FST_OK:
 * something may have become free. FST_IN_SECTION: the thread is inside a read-side section;
 * FST_TIMEOUT. May wait: for one grace period, at most `timeout` ns. */
int fst_reclaim(fst_arena *arena, uint64_t group, uint64_t timeout);
/* Count an allocation of the group that failed for good, for people. */
void fst_group_note_failed(fst_arena *arena, uint64_t group);
/* Sleep until memory may have become free, for at most `timeout` ns, and 10 ms. May wait. */
void fst_wait_for_memory(fst_arena *arena, uint64_t timeout);
/* Drop this reference. It never fails, and waits for each lock a fifth of a millisecond at most. */
void fst_drop(fst_arena *arena, const struct fst_ref *ref);
/* Make one more reference of this process to the same object, for a second owner of *ref. Both are
 * dropped in the end. */
void fst_hold(fst_arena *arena, const struct fst_ref *ref);
/* Make one more reference of this process to the object that has this byte. The caller knows that
 * this process uses the object; the call looks through all references of the process. FST_MISSING:
 * the address lies in none of their objects. */
int fst_ref_at(fst_arena *arena, const void *address, struct fst_ref *out);
/* Does the address lie where this process has the arena's objects? Two loads: for callers that have
 * addresses of other memory, too. */
bool fst_arena_spans(const fst_arena *arena, const void *address);
/* Free the object for everyone: handles of it become stale, while references and in-flight
 * references keep the bytes until they are dropped. The caller still has its reference. FST_STALE:
 * somebody has freed it before; FST_READONLY. */
int fst_free(fst_arena *arena, const struct fst_ref *ref);

/* The object's handle, which guarantees nothing. Only an object whose handle was given out here, or
 * that was shared, can be resolved. */
int fst_handle_of(fst_arena *arena, const struct fst_ref *ref, struct fst_handle *out);
/* Make a reference from a bare handle. FST_STALE: the object is gone; FST_FOREIGN: the handle is of
 * another arena; FST_FULL, FST_HELD. */
int fst_resolve(fst_arena *arena, const struct fst_handle *handle, struct fst_ref *out);
/* Put a reference in flight. The message may be copied, stored, and taken in any process that has
 * the arena attached. When the object's group or cache has been destroyed, the message holds
 * nothing, and its `entry` is UINT32_MAX. FST_FULL: too many messages are in flight, and the
 * sentence says whose. */
int fst_share(fst_arena *arena, const struct fst_ref *ref, struct fst_message *out);
/* Take a message: its in-flight reference becomes this process's. If somebody took it before, or it
 * was dropped, the message counts as a bare handle. FST_STALE, FST_FOREIGN, FST_FULL, FST_HELD. */
int fst_take(fst_arena *arena, const struct fst_message *message, struct fst_ref *out);
/* Share and take a group in the same way. fst_group_take holds a reference for this process
 * (fst_group_unref). FST_CLOSED: the group was destroyed. */
int fst_group_share(fst_arena *arena, uint64_t group, struct fst_message *out);
int fst_group_take(fst_arena *arena, const struct fst_message *message, uint64_t *group);

/* Drop the messages that have expired now, and not only when a batch comes to it. The result is how
 * many were dropped. */
size_t fst_inflight_expire(fst_arena *arena);
/* Drop in-flight references that are at least `older_than` ns old, of one group (UINT64_MAX: of
 * any), and of one sender: the one with this pid (0: any), or (`dead`) those that do not have the
 * arena attached any more, however they left it, as the kernel says. The result is how many were
 * dropped. */
size_t fst_inflight_drop_from(fst_arena *arena, uint64_t older_than, uint64_t group, int32_t pid, bool dead);

/* ---- grace periods and batches --------------------------------------------------------------- */

/* Begin and end a read-side section of the calling thread. Sections nest; inside one nothing waits
 * or reclaims. fst_read_lock: FST_FULL: the arena has no free thread slot; FST_CLOSED.
 * fst_read_unlock has to come from the same thread; otherwise FST_INVALID. */
int fst_read_lock(fst_arena *arena);
int fst_read_unlock(fst_arena *arena);
bool fst_in_section(fst_arena *arena);

/* Wait until every section that was open at the call has ended, for at most `timeout` ns. May wait.
 * FST_IN_SECTION, FST_TIMEOUT. */
int fst_synchronize(fst_arena *arena, uint64_t timeout);
/* Wait until everything that was dropped or ended before the call, by anyone, is released, for at
 * most `timeout` ns. Empty slabs are given back to the page allocator as well. May wait.
 * FST_IN_SECTION, FST_TIMEOUT. */
int fst_barrier(fst_arena *arena, uint64_t timeout);
/* Wait for the same in slices: begin gives a cookie, with which wait may be called again after
 * FST_TIMEOUT. */
int fst_barrier_begin(fst_arena *arena, uint64_t *cookie);
int fst_barrier_wait(fst_arena *arena, uint64_t cookie, uint64_t timeout);
/* Give memory back to the system; *bytes receives how many bytes. It waits for a grace period, for
 * at most `timeout` ns: what needs a longer one stays. FST_IN_SECTION. May wait. */
int fst_shrink(fst_arena *arena, uint64_t timeout, uint64_t *bytes);

/* Grace periods in polled form: is one over that began after the cookie was read? */
uint64_t fst_gp_cookie(fst_arena *arena);
bool fst_gp_done(fst_arena *arena, uint64_t cookie);

uint64_t fst_now(void); /* ns since boot (CLOCK_BOOTTIME) */

#ifdef __cplusplus
}
#endif
#endif
