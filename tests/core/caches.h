/* caches.h - an arena, for tests of caches, and another process that holds an object of one. */
#ifndef FST_TEST_CACHES_H
#define FST_TEST_CACHES_H

#include "support.h"

static fst_arena *a;

HELPER int open_spec(const struct fst_cache_spec *spec, uint64_t *cache)
{
    *cache = 0;
    return fst_cache_open(a, spec, cache);
}

HELPER void tear_down(void)
{
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

struct post {
    struct fst_message m;
    struct fst_handle h;
};

/* A peer: takes the message at a 't', drops what it took at a 'd'. */
HELPER void hold_one(struct peer *parent, void *context)
{
    struct post *post = context;
    struct fst_ref ref;
    for (char c; (c = peer_hear(parent)) != 0;) {
        if (c == 't')
            CHECK_EQ(FST_OK, fst_take(a, &post->m, &ref));
        if (c == 'd')
            fst_drop(a, &ref);
        peer_say(parent, 'k');
    }
}

#endif
