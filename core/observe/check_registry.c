#include <string.h>

#include "alloc/names.h"
#include "alloc/registry.h"
#include "alloc/shape.h"
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "region/table.h"

/* ---- each descriptor by itself ---- */

static bool ends(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

/* The state of a cache, or FREE where there never was one. */
static uint64_t cache_state(struct fst_arena *a, uint32_t i)
{
    return i < fst_cache_top(a) ? fst_cache_at(a, i)->state : (uint64_t)FST_CACHE_FREE;
}

static bool is_body(struct fst_arena *a, uint32_t i)
{
    uint32_t state = fst_state(cache_state(a, i));
    return state == FST_CACHE_LIVE || state == FST_CACHE_NAMELESS;
}

static bool is_alias(struct fst_arena *a, uint32_t i, uint32_t of)
{
    return fst_state(fst_cache_at(a, i)->state) == FST_CACHE_ALIAS && fst_cache_at(a, i)->merged == of;
}

/* Is the cache's state one that no cache has? Then that was told already. */
static bool said(struct fst_arena *a, uint32_t i)
{
    uint64_t state = cache_state(a, i);
    return fst_state(state) == 2 || fst_state(state) > FST_CACHE_RETIRED || (state >> 4 & 0xfff);
}

/* Was another alias found before with the same body, which is none? Then it is the same mistake. */
static bool a_body_before(struct fst_arena *a, uint32_t alias)
{
    for (uint32_t i = 0; i < alias; i++)
        if (is_alias(a, i, fst_cache_at(a, alias)->merged))
            return true;
    return false;
}

/* Check that only caches that are alike are merged. */
static void check_merged(struct fst_check *c, uint32_t body)
{
    struct fst_arena *a = c->a;
    const struct fst_cache *b = fst_cache_at(a, body);
    uint32_t unlike = 0, first = 0;
    for (uint32_t i = fst_cache_top(a); i-- > 0;) {
        const struct fst_cache *cache = fst_cache_at(a, i);
        if (is_alias(a, i, body) &&
            (cache->size != b->size || cache->align != b->align || strncmp(cache->format, b->format, FST_FORMAT_MAX) != 0)) {
            unlike++;
            first = i;
        }
    }
    if (unlike)
        fst_check_say(c, "cache %u: %u of its aliases have other objects than it; the first is %u", body, unlike, first);
}

static bool check_cache(struct fst_check *c, uint32_t i)
{
    struct fst_arena *a = c->a;
    const struct fst_cache *cache = fst_cache_at(a, i);
    uint32_t state = fst_state(cache->state),
             known = FST_CACHE_TYPESAFE_BY_RCU | FST_CACHE_NO_MERGE | FST_CACHE_SIZE_CLASS | FST_CACHE_CHANNELS | FST_CACHE_DEBUG;
    if (!fst_check_state(c, "cache", i, cache->state, FST_CACHE_RETIRED))
        return false;
    if (state == 2) {
        fst_check_say(c, "cache %u: state 2 is none", i);
        return false;
    }
    if (state == FST_CACHE_FREE)
        return true;
    if (state == FST_CACHE_ALIAS ? !is_body(a, cache->merged) && !said(a, cache->merged) && !a_body_before(a, i)
                                 : cache->merged != i) {
        fst_check_say(c, "cache %u: state %u, and an alias of %u", i, state, cache->merged);
        return false;
    }
    if (!fst_shape_of(cache->size, cache->align, cache->flags).objects || cache->size > a->known.capacity ||
        (cache->flags & ~known)) {
        fst_check_say(c, "cache %u: objects of %s, aligned to %s, flags %x", i, fst_exact(cache->size), fst_exact(cache->align),
                      cache->flags);
        return false;
    }
    if (!cache->name[0] || !ends(cache->name, FST_NAME_MAX) || !ends(cache->format, FST_FORMAT_MAX)) {
        fst_check_say(c, "cache %u: its name or its type is no text", i);
        return false;
    }
    /* The slab of a cache that has ended goes before its descriptor does. */
    bool ended = state == FST_CACHE_ENDED || state == FST_CACHE_RETIRED;
    uint32_t id = cache->init_slab;
    const struct fst_slab *s = fst_slab_id_ok(a, id) ? fst_slab_at(a, id) : NULL;
    uint64_t content = (uint64_t)cache->init_bytes + cache->rest_bytes;
    bool has = s && s->child == FST_NONE && cache->init_bytes <= cache->size && s->pages == fst_pages_of(content + !content);
    if (!ended && (id == FST_NONE ? content != 0 : !has)) {
        fst_check_say(c, "cache %u: its initial content of %s is not in slab %u", i, fst_exact(content), id);
        return false;
    }
    return true;
}

static bool is_group(struct fst_arena *a, uint32_t i)
{
    return i < fst_group_top(a) && fst_state(fst_group_at(a, i)->state) != FST_GROUP_FREE;
}

static bool a_parent_before(struct fst_arena *a, uint32_t group)
{
    for (uint32_t i = 1; i < group; i++)
        if (is_group(a, i) && fst_group_at(a, i)->parent == fst_group_at(a, group)->parent)
            return true;
    return false;
}

static bool check_group(struct fst_check *c, uint32_t i)
{
    struct fst_arena *a = c->a;
    const struct fst_group *g = fst_group_at(a, i);
    uint32_t state = fst_state(g->state), steps = 0, up = i, lowest = i;
    uint64_t word = fst_load_acquire(&g->word);
    if (!fst_check_state(c, "group", i, g->state, FST_GROUP_DESTROYED))
        return false;
    uint64_t flags = word & FST_WORD_FLAGS;
    if ((word & (FST_WORD_CHECK | FST_WORD_SLACK)) || (!(flags & FST_WORD_ALLOCATED) && (flags & ~FST_WORD_CONDEMNED))) {
        fst_check_say(c, "group %u: its word is %016llx", i, (unsigned long long)word);
        return false;
    }
    if (i == 0 && (state != FST_GROUP_LIVE || g->parent != FST_NONE || !(word & FST_WORD_ALLOCATED))) {
        fst_check_say(c, "group 0, the root: state %u, parent %u, word %016llx", state, g->parent, (unsigned long long)word);
        return false;
    }
    if (state == FST_GROUP_FREE)
        return true;
    if (i && !is_group(a, g->parent)) {
        /* if its parent is the root, something is wrong with the root, which was told */
        if (g->parent != 0 && !a_parent_before(a, i))
            fst_check_say(c, "group %u: its parent is %u, which is none", i, g->parent);
        return false;
    }
    do {
        up = up && is_group(a, up) ? fst_group_at(a, up)->parent : FST_NONE;
        lowest = up < lowest ? up : lowest;
    } while (up != FST_NONE && up != i && steps++ <= fst_group_top(a));
    if (up == i) {
        if (lowest == i) /* one of a ring is enough */
            fst_check_say(c, "group %u: it is below itself", i);
        return false;
    }
    uint32_t known = FST_GROUP_LASTING | FST_GROUP_CGROUP | FST_GROUP_QUEUED | FST_GROUP_AGAIN | FST_GROUP_STORES;
    if ((g->flags & ~known) || !ends(g->name, FST_NAME_MAX)) {
        fst_check_say(c, "group %u: flags %x, or its name is no text", i, g->flags);
        return false;
    }
    return true;
}

static bool check_child(struct fst_check *c, uint32_t i)
{
    struct fst_arena *a = c->a;
    const struct fst_child *child = fst_child_at(a, i);
    if (!fst_check_state(c, "child", i, child->state, FST_CHILD_ENDING))
        return false;
    if (fst_state(child->state) == FST_CHILD_FREE)
        return true;
    if (child->cache >= fst_cache_top(a) || child->group >= fst_group_top(a) ||
        fst_state(fst_cache_at(a, child->cache)->state) == FST_CACHE_FREE ||
        fst_state(fst_cache_at(a, child->cache)->state) == FST_CACHE_ALIAS ||
        fst_state(fst_group_at(a, child->group)->state) == FST_GROUP_FREE) {
        fst_check_say(c, "child %u: of cache %u and group %u", i, child->cache, child->group);
        return false;
    }
    if (fst_shape_fits(a, child))
        return true;
    fst_check_say(c, "child %u: %s of %s, %s apart, in %s, flags %x: not what cache %u says", i,
                  fst_many(child->objects, "object", "objects"), fst_exact(child->size), fst_exact(child->stride),
                  fst_many(child->pages, "page", "pages"), child->flags, child->cache);
    return false;
}

/* ---- lists and tables of descriptors ---- */

/* A list of descriptors of one table: whose it is, where it begins, and how it goes on. */
struct list {
    const char *what;
    uint32_t owner, head, kind;
    uint64_t expect; /* how many belong on it, or ANY */
    bool (*belongs)(struct fst_arena *a, uint32_t index, uint32_t owner);
    uint32_t (*next)(struct fst_arena *a, uint32_t index);
    uint32_t (*prev)(struct fst_arena *a, uint32_t index);
};

#define LINK(name, at, field)                                 \
    static uint32_t name(struct fst_arena *a, uint32_t index) \
    {                                                         \
        return at(a, index)->field;                           \
    }
LINK(next_in_cache, fst_child_at, next_in_cache)
LINK(prev_in_cache, fst_child_at, prev_in_cache)
LINK(next_in_group, fst_child_at, next_in_group)
LINK(prev_in_group, fst_child_at, prev_in_group)
LINK(next_alias, fst_cache_at, next_alias)
LINK(prev_alias, fst_cache_at, prev_alias)
LINK(next_sibling, fst_group_at, next_sibling)
LINK(prev_sibling, fst_group_at, prev_sibling)
LINK(cache_next_free, fst_cache_at, next_free)
LINK(child_next_free, fst_child_at, next_free)
LINK(group_next_free, fst_group_at, next_free)
LINK(cache_next_ended, fst_cache_at, next_ended)
LINK(group_next_ended, fst_group_at, next_ended)

static bool of_cache(struct fst_arena *a, uint32_t i, uint32_t owner)
{
    return fst_state(fst_child_at(a, i)->state) != FST_CHILD_FREE && fst_child_at(a, i)->cache == owner;
}

static bool of_group(struct fst_arena *a, uint32_t i, uint32_t owner)
{
    return fst_state(fst_child_at(a, i)->state) != FST_CHILD_FREE && fst_child_at(a, i)->group == owner;
}

static bool below(struct fst_arena *a, uint32_t i, uint32_t owner)
{
    return i && fst_state(fst_group_at(a, i)->state) != FST_GROUP_FREE && fst_group_at(a, i)->parent == owner;
}

#define IS_FREE(name, at, free)                                           \
    static bool name(struct fst_arena *a, uint32_t index, uint32_t owner) \
    {                                                                     \
        (void)owner;                                                      \
        return fst_state(at(a, index)->state) == free;                    \
    }
IS_FREE(cache_free, fst_cache_at, FST_CACHE_FREE)
IS_FREE(child_free, fst_child_at, FST_CHILD_FREE)
IS_FREE(group_free, fst_group_at, FST_GROUP_FREE)

static bool cache_ended(struct fst_arena *a, uint32_t i, uint32_t owner)
{
    (void)owner;
    uint32_t state = fst_state(fst_cache_at(a, i)->state);
    return (state == FST_CACHE_ENDED || state == FST_CACHE_RETIRED) && fst_cache_at(a, i)->queued == 1;
}

static bool group_ended(struct fst_arena *a, uint32_t i, uint32_t owner)
{
    (void)owner;
    return fst_state(fst_group_at(a, i)->state) > FST_GROUP_LIVE && (fst_group_at(a, i)->flags & FST_GROUP_QUEUED);
}

#define ANY UINT64_MAX

/* Check a list; the result is its last descriptor. */
static uint32_t check_list(struct fst_check *c, const struct list *l)
{
    struct fst_arena *a = c->a;
    uint32_t n = 0, before = FST_NONE, top = fst_top_of(a, l->kind), i = l->head;
    while (i != FST_NONE && i < top && n <= top && l->belongs(a, i, l->owner) && (!l->prev || l->prev(a, i) == before)) {
        before = i;
        i = l->next(a, i);
        n++;
    }
    if (i != FST_NONE || (l->expect != ANY && n != l->expect))
        fst_check_say(c, "%s %u: its list of %s should have %lld, and leads to %u of them and to %u", l->what, l->owner,
                      fst_table_name(l->kind), (long long)l->expect, n, i);
    return before;
}

/* How many descriptors are free, and so belong on the list of the free ones. */
static uint32_t count_free(struct fst_arena *a, uint32_t kind, bool (*is_free)(struct fst_arena *, uint32_t, uint32_t))
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < fst_top_of(a, kind); i++)
        n += is_free(a, i, 0);
    return n;
}

/* Check that a child, an alias, or a group below another one is on the list of its cache, group,
 * body or parent: its neighbours know it, or the list begins with it. */
static void check_linked(struct fst_check *c, uint32_t kind, const char *what, uint32_t i, uint32_t head, uint32_t prev,
                         uint32_t next, uint32_t (*next_of)(struct fst_arena *, uint32_t),
                         uint32_t (*prev_of)(struct fst_arena *, uint32_t))
{
    uint32_t top = fst_top_of(c->a, kind);
    bool fine = prev == FST_NONE ? head == i : prev < top && next_of(c->a, prev) == i;
    fine = fine && (next == FST_NONE || (next < top && prev_of(c->a, next) == i));
    if (!fine)
        fst_check_say(c, "number %u of the %s: the list of its %s does not know it", i, fst_table_name(kind), what);
}

/* Check the lists of each owner, from the owner's side. A descriptor on no list, or on the wrong
 * one, is found from its own side (check_owned). One mistake breaks several lists, so the first one
 * is enough. */
static void check_owners(struct fst_check *c, size_t before)
{
    struct fst_arena *a = c->a;
    for (uint32_t i = 0; i < fst_cache_top(a) && c->findings == before; i++) {
        const struct fst_cache *cache = fst_cache_at(a, i);
        if (fst_state(cache->state) == FST_CACHE_FREE || fst_state(cache->state) == FST_CACHE_ALIAS)
            continue;
        check_list(c, &(struct list){"cache", i, cache->first, FST_T_CHILD, ANY, of_cache, next_in_cache, prev_in_cache});
        if (c->findings == before)
            check_list(
                c, &(struct list){"cache", i, cache->first_alias, FST_T_CACHE, cache->aliases, is_alias, next_alias, prev_alias});
        uint32_t root = cache->root_child;
        if (c->findings == before && root != FST_NONE &&
            (!fst_is_child(a, root) || !of_cache(a, root, i) || fst_child_at(a, root)->group != 0))
            fst_check_say(c, "cache %u: its child in the root group is said to be %u", i, root);
    }
    for (uint32_t i = 0; i < fst_group_top(a) && c->findings == before; i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) == FST_GROUP_FREE)
            continue;
        check_list(c, &(struct list){"group", i, g->first, FST_T_CHILD, ANY, of_group, next_in_group, prev_in_group});
        if (c->findings == before)
            check_list(c, &(struct list){"group", i, g->first_group, FST_T_GROUP, g->children, below, next_sibling, prev_sibling});
    }
}

static void check_owned(struct fst_check *c, size_t before)
{
    struct fst_arena *a = c->a;
    for (uint32_t i = 0; i < fst_child_top(a) && c->findings == before; i++) {
        const struct fst_child *child = fst_child_at(a, i);
        if (fst_state(child->state) == FST_CHILD_FREE)
            continue;
        const struct fst_cache *cache = fst_cache_at(a, child->cache);
        check_linked(c, FST_T_CHILD, "cache", i, cache->first, child->prev_in_cache, child->next_in_cache, next_in_cache,
                     prev_in_cache);
        if (c->findings == before)
            check_linked(c, FST_T_CHILD, "group", i, fst_group_at(a, child->group)->first, child->prev_in_group,
                         child->next_in_group, next_in_group, prev_in_group);
        if (c->findings == before && child->group == 0 && cache->root_child != i)
            fst_check_say(c, "cache %u: its child in the root group is %u, and said to be %u", child->cache, i, cache->root_child);
    }
    for (uint32_t i = 0; i < fst_cache_top(a) && c->findings == before; i++) {
        const struct fst_cache *cache = fst_cache_at(a, i);
        if (fst_state(cache->state) == FST_CACHE_ALIAS)
            check_linked(c, FST_T_CACHE, "body", i, fst_cache_at(a, cache->merged)->first_alias, cache->prev_alias,
                         cache->next_alias, next_alias, prev_alias);
    }
    for (uint32_t i = 1; i < fst_group_top(a) && c->findings == before; i++) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) != FST_GROUP_FREE)
            check_linked(c, FST_T_GROUP, "parent", i, fst_group_at(a, g->parent)->first_group, g->prev_sibling, g->next_sibling,
                         next_sibling, prev_sibling);
    }
}

static void check_queues(struct fst_check *c, size_t before)
{
    struct fst_arena *a = c->a;
    const struct fst_superblock *sb = a->sb;
    const struct list lists[] = {
        {"free", 0, sb->cache_free, FST_T_CACHE, count_free(a, FST_T_CACHE, cache_free), cache_free, cache_next_free, NULL},
        {"free", 0, sb->child_free, FST_T_CHILD, count_free(a, FST_T_CHILD, child_free), child_free, child_next_free, NULL},
        {"free", 0, sb->group_free, FST_T_GROUP, count_free(a, FST_T_GROUP, group_free), group_free, group_next_free, NULL},
        {"ended", 0, sb->ended_caches, FST_T_CACHE, ANY, cache_ended, cache_next_ended, NULL},
        {"ended", 0, sb->ended_head, FST_T_GROUP, (uint32_t)(sb->ended_groups - sb->ended_spliced), group_ended, group_next_ended,
         NULL},
    };
    uint32_t last = FST_NONE;
    for (uint32_t i = 0; i < sizeof lists / sizeof *lists && c->findings == before; i++)
        last = check_list(c, &lists[i]);
    if (c->findings == before && last != FST_NONE && last != sb->ended_tail)
        fst_check_say(c, "ended groups: the last is %u, and said to be %u", last, sb->ended_tail);
}

/* Is the descriptor to be in this table of names, and under which hash? */
static bool named(struct fst_arena *a, enum fst_names which, uint32_t i, uint32_t *hash)
{
    if (which == FST_NAMES_GROUP) {
        const struct fst_group *g = fst_group_at(a, i);
        *hash = fst_registry_hash_name(g->name, g->parent);
        return i && fst_state(g->state) == FST_GROUP_LIVE && g->name[0];
    }
    const struct fst_cache *c = fst_cache_at(a, i);
    uint32_t state = fst_state(c->state);
    *hash = which == FST_NAMES_CACHE ? fst_registry_hash_name(c->name, 0) : fst_registry_hash_shape(c->size, c->align, c->format);
    if (which == FST_NAMES_CACHE)
        return state == FST_CACHE_LIVE || state == FST_CACHE_ALIAS;
    return (state == FST_CACHE_LIVE || state == FST_CACHE_NAMELESS) && fst_registry_mergeable(c);
}

static void check_names(struct fst_check *c, enum fst_names which, uint32_t top)
{
    struct fst_arena *a = c->a;
    static const char *const names[] = {"caches by name", "caches by shape", "groups by name"};
    uint32_t count = 0, lost = FST_NONE, hash;
    for (uint32_t i = 0; i < top; i++) {
        if (!named(a, which, i, &hash))
            continue;
        count++;
        uint32_t steps, at = fst_names_first(a, which, hash, &steps);
        while (at != FST_NONE && at != i)
            at = fst_names_next(a, which, at, &steps);
        if (at == FST_NONE && lost == FST_NONE)
            lost = i;
    }
    const struct fst_buckets *b = &a->sb->buckets[which];
    if (lost != FST_NONE)
        fst_check_say(c, "the table of %s does not lead to %u, which should be in it", names[which], lost);
    else if (b->entries != count || (count && !fst_names_room(a, which, b->buckets)))
        fst_check_say(c, "the table of %s has %s in %s, %u counted", names[which], fst_many(b->entries, "entry", "entries"),
                      fst_many(b->buckets, "bucket", "buckets"), count);
}

void fst_check_registry(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    size_t before = c->findings;
    for (uint32_t i = 0; i < fst_cache_top(a); i++)
        fst_check_lock(c, "cache", i, &fst_cache_at(a, i)->ending);
    if (!fst_registry_lock(a)) {
        c->held = true;
        return;
    }
    for (uint32_t i = 0; i < fst_cache_top(a); i++)
        check_cache(c, i);
    for (uint32_t i = 0; i < fst_group_top(a); i++)
        check_group(c, i);
    for (uint32_t i = 0; i < fst_child_top(a) && c->findings == before; i++)
        check_child(c, i);
    for (uint32_t i = 0; i < fst_cache_top(a) && c->findings == before; i++)
        if (fst_cache_at(a, i)->aliases && is_body(a, i))
            check_merged(c, i);
    if (c->findings == before) {
        check_owners(c, before);
        check_owned(c, before);
        check_queues(c, before);
    }
    for (int which = FST_NAMES_CACHE; which <= FST_NAMES_GROUP && c->findings == before; which++)
        check_names(c, (enum fst_names)which, which == FST_NAMES_GROUP ? fst_group_top(a) : fst_cache_top(a));
    fst_registry_unlock(a);
}
