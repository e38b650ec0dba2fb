/* cache.h - caches: named types of objects.
 *
 *   FREE -> LIVE      fst_cache_open
 *   FREE -> ALIAS     fst_cache_open, when there is a compatible cache to be merged with: a second
 *                     name for it, without objects of its own
 *   LIVE -> NAMELESS  destroy() of a cache that has aliases: it lives on by them
 *   ALIAS -> FREE     destroy() of one of several names, or of the last together with its body
 *   LIVE, NAMELESS -> ENDED   destroy() of its last name: its children are ended
 *   LIVE, NAMELESS -> RETIRED   its last name is given to another cache (spec.replace): its
 *                               children go OFFLINE, what lives goes on
 *   ENDED, RETIRED -> FREE   a batch, when no child is left
 * All under names_lock. Children, objects and formats belong to the *body*: the cache itself, or
 * what an ALIAS stands for.
 */
#ifndef FST_ALLOC_CACHE_H
#define FST_ALLOC_CACHE_H

#include "alloc/registry.h"
#include "region/lock.h"

/* fst_cache_open; *retired: another one had to go for it, and a batch is to be run. */
int fst_cache_find_or_make(struct fst_arena *a, const struct fst_cache_spec *spec, uint64_t *cache, bool *retired);

/* Does the id name a descriptor in use, in the same life? */
bool fst_cache_find(struct fst_arena *a, uint64_t id, uint32_t *index);

/* FST_CLOSED, with a sentence that names it, as long as its descriptor is there. */
int fst_cache_ended(struct fst_arena *a, uint64_t id);

/* Did another cache get the name of the one with this id? Also when that has gone, until it
 * happens to the next one of its descriptor. Under names_lock. */
bool fst_cache_retired(struct fst_arena *a, uint64_t id);

/* The body of a name that is there: false when the id names none, or one that was destroyed.
 * Under names_lock. */
bool fst_cache_body(struct fst_arena *a, uint64_t id, uint32_t *body);

/* End a name whose body has others: they are not touched. False: it is the last one. Under
 * names_lock. */
bool fst_cache_end_name(struct fst_arena *a, uint32_t index);

/* The end of a body with its last name, index, as ENDED or RETIRED: its children are to be moved
 * on after it. Under names_lock. */
void fst_cache_end(struct fst_arena *a, uint32_t index, uint32_t body, enum fst_cache_state state);

/* While somebody's destroy() looks for users of the body: wait until its allocations are
 * resumed, or it has ended, and finish what a killed destroyer left. Without locks. False: not
 * in time. */
bool fst_cache_resumed(struct fst_arena *a, uint32_t body) FST_TO_BE_HEEDED;
/* The same for the cache of a child that is ENDING. */
bool fst_cache_resumed_for(struct fst_arena *a, uint32_t child);

/* Take the body's lock `ending`, before names_lock. False: not in time. */
bool fst_cache_lock_ending(struct fst_arena *a, uint32_t body) FST_TO_BE_HEEDED;
void fst_cache_unlock_ending(struct fst_arena *a, uint32_t body);
/* Give it back with children unmoved: whoever needs one of them next goes on, or the next batch. */
void fst_cache_abandon_ending(struct fst_arena *a, uint32_t body);

#endif
