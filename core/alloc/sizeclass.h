/* sizeclass.h - caches behind fst_alloc_bytes: four classes to a doubling from 8 bytes to 64
 * KiB, and one for all that is larger. */
#ifndef FST_ALLOC_SIZECLASS_H
#define FST_ALLOC_SIZECLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "alloc/active.h"

#define FST_SIZE_CLASS_MAX   (64u << 10)
#define FST_SIZE_CLASS_LARGE 48u

/* Bytes of an object of the class. */
uint64_t fst_size_class_bytes(uint32_t class);
/* The smallest class that holds this many bytes; FST_SIZE_CLASS_LARGE: none, they take a run of
 * pages. */
uint32_t fst_size_class_of(uint64_t bytes);

/* What the thread remembers of a class in a group: finding its child takes the names' lock, which a
 * stopped process may hold. */
static inline struct fst_sized *fst_sized_of(const struct fst_thread *t, uint64_t group, uint32_t class)
{
    return &fst_actives_of(t)->sized[((uint32_t)group * 37 + class) % FST_SIZED];
}

static inline bool fst_sized_is(const struct fst_sized *known, uint64_t group, uint32_t class)
{
    return known->child && known->group == group && known->class == class;
}

/* The child cache of the group for objects of the class, made if there is none. FST_FULL,
 * FST_CLOSED. */
int fst_size_class_child(struct fst_arena *a, uint64_t group, uint32_t class, struct fst_sized *out);

#endif
