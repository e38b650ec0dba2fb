/* kill_caches.h - what is done with caches, and memory that they keep, as something to be killed
 * in. */
#ifndef FST_TEST_KILL_CACHES_H
#define FST_TEST_KILL_CACHES_H

#include "kill.h"
#include "kill_objects.h"

static void open_cache(void)
{
    static char format[FST_FORMAT_MAX + 100]; /* longer than its descriptor has room for */
    memset(format, 'f', sizeof format - 1);
    struct fst_cache_spec spec = {.name = named("victim"), .size = 100, .format = format, .init = "initial", .init_bytes = 7};
    MUST(fst_cache_open(a, &spec, &w->cache));
}

static void open_child(void)
{
    MUST(fst_child_open(a, w->cache, root, &w->child));
}

static void open_cache_and_child(void)
{
    open_cache();
    open_child();
}

static void use_cache(void)
{
    open_cache_and_child();
    for (w->n = 0; w->n < 40; w->n++)
        MUST(fst_alloc(a, w->child, &w->more[w->n]));
    drop_forty();
}

static void alloc_init(void)
{
    MUST(fst_alloc(a, w->child, &w->ref));
    CHECK(memcmp(w->ref.data, "initial", 8) == 0);
}

/* One with everything around its objects that there is. */
static void open_debugged_child(void)
{
    w->cache = make_cache(a, named("debugged"), 100, FST_CACHE_DEBUG);
    open_child();
}

static void alloc_debugged(void)
{
    MUST(fst_alloc(a, w->child, &w->ref));
    memset(w->ref.data, 7, w->ref.nbytes);
}

static void alloc_some_debugged(void)
{
    open_debugged_child();
    for (w->n = 0; w->n < 3; w->n++)
        MUST(fst_alloc(a, w->child, &w->more[w->n]));
}

static void drop_debugged_and_wait(void)
{
    drop_forty();
    MUST(fst_barrier(a, FST_FOREVER));
}

static void destroy_cache(void)
{
    MUST(fst_cache_destroy(a, w->cache, NULL));
}

static void destroy_cache_and_wait(void)
{
    destroy_cache();
    MUST(fst_barrier(a, FST_FOREVER));
}

/* An alias of the pool; one of a cache without a name of its own. */
static void open_alias(void)
{
    w->cache = make_cache(a, "alias", 1000, 0);
}

static void open_last_alias(void)
{
    uint64_t body = make_cache(a, "body", 3000, 0);
    w->cache = make_cache(a, "alias of 3000", 3000, 0);
    MUST(fst_cache_destroy(a, body, NULL));
    open_child();
    MUST(fst_alloc(a, w->child, &w->ref));
    drop_ref();
}

static void open_body(void)
{
    w->cache = make_cache(a, "body", 3000, 0);
    make_cache(a, "alias of 3000", 3000, 0);
}

static void use_busy_cache(void)
{
    open_cache_and_child();
    alloc_init();
}

/* Another one under the name of w->cache. */
static void replace_cache(void)
{
    struct fst_cache_info old, new;
    MUST(fst_cache_look(a, w->cache, &old));
    struct fst_cache_spec spec = {.name = old.name, .size = 5000, .init = "other", .init_bytes = 5, .replace = true};
    MUST(fst_cache_open(a, &spec, &w->cache));
    MUST(fst_cache_look(a, w->cache, &new));
    CHECK(new.id != old.id &&new.size == 5000);
}

static void replace_cache_and_wait(void)
{
    replace_cache();
    MUST(fst_barrier(a, FST_FOREVER));
}

/* Whatever the replacer came to, the object is what it was, and goes like any other. */
static void drop_of_replaced(void)
{
    CHECK(memcmp(w->ref.data, "initial", 8) == 0);
    drop_ref();
}

static void destroy_busy_cache(void)
{
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, w->cache, NULL));
}

/* Empty slabs of a cache and free extents of the arena. */
static void leave_room(void)
{
    alloc_forty();
    drop_forty();
    struct fst_ref ref;
    MUST(fst_alloc_bytes(a, root, 2 * MIB, &ref));
    fst_drop(a, &ref);
}

static void shrink_cache(void)
{
    MUST(fst_cache_shrink(a, pool_cache, &w->bytes));
}

static void shrink_arena(void)
{
    MUST(fst_shrink(a, 5000000000u, &w->bytes));
}

static void use_typed(void)
{
    MUST(fst_child_open(a, typed_cache, root, &w->child));
    for (w->n = 0; w->n < 20; w->n++)
        MUST(fst_alloc(a, w->child, &w->more[w->n]));
    drop_forty();
}

static void shrink_typed(void)
{
    MUST(fst_cache_shrink(a, typed_cache, &w->bytes));
}

#endif
