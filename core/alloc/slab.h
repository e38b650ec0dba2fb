/* slab.h - slabs of one child cache: who owns which, and when one is given back.
 *
 * A thread *owns* the slabs that it allocates from (alloc/active.h): nobody else changes their free
 * words. Whoever needs one that is owned has to revoke it first (alloc/revoke.h). All slabs of the
 * child are on one of two lists (alloc/lists.h).
 *
 * A slab without a use is closed and given back (alloc/close.h). The model is models/slab.pml.
 */
#ifndef FST_ALLOC_SLAB_H
#define FST_ALLOC_SLAB_H

#include "alloc/revoke.h"
#include "rcu/thread.h"
#include "region/lock.h"
#include "region/records.h"
#include "region/region.h"

/* Adopt a slab from the child's list PARTIAL that has a free object, for the calling thread to
 * allocate from. FST_NONE: there is none, or *held: the child's lock took longer than this thread
 * waits. */
uint32_t fst_slab_adopt_partial(struct fst_thread *t, uint32_t child, bool *held);

/* Make a slab of the child, all free, with so many pages and objects: for an object of `asked`
 * bytes, or for several (0). `keep`: the thread goes on to own it. *slab_state receives its state
 * word while it is this slab: a slab that is empty and nobody's may go again at any moment.
 * FST_FULL, FST_LIMIT, FST_CLOSED, FST_HELD. It acquires the child's lock and commits memory: never
 * inside a section. */
int fst_slab_new(struct fst_thread *t, uint32_t child, uint64_t child_state, uint32_t pages, uint32_t objects, uint64_t asked,
                 bool keep, uint32_t *slab_id, uint64_t *slab_state);

/* Let go of a slab for which `owner` has no use any more. Nothing happens if it was revoked
 * meanwhile. */
void fst_slab_let_go(struct fst_arena *a, uint32_t child, uint32_t slab_id, uint64_t owner);

/* When no slab can be made: revoke what other threads own of the child and have not used up. True:
 * ask for a slab again. */
bool fst_slab_revoke_owned(struct fst_thread *t, uint64_t child_id, uint64_t child_state);

/* Find a free object in a slab that nobody owns. True: the child's lock is held now, and the caller
 * swings the object's word under it. False: there is none, or the lock took longer than this thread
 * waits. */
bool fst_slab_find_shared(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t *slab_id, uint32_t *object);

/* Make a one-object slab for an object of `asked` bytes (above 64 KiB, of the size classes), which
 * is on FULL and nobody's. *slab_state receives its state word while it is this slab: being empty,
 * it may go again at any moment. It fails as fst_slab_new does. */
int fst_slab_large(struct fst_thread *t, uint64_t child_id, uint64_t asked, uint32_t *slab_id, uint64_t *slab_state);

/* Note that an object of this slab was freed, which the caller does not own: the slab may be moved
 * or given back. The id may have been recycled since. `owner`: the calling thread's owner word; 0:
 * give nothing back. True: the slab is empty, its child has ended, and only a batch can give it
 * back; or the lock took too long. */
bool fst_slab_freed(struct fst_arena *a, uint32_t slab_id, uint64_t owner);

/* Finish or let go of a slab whose carving or closing thread is dead, or whose owner is, or that
 * was left like this because a lock took too long. `me`: name of the calling thread. */
void fst_slab_recover(struct fst_arena *a, uint32_t slab_id, uint64_t me);

/* The bytes of memory of each of the slab's objects; in a slab of one large object, what was asked
 * for. */
static inline uint64_t fst_slab_whole(const struct fst_slab *s, const struct fst_child *c)
{
    uint64_t asked = fst_load_relaxed(&s->asked);
    return asked ? asked : c->size;
}

/* The bytes that a slab of any length has behind what was asked for. */
static inline uint64_t fst_slab_behind(const struct fst_child *c)
{
    return c->flags & FST_CACHE_DEBUG ? FST_DEBUG_BEHIND : 0;
}

/* Is something written into each object of the child that is allocated: initial content, or what
 * debugging has around it? */
static inline bool fst_child_constructs(const struct fst_child *c)
{
    bool init = (c->flags & FST_CHILD_HAS_INIT) && !(c->flags & FST_CACHE_TYPESAFE_BY_RCU);
    return init || (c->flags & FST_CACHE_DEBUG);
}

/* The address of bytes of the slab's data, if they lie inside its pages, and those inside the
 * arena; otherwise NULL, and there is damage. */
uint8_t *fst_slab_outside(const struct fst_arena *a, uint32_t id, uint64_t offset, uint64_t bytes);
static inline uint8_t *fst_slab_data(const struct fst_arena *a, const struct fst_slab *s, uint32_t id, uint64_t offset,
                                     uint64_t bytes)
{
    uint64_t page = fst_load_relaxed(&s->page), pages = fst_load_relaxed(&s->pages), length = pages << FST_PAGE_SHIFT;
    if (__builtin_expect(page + pages > a->capacity_pages || bytes > length || offset > length - bytes, 0))
        return fst_slab_outside(a, id, offset, bytes);
    return a->data + (page << FST_PAGE_SHIFT) + offset;
}
/* The address of the initial content of a cache that has one, and its length; the rest of its
 * format begins behind it. NULL: there is damage. */
const uint8_t *fst_slab_init(struct fst_arena *a, uint32_t cache, uint64_t *bytes);

#endif
