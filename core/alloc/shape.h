/* shape.h - how the objects of a cache lie in its slabs: computed from the cache's parameters
 * alone, so that everybody who computes it agrees, and what a child's descriptor says is compared
 * with it by whoever binds it, makes or takes a slab of it, or is given an object of it: 16 zero
 * bytes in there would make all its objects one.
 */
#ifndef FST_ALLOC_SHAPE_H
#define FST_ALLOC_SHAPE_H

#include "region/region.h"

struct fst_shape {
    /* bytes from one object to the next; 0: a slab holds one object, of any length */
    uint64_t stride;
    uint32_t pages;       /* of a slab; 0: as many as the object needs */
    uint32_t objects;     /* in a slab; 0: no cache has these parameters */
    uint32_t slab_class;  /* of the descriptor that has enough words */
    uint32_t align_order; /* the slab begins at a multiple of 2^align_order pages */
};

struct fst_shape fst_shape_of(uint64_t size, uint64_t align, uint32_t flags);

/* Natural alignment: the largest power of two that divides the size, at least 8 and at most a
 * cache line. */
uint64_t fst_shape_align(uint64_t size);

/* Does the cache's slab hold initial content, and not only the rest of its format? */
static inline bool fst_shape_has_init(const struct fst_cache *c)
{
    return c->init_slab != FST_NONE && (c->init_bytes || !c->rest_bytes);
}

/* Is the child what its cache makes of it? */
bool fst_shape_fits(const struct fst_arena *a, const struct fst_child *c);

/* Where that would take too long: its sizes alone, which an object's address and length are
 * computed from. */
static inline bool fst_shape_sized(const struct fst_arena *a, const struct fst_child *c)
{
#ifdef FST_MUTANT_BELIEVE_SHAPE
    return true;
#endif
    const struct fst_cache *of = fst_cache_at(a, c->cache);
    uint64_t stride = (of->size + of->align - 1) & ~(of->align - 1);
    return c->size == of->size && c->stride == (c->pages ? stride : 0);
}

/* The same, for a slab of so many pages and objects; what is computed from them stays inside the
 * slab. `state`: the child's, before they were read. FST_CLOSED: that life is over, and they may
 * be of two. FST_CORRUPTED. */
int fst_shape_check(struct fst_arena *a, uint32_t child, uint64_t state, uint32_t pages, uint32_t objects);

#endif
