/* Stores of groups that nobody has open any more: they end, and what they hold with them. */
#include "support.h"

static fst_store_use *open_store(fst_arena *a, const char *name, uint64_t group, uint32_t flags)
{
    struct fst_store_spec spec = {.name = name, .group = group, .flags = flags};
    fst_store_use *u = NULL;
    bool created;
    if (fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created)) {
        TEST_FAIL("open: %s", fst_last_error());
        _exit(1);
    }
    return u;
}

static struct fst_key a_key(void)
{
    return (struct fst_key){.bytes = "key", .nbytes = 3};
}

/* The store alone holds an object, charged to the group. */
static void put_one(fst_arena *a, fst_store_use *u, uint64_t group)
{
    struct fst_ref ref;
    struct fst_key key = a_key();
    uint64_t version;
    CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, 70000, &ref));
    CHECK_EQ(FST_OK, fst_store_put(u, &key, &(struct fst_value){.ref = &ref}, FST_ANY_VERSION, &version));
    fst_drop(a, &ref);
}

/* What a lookup says; what it finds is let go of. */
static int looked_up(fst_arena *a, fst_store_use *u)
{
    struct fst_ref ref;
    struct fst_looked_up got;
    struct fst_key key = a_key();
    int rc = fst_store_get(u, &key, &ref, &got);
    if (rc == FST_OK)
        fst_drop(a, &ref);
    return rc;
}

static void all_is_gone(fst_arena *a, uint64_t used)
{
    struct fst_group_info info;
    uint64_t ids[4];
    settle(a);
    settle(a);
    CHECK_EQ(0, fst_store_list(a, NULL, 0));
    CHECK_EQ(used, state_of(a).used);
    CHECK_EQ(1, fst_group_list(a, ids, 4)); /* the root group */
    CHECK_EQ(FST_OK, fst_group_get_info(a, ids[0], &info));
    CHECK_EQ(0, info.usage);
    CHECK_CLEAN(a);
}

static void ends_with_a_group_that_nobody_has(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t used = state_of(a).used;
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    fst_store_use *u = open_store(a, "results", group, 0);
    put_one(a, u, group);
    settle(a);
    CHECK_EQ(FST_OK, looked_up(a, u));
    fst_group_unref(a, group);
    settle(a);
    settle(a);
    CHECK_EQ(FST_CLOSED, looked_up(a, u));
    all_is_gone(a, used);
    fst_store_leave(u);
    fst_arena_unref(a);
}

static void a_closed_group_keeps_it_while_somebody_has_that_open(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t used = state_of(a).used;
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    fst_store_use *u = open_store(a, "results", group, 0);
    put_one(a, u, group);
    CHECK_EQ(FST_OK, fst_group_close(a, group));
    settle(a);
    settle(a);
    CHECK_EQ(FST_OK, looked_up(a, u));
    fst_group_unref(a, group);
    all_is_gone(a, used);
    CHECK_EQ(FST_CLOSED, looked_up(a, u));
    fst_store_leave(u);
    fst_arena_unref(a);
}

static void a_lasting_group_keeps_it(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, FST_GROUP_LASTING);
    fst_store_use *u = open_store(a, "results", group, 0);
    put_one(a, u, group);
    fst_group_unref(a, group);
    settle(a);
    settle(a);
    CHECK_EQ(FST_OK, looked_up(a, u));
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* Who has the store open may keep its group open by that. */
static void who_holds_it_keeps_the_group_open(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t used = state_of(a).used, held;
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    fst_store_use *u = open_store(a, "results", group, 0), *of_root = open_store(a, "root's", fst_group_root(a), 0);
    CHECK(!fst_store_hold_group(of_root, &held));
    CHECK(fst_store_hold_group(u, &held));
    CHECK_EQ(group, held);
    fst_group_unref(a, group);
    settle(a);
    put_one(a, u, group);
    CHECK_EQ(FST_OK, looked_up(a, u));
    fst_group_unref(a, held);
    CHECK_EQ(FST_OK, fst_store_destroy(of_root));
    all_is_gone(a, used);
    CHECK(!fst_store_hold_group(u, &held));
    fst_store_leave(of_root);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* A store with a limit has a lasting group of its own, below the one that it ends with. */
static void one_with_its_own_group_ends_with_that_above(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t used = state_of(a).used, held;
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    uint64_t own = make_group(a, "store results", group, 8 * MIB, FST_GROUP_LASTING);
    fst_store_use *u = open_store(a, "results", own, FST_STORE_OWNS);
    put_one(a, u, own);
    fst_group_unref(a, own);
    settle(a);
    CHECK_EQ(FST_OK, looked_up(a, u));
    CHECK(fst_store_hold_group(u, &held));
    CHECK_EQ(group, held);
    fst_group_unref(a, held);
    settle(a);
    CHECK_EQ(FST_OK, looked_up(a, u));
    fst_group_unref(a, group);
    settle(a);
    all_is_gone(a, used);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* Who begins anew, before any batch has seen to the old one, gets an empty store. */
static void the_next_of_its_name_is_another(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t used = state_of(a).used;
    for (int batches = 0; batches < 4; batches++) {
        uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
        fst_store_use *u = open_store(a, "results", group, 0);
        put_one(a, u, group);
        CHECK_EQ(FST_OK, fst_group_close(a, group));
        fst_group_unref(a, group);
        for (int i = 0; i < batches; i++)
            settle(a);
        group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
        fst_store_use *again = open_store(a, "results", group, 0);
        if (batches) {
            CHECK_EQ(FST_MISSING, looked_up(a, again));
            put_one(a, again, group);
            CHECK_EQ(FST_OK, looked_up(a, again));
        }
        fst_group_unref(a, group);
        all_is_gone(a, used);
        CHECK_EQ(FST_CLOSED, looked_up(a, again));
        fst_store_leave(u);
        fst_store_leave(again);
    }
    fst_arena_unref(a);
}

TEST_MAIN(CASE(ends_with_a_group_that_nobody_has), CASE(a_closed_group_keeps_it_while_somebody_has_that_open),
          CASE(a_lasting_group_keeps_it), CASE(who_holds_it_keeps_the_group_open),
          CASE(one_with_its_own_group_ends_with_that_above), CASE(the_next_of_its_name_is_another))
