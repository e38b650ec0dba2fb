/* superblock.h - the first page of an arena's file: what the file is, and where everything in it
 * lies. */
#ifndef FST_REGION_SUPERBLOCK_H
#define FST_REGION_SUPERBLOCK_H

#include "region/region.h"

/* A number over the declarations of all that lies in shared memory. Builds with different numbers
 * refuse each other's arenas. */
uint64_t fst_layout_fingerprint(void);

/* Fill in a superblock for this capacity: the constant part, the bounds and the checksum.
 * Everything else is zero, as in a new file. */
void fst_superblock_format(struct fst_superblock *sb, uint64_t capacity, uint32_t flags, const uint8_t uuid[16]);

/* The checksum of the constant part, without the `committed` counters of its tables. */
uint64_t fst_superblock_checksum(const struct fst_superblock *sb);

/* Is this the superblock of an arena that this build can use, in a file of this size? FST_LAYOUT:
 * the file is another program's or another version's. FST_CORRUPTED: it is an arena of this
 * version, and damaged. `name` is for the sentence. */
int fst_superblock_validate(const struct fst_superblock *sb, uint64_t file_size, const char *name);

/* Is the part of the mapped superblock good that other processes change meanwhile? FST_CORRUPTED: a
 * bound exceeds what was committed of its table. */
int fst_superblock_validate_bounds(const struct fst_superblock *sb, const char *name);

/* The length of a file in which so many process slots were ever used. This is its apparent size,
 * not what it costs. */
uint64_t fst_superblock_file_size(const struct fst_superblock *sb, uint32_t processes);

#endif
