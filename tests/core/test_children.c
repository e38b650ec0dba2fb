/* Walks over the children of a cache that take names_lock a lot at a time, while children go and
 * come. No reaper thread runs, so that each batch is one of the test's. */
#include "alloc/children.h"
#include "reclaim/reaper.h"
#include "support.h"

#define MS     1000000ull
#define GROUPS (2 * FST_CHILDREN_LOT + 50)

static fst_arena *a;
static uint64_t cache, groups[GROUPS];
static uint32_t children[GROUPS], met[4 * GROUPS];

static void set_up(void)
{
    a = anonymous(64 * MIB);
    fst_reaper_stop(a, true);
    cache = make_cache(a, "children", 64, 0);
    for (uint32_t i = 0; i < GROUPS; i++) {
        groups[i] = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
        children[i] = (uint32_t)child_of(a, cache, groups[i]);
    }
    memset(met, 0, sizeof met);
}

static void tear_down(void)
{
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static uint32_t lot(struct fst_children *w)
{
    uint32_t ids[FST_CHILDREN_LOT], n = fst_children_lot(w, ids);
    for (uint32_t i = 0; i < n; i++)
        met[ids[i]]++;
    return n;
}

static void release(uint32_t i)
{
    REQUIRE(fst_group_destroy(a, groups[i]) == FST_OK);
    REQUIRE(fst_barrier(a, 10000 * MS) == FST_OK);
}

static uint32_t number_of(uint32_t child)
{
    uint32_t i = 0;
    while (i < GROUPS && children[i] != child)
        i++;
    REQUIRE(i < GROUPS);
    return i;
}

static void meets_each_child_once_where_nothing_goes(void)
{
    set_up();
    struct fst_children w = fst_children_of_cache(a, (uint32_t)cache);
    while (lot(&w)) {
    }
    CHECK(!w.restarted);
    for (uint32_t i = 0; i < GROUPS; i++)
        CHECK_EQ(1, met[children[i]]);
    tear_down();
}

static void misses_no_child_that_stays_when_the_next_one_goes(void)
{
    set_up();
    struct fst_children w = fst_children_of_cache(a, (uint32_t)cache);
    CHECK_EQ(FST_CHILDREN_LOT, lot(&w));
    uint32_t gone = number_of(w.at);
    release(gone);
    while (lot(&w)) {
    }
    CHECK(w.restarted);
    for (uint32_t i = 0; i < GROUPS; i++)
        CHECK(met[children[i]] >= (i != gone));
    tear_down();
}

static void misses_no_child_that_stays_when_the_next_one_begins_another_life(void)
{
    set_up();
    struct fst_children w = fst_children_of_cache(a, (uint32_t)cache);
    CHECK_EQ(FST_CHILDREN_LOT, lot(&w));
    uint32_t gone = number_of(w.at);
    uint64_t other = make_cache(a, "others", 128, 0);
    release(gone);
    groups[gone] = make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
    /* the descriptor is used again */
    CHECK_EQ(children[gone], (uint32_t)child_of(a, other, groups[gone]));
    while (lot(&w)) {
    }
    for (uint32_t i = 0; i < GROUPS; i++)
        CHECK(met[children[i]] == 0 || i != gone);
    for (uint32_t i = 0; i < GROUPS; i++)
        CHECK(met[children[i]] >= (i != gone));
    tear_down();
}

static void counts_no_child_twice_in_what_people_see(void)
{
    set_up();
    struct fst_cache_info info;
    REQUIRE(fst_cache_get_info(a, cache, &info) == FST_OK);
    CHECK_EQ(GROUPS, info.children);
    tear_down();
}

TEST_MAIN(CASE(meets_each_child_once_where_nothing_goes), CASE(misses_no_child_that_stays_when_the_next_one_goes),
          CASE(misses_no_child_that_stays_when_the_next_one_begins_another_life), CASE(counts_no_child_twice_in_what_people_see))
