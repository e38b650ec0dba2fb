/* held_operations.h - what is tried while a lock is held: each operation of the core that may want
 * one, with what comes before it and what takes it back.
 */
#ifndef FST_TEST_HELD_OPERATIONS_H
#define FST_TEST_HELD_OPERATIONS_H

#include "support.h"

#define OBJECTS 40

static fst_arena *a;
static uint64_t pool_cache, pool, typed_cache, typed, root;
static struct fst_ref ref, refs[OBJECTS];

static struct fst_message message;
static uint64_t cache, group, child, bytes;
static bool flag;

static int alloc_pool(void)
{
    return fst_alloc(a, pool, &ref);
}

static void drop_ref(void)
{
    fst_drop(a, &ref);
}

static size_t got;

static int alloc_forty(void)
{
    size_t more = 0;
    int rc = fst_alloc_many(a, pool, OBJECTS - got, refs + got, &more);
    got += more;
    return rc;
}

static void drop_forty(void)
{
    while (got)
        fst_drop(a, &refs[--got]);
}

static int alloc_size(void)
{
    return fst_alloc_bytes(a, root, 777, &ref);
}

static int alloc_large(void)
{
    return fst_alloc_bytes(a, root, 300000, &ref);
}

static int open_init(void)
{
    struct fst_cache_spec spec = {.name = "held", .size = 100, .format = "f", .init = "initial", .init_bytes = 7};
    return fst_cache_open(a, &spec, &cache);
}

static int open_alias(void)
{
    struct fst_cache_spec spec = {.name = "alias", .size = 1000, .format = ""};
    return fst_cache_open(a, &spec, &cache);
}

static void must_open(void)
{
    cache = make_cache(a, "held", 5000, FST_CACHE_NO_MERGE);
    child = child_of(a, cache, root);
    ref = alloc_one(a, child);
    fst_drop(a, &ref);
}

static int destroy_cache(void)
{
    return fst_cache_destroy(a, cache, NULL);
}

static void destroyed_cache(void)
{
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
}

static int open_group(void)
{
    struct fst_group_spec spec = {.name = "held", .parent = root, .limit = 8 * MIB, .set_limit = true};
    return fst_group_open(a, &spec, &group, &flag);
}

static void must_open_group(void)
{
    group = make_group(a, "held", root, FST_NO_LIMIT, 0);
}

static void use_group(void)
{
    must_open_group();
    child = child_of(a, pool_cache, group);
    ref = alloc_one(a, child);
    fst_drop(a, &ref);
}

static int destroy_group(void)
{
    return fst_group_destroy(a, group);
}

static void destroyed_group(void)
{
    fst_group_unref(a, group);
    fst_group_destroy(a, group);
}

static int close_group(void)
{
    return fst_group_close(a, group);
}

static int limit_group(void)
{
    return fst_group_set_limit(a, group, 9 * MIB);
}

static int open_child(void)
{
    return fst_child_open(a, pool_cache, group, &child);
}

static int look_at_cache(void)
{
    struct fst_cache_info info;
    return fst_cache_look(a, pool_cache, &info);
}

static int count_cache(void)
{
    struct fst_cache_info info;
    return fst_cache_get_info(a, pool_cache, &info);
}

static int list_caches_of_group(void)
{
    uint64_t id;
    CHECK_EQ(1, fst_group_caches(a, group, &id, 1));
    return FST_OK;
}

static int shrink_cache(void)
{
    return fst_cache_shrink(a, pool_cache, &bytes);
}

static int check(void)
{
    return fst_check(a, print_finding, NULL) == FST_CHECK_HELD ? FST_HELD : FST_OK;
}

static void must_alloc(void)
{
    ref = alloc_one(a, pool);
}

static int share_and_take(void)
{
    struct fst_ref other;
    int rc = fst_share(a, &ref, &message);
    if (rc == FST_OK)
        rc = fst_take(a, &message, &other);
    if (rc == FST_OK)
        fst_drop(a, &other);
    return rc;
}

static int resolve(void)
{
    struct fst_handle handle;
    struct fst_ref other;
    int rc = fst_handle_of(a, &ref, &handle);
    if (rc == FST_OK)
        rc = fst_resolve(a, &handle, &other);
    if (rc == FST_OK)
        fst_drop(a, &other);
    return rc;
}

static int free_ref(void)
{
    return fst_free(a, &ref);
}

static void must_share_group(void)
{
    must_open_group();
    CHECK_EQ(FST_OK, fst_group_share(a, group, &message));
}

static int take_group(void)
{
    uint64_t same;
    int rc = fst_group_take(a, &message, &same);
    if (rc == FST_OK)
        fst_group_unref(a, same);
    return rc;
}

static int section(void)
{
    int rc = fst_read_lock(a);
    return rc ? rc : fst_read_unlock(a);
}

static int synchronize(void)
{
    return fst_synchronize(a, FST_FOREVER);
}

static const struct operation {
    const char *name;
    void (*prepare)(void);
    int (*act)(void);
    void (*undo)(void);
} operations[] = {
    {"alloc", NULL, alloc_pool, drop_ref},
    {"alloc many", NULL, alloc_forty, drop_forty},
    {"alloc a size", NULL, alloc_size, drop_ref},
    {"alloc large", NULL, alloc_large, drop_ref},
    {"open cache", NULL, open_init, destroyed_cache},
    {"open alias", NULL, open_alias, destroyed_cache},
    {"destroy cache", must_open, destroy_cache, NULL},
    {"open group", NULL, open_group, destroyed_group},
    {"destroy group", use_group, destroy_group, destroyed_group},
    {"close group", use_group, close_group, destroyed_group},
    {"limit group", must_open_group, limit_group, destroyed_group},
    {"open child", must_open_group, open_child, destroyed_group},
    {"look at cache", NULL, look_at_cache, NULL},
    {"count cache", NULL, count_cache, NULL},
    {"list caches", use_group, list_caches_of_group, destroyed_group},
    {"shrink cache", NULL, shrink_cache, NULL},
    {"check", NULL, check, NULL},
    {"share and take", must_alloc, share_and_take, drop_ref},
    {"resolve", must_alloc, resolve, drop_ref},
    {"free", must_alloc, free_ref, drop_ref},
    {"take group", must_share_group, take_group, destroyed_group},
    {"read", NULL, section, NULL},
    {"synchronize", NULL, synchronize, NULL},
};

#endif
