#include "region/superblock.h"

#include <layout_text.h> /* made by the build: tools/layout_text.py */
#include <string.h>
#include <time.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "region/forms.h"
#include "region/rings.h"
#include "region/stores.h"

/* FNV-1a with 64 bits (Fowler, Noll, Vo). It finds damage and tells layouts apart, and does not
 * withstand malice. */
static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}
#define HASH_START 0xcbf29ce484222325ull

/* A fingerprint of every declaration of what lies in shared memory, as text, with each field and
 * each state's number (tools/layout_text.py), and of what the compiler made of it. */
uint64_t fst_layout_fingerprint(void)
{
    static const uint64_t facts[] = {
        FST_LAYOUT_TEXT,
        FST_LAYOUT_VERSION,
        sizeof(struct fst_superblock),
        sizeof(struct fst_table),
        sizeof(struct fst_batch_record),
        sizeof(struct fst_inflight),
        sizeof(struct fst_zone),
        sizeof(struct fst_slab),
        sizeof(struct fst_cache),
        sizeof(struct fst_child),
        sizeof(struct fst_group),
        sizeof(struct fst_cgroup),
        sizeof(struct fst_process),
        sizeof(struct fst_burial),
        sizeof(struct fst_thread_slot),
        sizeof(struct fst_store),
        sizeof(struct fst_item),
        sizeof(struct fst_form),
        offsetof(struct fst_superblock, process_top),
    };
    return hash(HASH_START, facts, sizeof facts);
}

uint64_t fst_superblock_checksum(const struct fst_superblock *sb)
{
    uint64_t h = hash(HASH_START, sb, offsetof(struct fst_superblock, tables));
    for (int k = 0; k < FST_T_COUNT; k++)
        h = hash(h, &sb->tables[k], offsetof(struct fst_table, committed));
    return h;
}

static uint64_t page_up(uint64_t bytes)
{
    return (bytes + FST_PAGE - 1) & ~(uint64_t)(FST_PAGE - 1);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many descriptors there are for this capacity, with one for so many bytes of it: a power of
 * two between the least and the most, because the number of buckets in a table of names is one. A
 * small arena has fewer, because they count for its processes' limits on address space and on the
 * size of files. */
static uint64_t one_for(uint64_t bytes, uint64_t pages, uint64_t least, uint64_t most)
{
    uint64_t count = least;
    while (count < most && count * bytes < pages << FST_PAGE_SHIFT)
        count *= 2;
    return count;
}

static void shape_tables(struct fst_superblock *sb, uint64_t pages)
{
    uint64_t groups = one_for(FST_BYTES_FOR_GROUP, pages, FST_MIN_GROUPS, FST_MAX_GROUPS),
             caches = one_for(FST_BYTES_FOR_CACHE, pages, FST_MIN_CACHES, FST_MAX_CACHES);
    /* A process needs an entry for each object that it uses. */
    uint64_t entries = one_for(FST_BYTES_FOR_ENTRY, pages, FST_MIN_ENTRIES, FST_MAX_ENTRIES);
    uint64_t zones = (pages + FST_ZONE_PAGES - 1) / FST_ZONE_PAGES;
    struct {
        uint64_t count;
        uint32_t size;
    } shape[FST_T_COUNT] = {
        [FST_T_PROCESS] = {FST_MAX_PROCESSES, sizeof(struct fst_process)},
        [FST_T_THREAD] = {FST_MAX_THREADS, sizeof(struct fst_thread_slot)},
        [FST_T_ENTRY] = {FST_MAX_PROCESSES * entries, sizeof(uint64_t)},
        [FST_T_INFLIGHT] = {one_for(FST_BYTES_FOR_INFLIGHT, pages, FST_MIN_INFLIGHT, FST_MAX_INFLIGHT),
                            sizeof(struct fst_inflight)},
        [FST_T_CACHE] = {caches, sizeof(struct fst_cache)},
        [FST_T_CHILD] = {groups, sizeof(struct fst_child)},
        [FST_T_GROUP] = {groups, sizeof(struct fst_group)},
        [FST_T_CACHE_NAMES] = {caches, sizeof(uint32_t)},
        [FST_T_CACHE_SHAPES] = {caches, sizeof(uint32_t)},
        [FST_T_GROUP_NAMES] = {groups, sizeof(uint32_t)},
        [FST_T_CGROUP] = {one_for(FST_BYTES_FOR_CGROUP, pages, FST_MIN_CGROUPS, FST_MAX_CGROUPS), sizeof(struct fst_cgroup)},
        [FST_T_BURIAL] = {FST_MAX_BURIALS, sizeof(struct fst_burial)},
        [FST_T_CHANNEL] = {FST_MAX_CHANNELS, sizeof(struct fst_channel)},
        [FST_T_STORE] = {one_for(FST_BYTES_FOR_STORE, pages, FST_MIN_STORES, FST_MAX_STORES), sizeof(struct fst_store)},
        [FST_T_FORM] = {FST_MAX_FORMS, sizeof(struct fst_form)},
        [FST_T_FORM_NAMES] = {FST_FORM_BUCKETS, sizeof(uint32_t)},
        [FST_T_ZONE] = {zones, sizeof(struct fst_zone)},
        [FST_T_ZONE_SUMMARY] = {FST_ZONE_CLASSES * ((zones + 63) / 64), sizeof(uint64_t)},
    };
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        /* There is one more than can own a page, because a descriptor is chosen before its pages
         * are. Slabs of two to eight objects have eleven pages at least (alloc/shape.c). */
        shape[FST_T_SLAB + class].count = min64((class == 1 ? pages / 8 : pages) + 1, 1u << 24);
        shape[FST_T_SLAB + class].size = fst_slab_bytes(class);
    }
    /* A store's values are objects, most of them larger than FST_BYTES_FOR_ITEM. */
    uint64_t items = min64(FST_MAX_ITEMS, FST_MIN_ITEMS + FST_PAGE / FST_BYTES_FOR_ITEM * pages);
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++) {
        shape[FST_T_ITEM + class].count = shape[FST_T_HOLD + class].count = items;
        shape[FST_T_ITEM + class].size = fst_item_class_bytes[class];
        shape[FST_T_HOLD + class].size = sizeof(uint64_t);
    }
    /* An index is never more than half full, and there are two while one is moved. */
    shape[FST_T_SLOT].count = min64(FST_MAX_SLOTS, 8 * items);
    shape[FST_T_SLOT].size = sizeof(uint64_t);
    uint64_t offset = FST_PAGE;
    for (int k = 0; k < FST_T_COUNT; k++) {
        sb->tables[k].offset = offset;
        sb->tables[k].count = shape[k].count;
        sb->tables[k].size = shape[k].size;
        if (k != FST_T_ENTRY)
            offset += page_up(shape[k].count * shape[k].size);
    }
    sb->control_size = offset;
    /* aligned for huge pages as well */
    sb->data_offset = (offset + FST_ALIGN_MAX - 1) & ~(uint64_t)(FST_ALIGN_MAX - 1);
    sb->tables[FST_T_ENTRY].offset = sb->data_offset + (pages << FST_PAGE_SHIFT);
}

void fst_superblock_format(struct fst_superblock *sb, uint64_t capacity, uint32_t flags, const uint8_t uuid[16])
{
    memset(sb, 0, sizeof *sb);
    sb->magic = FST_MAGIC;
    sb->fingerprint = fst_layout_fingerprint();
    memcpy(sb->uuid, uuid, 16);
    sb->version = FST_LAYOUT_VERSION;
    sb->flags = flags;
    sb->capacity = capacity;
    sb->created_at = (uint64_t)time(NULL);
    shape_tables(sb, capacity >> FST_PAGE_SHIFT);
    sb->checksum = fst_superblock_checksum(sb);
    sb->gp_seq = 1; /* 0 in a thread slot means "in no section" */
    sb->state = FST_ARENA_READY;
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        sb->slab_free[class] = FST_NONE;
    sb->ended_head = sb->ended_tail = sb->ended_caches = FST_NONE;
    sb->expire_at = sb->item_expires_at = UINT64_MAX;
    sb->cache_free = sb->child_free = sb->group_free = FST_NONE;
}

static uint64_t entry_bytes(const struct fst_superblock *sb)
{
    return sb->tables[FST_T_ENTRY].count / FST_MAX_PROCESSES * sizeof(uint64_t);
}

uint64_t fst_superblock_file_size(const struct fst_superblock *sb, uint32_t processes)
{
    return sb->tables[FST_T_ENTRY].offset + processes * entry_bytes(sb);
}

/* Has the file the whole tables of references of all slots that were ever used, and ends it behind
 * one of them? It grows before the bound is raised. */
static bool has_size(const struct fst_superblock *sb, uint64_t file_size)
{
    uint64_t least = fst_superblock_file_size(sb, fst_load_relaxed(&sb->process_top));
    return file_size >= least && file_size <= fst_superblock_file_size(sb, FST_MAX_PROCESSES) &&
           (file_size - least) % entry_bytes(sb) == 0;
}

/* Does the constant part lay out the file as this build does for this capacity? The checksum proves
 * nothing, because anybody can compute one. */
static bool shaped(const struct fst_superblock *sb, struct fst_superblock *expect)
{
    if (sb->capacity == 0 || sb->capacity > FST_MAX_CAPACITY || sb->capacity % FST_PAGE)
        return false;
    memset(expect, 0, sizeof *expect);
    shape_tables(expect, sb->capacity >> FST_PAGE_SHIFT);
    for (int k = 0; k < FST_T_COUNT; k++)
        if (memcmp(&sb->tables[k], &expect->tables[k], offsetof(struct fst_table, committed)) != 0)
            return false;
    return sb->control_size == expect->control_size && sb->data_offset == expect->data_offset;
}

int fst_superblock_validate(const struct fst_superblock *sb, uint64_t file_size, const char *name)
{
    if (file_size < sizeof *sb || sb->magic != FST_MAGIC) {
        if (file_size >= sizeof *sb && sb->magic == __builtin_bswap64(FST_MAGIC))
            return fst_fail(FST_LAYOUT, "%s is an arena of a machine with another byte order", name);
        return fst_fail(FST_LAYOUT, "%s is not a Flagstone arena (%s, no magic number)", name, fst_exact(file_size));
    }
    if (sb->fingerprint != fst_layout_fingerprint())
        return fst_fail(FST_LAYOUT,
                        "%s was made by a Flagstone with layout version %u, fingerprint %016llx; this one has version %u, "
                        "fingerprint %016llx: end the processes that use it and remove it, or use the same version everywhere",
                        name, sb->version, (unsigned long long)sb->fingerprint, FST_LAYOUT_VERSION,
                        (unsigned long long)fst_layout_fingerprint());
    if (sb->checksum != fst_superblock_checksum(sb))
        return fst_fail(FST_CORRUPTED, "%s: the superblock's constant part was overwritten (checksum)", name);
    struct fst_superblock expect;
    if (!shaped(sb, &expect))
        return fst_fail(FST_CORRUPTED, "%s: the superblock's constant part makes no sense", name);
    if (sb->state != FST_ARENA_READY && sb->state != FST_ARENA_REMOVED)
        return fst_fail(FST_CORRUPTED, "%s: state %llu is none", name, (unsigned long long)sb->state);
    for (int k = 0; k < FST_T_COUNT; k++) {
        uint64_t bytes = page_up(expect.tables[k].count * expect.tables[k].size);
        if (k != FST_T_ENTRY && fst_load_relaxed(&sb->tables[k].committed) > bytes)
            return fst_fail(FST_CORRUPTED, "%s: table %d claims more than it has", name, k);
    }
    const struct fst_table *t = expect.tables;
    bool bounds =
        fst_load_relaxed(&sb->process_top) <= FST_MAX_PROCESSES && fst_load_relaxed(&sb->thread_top) <= FST_MAX_THREADS &&
        fst_load_relaxed(&sb->inflight_top) <= t[FST_T_INFLIGHT].count &&
        fst_load_relaxed(&sb->cache_top) <= t[FST_T_CACHE].count && fst_load_relaxed(&sb->child_top) <= t[FST_T_CHILD].count &&
        fst_load_relaxed(&sb->group_top) <= t[FST_T_GROUP].count && fst_load_relaxed(&sb->cgroup_top) <= t[FST_T_CGROUP].count &&
        fst_load_relaxed(&sb->channel_top) <= FST_MAX_CHANNELS && fst_load_relaxed(&sb->store_top) <= t[FST_T_STORE].count &&
        fst_load_relaxed(&sb->form_top) <= FST_MAX_FORMS && fst_load_relaxed(&sb->zones) <= expect.tables[FST_T_ZONE].count;
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        bounds = bounds && fst_load_relaxed(&sb->slab_top[class]) <= expect.tables[FST_T_SLAB + class].count;
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++)
        bounds = bounds && fst_load_relaxed(&sb->item_top[class]) <= expect.tables[FST_T_ITEM + class].count;
    if (!bounds)
        return fst_fail(FST_CORRUPTED, "%s: a bound in the superblock exceeds its table", name);
    if (!has_size(sb, file_size))
        return fst_fail(FST_CORRUPTED, "%s is %s long and should be %s: it was truncated or extended", name, fst_exact(file_size),
                        fst_exact(fst_superblock_file_size(sb, fst_load_relaxed(&sb->process_top))));
    return FST_OK;
}

/* Is there memory for all descriptors below the bound? The bound is raised after the memory is
 * there, so the memory is loaded after the bound. PAIR(bound) */
static bool committed(const struct fst_table *t, const uint32_t *top)
{
    uint64_t bytes = (uint64_t)fst_load_acquire(top) * t->size;
    return bytes <= fst_load_relaxed(&t->committed);
}

int fst_superblock_validate_bounds(const struct fst_superblock *sb, const char *name)
{
    struct {
        const uint32_t *top;
        int table;
    } bound[] = {
        {&sb->process_top, FST_T_PROCESS}, {&sb->thread_top, FST_T_THREAD}, {&sb->inflight_top, FST_T_INFLIGHT},
        {&sb->cache_top, FST_T_CACHE},     {&sb->child_top, FST_T_CHILD},   {&sb->group_top, FST_T_GROUP},
        {&sb->cgroup_top, FST_T_CGROUP},   {&sb->zones, FST_T_ZONE},        {&sb->channel_top, FST_T_CHANNEL},
        {&sb->store_top, FST_T_STORE},     {&sb->form_top, FST_T_FORM},
    };
    bool good = true;
    for (size_t i = 0; i < sizeof bound / sizeof *bound; i++)
        good = good && committed(&sb->tables[bound[i].table], bound[i].top);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        good = good && committed(&sb->tables[FST_T_SLAB + class], &sb->slab_top[class]);
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++)
        good = good && committed(&sb->tables[FST_T_ITEM + class], &sb->item_top[class]) &&
               committed(&sb->tables[FST_T_HOLD + class], &sb->item_top[class]);
    return good ? FST_OK : fst_fail(FST_CORRUPTED, "%s: a bound in the superblock exceeds the memory of its table", name);
}
