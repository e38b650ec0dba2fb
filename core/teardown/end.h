/* end.h - the end of a group or a cache: unlinked at once, by whoever ends it, and queued for a
 * batch. Nobody waits here for a reader.
 *
 * What ends a group: close() and destroy(), the end of the cgroup that it is bound to, and a batch,
 * once nobody refers to it. What ends a cache is destroy() of its last name, when no object of it
 * is in use (teardown/users.h).
 *
 *   the group     its name is free, its state CLOSED or DESTROYED, its children OFFLINE or ENDED,
 *                 and it is queued, all in one section of names_lock
 *   those below   the same, some at a time: the lock is everybody's
 *   the cache     its name is free, and its state ENDED, in one section
 *   its children  ENDED, some at a time; then the cache is queued
 *
 * A kill leaves either nothing, or a state that says what has to follow from it. What did not
 * follow yet is done by who takes over the lock, or by the batch that buries the process
 * (teardown/finish.h).
 */
#ifndef FST_TEARDOWN_END_H
#define FST_TEARDOWN_END_H

#include "rcu/thread.h"
#include "region/region.h"

/* Move a group to an ended state, end its children and queue it. Under names_lock. Nothing, if
 * it has ended so far already. `when`: the time, asked for before the lock was taken, in whose
 * section it would be a third of the whole. */
void fst_end_group(struct fst_arena *a, uint32_t group, enum fst_group_state state, uint64_t when);

/* Destroy all groups below one whose state word this is since it was destroyed. Takes names_lock
 * for some at a time. */
void fst_end_groups_below(struct fst_arena *a, uint32_t top, uint64_t state);

/* The group that an id names, with all below it when it is destroyed; slabs of it that the
 * calling thread owns are let go, so that no batch has to take them away with a barrier.
 * *children: how many child caches it had. FST_CLOSED, FST_INVALID. Without locks. */
int fst_end_group_by_id(struct fst_arena *a, uint64_t id, enum fst_group_state state, uint32_t *children);

/* Nobody refers to the group any more, whose word a batch has freed: close it. Without locks. */
void fst_end_unreferenced(struct fst_arena *a, uint32_t group);

/* What destroying one name of a cache came to. */
enum fst_end_cache {
    FST_END_NOTHING, /* there is no such cache */
    FST_END_NAME,    /* the name is gone, and others remain */
    FST_END_LAST,    /* the cache has ended; or, from fst_end_name: it would */
    FST_END_RETIRED, /* another cache has its name: it ends by itself, with its last object */
    FST_END_BUSY,    /* it is in use: fst_last_error() says by whom */
    FST_END_HELD,    /* a lock could not be had in time: nothing has come of it */
};

/* Destroy a name if its cache has others. FST_END_LAST: it is the last one, `name`, of `body`,
 * and nothing has changed. Without locks. */
enum fst_end_cache fst_end_name(struct fst_arena *a, uint64_t cache, uint32_t *body, char name[FST_NAME_MAX]);

/* A cache that was retired: FST_END_BUSY, with a sentence, while somebody uses an object of it.
 * Without locks. */
enum fst_end_cache fst_end_retired(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name);

/* End the cache with its last name, if no object of it is in use. *children: how many child
 * caches it had. Without locks; holds the body's lock `ending`, and waits for another destroy()
 * of it. */
enum fst_end_cache fst_end_cache(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name, uint32_t *children);

#endif
