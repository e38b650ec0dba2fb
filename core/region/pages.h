/* pages.h - which pages of the data region are free.
 *
 * Everything here is derived from the slab descriptors (alloc/run.c rebuilds it) and protected by
 * superblock.pages_lock; only fst_pages_commit and fst_pages_grow work without the lock, because
 * they make system calls.
 *
 * A run of up to 32 pages lies in one extent, in an aligned block of the next power of two, of
 * which only the run's own pages are reserved. A longer run begins at an extent and takes up whole
 * extents, the last one in part. Of the extents that fit, the fullest is chosen (best fit by
 * class), and among equals the lowest, so that whole extents stay whole and committed memory is
 * used again.
 */
#ifndef FST_REGION_PAGES_H
#define FST_REGION_PAGES_H

#include "region/region.h"

/* Reserve a run whose first page is a multiple of 2^align_order. FST_NONE when the zones in use
 * have none. Under pages_lock. */
uint32_t fst_pages_reserve(struct fst_arena *a, uint64_t pages, uint32_t align_order);
/* Reserve exactly this run. False if one of its pages is not free, or lies beyond the zones in use.
 * Under pages_lock. */
bool fst_pages_reserve_at(struct fst_arena *a, uint64_t page, uint64_t pages);
/* Is none of these pages free, and does none lie beyond the zones in use? Otherwise a run of them
 * cannot be given back. Under pages_lock. */
bool fst_pages_owned(struct fst_arena *a, uint64_t page, uint64_t pages);
/* Make these pages free. Under pages_lock. */
void fst_pages_give(struct fst_arena *a, uint64_t page, uint64_t pages);

/* Commit the memory of more zones, so that a run of this length may fit. The result is for
 * fst_pages_extend: how many zones can be in use; or FST_FULL when the capacity or the memory is
 * used up. Without locks. */
int fst_pages_grow(struct fst_arena *a, uint64_t pages, uint32_t align_order);
/* Bring zones [0, count) into use, whose memory the caller has committed. Under pages_lock. */
void fst_pages_extend(struct fst_arena *a, uint32_t count);

/* Have the system give memory for a run. FST_FULL when there is no room for it. Without locks. */
int fst_pages_commit(struct fst_arena *a, uint64_t page, uint64_t pages);

/* Reserve the next free, committed extents at or after extent *from, up to `max` of them in a row;
 * *from receives the first, and the result is their number. With idle_only, pass over those that
 * the last such call did not find free and committed, so that memory which is used again soon is
 * kept. Under pages_lock. */
uint32_t fst_pages_reserve_idle(struct fst_arena *a, uint64_t *from, uint32_t max, bool idle_only);
/* Note that the system has these extents' memory back; the caller then makes the pages free. Under
 * pages_lock. */
void fst_pages_uncommitted(struct fst_arena *a, uint64_t extent, uint32_t count);

/* The first zone whose bitmaps by class, or whose bits in the summary, differ from what its free
 * pages say; FST_NONE when there is none. Under pages_lock. */
uint32_t fst_pages_misfiled(struct fst_arena *a);

/* Forget all runs: all pages of the zones in use are free. This is the first step of a rebuild.
 * Under pages_lock. */
void fst_pages_reset(struct fst_arena *a);

#endif
