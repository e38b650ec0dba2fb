/* groups.h - an arena with a cache, for tests of groups, and what these ask of a group. */
#ifndef FST_TEST_GROUPS_H
#define FST_TEST_GROUPS_H

#include "support.h"

static fst_arena *a;
static uint64_t cache; /* of pages */

HELPER void set_up(void)
{
    a = anonymous(64 * MIB);
    cache = make_cache(a, "c", 4096, 0);
}

HELPER void tear_down(void)
{
    settle(a);
    CHECK_EQ(1, state_of(a).groups);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

HELPER struct fst_group_info info_of(uint64_t group)
{
    struct fst_group_info info = {0};
    if (fst_group_get_info(a, group, &info))
        info.state = 0;
    return info;
}

HELPER uint64_t usage(uint64_t group)
{
    return info_of(group).usage;
}

HELPER bool group_ended(uint64_t group)
{
    struct fst_group_info info;
    return fst_group_get_info(a, group, &info) != FST_OK || info.state == FST_GROUP_DESTROYED;
}

#endif
