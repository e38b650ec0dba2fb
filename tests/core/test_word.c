/* How ids, words, entries, handles and in-flight words are put together and taken apart: at the
 * edges of every field. */
#include "refs/inflight.h"
#include "refs/word.h"
#include "region/lock.h"
#include "support.h"

static const uint32_t objects[] = {0, 1, 255, 511};
static const uint32_t indexes[] = {0, 1, 4095, (1u << 24) - 1, (1u << 27) - 1};
static const uint64_t generations[] = {0, 1, (1u << 23) - 1, 1u << 23, (1ull << 40) - 1};

#define EACH(i, array) for (size_t i = 0; i < sizeof(array) / sizeof *(array); i++)

static void object_ids(void)
{
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        EACH(i, indexes)
        {
            EACH(k, objects)
            {
                uint32_t id = FST_SLAB_ID(class, indexes[i]);
                uint64_t oid = fst_oid(id, objects[k]);
                CHECK((oid & ~FST_OID_MASK) == 0);
                CHECK_EQ(id, fst_oid_slab(oid));
                CHECK_EQ(objects[k], fst_oid_object(oid));
                CHECK_EQ(class, FST_SLAB_ID_CLASS(id));
                CHECK_EQ(indexes[i], FST_SLAB_ID_INDEX(id));
                CHECK(!fst_oid_is_group(oid));
            }
        }
    }
    EACH(i, indexes)
    {
        uint64_t oid = fst_oid_group(indexes[i]);
        CHECK((oid & ~FST_OID_MASK) == 0);
        CHECK(fst_oid_is_group(oid));
        CHECK_EQ(indexes[i], fst_oid_group_index(oid));
    }
}

static void words(void)
{
    uint64_t oid = fst_oid(FST_SLAB_ID(3, 77), 5);
    uint64_t fields = FST_WORD_FLAGS | FST_WORD_CHECK | FST_WORD_SLACK;
    CHECK_EQ(0, FST_WORD_FLAGS & FST_WORD_CHECK);
    CHECK_EQ(0, FST_WORD_CHECK & FST_WORD_SLACK);
    CHECK_EQ(FST_WORD_GEN1, fields + 1); /* no gap and no overlap below the generation */
    CHECK_EQ(0, fst_word_check(oid) & ~FST_WORD_CHECK);
    EACH(i, generations)
    {
        uint64_t word =
            generations[i] << FST_WORD_GEN_SHIFT | fst_word_check(oid) | FST_WORD_FLAGS | 16383ull << FST_WORD_SLACK_SHIFT;
        CHECK_EQ(generations[i], fst_word_gen(word));
        CHECK_EQ(16383, fst_word_slack(word));
        uint64_t next = fst_word_free(word);
        CHECK_EQ((generations[i] + 1) & ((1ull << 40) - 1), fst_word_gen(next));
        CHECK_EQ(0, next & FST_WORD_FLAGS);
        CHECK_EQ(0, fst_word_slack(next));
        CHECK_EQ(fst_word_check(oid), next & FST_WORD_CHECK);
    }
}

static void entries(void)
{
    EACH(i, indexes)
    {
        EACH(g, generations)
        {
            uint64_t oid = fst_oid(FST_SLAB_ID(6, indexes[i]), 511);
            for (uint32_t state = FST_ENTRY_EMPTY; state <= FST_ENTRY_TAKEN; state++) {
                uint64_t entry = fst_entry(oid, generations[g], (enum fst_entry_state)state);
                CHECK_EQ(state, fst_entry_state(entry));
                CHECK_EQ(oid, fst_entry_oid(entry));
                CHECK(fst_entry_matches(entry, generations[g] << FST_WORD_GEN_SHIFT | FST_WORD_FLAGS));
                CHECK(!fst_entry_matches(entry, (generations[g] + 1) << FST_WORD_GEN_SHIFT));
                CHECK(!fst_entry_matches(entry, (generations[g] - 1) << FST_WORD_GEN_SHIFT));
            }
        }
    }
    /* Only the low bits are kept: a match 2^23 generations later is the false yes that merely
     * delays. */
    CHECK(fst_entry_matches(fst_entry(1, 5, FST_ENTRY_LIVE), (5ull + (1u << 23)) << FST_WORD_GEN_SHIFT));
}

static void in_flight(void)
{
    const uint32_t tags[] = {0, 1, FST_INFLIGHT_TAG_MASK};
    EACH(i, indexes)
    {
        EACH(k, tags)
        {
            uint64_t oid = fst_oid_group(indexes[i]);
            uint64_t word = fst_inflight_word(oid, tags[k]);
            CHECK(word & FST_INFLIGHT_LIVE);
            CHECK_EQ(oid, fst_inflight_oid(word));
            CHECK_EQ(tags[k], word >> FST_INFLIGHT_TAG_SHIFT);
        }
    }
}

static void handles(void)
{
    EACH(g, generations)
    {
        struct fst_handle h = {.generation_tag = generations[g] | 0xabcdefull << FST_HANDLE_TAG_SHIFT,
                               .oid_slab = FST_OID_MASK | 0x1234567ull << FST_HANDLE_SLAB_SHIFT};
        CHECK_EQ(generations[g], fst_handle_generation(&h));
        CHECK_EQ(FST_OID_MASK, fst_handle_oid(&h));
        CHECK_EQ(0xabcdef, h.generation_tag >> FST_HANDLE_TAG_SHIFT);
        CHECK_EQ(0x1234567, h.oid_slab >> FST_HANDLE_SLAB_SHIFT);
    }
    CHECK_EQ(16, sizeof(struct fst_handle));
    CHECK_EQ(24, sizeof(struct fst_message));
}

/* An id from outside that names nothing is no pointer. */
static void words_of_strangers(void)
{
    fst_arena *a = anonymous(16 * MIB);
    struct fst_ref ref = alloc_one(a, root_child(a, "c", 64, 0));
    CHECK(fst_word_of(a, ref.oid) != NULL);
    CHECK(fst_word_of(a, ref.oid | 511) == NULL);
    CHECK(fst_word_of(a, FST_OID_MASK) == NULL);
    CHECK(fst_word_of(a, fst_oid(FST_SLAB_ID(6, (1u << 27) - 1), 0)) == NULL);
    CHECK(fst_word_of(a, fst_oid_group(0)) != NULL);
    CHECK(fst_word_of(a, fst_oid_group(1)) == NULL);
    fst_drop(a, &ref);
    fst_arena_unref(a);
}

static void lock_words(void)
{
    CHECK_EQ(FST_NONE, fst_lock_owner(0));
    CHECK_EQ(0, fst_lock_owner(1u << FST_LOCK_SLOT_SHIFT));
    CHECK_EQ(FST_MAX_PROCESSES - 1, fst_lock_owner(FST_MAX_PROCESSES << FST_LOCK_SLOT_SHIFT | FST_LOCK_WAITERS | 0xfffffu << 12));
}

TEST_MAIN(CASE(object_ids), CASE(words), CASE(entries), CASE(in_flight), CASE(handles), CASE(words_of_strangers), CASE(lock_words))
