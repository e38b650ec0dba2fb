/* objects.h - an arena with a child cache, for tests of objects, and another process that receives
 * them.
 */
#ifndef FST_TEST_OBJECTS_H
#define FST_TEST_OBJECTS_H

#include "refs/word.h"
#include "support.h"

static fst_arena *a;
static uint64_t child;

HELPER void set_up(void)
{
    a = anonymous(64 * MIB);
    child = root_child(a, "c", 64, 0);
}

/* Everything was let go: nothing may be left. */
HELPER void tear_down(void)
{
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

HELPER uint64_t word_of(const struct fst_ref *ref)
{
    return *fst_word_of(a, ref->oid);
}

/* ---- other processes ---- */

struct post {
    struct fst_message m;
    struct fst_handle h;
    uint64_t nbytes, seed, count;
    struct fst_message many[1000];
};

HELPER void receive(struct peer *parent, void *context)
{
    struct post *post = context;
    struct fst_ref ref;
    for (char c; (c = peer_hear(parent)) != 0;) {
        if (c == 't' || c == 'h') {
            int rc = c == 't' ? fst_take(a, &post->m, &ref) : fst_resolve(a, &post->h, &ref);
            CHECK_EQ(FST_OK, rc);
            if (rc == FST_OK) {
                CHECK_EQ(post->nbytes, ref.nbytes);
                CHECK(filled(ref.data, ref.nbytes, post->seed));
            }
        } else if (c == 'c') {
            CHECK(filled(ref.data, ref.nbytes, post->seed));
        } else if (c == 's') {
            struct fst_ref out;
            CHECK_EQ(FST_STALE, fst_resolve(a, &post->h, &out));
        } else if (c == 'd') {
            fst_drop(a, &ref);
        } else if (c == 'f') {
            CHECK_EQ(FST_OK, fst_free(a, &ref));
        } else if (c == 'm') {
            for (uint64_t i = 0; i < post->count; i++) {
                CHECK_EQ(FST_OK, fst_take(a, &post->many[i], &ref));
                CHECK(filled(ref.data, ref.nbytes, i));
                fst_drop(a, &ref);
            }
        }
        peer_say(parent, 'k');
    }
}

#endif
