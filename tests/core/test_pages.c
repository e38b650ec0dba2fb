/* Free pages against a plain bitmap: random runs, alignments, capacities that end inside an
 * extent or a zone. */
#include "alloc/run.h"
#include "platform/mapping.h"
#include "region/pages.h"
#include "support.h"

#define MAX_RUNS 512

struct model {
    fst_arena *a;
    uint8_t *taken; /* one for each page of the capacity */
    uint64_t used;
    struct {
        uint64_t page, pages;
    } run[MAX_RUNS];
    size_t runs;
    uint64_t random;
};

static uint64_t usable_pages(const struct model *m)
{
    uint64_t pages = (uint64_t)m->a->sb->zones * FST_ZONE_PAGES;
    return pages < m->a->capacity_pages ? pages : m->a->capacity_pages;
}

static bool is_free(const struct model *m, uint64_t page, uint64_t pages)
{
    if (page + pages > usable_pages(m))
        return false;
    for (uint64_t p = page; p < page + pages; p++)
        if (m->taken[p])
            return false;
    return true;
}

static void mark(struct model *m, uint64_t page, uint64_t pages, uint8_t value)
{
    memset(m->taken + page, value, pages);
    m->used += value ? pages : -pages;
}

static uint64_t power_up(uint64_t n)
{
    uint64_t p = 1;
    while (p < n)
        p *= 2;
    return p;
}

/* Is there a place for such a run, as pages.h says where runs lie? */
static bool fits(const struct model *m, uint64_t pages, uint32_t align_order)
{
    uint64_t block = power_up(pages), step = 1ull << align_order;
    bool small = block <= FST_EXTENT_PAGES && step <= FST_EXTENT_PAGES;
    if (small) {
        block = block > step ? block : step;
        step = block;
    } else {
        block = (pages + FST_EXTENT_PAGES - 1) / FST_EXTENT_PAGES * FST_EXTENT_PAGES;
        step = step > FST_EXTENT_PAGES ? step : FST_EXTENT_PAGES;
    }
    for (uint64_t page = 0; page < usable_pages(m); page += step)
        if (is_free(m, page, block))
            return true;
    return false;
}

static void compare(const struct model *m)
{
    uint64_t wrong = 0;
    for (uint64_t p = 0; p < usable_pages(m); p++) {
        const struct fst_zone *z = fst_zone_at(m->a, (uint32_t)(p / FST_ZONE_PAGES));
        bool free_there = z->free[p / FST_EXTENT_PAGES % FST_ZONE_EXTENTS] >> (p % FST_EXTENT_PAGES) & 1;
        wrong += free_there == !!m->taken[p];
    }
    CHECK_EQ(0, wrong);
    CHECK_EQ(m->used, m->a->sb->used_pages);
}

static void remember(struct model *m, uint64_t page, uint64_t pages)
{
    mark(m, page, pages, 1);
    m->run[m->runs].page = page;
    m->run[m->runs++].pages = pages;
}

static void take(struct model *m, uint64_t pages, uint32_t align_order)
{
    uint32_t page = fst_pages_reserve(m->a, pages, align_order);
    if (page == FST_NONE) {
        if (fits(m, pages, align_order))
            TEST_FAIL("%llu pages aligned to 2^%u fit, and were refused", (unsigned long long)pages, align_order);
        return;
    }
    if (page % (1ull << align_order))
        TEST_FAIL("page %u is not aligned to 2^%u", page, align_order);
    if (!is_free(m, page, pages))
        TEST_FAIL("pages %u+%llu are taken, or outside", page, (unsigned long long)pages);
    else
        remember(m, page, pages);
}

static void take_at(struct model *m)
{
    uint64_t page = next_random(&m->random) % usable_pages(m), pages = 1 + next_random(&m->random) % 200;
    if (page + pages > usable_pages(m))
        pages = usable_pages(m) - page;
    bool expected = is_free(m, page, pages), got = fst_pages_reserve_at(m->a, page, pages);
    CHECK_EQ(expected, got);
    if (got)
        remember(m, page, pages);
}

static void give(struct model *m)
{
    size_t i = next_random(&m->random) % m->runs;
    fst_pages_give(m->a, m->run[i].page, m->run[i].pages);
    mark(m, m->run[i].page, m->run[i].pages, 0);
    m->run[i] = m->run[--m->runs];
}

/* Small runs are the most frequent, some span zones. */
static uint64_t some_length(struct model *m)
{
    uint64_t kind = next_random(&m->random) % 10, n = next_random(&m->random);
    return kind < 6 ? 1 + n % 32 : kind < 9 ? 1 + n % 300 : 1 + n % 6000;
}

static uint32_t some_alignment(struct model *m)
{
    uint64_t kind = next_random(&m->random) % 4;
    return kind ? 0 : (uint32_t)(next_random(&m->random) % 10);
}

static void extend(struct model *m)
{
    int zones = fst_pages_grow(m->a, 1, 0);
    if (zones > 0)
        fst_pages_extend(m->a, (uint32_t)zones);
}

/* What a rebuild does: forget, then take every run again where it is. */
static void rebuild(struct model *m)
{
    fst_pages_reset(m->a);
    CHECK_EQ(0, m->a->sb->used_pages);
    for (size_t i = 0; i < m->runs; i++)
        CHECK(fst_pages_reserve_at(m->a, m->run[i].page, m->run[i].pages));
    compare(m);
}

static void random_operations(uint64_t capacity_pages, uint64_t seed)
{
    struct model m = {.a = anonymous(capacity_pages << FST_PAGE_SHIFT), .random = seed};
    m.taken = calloc(1, m.a->capacity_pages);
    CHECK(fst_run_lock(m.a));
    extend(&m);
    for (int i = 0; i < 6000 && !atomic_load(&test_failures); i++) {
        uint64_t kind = next_random(&m.random) % 100;
        /* Fill and empty in turns, so that both ends are reached. */
        bool filling = i / 500 % 2 == 0;
        if (m.runs && (m.runs == MAX_RUNS || kind < (filling ? 30u : 65u)))
            give(&m);
        else if (kind < 90)
            take(&m, some_length(&m), some_alignment(&m));
        else if (kind < 97)
            take_at(&m);
        else if (kind < 98)
            rebuild(&m);
        else
            extend(&m);
        if (i % 100 == 0)
            compare(&m);
    }
    while (m.runs)
        give(&m);
    compare(&m);
    CHECK_EQ(0, m.used);
    fst_run_unlock(m.a);
    CHECK_CLEAN(m.a);
    fst_arena_unref(m.a);
    free(m.taken);
}

static void one_page(void)
{
    random_operations(1, 1);
}

static void less_than_an_extent(void)
{
    random_operations(37, 2);
}

static void inside_a_zone(void)
{
    random_operations(FST_ZONE_PAGES - 100, 3);
}

static void several_zones_and_a_bit(void)
{
    for (uint64_t seed = 4; seed < 8; seed++)
        random_operations(3 * FST_ZONE_PAGES + 2 * FST_EXTENT_PAGES + 5, seed);
}

/* Runs longer than a zone, at the alignment of their neighbours' ends. */
static void long_runs(void)
{
    struct model m = {.a = anonymous(10ull * FST_ZONE_PAGES << FST_PAGE_SHIFT), .random = 9};
    m.taken = calloc(1, m.a->capacity_pages);
    CHECK(fst_run_lock(m.a));
    while (m.a->sb->zones < 10)
        extend(&m);
    take(&m, 5 * FST_ZONE_PAGES + 1, 0);
    take(&m, 2 * FST_ZONE_PAGES, 12);
    /* refused: 10 - 5 - 2 zones, less the extent that the first run has begun */
    take(&m, 3 * FST_ZONE_PAGES, 0);
    take(&m, 2 * FST_ZONE_PAGES - 1, 9);
    compare(&m);
    while (m.runs)
        give(&m);
    take(&m, 10ull * FST_ZONE_PAGES, 0);
    CHECK_EQ(1, m.runs);
    give(&m);
    compare(&m);
    fst_run_unlock(m.a);
    fst_arena_unref(m.a);
    free(m.taken);
}

/* Two processes that see the pages run out at once: the zone that one brings into use serves the
 * other too, whatever the order. */
static void grow_race(void)
{
    for (int round = 0; round < 20 && !atomic_load(&test_failures); round++) {
        fst_arena *a = anonymous(6 * 16 * MIB);
        pid_t pid[2];
        for (int i = 0; i < 2; i++) {
            pid[i] = fork();
            REQUIRE(pid[i] >= 0);
            if (pid[i] == 0) {
                for (int k = 0; k < 40; k++)
                    alloc_bytes(a, MIB); /* 80 MiB of 96, in runs that cannot be fragmented */
                CHILD_EXIT();
            }
        }
        for (int i = 0; i < 2; i++)
            CHECK_CHILD(pid[i]);
        fst_arena_unref(a);
    }
}

/* kB of the process's mappings that huge pages of a tmpfs are mapped in. */
static unsigned long mapped_huge(void)
{
    char line[256];
    unsigned long all = 0, kb;
    FILE *f = fopen("/proc/self/smaps", "re");
    REQUIRE(f != NULL);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "ShmemPmdMapped: %lu", &kb) == 1)
            all += kb;
    fclose(f);
    return all;
}

/* Can this system make a huge page of a tmpfs's memory on request? */
static bool can_collapse(void)
{
    int fd = memfd_create("huge pages", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && ftruncate(fd, 2 * MIB) == 0);
    void *base = fst_map_aligned(fd, 0, 2 * MIB, 2 * MIB, true, false);
    REQUIRE(base != NULL);
    memset(base, 1, 2 * MIB);
    fst_collapse(base, 2 * MIB);
    bool can = mapped_huge() > 0;
    fst_unmap(base, 2 * MIB);
    close(fd);
    return can;
}

/* Huge pages are made of what is committed as a whole, keep what is in it, and can be given back
 * in pieces. */
static void huge_pages(void)
{
    if (!can_collapse()) {
        SKIP("this kernel makes no huge pages of a tmpfs on request");
        return;
    }
    for (int huge = 0; huge < 2; huge++) {
        fst_arena *a = NULL;
        struct fst_open_options o = {.capacity = 31 * MIB, .create = FST_CREATE_NEW, .mode = 0600, .huge_pages = huge};
        REQUIRE(fst_arena_open(&o, &a) == FST_OK);
        struct fst_ref refs[28], all;
        /* a MiB each: the second half of a huge page is committed after the first is filled */
        for (int i = 0; i < 28; i++) {
            refs[i] = alloc_bytes(a, MIB);
            fill(refs[i].data, MIB, (uint64_t)i);
        }
        CHECK_EQ(huge, mapped_huge() > 0);
        for (int i = 0; i < 28; i++)
            CHECK(filled(refs[i].data, MIB, (uint64_t)i));
        for (int i = 0; i < 28; i += 2)
            fst_drop(a, &refs[i]);
        uint64_t bytes;
        CHECK_EQ(FST_OK, fst_shrink(a, 5000000000u, &bytes));
        CHECK(bytes >= 14 * MIB);
        for (int i = 1; i < 28; i += 2) {
            CHECK(filled(refs[i].data, MIB, (uint64_t)i));
            fst_drop(a, &refs[i]);
        }
        all = alloc_bytes(a, 31 * MIB); /* up to the last, incomplete, huge page */
        fill(all.data, 31 * MIB, 77);
        CHECK(filled(all.data, 31 * MIB, 77));
        fst_drop(a, &all);
        CHECK_CLEAN(a);
        fst_arena_unref(a);
    }
}

static char said[256];

static void hear(void *context, const char *text)
{
    (void)context;
    snprintf(said, sizeof said, "%s", text);
}

static struct fst_slab *slab_of(fst_arena *a, const struct fst_ref *ref)
{
    return fst_slab_at(a, fst_oid_slab(ref->oid));
}

/* check() names the page that is wrong, wherever it lies in its extent. */
static void what_check_finds(void)
{
    static const uint64_t sizes[] = {1, 63, 64, 65, 130, 200};
    enum { N = sizeof sizes / sizeof *sizes };
    struct fst_ref refs[N];
    char expected[256];
    fst_arena *a = anonymous(4 * MIB - 3 * FST_PAGE); /* which ends inside an extent */
    for (int i = 0; i < N; i++)
        refs[i] = alloc_bytes(a, sizes[i] * FST_PAGE);
    CHECK_CLEAN(a);
    for (uint64_t page = 0; page < a->capacity_pages; page++) {
        uint64_t *bits = &fst_zone_at(a, 0)->free[page / FST_EXTENT_PAGES];
        *bits ^= 1ull << page % FST_EXTENT_PAGES;
        CHECK_EQ(1, fst_check(a, hear, NULL));
        snprintf(expected, sizeof expected, "1 page is free and owned, or neither; the first is %llu", (unsigned long long)page);
        CHECK(strcmp(said, expected) == 0);
        *bits ^= 1ull << page % FST_EXTENT_PAGES;
    }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++) {
            struct fst_slab *one = slab_of(a, &refs[i]), *other = slab_of(a, &refs[k]);
            uint32_t page = one->page;
            if (i == k)
                continue;
            one->page = other->page + other->pages - 1; /* their last is its first */
            CHECK(fst_check(a, hear, NULL) > 0);
            CHECK(strstr(said, "belongs to another slab too") || strstr(said, "not in the arena"));
            one->page = page;
        }
    CHECK_CLEAN(a);
    for (int i = 0; i < N; i++)
        fst_drop(a, &refs[i]);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(what_check_finds), CASE(huge_pages), CASE(one_page), CASE(less_than_an_extent), CASE(inside_a_zone),
          CASE(several_zones_and_a_bit), CASE(long_runs), CASE(grow_race))
