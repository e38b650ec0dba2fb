/* One thread that waits for many channels, topics, stores and locks: it is woken by each of them,
 * by its process, and by itself where who would have woken it was killed.
 */
#include <pthread.h>
#include <sys/syscall.h>

#include "arena/channel.h"
#include "channel/wait.h"
#include "confined.h"
#include "platform/futex.h"
#include "store/store.h"
#include "support.h"

#define WAITV    449 /* the system call futex_waitv */
#define FOR_EVER (60000 * FST_MS)

static fst_arena *a;
static fst_channel_use *empty, *full, *news, *held, *lock;
static fst_store_use *store;
static struct fst_subscription sub;
static struct fst_awaited all[FST_FUTEX_MOST];
static struct fst_waiter waiter;

/* ---- a sleep that only a wake-up ends ---- */

static uint32_t sleeps;
static bool bounded;
/* Whoever changed this store wakes those who wait for it only when somebody is about to sleep until
 * the next change. */
static fst_store_use *woken_late;
static bool left_asleep; /* this one falls asleep, and the store does not know of it */

static void wake_late(const uint32_t *word, uint32_t expected)
{
    if (!woken_late)
        return;
    uint32_t index = (uint32_t)fst_store_id(woken_late);
    fst_store_wake(a, index);
    left_asleep = fst_load_acquire(word) == expected && !(fst_load_acquire(&fst_store_at(a, index)->sleepers) & 1);
}

void __real_fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t ns);
void __wrap_fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t ns);
void __wrap_fst_futex_wait(const uint32_t *word, uint32_t expected, uint64_t ns)
{
    wake_late(word, expected);
    __real_fst_futex_wait(word, expected, ns);
}

void __real_fst_futex_wait_any(const struct fst_sleep *words, size_t n, uint64_t ns);
void __wrap_fst_futex_wait_any(const struct fst_sleep *words, size_t n, uint64_t ns);
void __wrap_fst_futex_wait_any(const struct fst_sleep *words, size_t n, uint64_t ns)
{
    fst_add32(&sleeps, 1);
    wake_late(words[n - 1].word, words[n - 1].expected);
    __real_fst_futex_wait_any(words, n, bounded ? ns : FOR_EVER);
}

/* ---- one of each kind ---- */

static const struct fst_letter letter = {.bytes = "x", .nbytes = 1};

static fst_channel_use *open_one(const char *name, uint32_t capacity, uint32_t flags)
{
    struct fst_channel_spec spec = {
        .name = name, .capacity = capacity, .inline_bytes = 16, .flags = flags, .group = fst_group_root(a)};
    return open_channel_as(a, &spec);
}

static void open_all(void)
{
    struct fst_store_spec spec = {.name = "store", .group = fst_group_root(a)};
    bool created;
    empty = open_one("empty", 4, 0);
    full = open_one("full", 1, 0);
    news = open_one("news", 4, FST_CHANNEL_TOPIC);
    held = open_one("held", 1, FST_CHANNEL_TOPIC);
    lock = open_one("lock", 1, FST_CHANNEL_LOCK);
    CHECK_EQ(FST_OK, fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &store, &created));
}

static void leave_all(void)
{
    fst_channel_use *const open[] = {empty, full, news, held, lock};
    for (size_t i = 0; i < sizeof open / sizeof *open; i++)
        fst_channel_leave(open[i]);
    fst_store_leave(store);
}

static void take(fst_channel_use *u)
{
    char bytes[FST_RING_INLINE_MOST];
    struct fst_received got;
    CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &got));
}

/* Another process does what it is told to, a moment later, so that this one sleeps by then. */
static void does(struct peer *parent, void *context)
{
    struct fst_subscription own;
    char bytes[FST_RING_INLINE_MOST], what;
    struct fst_received got;
    uint32_t reached;
    uint64_t version;
    bool inherited;
    (void)context;
    open_all();
    CHECK_EQ(FST_OK, fst_channel_put(full, &letter));
    CHECK_EQ(FST_OK, fst_topic_subscribe(held, FST_SLOW_BLOCKS, 0, &own));
    CHECK_EQ(FST_OK, fst_topic_publish(held, &letter, &reached));
    CHECK_EQ(FST_OK, fst_named_lock_acquire(lock, 0, &inherited));
    peer_say(parent, 'k');
    while ((what = peer_hear(parent)) != 0) {
        usleep(3000);
        if (what == 'e')
            CHECK_EQ(FST_OK, fst_channel_put(empty, &letter));
        if (what == 'f')
            take(full);
        if (what == 'n')
            CHECK_EQ(FST_OK, fst_topic_publish(news, &letter, &reached));
        if (what == 'p')
            CHECK_EQ(FST_OK, fst_topic_get(held, &own, bytes, &got));
        if (what == 'l')
            CHECK_EQ(FST_OK, fst_named_lock_release(lock));
        if (what == 's') {
            struct fst_ref ref = alloc_bytes(a, 10);
            struct fst_key key = {.bytes = "k", .nbytes = 1};
            CHECK_EQ(FST_OK, fst_store_put(store, &key, &(struct fst_value){.ref = &ref}, FST_ANY_VERSION, &version));
            fst_drop(a, &ref);
        }
    }
    leave_all();
}

static size_t all_kinds(void)
{
    uint64_t version = 0;
    CHECK_EQ(FST_OK, fst_store_version(store, &version));
    all[0] = (struct fst_awaited){.what = FST_AWAITS_MESSAGE, .channel = empty};
    all[1] = (struct fst_awaited){.what = FST_AWAITS_ROOM, .channel = full};
    all[2] = (struct fst_awaited){.what = FST_AWAITS_PUBLISHED, .channel = news, .subscription = &sub};
    all[3] = (struct fst_awaited){.what = FST_AWAITS_READERS, .channel = held};
    all[4] = (struct fst_awaited){.what = FST_AWAITS_LOCK, .channel = lock};
    all[5] = (struct fst_awaited){.what = FST_AWAITS_CHANGE, .store = store, .version = version};
    return 6;
}

static struct peer begin(void)
{
    bool set = bounded;
    a = anonymous(64 * MIB);
    open_all();
    CHECK_EQ(FST_OK, fst_topic_subscribe(news, FST_SLOW_BLOCKS, 0, &sub));
    waiter = (struct fst_waiter){0};
    struct peer peer = peer_start(does, NULL);
    PEER_WAIT(&peer, 'k');
    bounded = true;
    CHECK(!fst_await(&waiter, all, all_kinds(), FST_MS));
    bounded = set;
    return peer;
}

static void end(struct peer *peer)
{
    peer_end(peer);
    fst_topic_unsubscribe(news, &sub);
    leave_all();
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- the cases ---- */

static const char acts[] = "efnpls"; /* in the order of all_kinds */

static void woken_by_each(void)
{
    struct peer peer = begin();
    size_t n = all_kinds();
    for (size_t i = 0; i < n; i++) { /* those before may go on still */
        size_t left = fst_await_most() > 1 ? n - i : 1;
        peer_say(&peer, acts[i]);
        CHECK(fst_await(&waiter, all + i, left, FST_FOREVER));
        CHECK(all[i].ready);
        for (size_t k = 1; k < left; k++)
            CHECK(!all[i + k].ready);
    }
    end(&peer);
}

/* Several things may have one word, which is said once. */
static void many_subscriptions_of_a_topic(void)
{
    struct fst_subscription subs[FST_FUTEX_MOST - 1];
    struct peer peer = begin();
    size_t n = fst_await_most();
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(FST_OK, fst_topic_subscribe(news, FST_SLOW_DROPS, 0, &subs[i]));
        all[i] = (struct fst_awaited){.what = FST_AWAITS_PUBLISHED, .channel = news, .subscription = &subs[i]};
    }
    sleeps = 0;
    peer_say(&peer, 'n');
    CHECK(fst_await(&waiter, all, n, FST_FOREVER));
    for (size_t i = 0; i < n; i++)
        CHECK(all[i].ready);
    CHECK(sleeps <= 2);
    for (size_t i = 0; i < n; i++)
        fst_topic_unsubscribe(news, &subs[i]);
    end(&peer);
}

static void *ring_soon(void *unused)
{
    usleep(3000);
    fst_waiter_ring(&waiter);
    return unused;
}

static void rung(void)
{
    struct peer peer = begin();
    size_t n = fst_await_most() > 1 ? all_kinds() : 0;
    pthread_t thread;
    for (int i = 0; i < 3; i++) {
        pthread_create(&thread, NULL, ring_soon, NULL);
        CHECK(!fst_await(&waiter, all, n, FST_FOREVER));
        pthread_join(thread, NULL);
        sleeps = 0;
        CHECK(!fst_await(&waiter, all, n, FST_FOREVER)); /* it is rung still */
        CHECK_EQ(0, sleeps);
        fst_waiter_hush(&waiter);
    }
    bounded = true;
    CHECK(!fst_await(&waiter, all, n, 20 * FST_MS));
    bounded = false;
    CHECK(sleeps > 0);
    end(&peer);
}

static void an_owner_is_killed(void)
{
    bounded = true;
    struct peer peer = begin();
    size_t n = all_kinds(), first = fst_await_most() > 1 ? 0 : 4;
    peer_kill(&peer);
    while (!fst_await(&waiter, all + first, n - first, 50 * FST_MS) || !all[4].ready)
        usleep(1000); /* what the dead subscription held back is ready, too */
    bounded = false;
    fst_topic_unsubscribe(news, &sub);
    leave_all();
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* What has ended is ready, and the rest is waited for. */
static void some_have_ended(void)
{
    struct peer peer = begin();
    size_t n = all_kinds();
    CHECK_EQ(FST_OK, fst_channel_destroy(empty));
    CHECK_EQ(FST_OK, fst_store_destroy(store));
    CHECK(fst_await(&waiter, all, n, FST_FOREVER));
    CHECK(all[0].ready && all[5].ready);
    CHECK(!all[1].ready && !all[2].ready && !all[3].ready && !all[4].ready);
    end(&peer);
}

static void a_store_is_woken_late(void)
{
    struct peer peer = begin();
    uint64_t version = all[5].version;
    bounded = true;
    for (int i = 0; i < 4; i++) {
        left_asleep = true;
        woken_late = store;
        CHECK(i & 1 ? !fst_await(&waiter, all + 5, 1, FST_MS) : !fst_store_wait(store, version, FST_MS));
        woken_late = NULL;
        CHECK(!left_asleep);
    }
    bounded = false;
    peer_say(&peer, 's');
    CHECK(fst_await(&waiter, all + 5, 1, FST_FOREVER));
    end(&peer);
}

static void waits_confined(struct peer *parent, void *context)
{
    (void)context;
    bounded = true;
    struct peer peer = begin();
    size_t n = all_kinds();
    fst_await_most(); /* it has asked before the filter comes */
    forbid_call(WAITV);
    for (size_t i = 0; i < n; i++) {
        peer_say(&peer, acts[i]);
        CHECK(fst_await(&waiter, all + i, n - i, FST_FOREVER)); /* also when there are too many */
        CHECK(all[i].ready);
        CHECK_EQ(1, fst_await_most());
        CHECK(fst_await(&waiter, all + i, 1, FST_FOREVER));
    }
    end(&peer);
    peer_say(parent, 'k');
}

static void without_waitv(void)
{
    struct peer peer = peer_start(waits_confined, NULL);
    PEER_WAIT(&peer, 'k');
    peer_end(&peer);
}

TEST_MAIN(CASE(woken_by_each), CASE(many_subscriptions_of_a_topic), CASE(rung), CASE(an_owner_is_killed), CASE(some_have_ended),
          CASE(a_store_is_woken_late), CASE(without_waitv))
