/* caches.c - the numbers of caches: what they say of themselves, and what they hold. */
#include <string.h>

#include "alloc/cache.h"
#include "alloc/children.h"
#include "alloc/debug.h"
#include "alloc/format.h"
#include "alloc/lists.h"
#include "alloc/shape.h"
#include "platform/error.h"

size_t fst_cache_list(fst_arena *a, uint64_t *ids, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_cache_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t state = fst_load_acquire(&fst_cache_at(a, i)->state);
        if (fst_state(state) == FST_CACHE_FREE || fst_state(state) == FST_CACHE_NAMELESS)
            continue;
        if (n < max)
            ids[n] = fst_id(i, state);
        n++;
    }
    return n;
}

/* Count without the child's lock. Its lists may change meanwhile, so every step is checked, and the
 * walk ends where it loses its way. The numbers are for people. */
static void count_list(struct fst_arena *a, uint32_t child, uint32_t head, uint8_t list, struct fst_cache_info *out)
{
    uint32_t most = fst_load_relaxed(&fst_child_at(a, child)->slabs), all = 0;
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        all += fst_slab_top(a, class);
    most = most < all ? most : all;
    for (uint32_t id = head, n = 0; id != FST_NONE && n <= most && fst_slab_id_ok(a, id); n++) {
        struct fst_slab *s = fst_slab_at(a, id);
        uint32_t class = FST_SLAB_ID_CLASS(id);
        bool ours = fst_state(fst_load_acquire(&s->state)) == FST_SLAB_LIVE && fst_load_relaxed(&s->child) == child;
        if (!ours || fst_load_relaxed(&s->list) != list || fst_load_relaxed(&s->objects) > fst_slab_class_words[class])
            return;
        out->slabs++;
        out->objects += fst_load_relaxed(&s->objects);
        out->allocated += fst_slab_count(s, class);
        id = fst_load_relaxed(&s->next);
    }
}

static void count_child(struct fst_arena *a, uint32_t cache, uint32_t child, struct fst_cache_info *out)
{
    const struct fst_child *c = fst_child_at(a, child);
    if (c->cache != cache || fst_state(fst_load_acquire(&c->state)) == FST_CHILD_FREE)
        return;
    out->children++;
    out->bytes += fst_load_relaxed(&c->used_pages) << FST_PAGE_SHIFT;
    count_list(a, child, fst_load_relaxed(&c->partial), FST_LIST_PARTIAL, out);
    count_list(a, child, fst_load_relaxed(&c->full), FST_LIST_FULL, out);
}

/* The name that speaks for the body: the cache itself, or, when its name was destroyed, the first
 * of its aliases. */
static uint32_t speaker(struct fst_arena *a, uint32_t body)
{
    const struct fst_cache *c = fst_cache_at(a, body);
    return fst_state(c->state) == FST_CACHE_NAMELESS && c->first_alias != FST_NONE ? c->first_alias : body;
}

/* Fill in what the descriptors say; the result is the body. Under names_lock. */
static uint32_t describe(struct fst_arena *a, uint32_t index, struct fst_cache_info *out)
{
    const struct fst_cache *c = fst_cache_at(a, index);
    uint32_t state = fst_state(c->state), body = state == FST_CACHE_ALIAS && c->merged < fst_cache_top(a) ? c->merged : index;
    uint32_t speaks = speaker(a, body);
    out->id = fst_id(index, c->state);
    out->merged_into = fst_id(speaks, fst_cache_at(a, speaks)->state);
    memcpy(out->name, c->name, sizeof out->name - 1);
    memcpy(out->format, c->format, sizeof out->format - 1);
    out->format_bytes = (uint32_t)strlen(out->format) + fst_cache_at(a, body)->rest_bytes;
    out->size = c->size - fst_debug_behind(c->flags);
    out->align = c->align;
    out->flags = c->flags;
    out->state = speaks == index && state == FST_CACHE_ALIAS ? (uint32_t)FST_CACHE_LIVE : state;
    /* The name that speaks for the body is no alias of itself. */
    uint32_t named = fst_state(fst_cache_at(a, body)->state) == FST_CACHE_NAMELESS ? 1 : 0;
    out->aliases = speaks == index ? fst_cache_at(a, body)->aliases - named : 0;
    out->stride = fst_shape_of(c->size, c->align, c->flags).stride;
    return body;
}

int fst_cache_get_info(fst_arena *a, uint64_t cache, struct fst_cache_info *out)
{
    uint32_t body = FST_NONE, ids[FST_CHILDREN_LOT], n;
    memset(out, 0, sizeof *out);
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    uint32_t index;
    bool found = fst_cache_find(a, cache, &index);
    if (found)
        body = describe(a, index, out);
    fst_registry_unlock(a);
    if (!found || fst_is_damaged(a))
        return fst_verdict(a, found ? FST_OK : fst_cache_ended(a, cache));
    struct fst_children w = fst_children_of_cache(a, body);
    while ((n = fst_children_lot(&w, ids)) != 0) {
        if (w.restarted) /* count anew, or some would be counted twice */
            out->children = out->slabs = out->objects = out->allocated = out->bytes = 0;
        w.restarted = false;
        for (uint32_t i = 0; i < n; i++)
            count_child(a, body, ids[i], out);
    }
    return w.held ? fst_lock_held(a) : fst_verdict(a, FST_OK);
}

int fst_cache_format(fst_arena *a, uint64_t cache, char *out, size_t room)
{
    uint32_t index;
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    bool found = fst_cache_find(a, cache, &index);
    if (found)
        fst_format_copy(a, fst_cache_at(a, index), out, room);
    fst_registry_unlock(a);
    return fst_verdict(a, found ? FST_OK : fst_cache_ended(a, cache));
}

int fst_cache_look(fst_arena *a, uint64_t cache, struct fst_cache_info *out)
{
    uint32_t index;
    memset(out, 0, sizeof *out);
    /* This works without the lock, because whoever gets an object asks for its cache. What a
     * descriptor says holds if it is still the same cache's after it was read. The cache with which
     * it is merged may change in between, and the answer was true at one of the two moments. */
    bool found = fst_cache_find(a, cache, &index);
    if (found)
        describe(a, index, out);
    if (out->flags & FST_CACHE_DEBUG)
        a->plain = false; /* this process is about to have an object of it */
    fst_acquire_fence();
    found = found && fst_cache_find(a, cache, &index);
    return fst_verdict(a, found ? FST_OK : fst_cache_ended(a, cache));
}
