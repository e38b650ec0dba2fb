/* group.h - memory groups: what memory is charged to; a tree with limits.
 *
 * state                        by whom
 *   FREE -> LIVE               fst_group_open
 *   LIVE -> CLOSED             close(), or a batch when no process refers to the group any more
 *                              (its word is released)
 *   LIVE, CLOSED -> DESTROYED  destroy()
 *   CLOSED, DESTROYED -> FREE  a batch, when no child cache, no group below and no reference is
 *                              left; a process that has a DESTROYED group open does not count
 *                              (refs/scan.c)
 * Group 0 is the root group, LIVE as long as the arena is, with its word ALLOCATED for ever.
 */
#ifndef FST_ALLOC_GROUP_H
#define FST_ALLOC_GROUP_H

#include "alloc/registry.h"
#include "rcu/thread.h"

/* Does the id name a descriptor in use, in the same life? */
bool fst_group_find(struct fst_arena *a, uint64_t id, uint32_t *index);

/* Make the root group: once, by who creates the arena. */
int fst_group_make_root(struct fst_arena *a);

/* Somebody has looked at a group as if it were there, or put it in a message, while a batch may
 * have been about to release it, and has to do with it no more: if it is destroyed, have a batch
 * ask again. */
void fst_group_again(struct fst_arena *a, uint32_t index);

/* Where the reference is that the calling thread took last, if it was to this group. By then the
 * group may be gone. */
void fst_group_note_entry(const struct fst_arena *a, uint64_t id, uint32_t entry);
uint32_t fst_group_last_entry(const struct fst_arena *a, uint64_t id);

/* Give back a reference that fst_group_open or fst_group_hold took. True: it was this process's
 * last, and a request to the reaper. */
bool fst_group_let_go(struct fst_arena *a, uint64_t id);

/* FST_CLOSED, with a sentence that names it, as long as its descriptor is there. */
int fst_group_ended(struct fst_arena *a, uint64_t id);

/* A reference of this process to the group: its entry. In no section. */
int fst_group_claim(struct fst_thread *t, uint64_t id, uint32_t *entry);

#endif
