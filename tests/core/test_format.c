/* The text that a cache keeps with it: what its objects mean, of any length. */
#include "support.h"

static fst_arena *a;

static void settle_and_end(void)
{
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(0, state_of(a).caches);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A text of so many bytes that differs from others of another seed in its last byte only. */
static char *text_of(size_t bytes, char seed)
{
    char *text = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        text[i] = (char)('a' + i % 23);
    if (bytes)
        text[bytes - 1] = seed;
    text[bytes] = 0;
    return text;
}

static void check_text(uint64_t cache, const char *expected)
{
    static char all[FST_FORMAT_LONGEST + 8];
    struct fst_cache_info info;
    size_t bytes = strlen(expected);
    CHECK_EQ(FST_OK, fst_cache_look(a, cache, &info));
    CHECK_EQ(bytes, info.format_bytes);
    CHECK(strncmp(info.format, expected, FST_FORMAT_MAX - 1) == 0);
    CHECK_EQ(bytes < FST_FORMAT_MAX ? bytes : FST_FORMAT_MAX - 1, strlen(info.format));
    CHECK_EQ(FST_OK, fst_cache_format(a, cache, all, sizeof all));
    CHECK(strcmp(all, expected) == 0);
    /* With less room: what fits. */
    for (size_t room = 1; room < 8; room++) {
        CHECK_EQ(FST_OK, fst_cache_format(a, cache, all, bytes + room > 4 ? bytes + room - 4 : 1));
        size_t has = strlen(all);
        CHECK(strncmp(all, expected, has) == 0);
        CHECK(has == bytes || has == bytes + room - 5 || (has == 0 && bytes + room <= 4));
    }
}

static const size_t LENGTHS[] = {0,
                                 1,
                                 100,
                                 FST_FORMAT_MAX - 2,
                                 FST_FORMAT_MAX - 1,
                                 FST_FORMAT_MAX,
                                 FST_FORMAT_MAX + 1,
                                 4096,
                                 5119,
                                 5120,
                                 FST_FORMAT_MAX - 1 + 4096,
                                 300000,
                                 FST_FORMAT_LONGEST - 1};
#define N (sizeof LENGTHS / sizeof *LENGTHS)

static void any_length(void)
{
    a = anonymous(128 * MIB);
    for (int with_init = 0; with_init < 2; with_init++)
        for (size_t i = 0; i < N; i++) {
            char *text = text_of(LENGTHS[i], 'x'), *other = text_of(LENGTHS[i], 'y');
            struct fst_cache_spec spec = {.name = "c", .size = 100, .format = text, .flags = FST_CACHE_NO_MERGE};
            if (with_init)
                spec.init = "initial", spec.init_bytes = 7;
            uint64_t cache, again;
            CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
            check_text(cache, text);
            CHECK_EQ(with_init || LENGTHS[i] >= FST_FORMAT_MAX, used_bytes(a) != 0);
            uint64_t used = used_bytes(a);
            CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &again));
            CHECK_EQ(cache, again);
            if (LENGTHS[i]) {
                spec.format = other;
                CHECK_EQ(FST_MISMATCH, fst_cache_open(a, &spec, &again));
                other[LENGTHS[i] - 1] = 0; /* shorter by one */
                CHECK_EQ(FST_MISMATCH, fst_cache_open(a, &spec, &again));
                spec.format = text;
            }
            CHECK_EQ(used, used_bytes(a));
            CHECK_CLEAN(a);
            struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
            CHECK(!with_init || memcmp(ref.data, "initial", 8) == 0);
            fst_drop(a, &ref);
            CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
            settle(a);
            CHECK_EQ(0, used_bytes(a));
            free(text);
            free(other);
        }
    char *longer = text_of(FST_FORMAT_LONGEST, 'x');
    struct fst_cache_spec spec = {.name = "c", .size = 100, .format = longer};
    uint64_t cache;
    CHECK_EQ(FST_INVALID, fst_cache_open(a, &spec, &cache));
    free(longer);
    settle_and_end();
}

/* The body's text is that of all its names, and lives as long as the last of them. */
static void merged(void)
{
    a = anonymous(64 * MIB);
    char *text = text_of(9000, 'x'), *other = text_of(9000, 'y'), *shorter = text_of(FST_FORMAT_MAX - 1, 'l');
    /* what the descriptors hold is the same */
    shorter[FST_FORMAT_MAX - 2] = text[FST_FORMAT_MAX - 2];
    CHECK(strncmp(shorter, text, FST_FORMAT_MAX - 1) == 0);
    struct fst_cache_spec spec = {.name = "first", .size = 64, .format = text};
    uint64_t first, second, third, fourth;
    bool name_only;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &first));
    uint64_t used = used_bytes(a);
    spec.name = "second";
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &second));
    CHECK_EQ(used, used_bytes(a));
    CHECK_EQ(child_of(a, first, fst_group_root(a)), child_of(a, second, fst_group_root(a)));
    spec.name = "third", spec.format = other;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &third));
    spec.name = "fourth", spec.format = shorter;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &fourth));
    uint64_t children[] = {child_of(a, second, fst_group_root(a)), child_of(a, third, fst_group_root(a)),
                           child_of(a, fourth, fst_group_root(a))};
    CHECK(children[0] != children[1] && children[1] != children[2] && children[0] != children[2]);
    check_text(second, text);
    check_text(third, other);
    check_text(fourth, shorter);
    CHECK_CLEAN(a);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, first, &name_only));
    CHECK(name_only);
    check_text(second, text);
    spec.name = "second", spec.format = text;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &first));
    CHECK_EQ(second, first);
    spec.format = other;
    CHECK_EQ(FST_MISMATCH, fst_cache_open(a, &spec, &first));
    CHECK_CLEAN(a);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, second, &name_only));
    CHECK(!name_only);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, third, NULL));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, fourth, NULL));
    free(text);
    free(other);
    free(shorter);
    settle_and_end();
}

/* No room for the text: nothing has changed. */
static void full(void)
{
    a = anonymous(4 * MIB);
    char *text = text_of(6 * MIB, 'x');
    struct fst_cache_spec spec = {.name = "c", .size = 64, .format = text};
    uint64_t cache;
    CHECK_EQ(FST_FULL, fst_cache_open(a, &spec, &cache));
    CHECK_EQ(0, used_bytes(a));
    text[100] = 0;
    CHECK_EQ(FST_OK, fst_cache_open(a, &spec, &cache));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    free(text);
    settle_and_end();
}

TEST_MAIN(CASE(any_length), CASE(merged), CASE(full))
