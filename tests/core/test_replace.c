/* Caches whose name is given to another one, while others allocate, hold, and destroy. */
#include "alloc/cache.h"

#include "caches.h"

static uint64_t replace(const char *name, uint64_t size, uint32_t flags)
{
    struct fst_cache_spec spec = {.name = name, .size = size, .flags = flags, .replace = true};
    uint64_t cache;
    CHECK_EQ(FST_OK, open_spec(&spec, &cache));
    return cache;
}

static uint32_t state_of_cache(uint64_t cache)
{
    struct fst_cache_info info;
    return fst_cache_get_info(a, cache, &info) ? 0 : info.state;
}

/* The name is another cache's; what lives goes on, in whoever's hands, and the cache goes with the
 * last of it. */
static void replaced(void)
{
    struct post *post = shared_memory(sizeof *post);
    a = anonymous(16 * MIB);
    struct peer p = peer_start(hold_one, post);
    uint64_t root = fst_group_root(a), group = make_group(a, "g", root, FST_NO_LIMIT, 0), child;
    uint64_t old = make_cache(a, "frame", 64, 0);
    struct fst_ref mine = alloc_one(a, child_of(a, old, root)), other = alloc_one(a, child_of(a, old, group)), ref;
    struct fst_cache_spec plain = {.name = "frame", .size = 128};
    fill(mine.data, 64, 1);
    fst_share(a, &other, &post->m);
    fst_drop(a, &other);
    TELL(p, 't');
    fst_handle_of(a, &mine, &post->h);
    uint64_t found;
    CHECK_EQ(FST_MISMATCH, open_spec(&plain, &found));
    CHECK_EQ(old, found);                   /* so that its parameters can be told */
    CHECK_EQ(old, replace("frame", 64, 0)); /* it is as it should be: nothing happens */

    uint64_t bound = child_of(a, old, root), new = replace("frame", 128, 0);
    CHECK(new != old);
    CHECK_EQ(FST_CACHE_RETIRED, state_of_cache(old));
    CHECK_EQ(FST_OK, open_spec(&plain, &found));
    CHECK_EQ(new, found);
    CHECK_EQ(FST_CLOSED, fst_alloc(a, bound, &ref));
    CHECK_EQ(FST_CLOSED, fst_child_open(a, old, root, &child));
    CHECK(strstr(fst_last_error(), "open it again") != NULL);
    ref = alloc_one(a, child_of(a, new, root));
    CHECK_EQ(128, ref.nbytes);
    fst_drop(a, &ref);
    CHECK_CLEAN(a);
    /* A handle still resolves, and destroy() still says who uses it. */
    CHECK_EQ(FST_OK, fst_resolve(a, &post->h, &ref));
    CHECK_EQ(64, ref.nbytes);
    fst_drop(a, &ref);
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, old, NULL));
    CHECK(strstr(fst_last_error(), "2 references of 2 processes") != NULL);
    settle(a);
    CHECK(filled(mine.data, 64, 1));
    CHECK_EQ(FST_CACHE_RETIRED, state_of_cache(old));
    /* Nobody is merged with it: a cache of its parameters is one of its own. */
    CHECK(child_of(a, make_cache(a, "alike", 64, 0), root) != bound);
    TELL(p, 'd');
    fst_drop(a, &mine);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, old, NULL));
    settle(a);
    CHECK_EQ(0, state_of_cache(old));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, old, NULL)); /* it has ended, as it was asked to */
    fst_group_unref(a, group);
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

/* Of merged caches the name goes, and the others keep what they share; the last one ends with its
 * body. */
static void replaced_names(void)
{
    a = anonymous(16 * MIB);
    uint64_t root = fst_group_root(a), body = make_cache(a, "body", 64, 0), one = make_cache(a, "one", 64, 0);
    uint64_t child = child_of(a, body, root);
    struct fst_ref ref = alloc_one(a, child);
    CHECK(replace("one", 128, 0) != one);
    CHECK_EQ(child, child_of(a, body, root));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, one, NULL));
    uint64_t two = make_cache(a, "two", 64, 0);
    CHECK(replace("body", 256, FST_CACHE_NO_MERGE) != body);
    CHECK_EQ(child, child_of(a, two, root));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, body, NULL));
    CHECK_EQ(child, child_of(a, two, root));
    CHECK(replace("two", 256, 0) != two);
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &(struct fst_ref){0}));
    CHECK_CLEAN(a);
    fst_drop(a, &ref);
    settle(a);
    CHECK_EQ(3, state_of(a).caches);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
}

/* Two processes that want different caches of one name, and one that destroys whatever it is. */
static void replace_often(struct peer *parent, void *context)
{
    uint64_t size = *(const uint64_t *)context, root = fst_group_root(a), child;
    for (int i = 0; i < 2000; i++) {
        uint64_t cache = size ? replace("race", size, 0) : make_cache(a, "other race", 8, FST_CACHE_NO_MERGE);
        struct fst_ref ref;
        if (fst_child_open(a, cache, root, &child) == FST_OK && fst_alloc(a, child, &ref) == FST_OK) {
            CHECK(!size || ref.nbytes == size);
            fst_drop(a, &ref);
        }
        int rc = fst_cache_destroy(a, cache, NULL);
        CHECK(rc == FST_OK || rc == FST_BUSY || rc == FST_CLOSED);
    }
    peer_say(parent, 'k');
}

static void replaced_by_everybody(void)
{
    static uint64_t sizes[] = {64, 128, 0};
    struct peer p[3];
    a = anonymous(256 * MIB);
    for (int i = 0; i < 3; i++)
        p[i] = peer_start(replace_often, &sizes[i]);
    for (int i = 0; i < 3; i++) {
        PEER_WAIT(&p[i], 'k');
        peer_end(&p[i]);
    }
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
}

static void replaced_read_only(void)
{
    const char *path = new_path("ro");
    a = open_named(path);
    make_cache(a, "c", 64, 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        fst_arena_unref(a);
        struct fst_open_options o = {.path = path, .create = FST_OPEN_EXISTING, .readonly = true};
        struct fst_cache_spec spec = {.name = "c", .size = 128, .replace = true};
        uint64_t cache;
        atomic_store(&test_failures, 0);
        CHECK_EQ(FST_OK, fst_arena_open(&o, &a));
        CHECK_EQ(FST_READONLY, open_spec(&spec, &cache));
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    tear_down();
}

TEST_MAIN(CASE(replaced), CASE(replaced_names), CASE(replaced_by_everybody), CASE(replaced_read_only))
