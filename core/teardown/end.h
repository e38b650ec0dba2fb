/* end.h - the end of a group or a cache. Whoever ends it unlinks it at once, and queues it for a
 * batch. Nobody waits here for a reader.
 *
 * A group ends by close() or destroy(), with the cgroup that it is bound to, or by a batch, once
 * nobody refers to it. A cache ends by destroy() of its last name, when no object of it is in use
 * (teardown/users.h).
 *
 *   - The group: its name becomes free, its state CLOSED or DESTROYED, its children OFFLINE or
 *     ENDED, and it is queued, all in one section of names_lock.
 *   - The groups below it: the same, some at a time, because other processes need the lock.
 *   - The cache: its name becomes free, and its state ENDED, in one section.
 *   - The cache's children: they become ENDED, some at a time; then the cache is queued.
 *
 * A kill leaves either nothing, or a state that says what has to follow from it. What has not
 * followed yet is done by whoever takes over the lock, or by the batch that buries the process
 * (teardown/finish.h).
 */
#ifndef FST_TEARDOWN_END_H
#define FST_TEARDOWN_END_H

#include "rcu/thread.h"
#include "region/region.h"

/* Move a group to an ended state, end its children and queue it. Nothing happens if it has already
 * ended so far. `when`: the time, which is asked for before the lock is acquired, because asking
 * would be a third of the section. Under names_lock. */
void fst_end_group(struct fst_arena *a, uint32_t group, enum fst_group_state state, uint64_t when);

/* Destroy all groups below one that was destroyed and whose state word is still this. It acquires
 * names_lock for some at a time. */
void fst_end_groups_below(struct fst_arena *a, uint32_t top, uint64_t state);

/* End the group that an id names, with all below it when it is destroyed. Slabs of it that the
 * calling thread owns are let go of, so that no batch has to revoke them with a barrier. *children
 * receives how many child caches it had. FST_CLOSED, FST_INVALID, FST_HELD. Without locks. */
int fst_end_group_by_id(struct fst_arena *a, uint64_t id, enum fst_group_state state, uint32_t *children);

/* Close a group to which nobody refers any more, and whose word a batch has freed. Without
 * locks. */
void fst_end_unreferenced(struct fst_arena *a, uint32_t group);

/* What destroying one name of a cache came to. */
enum fst_end_cache {
    FST_END_NOTHING, /* there is no such cache */
    FST_END_NAME,    /* the name is gone, and others remain */
    FST_END_LAST,    /* the cache has ended; from fst_end_name: the name is the last one */
    FST_END_RETIRED, /* another cache has its name, and it ends by itself, with its last object */
    FST_END_BUSY,    /* it is in use: fst_last_error() says by whom */
    FST_END_HELD,    /* a lock took longer than this thread waits, and nothing has changed */
};

/* Destroy a name if its cache has others. FST_END_LAST: it is the last name of `body`, and nothing
 * has changed; `name` receives it. Without locks. */
enum fst_end_cache fst_end_name(struct fst_arena *a, uint64_t cache, uint32_t *body, char name[FST_NAME_MAX]);

/* Ask about a cache that was retired: FST_END_BUSY, with a sentence, while somebody uses an object
 * of it; otherwise FST_END_RETIRED. Without locks. */
enum fst_end_cache fst_end_retired(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name);

/* End the cache with its last name, if no object of it is in use. *children receives how many child
 * caches it had. It holds the body's lock `ending`, and waits for another destroy() of the cache.
 * Without locks. */
enum fst_end_cache fst_end_cache(struct fst_arena *a, uint64_t cache, uint32_t body, const char *name, uint32_t *children);

#endif
