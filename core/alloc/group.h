/* group.h - memory groups: what memory is charged to; a tree with limits.
 *
 *     FREE -> LIVE               by fst_group_open
 *     LIVE -> CLOSED             by close(), or by a batch when no process refers to the group any
 *                                more (its word is released)
 *     LIVE, CLOSED -> DESTROYED  by destroy()
 *     CLOSED, DESTROYED -> FREE  by a batch, when no child cache, no group below and no reference
 *                                is left; a process that has a DESTROYED group open does not
 *                                count (refs/scan.c)
 *
 * Group 0 is the root group. It is LIVE as long as the arena exists, and its word is always
 * ALLOCATED.
 */
#ifndef FST_ALLOC_GROUP_H
#define FST_ALLOC_GROUP_H

#include "alloc/registry.h"
#include "rcu/thread.h"

/* Does the id name a descriptor that is in use, in the same life? */
bool fst_group_find(struct fst_arena *a, uint64_t id, uint32_t *index);

/* Make the root group; only the process that creates the arena calls this, once. */
int fst_group_make_root(struct fst_arena *a);

/* For a thread that has looked at a group as if it were there, or put it in a message, while a
 * batch may have been about to release it, and that has to do with it no more: if the group is
 * destroyed, have a batch ask again. */
void fst_group_again(struct fst_arena *a, uint32_t index);

/* Note, and look up, the entry of the reference that the calling thread made last, if it is one to
 * this group (FST_NONE: it is not). By then the group may be gone. */
void fst_group_note_entry(const struct fst_arena *a, uint64_t id, uint32_t entry);
uint32_t fst_group_last_entry(const struct fst_arena *a, uint64_t id);

/* Give back a reference that fst_group_open or fst_group_hold made. True: it was this process's
 * last one, so there is a request to the reaper. */
bool fst_group_let_go(struct fst_arena *a, uint64_t id);

/* Fail with FST_CLOSED, and a sentence that names the group as long as its descriptor is there. */
int fst_group_ended(struct fst_arena *a, uint64_t id);

/* Make a reference of this process to the group; *entry receives its entry. FST_CLOSED, FST_FULL.
 * Not inside a section. */
int fst_group_claim(struct fst_thread *t, uint64_t id, uint32_t *entry);

#endif
