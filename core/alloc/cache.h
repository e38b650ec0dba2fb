/* cache.h - caches: named types of objects.
 *
 *   FREE -> LIVE    fst_cache_open
 *   LIVE -> ENDED   fst_cache_destroy (arena/destroy.c): the name is free at once, children are ended
 *   ENDED -> FREE   a batch, when no child is left
 * All under names_lock.
 */
#ifndef FST_ALLOC_CACHE_H
#define FST_ALLOC_CACHE_H

#include "alloc/registry.h"

/* Does the id name a descriptor in use, in the same life? */
bool fst_cache_find(struct fst_arena *a, uint64_t id, uint32_t *index);

/* ENDED and without children: release the descriptor. Under names_lock. */
bool fst_cache_try_release(struct fst_arena *a, uint32_t index);

#endif
