#include "alloc/shape.h"

#include "platform/atomics.h"
#include "platform/error.h"

#define SLAB_BYTES_MAX   (64u << 10) /* a larger object has a slab for itself */
#define SLAB_OBJECTS_MIN 16u         /* objects in a slab, as long as the slab stays small */

uint64_t fst_shape_align(uint64_t size)
{
    uint64_t align = size & (~size + 1);
    if (align > FST_LINE)
        align = FST_LINE;
    return align < 8 ? 8 : align;
}

struct fst_shape fst_shape_of(uint64_t size, uint64_t align, uint32_t flags)
{
    struct fst_shape s = {0};
    if (!size || !align || (align & (align - 1)) || align > FST_ALIGN_MAX || size > 1ull << 44)
        return s; /* no cache is made like this: the caller has read damage */
    while (align > FST_PAGE && (FST_PAGE << s.align_order) < align)
        s.align_order++;
    s.stride = (size + align - 1) & ~(align - 1);
    if ((flags & FST_CACHE_SIZE_CLASS) && size > SLAB_BYTES_MAX) {
        s.stride = 0;
        s.objects = 1;
        return s; /* pages 0: as many as the object needs */
    }
    if (s.stride > SLAB_BYTES_MAX / 2 || s.align_order) {
        s.objects = 1;
        s.pages = (uint32_t)fst_pages_of(s.stride);
        return s;
    }
    uint64_t bytes = s.stride * SLAB_OBJECTS_MIN;
    if (bytes > SLAB_BYTES_MAX)
        bytes = SLAB_BYTES_MAX / s.stride * s.stride;
    s.pages = (uint32_t)fst_pages_of(bytes);
    uint64_t fit = ((uint64_t)s.pages << FST_PAGE_SHIFT) / s.stride;
    s.objects = fit < 512 ? (uint32_t)fit : 512;
    while (fst_slab_class_words[s.slab_class] < s.objects)
        s.slab_class++;
    return s;
}

bool fst_shape_fits(const struct fst_arena *a, const struct fst_child *c)
{
    const struct fst_cache *of = fst_cache_at(a, c->cache);
#ifdef FST_MUTANT_BELIEVE_SHAPE
    return c->slab_class < FST_SLAB_CLASSES;
#endif
    struct fst_shape s = fst_shape_of(of->size, of->align, of->flags);
    uint32_t flags = of->flags | (fst_shape_has_init(of) ? FST_CHILD_HAS_INIT : 0);
    return c->size == of->size && c->stride == s.stride && c->objects == s.objects && c->pages == s.pages &&
           c->align_order == s.align_order && c->slab_class == s.slab_class && c->flags == flags;
}

int fst_shape_check(struct fst_arena *a, uint32_t child, uint64_t state, uint32_t pages, uint32_t objects)
{
    const struct fst_child *c = fst_child_at(a, child);
    uint64_t bytes = (uint64_t)pages << FST_PAGE_SHIFT;
    if (fst_shape_fits(a, c) && objects && objects <= fst_slab_class_words[c->slab_class] && (uint64_t)objects * c->stride <= bytes)
        return fst_verdict(a, FST_OK);
    fst_acquire_fence();
    if (fst_load_relaxed(&c->state) != state)
        return fst_owner_ended(a);
    fst_damaged(a, "child cache %u: %s of %s, %s apart, in slabs of %s, class %u: not what cache %u says", child,
                fst_many(objects, "object", "objects"), fst_exact(c->size), fst_exact(c->stride), fst_many(pages, "page", "pages"),
                c->slab_class, c->cache);
    return fst_damage(a);
}
