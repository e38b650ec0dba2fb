/* hot_paths.c - one hot path of the core, COUNT times: tools/hot-paths counts its instructions
 * under callgrind.
 *
 *   hot_paths PATH COUNT
 *
 * The difference between two counts of the same path is what the path costs, and the same again on
 * every run; the path "nothing" is the loop itself.
 */
#include <stdlib.h>

#include "support.h"

#define BULK 256

static fst_arena *a;
static uint64_t small, page, given;
static struct fst_handle handle;

static void nothing(void)
{
    __asm__ __volatile__("" ::: "memory");
}

static void pair(uint64_t child)
{
    struct fst_ref ref;
    CHECK_EQ(FST_OK, fst_alloc(a, child, &ref));
    fst_drop(a, &ref);
}

static void pair_small(void)
{
    pair(small);
}

static void pair_page(void)
{
    pair(page);
}

/* From a child whose objects go to other processes: its owners fence. */
static void pair_given(void)
{
    pair(given);
}

/* One of 256 pairs, so that slabs change. */
static void bulk(uint64_t child)
{
    static struct fst_ref refs[BULK];
    static int n;
    CHECK_EQ(FST_OK, fst_alloc(a, child, &refs[n++]));
    for (; n == BULK; n = 0)
        for (int i = 0; i < BULK; i++)
            fst_drop(a, &refs[i]);
}

static void bulk_small(void)
{
    bulk(small);
}

static void bulk_page(void)
{
    bulk(page);
}

static void section(void)
{
    CHECK_EQ(FST_OK, fst_read_lock(a));
    CHECK_EQ(FST_OK, fst_read_unlock(a));
}

/* Somebody holds it already, so that no batch is asked for. */
static void resolve(void)
{
    struct fst_ref ref;
    CHECK_EQ(FST_OK, fst_resolve(a, &handle, &ref));
    fst_drop(a, &ref);
}

static void message(void)
{
    struct fst_ref ref;
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_resolve(a, &handle, &ref));
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_take(a, &m, &ref));
    fst_drop(a, &ref);
}

static const struct {
    const char *name;
    void (*step)(void);
} paths[] = {
    {"nothing", nothing},       {"pair-64", pair_small}, {"pair-4096", pair_page},
    {"pair-given", pair_given}, {"bulk-64", bulk_small}, {"bulk-4096", bulk_page},
    {"section", section},       {"resolve", resolve},    {"message", message},
};

int main(int argc, char **argv)
{
    for (size_t p = 0; argc == 3 && p < sizeof paths / sizeof *paths; p++) {
        if (strcmp(argv[1], paths[p].name) != 0)
            continue;
        struct fst_ref held;
        a = anonymous(64 * MIB);
        small = root_child(a, "small", 64, 0);
        page = root_child(a, "page", 4096, 0);
        /* of another size, or it would be merged with "small" */
        given = root_child(a, "given", 128, 0);
        held = alloc_one(a, given);
        CHECK_EQ(FST_OK, fst_handle_of(a, &held, &handle));
        for (long n = atol(argv[2]); n > 0; n--)
            paths[p].step();
        fst_drop(a, &held);
        fst_arena_unref(a);
        return 0;
    }
    for (size_t p = 0; p < sizeof paths / sizeof *paths; p++)
        printf("%s\n", paths[p].name);
    return argc != 1;
}
