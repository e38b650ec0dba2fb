/* entries.h - the tables of reference entries: where they lie in the file, and which of them this
 * process has mapped.
 *
 * There is one table for each process slot. The tables lie behind everything else in the file,
 * which grows by a table when a slot is used for the first time. A process maps its own table as a
 * whole when it attaches. Of another one it maps as much as is in use, in doubling steps, when a
 * thread first looks there; each mapping stays until the process detaches. So limits on address
 * space and on the size of files are met by what is used and not by what there may be.
 *
 * A mapping can fail at any time. Then nothing may be concluded about what the process of that slot
 * holds, and a batch that needs the table does not begin, or is broken off.
 */
#ifndef FST_REGION_ENTRIES_H
#define FST_REGION_ENTRIES_H

#include "region/region.h"

/* The size of a mapping of another process's table: FST_ENTRIES_LEAST entries, doubled up to
 * FST_ENTRIES_LEVELS - 1 times. */
#define FST_ENTRIES_LEAST  8192u
#define FST_ENTRIES_LEVELS 8u
static_assert(FST_ENTRIES_LEAST << (FST_ENTRIES_LEVELS - 1) == FST_MAX_ENTRIES, "the largest is a whole table");
static_assert(FST_ENTRIES_LEAST <= FST_MIN_ENTRIES, "the smallest is no more than a table");

/* The mappings of other processes' tables, by slot and size: each pointer is written once, and
 * stays. */
struct fst_entries {
    uint64_t *mapped[FST_MAX_PROCESSES][FST_ENTRIES_LEVELS];
};

int fst_entries_create(struct fst_arena *a);
/* Unmap all tables, this process's own included. */
void fst_entries_destroy(struct fst_arena *a);

/* Where the slot's table begins in the file. */
static inline uint64_t fst_entries_offset(const struct fst_arena *a, uint32_t slot)
{
    return a->known.tables[FST_T_ENTRY].offset + (uint64_t)slot * a->max_entries * sizeof(uint64_t);
}

/* See to it that the file reaches to the end of the slot's table. It fails as fst_file_extend does,
 * and with FST_CLOSED where there is no way to the file any more. */
int fst_entries_extend(struct fst_arena *a, uint32_t slot);

/* Map the whole table of a slot once more, for a process that is going to own the slot. NULL: the
 * reason is the last error. */
uint64_t *fst_entries_map(struct fst_arena *a, uint32_t slot);
void fst_entries_unmap(const struct fst_arena *a, uint64_t *entries);

/* The first `count` entries of a slot's table; a caller reads no more than fst_entry_top() of them.
 * NULL: they cannot be mapped, or the file ends before them; the reason is the last error. */
uint64_t *fst_entries_of(const struct fst_arena *a, uint32_t slot, uint32_t count);

/* Map what all processes use by now. After FST_OS or FST_CORRUPTED a caller that has to look at all
 * tables need not begin. */
int fst_entries_ready(struct fst_arena *a);

/* Fail with FST_OS because so many bytes could not be mapped; the sentence names `ulimit -v` where
 * that is the reason. */
int fst_cannot_map(int error, uint64_t bytes);

#endif
