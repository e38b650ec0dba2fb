/* handle.h - what the files about an object's life, channels and stores have from arena/handle.c:
 * what a reference stands for, and how it comes to another process. */
#ifndef FST_ARENA_HANDLE_H
#define FST_ARENA_HANDLE_H

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "region/region.h"

/* Fill in the reference for which this entry of this process stands. FST_STALE, FST_CORRUPTED. */
int fst_object_fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out);

/* The bytes that a user may use of an object, to which somebody holds a reference, so that it is
 * there. */
uint64_t fst_object_bytes(struct fst_arena *a, uint64_t oid);

/* Wait while destroy() of the object's cache looks for users, until it has decided. FST_HELD. */
int fst_object_resumed(struct fst_arena *a, uint64_t oid);

/* The object's handle. Nobody can resolve it unless the object's word is HANDED or SHARED. */
struct fst_handle fst_object_handle(struct fst_arena *a, uint64_t oid, uint64_t generation);

/* Is the handle one of this arena, and one of a group if `group`, and of an object otherwise?
 * FST_FOREIGN, FST_STALE. */
int fst_handle_check(struct fst_arena *a, const struct fst_handle *h, bool group);

/* Put a message of an object, or a group, in flight. The caller has a reference to it, so its
 * generation is the word's. FST_FULL. */
int fst_object_put_in_flight(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_message *out);

/* Note damage: the caller holds a reference to this object, and there is no such object.
 * FST_CORRUPTED. */
int fst_object_gone(struct fst_arena *a, uint64_t oid);

/* Note that objects of this one's child go to other processes from now on. */
void fst_object_note_shared(struct fst_arena *a, uint64_t oid);

#endif
