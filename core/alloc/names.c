#include "alloc/names.h"

#include "platform/atomics.h"
#include "region/table.h"

uint32_t fst_names_hash(uint32_t seed, const void *bytes, size_t n)
{
    /* FNV-1a (Fowler, Noll, Vo), then a round of mixing, because linear hashing uses the low
     * bits. */
    const uint8_t *p = bytes;
    uint64_t h = 0xcbf29ce484222325ull ^ seed;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return (uint32_t)((h ^ h >> 29) * 0x9e3779b97f4a7c15ull >> 32);
}

/* ---- where things lie ---- */

static enum fst_table_kind table_of(enum fst_names which)
{
    return which == FST_NAMES_CACHE ? FST_T_CACHE_NAMES : which == FST_NAMES_SHAPE ? FST_T_CACHE_SHAPES : FST_T_GROUP_NAMES;
}

static uint32_t *bucket_at(struct fst_arena *a, enum fst_names which, uint32_t bucket)
{
    return (uint32_t *)fst_at(a, table_of(which), bucket, sizeof(uint32_t));
}

static struct fst_name_link *link_of(struct fst_arena *a, enum fst_names which, uint32_t index)
{
    if (which == FST_NAMES_GROUP)
        return &fst_group_at(a, index)->by_name;
    return which == FST_NAMES_CACHE ? &fst_cache_at(a, index)->by_name : &fst_cache_at(a, index)->by_shape;
}

static uint32_t top_of(const struct fst_arena *a, enum fst_names which)
{
    return which == FST_NAMES_GROUP ? fst_group_top(a) : fst_cache_top(a);
}

/* The bucket of a hash when there are `buckets` of them. Those below `buckets` minus the largest
 * power of two in it are split already, so one more bit of the hash tells their two halves
 * apart. */
static uint32_t bucket_of(uint32_t buckets, uint32_t hash)
{
    uint32_t level = 1u << (31 - (uint32_t)__builtin_clz(buckets));
    uint32_t bucket = hash & (2 * level - 1);
    return bucket < buckets ? bucket : bucket & (level - 1);
}

/* The descriptor to which a link leads, or FST_NONE if it leads to none. */
static uint32_t followed(const struct fst_arena *a, enum fst_names which, uint32_t link)
{
    return link != 0 && link <= top_of(a, which) ? link - 1 : FST_NONE;
}

/* ---- looking ---- */

/* This descriptor, or the first one behind it in its bucket, that has the hash. */
static uint32_t same_hash(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t hash, uint32_t *steps)
{
    uint32_t kind = which == FST_NAMES_GROUP ? FST_T_GROUP : FST_T_CACHE;
    while (fst_step(a, kind, index, steps)) {
        const struct fst_name_link *link = link_of(a, which, index);
        if (link->hash == hash)
            return index;
        index = followed(a, which, link->next);
    }
    return FST_NONE;
}

uint32_t fst_names_first(struct fst_arena *a, enum fst_names which, uint32_t hash, uint32_t *steps)
{
    uint32_t buckets = a->sb->buckets[which].buckets;
    *steps = 0;
    if (!buckets)
        return FST_NONE;
    return same_hash(a, which, followed(a, which, *bucket_at(a, which, bucket_of(buckets, hash))), hash, steps);
}

uint32_t fst_names_next(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t *steps)
{
    const struct fst_name_link *link = link_of(a, which, index);
    return same_hash(a, which, followed(a, which, link->next), link->hash, steps);
}

/* ---- changing ---- */

static void push(struct fst_arena *a, enum fst_names which, uint32_t bucket, uint32_t index)
{
    uint32_t *head = bucket_at(a, which, bucket);
    fst_store_relaxed(&link_of(a, which, index)->next, *head);
    fst_store_relaxed(head, index + 1);
}

/* Add a bucket: descriptors that belong there move from the bucket that is split. */
static void split(struct fst_arena *a, enum fst_names which)
{
    struct fst_buckets *b = &a->sb->buckets[which];
    uint32_t bucket = b->buckets, most = top_of(a, which), n = 0;
    fst_store_relaxed(bucket_at(a, which, bucket), 0);
    fst_store_relaxed(&b->buckets, bucket + 1);
    if (!bucket)
        return;
    uint32_t *from = bucket_at(a, which, bucket_of(bucket, bucket));
    uint32_t index = followed(a, which, *from);
    fst_store_relaxed(from, 0);
    for (uint32_t next; index != FST_NONE && n++ <= most; index = next) {
        next = followed(a, which, link_of(a, which, index)->next);
        push(a, which, bucket_of(bucket + 1, link_of(a, which, index)->hash), index);
    }
}

void fst_names_add(struct fst_arena *a, enum fst_names which, uint32_t index, uint32_t hash)
{
    struct fst_buckets *b = &a->sb->buckets[which];
    if (b->entries >= b->buckets && fst_names_room(a, which, (uint64_t)b->buckets + 1))
        split(a, which);
    fst_store_relaxed(&link_of(a, which, index)->hash, hash);
    push(a, which, bucket_of(b->buckets, hash), index);
    fst_store_relaxed(&b->entries, b->entries + 1);
}

void fst_names_remove(struct fst_arena *a, enum fst_names which, uint32_t index)
{
    struct fst_buckets *b = &a->sb->buckets[which];
    struct fst_name_link *link = link_of(a, which, index);
    if (!b->buckets)
        return;
    uint32_t *at = bucket_at(a, which, bucket_of(b->buckets, link->hash)), n = 0;
    while (*at != index + 1) {
        uint32_t i = followed(a, which, *at);
        if (i == FST_NONE || n++ > top_of(a, which))
            return;
        at = &link_of(a, which, i)->next;
    }
    fst_store_relaxed(at, link->next);
    fst_store_relaxed(&b->entries, b->entries - 1);
}

void fst_names_clear(struct fst_arena *a, enum fst_names which)
{
    fst_store_relaxed(&a->sb->buckets[which].buckets, 0);
    fst_store_relaxed(&a->sb->buckets[which].entries, 0);
}

bool fst_names_room(const struct fst_arena *a, enum fst_names which, uint64_t descriptors)
{
    enum fst_table_kind kind = table_of(which);
    const struct fst_table *t = &a->known.tables[kind];
    return descriptors <= t->count && descriptors * t->size <= fst_load_acquire(&a->sb->tables[kind].committed);
}

int fst_names_grow(struct fst_arena *a, enum fst_names which, uint64_t descriptors)
{
    return fst_table_commit(a, table_of(which), descriptors);
}
