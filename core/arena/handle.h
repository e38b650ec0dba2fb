/* handle.h - what the files of an object's life, of channels and stores have from arena/handle.c:
 * what a reference stands for, and how it comes to another process. */
#ifndef FST_ARENA_HANDLE_H
#define FST_ARENA_HANDLE_H

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "region/region.h"

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
