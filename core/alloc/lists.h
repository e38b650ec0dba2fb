/* lists.h - the slabs of a child: two lists, under the child's lock.
 *
 *   list      owner     meaning                           how it leaves
 *   PARTIAL   nobody    may have a free object            a thread adopts it; empty: it is closed
 *   FULL      a thread  owned by it                       the thread adopts another one instead, or
 *                                                         is gone
 *   FULL      nobody    had no free object when its       the first free of an object moves it to
 *                       thread let go                     PARTIAL
 *
* Whoever frees an object in a slab that it does not own looks at list and owner after its store.
 * Whoever lets go of a slab clears the owner, and then looks for free words (PAIR(let-go)). So one
 * of the two sees what the other has done, and no free object is forgotten.
 */
#ifndef FST_ALLOC_LISTS_H
#define FST_ALLOC_LISTS_H

#include "region/lock.h"
#include "region/region.h"

/* Acquire and release the child's lock. If it is taken over from a dead owner, the lists are
 * rebuilt. False: the lock took longer than this thread waits. */
bool fst_lists_lock(struct fst_arena *a, uint32_t child) FST_TO_BE_HEEDED;
void fst_lists_unlock(struct fst_arena *a, uint32_t child);

/* Acquire it for something that must not wait: if it fails, a batch does the work instead. */
bool fst_lists_lock_briefly(struct fst_arena *a, uint32_t child) FST_TO_BE_HEEDED;

/* Up to `max` ids of the child's slabs; the result is how many slabs it has. */
uint32_t fst_lists_ids(struct fst_arena *a, uint32_t child, uint32_t *ids, uint32_t max);

/* ---- under the child's lock ---- */

/* A step of a walk along a list of the child's slabs: is `id` one of them? False at the end of the
 * list, and after damage. */
bool fst_lists_step(struct fst_arena *a, uint32_t child, uint8_t list, uint32_t id, uint32_t *steps);
uint32_t *fst_lists_head(struct fst_child *c, uint8_t list);
void fst_lists_add(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list);
void fst_lists_remove(struct fst_arena *a, struct fst_child *c, uint32_t id);
void fst_lists_move(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list);

/* Is this slab, found by an id that was read without the lock, still a live one of the child? */
bool fst_lists_still(const struct fst_slab *s, uint32_t child);

/* Take the slab's owner away, and put the slab on PARTIAL if anything in it is free. */
void fst_lists_unown(struct fst_arena *a, struct fst_child *c, uint32_t id);

/* ---- what a slab's words say ---- */

/* The number of the slab's words that are ALLOCATED. */
uint32_t fst_slab_count(struct fst_slab *s, uint32_t class);

/* Is no word of the slab ALLOCATED? Is any of them free? Without locks, so this was so a moment
 * ago. */
bool fst_slab_looks_empty(struct fst_slab *s, uint32_t class);
bool fst_slab_has_free(struct fst_slab *s, uint32_t class);

/* Make the first n words that were closed (alloc/close.h) free again. Under the child's lock. */
void fst_slab_reopen_words(struct fst_slab *s, uint32_t class, uint32_t n);

#endif
