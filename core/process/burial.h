/* burial.h - the last burials, for people: whose death a batch saw, and what it reclaimed.
 *
 * They lie in a ring of records (struct fst_burial), written by the process that holds the reaper's
 * lock. A record is opened when a process is found dead, before anything of it is reclaimed; it
 * grows while batches release what the process held, and is closed before the slot becomes free.
 * Its number is 0 while it is being filled in. A kill in there leaves a record that readers skip;
 * the next batch finds the slot DEAD without a record, and opens another one. A kill between the
 * release of an object and its count leaves that object out.
 */
#ifndef FST_PROCESS_BURIAL_H
#define FST_PROCESS_BURIAL_H

#include "region/region.h"

/* The record of the DEAD process in this slot, opened if there is none. NULL: the process has left
 * in good order, or never quite came; or its record was overwritten by later ones. */
struct fst_burial *fst_burial_of(struct fst_arena *a, uint32_t slot);

/* Count an object that the dead process held, or a group that only it had open, as released; not
 * what it had dropped before. The record may be NULL. */
void fst_burial_object(struct fst_burial *b, uint64_t bytes);
void fst_burial_group(struct fst_burial *b);

/* Note that everything the process had is released. */
void fst_burial_close(struct fst_arena *a, uint32_t slot);

#endif
