/* Groups: a tree with limits, and what close(), destroy() and the death of their processes
 * leave. */
#include <pthread.h>

#include "alloc/run.h"
#include "reclaim/reaper.h"
#include "refs/word.h"

#include "groups.h"

static void tree(void)
{
    set_up();
    uint64_t root = fst_group_root(a), again;
    uint64_t job = make_group(a, "job", root, FST_NO_LIMIT, 0), task = make_group(a, "task", job, 10 * MIB, 0);
    uint64_t other = make_group(a, "task", root, FST_NO_LIMIT, 0); /* names are per parent */
    CHECK(other != task);
    bool created = true;
    struct fst_group_spec spec = {.name = "task", .parent = job};
    CHECK_EQ(FST_OK, fst_group_open(a, &spec, &again, &created));
    CHECK(!created && again == task);
    spec.set_limit = true;
    spec.limit = 5 * MIB;
    CHECK_EQ(FST_MISMATCH, fst_group_open(a, &spec, &again, &created));
    struct fst_group_info info = info_of(task);
    CHECK_EQ(job, info.parent);
    CHECK_EQ(10 * MIB, info.limit);
    CHECK(strcmp(info.name, "task") == 0);
    CHECK_EQ(1, info_of(job).children);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, task));
    uint64_t bytes = usage(task);
    CHECK(bytes > 0);
    CHECK_EQ(bytes, usage(job));
    CHECK_EQ(bytes, usage(root));
    CHECK_EQ(0, usage(other));
    uint64_t caches[4], group, of;
    CHECK_EQ(1, fst_group_caches(a, task, caches, 4));
    CHECK_EQ(cache, caches[0]);
    CHECK_EQ(FST_OK, fst_object_owner(a, &ref, &of, &group));
    CHECK(of == cache && group == task);
    fst_drop(a, &ref);
    for (int i = 0; i < 2; i++)
        fst_group_unref(a, task);
    fst_group_unref(a, job);
    fst_group_unref(a, other);
    fst_group_unref(a, other); /* once too often: nothing happens */
    CHECK_EQ(FST_INVALID, fst_group_close(a, root));
    CHECK_EQ(FST_INVALID, fst_group_destroy(a, root));
    tear_down();
}

static void limits(void)
{
    set_up();
    struct fst_ref ref[300], none;
    uint64_t job = make_group(a, "job", fst_group_root(a), MIB, 0), task = make_group(a, "task", job, FST_NO_LIMIT, 0);
    uint64_t child = child_of(a, cache, task);
    size_t got;
    CHECK_EQ(FST_LIMIT, fst_alloc_many(a, child, 300, ref, &got));
    CHECK_EQ(MIB / 4096, got);
    CHECK(strstr(fst_last_error(), "group job") != NULL);
    CHECK_EQ(MIB, usage(job));
    CHECK(info_of(job).limit_hits > 0);
    CHECK_EQ(0, info_of(task).limit_hits);
    CHECK_EQ(FST_LIMIT, fst_alloc_bytes(a, task, 100000, &none));
    fst_drop(a, &ref[--got]);
    ref[got++] = alloc_one(a, child);
    CHECK_EQ(FST_OK, fst_group_set_limit(a, job, 2 * MIB));
    CHECK_EQ(FST_OK, fst_alloc(a, child, &ref[got]));
    got++;
    CHECK_EQ(FST_OK, fst_group_set_limit(a, job, 4096)); /* below usage: what is there stays */
    while (fst_alloc(a, child, &ref[got]) == FST_OK)
        got++;
    CHECK(usage(job) <= 2 * MIB);
    while (got)
        fst_drop(a, &ref[--got]);
    CHECK_EQ(FST_OK, fst_reclaim(a, job, FST_FOREVER));
    CHECK_EQ(0, usage(job));
    CHECK_EQ(FST_LIMIT, fst_alloc(a, child, &none)); /* a slab is more than the limit */
    fst_group_note_failed(a, job);
    CHECK_EQ(1, info_of(job).failed);
    CHECK_EQ(1, info_of(job).reclaims);
    CHECK_EQ(FST_OK, fst_group_set_limit(a, job, FST_NO_LIMIT));
    CHECK_EQ(FST_OK, fst_alloc(a, child, &none));
    fst_drop(a, &none);
    fst_group_unref(a, task);
    fst_group_unref(a, job);
    tear_down();
}

static uint64_t crowded[2];

static void crowd(struct peer *parent, void *context)
{
    (void)context;
    uint64_t random = (uint64_t)getpid();
    struct fst_ref ref[64];
    int n = 0;
    PEER_WAIT(parent, 'g');
    for (int i = 0; i < 20000; i++) {
        uint64_t r = next_random(&random);
        if (n == 64 || (n && r % 5 < 2)) {
            int k = (int)((r >> 32) % (uint64_t)n);
            fst_drop(a, &ref[k]);
            ref[k] = ref[--n];
        } else {
            int rc = fst_alloc_bytes(a, crowded[r & 1], (r >> 8) % 70000, &ref[n]);
            CHECK(rc == FST_OK || rc == FST_LIMIT);
            n += rc == FST_OK;
        }
    }
    while (n)
        fst_drop(a, &ref[--n]);
}

/* Four processes at the limits of two groups and of the one above them: no look ever finds one
 * above its limit. */
static void never_exceeded(void)
{
    set_up();
    uint64_t job = make_group(a, "job", fst_group_root(a), 3 * MIB, 0);
    crowded[0] = make_group(a, "one", job, 2 * MIB, 0);
    crowded[1] = make_group(a, "two", job, 2 * MIB, 0);
    struct peer p[4];
    for (int i = 0; i < 4; i++)
        p[i] = peer_start(crowd, NULL);
    for (int i = 0; i < 4; i++)
        peer_say(&p[i], 'g');
    for (int i = 0; i < 20000; i++) {
        CHECK(usage(job) <= 3 * MIB);
        CHECK(usage(crowded[0]) <= 2 * MIB);
        CHECK(usage(crowded[1]) <= 2 * MIB);
    }
    for (int i = 0; i < 4; i++)
        peer_end(&p[i]);
    CHECK(info_of(job).peak <= 3 * MIB && info_of(job).peak > 0);
    settle(a);
    CHECK_EQ(0, usage(job));
    CHECK(fst_run_lock(a));
    CHECK_EQ(0, a->sb->used_pages);
    fst_run_unlock(a);
    fst_group_unref(a, crowded[0]);
    fst_group_unref(a, crowded[1]);
    fst_group_unref(a, job);
    tear_down();
}

struct post {
    struct fst_message m, g;
    struct fst_handle h;
    uint64_t group;
};

static void use_group(struct peer *parent, void *context)
{
    struct post *post = context;
    struct fst_ref ref, out;
    uint64_t group = 0;
    for (char c; (c = peer_hear(parent)) != 0;) {
        if (c == 't')
            CHECK_EQ(FST_OK, fst_take(a, &post->m, &ref));
        if (c == 'c')
            CHECK(filled(ref.data, ref.nbytes, 5));
        if (c == 's')
            CHECK_EQ(FST_STALE, fst_resolve(a, &post->h, &out));
        if (c == 'd')
            fst_drop(a, &ref);
        if (c == 'h')
            CHECK_EQ(FST_OK, fst_group_hold(a, post->group));
        if (c == 'g') {
            CHECK_EQ(FST_OK, fst_group_take(a, &post->g, &group));
            CHECK_EQ(post->group, group);
        }
        if (c == 'u')
            fst_group_unref(a, post->group);
        peer_say(parent, 'k');
    }
}

/* destroy() with a live reference elsewhere and a message under way: handles end at once, the
 * bytes stay where they are used. */
static void destroy_in_use(void)
{
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(use_group, post);
    uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0), task = make_group(a, "task", job, MIB, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, task)), lost = alloc_bytes(a, 1), out;
    fst_drop(a, &lost);
    struct fst_message in_flight;
    struct fst_handle lost_handle;
    CHECK_EQ(FST_OK, fst_alloc_bytes(a, task, 100, &lost));
    fst_handle_of(a, &lost, &lost_handle);
    fst_share(a, &lost, &in_flight);
    fst_drop(a, &lost);
    fill(ref.data, 4096, 5);
    fst_handle_of(a, &ref, &post->h);
    fst_share(a, &ref, &post->m);
    TELL(p, 't');
    fst_drop(a, &ref);
    uint64_t child = child_of(a, cache, task);
    CHECK_EQ(FST_OK, fst_group_destroy(a, job));
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &out));
    CHECK_EQ(FST_STALE, fst_resolve(a, &post->h, &out));
    TELL(p, 's');
    settle(a);
    TELL(p, 'c');
    CHECK_EQ(FST_STALE, fst_take(a, &in_flight, &out));
    CHECK_EQ(FST_STALE, fst_resolve(a, &lost_handle, &out));
    CHECK_EQ(0, state_of(a).in_flight);
    uint64_t left = used_bytes(a);
    CHECK(left > 0);
    uint64_t again = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK(again != job);
    CHECK_EQ(0, usage(again));
    TELL(p, 'd');
    fst_group_unref(a, task);
    fst_group_unref(a, job);
    fst_group_unref(a, again);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

/* Has the groups of these names open, twice each, until it is told to let go. */
static void have_open(struct peer *parent, void *context)
{
    (void)context;
    uint64_t root = fst_group_root(a), job = make_group(a, "job", root, FST_NO_LIMIT, 0);
    uint64_t task = make_group(a, "task", job, FST_NO_LIMIT, 0);
    CHECK_EQ(FST_OK, fst_group_hold(a, task));
    peer_say(parent, 'o');
    peer_hear(parent);
    fst_group_unref(a, task);
    fst_group_unref(a, task);
    fst_group_unref(a, job);
    peer_say(parent, 'k');
    peer_hear(parent);
    for (uint32_t i = 0; i < fst_entry_top(a, a->slot); i++)
        CHECK(fst_entry_state(a->entries[i]) != FST_ENTRY_LIVE);
}

static void handles_hold_nothing(void)
{
    set_up();
    struct peer p = peer_start(have_open, NULL);
    PEER_WAIT(&p, 'o');
    uint64_t root = fst_group_root(a), job = make_group(a, "job", root, FST_NO_LIMIT, 0);
    uint64_t task = make_group(a, "task", job, FST_NO_LIMIT, 0);
    uint32_t entry = fst_group_entry(a, task);
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_group_share(a, task, &m));
    struct fst_ref ref = alloc_one(a, child_of(a, cache, task));
    CHECK_EQ(FST_OK, fst_group_destroy(a, job));
    settle(a);
    CHECK_EQ(FST_GROUP_DESTROYED, info_of(task).state); /* an object of it is in use */
    struct fst_keeper keeper[4];
    CHECK_EQ(1, fst_keeper_list(a, keeper, 4));
    CHECK_EQ(4096, keeper[0].bytes);
    CHECK_EQ(1, keeper[0].references);
    fst_drop(a, &ref);
    settle(a);
    CHECK_EQ(0, info_of(task).state);
    CHECK_EQ(0, info_of(job).state);
    CHECK_EQ(1, state_of(a).groups);
    /* Others on the same descriptors are not touched by what is left of these. */
    uint64_t next = make_group(a, "next", root, FST_NO_LIMIT, 0), after = make_group(a, "after", next, FST_NO_LIMIT, 0);
    CHECK(((uint32_t)next == (uint32_t)job || (uint32_t)next == (uint32_t)task) && next != job && next != task);
    CHECK_EQ(FST_CLOSED, fst_group_hold(a, task));
    TELL(p, 'l');
    fst_group_unref_at(a, task, entry);
    fst_group_unref(a, job);
    settle(a);
    CHECK_EQ(FST_GROUP_LIVE, info_of(next).state);
    CHECK_EQ(FST_GROUP_LIVE, info_of(after).state);
    uint64_t taken;
    CHECK(fst_group_take(a, &m, &taken) != FST_OK);
    peer_say(&p, 'e');
    peer_end(&p);
    fst_group_unref(a, after);
    fst_group_unref(a, next);
    tear_down();
}

static _Atomic bool opening;
static _Atomic int opened;

/* Comes to groups that are being destroyed, again and again, with a reference that its process
 * has already. */
static void *open_what_ends(void *unused)
{
    (void)unused;
    while (opening) {
        struct fst_group_spec spec = {.name = "job", .parent = fst_group_root(a)};
        uint64_t group;
        bool created;
        struct fst_message m;
        if (fst_group_open(a, &spec, &group, &created) != FST_OK)
            continue;
        opened++;
        uint32_t entry = fst_group_entry(a, group);
        if (fst_group_share(a, group, &m) == FST_OK)
            fst_inflight_drop_from(a, 0, group, 0, false);
        if (created)
            fst_group_destroy(a, group);
        fst_group_unref_at(a, group, entry);
    }
    return NULL;
}

static void opened_while_it_ends(void)
{
    set_up();
    pthread_t thread;
    opening = true;
    REQUIRE(pthread_create(&thread, NULL, open_what_ends, NULL) == 0);
    for (opened = 0; opened < 20000;) {
        struct fst_group_spec spec = {.name = "job", .parent = fst_group_root(a)};
        uint64_t group;
        bool created;
        REQUIRE(fst_group_open(a, &spec, &group, &created) == FST_OK);
        uint32_t entry = fst_group_entry(a, group);
        CHECK(entry != FST_NONE);
        fst_group_destroy(a, group);
        /* one for what came in while the first ran, one for its message */
        for (int k = 0; k < 3; k++)
            fst_barrier(a, FST_FOREVER);
        if (info_of(group).state) {
            opening = false;
            pthread_join(thread, NULL);
            settle(a);
            CHECK_EQ(0, info_of(group).state);
            if (info_of(group).state)
                break;
            opening = true;
            REQUIRE(pthread_create(&thread, NULL, open_what_ends, NULL) == 0);
        }
        fst_group_unref_at(a, group, entry);
    }
    if (opening) {
        opening = false;
        pthread_join(thread, NULL);
    }
    tear_down();
}

static void close_group(void)
{
    set_up();
    uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0), child = child_of(a, cache, job);
    struct fst_ref ref = alloc_one(a, child), out, empty[20];
    struct fst_handle h;
    for (int i = 0; i < 20; i++)
        empty[i] = alloc_one(a, child);
    for (int i = 0; i < 20; i++)
        fst_drop(a, &empty[i]);
    fill(ref.data, 4096, 6);
    fst_handle_of(a, &ref, &h);
    CHECK_EQ(FST_OK, fst_group_close(a, job));
    CHECK_EQ(2, info_of(job).state);
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &out));
    CHECK_EQ(FST_CLOSED, fst_child_open(a, cache, job, &child));
    CHECK_EQ(FST_CLOSED, fst_group_hold(a, job));
    CHECK_EQ(FST_OK, fst_resolve(a, &h, &out)); /* what is there lives on */
    fst_drop(a, &out);
    settle(a);
    CHECK(filled(ref.data, 4096, 6));
    /* empty slabs went */
    CHECK_EQ(fst_child_at(a, fst_slab_at(a, fst_oid_slab(ref.oid))->child)->pages * 4096ull, used_bytes(a));
    CHECK(!info_of(job).released);
    uint64_t again = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK(again != job);
    fst_group_unref(a, job);
    settle(a);
    CHECK(filled(ref.data, 4096, 6));
    fst_drop(a, &ref);
    fst_group_unref(a, again);
    tear_down();
}

/* The last process that has the group open lets go of it, or is killed: closed. */
static void closed_by_the_last(void)
{
    struct post *post = shared_memory(sizeof *post);
    for (int killed = 0; killed < 2; killed++) {
        set_up();
        struct peer p = peer_start(use_group, post);
        uint64_t job = post->group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
        struct fst_ref ref = alloc_one(a, child_of(a, cache, job));
        TELL(p, 'h');
        fst_group_unref(a, job);
        settle(a);
        CHECK_EQ(1, info_of(job).state);
        if (killed)
            peer_kill(&p);
        else
            TELL(p, 'u');
        settle(a);
        CHECK_EQ(2, info_of(job).state);
        fst_drop(a, &ref);
        settle(a);
        CHECK_EQ(0, info_of(job).state);
        if (!killed)
            peer_end(&p);
        tear_down();
    }
    munmap(post, sizeof *post);
}

static void lasting(void)
{
    set_up();
    uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, FST_GROUP_LASTING);
    fst_group_unref(a, job);
    settle(a);
    settle(a);
    CHECK_EQ(1, info_of(job).state);
    CHECK_EQ(job, make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, FST_GROUP_LASTING));
    fst_group_unref(a, job);
    settle(a);
    CHECK_EQ(FST_OK, fst_group_destroy(a, job));
    settle(a);
    CHECK_EQ(0, info_of(job).state);
    job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, FST_GROUP_LASTING);
    CHECK_EQ(FST_OK, fst_group_close(a, job));
    fst_group_unref(a, job);
    tear_down();
}

static void lasting_closed_by_nobody(void)
{
    set_up();
    uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, FST_GROUP_LASTING);
    fst_group_unref(a, job);
    settle(a);
    /* by who has it from a list, and holds no reference */
    CHECK_EQ(FST_OK, fst_group_close(a, job));
    tear_down();
}

/* What is on its way in a destroyed group ends with it, and keeps nothing. */
static void messages_of_a_destroyed_group(void)
{
    set_up();
    uint64_t job = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0), base = used_bytes(a);
    struct fst_ref ref = alloc_one(a, child_of(a, make_cache(a, "sent", 64, 0), job));
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, state_of(a).in_flight);
    CHECK_EQ(FST_OK, fst_group_destroy(a, job));
    fst_group_unref(a, job);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(0, state_of(a).in_flight);
    CHECK_EQ(base, used_bytes(a));
    CHECK_EQ(FST_STALE, fst_take(a, &m, &ref));
    tear_down();
}

static void group_in_flight(void)
{
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(use_group, post);
    uint64_t job = post->group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0), group;
    CHECK_EQ(FST_OK, fst_group_share(a, job, &post->g));
    fst_group_unref(a, job);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, info_of(job).state);
    TELL(p, 'g');
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, info_of(job).state);
    CHECK_EQ(FST_OK, fst_group_take(a, &post->g, &group)); /* read twice */
    CHECK_EQ(job, group);
    fst_group_unref(a, group);
    TELL(p, 'u');
    settle(a);
    CHECK_EQ(0, info_of(job).state);
    CHECK_EQ(FST_STALE, fst_group_take(a, &post->g, &group));
    struct fst_message m = post->g;
    struct fst_ref ref;
    CHECK_EQ(FST_STALE, fst_take(a, &m, &ref)); /* a group's message is no object's */
    CHECK_EQ(FST_STALE, fst_resolve(a, &m.handle, &ref));
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

TEST_MAIN(CASE(tree), CASE(limits), CASE(never_exceeded), CASE(destroy_in_use), CASE(handles_hold_nothing),
          CASE(opened_while_it_ends), CASE(close_group), CASE(closed_by_the_last), CASE(lasting), CASE(lasting_closed_by_nobody),
          CASE(messages_of_a_destroyed_group), CASE(group_in_flight))
