/* sizeclass.h - caches behind fst_alloc_bytes: four classes to a doubling from 8 bytes to 64
 * KiB, and one for all that is larger. */
#ifndef FST_ALLOC_SIZECLASS_H
#define FST_ALLOC_SIZECLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "region/region.h"

#define FST_SIZE_CLASS_MAX (64u << 10)

/* Bytes of an object of the class. */
uint64_t fst_size_class_bytes(uint32_t class);
/* The smallest class that holds this many bytes, at most FST_SIZE_CLASS_MAX of them. */
uint32_t fst_size_class_of(uint64_t bytes);

/* The child cache of the group for objects of this many bytes: its id. FST_FULL, FST_CLOSED. */
int fst_size_class_child(struct fst_arena *a, uint64_t group, uint64_t bytes, uint64_t *child);

#endif
