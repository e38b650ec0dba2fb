/* entries.h - the tables of reference entries: where they lie in the file, and which of them this
 * process has mapped.
 *
 * There is one for each process slot, behind everything else in the file, which grows by a table
 * when a slot is used for the first time. A process maps its own as a whole when it attaches, and
 * of others as much as is in use, in doubling steps, when somebody looks there first; each mapping
 * stays until it detaches. So limits on address space and on files' sizes are met by what is used
 * and not by what there may be. A mapping can fail, any time: then nothing may be concluded about
 * what that process holds, and a batch that needs it does not begin, or is broken off.
 */
#ifndef FST_REGION_ENTRIES_H
#define FST_REGION_ENTRIES_H

#include "region/region.h"

/* The size of a mapping of another's table is this many entries, doubled some times. */
#define FST_ENTRIES_LEAST  8192u
#define FST_ENTRIES_LEVELS 8u
static_assert(FST_ENTRIES_LEAST << (FST_ENTRIES_LEVELS - 1) == FST_MAX_ENTRIES, "the largest is a whole table");
static_assert(FST_ENTRIES_LEAST <= FST_MIN_ENTRIES, "the smallest is no more than a table");

/* Of others' tables: each is written once, and stays. */
struct fst_entries {
    uint64_t *mapped[FST_MAX_PROCESSES][FST_ENTRIES_LEVELS];
};

int fst_entries_create(struct fst_arena *a);
/* Unmap all of them, the own one too. */
void fst_entries_destroy(struct fst_arena *a);

/* Where the slot's table begins in the file. */
static inline uint64_t fst_entries_offset(const struct fst_arena *a, uint32_t slot)
{
    return a->known.tables[FST_T_ENTRY].offset + (uint64_t)slot * a->max_entries * sizeof(uint64_t);
}

/* See to it that the file reaches to the end of the slot's table: as fst_file_extend. FST_CLOSED,
 * too. */
int fst_entries_extend(struct fst_arena *a, uint32_t slot);

/* The whole table of a slot, mapped once more, for who is going to own it. NULL: the reason is the
 * last error. */
uint64_t *fst_entries_map(struct fst_arena *a, uint32_t slot);
void fst_entries_unmap(const struct fst_arena *a, uint64_t *entries);

/* The first `count` entries of a slot's table; read no more than fst_entry_top() of them. NULL:
 * they cannot be mapped, or the file ends before them; the reason is the last error. */
uint64_t *fst_entries_of(const struct fst_arena *a, uint32_t slot, uint32_t count);

/* Map what all processes use by now. FST_OS, FST_CORRUPTED: who has to look at all of it need not
 * begin. */
int fst_entries_ready(struct fst_arena *a);

/* FST_OS: so many bytes could not be mapped. Names `ulimit -v` where that is in the way. */
int fst_cannot_map(int error, uint64_t bytes);

#endif
