/* Where the indexes of stores lie in their table. */
#include <string.h>

#include "arena/store.h"
#include "support.h"

static fst_store_use *open_store(fst_arena *a, const char *name)
{
    struct fst_store_spec spec = {.name = name, .group = fst_group_root(a)};
    fst_store_use *u = NULL;
    bool created;
    CHECK_EQ(FST_OK, fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    REQUIRE(u);
    return u;
}

static void put(fst_store_use *u, const char *text, const struct fst_ref *ref)
{
    struct fst_key key = {.bytes = text, .nbytes = (uint32_t)strlen(text)};
    uint64_t version;
    CHECK_EQ(FST_OK, fst_store_put(u, &key, &(struct fst_value){.ref = ref}, FST_ANY_VERSION, &version));
}

static bool has(fst_store_use *u, const char *text)
{
    struct fst_key key = {.bytes = text, .nbytes = (uint32_t)strlen(text)};
    uint64_t version;
    return fst_store_key_version(u, &key, &version) == FST_OK;
}

static uint64_t first_slot(const fst_store_use *u)
{
    return (uint32_t)u->s->index;
}

static uint64_t end_of(const fst_store_use *u)
{
    return first_slot(u) + (1ull << (u->s->index >> FST_INDEX_LOG2_SHIFT & 63));
}

/* Each index is where no other one is, and as far in front as it fits. */
static void apart_and_in_front(void)
{
    enum { MANY = 150, LARGE = 70, LARGER = 3000 };
    static fst_store_use *u[MANY + 1];
    fst_arena *a = anonymous(64 * MIB);
    struct fst_ref ref = alloc_bytes(a, 8);
    char name[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%d", i);
        u[i] = open_store(a, name);
        put(u[i], name, &ref);
    }
    for (int k = 0; k < LARGER; k++) { /* it moves behind the others */
        snprintf(name, sizeof name, "key %d", k);
        put(u[LARGE], name, &ref);
    }
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "%d", i);
        CHECK(has(u[i], name));
        for (int k = 0; k < i; k++)
            CHECK(end_of(u[k]) <= first_slot(u[i]) || end_of(u[i]) <= first_slot(u[k]));
    }
    uint64_t place = first_slot(u[3]);
    CHECK(end_of(u[LARGE]) - first_slot(u[LARGE]) > end_of(u[3]) - place);
    CHECK(first_slot(u[LARGE]) >= end_of(u[MANY - 1]));
    CHECK_EQ(FST_OK, fst_store_destroy(u[3]));
    settle(a);
    u[MANY] = open_store(a, "in its place");
    put(u[MANY], "key", &ref);
    CHECK_EQ(place, first_slot(u[MANY]));
    CHECK_EQ(FST_OK, fst_store_destroy(u[LARGE]));
    fst_drop(a, &ref);
    settle(a);
    CHECK_CLEAN(a);
    for (int i = 0; i <= MANY; i++)
        fst_store_leave(u[i]);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(apart_and_in_front))
