/* store_operations.h - what is done with stores, as something to be killed or stopped in. */
#ifndef FST_TEST_STORE_OPERATIONS_H
#define FST_TEST_STORE_OPERATIONS_H

#include "store/item.h"
/* Last: it has a variable of the name that parameters have. */
#include "kill.h"

static fst_store_use *kept, *other; /* the survivor's; victims inherit them */
static size_t base_stores;

static fst_store_use *open_store(const char *name, uint64_t group)
{
    struct fst_store_spec spec = {.name = name, .group = group};
    fst_store_use *u = NULL;
    bool created;
    int rc = fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created);
    if (rc) {
        TEST_FAIL("open gave %d: %s", rc, fst_last_error());
        _exit(1);
    }
    return u;
}

/* ---- keys: numbers; values: objects filled with a number, and of its kind ---- */

static int put_ref(fst_store_use *u, uint64_t key, const struct fst_ref *ref, uint64_t n, uint64_t ttl)
{
    uint64_t version;
    return fst_store_put(u, &(struct fst_key){.bytes = &key, .nbytes = 8},
                         &(struct fst_value){.ref = ref, .kind = (uint32_t)n, .ttl = ttl}, FST_ANY_VERSION, &version);
}

static int put_in(fst_store_use *u, uint64_t key, uint64_t n)
{
    struct fst_ref ref = alloc_one(a, pool);
    fill(ref.data, ref.nbytes, n);
    int rc = put_ref(u, key, &ref, n, 0);
    fst_drop(a, &ref);
    return rc;
}

/* What the key holds; 0: nothing. */
static uint64_t value_in(fst_store_use *u, uint64_t key)
{
    struct fst_ref ref;
    struct fst_looked_up got;
    int rc = fst_store_get(u, &(struct fst_key){.bytes = &key, .nbytes = 8}, &ref, &got);
    if (rc) {
        CHECK_EQ(FST_MISSING, rc);
        return 0;
    }
    CHECK(filled(ref.data, ref.nbytes, got.kind));
    fst_drop(a, &ref);
    return got.kind;
}

static int take_away(fst_store_use *u, uint64_t key)
{
    return fst_store_remove(u, &(struct fst_key){.bytes = &key, .nbytes = 8}, FST_ANY_VERSION);
}

static uint64_t count_in(fst_store_use *u)
{
    struct fst_store_info info;
    CHECK_EQ(FST_OK, fst_store_get_info(a, fst_store_id(u), &info));
    return info.keys;
}

static void begin(void)
{
    start();
    kept = open_store("kept", root);
    other = open_store("other", root);
    MUST(put_in(kept, 1, 1));
    MUST(put_in(other, 1, 1));
    CHECK_EQ(FST_OK, take_away(kept, 1));
    CHECK_EQ(FST_OK, take_away(other, 1));
    settle(a);
    base = state_of(a);
    fst_cache_list(a, base_caches, 16);
    base_stores = fst_store_list(a, NULL, 0);
}

static void end(void)
{
    fst_store_leave(kept);
    fst_store_leave(other);
    fst_arena_unref(a);
}

/* ---- operations ---- */

static void make_ref(void)
{
    w->ref = alloc_one(a, pool);
    fill(w->ref.data, w->ref.nbytes, 9);
}

static void put_key(void)
{
    MUST(put_ref(kept, 7, &w->ref, 9, 0));
}

static void put_and_drop(void)
{
    make_ref();
    put_key();
    fst_drop(a, &w->ref);
}

static void put_long_key(void)
{
    uint8_t bytes[200] = {7};
    uint64_t version;
    MUST(fst_store_put(kept, &(struct fst_key){.bytes = bytes, .nbytes = sizeof bytes},
                       &(struct fst_value){.ref = &w->ref, .kind = 9}, FST_ANY_VERSION, &version));
}

static void get_key(void)
{
    uint64_t n = value_in(kept, 7);
    if (!may_give_way)
        CHECK_EQ(1, n);
}

static void remove_key(void)
{
    MUST(take_away(kept, 7));
}

static void evict_key(void)
{
    uint64_t bytes;
    MUST(fst_store_evict(kept, &bytes));
}

static void claim_key(void)
{
    struct fst_store_claim claim;
    uint64_t key = 7, version;
    MUST(fst_store_claim(kept, &(struct fst_key){.bytes = &key, .nbytes = 8}, &claim));
    MUST(fst_store_publish(kept, &claim, &(struct fst_value){.ref = &w->ref, .kind = 9}, &version));
}

static void claim_and_give_up(void)
{
    struct fst_store_claim claim;
    uint64_t key = 7;
    MUST(fst_store_claim(kept, &(struct fst_key){.bytes = &key, .nbytes = 8}, &claim));
    fst_store_give_up(kept, &claim);
}

static void one_key(void)
{
    MUST(put_in(kept, 7, 1));
}

#define MANY 383u /* so many fill an index of 512: the next one needs a longer one */

static void many_keys(void)
{
    struct fst_ref ref = alloc_one(a, pool);
    fill(ref.data, ref.nbytes, 5);
    fst_store_use *u = open_store("grows", root);
    for (uint64_t k = 100; k < 100 + MANY; k++)
        MUST(put_ref(u, k, &ref, 5, 0));
    fst_drop(a, &ref);
    fst_store_leave(u);
}

static void put_more(void)
{
    fst_store_use *u = open_store("grows", root);
    for (uint64_t k = 0; k < 3; k++)
        MUST(put_ref(u, k, &w->ref, 9, 0));
}

static void short_lived(void)
{
    struct fst_ref ref = alloc_one(a, pool);
    fill(ref.data, ref.nbytes, 1);
    MUST(put_ref(kept, 7, &ref, 1, 1));
    MUST(put_ref(kept, 8, &ref, 1, 3600 * 1000000000ull));
    fst_drop(a, &ref);
}

static void barrier(void)
{
    MUST(fst_barrier(a, FST_FOREVER));
}

static void open_new(void)
{
    fst_store_use *u = open_store(named("victim"), root);
    MUST(put_ref(u, 1, &w->ref, 9, 0));
}

static void open_again(void)
{
    fst_store_leave(open_store("kept", root));
}

static void have_own(void)
{
    fst_store_use *u = open_store(named("victim"), root);
    for (uint64_t k = 0; k < 3; k++)
        MUST(put_in(u, k, k + 1));
    fst_store_leave(u);
}

static void destroy_own(void)
{
    fst_store_use *u = open_store(named("victim"), root);
    MUST(fst_store_destroy(u));
}

static void destroy_and_wait(void)
{
    destroy_own();
    for (int i = 0; i < 3; i++)
        barrier();
}

static void of_a_group(void)
{
    uint64_t group = make_group(a, "stored", root, FST_NO_LIMIT, FST_GROUP_LASTING);
    struct fst_ref ref = alloc_one(a, child_of(a, pool_cache, group));
    fill(ref.data, ref.nbytes, 1);
    MUST(put_ref(kept, 7, &ref, 1, 0));
    fst_drop(a, &ref);
    fst_store_use *u = open_store("of a group", group);
    MUST(put_in(u, 1, 1));
    fst_store_leave(u);
    fst_group_unref(a, group);
}

static void destroy_group_and_wait(void)
{
    uint64_t group = make_group(a, "stored", root, FST_NO_LIMIT, FST_GROUP_LASTING);
    fst_group_destroy(a, group);
    fst_group_unref(a, group);
    for (int i = 0; i < 3; i++)
        barrier();
}

/* A store of a group that nobody will have open any more, and one with a group of its own below
 * it. */
static void of_a_left_group(void)
{
    uint64_t group = make_group(a, "left", root, FST_NO_LIMIT, 0);
    uint64_t own = make_group(a, "store own", group, FST_NO_LIMIT, FST_GROUP_LASTING);
    fst_store_use *u = open_store("of a group", group);
    struct fst_store_spec spec = {.name = "with its own", .flags = FST_STORE_OWNS, .group = own};
    fst_store_use *v;
    bool created;
    MUST(put_in(u, 1, 1));
    MUST(fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &v, &created));
    MUST(put_in(v, 1, 1));
    fst_store_leave(u);
    fst_store_leave(v);
    fst_group_unref(a, own);
    fst_group_unref(a, group);
}

static void batches(void)
{
    for (int i = 0; i < 3; i++)
        barrier();
}

/* Somebody who died while it made a value, with the lock, and with a slot too many. */
static void die_with_claim(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct fst_store_claim claim;
        uint64_t key = 11;
        fst_reaper_stop(a, true);
        fst_store_claim(kept, &(struct fst_key){.bytes = &key, .nbytes = 8}, &claim);
        lock_word(a, &fst_store_at(a, (uint32_t)fst_store_id(kept))->lock);
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, NULL, 0);
    one_key();
}

/* ---- what is found after it ---- */

/* The store works, and holds nothing in the end. */
static void works(fst_store_use *u)
{
    for (uint64_t k = 0; k < 3; k++) {
        CHECK_EQ(FST_OK, put_in(u, 1000 + k, k + 1));
        CHECK_EQ(k + 1, value_in(u, 1000 + k));
        CHECK_EQ(FST_OK, put_in(u, 1000 + k, k + 2));
        CHECK_EQ(k + 2, value_in(u, 1000 + k));
        CHECK_EQ(FST_OK, take_away(u, 1000 + k));
    }
    settle(a); /* who died in a batch has left a count that only a batch puts right */
    CHECK_EQ(0, count_in(u));
}

static void after_put(void)
{
    uint64_t n = value_in(kept, 7);
    CHECK(n == 0 || n == 9);
    CHECK_EQ(n ? FST_OK : FST_MISSING, take_away(kept, 7));
    works(kept);
}

static void after_long(void)
{
    uint8_t bytes[200] = {7};
    fst_store_remove(kept, &(struct fst_key){.bytes = bytes, .nbytes = sizeof bytes}, FST_ANY_VERSION);
    works(kept);
}

static void after_replace(void)
{
    uint64_t n = value_in(kept, 7);
    CHECK(n == 1 || n == 9);
    CHECK_EQ(FST_OK, take_away(kept, 7));
    works(kept);
}

static void after_remove(void)
{
    uint64_t n = value_in(kept, 7);
    CHECK(n == 0 || n == 1);
    take_away(kept, 7);
    works(kept);
}

static void after_get(void)
{
    CHECK_EQ(1, value_in(kept, 7));
    CHECK_EQ(FST_OK, take_away(kept, 7));
    works(kept);
}

static void after_claim(void)
{
    struct fst_store_claim claim;
    uint64_t key = 7, n = value_in(kept, 7);
    CHECK(n == 0 || n == 9);
    CHECK_EQ(n ? FST_EXISTS : FST_OK, fst_store_claim(kept, &(struct fst_key){.bytes = &key, .nbytes = 8}, &claim));
    if (!n)
        fst_store_give_up(kept, &claim);
    take_away(kept, 7);
    works(kept);
}

static void after_expiry(void)
{
    CHECK_EQ(0, value_in(kept, 7));
    CHECK_EQ(1, value_in(kept, 8));
    take_away(kept, 7);
    CHECK_EQ(FST_OK, take_away(kept, 8));
    works(kept);
}

static void after_growth(void)
{
    fst_store_use *u = open_store("grows", root);
    for (uint64_t k = 100; k < 100 + MANY; k++)
        CHECK_EQ(5, value_in(u, k));
    CHECK_EQ(FST_OK, put_in(u, 99, 1));
    uint64_t n = count_in(u);
    CHECK(n >= MANY + 1 && n <= MANY + 4);
    CHECK_EQ(FST_OK, fst_store_destroy(u));
    fst_store_leave(u);
}

static void end_if_there(const char *name)
{
    struct fst_store_spec spec = {.name = name, .group = root};
    fst_store_use *u;
    bool created;
    if (fst_store_open(a, &spec, FST_OPEN_EXISTING, &u, &created))
        return;
    for (uint64_t k = 0; k < 3; k++)
        value_in(u, k);
    CHECK_EQ(FST_OK, fst_store_destroy(u));
    fst_store_leave(u);
}

static void after_open(void)
{
    end_if_there(named("victim"));
    works(kept);
}

static void after_group(void)
{
    uint64_t n = value_in(kept, 7);
    CHECK(n == 0 || n == 1);
    destroy_group_and_wait();
    CHECK_EQ(0, value_in(kept, 7));
    end_if_there("of a group");
    works(kept);
}

static void after_left_group(void)
{
    batches();
    CHECK_EQ(2, fst_store_list(a, NULL, 0)); /* `kept` and `other` */
    works(kept);
}

static void after_burial(void)
{
    struct fst_store_claim claim;
    uint64_t key = 11;
    CHECK_EQ(1, value_in(kept, 7));
    CHECK_EQ(FST_OK, fst_store_claim(kept, &(struct fst_key){.bytes = &key, .nbytes = 8}, &claim));
    fst_store_give_up(kept, &claim);
    CHECK_EQ(FST_OK, take_away(kept, 7));
    works(kept);
}

static const struct operation store_operations[] = {
    {"put", NULL, make_ref, put_key, after_put, false},
    {"put and drop", NULL, NULL, put_and_drop, after_put, false},
    {"put a long key", NULL, make_ref, put_long_key, after_long, false},
    {"replace", one_key, make_ref, put_key, after_replace, false},
    {"remove", one_key, NULL, remove_key, after_remove, false},
    {"evict", one_key, NULL, evict_key, after_remove, false},
    {"look up", one_key, NULL, get_key, after_get, false},
    {"make", NULL, make_ref, claim_key, after_claim, false},
    {"give up making", NULL, NULL, claim_and_give_up, after_claim, false},
    {"put until it grows", many_keys, make_ref, put_more, after_growth, false},
    {"expire", short_lived, NULL, barrier, after_expiry, false},
    {"open", NULL, make_ref, open_new, after_open, false},
    {"open what is there", NULL, NULL, open_again, after_open, false},
    {"destroy", have_own, NULL, destroy_own, after_open, false},
    {"destroy and batch", have_own, NULL, destroy_and_wait, after_open, false},
    {"destroy a group and batch", of_a_group, NULL, destroy_group_and_wait, after_group, false},
    {"batch of a group that was left", of_a_left_group, NULL, batches, after_left_group, false},
    {"bury who was putting", die_with_claim, NULL, barrier, after_burial, false},
};
#define COUNT ((int)(sizeof store_operations / sizeof *store_operations))

#endif
