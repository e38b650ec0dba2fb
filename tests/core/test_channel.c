/* Channels in one process, and between processes that live. */
#include "alloc/registry.h"
#include "channel/ring.h"
#include "platform/atomics.h"
#include "reclaim/reaper.h"
#include "refs/word.h"
#include "support.h"

static fst_channel_use *open_channel(fst_arena *a, const char *name, uint32_t capacity, uint32_t flags)
{
    struct fst_channel_spec spec = {
        .name = name, .capacity = capacity, .inline_bytes = 64, .flags = flags, .group = fst_group_root(a)};
    return open_channel_as(a, &spec);
}

static int put_number(fst_channel_use *u, uint64_t n)
{
    return fst_channel_put(u, &(struct fst_letter){.bytes = &n, .nbytes = sizeof n, .kind = 7});
}

static int get_number(fst_channel_use *u, uint64_t *n)
{
    uint8_t bytes[64];
    struct fst_received r;
    int rc = fst_channel_get(u, bytes, &r);
    if (rc == FST_OK) {
        CHECK_EQ(7, r.kind);
        CHECK_EQ(sizeof *n, r.nbytes);
        memcpy(n, bytes, sizeof *n);
    }
    return rc;
}

static void in_order_and_bounded(void)
{
    fst_arena *a = anonymous(64 * MIB);
    static const uint32_t capacities[] = {1, 2, 3, 63, 64, 100};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        fst_channel_use *u = open_channel(a, NULL, capacities[i], 0);
        uint64_t next = 0, got = 0, n;
        for (int round = 0; round < 50; round++) {
            while (put_number(u, next) == FST_OK)
                next++;
            CHECK_EQ(capacities[i], next - got);
            for (uint32_t k = 0; k < (round % 3 ? capacities[i] : (capacities[i] + 1) / 2); k++, got++) {
                CHECK_EQ(FST_OK, get_number(u, &n));
                CHECK_EQ(got, n);
            }
        }
        while (get_number(u, &n) == FST_OK)
            CHECK_EQ(got++, n);
        CHECK_EQ(next, got);
        CHECK_EQ(FST_WAIT, get_number(u, &n));
        fst_channel_leave(u);
    }
    CHECK_CLEAN(a);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    fst_arena_unref(a);
}

/* Positions have 40 bits. */
static void positions_wrap(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "wrap", 3, 0);
    struct fst_ring_view *v = (struct fst_ring_view *)u;
    uint64_t begin = FST_POSITION_MASK - 200;
    for (uint64_t i = 0; i <= v->mask; i++)
        v->cells[(begin + i) & v->mask] = (begin + i) & FST_POSITION_MASK;
    v->ring->head = v->ring->tail = v->seen_head = v->seen_tail = begin;
    uint64_t next = 0, got = 0, n;
    for (int i = 0; i < 500; i++) {
        while (put_number(u, next) == FST_OK)
            next++;
        CHECK_EQ(3, next - got);
        CHECK_EQ(FST_OK, get_number(u, &n));
        CHECK_EQ(got, n);
        got++;
    }
    CHECK(v->ring->tail < 1000);
    fst_channel_leave(u);
    fst_arena_unref(a);
}

/* Who has it open, and is in no call, keeps nothing of what has ended. */
static void let_go_of_what_ended(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t group = make_group(a, "job", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_channel_spec spec = {.name = "x", .capacity = 8, .inline_bytes = 64, .group = group};
    fst_channel_use *u = open_channel_as(a, &spec);
    uint64_t n, channel = fst_channel_id(u);
    struct fst_channel_info info;
    uint32_t calls = 2, away = 0; /* a thread is in one */
    fst_channel_count(u, &calls, &away, 1);
    CHECK_EQ(FST_OK, put_number(u, 1));
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    settle(a);
    settle(a);
    CHECK_EQ(FST_OK, fst_channel_get_info(a, channel, &info));
    fst_store_release(&calls, 1);
    settle(a);
    settle(a);
    CHECK_EQ(FST_CLOSED, fst_channel_get_info(a, channel, &info));
    CHECK_EQ(FST_CLOSED, put_number(u, 1));
    CHECK_EQ(FST_CLOSED, get_number(u, &n));
    CHECK_EQ(FST_CLOSED, fst_channel_close(u));
    CHECK_EQ(FST_OK, fst_channel_destroy(u));
    CHECK(fst_channel_wait(u, true, 1000000000));
    CHECK_EQ(0, fst_channel_length(u));
    fst_channel_leave(u);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void closed_and_drained(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "closing", 2, 0);
    uint64_t n;
    CHECK_EQ(FST_OK, put_number(u, 1));
    CHECK_EQ(FST_OK, put_number(u, 2));
    CHECK_EQ(FST_OK, fst_channel_close(u)); /* also while it is full */
    CHECK_EQ(FST_OK, fst_channel_close(u));
    CHECK_EQ(FST_END, put_number(u, 3));
    CHECK_EQ(FST_OK, get_number(u, &n));
    CHECK_EQ(FST_END, put_number(u, 3));
    CHECK_EQ(FST_OK, get_number(u, &n));
    CHECK_EQ(2, n);
    CHECK_EQ(FST_END, get_number(u, &n));
    CHECK_EQ(FST_END, get_number(u, &n));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

static void found_by_name(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "name", 5, 0), *same = open_channel(a, "name", 5, 0), *other;
    CHECK_EQ(fst_channel_id(u), fst_channel_id(same));
    struct fst_channel_spec spec = {.name = "name", .capacity = 6, .inline_bytes = 64, .group = fst_group_root(a)};
    bool created;
    CHECK_EQ(FST_MISMATCH, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &other, &created));
    spec.capacity = 5;
    CHECK_EQ(FST_EXISTS, fst_channel_open(a, &spec, FST_CREATE_NEW, &other, &created));
    struct fst_message m, late;
    CHECK_EQ(FST_OK, fst_channel_share(u, &m));
    CHECK_EQ(FST_OK, fst_channel_join(a, &m, &other));
    CHECK_EQ(fst_channel_id(u), fst_channel_id(other));
    CHECK_EQ(0, fst_channel_length(other));
    fst_channel_leave(other);
    CHECK_EQ(FST_OK, fst_channel_share(u, &late));
    uint64_t id = fst_channel_id(u), n;
    CHECK_EQ(FST_OK, put_number(u, 9));
    fst_channel_leave(u);
    CHECK_EQ(FST_OK, get_number(same, &n));
    fst_channel_leave(same);
    settle(a); /* which drops the message, too */
    settle(a);
    CHECK_EQ(FST_CLOSED, fst_channel_join(a, &late, &other)); /* its last user ended it */
    CHECK_EQ(FST_MISSING, fst_channel_open(a, &spec, FST_OPEN_EXISTING, &other, &created));
    u = open_channel(a, "name", 7, 0); /* anew, with other parameters */
    CHECK(fst_channel_id(u) != id);
    CHECK_EQ(FST_WAIT, get_number(u, &n));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

static void lasting_and_destroyed(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "lasting", 5, FST_CHANNEL_LASTING);
    uint64_t n;
    CHECK_EQ(FST_OK, put_number(u, 5));
    fst_channel_leave(u);
    settle(a);
    settle(a);
    u = open_channel(a, "lasting", 5, FST_CHANNEL_LASTING);
    CHECK_EQ(FST_OK, get_number(u, &n));
    CHECK_EQ(5, n);
    fst_channel_use *second = open_channel(a, "lasting", 5, FST_CHANNEL_LASTING);
    CHECK_EQ(FST_OK, fst_channel_destroy(u));
    CHECK_EQ(FST_CLOSED, put_number(second, 1));
    CHECK_EQ(FST_CLOSED, get_number(second, &n));
    fst_channel_use *fresh = open_channel(a, "lasting", 9, 0);
    CHECK_EQ(FST_OK, put_number(fresh, 1));
    settle(a);
    CHECK_EQ(FST_CLOSED, put_number(second, 1)); /* its memory is still there */
    fst_channel_leave(second);
    fst_channel_leave(u);
    settle(a);
    CHECK_EQ(1, fst_channel_list(a, NULL, 0));
    fst_channel_leave(fresh);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void ends_with_its_group(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t group = make_group(a, "job", fst_group_root(a), 8 * MIB, 0), n;
    struct fst_group_info info;
    struct fst_channel_spec spec = {.name = "jobs", .capacity = 100, .inline_bytes = 64, .group = group};
    fst_channel_use *u;
    bool created;
    CHECK_EQ(FST_OK, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    fst_group_get_info(a, group, &info);
    CHECK(info.usage >= fst_ring_bytes(100, 64, 0));
    struct fst_ref ref = alloc_bytes(a, 1000);
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    settle(a);
    CHECK_EQ(FST_CLOSED, put_number(u, 1));
    CHECK_EQ(FST_CLOSED, get_number(u, &n));
    fst_channel_leave(u);
    settle(a);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    CHECK(fst_group_get_info(a, group, &info) != FST_OK || info.usage == 0);
    fst_group_unref(a, group);
    settle(a);
    CHECK_EQ(0, state_of(a).allocated);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- objects ---- */

static uint64_t word_of(fst_arena *a, const struct fst_ref *ref)
{
    return fst_load_acquire(fst_word_of(a, ref->oid));
}

/* Handed over and dropped without anybody else ever knowing of it: no batch has to look. */
static void object_moves(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_reaper_stop(a, true);
    fst_channel_use *u = open_channel(a, "objects", 4, 0);
    uint64_t child = root_child(a, "frames", 100, 0);
    settle(a);
    uint64_t before = a->self->dropped;
    for (uint64_t i = 0; i < 5000; i++) {
        struct fst_ref ref = alloc_one(a, child);
        struct fst_received r;
        memcpy(ref.data, &i, sizeof i);
        uint64_t oid = ref.oid;
        CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
        CHECK_EQ(0, fst_inflight_list(a, NULL, 0));
        CHECK_EQ(FST_OK, fst_channel_get(u, NULL, &r));
        CHECK(r.has_ref && r.ref.oid == oid && r.ref.nbytes == 100 && memcmp(r.ref.data, &i, sizeof i) == 0);
        CHECK_EQ(FST_WORD_ALLOCATED, word_of(a, &r.ref) & FST_WORD_FLAGS);
        fst_drop(a, &r.ref);
        CHECK_EQ(0, word_of(a, &r.ref) & FST_WORD_FLAGS);
    }
    CHECK_EQ(before, a->self->dropped);
    fst_channel_leave(u);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void object_kept(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "objects", 4, 0);
    struct fst_ref ref = alloc_bytes(a, 100);
    struct fst_received r;
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref, .keep = true}));
    memset(ref.data, 3, 100);
    CHECK_EQ(FST_OK, fst_channel_get(u, NULL, &r));
    CHECK(r.ref.data == ref.data);
    fst_drop(a, &r.ref);
    settle(a);
    CHECK(word_of(a, &ref) & FST_WORD_ALLOCATED);
    /* shared by now: a batch sees to it */
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    settle(a);
    CHECK_EQ(FST_OK, fst_channel_get(u, NULL, &r));
    CHECK_EQ(3, ((uint8_t *)r.ref.data)[99]);
    fst_drop(a, &r.ref);
    fst_channel_leave(u);
    settle(a);
    CHECK_EQ(0, state_of(a).allocated);
    fst_arena_unref(a);
}

/* What waits in a channel is kept by it, and goes with it. */
static void objects_of_an_ended_channel(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "objects", 8, 0);
    struct fst_ref ref[9];
    for (int i = 0; i < 9; i++) {
        ref[i] = alloc_bytes(a, 1000);
        CHECK_EQ(i < 8 ? FST_OK : FST_WAIT, fst_channel_put(u, &(struct fst_letter){.ref = &ref[i], .keep = i % 2}));
    }
    settle(a);
    for (int i = 0; i < 9; i++)
        CHECK(word_of(a, &ref[i]) & FST_WORD_ALLOCATED);
    CHECK_EQ(FST_OK, fst_channel_close(u));
    CHECK_EQ(FST_END, fst_channel_put(u, &(struct fst_letter){.ref = &ref[8]}));
    fst_drop(a, &ref[8]); /* still ours, and nobody else's */
    CHECK_EQ(0, word_of(a, &ref[8]) & FST_WORD_FLAGS);
    fst_channel_leave(u);
    settle(a);
    settle(a);
    for (int i = 0; i < 8; i++)
        CHECK_EQ(i % 2, (word_of(a, &ref[i]) & FST_WORD_ALLOCATED) != 0);
    for (int i = 1; i < 8; i += 2)
        fst_drop(a, &ref[i]);
    settle(a);
    CHECK_EQ(0, state_of(a).allocated);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void object_of_a_destroyed_group(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "objects", 8, 0);
    uint64_t group = make_group(a, "gone", fst_group_root(a), FST_NO_LIMIT, 0), n;
    struct fst_ref ref;
    struct fst_received r;
    CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, 100, &ref));
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    CHECK_EQ(FST_OK, put_number(u, 3));
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    settle(a);
    CHECK_EQ(FST_OK, get_number(u, &n)); /* the other one is passed over */
    CHECK_EQ(3, n);
    CHECK_EQ(FST_WAIT, fst_channel_get(u, NULL, &r));
    fst_channel_leave(u);
    fst_group_unref(a, group);
    settle(a);
    settle(a);
    CHECK_EQ(1, fst_group_list(a, NULL, 0));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* destroy() of a cache counts what waits in channels. */
static void cache_in_use(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "objects", 8, 0);
    uint64_t cache = make_cache(a, "used", 100, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
    struct fst_received r;
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
    CHECK_EQ(FST_OK, fst_channel_get(u, NULL, &r));
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
    fst_drop(a, &r.ref);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

/* ---- acknowledgements ---- */

static void acknowledged(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "jobs", 4, FST_CHANNEL_ACK);
    struct fst_ref ref = alloc_bytes(a, 100);
    uint8_t bytes[64];
    struct fst_received r, second;
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    CHECK_EQ(FST_OK, put_number(u, 4));
    CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &r));
    fst_drop(a, &r.ref);
    settle(a);
    CHECK(word_of(a, &r.ref) & FST_WORD_ALLOCATED); /* it may come again */
    CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &second));
    CHECK_EQ(FST_OK, fst_channel_done(u, &second));
    CHECK_EQ(FST_STALE, fst_channel_done(u, &second));
    CHECK_EQ(FST_OK, fst_channel_done(u, &r));
    settle(a);
    CHECK_EQ(0, word_of(a, &r.ref) & FST_WORD_ALLOCATED);
    fst_channel_leave(u);
    fst_arena_unref(a);
}

static fst_arena *shared_arena;

static void take_three_and_die(void)
{
    fst_channel_use *u = open_channel(shared_arena, "jobs", 4, FST_CHANNEL_ACK);
    uint8_t bytes[64];
    struct fst_received r;
    for (int i = 0; i < 3; i++)
        CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &r));
    CHECK_EQ(FST_OK, fst_channel_done(u, &r));
    kill(getpid(), SIGKILL);
}

static void comes_again(bool closed)
{
    fst_arena *a = shared_arena = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "jobs", 4, FST_CHANNEL_ACK);
    uint8_t bytes[64];
    struct fst_received r;
    uint64_t sum = 0, n;
    struct fst_ref ref = alloc_bytes(a, 100);
    memset(ref.data, 9, 100);
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    for (uint64_t i = 1; i < 4; i++)
        CHECK_EQ(FST_OK, put_number(u, i));
    pid_t pid = fork();
    if (pid == 0)
        take_three_and_die();
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
    if (closed)
        CHECK_EQ(FST_OK, fst_channel_close(u));
    settle(a);
    settle(a);
    int objects = 0;
    for (int i = 0; i < 3; i++) { /* the one that nobody took, and two again */
        CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &r));
        if (r.has_ref) {
            CHECK_EQ(9, ((uint8_t *)r.ref.data)[99]);
            fst_drop(a, &r.ref);
            objects++;
        } else {
            memcpy(&n, bytes, sizeof n);
            sum += n;
        }
        CHECK_EQ(FST_OK, fst_channel_done(u, &r));
    }
    CHECK_EQ(1, objects);
    CHECK_EQ(3 + 1, sum);
    CHECK_EQ(closed ? FST_END : FST_WAIT, fst_channel_get(u, bytes, &r));
    fst_channel_leave(u);
    settle(a);
    CHECK_EQ(0, state_of(a).allocated);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void a_dead_takers_come_again(void)
{
    comes_again(false);
}

static void also_behind_the_end(void)
{
    comes_again(true);
}

/* ---- waiting, processes, readers ---- */

#define MANY 20000u

static void producer(fst_arena *a)
{
    fst_channel_use *u = open_channel(a, "numbers", 8, 0);
    for (uint64_t i = 0; i < MANY;) {
        int rc = put_number(u, i);
        if (rc == FST_OK)
            i++;
        else if (rc == FST_WAIT)
            fst_channel_wait(u, false, FST_FOREVER);
        else
            REQUIRE(!"put");
    }
    fst_channel_leave(u);
}

static void between_processes(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "numbers", 8, 0);
    pid_t pid[2];
    for (int i = 0; i < 2; i++) {
        if ((pid[i] = fork()) == 0) {
            producer(a);
            CHILD_EXIT();
        }
    }
    uint64_t sum = 0, n;
    for (uint64_t got = 0; got < 2 * MANY;) {
        int rc = get_number(u, &n);
        if (rc == FST_OK) {
            sum += n;
            got++;
        } else {
            CHECK_EQ(FST_WAIT, rc);
            fst_channel_wait(u, true, FST_FOREVER);
        }
    }
    CHECK_EQ((uint64_t)MANY * (MANY - 1), sum);
    for (int i = 0; i < 2; i++)
        CHECK_CHILD(pid[i]);
    CHECK_EQ(FST_WAIT, get_number(u, &n));
    fst_channel_leave(u);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* Data is mapped read-only; a ring has to be written. */
static void by_a_reader(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s", new_path("channel"));
    fst_arena *a = open_named(path);
    fst_channel_use *u = open_channel(a, "to a reader", 8, 0);
    struct fst_ref ref = alloc_bytes(a, 100);
    memset(ref.data, 5, 100);
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.ref = &ref}));
    pid_t pid = fork();
    if (pid == 0) {
        fst_channel_leave(u);
        fst_arena_unref(a);
        struct fst_open_options o = {.path = path, .create = FST_OPEN_EXISTING, .readonly = true};
        REQUIRE(fst_arena_open(&o, &a) == FST_OK);
        u = open_channel(a, "to a reader", 8, 0);
        struct fst_received r;
        CHECK_EQ(FST_OK, fst_channel_get(u, NULL, &r));
        CHECK_EQ(5, ((uint8_t *)r.ref.data)[50]);
        fst_drop(a, &r.ref);
        CHECK_EQ(FST_OK, put_number(u, 1));
        settle(a);
        fst_channel_leave(u);
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    uint64_t n;
    CHECK_EQ(FST_OK, get_number(u, &n));
    fst_channel_leave(u);
    settle(a);
    CHECK_EQ(0, state_of(a).allocated);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void bad_arguments(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u;
    bool created;
    struct fst_channel_spec spec = {.capacity = 0, .inline_bytes = 64, .group = fst_group_root(a)};
    CHECK_EQ(FST_INVALID, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    spec.capacity = 1u << 30;
    CHECK_EQ(FST_INVALID, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    spec.capacity = 1;
    spec.inline_bytes = 100000;
    CHECK_EQ(FST_INVALID, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    spec.inline_bytes = 64;
    spec.name = "";
    CHECK_EQ(FST_INVALID, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created));
    u = open_channel(a, "small", 1, 0);
    uint8_t bytes[65] = {0};
    CHECK_EQ(FST_INVALID, fst_channel_put(u, &(struct fst_letter){.bytes = bytes, .nbytes = 65}));
    CHECK_EQ(FST_OK, fst_channel_put(u, &(struct fst_letter){.bytes = bytes, .nbytes = 64}));
    fst_channel_leave(u);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(in_order_and_bounded), CASE(positions_wrap), CASE(let_go_of_what_ended), CASE(closed_and_drained),
          CASE(found_by_name), CASE(lasting_and_destroyed), CASE(ends_with_its_group), CASE(object_moves), CASE(object_kept),
          CASE(objects_of_an_ended_channel), CASE(object_of_a_destroyed_group), CASE(cache_in_use), CASE(acknowledged),
          CASE(a_dead_takers_come_again), CASE(also_behind_the_end), CASE(between_processes), CASE(by_a_reader),
          CASE(bad_arguments))
