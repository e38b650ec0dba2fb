/* superblock.h - the first page of an arena's file: what the file is, and where everything in it
 * lies. */
#ifndef FST_REGION_SUPERBLOCK_H
#define FST_REGION_SUPERBLOCK_H

#include "region/region.h"

/* A number over the structures of layout.h. Two builds with different numbers refuse each
 * other's arenas. */
uint64_t fst_layout_fingerprint(void);

/* Fill in a superblock for this capacity: constant part, bounds, checksum. The rest is zero, as
 * a new file is. */
void fst_superblock_format(struct fst_superblock *sb, uint64_t capacity, uint32_t flags, const uint8_t uuid[16]);

/* Of the constant part; the `committed` counters of its tables are left out. */
uint64_t fst_superblock_checksum(const struct fst_superblock *sb);

/* Is this the superblock of an arena that this build can use, in a file of this size?
 * FST_LAYOUT: another program's or another version's; FST_CORRUPTED: ours, and damaged. `name`
 * is for the sentence. */
int fst_superblock_validate(const struct fst_superblock *sb, uint64_t file_size, const char *name);

/* The same for what others change meanwhile, on the mapped superblock: no bound exceeds what was
 * committed of its table. */
int fst_superblock_validate_bounds(const struct fst_superblock *sb, const char *name);

/* Length of a file in which so many process slots were ever used (its apparent size, not what it
 * costs). */
uint64_t fst_superblock_file_size(const struct fst_superblock *sb, uint32_t processes);

#endif
