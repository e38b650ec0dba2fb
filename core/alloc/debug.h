/* debug.h - caches that are debugged: red zones, poison, and who allocated and freed.
 *
 * What is around an object (region/records.h) lies in the object's own memory. To everything else
 * such an object is an ordinary one. Its size is larger by what is around it, and the slack of its
 * word takes off what is not the user's. In a size class it uses bytes that the class has left
 * over; in a run of its own, those behind what was asked for. So no word, entry or descriptor says
 * anything else for it, and nothing that is fast knows of it:
 *   - its child takes the slow way of allocating, as one with initial content does;
 *   - its word is SHARED from its birth, so that every end of it goes through a batch. So there is
 *     one place for poison and checks, and reuse is delayed by a grace period.
 *
 * Who writes: a slab's maker, before anybody finds the slab; the allocator, between the word and
 * the return to its caller; and the batch that releases the object, after it has set FREED in the
 * word, so that nobody resolves the object any more. `state` is CHANGING in between. Whatever a
 * kill leaves there, the word is ALLOCATED, and a record that does not say IS_USED is compared with
 * nothing:
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

/* The bytes that each object of a cache with these flags has beyond what was asked for. */
static inline uint32_t fst_debug_behind(uint32_t flags)
{
    return (flags & FST_CACHE_DEBUG) && !(flags & FST_CACHE_SIZE_CLASS) ? FST_DEBUG_BEHIND : 0;
}

/* The bytes that the memory of an object of a size class needs beside the object's own. */
static inline uint32_t fst_debug_room(const struct fst_arena *a)
{
    return a->known.flags & FST_CACHE_DEBUG ? FST_DEBUG_BEHIND : 0;
}

/* The flags of a new cache, with those that follow from others. */
uint32_t fst_debug_flags(const struct fst_cache_spec *spec);

/* Does the object belong to a child that is debugged? For the id of an object that is there. */
bool fst_debug_has(const struct fst_arena *a, uint64_t oid);

/* Write the records of a slab that is being made: all its objects are free. */
void fst_debug_carve(struct fst_arena *a, uint32_t slab_id, uint32_t objects, const struct fst_child *c);

/* Write the record of an object that was allocated and that nobody knows yet. */
void fst_debug_allocated(struct fst_arena *a, const struct fst_ref *ref);

/* Look at an object that one of its holders drops, and write down who that is. */
void fst_debug_dropped(struct fst_arena *a, uint64_t oid);

/* Release a word that a batch has found CONDEMNED, as teardown/words.c releases others. False: it
 * is not CONDEMNED any more. */
bool fst_debug_release(struct fst_arena *a, uint64_t oid, uint64_t *word);

/* Report that free() was called for an object that was freed before. */
void fst_debug_freed_before(struct fst_arena *a, uint64_t oid);

/* What is wrong with an object, if anything? For an object of a slab that is not given back
 * meanwhile. */
bool fst_debug_look(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_fault *out);

/* Ask the same as fst_debug_look, but leave out what was reported already. */
bool fst_debug_look_new(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_fault *out);

/* What the object's record says. False: it is changing, or the object has none. */
bool fst_debug_info_of(const struct fst_arena *a, uint32_t slab_id, uint32_t object, struct fst_debug_info *out);

#endif
