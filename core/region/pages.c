#include "region/pages.h"

#include <errno.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/mapping.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/table.h"

#define WHOLE    6u /* class of an extent that is wholly free */
#define NO_CLASS 7u

static uint64_t low_bits(uint64_t n)
{
    return n >= 64 ? UINT64_MAX : (1ull << n) - 1;
}

static uint32_t order_of(uint64_t pages)
{
    return pages <= 1 ? 0 : 64u - (uint32_t)__builtin_clzll(pages - 1);
}

/* The pages at which an aligned block of 2^order free pages begins, a bit each. */
static uint64_t blocks(uint64_t free, uint32_t order)
{
    static const uint64_t aligned[] = {0xffffffffffffffffull,
                                       0x5555555555555555ull,
                                       0x1111111111111111ull,
                                       0x0101010101010101ull,
                                       0x0001000100010001ull,
                                       0x0000000100000001ull,
                                       1ull};
    for (uint32_t k = 0; k < order; k++)
        free &= free >> (1u << k);
    return free & aligned[order];
}

static uint32_t class_of(uint64_t free)
{
    if (!free)
        return NO_CLASS;
    uint32_t order = 0;
    while (order < WHOLE && blocks(free, order + 1))
        order++;
    return order;
}

static uint64_t *summary(const struct fst_arena *a, uint32_t class)
{
    uint64_t words = a->known.tables[FST_T_ZONE_SUMMARY].count / FST_ZONE_CLASSES;
    return (uint64_t *)(void *)a->table[FST_T_ZONE_SUMMARY] + class * words;
}

static void set_class(struct fst_arena *a, uint32_t zone, uint32_t extent, uint64_t free)
{
    struct fst_zone *z = fst_zone_at(a, zone);
    uint64_t bit = 1ull << extent;
    uint32_t class = class_of(free);
    for (uint32_t k = 0; k < FST_ZONE_CLASSES; k++) {
        bool in = k == class;
        if (in == !!(z->classes[k] & bit))
            continue;
        fst_store_relaxed(&z->classes[k], z->classes[k] ^ bit);
        uint64_t *word = &summary(a, k)[zone / 64];
        uint64_t zone_bit = 1ull << (zone % 64);
        fst_store_relaxed(word, z->classes[k] ? *word | zone_bit : *word & ~zone_bit);
    }
}

static void set_free(struct fst_arena *a, uint64_t extent, uint64_t free)
{
    struct fst_zone *z = fst_zone_at(a, (uint32_t)(extent / FST_ZONE_EXTENTS));
    uint32_t e = (uint32_t)(extent % FST_ZONE_EXTENTS);
    fst_store_relaxed(&z->free[e], free);
    if (~free)
        fst_store_relaxed(&z->idle, z->idle & ~(1ull << e));
    set_class(a, (uint32_t)(extent / FST_ZONE_EXTENTS), e, free);
}

static uint64_t free_of(struct fst_arena *a, uint64_t extent)
{
    return fst_zone_at(a, (uint32_t)(extent / FST_ZONE_EXTENTS))->free[extent % FST_ZONE_EXTENTS];
}

/* The first zone at or after `from` that has an extent of the class, or FST_NONE. */
static uint32_t find_zone(struct fst_arena *a, uint32_t class, uint32_t from)
{
    const uint64_t *words = summary(a, class);
    uint32_t zones = fst_zones(a);
    for (uint32_t w = from / 64; w * 64 < zones; w++) {
        uint64_t bits = words[w];
        if (w == from / 64)
            bits &= ~low_bits(from % 64);
        if (!bits)
            continue;
        /* A bit may be set for a zone beyond the last one in use, when the process that was
         * bringing it into use was killed. fst_pages_extend will make every page of that zone
         * free. */
        uint32_t zone = w * 64 + (uint32_t)__builtin_ctzll(bits);
        return zone < zones ? zone : FST_NONE;
    }
    return FST_NONE;
}

static uint32_t reserve_small(struct fst_arena *a, uint64_t pages, uint32_t order)
{
    for (uint32_t class = order; class <= WHOLE; class ++) {
        uint32_t zone = find_zone(a, class, 0);
        if (zone == FST_NONE)
            continue;
        uint64_t of_class = fst_zone_at(a, zone)->classes[class];
        if (!of_class) {
            fst_damaged(a, "zone %u is said to have free pages of class %u, and has not", zone, class);
            return FST_NONE;
        }
        uint32_t e = (uint32_t)__builtin_ctzll(of_class);
        uint64_t extent = (uint64_t)zone * FST_ZONE_EXTENTS + e;
        uint64_t free = free_of(a, extent);
        if (!blocks(free, order)) {
            fst_damaged(a, "zone %u extent %u is said to have %s in a row, and has not", zone, e,
                        fst_many(1u << order, "free page", "free pages"));
            return FST_NONE;
        }
        uint32_t at = (uint32_t)__builtin_ctzll(blocks(free, order));
        set_free(a, extent, free & ~(low_bits(pages) << at));
        return (uint32_t)(extent * FST_EXTENT_PAGES + at);
    }
    return FST_NONE;
}

/* The first of `count` wholly free extents in a row that begin at a multiple of `align` extents, or
 * UINT64_MAX. */
static uint64_t find_whole(struct fst_arena *a, uint64_t count, uint64_t align)
{
    uint64_t start = UINT64_MAX, length = 0;
    uint32_t previous = FST_NONE;
    for (uint32_t zone = find_zone(a, WHOLE, 0); zone != FST_NONE; zone = find_zone(a, WHOLE, zone + 1)) {
        if (previous == FST_NONE || zone != previous + 1)
            length = 0;
        previous = zone;
        uint64_t whole = fst_zone_at(a, zone)->classes[WHOLE];
        if (whole == UINT64_MAX && length && length + FST_ZONE_EXTENTS < count) {
            length += FST_ZONE_EXTENTS;
            continue;
        }
        for (uint32_t e = 0; e < FST_ZONE_EXTENTS; e++) {
            uint64_t extent = (uint64_t)zone * FST_ZONE_EXTENTS + e;
            if (!(whole >> e & 1)) {
                length = 0;
                continue;
            }
            if (!length) {
                if (extent % align)
                    continue;
                start = extent;
            }
            if (++length >= count)
                return start;
        }
    }
    return UINT64_MAX;
}

static uint32_t reserve_large(struct fst_arena *a, uint64_t pages, uint32_t align_order)
{
    uint64_t align = align_order > 6 ? 1ull << (align_order - 6) : 1;
    uint64_t count = (pages + FST_EXTENT_PAGES - 1) / FST_EXTENT_PAGES;
    uint64_t first = find_whole(a, count, align);
    if (first == UINT64_MAX)
        return FST_NONE;
    for (uint64_t i = 0; i < count; i++)
        if (free_of(a, first + i) != UINT64_MAX) {
            fst_damaged(a, "extent %llu is said to be wholly free, and is not", (unsigned long long)(first + i));
            return FST_NONE;
        }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t rest = pages - i * FST_EXTENT_PAGES;
        set_free(a, first + i, rest >= FST_EXTENT_PAGES ? 0 : ~low_bits(rest));
    }
    return (uint32_t)(first * FST_EXTENT_PAGES);
}

uint32_t fst_pages_reserve(struct fst_arena *a, uint64_t pages, uint32_t align_order)
{
    uint32_t order = order_of(pages);
    if (order < align_order)
        order = align_order;
    uint32_t page = order <= WHOLE ? reserve_small(a, pages, order) : reserve_large(a, pages, align_order);
    if (page != FST_NONE)
        fst_store_relaxed(&a->sb->used_pages, a->sb->used_pages + pages);
    return page;
}

static uint64_t run_mask(uint64_t page, uint64_t pages, uint64_t extent)
{
    uint64_t start = extent * FST_EXTENT_PAGES;
    uint64_t from = page > start ? page - start : 0;
    uint64_t to = page + pages - start;
    return low_bits(to) & ~low_bits(from);
}

bool fst_pages_reserve_at(struct fst_arena *a, uint64_t page, uint64_t pages)
{
    uint64_t end = page + pages;
    if (!pages || end > a->capacity_pages || end > (uint64_t)fst_zones(a) * FST_ZONE_PAGES)
        return false;
    for (uint64_t e = page / FST_EXTENT_PAGES; e * FST_EXTENT_PAGES < end; e++) {
        uint64_t mask = run_mask(page, pages, e);
        if ((free_of(a, e) & mask) != mask)
            return false;
    }
    for (uint64_t e = page / FST_EXTENT_PAGES; e * FST_EXTENT_PAGES < end; e++)
        set_free(a, e, free_of(a, e) & ~run_mask(page, pages, e));
    fst_store_relaxed(&a->sb->used_pages, a->sb->used_pages + pages);
    return true;
}

bool fst_pages_owned(struct fst_arena *a, uint64_t page, uint64_t pages)
{
    uint64_t end = page + pages;
    if (!pages || end > a->capacity_pages || end > (uint64_t)fst_zones(a) * FST_ZONE_PAGES)
        return false;
    for (uint64_t e = page / FST_EXTENT_PAGES; e * FST_EXTENT_PAGES < end; e++)
        if (free_of(a, e) & run_mask(page, pages, e))
            return false;
    return true;
}

void fst_pages_give(struct fst_arena *a, uint64_t page, uint64_t pages)
{
    for (uint64_t e = page / FST_EXTENT_PAGES; e * FST_EXTENT_PAGES < page + pages; e++)
        set_free(a, e, free_of(a, e) | run_mask(page, pages, e));
    fst_store_relaxed(&a->sb->used_pages, a->sb->used_pages - pages);
}

static void reset_zone(struct fst_arena *a, uint32_t zone)
{
    struct fst_zone *z = fst_zone_at(a, zone);
    fst_store_relaxed(&z->idle, 0);
    for (uint32_t e = 0; e < FST_ZONE_EXTENTS; e++) {
        uint64_t page = ((uint64_t)zone * FST_ZONE_EXTENTS + e) * FST_EXTENT_PAGES;
        uint64_t free = page >= a->capacity_pages ? 0 : low_bits(a->capacity_pages - page);
        fst_store_relaxed(&z->free[e], free);
        set_class(a, zone, e, free);
    }
    /* set_class() changes only what differs from its own bitmap. A process that was killed in it
     * may have changed the bitmap and not the summary, so write the summary anew. */
    for (uint32_t k = 0; k < FST_ZONE_CLASSES; k++) {
        uint64_t *word = &summary(a, k)[zone / 64], bit = 1ull << (zone % 64);
        fst_store_relaxed(word, z->classes[k] ? *word | bit : *word & ~bit);
    }
}

uint32_t fst_pages_misfiled(struct fst_arena *a)
{
    for (uint32_t zone = 0; zone < fst_zones(a); zone++) {
        const struct fst_zone *z = fst_zone_at(a, zone);
        uint64_t expect[FST_ZONE_CLASSES + 1] = {0};
        for (uint32_t e = 0; e < FST_ZONE_EXTENTS; e++) {
            uint64_t page = ((uint64_t)zone * FST_ZONE_EXTENTS + e) * FST_EXTENT_PAGES;
            uint64_t there = page >= a->capacity_pages ? 0 : low_bits(a->capacity_pages - page);
            if (z->free[e] & ~there)
                return zone;
            expect[class_of(z->free[e])] |= 1ull << e;
        }
        for (uint32_t k = 0; k < FST_ZONE_CLASSES; k++)
            if (z->classes[k] != expect[k] || (summary(a, k)[zone / 64] >> (zone % 64) & 1) != (expect[k] != 0))
                return zone;
    }
    return FST_NONE;
}

void fst_pages_extend(struct fst_arena *a, uint32_t count)
{
    for (uint32_t zone = fst_zones(a); zone < count; zone++) {
        reset_zone(a, zone);
        fst_store_release(&a->sb->zones, zone + 1);
    }
}

void fst_pages_reset(struct fst_arena *a)
{
    for (uint32_t zone = 0; zone < fst_zones(a); zone++)
        reset_zone(a, zone);
    fst_store_relaxed(&a->sb->used_pages, 0);
}

int fst_pages_grow(struct fst_arena *a, uint64_t pages, uint32_t align_order)
{
    uint32_t have = fst_zones(a);
    uint64_t all = a->known.tables[FST_T_ZONE].count;
    uint64_t align = align_order > 12 ? 1ull << (align_order - 12) : 1;
    uint64_t want = (have + align - 1) / align * align + (pages + FST_ZONE_PAGES - 1) / FST_ZONE_PAGES;
    if (want > all)
        want = all;
    if (want <= have)
        return fst_fail(FST_FULL, "the capacity of %s has no %s in one piece left", fst_size(a->capacity_pages << FST_PAGE_SHIFT),
                        fst_size(pages << FST_PAGE_SHIFT));
    return fst_table_commit(a, FST_T_ZONE, want) == FST_OK ? (int)want : FST_FULL;
}

static bool is_committed(struct fst_arena *a, uint64_t extent)
{
    const struct fst_zone *z = fst_zone_at(a, (uint32_t)(extent / FST_ZONE_EXTENTS));
    return fst_load_acquire(&z->committed) >> (extent % FST_ZONE_EXTENTS) & 1;
}

static void mark_committed(struct fst_arena *a, uint64_t extent)
{
    uint64_t *word = &fst_zone_at(a, (uint32_t)(extent / FST_ZONE_EXTENTS))->committed;
    uint64_t seen = fst_load_relaxed(word);
    while (!fst_cas64(word, &seen, seen | 1ull << (extent % FST_ZONE_EXTENTS))) {
    }
}

#define HUGE_EXTENTS (FST_ALIGN_MAX / FST_PAGE / FST_EXTENT_PAGES)
static_assert(HUGE_EXTENTS == 8, "a byte of a zone's word");

/* After a commit of these extents, make huge pages of those whose other extents are committed, too.
 * This takes no more memory than was asked for, and giving extents back later splits the huge
 * page. */
static void collapse(struct fst_arena *a, uint64_t first, uint64_t end)
{
    if (!(a->known.flags & FST_ARENA_HUGE_PAGES))
        return;
    for (uint64_t e = first / HUGE_EXTENTS * HUGE_EXTENTS; e < end; e += HUGE_EXTENTS) {
        uint64_t committed = fst_load_acquire(&fst_zone_at(a, (uint32_t)(e / FST_ZONE_EXTENTS))->committed);
        if ((committed >> (e % FST_ZONE_EXTENTS) & 0xff) == 0xff && (e + HUGE_EXTENTS) * FST_EXTENT_PAGES <= a->capacity_pages)
            fst_collapse(a->data + e * FST_EXTENT_PAGES * FST_PAGE, FST_ALIGN_MAX);
    }
}

int fst_pages_commit(struct fst_arena *a, uint64_t page, uint64_t pages)
{
    uint64_t first = page / FST_EXTENT_PAGES, end = (page + pages + FST_EXTENT_PAGES - 1) / FST_EXTENT_PAGES;
    while (first < end && is_committed(a, first))
        first++;
    while (end > first && is_committed(a, end - 1))
        end--;
    if (first == end)
        return FST_OK;
    uint64_t from = first * FST_EXTENT_PAGES, to = end * FST_EXTENT_PAGES;
    if (to > a->capacity_pages)
        to = a->capacity_pages;
    int error = fst_file_commit(a, a->known.data_offset + (from << FST_PAGE_SHIFT), (to - from) << FST_PAGE_SHIFT);
    if (!error) {
        for (uint64_t e = first; e < end; e++)
            mark_committed(a, e);
        collapse(a, first, end);
        return FST_OK;
    }
    /* The file system has hardly any room left: commit only the run's own pages, and do not mark
     * the extents. */
    error = fst_file_commit(a, a->known.data_offset + (page << FST_PAGE_SHIFT), pages << FST_PAGE_SHIFT);
    if (error == ENOSPC || error == ENOMEM)
        return fst_fail_errno(FST_FULL, error, "%s has no room for %s more", fst_commit_refused_by(),
                              fst_exact(pages << FST_PAGE_SHIFT));
    return error ? fst_fail_errno(FST_OS, error, "cannot commit %s", fst_size(pages << FST_PAGE_SHIFT)) : FST_OK;
}

uint32_t fst_pages_reserve_idle(struct fst_arena *a, uint64_t *from, uint32_t max, bool idle_only)
{
    uint64_t end = (uint64_t)fst_zones(a) * FST_ZONE_EXTENTS;
    for (uint64_t e = *from; e < end; e++) {
        uint32_t count = 0;
        while (count < max && e + count < end && free_of(a, e + count) == UINT64_MAX && is_committed(a, e + count)) {
            struct fst_zone *z = fst_zone_at(a, (uint32_t)((e + count) / FST_ZONE_EXTENTS));
            uint64_t bit = 1ull << ((e + count) % FST_ZONE_EXTENTS);
            if (idle_only && !(z->idle & bit)) {
                fst_store_relaxed(&z->idle, z->idle | bit);
                break;
            }
            count++;
        }
        if (count) {
            *from = e;
            fst_pages_reserve_at(a, e * FST_EXTENT_PAGES, (uint64_t)count * FST_EXTENT_PAGES);
            return count;
        }
    }
    return 0;
}

void fst_pages_uncommitted(struct fst_arena *a, uint64_t extent, uint32_t count)
{
    for (uint64_t e = extent; e < extent + count; e++) {
        uint64_t *word = &fst_zone_at(a, (uint32_t)(e / FST_ZONE_EXTENTS))->committed;
        uint64_t seen = fst_load_relaxed(word);
        while (!fst_cas64(word, &seen, seen & ~(1ull << (e % FST_ZONE_EXTENTS)))) {
        }
    }
}
