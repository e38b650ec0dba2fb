#include "alloc/cache.h"

#include <string.h>

#include "alloc/children.h"
#include "alloc/close.h"
#include "alloc/debug.h"
#include "alloc/format.h"
#include "alloc/lists.h"
#include "alloc/names.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "alloc/slab.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "region/lock.h"

bool fst_cache_find(struct fst_arena *a, uint64_t id, uint32_t *index)
{
    *index = (uint32_t)id;
    return *index < fst_cache_top(a) && fst_id_is(id, fst_load_acquire(&fst_cache_at(a, *index)->state));
}

bool fst_cache_retired(struct fst_arena *a, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= fst_cache_top(a))
        return false;
    return fst_cache_at(a, index)->retired == id;
}

static int validate(const struct fst_arena *a, const struct fst_cache_spec *spec, uint64_t *align)
{
    size_t name = strnlen(spec->name, FST_NAME_MAX), format = spec->format ? strnlen(spec->format, FST_FORMAT_LONGEST) : 0;
    *align = spec->align ? spec->align : fst_shape_align(spec->size);
    if (name == 0 || name >= FST_NAME_MAX)
        return fst_fail(FST_INVALID, "a cache's name has 1 to %d bytes", FST_NAME_MAX - 1);
    if (format >= FST_FORMAT_LONGEST)
        return fst_fail(FST_INVALID, "cache %s: the description of its type has %d bytes at most", spec->name,
                        FST_FORMAT_LONGEST - 1);
    if (*align & (*align - 1))
        return fst_fail(FST_INVALID, "cache %s: alignment %llu is no power of two", spec->name, (unsigned long long)*align);
    if (*align > FST_ALIGN_MAX)
        return fst_fail(FST_INVALID, "cache %s: alignment %s, the most is %s", spec->name, fst_exact(*align),
                        fst_exact(FST_ALIGN_MAX));
    if (spec->size == 0)
        return fst_fail(FST_INVALID, "cache %s: an object has at least one byte", spec->name);
    if (spec->size > a->known.capacity || *align > a->known.capacity)
        return fst_fail(FST_INVALID, "cache %s: objects of %s aligned to %s do not fit in an arena of %s", spec->name,
                        fst_exact(spec->size), fst_exact(*align), fst_exact(a->known.capacity));
    if (spec->init && !spec->init_bytes && format >= FST_FORMAT_MAX)
        return fst_fail(FST_INVALID, "cache %s: initial content of no bytes", spec->name);
    if (spec->init && spec->init_bytes > spec->size)
        return fst_fail(FST_INVALID, "cache %s: %s of initial content for objects of %s", spec->name, fst_exact(spec->init_bytes),
                        fst_exact(spec->size));
    if (*align < 8)
        *align = 8;
    return FST_OK;
}

bool fst_cache_body(struct fst_arena *a, uint64_t id, uint32_t *body)
{
    if (!fst_cache_find(a, id, body))
        return false;
    const struct fst_cache *c = fst_cache_at(a, *body);
    uint32_t state = fst_state(c->state);
    if (state == FST_CACHE_ALIAS)
        *body = c->merged;
    return state == FST_CACHE_LIVE || (state == FST_CACHE_ALIAS && *body < fst_cache_top(a));
}

/* Is a cache to which a table of names led in one of two states? Under names_lock it is, unless
 * there is damage. */
static bool in_table(struct fst_arena *a, uint32_t index, uint32_t one, uint32_t other)
{
    uint32_t state = fst_state(fst_cache_at(a, index)->state);
    if (state != one && state != other)
        fst_damaged(a, "cache %u: its state is %u, and a table of names leads to it", index, state);
    return state == one || state == other;
}

/* Find the cache of this name. The size classes have names of their own: no program's cache is in
 * their way. */
static uint32_t find_name(struct fst_arena *a, const struct fst_cache_spec *spec)
{
    uint32_t steps, i = fst_names_first(a, FST_NAMES_CACHE, fst_registry_hash_name(spec->name, 0), &steps);
    for (; i != FST_NONE && in_table(a, i, FST_CACHE_LIVE, FST_CACHE_ALIAS); i = fst_names_next(a, FST_NAMES_CACHE, i, &steps)) {
        const struct fst_cache *c = fst_cache_at(a, i);
        if (strncmp(c->name, spec->name, FST_NAME_MAX) == 0 && !((c->flags ^ spec->flags) & FST_CACHE_SIZE_CLASS))
            return i;
    }
    return FST_NONE;
}

/* Find a cache that the one to be made may share memory with. */
static uint32_t find_alike(struct fst_arena *a, const struct fst_cache_spec *spec, uint64_t align)
{
    const char *format = spec->format ? spec->format : "";
    if (spec->init || (fst_debug_flags(spec) & (FST_CACHE_NO_MERGE | FST_CACHE_TYPESAFE_BY_RCU | FST_CACHE_SIZE_CLASS)))
        return FST_NONE;
    uint32_t steps, i = fst_names_first(a, FST_NAMES_SHAPE, fst_registry_hash_shape(spec->size, align, format), &steps);
    for (; i != FST_NONE && in_table(a, i, FST_CACHE_LIVE, FST_CACHE_NAMELESS); i = fst_names_next(a, FST_NAMES_SHAPE, i, &steps)) {
        const struct fst_cache *c = fst_cache_at(a, i);
        if (c->size == spec->size && c->align == align && fst_format_same(a, c, spec))
            return i;
    }
    return FST_NONE;
}

static bool same_init(struct fst_arena *a, const struct fst_cache *c, const struct fst_cache_spec *spec)
{
    if (!spec->init)
        return !fst_shape_has_init(c);
    if (!fst_shape_has_init(c) || c->init_bytes != spec->init_bytes)
        return false;
    uint64_t bytes;
    const uint8_t *init = fst_slab_init(a, (uint32_t)(c - fst_cache_at(a, 0)), &bytes);
    return init && bytes == spec->init_bytes && memcmp(init, spec->init, bytes) == 0;
}

static int compare(struct fst_arena *a, const struct fst_cache *c, const struct fst_cache_spec *spec, uint64_t align)
{
    uint64_t size = c->size - fst_debug_behind(c->flags);
    if (size != spec->size || c->align != align)
        return fst_fail(FST_MISMATCH, "cache %s exists with objects of %s aligned to %s, not %s aligned to %s", spec->name,
                        fst_exact(size), fst_exact(c->align), fst_exact(spec->size), fst_exact(align));
    if (!fst_format_same(a, c, spec))
        return fst_fail(FST_MISMATCH, "cache %s exists with type %.*s, not %s", spec->name, FST_FORMAT_MAX - 1, c->format,
                        spec->format ? spec->format : "");
    if ((c->flags ^ spec->flags) & ~(FST_CACHE_NO_MERGE | FST_CACHE_DEBUG))
        return fst_fail(FST_MISMATCH, "cache %s exists %s TYPESAFE_BY_RCU", spec->name,
                        c->flags & FST_CACHE_TYPESAFE_BY_RCU ? "with" : "without");
    if (!same_init(a, c, spec))
        return fst_fail(FST_MISMATCH, "cache %s exists with other initial content", spec->name);
    return FST_OK;
}

/* Fill the descriptor in. `body` is the cache of which it becomes an alias, or itself. */
static void make(struct fst_arena *a, uint32_t index, const struct fst_cache_spec *spec, uint64_t align, uint32_t init_slab,
                 uint32_t body)
{
    struct fst_cache *c = fst_cache_at(a, index);
    const char *rest;
    uint32_t flags = fst_debug_flags(spec);
    fst_store_relaxed(&c->size, spec->size + fst_debug_behind(flags));
    fst_store_relaxed(&c->align, align);
    fst_store_relaxed(&c->flags, flags);
    fst_store_relaxed(&c->aliases, 0);
    fst_store_relaxed(&c->first, FST_NONE);
    fst_store_relaxed(&c->root_child, FST_NONE);
    fst_store_relaxed(&c->first_alias, FST_NONE);
    fst_store_relaxed(&c->merged, body);
    fst_store_relaxed(&c->init_slab, init_slab);
    fst_store_relaxed(&c->init_bytes, spec->init ? spec->init_bytes : 0);
    fst_store_relaxed(&c->rest_bytes, body == index ? fst_format_rest(spec, &rest) : 0);
    memset(c->name, 0, sizeof c->name);
    memset(c->format, 0, sizeof c->format);
    memcpy(c->name, spec->name, strlen(spec->name));
    if (spec->format)
        memcpy(c->format, spec->format, strnlen(spec->format, FST_FORMAT_MAX - 1));
    fst_store_release(&c->state, fst_state_next(c->state, body == index ? FST_CACHE_LIVE : FST_CACHE_ALIAS));
    fst_registry_link_cache(a, index);
    /* From here on the slab is the cache's. After a kill in between, fst_slab_recover finishes. */
    if (init_slab != FST_NONE) {
        struct fst_slab *s = fst_slab_at(a, init_slab);
        fst_store_release(&s->state, fst_state_moved(s->state, FST_SLAB_LIVE));
        fst_store_relaxed(&s->owner, 0);
    }
}

static bool needs_slab(const struct fst_cache_spec *spec)
{
    const char *rest;
    return spec->init || fst_format_rest(spec, &rest);
}

/* Make a slab of the arena itself that holds the initial content, and the rest of the format. */
static int make_init(struct fst_thread *t, const struct fst_cache_spec *spec, uint32_t *slab)
{
    *slab = FST_NONE;
    if (!needs_slab(spec))
        return FST_OK;
    const char *rest = NULL;
    uint32_t bytes = fst_format_rest(spec, &rest), init = spec->init ? spec->init_bytes : 0;
    if (t->arena->readonly)
        return fst_fail(FST_READONLY, "the arena %s is attached read-only: cache %s cannot be given its %s",
                        fst_arena_called(t->arena), spec->name, spec->init ? "initial content" : "type");
    uint32_t pages = (uint32_t)fst_pages_of(init + (uint64_t)bytes ? init + (uint64_t)bytes : 1);
    int rc = fst_run_reserve(t->arena, FST_NONE, 0, 0, pages, 0, t->name, slab);
    if (rc)
        return rc;
    uint8_t *content = t->arena->data + ((uint64_t)fst_slab_at(t->arena, *slab)->page << FST_PAGE_SHIFT);
    if (init)
        memcpy(content, spec->init, init);
    if (bytes)
        memcpy(content + init, rest, bytes);
    return FST_OK;
}

static void forget_init(struct fst_arena *a, uint32_t slab)
{
    if (slab != FST_NONE)
        fst_run_release(a, slab, fst_slab_at(a, slab)->state);
}

/* Is this the only name of its body? Under names_lock. */
static bool last_name(struct fst_arena *a, uint32_t index)
{
    const struct fst_cache *c = fst_cache_at(a, index);
    if (fst_state(c->state) != FST_CACHE_ALIAS)
        return !c->aliases;
    const struct fst_cache *body = fst_cache_at(a, c->merged);
    return body->aliases == 1 && fst_state(body->state) == FST_CACHE_NAMELESS;
}

/* What one look at the names needs, and what came of it. */
struct opening {
    const struct fst_cache_spec *spec;
    uint64_t align;
    /* slab of the initial content and the rest of the format; FST_NONE: not made yet, or none is
     * needed, or it is the new cache's */
    uint32_t init;
    uint32_t locked; /* the body whose lock `ending` this thread holds; FST_NONE: none */
    uint32_t index;  /* the cache that was found or made; FST_NONE: neither */
    bool exists;     /* it was found */
    /* a cache has to be replaced: the body whose lock `ending` is needed for that */
    uint32_t lock;
    /* the body with which it would be merged, while a destroy() looks for that body's users */
    uint32_t suspended;
    uint32_t retired; /* the body that was retired for the new cache, FST_NONE: none */
    uint64_t retired_state;
};

/* Retire the cache that has the name, before the new one gets it: a kill in between leaves the name
 * free. Under names_lock, and the body's lock `ending` where its last name goes. */
static void retire(struct fst_arena *a, struct opening *o, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index);
    uint32_t body = fst_state(c->state) == FST_CACHE_ALIAS ? c->merged : index;
    fst_store_relaxed(&c->retired, fst_id(index, c->state));
    if (fst_cache_end_name(a, index))
        return;
    c = fst_cache_at(a, body);
    fst_store_relaxed(&c->retired, fst_id(body, c->state));
    fst_cache_end(a, index, body, FST_CACHE_RETIRED);
    o->retired = body;
    o->retired_state = c->state;
}

/* Find the cache, or make it if nothing is missing for that. Under names_lock. */
static int look(struct fst_arena *a, struct opening *o)
{
    uint32_t found = find_name(a, o->spec);
    int rc = found == FST_NONE ? FST_OK : compare(a, fst_cache_at(a, found), o->spec, o->align);
    bool replace = rc == FST_MISMATCH && o->spec->replace;
    if (replace && a->readonly) {
        rc = fst_fail(FST_READONLY, "the arena %s is attached read-only: cache %s cannot be replaced", fst_arena_called(a),
                      o->spec->name);
        replace = false;
    }
    o->exists = found != FST_NONE && !replace;
    o->index = o->exists ? found : FST_NONE;
    o->lock = o->suspended = FST_NONE;
    if (o->exists || fst_is_damaged(a))
        return rc;
    if (replace && last_name(a, found)) {
        uint32_t body = fst_state(fst_cache_at(a, found)->state) == FST_CACHE_ALIAS ? fst_cache_at(a, found)->merged : found;
        o->lock = body == o->locked ? FST_NONE : body;
    }
    uint32_t alike = find_alike(a, o->spec, o->align);
    if (alike != FST_NONE && fst_load_relaxed(&fst_cache_at(a, alike)->ending))
        o->suspended = alike;
    if (o->lock == FST_NONE && o->suspended == FST_NONE && (alike != FST_NONE || !needs_slab(o->spec) || o->init != FST_NONE))
        o->index = fst_registry_new(a, FST_T_CACHE);
    if (o->index == FST_NONE)
        return FST_OK;
    if (replace)
        retire(a, o, found);
    if (alike != FST_NONE) {
        /* The rest of the format is with the body. */
        make(a, o->index, o->spec, o->align, FST_NONE, alike);
    } else {
        make(a, o->index, o->spec, o->align, o->init, o->index);
        o->init = FST_NONE;
    }
    return FST_OK;
}

/* Make the children of what was retired OFFLINE. False: a lock took longer than this thread
 * waits. */
static bool end_retired(struct fst_arena *a, const struct opening *o)
{
    uint32_t ended = 0;
    if (!fst_children_end_cache(a, o->retired, FST_CHILD_OFFLINE, &ended) || !fst_registry_lock(a))
        return false;
    fst_registry_queue_cache(a, o->retired, o->retired_state);
    fst_registry_unlock(a);
    return true;
}

/* Look, with the lock `ending` of a body that is to be retired; its children go OFFLINE before that
 * lock is given back. */
static int look_with(struct fst_arena *a, struct opening *o, uint64_t *cache)
{
    o->locked = o->lock;
    if (o->locked != FST_NONE && !fst_cache_lock_ending(a, o->locked))
        return fst_lock_held(a);
    if (!fst_registry_lock(a)) {
        if (o->locked != FST_NONE)
            fst_cache_unlock_ending(a, o->locked);
        return fst_lock_held(a);
    }
    int rc = look(a, o);
    if (o->index != FST_NONE)
        *cache = fst_id(o->index, fst_cache_at(a, o->index)->state);
    fst_registry_unlock(a);
    if (o->retired != FST_NONE && !end_retired(a, o)) {
        fst_cache_abandon_ending(a, o->locked);
        return rc;
    }
    if (o->locked != FST_NONE)
        fst_cache_unlock_ending(a, o->locked);
    return rc;
}

int fst_cache_find_or_make(struct fst_arena *a, const struct fst_cache_spec *spec, uint64_t *cache, bool *retired)
{
    struct opening o = {.spec = spec, .init = FST_NONE, .lock = FST_NONE, .retired = FST_NONE};
    int rc = validate(a, spec, &o.align);
    if (rc == FST_OK)
        rc = fst_verdict(a, FST_OK);
    struct fst_thread *t = rc ? NULL : fst_thread_get(a);
    if (!t)
        return rc ? rc : fst_thread_refused(a);
    for (;;) {
        rc = look_with(a, &o, cache);
        *retired = o.retired != FST_NONE;
        if (rc != FST_HELD && o.suspended != FST_NONE && !fst_is_damaged(a)) {
            if (fst_cache_resumed(a, o.suspended))
                continue;
            rc = fst_lock_held(a);
        }
        if (rc == FST_HELD) {
            forget_init(a, o.init);
            return fst_lock_held(a);
        }
        if (o.lock != FST_NONE && !fst_is_damaged(a))
            continue;
        if (o.index != FST_NONE)
            forget_init(a, o.init);
        if (fst_is_damaged(a))
            return fst_damage(a);
        if (o.index != FST_NONE)
            return rc;
        rc = o.init == FST_NONE ? make_init(t, spec, &o.init) : FST_OK;
        if (rc == FST_OK)
            rc = fst_registry_grow(a, FST_T_CACHE);
        if (rc) {
            forget_init(a, o.init);
            return rc;
        }
    }
}

/* ---- ending ---- */

int fst_cache_ended(struct fst_arena *a, uint64_t id)
{
    uint32_t index;
    bool named = fst_cache_find(a, id, &index);
    return fst_fail(
        FST_CLOSED, "the cache%s%.*s%s of arena %s has ended: it was destroyed, or another one has its name now; open it again",
        named ? " '" : "", FST_NAME_MAX - 1, named ? fst_cache_at(a, index)->name : "", named ? "'" : "", fst_arena_called(a));
}

static bool finish_ending(struct fst_arena *a, uint32_t body)
{
    uint32_t ended = 0;
    switch (fst_state(fst_load_acquire(&fst_cache_at(a, body)->state))) {
    case FST_CACHE_ENDED:
        return fst_children_end_cache(a, body, FST_CHILD_ENDED, &ended);
    case FST_CACHE_RETIRED:
        return fst_children_end_cache(a, body, FST_CHILD_OFFLINE, &ended);
    default:
        return fst_children_resume(a, body);
    }
}

bool fst_cache_lock_ending(struct fst_arena *a, uint32_t body)
{
    enum fst_try got = fst_lock_in_time(a, &fst_cache_at(a, body)->ending);
    if (got == FST_TRY_TAKEN_OVER && !finish_ending(a, body)) {
        fst_lock_abandon(a, &fst_cache_at(a, body)->ending);
        return false;
    }
    return got != FST_TRY_BUSY;
}

void fst_cache_abandon_ending(struct fst_arena *a, uint32_t body)
{
    fst_lock_abandon(a, &fst_cache_at(a, body)->ending);
    fst_registry_finish_later(a);
}

void fst_cache_unlock_ending(struct fst_arena *a, uint32_t body)
{
    fst_unlock(a, &fst_cache_at(a, body)->ending);
}

bool fst_cache_resumed(struct fst_arena *a, uint32_t body)
{
    if (!fst_cache_lock_ending(a, body))
        return false;
    fst_cache_unlock_ending(a, body);
    return true;
}

bool fst_cache_resumed_for(struct fst_arena *a, uint32_t child)
{
    const struct fst_child *c = fst_child_at(a, child);
    uint32_t body = c->cache;
    if (body >= fst_cache_top(a)) {
        fst_damaged(a, "child cache %u: there is no cache %u", child, body);
        return true;
    }
    if (!fst_cache_lock_ending(a, body))
        return false;
    /* This thread has the lock, so nobody looks for users now, and whoever did has not left the
     * child so. */
    if (c->cache == body && fst_state(fst_load_acquire(&c->state)) == FST_CHILD_ENDING)
        fst_damaged(a, "child cache %u waits for destroy() of cache %u, which nobody calls", child, body);
    fst_cache_unlock_ending(a, body);
    return true;
}

static void forget_alias(struct fst_arena *a, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index);
    fst_registry_unlink_alias(a, index);
    fst_store_release(&c->state, fst_state_moved(c->state, FST_CACHE_FREE));
    fst_registry_put(a, FST_T_CACHE, index);
}

bool fst_cache_end_name(struct fst_arena *a, uint32_t index)
{
    struct fst_cache *c = fst_cache_at(a, index);
#ifndef FST_MUTANT_ALIAS_ENDS_BODY
    if (last_name(a, index))
        return false;
    if (fst_state(c->state) == FST_CACHE_ALIAS) {
        forget_alias(a, index);
        return true;
    }
#endif
    if (!c->aliases)
        return false;
    fst_names_remove(a, FST_NAMES_CACHE, index);
    fst_store_release(&c->state, fst_state_moved(c->state, FST_CACHE_NAMELESS));
    return true;
}

/* The body ends first: a kill before the alias is FREE leaves an alias of a body that has ended,
 * which means nothing to anybody. */
void fst_cache_end(struct fst_arena *a, uint32_t index, uint32_t body, enum fst_cache_state state)
{
    struct fst_cache *c = fst_cache_at(a, body);
    fst_names_remove(a, FST_NAMES_SHAPE, body);
    if (index == body)
        fst_names_remove(a, FST_NAMES_CACHE, body);
    fst_store_release(&c->state, fst_state_moved(c->state, state));
    if (index != body)
        forget_alias(a, index);
}

/* ---- giving memory back ---- */

int fst_cache_shrink(fst_arena *a, uint64_t cache, uint64_t *bytes)
{
    struct fst_thread *t = fst_thread_get(a);
    uint32_t body, ids[FST_CHILDREN_LOT], n, given_up = fst_lock_given_up();
    *bytes = 0;
    if (!t)
        return fst_thread_refused(a);
    if (t->nest)
        return fst_fail(FST_IN_SECTION, "shrink() inside read() would wait for itself");
    if (!fst_registry_lock(a))
        return fst_lock_held(a);
    bool found = fst_cache_body(a, cache, &body);
    fst_registry_unlock(a);
    if (!found || fst_is_damaged(a))
        return fst_verdict(a, found ? FST_OK : fst_cache_ended(a, cache));
    struct fst_children w = fst_children_of_cache(a, body);
    while ((n = fst_children_lot(&w, ids)) != 0)
        for (uint32_t i = 0; i < n; i++)
            *bytes += fst_close_shrink_child(t, ids[i], 1000 * FST_MS);
    if (fst_lock_given_up() != given_up)
        return fst_lock_held(a); /* some slabs were passed by */
    return fst_verdict(a, FST_OK);
}
