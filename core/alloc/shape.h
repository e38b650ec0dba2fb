/* shape.h - how the objects of a cache lie in its slabs.
 *
 * That is computed from the cache's parameters alone, so that everybody who computes it agrees.
 * What a child's descriptor says of it is compared with this by whoever binds the child, makes or
 * adopts a slab of it, or is given an object of it: 16 zero bytes in a descriptor would make all
 * objects of the child one.
 */
#ifndef FST_ALLOC_SHAPE_H
#define FST_ALLOC_SHAPE_H

#include "region/region.h"

struct fst_shape {
    /* bytes from one object to the next; 0: each slab holds one object, of any length */
    uint64_t stride;
    uint32_t pages;       /* of a slab; 0: as many as its object needs */
    uint32_t objects;     /* in a slab; 0: no cache has these parameters */
    uint32_t slab_class;  /* the class of descriptors with enough words */
    uint32_t align_order; /* the slab begins at a multiple of 2^align_order pages */
};

/* The shape for objects of `size` bytes at multiples of `align`, with the cache's flags. */
struct fst_shape fst_shape_of(uint64_t size, uint64_t align, uint32_t flags);

/* The natural alignment: the largest power of two that divides the size, but at least 8 and at most
 * a cache line. */
uint64_t fst_shape_align(uint64_t size);

/* Does the cache's slab hold initial content, and not only the rest of its format? */
static inline bool fst_shape_has_init(const struct fst_cache *c)
{
    return c->init_slab != FST_NONE && (c->init_bytes || !c->rest_bytes);
}

/* Is the child's descriptor what its cache makes of it? */
bool fst_shape_fits(const struct fst_arena *a, const struct fst_child *c);

/* Where fst_shape_fits would take too long: are the child's sizes right, from which an object's
 * address and length are computed? */
static inline bool fst_shape_sized(const struct fst_arena *a, const struct fst_child *c)
{
#ifdef FST_MUTANT_BELIEVE_SHAPE
    return true;
#endif
    const struct fst_cache *of = fst_cache_at(a, c->cache);
    uint64_t stride = (of->size + of->align - 1) & ~(of->align - 1);
    return c->size == of->size && c->stride == (c->pages ? stride : 0);
}

/* Does the child's descriptor fit its cache, and do so many objects lie inside a slab of so many
 * pages? `state`: the child's, read before the two numbers. FST_CLOSED: that life of the child is
 * over, and the numbers may belong to two. FST_CORRUPTED: they do not fit. */
int fst_shape_check(struct fst_arena *a, uint32_t child, uint64_t state, uint32_t pages, uint32_t objects);

#endif
