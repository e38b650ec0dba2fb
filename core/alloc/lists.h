/* lists.h - the slabs of a child: two lists, under the child's lock.
 *
 *   list      owner     meaning                           how it leaves
 *   PARTIAL   nobody    may have a free object            a thread adopts it; empty: it is closed
 *   FULL      a thread  owned by it                       the thread adopts another one instead, or
 *                                                         is gone
 *   FULL      nobody    had no free object when its       the first free of an object moves it to
 *                       thread let go                     PARTIAL
 *
 * Whoever frees an object in a slab that is not its own looks at list and owner after its store;
 * whoever lets go of a slab clears the owner, then looks for free words (PAIR(let-go)): one of the
 * two sees the other, and no free object is forgotten.
 */
#ifndef FST_ALLOC_LISTS_H
#define FST_ALLOC_LISTS_H

#include "region/lock.h"
#include "region/region.h"

/* Take or release the child's lock; taken over from a dead owner, the lists are rebuilt. False:
 * not in time. */
bool fst_lists_lock(struct fst_arena *a, uint32_t child) FST_TO_BE_HEEDED;
void fst_lists_unlock(struct fst_arena *a, uint32_t child);

/* The same for what must not wait: a batch does it instead. */
bool fst_lists_lock_briefly(struct fst_arena *a, uint32_t child) FST_TO_BE_HEEDED;

/* Up to max ids of the child's slabs; returns how many it has. */
uint32_t fst_lists_ids(struct fst_arena *a, uint32_t child, uint32_t *ids, uint32_t max);

/* ---- under the child's lock ---- */

/* A step of a walk along a list of the child's slabs: is this one of them? False at its end. */
bool fst_lists_step(struct fst_arena *a, uint32_t child, uint8_t list, uint32_t id, uint32_t *steps);
uint32_t *fst_lists_head(struct fst_child *c, uint8_t list);
void fst_lists_add(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list);
void fst_lists_remove(struct fst_arena *a, struct fst_child *c, uint32_t id);
void fst_lists_move(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list);

/* Is this slab, found by an id that was read without the lock, still a live one of the child? */
bool fst_lists_still(const struct fst_slab *s, uint32_t child);

/* Nobody's any more, and so on PARTIAL if anything in it is free. */
void fst_lists_unown(struct fst_arena *a, struct fst_child *c, uint32_t id);

/* ---- what a slab's words say ---- */

/* Number of the slab's words that are ALLOCATED. */
uint32_t fst_slab_count(struct fst_slab *s, uint32_t class);

/* Is none of them ALLOCATED? Is one of them free? Without locks: as it was a moment ago. */
bool fst_slab_looks_empty(struct fst_slab *s, uint32_t class);
bool fst_slab_has_free(struct fst_slab *s, uint32_t class);

/* The first n words that were closed (alloc/close.h) are free again. Under the child's lock. */
void fst_slab_reopen_words(struct fst_slab *s, uint32_t class, uint32_t n);

#endif
