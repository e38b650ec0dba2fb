/* inherited.h - an arena with a child cache and objects of it, which forked processes inherit. */
#ifndef FST_TEST_INHERITED_H
#define FST_TEST_INHERITED_H

#include "support.h"

static fst_arena *a;
static uint64_t child;
static struct fst_ref held[100];

HELPER void set_up(void)
{
    a = anonymous(64 * MIB);
    child = root_child(a, "c", 256, 0);
}

HELPER void tear_down(void)
{
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(1, state_of(a).processes);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

HELPER void check_held(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        CHECK(filled(held[i].data, 256, i));
}

HELPER void hold(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        held[i] = alloc_one(a, child);
        fill(held[i].data, 256, i);
    }
}

HELPER void drop_held(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        fst_drop(a, &held[i]);
}

#endif
