/* format.h - the text that a cache keeps for whoever opens it: what its objects mean.
 *
 * As much of it as there is room for lies in the cache's descriptor, where it is compared and
 * hashed. The rest lies behind the initial content in the slab `init_slab`, which exists if there
 * is either of the two. An ALIAS has no such slab: its rest is that of its body.
 *
 * All functions are called under names_lock. The rest lies where users may write: it is compared
 * and copied, never followed.
 */
#ifndef FST_ALLOC_FORMAT_H
#define FST_ALLOC_FORMAT_H

#include "region/region.h"

/* How many bytes of the text do not fit in a descriptor, and where they begin. */
uint32_t fst_format_rest(const struct fst_cache_spec *spec, const char **rest);

/* Has the cache this format? */
bool fst_format_same(struct fst_arena *a, const struct fst_cache *c, const struct fst_cache_spec *spec);

/* Copy the whole text, as far as there is room, with a final zero. */
void fst_format_copy(struct fst_arena *a, const struct fst_cache *c, char *out, size_t room);

#endif
