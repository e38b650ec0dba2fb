/* channel_operations.h - what is done with channels, as something to be killed or stopped in. */
#ifndef FST_TEST_CHANNEL_OPERATIONS_H
#define FST_TEST_CHANNEL_OPERATIONS_H

#include "arena/channel.h"
#include "channel/queue.h"
#include "channel/ring.h"
#include "kill.h"

static fst_channel_use *kept, *jobs, *guard; /* the survivor's; victims inherit them */
static size_t base_channels;

static fst_channel_use *open_channel(const char *name, uint32_t capacity, uint32_t flags)
{
    struct fst_channel_spec spec = {.name = name, .capacity = capacity, .inline_bytes = 64, .flags = flags, .group = root};
    fst_channel_use *u = NULL;
    bool created;
    int rc = fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created);
    if (rc) {
        TEST_FAIL("open gave %d: %s", rc, fst_last_error());
        _exit(1);
    }
    return u;
}

static fst_channel_use *open_lock(const char *name)
{
    struct fst_channel_spec spec = {.name = name, .capacity = 1, .flags = FST_CHANNEL_LOCK, .group = root};
    fst_channel_use *u = NULL;
    bool created;
    REQUIRE(fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created) == FST_OK);
    return u;
}

static void begin(void)
{
    start();
    kept = open_channel("kept", 3, 0);
    jobs = open_channel("jobs", 3, FST_CHANNEL_ACK);
    guard = open_lock("guard");
    settle(a);
    base = state_of(a);
    fst_cache_list(a, base_caches, 16);
    base_channels = fst_channel_list(a, NULL, 0);
}

static void end(void)
{
    fst_channel_leave(kept);
    fst_channel_leave(jobs);
    fst_channel_leave(guard);
    fst_arena_unref(a);
}

/* ---- messages: a number, and perhaps an object filled with it ---- */

static int put_to(fst_channel_use *u, uint64_t n, struct fst_ref *ref, bool keep)
{
    return fst_channel_put(u, &(struct fst_letter){.bytes = &n, .nbytes = sizeof n, .kind = 1, .ref = ref, .keep = keep});
}

static int get_from(fst_channel_use *u, uint64_t *n, struct fst_received *r)
{
    uint8_t bytes[64];
    int rc = fst_channel_get(u, bytes, r);
    if (rc)
        return rc;
    CHECK_EQ(1, r->kind);
    CHECK_EQ(sizeof *n, r->nbytes);
    memcpy(n, bytes, sizeof *n);
    if (r->has_ref)
        CHECK(filled(r->ref.data, r->ref.nbytes, *n));
    return FST_OK;
}

static uint64_t next = 1;

static void make_ref(void)
{
    w->ref = alloc_one(a, pool);
    fill(w->ref.data, w->ref.nbytes, 99);
}

static void put_number(void)
{
    MUST(put_to(kept, 99, NULL, false));
}

static void put_moved(void)
{
    MUST(put_to(kept, 99, &w->ref, false));
}

static void put_kept(void)
{
    MUST(put_to(kept, 99, &w->ref, true));
}

static void make_shared_ref(void)
{
    make_ref();
    MUST(fst_share(a, &w->ref, &w->message));
}

static void put_when_full(void)
{
    CHECK_EQ(FST_WAIT, put_to(kept, 99, w->ref.data ? &w->ref : NULL, false));
}

static void put_when_closed(void)
{
    fst_channel_use *u = open_channel("closed", 1, 0);
    fst_channel_close(u);
    fst_fault_arm(w->point);
    CHECK_EQ(FST_END, put_to(u, 99, &w->ref, false));
}

static void get_number(void)
{
    uint64_t n;
    struct fst_received r;
    MUST(get_from(kept, &n, &r));
}

static void get_and_drop(void)
{
    uint64_t n;
    struct fst_received r;
    MUST(get_from(kept, &n, &r));
    if (r.has_ref)
        fst_drop(a, &r.ref);
}

static void take_job(void)
{
    uint64_t n;
    struct fst_received r;
    MUST(get_from(jobs, &n, &r));
    if (r.has_ref)
        fst_drop(a, &r.ref);
    w->n = (int)r.node;
    w->bytes = r.word;
}

static void finish_job(void)
{
    MUST(fst_channel_done(jobs, &(struct fst_received){.node = (uint32_t)w->n, .word = w->bytes}));
}

static void take_and_finish_job(void)
{
    take_job();
    finish_job();
}

static void put_one(void)
{
    MUST(put_to(kept, next++, NULL, false));
}

static void put_object(struct fst_ref *ref, fst_channel_use *u, bool keep)
{
    *ref = alloc_one(a, pool);
    fill(ref->data, ref->nbytes, next);
    MUST(put_to(u, next++, ref, keep));
    if (keep)
        fst_drop(a, ref);
}

static void put_two_objects(void)
{
    struct fst_ref ref;
    put_object(&ref, kept, false);
    put_object(&ref, kept, true);
}

static void put_jobs(void)
{
    struct fst_ref ref;
    put_object(&ref, jobs, false);
    MUST(put_to(jobs, next++, NULL, false));
}

static void fill_up(void)
{
    for (int i = 0; i < 3; i++)
        put_one();
}

/* Whatever is there can be taken; it works as ever. */
static uint64_t drain(fst_channel_use *u, bool jobs_too)
{
    uint64_t n, count = 0;
    struct fst_received r;
    while (get_from(u, &n, &r) == FST_OK) {
        if (r.has_ref)
            fst_drop(a, &r.ref);
        if (jobs_too)
            CHECK_EQ(FST_OK, fst_channel_done(u, &r));
        count++;
    }
    for (uint64_t i = 0; i < 10; i++) {
        for (uint64_t k = 0; k < 3; k++)
            CHECK_EQ(FST_OK, put_to(u, i + k, NULL, false));
        CHECK_EQ(FST_WAIT, put_to(u, 0, NULL, false));
        for (uint64_t k = 0; k < 3; k++) {
            CHECK_EQ(FST_OK, get_from(u, &n, &r));
            CHECK_EQ(i + k, n);
            if (jobs_too)
                CHECK_EQ(FST_OK, fst_channel_done(u, &r));
        }
        CHECK_EQ(FST_WAIT, get_from(u, &n, &r));
    }
    return count;
}

static void after_put(void)
{
    CHECK(drain(kept, false) <= 1);
}

static void after_full(void)
{
    CHECK_EQ(3, drain(kept, false));
}

static void after_get_of_one(void)
{
    CHECK(drain(kept, false) <= 1);
}

static void after_get_of_two(void)
{
    uint64_t n = drain(kept, false);
    CHECK(n == 1 || n == 2);
}

/* Nothing is lost of what was not acknowledged. */
static void after_job(void)
{
    settle(a);
    CHECK_EQ(2, drain(jobs, true));
}

static void after_finished(void)
{
    settle(a);
    uint64_t n = drain(jobs, true);
    CHECK(n == 1 || n == 2);
}

static void after_any(void)
{
    drain(kept, false);
    settle(a);
    CHECK_EQ(base_channels, fst_channel_list(a, NULL, 0));
}

static void open_new(void)
{
    fst_channel_use *u = open_channel(named("victim"), 5, 0);
    MUST(put_to(u, 99, NULL, false));
}

static void open_again(void)
{
    fst_channel_leave(open_channel("kept", 3, 0));
}

static fst_channel_use *own;

static void have_own(void)
{
    struct fst_ref ref;
    own = open_channel(named("victim"), 5, 0);
    put_object(&ref, own, false);
    put_object(&ref, own, true);
}

static void leave_own(void)
{
    fst_channel_leave(own);
}

static void leave_and_wait(void)
{
    leave_own();
    for (int i = 0; i < 3; i++)
        MUST(fst_barrier(a, FST_FOREVER));
}

static void close_own(void)
{
    MUST(fst_channel_close(own));
}

static void destroy_own(void)
{
    MUST(fst_channel_destroy(own));
}

static void destroy_and_wait(void)
{
    destroy_own();
    leave_and_wait();
}

static void wake_sleepers(void)
{
    struct fst_ring_view *v = (struct fst_ring_view *)kept;
    v->ring->takers |= 1;
    put_number();
}

/* Somebody who died with all kinds of things in their hands: the next one mends. */
static void die_with_nodes(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct fst_ring_view *v = (struct fst_ring_view *)kept;
        fst_reaper_stop(a, true);
        take_job();
        for (int i = 0; i < 2; i++) {
            uint32_t node = fst_ring_claim(v);
            struct fst_ref ref = alloc_one(a, pool);
            fst_store_release(&v->refs[node], fst_node_ref(ref.oid));
            if (i)
                fst_node_at(v, node)->word = fst_node_word(FST_NODE_QUEUED, a->slot, 77);
        }
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, NULL, 0);
}

static void jobs_and_dead(void)
{
    put_jobs();
    die_with_nodes();
}

static void barrier(void)
{
    MUST(fst_barrier(a, FST_FOREVER));
}

static void acquire(void)
{
    bool inherited;
    MUST(fst_named_lock_acquire(guard, FST_FOREVER, &inherited));
}

static void give_back(void)
{
    MUST(fst_named_lock_release(guard));
}

static void acquire_and_give_back(void)
{
    acquire();
    give_back();
}

/* Whoever had it, the next one has it, and knows whether it was left. */
static void after_lock(void)
{
    bool inherited, left = ((struct fst_channel_use *)guard)->v.ring->lock != 0;
    CHECK_EQ(FST_OK, fst_named_lock_acquire(guard, 0, &inherited));
    CHECK_EQ(left, inherited);
    CHECK_EQ(FST_OK, fst_named_lock_release(guard));
    CHECK_EQ(FST_OK, fst_named_lock_acquire(guard, 0, &inherited));
    CHECK(!inherited);
    CHECK_EQ(FST_OK, fst_named_lock_release(guard));
}

static const struct operation channel_operations[] = {
    {"acquire a lock", NULL, NULL, acquire, after_lock, false},
    {"acquire a lock and give it back", NULL, NULL, acquire_and_give_back, after_lock, false},
    {"give a lock back", NULL, acquire, give_back, after_lock, false},
    {"put", NULL, NULL, put_number, after_put, false},
    {"put and wake", NULL, NULL, wake_sleepers, after_put, false},
    {"put an object", NULL, make_ref, put_moved, after_put, false},
    {"put an object and keep it", NULL, make_ref, put_kept, after_put, false},
    {"put a shared object", NULL, make_shared_ref, put_moved, after_put, false},
    {"put when full", fill_up, NULL, put_when_full, after_full, false},
    {"put an object when full", fill_up, make_ref, put_when_full, after_full, false},
    {"put an object when closed", NULL, make_ref, put_when_closed, after_any, false},
    {"get", put_one, NULL, get_number, after_get_of_one, false},
    {"get, the queue full", fill_up, NULL, get_number, after_any, false},
    {"get an object", put_two_objects, NULL, get_number, after_get_of_two, false},
    {"get an object and drop it", put_two_objects, NULL, get_and_drop, after_get_of_two, false},
    {"take a job", put_jobs, NULL, take_job, after_job, false},
    {"finish a job", put_jobs, take_job, finish_job, after_finished, false},
    {"take and finish a job", put_jobs, NULL, take_and_finish_job, after_finished, false},
    {"open", NULL, NULL, open_new, after_any, false},
    {"open what is there", NULL, NULL, open_again, after_any, false},
    {"leave", NULL, have_own, leave_own, after_any, false},
    {"leave and batch", NULL, have_own, leave_and_wait, after_any, false},
    {"close", NULL, have_own, close_own, after_any, false},
    {"destroy", NULL, have_own, destroy_own, after_any, false},
    {"destroy and batch", NULL, have_own, destroy_and_wait, after_any, false},
    {"bury who had messages", jobs_and_dead, NULL, barrier, after_job, false},
};
#define COUNT ((int)(sizeof channel_operations / sizeof *channel_operations))

#endif
