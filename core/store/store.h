/* store.h - descriptors of stores: who is found by which name, when one ends, and their locks.
 *
 *   FREE  -> LIVE   by whoever opens a name that no store has, under names_lock
 *   LIVE  -> ENDED  by destroy(), or by a batch, or whoever opens its name, that finds its group
 *                   over; its name is free then
 *   ENDED -> FREE   by a batch, when its items hold nothing
 *
 * There are few descriptors, and all are looked through: so there is no table of names to rebuild.
 */
#ifndef FST_STORE_STORE_H
#define FST_STORE_STORE_H

#include "alloc/registry.h"
#include "region/lock.h"
#include "region/region.h"

/* The live store of this name, or FST_NONE. Under names_lock. */
uint32_t fst_store_find(struct fst_arena *a, const char *name);

/* A FREE descriptor. FST_NONE: commit more (fst_store_grow) and try again. Under names_lock. */
uint32_t fst_store_new(struct fst_arena *a);
int fst_store_grow(struct fst_arena *a);

/* Does the id name a store that is not FREE? */
bool fst_store_known(const struct fst_arena *a, uint64_t id, uint32_t *index);

/* Is the group over that a store with these flags and this group ends with? That is so when it was
 * destroyed, is gone, or was closed and nobody has it open any more: what the store holds would
 * then be nobody's. */
bool fst_store_home_over(struct fst_arena *a, uint64_t group, uint32_t flags);

/* Note that such a store ends with the group, so that whoever ends the group has stores looked at.
 * Under names_lock. */
void fst_store_at_home(struct fst_arena *a, uint32_t group, uint32_t flags);

/* The id of the group that a store ends with. 0: there is none. */
uint64_t fst_store_home(struct fst_arena *a, uint32_t index);

/* Make a LIVE store ENDED. Under names_lock. */
void fst_store_end(struct fst_arena *a, uint32_t index);

/* Acquire and give back the lock that whoever changes a store holds. False: it took longer than
 * this thread waits. */
bool fst_store_lock(struct fst_arena *a, uint32_t index) FST_TO_BE_HEEDED;
void fst_store_unlock(struct fst_arena *a, uint32_t index);
/* A batch asks: have all who had the lock, and may not have known that the store has ended, given
 * it back, or died? `recount`: count its keys anew. It does not wait. */
bool fst_store_passed(struct fst_arena *a, uint32_t index, bool recount);

/* Count a change of the store. */
void fst_store_tell(struct fst_arena *a, uint32_t index);
/* Wake those who sleep until the store changes. */
void fst_store_wake(struct fst_arena *a, uint32_t index);

#endif
