/* object.h - what the files of an object's life have from each other (arena/object.c, arena/drop.c,
 * arena/handle.c, arena/group.c), and channels from them. */
#ifndef FST_ARENA_OBJECT_H
#define FST_ARENA_OBJECT_H

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "region/region.h"

/* Are we the entry's only owner? PAIR(last-owner). Not if it is indexed. */
static inline bool fst_object_only_owner(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_acquire(&a->counts[entry]) == 1;
}

/* An object in a run of pages of its own, of a child without a common size. `slack`: for its word,
 * which says by it whether it has a form. */
int fst_object_alloc_run(struct fst_thread *t, uint64_t child, uint64_t nbytes, uint64_t slack, struct fst_ref *out);

/* The reference that this entry, which is ours, stands for. */
int fst_object_fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out);

/* Bytes that a user may use of an object, which somebody holds, so that it is there. */
uint64_t fst_object_bytes(struct fst_arena *a, uint64_t oid);

/* destroy() of the object's cache is looking for users: wait until it has decided. FST_HELD. */
int fst_object_resumed(struct fst_arena *a, uint64_t oid);

/* The object's handle: its word is HANDED or SHARED, or nobody resolves it. */
struct fst_handle fst_object_handle(struct fst_arena *a, uint64_t oid, uint64_t generation);

/* Is the handle one of this arena, and of a group, or not? FST_FOREIGN, FST_STALE. */
int fst_handle_check(struct fst_arena *a, const struct fst_handle *h, bool group);

/* A message of an object, or a group, that the caller has a reference to, so that its generation is
 * the word's. */
int fst_object_put_in_flight(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_message *out);

/* The caller holds a reference to this object, and there is no such object: damage. */
int fst_object_gone(struct fst_arena *a, uint64_t oid);

/* Objects like this one go to other processes from now on. */
void fst_object_note_shared(struct fst_arena *a, uint64_t oid);

#endif
