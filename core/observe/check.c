/* check.c - validate every structure of an arena. Each lock is held while what it protects is looked at, one structure at a time. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/child.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "crash/process.h"
#include "platform/atomics.h"
#include "refs/inflight.h"
#include "refs/word.h"
#include "region/superblock.h"

struct check {
    struct fst_arena *a;
    void (*found)(void *context, const char *text);
    void *context;
    size_t findings;
};

static void say(struct check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct check *c, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->findings++;
    if (c->found)
        c->found(c->context, text);
}

static void check_superblock(struct check *c)
{
    if (fst_superblock_validate(c->a->sb, fst_superblock_file_size(c->a->sb), "superblock"))
        say(c, "%s", fst_last_error());
}

/* ---- pages: under pages_lock ---- */

static void check_run(struct check *c, uint32_t id, uint8_t *owned)
{
    const struct fst_slab *s = fst_slab_at(c->a, id);
    uint64_t pages = (uint64_t)fst_zones(c->a) * FST_ZONE_PAGES;
    if (fst_state(s->state) > FST_SLAB_HOLE) {
        say(c, "slab %u: state %u is none", id, fst_state(s->state));
        return;
    }
    /* Whoever ends it is found by the owner: without one, nobody would. State last: reopened, it is LIVE before it is nobody's. */
    uint64_t owner = fst_load_acquire(&s->owner);
    uint32_t is = fst_state(fst_load_acquire(&s->state));
    if ((is == FST_SLAB_CARVING || is == FST_SLAB_CLOSING || is == FST_SLAB_HOLE) && !owner)
        say(c, "slab %u: state %u, and nobody's", id, is);
    if (s->pages == 0 || (uint64_t)s->page + s->pages > pages || (uint64_t)s->page + s->pages > c->a->capacity_pages) {
        say(c, "slab %u: pages %u to %llu are not in the arena", id, s->page, (unsigned long long)s->page + s->pages);
        return;
    }
    if (s->child != FST_NONE && s->child >= fst_child_top(c->a))
        say(c, "slab %u: there is no child cache %u", id, s->child);
    for (uint64_t p = s->page; p < (uint64_t)s->page + s->pages; p++) {
        if (owned[p / 8] >> (p % 8) & 1) {
            say(c, "slab %u: page %llu belongs to another slab too", id, (unsigned long long)p);
            return;
        }
        owned[p / 8] |= (uint8_t)(1u << (p % 8));
    }
}

static void check_pages(struct check *c)
{
    struct fst_arena *a = c->a;
    uint64_t total = 0;
    uint8_t *owned = calloc(1, a->capacity_pages / 8 + 1); /* zones may be added until we have the lock */
    if (!owned) {
        say(c, "the pages could not be looked at: out of memory");
        return;
    }
    fst_run_lock(a);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        for (uint32_t i = 0; i < fst_slab_top(a, class); i++) {
            const struct fst_slab *s = fst_slab_at(a, FST_SLAB_ID(class, i));
            if (fst_state(s->state) == FST_SLAB_FREE)
                continue;
            check_run(c, FST_SLAB_ID(class, i), owned);
            total += s->pages;
        }
    }
    uint64_t wrong = 0, first = 0, pages = (uint64_t)fst_zones(a) * FST_ZONE_PAGES;
    for (uint64_t p = 0; p < pages && p < a->capacity_pages; p++) {
        const struct fst_zone *z = fst_zone_at(a, (uint32_t)(p / FST_ZONE_PAGES));
        bool is_free = z->free[p / FST_EXTENT_PAGES % FST_ZONE_EXTENTS] >> (p % FST_EXTENT_PAGES) & 1;
        if (is_free == (owned[p / 8] >> (p % 8) & 1) && !wrong++)
            first = p;
    }
    if (wrong)
        say(c, "%llu pages are free and owned, or neither; the first is %llu", (unsigned long long)wrong,
            (unsigned long long)first);
    if (total != a->sb->used_pages)
        say(c, "used pages: %llu counted, %llu recorded", (unsigned long long)total, (unsigned long long)a->sb->used_pages);
    fst_run_unlock(a);
    free(owned);
}

/* ---- slabs and their words: under the child's lock ---- */

static void check_word(struct check *c, uint32_t id, uint32_t object, uint64_t word)
{
    uint64_t flags = word & FST_WORD_FLAGS;
    if ((word & FST_WORD_CHECK) != fst_word_check(fst_oid(id, object)))
        say(c, "slab %u object %u: word %016llx fails its check", id, object, (unsigned long long)word);
    else if (!(flags & FST_WORD_ALLOCATED) && (flags & ~FST_WORD_CONDEMNED))
        say(c, "slab %u object %u: free, but flags %llx", id, object, (unsigned long long)flags);
}

static void check_list(struct check *c, uint32_t child, uint32_t head, uint8_t list, uint32_t *count)
{
    struct fst_arena *a = c->a;
    uint32_t previous = FST_NONE, steps = 0;
    for (uint32_t id = head; id != FST_NONE; id = fst_slab_at(a, id)->next) {
        if (!fst_slab_id_ok(a, id) || steps++ > (1u << 27)) {
            say(c, "child %u: its list of slabs leads to %u, which is none", child, id);
            return;
        }
        struct fst_slab *s = fst_slab_at(a, id);
        if (s->child != child || s->list != list || s->prev != previous || fst_state(s->state) != FST_SLAB_LIVE) {
            say(c, "child %u: slab %u on its list is of child %u, list %u, state %u", child, id, s->child, s->list,
                fst_state(s->state));
            return;
        }
        uint32_t class = FST_SLAB_ID_CLASS(id);
        if (s->objects > fst_slab_class_words[class]) {
            say(c, "slab %u: %u objects, its descriptor has %u words", id, s->objects, fst_slab_class_words[class]);
            return;
        }
        for (uint32_t i = 0; i < s->objects; i++)
            check_word(c, id, i, fst_load_relaxed(fst_slab_word(s, class, i)));
        previous = id;
        ++*count;
    }
}

static void check_children(struct check *c)
{
    struct fst_arena *a = c->a;
    for (uint32_t i = 0; i < fst_child_top(a); i++) {
        const struct fst_child *child = fst_child_at(a, i);
        uint32_t state = fst_state(fst_load_acquire(&child->state)), count = 0;
        if (state == FST_CHILD_FREE)
            continue;
        if (state > FST_CHILD_ENDING || child->cache >= fst_cache_top(a) || child->group >= fst_group_top(a)) {
            say(c, "child %u: state %u, cache %u, group %u", i, state, child->cache, child->group);
            continue;
        }
        fst_slab_lock(a, i);
        check_list(c, i, child->partial, FST_LIST_PARTIAL, &count);
        check_list(c, i, child->full, FST_LIST_FULL, &count);
        if (count != child->slabs)
            say(c, "child %u: %u slabs on its lists, %u recorded", i, count, child->slabs);
        fst_slab_unlock(a, i);
    }
}

/* ---- references ---- */

/* Does a reference that should hold speak of an object that is there? Read twice: it may have just ended. */
static void check_entry(struct check *c, uint32_t slot, uint32_t index)
{
    const uint64_t *at = &fst_entries_of(c->a, slot)[index];
    uint64_t entry = fst_load_acquire(at);
    if (fst_entry_state(entry) != FST_ENTRY_LIVE)
        return;
    const uint64_t *word = fst_word_of(c->a, fst_entry_oid(entry));
    if (!word && fst_load_acquire(at) == entry)
        say(c, "process slot %u: entry %u speaks of object %llx, which never was", slot, index,
            (unsigned long long)fst_entry_oid(entry));
}

static void check_references(struct check *c)
{
    struct fst_arena *a = c->a;
    for (uint32_t slot = 0; slot < fst_process_top(a); slot++) {
        const struct fst_process *p = fst_process_at(a, slot);
        uint32_t state = fst_state(fst_load_acquire(&p->state)), top = fst_entry_top(a, slot);
        if (state > FST_PROCESS_DEAD || top > FST_MAX_ENTRIES) {
            say(c, "process slot %u: state %u, %u entries", slot, state, top);
            continue;
        }
        for (uint32_t i = 0; state == FST_PROCESS_LIVE && i < top; i++)
            check_entry(c, slot, i);
    }
    for (uint32_t i = 0; i < fst_inflight_top(a); i++) {
        const uint64_t *at = &fst_inflight_at(a, i)->word;
        uint64_t word = fst_load_acquire(at);
        if (!(word & FST_INFLIGHT_LIVE))
            continue;
        const uint64_t *object = fst_word_of(a, fst_inflight_oid(word));
        bool there = object && (fst_load_acquire(object) & FST_WORD_ALLOCATED);
        if (!there && fst_load_acquire(at) == word)
            say(c, "in-flight entry %u speaks of object %llx, which is free", i, (unsigned long long)fst_inflight_oid(word));
    }
}

static void check_groups(struct check *c)
{
    struct fst_arena *a = c->a;
    fst_registry_lock(a);
    for (uint32_t i = 0; i < fst_group_top(a); i++) {
        const struct fst_group *g = fst_group_at(a, i);
        uint32_t state = fst_state(g->state);
        if (state > FST_GROUP_DESTROYED || (state != FST_GROUP_FREE && i && g->parent >= fst_group_top(a)))
            say(c, "group %u: state %u, parent %u", i, state, g->parent);
        else if (state != FST_GROUP_FREE && g->limit != UINT64_MAX && g->usage > g->limit && g->peak <= g->limit)
            say(c, "group %u: usage %llu over its limit", i, (unsigned long long)g->usage);
    }
    fst_registry_unlock(a);
}

static void check_caches(struct check *c)
{
    struct fst_arena *a = c->a;
    fst_registry_lock(a);
    for (uint32_t i = 0; i < fst_cache_top(a); i++) {
        const struct fst_cache *cache = fst_cache_at(a, i);
        uint32_t state = fst_state(cache->state), top = fst_cache_top(a);
        if (state > FST_CACHE_NAMELESS)
            say(c, "cache %u: state %u is none", i, state);
        if (state != FST_CACHE_ALIAS)
            continue;
        uint32_t body = cache->merged < top ? fst_state(fst_cache_at(a, cache->merged)->state) : FST_CACHE_FREE;
        if (body != FST_CACHE_LIVE && body != FST_CACHE_NAMELESS)
            say(c, "cache %u: an alias of %u, which is none", i, cache->merged);
    }
    fst_registry_unlock(a);
}

size_t fst_check(fst_arena *a, void (*found)(void *context, const char *text), void *context)
{
    struct check c = {.a = a, .found = found, .context = context};
    check_superblock(&c);
    check_groups(&c);
    check_caches(&c);
    check_pages(&c);
    check_children(&c);
    check_references(&c);
    return c.findings;
}
