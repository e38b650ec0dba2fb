/* names.h - finding caches and groups without walking them: hash tables under
 * superblock.names_lock, derived from the descriptors.
 *
 *   FST_NAMES_CACHE   LIVE and ALIAS caches, by name
 *   FST_NAMES_SHAPE   LIVE and NAMELESS caches that others may be merged with, by size, alignment
 *                     and format
 *   FST_NAMES_GROUP   LIVE groups that have a name, by it and their parent
 *
* Linear hashing (Litwin, VLDB 1980): an insertion splits at most one bucket, so no insertion takes
 * long, whatever is in the table. A bucket is the index of its first descriptor, + 1; the
 * descriptors of a bucket are linked. Hashes collide, so whoever finds a descriptor compares it.
 */
#ifndef FST_ALLOC_NAMES_H
#define FST_ALLOC_NAMES_H

#include "region/region.h"

enum fst_names { FST_NAMES_CACHE, FST_NAMES_SHAPE, FST_NAMES_GROUP };

/* The hash of some bytes. To hash several pieces, give the last result as the seed. */
uint32_t fst_names_hash(uint32_t seed, const void *bytes, size_t n);

/* The descriptors that have this hash: for (i = first; i != FST_NONE; i = next). *steps counts
 * those that the walk has passed, so that it ends where damage has made a circle. Under
 * names_lock. */
uint32_t fst_names_first(struct fst_arena *a, enum fst_names which, uint32_t hash, uint32_t *steps);
uint32_t fst_names_next(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t *steps);

/* Add a descriptor. There is room for it if fst_names_grow was called for its index. Under
 * names_lock. */
void fst_names_add(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t hash);
/* Remove a descriptor; nothing happens if it is not in the table. Under names_lock. */
void fst_names_remove(struct fst_arena *a, enum fst_names which, uint32_t index);

/* Make the table empty, for whoever rebuilds it. Under names_lock. */
void fst_names_clear(struct fst_arena *a, enum fst_names which);

/* fst_names_room: is there room for so many descriptors? If not, fst_names_grow commits it, without
 * locks: FST_FULL. */
bool fst_names_room(const struct fst_arena *a, enum fst_names which, uint64_t descriptors);
int fst_names_grow(struct fst_arena *a, enum fst_names which, uint64_t descriptors);

#endif
