/* shape.h - how the objects of a cache lie in its slabs: computed from the cache's parameters alone, so that everybody who computes it
 * agrees, and what a child's descriptor says can be compared with it.
 */
#ifndef FST_ALLOC_SHAPE_H
#define FST_ALLOC_SHAPE_H

#include <stdint.h>

struct fst_shape {
    uint64_t stride;      /* bytes from one object to the next; 0: a slab holds one object, of any length */
    uint32_t pages;       /* of a slab; 0: as many as the object needs */
    uint32_t objects;     /* in a slab; 0: no cache has these parameters */
    uint32_t slab_class;  /* of the descriptor that has enough words */
    uint32_t align_order; /* the slab begins at a multiple of 2^align_order pages */
};

struct fst_shape fst_shape_of(uint64_t size, uint64_t align, uint32_t flags);

/* Natural alignment: the largest power of two that divides the size, at least 8 and at most a cache line. */
uint64_t fst_shape_align(uint64_t size);

#endif
