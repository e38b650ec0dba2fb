#include "alloc/sizeclass.h"

#include <stdio.h>

#include "alloc/cache.h"
#include "alloc/debug.h"

/* The classes have 8, 16, 24, ... 64, then 80, 96, 112, 128, 160, ... bytes: from 64 on they are a
 * quarter of the last power of two apart. */
uint64_t fst_size_class_bytes(uint32_t class)
{
    if (class < 8)
        return 8ull * (class + 1);
    uint32_t doubling = (class - 8) / 4, quarter = (class - 8) % 4;
    return (64ull << doubling) + (16ull << doubling) * (quarter + 1);
}

uint32_t fst_size_class_of(uint64_t bytes)
{
    if (bytes > FST_SIZE_CLASS_MAX)
        return FST_SIZE_CLASS_LARGE;
    if (bytes <= 64)
        return bytes <= 8 ? 0 : (uint32_t)((bytes + 7) / 8 - 1);
    /* Here 64 << doubling < bytes <= 128 << doubling. */
    uint32_t doubling = 63u - (uint32_t)__builtin_clzll(bytes - 1) - 6u;
    uint64_t above = bytes - (64ull << doubling);
    uint32_t shift = 4 + doubling; /* the classes of this doubling are 1 << shift bytes apart */
    return 8 + doubling * 4 + (uint32_t)((above + (1ull << shift) - 1) >> shift) - 1;
}

int fst_size_class_child(struct fst_arena *a, uint64_t group, uint32_t class, struct fst_sized *out)
{
    char name[FST_NAME_MAX];
    bool large = class == FST_SIZE_CLASS_LARGE;
    struct fst_cache_spec spec = {.name = name, .flags = FST_CACHE_SIZE_CLASS | fst_arena_debug(a)};
    spec.size = large ? a->known.capacity : fst_size_class_bytes(class);
    spec.align = large ? FST_PAGE : 0;
    if (large)
        snprintf(name, sizeof name, "size-large");
    else
        snprintf(name, sizeof name, "size-%llu", (unsigned long long)spec.size);
    uint64_t cache;
    bool retired;
    int rc = fst_cache_find_or_make(a, &spec, &cache, &retired);
    if (rc == FST_MISMATCH) { /* nobody else makes a cache of this name */
        fst_damaged(a, "the cache %s of the size classes is not what it was made as", name);
        rc = fst_damage(a);
    }
    uint64_t child = 0;
    if (rc == FST_OK)
        rc = fst_child_open(a, cache, group, &child);
    if (rc == FST_OK)
        *out = (struct fst_sized){group, child, class, 0};
    return rc;
}
