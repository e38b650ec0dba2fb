/* pages.h - which pages of the data region are free.
 *
 * Everything here is derived from the slab descriptors (alloc/run.c rebuilds it) and protected by
 * superblock.pages_lock; only fst_pages_commit and fst_pages_grow work without it, because they
 * make system calls.
 *
 * A run of up to 32 pages lies in one extent, in an aligned block of the next power of two, of
 * which only the run's own pages are reserved. A longer run begins at an extent and takes up whole
 * extents, the last one in part. Among extents the fullest that fits is chosen (best fit by class),
 * the lowest among equals, so that whole extents stay whole and memory that was committed is used
 * again.
 */
#ifndef FST_REGION_PAGES_H
#define FST_REGION_PAGES_H

#include "region/region.h"

/* Reserve a run whose first page is a multiple of 2^align_order; FST_NONE when the zones in use
 * have none. Under pages_lock. */
uint32_t fst_pages_reserve(struct fst_arena *a, uint64_t pages, uint32_t align_order);
/* Reserve exactly this run; false if a page of it is not free, or not there. Under pages_lock. */
bool fst_pages_reserve_at(struct fst_arena *a, uint64_t page, uint64_t pages);
/* Is none of these pages free, and all of them there? Otherwise a run of them cannot be given
 * back. Under pages_lock. */
bool fst_pages_owned(struct fst_arena *a, uint64_t page, uint64_t pages);
void fst_pages_give(struct fst_arena *a, uint64_t page, uint64_t pages);

/* Bring more zones into use, so that a run of this length may fit. FST_FULL when the capacity is
 * used up. Without locks. */
int fst_pages_grow(struct fst_arena *a, uint64_t pages, uint32_t align_order);
/* Make zones [0, count) usable: under pages_lock, their memory committed by the caller. */
void fst_pages_extend(struct fst_arena *a, uint32_t count);

/* Have the system give memory for a run. FST_FULL when the file system has no room. Without
 * locks. */
int fst_pages_commit(struct fst_arena *a, uint64_t page, uint64_t pages);

/* The next free, committed extents at or after extent *from: up to max of them in a row, which
 * are free no more. Returns their number, *from their first. With idle_only, only such as were
 * so at the last call already (hysteresis). Under pages_lock. */
uint32_t fst_pages_reserve_idle(struct fst_arena *a, uint64_t *from, uint32_t max, bool idle_only);
/* Their memory was given back to the system. Under pages_lock; give the run back afterwards. */
void fst_pages_uncommitted(struct fst_arena *a, uint64_t extent, uint32_t count);

/* The first zone whose bitmaps by class, or whose bits in the summary, are not what its free
 * pages say; FST_NONE. Under pages_lock. */
uint32_t fst_pages_misfiled(struct fst_arena *a);

/* Forget everything: all pages of the zones in use are free. First step of a rebuild. Under
 * pages_lock. */
void fst_pages_reset(struct fst_arena *a);

#endif
