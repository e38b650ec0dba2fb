/* names.h - finding caches and groups without walking them: hash tables under
 * superblock.names_lock, derived from the descriptors.
 *
 *   FST_NAMES_CACHE   LIVE and ALIAS caches, by name
 *   FST_NAMES_SHAPE   LIVE and NAMELESS caches that others may be merged with, by size, alignment
 *                     and format
 *   FST_NAMES_GROUP   LIVE groups that have a name, by it and their parent
 *
 * Linear hashing (Litwin, VLDB 1980): an insertion splits at most one bucket, so no insertion is
 * long, whatever is in the table. A bucket is the index of its first descriptor, + 1; the
 * descriptors of a bucket are linked. Who finds one compares it: hashes collide.
 */
#ifndef FST_ALLOC_NAMES_H
#define FST_ALLOC_NAMES_H

#include "region/region.h"

enum fst_names { FST_NAMES_CACHE, FST_NAMES_SHAPE, FST_NAMES_GROUP };

/* Hash of some bytes; chain them by giving the last result as the seed. */
uint32_t fst_names_hash(uint32_t seed, const void *bytes, size_t n);

/* The descriptors whose hash this is: for (i = first; i != FST_NONE; i = next). *steps counts those
 * that the walk has passed, so that it ends where damage has made a circle. Under names_lock. */
uint32_t fst_names_first(struct fst_arena *a, enum fst_names which, uint32_t hash, uint32_t *steps);
uint32_t fst_names_next(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t *steps);

/* Under names_lock. There is room for it if the table was grown for its descriptor. */
void fst_names_add(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t hash);
/* Nothing happens if it is not there. Under names_lock. */
void fst_names_remove(struct fst_arena *a, enum fst_names which, uint32_t index);

/* Empty, for whoever rebuilds. Under names_lock. */
void fst_names_clear(struct fst_arena *a, enum fst_names which);

/* Is there room for so many descriptors? If not: commit it, without locks. FST_FULL. */
bool fst_names_room(const struct fst_arena *a, enum fst_names which, uint64_t descriptors);
int fst_names_grow(struct fst_arena *a, enum fst_names which, uint64_t descriptors);

#endif
