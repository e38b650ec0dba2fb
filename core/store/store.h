/* store.h - descriptors of stores: who is found by which name, when one ends, and their locks.
 *
 *   FREE  -> LIVE   who opens a name that there is none of, under names_lock
 *   LIVE  -> ENDED  destroy(); a batch that finds its group destroyed, or gone. Its name is free
 *   ENDED -> FREE   a batch, when its items hold nothing
 *
 * Descriptors are few, and looked through: there is no table of names to rebuild.
 */
#ifndef FST_STORE_STORE_H
#define FST_STORE_STORE_H

#include "alloc/registry.h"
#include "region/lock.h"
#include "region/region.h"

/* The live store of this name, or FST_NONE. Under names_lock. */
uint32_t fst_store_find(struct fst_arena *a, const char *name);

/* A FREE descriptor; FST_NONE: commit more (fst_store_grow) and try again. Under names_lock. */
uint32_t fst_store_new(struct fst_arena *a);
int fst_store_grow(struct fst_arena *a);

/* Does the id name a store that is not FREE? */
bool fst_store_known(const struct fst_arena *a, uint64_t id, uint32_t *index);

/* LIVE becomes ENDED. Under names_lock. */
void fst_store_end(struct fst_arena *a, uint32_t index);

/* For who changes a store. False: not in time. */
bool fst_store_lock(struct fst_arena *a, uint32_t index) FST_TO_BE_HEEDED;
void fst_store_unlock(struct fst_arena *a, uint32_t index);
/* For a batch: has everybody who had it, and may not have known that the store has ended, given it
 * back, or died? `recount`: count its keys anew. Does not wait. */
bool fst_store_passed(struct fst_arena *a, uint32_t index, bool recount);

/* Something has changed. */
void fst_store_tell(struct fst_arena *a, uint32_t index);
/* Whoever sleeps looks. */
void fst_store_wake(struct fst_arena *a, uint32_t index);

#endif
