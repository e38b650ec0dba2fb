/* What errors say: sizes for people, and exactly where it matters. */
#include "harness.h"
#include "platform/error.h"

#define SAYS(want, got) CHECK(strcmp((want), (got)) == 0)

static void sizes(void)
{
    SAYS("0 B", fst_size(0));
    SAYS("1023 B", fst_size(1023));
    SAYS("1 KiB", fst_size(1024));
    SAYS("1.5 KiB", fst_size(1536));
    SAYS("4.9 KiB", fst_size(5001));
    SAYS("100 MiB", fst_size(100u << 20));
    SAYS("16 EiB", fst_size(UINT64_MAX));
    SAYS("1023 B", fst_exact(1023));
    SAYS("1.5 KiB", fst_exact(1536));
    SAYS("4.9 KiB (5001 bytes)", fst_exact(5001));
    SAYS("4 GiB (4294967297 bytes)", fst_exact((1ull << 32) + 1));
}

/* Several in one sentence. */
static void eight_at_once(void)
{
    const char *said[8];
    char want[16];
    for (unsigned i = 0; i < 8; i++)
        said[i] = fst_size(i);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(want, sizeof want, "%u B", i);
        SAYS(want, said[i]);
    }
}

static void counts(void)
{
    SAYS("0 objects", fst_many(0, "object", "objects"));
    SAYS("1 object", fst_many(1, "object", "objects"));
    SAYS("2 children", fst_many(2, "child", "children"));
    SAYS("18446744073709551615 entries", fst_many(UINT64_MAX, "entry", "entries"));
}

TEST_MAIN(CASE(sizes), CASE(counts), CASE(eight_at_once))
