/* Whoever allocates large objects gets what was dropped, not a new slab; nothing that others do
 * makes it wait. There is no reaper thread in here, and nobody asks for a batch: what is
 * released, an allocation released. An alarm ends a wait for ever. */
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/reaper.h"
#include "reclaim/reuse.h"
#include "region/lock.h"
#include "support.h"

#define PATIENCE 30
#define LARGE    (MIB) /* more than a thread keeps free slabs of */

static fst_arena *a;
static uint64_t child;

static void set_up(void)
{
    alarm(PATIENCE);
    a = anonymous(64 * MIB);
    fst_reaper_stop(a, true);
    child = root_child(a, "large", LARGE, 0);
}

static void tear_down(void)
{
    CHECK_CLEAN(a);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    alarm(0);
}

static struct fst_arena_info info(void)
{
    struct fst_arena_info i;
    fst_arena_get_info(a, &i);
    return i;
}

static void share_and_take(const struct fst_ref *ref, struct fst_ref *taken)
{
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, ref, &m));
    CHECK_EQ(FST_OK, fst_take(a, &m, taken));
}

/* An object that only a batch can release. */
static struct fst_ref drop_shared(struct fst_ref ref)
{
    struct fst_ref taken;
    share_and_take(&ref, &taken);
    fst_drop(a, &taken);
    fst_drop(a, &ref);
    return ref;
}

static void a_dropped_object(void)
{
    set_up();
    uint64_t batches = info().batches;
    struct fst_ref first = alloc_one(a, child);
    uint64_t used = info().used;
    for (int i = 0; i < 1000; i++) {
        uint64_t generation = generation_of(a, &first);
        drop_shared(first);
        struct fst_ref next = alloc_one(a, child);
        CHECK_EQ((uintptr_t)first.data, (uintptr_t)next.data);
        CHECK(generation_of(a, &next) != generation);
        first = next;
    }
    CHECK_EQ(1000, info().released_objects);
    CHECK_EQ(used, info().used);
    CHECK_EQ(batches, info().batches); /* nobody who waits for a batch was served */
    fst_drop(a, &first);
    tear_down();
}

/* The last one dropped comes first: its bytes are in a cache. */
static void the_last_one_first(void)
{
    set_up();
    struct fst_ref refs[4];
    for (int i = 0; i < 4; i++)
        refs[i] = alloc_one(a, child);
    uint64_t used = info().used;
    for (int i = 0; i < 2; i++) {
        drop_shared(refs[i]);
        drop_shared(refs[i + 2]);
        struct fst_ref again[2] = {alloc_one(a, child), alloc_one(a, child)};
        CHECK_EQ(used, info().used);
        refs[i] = again[0];
        refs[i + 2] = again[1];
    }
    for (int i = 0; i < 4; i++)
        fst_drop(a, &refs[i]);
    tear_down();
}

/* Runs of any length, which are in no cache of their own. */
static void runs_of_any_length(void)
{
    set_up();
    drop_shared(alloc_bytes(a, 3 * MIB));
    uint64_t used = info().used;
    for (int i = 0; i < 100; i++) {
        struct fst_ref ref = alloc_bytes(a, 2 * MIB + (uint64_t)i * 4096);
        CHECK_EQ(i + 1, info().released_objects);
        CHECK(info().used <= used);
        drop_shared(ref);
    }
    tear_down();
}

static void take_and_drop(struct peer *parent, void *context)
{
    const struct fst_message *m = context;
    struct fst_ref ref;
    fst_reaper_stop(a, true);
    while (peer_hear(parent) == 't') {
        CHECK_EQ(FST_OK, fst_take(a, m, &ref));
        fst_drop(a, &ref);
        peer_say(parent, 'k');
    }
}

/* The one who dropped it last is another process. */
static void of_another_process(void)
{
    set_up();
    struct fst_message *m = shared_memory(4096);
    struct peer p = peer_start(take_and_drop, m);
    uint64_t used = 0;
    for (int i = 0; i < 100; i++) {
        struct fst_ref ref = alloc_one(a, child);
        CHECK_EQ(FST_OK, fst_share(a, &ref, m));
        fst_drop(a, &ref);
        TELL(p, 't');
        used = used ? used : info().used;
        CHECK_EQ(used, info().used);
    }
    CHECK_EQ(99, info().released_objects);
    peer_end(&p);
    tear_down();
}

/* What somebody still uses, or will, is not reused. */
static void not_what_is_in_use(void)
{
    set_up();
    struct fst_ref held = alloc_one(a, child), taken, sent = alloc_one(a, child);
    struct fst_message m;
    share_and_take(&held, &taken);
    CHECK_EQ(FST_OK, fst_share(a, &sent, &m));
    fill(taken.data, LARGE, 1);
    fill(sent.data, LARGE, 2);
    fst_drop(a, &held);
    fst_drop(a, &sent);
    for (int i = 0; i < 10; i++) {
        struct fst_ref ref = drop_shared(alloc_one(a, child));
        CHECK(ref.data != taken.data && ref.data != sent.data);
        fill(ref.data, LARGE, 3);
    }
    /* the last of them may rest */
    CHECK(info().released_objects >= 7 && info().released_objects <= 9);
    CHECK(filled(taken.data, LARGE, 1));
    CHECK(filled(sent.data, LARGE, 2));
    fst_drop(a, &taken);
    tear_down();
}

/* When much is under way, what was dropped rests for a while; but no more of it than the
 * processor's cache says, or a sixteenth of the arena. */
static void it_rests_when_much_is_in_use(void)
{
    set_up();
    enum { USED = 12, MOST = 4 }; /* MiB */
    struct fst_ref refs[USED], last[MOST];
    int rest = (int)((fst_reuse_rest(a) * FST_PAGE + MIB - 1) / MIB);
    CHECK(0 < rest && rest <= MOST);
    for (int i = 0; i < USED; i++)
        refs[i] = alloc_one(a, child);
    for (int i = 0; i < 100; i++) {
        int k = i % USED;
        last[i % MOST] = drop_shared(refs[k]);
        refs[k] = alloc_one(a, child);
        for (int j = 0; j < rest && j <= i && i < rest - 1; j++)
            CHECK(refs[k].data != last[j].data);
        CHECK(info().used <= (USED + (uint64_t)rest + 3) * MIB);
    }
    CHECK(info().released_objects >= 100 - (uint64_t)rest);
    for (int i = 0; i < USED; i++)
        fst_drop(a, &refs[i]);
    tear_down();
}

/* Where memory is short, nothing rests. */
static void not_where_memory_is_short(void)
{
    set_up();
    enum { USED = 12 };
    struct fst_ref refs[USED];
    uint64_t group = make_group(a, "limited", fst_group_root(a), USED * MIB, 0);
    uint64_t limited = child_of(a, make_cache(a, "limited", LARGE, 0), group);
    for (int i = 0; i < USED; i++)
        refs[i] = alloc_one(a, limited);
    for (int i = 0; i < 100; i++) {
        drop_shared(refs[i % USED]);
        refs[i % USED] = alloc_one(a, limited);
    }
    struct fst_ref more;
    CHECK_EQ(FST_LIMIT, fst_alloc(a, limited, &more));
    for (int i = 0; i < USED; i++)
        fst_drop(a, &refs[i]);
    for (int i = 0; i < 10; i++) {
        struct fst_ref run;
        CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, 7 * MIB, &run));
        drop_shared(run);
    }
    fst_group_unref(a, group);
    tear_down();
}

static void read_without_reaper(struct peer *parent, void *context)
{
    fst_reaper_stop(context, true);
    read_until_told(parent, context);
}

/* A new slab, at once, while somebody reads: stopped or not. */
static void beside_a_stopped_reader(void)
{
    set_up();
    struct peer p = peer_start(read_without_reaper, a);
    PEER_WAIT(&p, 'r');
    kill(p.pid, SIGSTOP);
    struct fst_ref old = drop_shared(alloc_one(a, child)), next = alloc_one(a, child);
    CHECK(next.data != old.data);
    CHECK_EQ(0, info().released_objects);
    CHECK_EQ(0, a->sb->batch_dirty); /* none was begun */
    kill(p.pid, SIGCONT);
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'l');
    struct fst_ref again = alloc_one(a, child);
    CHECK_EQ((uintptr_t)old.data, (uintptr_t)again.data);
    peer_end(&p);
    fst_drop(a, &next);
    fst_drop(a, &again);
    tear_down();
}

/* The reader came after the look: the batch is broken off, and what it has taken is the next
 * one's. */
static void a_reader_that_came_late(void)
{
    set_up();
    struct peer p = peer_start(read_without_reaper, a);
    PEER_WAIT(&p, 'r');
    struct fst_ref old = drop_shared(alloc_one(a, child));
    struct fst_thread *t = fst_thread_get(a);
    struct fst_batch_options options = {.drops_only = true, .timeout = 0};
    CHECK_EQ(FST_TIMEOUT, fst_batch_run(t, &options));
    /* it is not for this kind to look at everything */
    CHECK_EQ(FST_BUSY, fst_batch_run(t, &options));
    struct fst_ref next = alloc_one(a, child);
    CHECK(next.data != old.data);
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'l');
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, info().released_objects);
    peer_end(&p);
    fst_drop(a, &next);
    tear_down();
}

/* In a section of its own nothing is released, and nothing waits for itself. */
static void in_a_section(void)
{
    set_up();
    struct fst_ref old = drop_shared(alloc_one(a, child));
    CHECK_EQ(FST_OK, fst_read_lock(a));
    struct fst_ref next = alloc_one(a, child);
    CHECK(next.data != old.data);
    CHECK_EQ(0, info().released_objects);
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    fst_drop(a, &next);
    tear_down();
}

static void run_batches_for_ever(struct peer *parent, void *context)
{
    (void)context;
    fst_reaper_stop(a, true);
    CHECK(fst_trylock(a, &a->sb->reaper_lock) != FST_TRY_BUSY);
    peer_say(parent, 'b');
    peer_hear(parent);
    fst_unlock(a, &a->sb->reaper_lock);
}

/* Who runs a batch is stopped in it. */
static void beside_a_stopped_batch(void)
{
    set_up();
    struct peer p = peer_start(run_batches_for_ever, NULL);
    PEER_WAIT(&p, 'b');
    kill(p.pid, SIGSTOP);
    struct fst_ref old = drop_shared(alloc_one(a, child)), next = alloc_one(a, child);
    CHECK(next.data != old.data);
    CHECK_EQ(0, info().released_objects);
    kill(p.pid, SIGCONT);
    peer_end(&p);
    fst_drop(a, &next);
    tear_down();
}

/* Where many references would have to be looked at, the allocation does not. */
static void among_many_references(void)
{
    set_up();
    enum { MANY = 20000 };
    static struct fst_ref refs[MANY];
    uint64_t small = root_child(a, "small", 64, 0);
    for (int i = 0; i < MANY; i++)
        refs[i] = alloc_one(a, small);
    struct fst_ref old = drop_shared(alloc_one(a, child)), next = alloc_one(a, child);
    CHECK(next.data != old.data);
    CHECK_EQ(0, info().released_objects);
    fst_drop(a, &next);
    for (int i = 0; i < MANY; i++)
        fst_drop(a, &refs[i]);
    tear_down();
}

/* Nor where channels and stores may hold what was dropped, and there are many of these. */
static void not_for(void (*prepare)(void), void (*after)(void))
{
    set_up();
    struct fst_ref old = drop_shared(alloc_one(a, child)), next = alloc_one(a, child);
    CHECK_EQ((uintptr_t)next.data, (uintptr_t)old.data);
    prepare();
    uint64_t released = info().released_objects;
    old = drop_shared(next), next = alloc_one(a, child);
    CHECK(next.data != old.data);
    CHECK_EQ(released, info().released_objects);
    fst_drop(a, &next);
    after();
    tear_down();
}

static fst_channel_use *channel;
static fst_store_use *store;

static void open_channel(void)
{
    enum { MESSAGES = 20000 };
    struct fst_channel_spec spec = {.name = "large", .capacity = MESSAGES, .inline_bytes = 8, .group = fst_group_root(a)};
    struct fst_ref ref = alloc_one(a, root_child(a, "small", 64, 0));
    struct fst_received got;
    uint8_t bytes[8];
    bool created;
    CHECK_EQ(FST_OK, fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &channel, &created));
    /* a batch looks at the nodes that ever referred to an object */
    for (uint32_t i = 0; i < MESSAGES; i++) {
        CHECK_EQ(FST_OK, fst_channel_put(channel, &(struct fst_letter){.ref = &ref}));
        CHECK_EQ(FST_OK, fst_channel_get(channel, bytes, &got));
        ref = got.ref;
    }
    fst_drop(a, &ref);
}

static void leave_channel(void)
{
    fst_channel_leave(channel);
}

static void put_keys(void)
{
    enum { KEYS = 5000 };
    struct fst_store_spec spec = {.name = "large", .group = fst_group_root(a)};
    bool created;
    uint64_t version;
    CHECK_EQ(FST_OK, fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &store, &created));
    struct fst_ref ref = alloc_one(a, root_child(a, "small", 64, 0));
    struct fst_value value = {.ref = &ref};
    for (uint64_t i = 0; i < KEYS; i++)
        CHECK_EQ(FST_OK,
                 fst_store_put(store, &(struct fst_key){.bytes = &i, .nbytes = sizeof i}, &value, FST_ANY_VERSION, &version));
    fst_drop(a, &ref);
}

static void leave_store(void)
{
    CHECK_EQ(FST_OK, fst_store_destroy(store));
    fst_store_leave(store);
}

static void among_many_messages(void)
{
    not_for(open_channel, leave_channel);
}

static void among_many_keys(void)
{
    not_for(put_keys, leave_store);
}

/* What has ended waits for a batch that has a number. */
static void what_has_ended_is_left(void)
{
    set_up();
    uint64_t group = make_group(a, "ended", fst_group_root(a), FST_NO_LIMIT, 0);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    fst_group_unref(a, group);
    drop_shared(alloc_one(a, child));
    CHECK(a->sb->ended_head != FST_NONE);
    struct fst_ref next = alloc_one(a, child);
    CHECK(info().released_objects >= 1);
    CHECK(a->sb->ended_head != FST_NONE);
    fst_drop(a, &next);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_NONE, a->sb->ended_head);
    tear_down();
}

/* ---- all at once ---- */

#define WORKERS 4
#define BOXES   8
#define TURNS   4000

/* A message on its way, for whoever comes. */
static struct box {
    _Atomic int state; /* 0 empty, 1 in somebody's hands, 2 full */
    struct fst_message message;
} * boxes;

/* Its bytes say whose they are: of another life of the object they would say something else. */
static uint64_t mark_of(uint64_t oid, uint64_t generation)
{
    return oid << 24 ^ generation;
}

static void write_mark(const struct fst_ref *ref)
{
    uint64_t *words = ref->data;
    for (uint64_t at = 0; at < LARGE / 8; at += 512)
        words[at] = mark_of(ref->oid, generation_of(a, ref));
}

static void check_mark(const struct fst_ref *ref, uint64_t mark)
{
    const uint64_t *words = ref->data;
    for (uint64_t at = 0; at < LARGE / 8; at += 512)
        if (words[at] != mark) {
            TEST_FAIL("object %llx says %llx", (unsigned long long)ref->oid, (unsigned long long)words[at]);
            return;
        }
}

static void worker(struct peer *parent, void *context)
{
    (void)parent;
    uint64_t random = 88172645463325252ull ^ (uintptr_t)context << 20;
    struct fst_ref held = {0};
    uint64_t held_mark = 0;
    fst_reaper_stop(a, true);
    for (int turn = 0; turn < TURNS; turn++) {
        uint64_t r = next_random(&random);
        struct box *box = &boxes[r % BOXES];
        int empty = 0, full = 2;
        struct fst_ref ref;
        if (atomic_compare_exchange_strong(&box->state, &empty, 1)) {
            /* batches that readers broke off wait for a reaper, and there is none */
            while (fst_alloc(a, child, &ref))
                CHECK_EQ(FST_OK, fst_reclaim(a, UINT64_MAX, FST_FOREVER));
            write_mark(&ref);
            CHECK_EQ(FST_OK, fst_share(a, &ref, &box->message));
            fst_drop(a, &ref);
            atomic_store(&box->state, 2);
        } else if (atomic_compare_exchange_strong(&box->state, &full, 1)) {
            CHECK_EQ(FST_OK, fst_take(a, &box->message, &ref));
            uint64_t mark = mark_of(ref.oid, fst_handle_generation(&box->message.handle));
            atomic_store(&box->state, 0);
            CHECK_EQ(FST_OK, fst_read_lock(a));
            check_mark(&ref, mark);
            CHECK_EQ(FST_OK, fst_read_unlock(a));
            if (held.data) {
                check_mark(&held, held_mark);
                fst_drop(a, &held);
            }
            held = ref;
            held_mark = mark;
        }
    }
    if (held.data)
        fst_drop(a, &held);
}

static void among_processes(void)
{
    set_up();
    boxes = shared_memory(BOXES * sizeof *boxes);
    struct peer peers[WORKERS];
    for (uintptr_t i = 0; i < WORKERS; i++)
        peers[i] = peer_start(worker, (void *)(i + 1));
    for (int i = 0; i < WORKERS; i++)
        peer_end(&peers[i]);
    CHECK(info().released_objects > TURNS);
    munmap(boxes, BOXES * sizeof *boxes);
    tear_down();
}

TEST_MAIN(CASE(among_processes), CASE(a_dropped_object), CASE(the_last_one_first), CASE(runs_of_any_length),
          CASE(of_another_process), CASE(not_what_is_in_use), CASE(it_rests_when_much_is_in_use), CASE(not_where_memory_is_short),
          CASE(beside_a_stopped_reader), CASE(a_reader_that_came_late), CASE(in_a_section), CASE(beside_a_stopped_batch),
          CASE(among_many_references), CASE(among_many_messages), CASE(among_many_keys), CASE(what_has_ended_is_left))
