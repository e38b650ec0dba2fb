/* release.h - the memory of what has ended, and of what became empty: slab, child, cache or group,
 * each when nothing hangs on it any more.
 *
 *   slab    empty: closed, so that nothing is allocated in it again; its pages become free
 *   child   OFFLINE or ENDED, and without pages: FREE
 *   cache   ENDED, and without children: FREE, with the slab of its initial content
 *   group   CLOSED or DESTROYED, its word free, without children, without groups below it, and not
 *           queued: FREE; then its parent, which may have waited for it alone
 *
 * The memory goes first and the descriptor after it: a slab's pages are released through its
 * child's descriptor, so a child outlives them (mutant CHILD_BY_ITSELF). Nobody is called back and
 * nobody is woken here: what only another batch can give back is said to the caller.
 *
 * A kill leaves a descriptor that says what it was, in a state that has ended: the batch that
 * buries the process looks at all of them.
 */
#ifndef FST_TEARDOWN_RELEASE_H
#define FST_TEARDOWN_RELEASE_H

#include "rcu/thread.h"
#include "teardown/words.h"

/* The object behind oid became free and its slab is nobody's active one here: see to slab,
 * child, cache, group. In no section. True: there is more, which only a batch can give back. */
bool fst_release_after_free(struct fst_thread *t, uint64_t oid);

/* Release those of these children that have ended and have no slab left, and what waited for
 * them alone: cache, group. Returns how many. Without locks. */
uint32_t fst_release_children(struct fst_arena *a, const uint32_t *children, uint32_t n);

/* The same for one group that has ended, and its parents. Under names_lock. */
void fst_release_group(struct fst_arena *a, uint32_t group);

/* Step 5 of a batch, for all that it has taken: free the words that are still CONDEMNED, give
 * back the slabs that are empty, OFFLINE children's too, and release what is over. `owner`: the
 * calling thread's owner word; *stop ends a wait for the readers of TYPESAFE_BY_RCU slabs, which
 * are the next batch's then. Without locks but the reaper's. */
void fst_release_ended(struct fst_arena *a, const struct fst_ended *ended, const struct fst_scan *scan, uint64_t owner,
                       const uint32_t *stop, struct fst_released *released);

/* Give back every empty slab of every child, and release what is over then. Those of
 * TYPESAFE_BY_RCU caches share a grace period; when it is not over in `patience`, they are left.
 * `others`: also what threads of other processes keep to allocate from. In no section. */
void fst_release_empty(struct fst_thread *t, bool others, uint64_t patience, const uint32_t *stop);

#endif
