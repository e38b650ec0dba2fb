/* sizeclass.h - the caches behind fst_alloc_bytes: four classes to a doubling, from 8 bytes to 64
 * KiB, and one for all that is larger. */
#ifndef FST_ALLOC_SIZECLASS_H
#define FST_ALLOC_SIZECLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "alloc/active.h"

#define FST_SIZE_CLASS_MAX   (64u << 10) /* bytes */
#define FST_SIZE_CLASS_LARGE 48u         /* the class of all that is larger */

/* Bytes of an object of the class. */
uint64_t fst_size_class_bytes(uint32_t class);
/* The smallest class that holds so many bytes; FST_SIZE_CLASS_LARGE: none does, and the object gets
 * a run of pages. */
uint32_t fst_size_class_of(uint64_t bytes);

/* The thread's place for what it remembers of a class in a group: finding the child anew needs
 * names_lock, which a stopped process may hold. */
static inline struct fst_sized *fst_sized_of(const struct fst_thread *t, uint64_t group, uint32_t class)
{
    return &fst_actives_of(t)->sized[((uint32_t)group * 37 + class) % FST_SIZED];
}

static inline bool fst_sized_is(const struct fst_sized *known, uint64_t group, uint32_t class)
{
    return known->child && known->group == group && known->class == class;
}

/* The child of the group for objects of the class, made if there is none. FST_FULL, FST_CLOSED,
 * FST_HELD. */
int fst_size_class_child(struct fst_arena *a, uint64_t group, uint32_t class, struct fst_sized *out);

#endif
