/* The hash tables of names, by themselves: nameless groups stand in the table of groups under
 * hashes that the test chooses. What is found through them is tested with caches and groups.
 */
#include "alloc/names.h"

#include "alloc/registry.h"
#include "support.h"

#define GROUPS 200u
#define WHICH  FST_NAMES_GROUP

static fst_arena *a;
static uint32_t group[GROUPS], hash_of[GROUPS]; /* index of its descriptor; where it is in */
static bool in[GROUPS];

static const struct fst_buckets *table(void)
{
    return &a->sb->buckets[WHICH];
}

static uint32_t *bucket(uint32_t number)
{
    return (uint32_t *)fst_at(a, FST_T_GROUP_NAMES, number, sizeof(uint32_t));
}

static struct fst_name_link *link_of(uint32_t i)
{
    return &fst_group_at(a, group[i])->by_name;
}

static void set_up(void)
{
    a = anonymous(8 * MIB);
    memset(in, 0, sizeof in);
    for (uint32_t i = 0; i < GROUPS; i++)
        group[i] = (uint32_t)make_group(a, NULL, fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK_EQ(0, table()->entries);
    CHECK(fst_registry_lock(a));
}

/* Not where the test has made damage of its own. */
static void tear_down(void)
{
    for (uint32_t i = 0; i < GROUPS; i++)
        fst_names_remove(a, WHICH, group[i]);
    CHECK_EQ(0, table()->entries);
    fst_registry_unlock(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void add(uint32_t i, uint32_t hash)
{
    fst_names_add(a, WHICH, group[i], hash);
    hash_of[i] = hash;
    in[i] = true;
}

static void drop(uint32_t i)
{
    fst_names_remove(a, WHICH, group[i]);
    in[i] = false;
}

/* Hashes that differ in all bits, and are the same in each run. */
static uint32_t some_hash(uint32_t i)
{
    return fst_names_hash(7, &i, sizeof i);
}

/* Where linear hashing puts a hash, said in another way than names.c does: take the remainder by
 * the power of two that is not below the number of buckets, and where there is no such bucket yet,
 * by half of it. */
static uint32_t home(uint32_t buckets, uint32_t hash)
{
    uint32_t size = 1;
    while (size < buckets)
        size *= 2;
    return hash % size < buckets ? hash % size : hash % (size / 2);
}

/* Each bucket has those descriptors whose home it is, each once, and nothing else. */
static void check_table(void)
{
    uint32_t entries = 0, met = 0;
    for (uint32_t i = 0; i < GROUPS; i++)
        entries += in[i];
    CHECK_EQ(entries, table()->entries);
    for (uint32_t b = 0; b < table()->buckets; b++) {
        for (uint32_t at = *bucket(b); at; met++) {
            uint32_t i = 0;
            while (i < GROUPS && group[i] != at - 1)
                i++;
            REQUIRE(i < GROUPS && met < entries);
            CHECK(in[i]);
            CHECK_EQ(hash_of[i], link_of(i)->hash);
            CHECK_EQ(b, home(table()->buckets, hash_of[i]));
            at = link_of(i)->next;
        }
    }
    CHECK_EQ(entries, met);
}

/* How many are found under this hash: all that are in, and no other. */
static uint32_t found(uint32_t hash)
{
    uint32_t want = 0, n = 0, steps;
    for (uint32_t i = 0; i < GROUPS; i++)
        want += in[i] && hash_of[i] == hash;
    for (uint32_t at = fst_names_first(a, WHICH, hash, &steps); at != FST_NONE && n <= GROUPS; n++) {
        uint32_t i = 0;
        while (i < GROUPS && group[i] != at)
            i++;
        REQUIRE(i < GROUPS);
        CHECK(in[i] && hash_of[i] == hash);
        at = fst_names_next(a, WHICH, at, &steps);
    }
    CHECK_EQ(want, n);
    return n;
}

/* ---- growth ---- */

static void grows_by_one_bucket_at_a_time(void)
{
    set_up();
    uint32_t before[GROUPS];
    for (uint32_t i = 0; i < GROUPS; i++) {
        uint32_t buckets = table()->buckets;
        for (uint32_t b = 0; b < buckets; b++)
            before[b] = *bucket(b);
        add(i, some_hash(i));
        CHECK_EQ(i + 1, table()->buckets);
        check_table();
        /* Only the one that is split, the new one and the one with the new entry have changed. */
        for (uint32_t b = 0; b < buckets; b++)
            if (before[b] != *bucket(b))
                CHECK(b == home(buckets, buckets) || b == home(buckets + 1, some_hash(i)));
    }
    for (uint32_t i = 0; i < GROUPS; i++)
        CHECK_EQ(1, found(some_hash(i)));
    CHECK_EQ(0, found(some_hash(GROUPS)));
    tear_down();
}

static void splits_what_is_in_one_bucket(void)
{
    set_up();
    /* All are in bucket 0, until the 128th bucket tells two halves apart. */
    for (uint32_t i = 0; i < 128; i++)
        add(i, i % 2 ? 64 : 0);
    check_table();
    CHECK_EQ(64, found(0));
    CHECK_EQ(64, found(64));
    add(128, 1);
    check_table();
    CHECK_EQ(64, found(64));
    tear_down();
}

static void grows_no_further_than_its_memory(void)
{
    set_up();
    uint64_t *committed = &a->sb->tables[FST_T_GROUP_NAMES].committed, real = *committed;
    *committed = 5 * sizeof(uint32_t);
    CHECK(fst_names_room(a, WHICH, 5));
    CHECK(!fst_names_room(a, WHICH, 6));
    for (uint32_t i = 0; i < 100; i++)
        add(i, some_hash(i));
    CHECK_EQ(5, table()->buckets);
    check_table();
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(1, found(some_hash(i)));
    /* With memory again, each one that comes splits one bucket. */
    *committed = real;
    for (uint32_t i = 100; i < GROUPS; i++) {
        add(i, some_hash(i));
        CHECK_EQ(5 + i - 99, table()->buckets);
    }
    check_table();
    tear_down();
}

static void room_comes_with_the_descriptors(void)
{
    set_up();
    CHECK(fst_names_room(a, WHICH, GROUPS + 1));
    uint64_t most = a->known.tables[FST_T_GROUP_NAMES].count;
    CHECK(!fst_names_room(a, WHICH, most));
    CHECK_EQ(FST_OK, fst_names_grow(a, WHICH, 5000));
    CHECK(fst_names_room(a, WHICH, 5000));
    CHECK(!fst_names_room(a, WHICH, most + 1));
    CHECK_EQ(FST_FULL, fst_names_grow(a, WHICH, most + 1));
    tear_down();
}

/* ---- collisions, removal ---- */

static void collisions_are_told_apart(void)
{
    set_up();
    uint32_t steps;
    CHECK_EQ(FST_NONE, fst_names_first(a, WHICH, 12, &steps)); /* without a bucket */
    for (uint32_t i = 0; i < 40; i++)
        add(i, i % 4 ? 12 : 12 + (i << 20)); /* in one bucket, or with the same hash as well */
    check_table();
    CHECK_EQ(31, found(12));
    for (uint32_t i = 4; i < 40; i += 4)
        CHECK_EQ(1, found(12 + (i << 20)));
    CHECK_EQ(0, found(12 + (1u << 20)));
    tear_down();
}

static void removes_from_anywhere_in_a_bucket(void)
{
    set_up();
    for (uint32_t i = 0; i < 30; i++)
        add(i, 5);
    /* The newest is first: head, end, middle. */
    static const uint32_t order[] = {29, 0, 15, 14, 16, 28, 1};
    for (uint32_t i = 0; i < sizeof order / sizeof *order; i++) {
        drop(order[i]);
        check_table();
        CHECK_EQ(29 - i, found(5));
    }
    /* What is not there is left alone. */
    drop(29);
    fst_names_remove(a, WHICH, group[100]);
    check_table();
    /* The buckets stay, and are filled again before there are more. */
    uint32_t buckets = table()->buckets, entries = table()->entries;
    for (uint32_t i = 0; i < buckets - entries; i++)
        add(100 + i, some_hash(i));
    CHECK_EQ(buckets, table()->buckets);
    add(199, some_hash(199));
    CHECK_EQ(buckets + 1, table()->buckets);
    check_table();
    tear_down();
}

static void at_random_it_is_a_set(void)
{
    set_up();
    uint64_t state = 20;
    for (uint32_t step = 0; step < 5000; step++) {
        uint32_t i = (uint32_t)(next_random(&state) >> 40) % GROUPS;
        uint32_t hash = (uint32_t)(next_random(&state) >> 40) % 64 * 0x01010101u;
        if (in[i])
            drop(i);
        else
            add(i, hash);
        if (step % 50 == 0)
            check_table();
        found(hash);
    }
    check_table();
    tear_down();
}

/* ---- rebuilding ---- */

static void cleared_it_is_as_new(void)
{
    set_up();
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < GROUPS; i++)
            add(i, some_hash(i) + (uint32_t)round);
        check_table();
        fst_names_clear(a, WHICH);
        memset(in, 0, sizeof in);
        check_table();
        CHECK_EQ(0, table()->buckets);
        CHECK_EQ(0, found(some_hash(1) + (uint32_t)round));
        fst_names_remove(a, WHICH, group[3]);
        CHECK_EQ(0, table()->entries);
    }
    tear_down();
}

static void die_in_the_middle(struct peer *parent, void *context)
{
    (void)context;
    CHECK(fst_registry_lock(a));
    /* What a kill in add, remove and split may leave, and worse: nothing of it is believed. */
    fst_store_relaxed(&a->sb->buckets[WHICH].buckets, 3);
    fst_store_relaxed(&a->sb->buckets[WHICH].entries, 90);
    for (uint32_t b = 0; b < 50; b++)
        fst_store_relaxed(bucket(b), b % 3 ? 0 : group[b] + 1);
    for (uint32_t i = 0; i < 50; i++)
        fst_store_relaxed(&link_of(i)->next, i % 5 ? group[i + 1] + 1 : 0);
    peer_say(parent, 'd');
    pause();
}

static void rebuilt_after_a_kill(void)
{
    a = open_named(new_path("names"));
    char name[16];
    uint64_t ids[50];
    for (uint32_t i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "group-%u", i);
        ids[i] = make_group(a, name, fst_group_root(a), FST_NO_LIMIT, 0);
        group[i] = (uint32_t)ids[i];
    }
    group[50] = group[0];
    struct peer dies = peer_start(die_in_the_middle, NULL);
    PEER_WAIT(&dies, 'd');
    peer_kill(&dies);
    for (uint32_t i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "group-%u", i);
        CHECK_EQ(ids[i], make_group(a, name, fst_group_root(a), FST_NO_LIMIT, 0));
    }
    CHECK_EQ(50, table()->entries);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- damage ---- */

/* Each walk ends, whatever the links are, and finds no descriptor that there is not. */
static void walk_everywhere(void)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        uint32_t n = 0, steps;
        for (uint32_t at = fst_names_first(a, WHICH, some_hash(i), &steps); at != FST_NONE && n <= 2 * GROUPS; n++) {
            CHECK(at < fst_group_top(a));
            at = fst_names_next(a, WHICH, at, &steps);
        }
        CHECK(n <= 2 * GROUPS);
    }
    for (uint32_t i = 0; i < GROUPS; i += 7)
        fst_names_remove(a, WHICH, group[i]);
    for (uint32_t i = 0; i < GROUPS; i += 7)
        fst_names_add(a, WHICH, group[i], some_hash(i));
}

static void set_up_full(void)
{
    set_up();
    for (uint32_t i = 0; i < GROUPS; i++)
        add(i, some_hash(i));
}

static void end_damaged(void)
{
    fst_registry_unlock(a);
    fst_arena_unref(a);
}

static void a_circle_ends(void)
{
    set_up_full();
    for (uint32_t i = 0; i < GROUPS; i++)
        fst_store_relaxed(&link_of(i)->next, group[i / 2 * 2 + (i + 1) % 2] + 1); /* two by two */
    uint32_t steps;
    CHECK_EQ(FST_NONE, fst_names_first(a, WHICH, some_hash(GROUPS), &steps));
    CHECK(fst_is_damaged(a));
    walk_everywhere();
    end_damaged();
}

/* A circle of descriptors that have the hash, and another name: whoever looks one up passes them
 * all, and would go on for ever. */
static void looking_up_a_name_in_a_circle_ends(void)
{
    a = anonymous(8 * MIB);
    group[0] = (uint32_t)make_group(a, "one", fst_group_root(a), FST_NO_LIMIT, 0);
    group[1] = (uint32_t)make_group(a, "other", fst_group_root(a), FST_NO_LIMIT, 0);
    for (uint32_t i = 0; i < 2; i++) {
        fst_store_relaxed(&link_of(i)->hash, fst_registry_hash_name("third", 0));
        fst_store_relaxed(&link_of(i)->next, group[1 - i] + 1);
        fst_store_relaxed(bucket(i), group[i] + 1);
    }
    struct fst_group_spec spec = {.name = "third", .parent = fst_group_root(a), .limit = FST_NO_LIMIT};
    uint64_t id;
    bool created;
    CHECK_EQ(FST_CORRUPTED, fst_group_open(a, &spec, &id, &created));
    CHECK(fst_check(a, print_finding, NULL) > 0);
    fst_arena_unref(a);
}

static void links_and_buckets_that_lead_outside(void)
{
    static const uint32_t wrong[] = {UINT32_MAX, UINT32_MAX - 1, FST_MAX_GROUPS, 100000};
    for (uint32_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        set_up_full();
        for (uint32_t i = 0; i < GROUPS; i += 3)
            fst_store_relaxed(&link_of(i)->next, wrong[k]);
        for (uint32_t b = 0; b < table()->buckets; b += 2)
            fst_store_relaxed(bucket(b), wrong[k]);
        walk_everywhere();
        end_damaged();
    }
}

static void more_buckets_than_there_can_be(void)
{
    static const uint32_t wrong[] = {UINT32_MAX, 1u << 31, FST_MAX_GROUPS + 5};
    for (uint32_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        set_up_full();
        fst_store_relaxed(&a->sb->buckets[WHICH].buckets, wrong[k]);
        walk_everywhere();
        end_damaged();
    }
}

/* ---- the hash ---- */

static void hashes_spread(void)
{
    static uint32_t filled[1024];
    char name[32];
    for (uint32_t i = 0; i < 4096; i++) {
        int n = snprintf(name, sizeof name, "request-%u", i);
        uint32_t hash = fst_names_hash(0, name, (size_t)n);
        CHECK_EQ(hash, fst_names_hash(0, name, (size_t)n));
        CHECK(hash != fst_names_hash(1, name, (size_t)n));
        CHECK(hash != fst_names_hash(0, name, (size_t)n - 1));
        filled[hash % 1024]++;
    }
    /* Four a bucket; by chance, sixteen is one in a million. */
    for (uint32_t b = 0; b < 1024; b++)
        CHECK(filled[b] <= 16);
}

TEST_MAIN(CASE(grows_by_one_bucket_at_a_time), CASE(splits_what_is_in_one_bucket), CASE(grows_no_further_than_its_memory),
          CASE(room_comes_with_the_descriptors), CASE(collisions_are_told_apart), CASE(removes_from_anywhere_in_a_bucket),
          CASE(at_random_it_is_a_set), CASE(cleared_it_is_as_new), CASE(rebuilt_after_a_kill), CASE(a_circle_ends),
          CASE(looking_up_a_name_in_a_circle_ends), CASE(links_and_buckets_that_lead_outside), CASE(more_buckets_than_there_can_be),
          CASE(hashes_spread))
