/* table.h - tables of the control region grow from their start, committed before they are
 * touched. */
#ifndef FST_REGION_TABLE_H
#define FST_REGION_TABLE_H

#include "region/region.h"

/* Make sure that descriptors [0, count) of the table may be touched. FST_FULL when the table, or
 * the memory for it, is used up. It makes a system call when the table has to grow: never call it
 * with a lock held. */
int fst_table_commit(struct fst_arena *a, enum fst_table_kind kind, uint64_t count);

/* Make sure of the same for entries [0, count) of one process's reference table. */
int fst_table_commit_entries(struct fst_arena *a, uint32_t slot, uint32_t count);

#endif
