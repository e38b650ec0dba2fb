/* release.h - the memory of what has ended, and of what became empty: slab, child, cache or group,
 * each when nothing depends on it any more.
 *
 *   - A slab that is empty is closed, so that nothing is allocated in it again; its pages become
 *     free.
 *   - A child that is OFFLINE or ENDED, and without pages, becomes FREE.
 *   - A cache that is ENDED or RETIRED, and without children, becomes FREE, with the slab of its
 *     initial content.
 *   - A group that is CLOSED or DESTROYED, its word free, without children, without groups below
 *     it, and not queued, becomes FREE; then its parent, if that waited for nothing else.
 *
 * The memory goes first and the descriptor after it: a slab's pages are released through its
 * child's descriptor, so a child outlives them (mutant CHILD_BY_ITSELF). Nobody is called back and
 * nobody is woken here: the caller is told when there is something that only another batch can give
 * back.
 *
 * A kill leaves a descriptor that says what it was, in a state that has ended: the batch that
 * buries the process looks at all of them.
 */
#ifndef FST_TEARDOWN_RELEASE_H
#define FST_TEARDOWN_RELEASE_H

#include "rcu/thread.h"
#include "teardown/words.h"

/* Look after slab, child, cache and group of an object that has become free, in a slab from which
 * this thread does not allocate. In no section. True: there is more, which only a batch can give
 * back. */
bool fst_release_after_free(struct fst_thread *t, uint64_t oid);

/* Release those of these children that have ended and have no slab left, and then the caches and
 * groups that waited for nothing else. The result is how many children were released. Without
 * locks. */
uint32_t fst_release_children(struct fst_arena *a, const uint32_t *children, uint32_t n);

/* Release one group that has ended, and then its parents, if nothing depends on them. Under
 * names_lock. */
void fst_release_group(struct fst_arena *a, uint32_t group);

/* Step 5 of a batch, for all that it has spliced: free the words that are still CONDEMNED, give
 * back the slabs that are empty, also those of OFFLINE children, and release what is over. `owner`:
 * the calling thread's owner word. *stop not 0 ends a wait for the readers of TYPESAFE_BY_RCU
 * slabs, which the next batch gives back then. Under no lock but the reaper's. */
void fst_release_ended(struct fst_arena *a, const struct fst_ended *ended, const struct fst_scan *scan, uint64_t owner,
                       const uint32_t *stop, struct fst_released *released);

/* Give back every empty slab of every child, and release what is over then. Slabs of
 * TYPESAFE_BY_RCU caches share a grace period; when it is not over within `patience` ns, they are
 * left. `others`: also slabs from which threads of other processes allocate. In no section. */
void fst_release_empty(struct fst_thread *t, bool others, uint64_t patience, const uint32_t *stop);

#endif
