/* cache.h - caches: named types of objects.
 *
 *   - FREE -> LIVE: fst_cache_open.
 *   - FREE -> ALIAS: fst_cache_open, when there is a compatible cache to be merged with: a second
 *     name for it, without objects of its own.
 *   - LIVE -> NAMELESS: destroy() of a cache that has aliases, by which it lives on.
 *   - ALIAS -> FREE: destroy() of one of several names, or of the last one together with its body.
 *   - LIVE, NAMELESS -> ENDED: destroy() of its last name; its children are ended.
 *   - LIVE, NAMELESS -> RETIRED: its last name is given to another cache (spec.replace); its
 *     children go OFFLINE, and what lives goes on.
 *   - ENDED, RETIRED -> FREE: a batch, when no child is left.
 *
 * All of this happens under names_lock. Children, objects and formats belong to the *body*: the
 * cache itself, or the one that an ALIAS stands for.
 */
#ifndef FST_ALLOC_CACHE_H
#define FST_ALLOC_CACHE_H

#include "alloc/registry.h"
#include "region/lock.h"

/* What fst_cache_open does, but for running a batch; *retired: another cache was retired for this
 * one, so a batch is to be run. */
int fst_cache_find_or_make(struct fst_arena *a, const struct fst_cache_spec *spec, uint64_t *cache, bool *retired);

/* Does the id name a descriptor that is in use, in the same life? */
bool fst_cache_find(struct fst_arena *a, uint64_t id, uint32_t *index);

/* Fail with FST_CLOSED, and a sentence that names the cache as long as its descriptor is there. */
int fst_cache_ended(struct fst_arena *a, uint64_t id);

/* Did another cache get the name of the one with this id? The answer holds also when that one is
 * gone, until the same happens to the next cache of its descriptor. Under names_lock. */
bool fst_cache_retired(struct fst_arena *a, uint64_t id);

/* The body of a name that is there. False when the id names nothing, or something that was
 * destroyed. Under names_lock. */
bool fst_cache_body(struct fst_arena *a, uint64_t id, uint32_t *body);

/* End a name whose body has other names, which are not touched. False: it is the last one. Under
 * names_lock. */
bool fst_cache_end_name(struct fst_arena *a, uint32_t index);

/* End a body with its last name, `index`, as ENDED or RETIRED. Its children are to be moved on
 * after it. Under names_lock. */
void fst_cache_end(struct fst_arena *a, uint32_t index, uint32_t body, enum fst_cache_state state);

/* While a destroy() looks for users of the body: wait until allocations from it are resumed, or it
 * has ended, and finish what a killed destroyer left. Without locks. False: the lock took longer
 * than this thread waits. */
bool fst_cache_resumed(struct fst_arena *a, uint32_t body) FST_TO_BE_HEEDED;
/* Wait in the same way for the cache of a child that is ENDING. */
bool fst_cache_resumed_for(struct fst_arena *a, uint32_t child);

/* Acquire the body's lock `ending`; it comes before names_lock. False: the lock took longer than
 * this thread waits. */
bool fst_cache_lock_ending(struct fst_arena *a, uint32_t body) FST_TO_BE_HEEDED;
void fst_cache_unlock_ending(struct fst_arena *a, uint32_t body);
/* Give the lock back with children that were not moved on: whoever needs one of them next goes on,
 * or the next batch. */
void fst_cache_abandon_ending(struct fst_arena *a, uint32_t body);

#endif
