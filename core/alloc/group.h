/* group.h - memory groups: what memory is charged to; a tree with limits.
 *
 * state                        by whom
 *   FREE -> LIVE               fst_group_open
 *   LIVE -> CLOSED             close(), or a batch when no process refers to the group any more (its word is released)
 *   LIVE, CLOSED -> DESTROYED  destroy()
 *   CLOSED, DESTROYED -> FREE  a batch, when no child cache, no group below and no reference is left; a process that has a DESTROYED group
 *                              open does not count (reclaim/scan.c)
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

/* CLOSED or DESTROYED and without anything left: release the descriptor. Under names_lock. */
bool fst_group_try_release(struct fst_arena *a, uint32_t index);

/* Take the group that has waited longest off the list of ended ones; FST_NONE: none waits. Under names_lock. */
uint32_t fst_group_take_ended(struct fst_arena *a);

/* As fst_group_try_release, for a group that a batch has taken so: unless it ended further meanwhile, and is queued again. Under names_lock. */
void fst_group_taken(struct fst_arena *a, uint32_t index);

/* The same for all groups but those queued since: for a batch that looked at all of them. Under names_lock. */
void fst_group_taken_all(struct fst_arena *a);

/* Move a group to an ended state, end its children and queue it for a batch. Under names_lock. */
void fst_group_end(struct fst_arena *a, uint32_t index, enum fst_group_state state);

/* Destroy all groups below one whose state word this is since it was destroyed. Takes the lock for some at a time. Killed in between, the
 * batch that buries the process finishes it (fst_registry_finish_endings). */
void fst_group_destroy_below(struct fst_arena *a, uint32_t top, uint64_t state);

/* Somebody has looked at a group as if it were there, or put it in a message, while a batch may have been about to release it, and has to do
 * with it no more: if it is destroyed, have a batch ask again. */
void fst_group_again(struct fst_arena *a, uint32_t index);

/* Where the reference is that the calling thread took last, if it was to this group. By then the group may be gone. */
void fst_group_note_entry(const struct fst_arena *a, uint64_t id, uint32_t entry);
uint32_t fst_group_last_entry(const struct fst_arena *a, uint64_t id);

/* Give back a reference that fst_group_open or fst_group_hold took. True: it was this process's last, and a request to the reaper. */
bool fst_group_let_go(struct fst_arena *a, uint64_t id);

/* A reference of this process to the group: its entry. In no section. */
int fst_group_claim(struct fst_thread *t, uint64_t id, uint32_t *entry);

#endif
