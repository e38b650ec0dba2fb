/* burial.h - the last burials, for people: whose death a batch saw, and what it reclaimed.
 *
 * A ring of records (struct fst_burial), written by who holds the reaper's lock. A record is opened
 * when a process is found dead, before anything of it is reclaimed, grows while batches release
 * what it held, and is closed when its slot is free. Its number is 0 while it is being filled in: a
 * kill in there leaves a record that readers skip, and the next batch, which finds the slot DEAD
 * without a record, opens another one. A kill between an object's release and its count leaves that
 * object out.
 */
#ifndef FST_PROCESS_BURIAL_H
#define FST_PROCESS_BURIAL_H

#include "region/region.h"

/* The record of the DEAD process in this slot, opened if there is none; NULL: it has left in
 * good order, or never quite came. */
struct fst_burial *fst_burial_of(struct fst_arena *a, uint32_t slot);

/* An object of it, or a group that only it had open, was released. The record may be NULL. */
void fst_burial_object(struct fst_burial *b, uint64_t bytes);
void fst_burial_group(struct fst_burial *b);

/* Everything it had is released. */
void fst_burial_close(struct fst_arena *a, uint32_t slot);

#endif
