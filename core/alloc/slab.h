/* slab.h - slabs of one child cache: who owns which, and when one is given back.
 *
 * A thread *owns* the slabs that it allocates from (alloc/active.h): nobody else changes their free words. Who needs one that is owned has to
 * revoke it first (alloc/revoke.h). All slabs of the child are on one of two lists under the child's lock:
 *
 *   list      owner     meaning                                          how it leaves
 *   PARTIAL   nobody    may have a free object                           a thread becomes its owner; empty: closed and given back
 *   FULL      a thread  owned by it                                      the thread takes another instead, or the thread is gone
 *   FULL      nobody    had no free object when its thread let go        the first free of an object moves it to PARTIAL
 *
 * Whoever frees an object in a slab that is not its own looks at list and owner after its store; whoever lets go of a slab clears the
 * owner, then looks for free words (PAIR(let-go)): one of the two sees the other, and no free object is forgotten.
 *
 * A slab is given back by *closing* it, once nobody owns it: every word is swung from free to free|CONDEMNED, because what nobody owns may
 * be swung by others, too (one-object slabs, and those that processes have to share); one word that is not free undoes it. Words are
 * advanced by a generation when a slab is carved. models/slab.pml.
 */
#ifndef FST_ALLOC_SLAB_H
#define FST_ALLOC_SLAB_H

#include "alloc/revoke.h"
#include "rcu/thread.h"
#include "region/lock.h"
#include "region/region.h"

/* Adopt a slab of the child's partial list with a free object, for the calling thread to allocate
 * from; or FST_NONE. *held: the child's lock could not be had in time. */
uint32_t fst_slab_adopt_partial(struct fst_thread *t, uint32_t child, bool *held);

/* A new slab of the child, all free: of so many pages and objects, for an object of `asked` bytes or for several (0). `keep`: the thread goes
 * on to own it. *slab_state: its state word while it is this slab; being empty and nobody's, it may go again at any moment.
 * FST_FULL, FST_LIMIT, FST_CLOSED. Takes the child's lock and commits memory: never inside a section. */
int fst_slab_new(struct fst_thread *t, uint32_t child, uint64_t child_state, uint32_t pages, uint32_t objects, uint64_t asked,
                 bool keep, uint32_t *slab_id, uint64_t *slab_state);

/* `owner` has no use for the slab any more. Nothing, if it was revoked meanwhile. */
void fst_slab_let_go(struct fst_arena *a, uint32_t child, uint32_t slab_id, uint64_t owner);

/* When no slab is to be had: revoke what other threads own of the child and have not used up. True:
 * activate again. */
bool fst_slab_revoke_owned(struct fst_thread *t, uint64_t child_id, uint64_t child_state);

/* A free object in a slab that nobody owns (false: none, or the lock could not be had in time): then the child's lock is held, and the object is swung under it. */
bool fst_slab_find_shared(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t *slab_id, uint32_t *object);

/* A one-object slab for an object of `asked` bytes (above 64 KiB, of the size classes), not on PARTIAL; its state word while it is this
 * slab: being empty, it may go again at any moment. */
int fst_slab_large(struct fst_thread *t, uint64_t child_id, uint64_t asked, uint32_t *slab_id, uint64_t *slab_state);

/* An object of this slab was freed, and the slab is not one that the caller owns. Maybe moves or gives back the slab. May be called
 * with an id that has been recycled since. `owner`: the calling thread's owner word, or 0: give nothing back. True: the slab is empty, its
 * child has ended, and only a batch can give it back. */
bool fst_slab_freed(struct fst_arena *a, uint32_t slab_id, uint64_t owner);

/* Give back every empty slab of the child, active ones included, other threads' too. TYPESAFE_BY_RCU: after a grace period, for which it
 * waits at most `patience`; so not inside a section. Returns bytes of pages given back. */
uint64_t fst_slab_shrink_child(struct fst_thread *t, uint32_t child, uint64_t patience);

/* The same in steps, so that many children share a grace period. */
#define FST_CLOSED_MAX 1024u
#define FST_CLOSED_NOW 128u
struct fst_closed {
    uint32_t n, now_n;
    uint32_t ids[FST_CLOSED_MAX]; /* closed slabs of TYPESAFE_BY_RCU caches */
    uint32_t now[FST_CLOSED_NOW]; /* those that need no grace period */
};
/* Close the child's empty slabs; those that need no grace period are given back when enough have come together, and by
 * fst_slab_give_now. False: no more room, give and call again. */
bool fst_slab_close_empty(struct fst_revoke *r, uint32_t child, struct fst_closed *closed, uint64_t *bytes);
void fst_slab_give_now(struct fst_arena *a, struct fst_closed *closed, uint64_t *bytes);
/* Wait for a grace period and give them back. False: it was not over in time (see fst_grace_wait), and they are open again. */
bool fst_slab_give_closed(struct fst_arena *a, struct fst_closed *closed, uint64_t patience, const uint32_t *stop, uint64_t *bytes);

/* Take or release the child's lock; taken over from a dead owner, the lists are rebuilt. False: not in time. */
bool fst_slab_lock(struct fst_arena *a, uint32_t child) FST_TO_BE_HEEDED;
void fst_slab_unlock(struct fst_arena *a, uint32_t child);

/* A slab whose carving or closing thread is dead, or whose owner is, or that was left like this because a lock could not be had: finish, or let
 * go. `me`: name of the calling thread. */
void fst_slab_recover(struct fst_arena *a, uint32_t slab_id, uint64_t me);

/* Up to max ids of the child's slabs; returns how many it has. */
uint32_t fst_slab_list(struct fst_arena *a, uint32_t child, uint32_t *ids, uint32_t max);

/* Number of the slab's words that are ALLOCATED. */
uint32_t fst_slab_count(struct fst_slab *s, uint32_t class);

/* Where bytes of the slab's data lie, if they are inside of its pages and these inside of the arena; else NULL: damage. */
uint8_t *fst_slab_outside(const struct fst_arena *a, uint32_t id, uint64_t offset, uint64_t bytes);
static inline uint8_t *fst_slab_data(const struct fst_arena *a, const struct fst_slab *s, uint32_t id, uint64_t offset,
                                     uint64_t bytes)
{
    uint64_t page = s->page, pages = s->pages, length = pages << FST_PAGE_SHIFT;
    if (__builtin_expect(page + pages > a->capacity_pages || bytes > length || offset > length - bytes, 0))
        return fst_slab_outside(a, id, offset, bytes);
    return a->data + (page << FST_PAGE_SHIFT) + offset;
}
/* The same for the initial content of a cache that has one, and its length. The rest of its format begins behind it. */
const uint8_t *fst_slab_init(struct fst_arena *a, uint32_t cache, uint64_t *bytes);

#endif
