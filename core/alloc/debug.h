/* debug.h - caches that are debugged: red zones, poison, and who allocated and freed.
 *
 * What is around an object (region/records.h) lies in the object's own memory. To everything else
 * such an object is an ordinary one: of a larger size, of which the word's slack takes off what is
 * not the user's; in a size class of the bytes that are left over; in a run of its own behind what
 * was asked for. So no word, entry or descriptor says anything else for it, and nothing that is
 * fast knows of it:
 *   - its child takes the slow way of allocating, as one with initial content does;
 *   - its word is SHARED from its birth, so that every one of its ends goes through a batch. Poison
 *     and checks have that one place, and reuse is delayed by a grace period.
 *
 * Who writes: a slab's maker before anybody finds the slab; the allocator between the word and the
 * caller; the batch that releases the object, after it set FREED in the word, so that nobody
 * resolves it any more. `state` is CHANGING in between. Whatever a kill leaves, the word is
 * ALLOCATED there, and a record that does not say IS_USED is compared with nothing:
 *
 *   word        state      what holds                     after a kill
 *   free        IS_FREE    zones and poison               -
 *   ALLOCATED   IS_FREE    nothing yet, or nothing more   the batch makes it free again
 *   ALLOCATED   CHANGING   nothing                        the same
 *   ALLOCATED   IS_USED    zones                          the same, after a look at them
 *
 * A free word whose record says anything but IS_FREE was overwritten.
 */
#ifndef FST_ALLOC_DEBUG_H
#define FST_ALLOC_DEBUG_H

#include "flagstone_debug.h"
#include "rcu/thread.h"
#include "region/records.h"
#include "region/region.h"

/* Bytes that each object of a cache with these flags has more than was asked for. */
static inline uint32_t fst_debug_behind(uint32_t flags)
{
    return (flags & FST_CACHE_DEBUG) && !(flags & FST_CACHE_SIZE_CLASS) ? FST_DEBUG_BEHIND : 0;
}

/* What has to be in the memory of an object of a size class beside its bytes. */
static inline uint32_t fst_debug_room(const struct fst_arena *a)
{
    return a->known.flags & FST_CACHE_DEBUG ? FST_DEBUG_BEHIND : 0;
}

/* The flags of a new cache. */
uint32_t fst_debug_flags(const struct fst_cache_spec *spec);

/* Is the object of a child that is debugged? For an id of an object that is there. */
bool fst_debug_has(const struct fst_arena *a, uint64_t oid);

/* All objects of a slab that is being made are free, and say so. */
void fst_debug_carve(struct fst_arena *a, uint32_t slab_id, uint32_t objects, const struct fst_child *c);

/* An object was allocated, and nobody knows it yet. */
void fst_debug_allocated(struct fst_arena *a, const struct fst_ref *ref);

/* One of its holders drops it: who it was. */
void fst_debug_dropped(struct fst_arena *a, uint64_t oid);

/* Release a word that a batch has found CONDEMNED, as teardown/words.c does others. */
bool fst_debug_release(struct fst_arena *a, uint64_t oid, uint64_t *word);

/* free() was called before. */
void fst_debug_freed_before(struct fst_arena *a, uint64_t oid);

/* What is wrong with an object, if anything; of a slab that stays. */
bool fst_debug_look(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_fault *out);

/* The same as fst_debug_look, unless it was reported. */
bool fst_debug_look_new(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_fault *out);

/* What its record says. False: it is changing, or there is none. */
bool fst_debug_info_of(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_debug_info *out);

#endif
