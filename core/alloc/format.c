#include "alloc/format.h"

#include <string.h>

#include "alloc/slab.h"

uint32_t fst_format_rest(const struct fst_cache_spec *spec, const char **rest)
{
    size_t bytes = spec->format ? strlen(spec->format) : 0;
    if (bytes < FST_FORMAT_MAX)
        return 0;
    *rest = spec->format + FST_FORMAT_MAX - 1;
    return (uint32_t)(bytes - (FST_FORMAT_MAX - 1));
}

/* The rest of a cache's text. NULL although *bytes is not 0: there is damage. Under names_lock. */
static const uint8_t *rest_in(struct fst_arena *a, const struct fst_cache *c, uint32_t *bytes)
{
    if (fst_state(c->state) == FST_CACHE_ALIAS && c->merged < fst_cache_top(a))
        c = fst_cache_at(a, c->merged);
    *bytes = c->rest_bytes;
    if (!*bytes || c->init_slab == FST_NONE)
        return NULL;
    uint64_t init;
    const uint8_t *content = fst_slab_init(a, (uint32_t)(c - fst_cache_at(a, 0)), &init);
    return content ? content + init : NULL;
}

bool fst_format_same(struct fst_arena *a, const struct fst_cache *c, const struct fst_cache_spec *spec)
{
    const char *rest = NULL;
    uint32_t bytes = fst_format_rest(spec, &rest), has;
    if (strncmp(c->format, spec->format ? spec->format : "", FST_FORMAT_MAX - 1) != 0)
        return false;
    const uint8_t *other = rest_in(a, c, &has);
#ifdef FST_MUTANT_FORMAT_REST
    return true;
#endif
    return has == bytes && (!bytes || (other && memcmp(other, rest, bytes) == 0));
}

void fst_format_copy(struct fst_arena *a, const struct fst_cache *c, char *out, size_t room)
{
    uint32_t rest;
    const uint8_t *more = rest_in(a, c, &rest);
    size_t bytes = strnlen(c->format, FST_FORMAT_MAX - 1), all = bytes + (more ? rest : 0);
    size_t n = all < room ? all : room - 1;
    memcpy(out, c->format, bytes < n ? bytes : n);
    if (n > bytes)
        memcpy(out + bytes, more, n - bytes);
    out[n] = 0;
}
