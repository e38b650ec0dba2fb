/* slab.h - slabs of one child cache: who allocates from which, and when one is given back.
 *
 * Each thread has at most one *active* slab of a child, from which it allocates without a lock: a process-local bitmap says which of the
 * slab's objects it believes free, and the compare-and-swap of the object's word decides. All other slabs of the child are on one of
 * two lists under the child's lock:
 *
 *   list      owner     meaning                                          how it leaves
 *   PARTIAL   nobody    may have a free object                           a thread makes it active; empty: closed and given back
 *   FULL      a thread  active there                                     the thread has used it up, or the thread is gone
 *   FULL      nobody    had no free object when its thread let go        the first free of an object moves it to PARTIAL
 *
 * Whoever frees an object in a slab that is not its own looks at list and owner after its swing; whoever lets go of a slab clears the
 * owner, then looks for free words (PAIR(let-go)): one of the two sees the other, and no free object is forgotten.
 *
 * A slab is given back by *closing* it: every word is swung from free to free|CONDEMNED, which makes any allocation from a stale bitmap
 * fail; one word that is not free undoes it. Words are advanced by a generation when a slab is carved, so a stale bitmap of an earlier
 * life never matches.
 */
#ifndef FST_ALLOC_SLAB_H
#define FST_ALLOC_SLAB_H

#include "rcu/thread.h"
#include "region/region.h"

#define FST_ACTIVES 64u /* direct-mapped by child index */

struct fst_active {
    uint64_t child_id;    /* as given to fst_alloc: index | generation << 32; 0: none */
    uint64_t child_state; /* the child's state word while it lives */
    uint64_t slab_state;  /* the slab's state word while it is this slab */
    struct fst_slab *slab;
    uint8_t *words;
    uint8_t *data;
    uint64_t stride;
    uint64_t size;
    uint32_t slab_id;
    uint16_t objects;
    uint8_t word_shift;
    uint64_t free[8]; /* bit: believed free */
};

struct fst_actives {
    struct fst_active slot[FST_ACTIVES];
};

/* Owner word of a slab that nobody will finish: as good as a dead thread's. */
#define FST_OWNER_NOBODY UINT64_MAX

static inline struct fst_active *fst_active_of(struct fst_thread *t, uint32_t child)
{
    return &t->actives->slot[child % FST_ACTIVES];
}

/* The thread's table of active slabs exists. FST_FULL. */
int fst_actives_create(struct fst_thread *t);
/* Let go of all active slabs of the thread, which is ending or detaching. */
void fst_actives_release(struct fst_thread *t);

/* Make the thread's active slab of this child one that has free objects: a partial one, a new one. FST_FULL, FST_LIMIT, FST_CLOSED.
 * Takes the child's lock and commits memory: never inside a section. */
int fst_slab_activate(struct fst_thread *t, uint64_t child_id, struct fst_active **out);

/* Another thread's active slab of the child that has a free object: its id and the object, or false. The swing decides. */
bool fst_slab_find_any(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t *slab_id, uint32_t *object);

/* A one-object slab for an object of `asked` bytes (above 64 KiB, of the size classes), not on PARTIAL; its state word while it is this
 * slab: being empty, it may go again at any moment. */
int fst_slab_large(struct fst_thread *t, uint64_t child_id, uint64_t asked, uint32_t *slab_id, uint64_t *slab_state);

/* An object of this slab was freed, and the slab is not the caller's active one. Maybe moves or gives back the slab. May be called
 * with an id that has been recycled since. `owner`: the calling thread's owner word, or 0: give nothing back. True: the slab is empty, its
 * child has ended, and only a batch can give it back. */
bool fst_slab_freed(struct fst_arena *a, uint32_t slab_id, uint64_t owner);

/* Give back every empty slab of the child, active ones included. TYPESAFE_BY_RCU: after a grace period, for which it waits at most
 * `patience`; so not inside a section. Returns bytes of pages given back. */
uint64_t fst_slab_shrink_child(struct fst_arena *a, uint32_t child, uint64_t owner, uint64_t patience);

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
bool fst_slab_close_empty(struct fst_arena *a, uint32_t child, uint64_t owner, struct fst_closed *closed, uint64_t *bytes);
void fst_slab_give_now(struct fst_arena *a, struct fst_closed *closed, uint64_t *bytes);
/* Wait for a grace period and give them back. False: it was not over in time (see fst_grace_wait), and they are open again. */
bool fst_slab_give_closed(struct fst_arena *a, struct fst_closed *closed, uint64_t patience, const uint32_t *stop, uint64_t *bytes);

/* Take or release the child's lock; taken over from a dead owner, the lists are rebuilt. */
void fst_slab_lock(struct fst_arena *a, uint32_t child);
void fst_slab_unlock(struct fst_arena *a, uint32_t child);

/* A slab whose carving or closing thread is dead, or whose owner is: finish or let go. */
void fst_slab_recover(struct fst_arena *a, uint32_t slab_id);

/* Is the thread that an owner word names gone? */
bool fst_slab_owner_gone(struct fst_arena *a, uint64_t owner);

/* Up to max ids of the child's slabs; returns how many it has. */
uint32_t fst_slab_list(struct fst_arena *a, uint32_t child, uint32_t *ids, uint32_t max);

/* Number of the slab's words that are ALLOCATED. */
uint32_t fst_slab_count(struct fst_slab *s, uint32_t class);

/* The owner word for this thread. */
uint64_t fst_slab_owner_word(const struct fst_thread *t);

#endif
