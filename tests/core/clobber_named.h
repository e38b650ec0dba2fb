/* clobber_named.h - channels, topics, locks and stores of the arena that test_clobber.c damages,
 * and what is done with them afterwards. Part of clobber_work.h. */
#ifndef FST_TEST_CLOBBER_NAMED_H
#define FST_TEST_CLOBBER_NAMED_H

#include "arena/channel.h"
#include "channel/channel.h"
#include "store/index.h"
#include "store/item.h"

#define CHANNEL_INLINE 48u

/* What the base has open, and those that it forks with it. */
static struct named {
    fst_channel_use *queue, *topic, *lock;
    fst_store_use *store;
    struct fst_subscription subscription;
} named;

static const struct fst_channel_spec named_specs[] = {
    {.name = "queue", .capacity = 8, .inline_bytes = CHANNEL_INLINE, .flags = FST_CHANNEL_ACK},
    {.name = "topic", .capacity = 4, .inline_bytes = CHANNEL_INLINE, .flags = FST_CHANNEL_TOPIC},
    {.name = "lock", .capacity = 1, .flags = FST_CHANNEL_LOCK},
};

static int open_all_named(fst_arena *a, struct named *n)
{
    fst_channel_use **uses[] = {&n->queue, &n->topic, &n->lock};
    bool created;
    for (int i = 0; i < 3; i++) {
        struct fst_channel_spec spec = named_specs[i];
        spec.group = fst_group_root(a);
        shared->step = "opening a channel";
        int rc = answer(fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, uses[i], &created));
        if (rc)
            *uses[i] = NULL;
    }
    struct fst_store_spec spec = {.name = "store", .group = fst_group_root(a)};
    if (DO(fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &n->store, &created)))
        n->store = NULL;
    return n->queue && n->topic && n->lock && n->store ? FST_OK : FST_CLOSED;
}

static struct fst_key key_of(const char *name)
{
    return (struct fst_key){.bytes = name, .nbytes = (uint32_t)strlen(name), .kind = 1};
}

static void put_named(fst_arena *a, const char *name)
{
    struct fst_ref ref;
    struct fst_key key = key_of(name);
    uint64_t version;
    if (DO(fst_alloc_bytes(a, fst_group_root(a), 100, &ref)))
        return;
    DO(fst_store_put(named.store, &key, &(struct fst_value){.ref = &ref, .kind = 1}, FST_ANY_VERSION, &version));
    LOOK(fst_drop(a, &ref));
}

static void send_into(fst_arena *a, fst_channel_use *u, bool topic, bool object)
{
    struct fst_ref ref;
    struct fst_letter l = {.bytes = "letter", .nbytes = 6, .kind = 7, .keep = topic};
    uint32_t reached;
    if (object && DO(fst_alloc_bytes(a, fst_group_root(a), 100, &ref)) == FST_OK)
        l.ref = &ref;
    int rc = topic ? DO(fst_topic_publish(u, &l, &reached)) : DO(fst_channel_put(u, &l));
    if (l.ref && (topic || (rc != FST_OK && rc != FST_STALE)))
        LOOK(fst_drop(a, &ref));
}

/* Before the damage: some of everything. */
static void make_named(fst_arena *a)
{
    static uint8_t bytes[CHANNEL_INLINE];
    struct fst_received r;
    REQUIRE(open_all_named(a, &named) == FST_OK);
    REQUIRE(fst_topic_subscribe(named.topic, FST_SLOW_DROPS, 0, &named.subscription) == FST_OK);
    for (int i = 0; i < 6; i++) {
        send_into(a, named.queue, false, i % 2);
        send_into(a, named.topic, true, i % 2);
    }
    REQUIRE(fst_channel_get(named.queue, bytes, &r) == FST_OK && fst_channel_done(named.queue, &r) == FST_OK);
    static const char long_key[] = "a key that needs a larger item than the others, because it is this long, and then some more";
    put_named(a, "key");
    put_named(a, "other");
    put_named(a, long_key);

    const struct fst_ring_view *v = &named.queue->v, *t = &named.topic->v;
    place(S_CHANNEL, "queue", fst_channel_at(a, (uint32_t)named.queue->id), (uint32_t)named.queue->id);
    place(S_CHANNEL, "topic", fst_channel_at(a, (uint32_t)named.topic->id), (uint32_t)named.topic->id);
    place(S_CHANNEL, "lock", fst_channel_at(a, (uint32_t)named.lock->id), (uint32_t)named.lock->id);
    place(S_RING, "queue", v->ring, 0);
    place(S_RING, "topic", t->ring, 0);
    place(S_RING, "lock", named.lock->v.ring, 0);
    uint64_t at = v->ring->head, object = (v->cells[(at + 1) & v->mask] >> FST_CELL_NODE_SHIFT) - 1;
    if (!v->refs[object])
        object = (v->cells[at & v->mask] >> FST_CELL_NODE_SHIFT) - 1;
    REQUIRE(object <= v->mask && v->refs[object]);
    place(S_CELL, "first", &v->cells[at & v->mask], at);
    place(S_CELL, "empty", &v->cells[v->ring->tail & v->mask], v->ring->tail);
    place(S_CELL, "topic", &t->cells[t->ring->head & t->mask], t->ring->head);
    place(S_HELD, "object", &v->refs[object], object);
    place(S_HELD, "nothing", &v->refs[v->mask], 0);
    place(S_NODE, "queued", fst_node_at(v, (uint32_t)object), object);
    place(S_NODE, "free", fst_node_at(v, (uint32_t)v->mask), 0);
    place(S_NODE, "topic", fst_node_at(t, (uint32_t)(t->cells[t->ring->head & t->mask] >> FST_CELL_NODE_SHIFT) - 1), 0);
    place(S_SUBSCRIBER, "subscriber", &t->subscribers[0], 0);
    place(S_SUBSCRIBER, "free subscriber", &t->subscribers[1], 0);
    struct fst_store *s = fst_store_at(a, (uint32_t)fst_store_id(named.store));
    struct fst_index x;
    REQUIRE(fst_index_see(a, s, &x));
    place(S_STORE, "store", s, (uint32_t)fst_store_id(named.store));
    for (uint64_t i = 0, n = 0; i < x.size && n < 3; i++) {
        uint32_t id = fst_index_item(a, (uint32_t)fst_store_id(named.store), &x, i);
        if (id == FST_NONE)
            continue;
        place(S_SLOT, "slot", &x.slots[i], x.slots[i]);
        place(S_ITEM, "item", fst_item_at(a, id), id);
        place(S_HOLD, "hold", fst_hold_at(a, id), id);
        n++;
    }
}

static void work_with_channels(fst_arena *a)
{
    static uint8_t bytes[FST_RING_INLINE_MOST];
    struct fst_received r;
    struct fst_channel_info info;
    struct fst_subscriber_info subscribers[8];
    struct fst_named_lock_owner owner;
    struct fst_subscription s;
    uint64_t ids[8];
    bool inherited;
    size_t n = fst_channel_list(a, ids, 8);
    for (size_t i = 0; i < n && i < 8; i++) {
        DO(fst_channel_get_info(a, ids[i], &info));
        LOOK(fst_topic_list(a, ids[i], subscribers, 8));
        LOOK(fst_named_lock_look_at(a, ids[i], &owner));
    }
    for (int i = 0; named.queue && i < 12; i++) {
        send_into(a, named.queue, false, i % 2);
        if (DO(fst_channel_get(named.queue, bytes, &r)) == FST_OK) {
            if (r.has_ref) {
                use(a, &r.ref);
                LOOK(fst_drop(a, &r.ref));
            }
            if (i % 3)
                DO(fst_channel_done(named.queue, &r));
        }
    }
    if (named.queue) {
        LOOK(fst_channel_wait(named.queue, true, 1000));
        LOOK(fst_channel_wait(named.queue, false, 1000));
        LOOK(fst_channel_length(named.queue));
    }
    if (named.topic && DO(fst_topic_subscribe(named.topic, FST_SLOW_BLOCKS, 2, &s)) == FST_OK) {
        for (int i = 0; i < 10; i++) {
            send_into(a, named.topic, true, i % 2);
            if (DO(fst_topic_get(named.topic, &s, bytes, &r)) == FST_OK && r.has_ref)
                LOOK(fst_drop(a, &r.ref));
            if (DO(fst_topic_latest(named.topic, bytes, &r)) == FST_OK && r.has_ref)
                LOOK(fst_drop(a, &r.ref));
        }
        LOOK(fst_topic_wait(named.topic, &s, 1000));
        LOOK(fst_topic_wait(named.topic, NULL, 1000));
        LOOK(fst_topic_lost(named.topic, &s));
        LOOK(fst_topic_unsubscribe(named.topic, &s));
    }
    if (named.lock && DO(fst_named_lock_acquire(named.lock, 1000000, &inherited)) == FST_OK)
        DO(fst_named_lock_release(named.lock));
}

/* Wait for all of it by one thread. */
static void await_named(void)
{
    struct fst_waiter waiter = {0};
    struct fst_awaited all[] = {
        {.what = FST_AWAITS_MESSAGE, .channel = named.queue}, {.what = FST_AWAITS_ROOM, .channel = named.queue},
        {.what = FST_AWAITS_READERS, .channel = named.topic}, {.what = FST_AWAITS_LOCK, .channel = named.lock},
        {.what = FST_AWAITS_CHANGE, .store = named.store},
    };
    if (named.queue && named.topic && named.lock && named.store)
        LOOK(fst_await(&waiter, all, sizeof all / sizeof *all, 1000));
}

static void work_with_stores(fst_arena *a)
{
    static const char *const keys[] = {"key", "other", "new", "key"};
    struct fst_ref ref;
    struct fst_looked_up found;
    struct fst_store_info info;
    struct fst_store_claim claim;
    struct fst_listed_key listed;
    uint64_t ids[8], position = 0, bytes, number = 0;
    size_t n = fst_store_list(a, ids, 8);
    for (size_t i = 0; i < n && i < 8; i++)
        DO(fst_store_get_info(a, ids[i], &info));
    if (!named.store)
        return;
    for (int i = 0; i < 4; i++) {
        struct fst_key key = key_of(keys[i]);
        if (DO(fst_store_get(named.store, &key, &ref, &found)) == FST_OK) {
            use(a, &ref);
            LOOK(fst_drop(a, &ref));
        }
        put_named(a, keys[i]);
    }
    for (int i = 0; i < 600; i++) { /* the index grows */
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        put_named(a, name);
    }
    struct fst_key made = key_of("made"), key = key_of("other");
    if (DO(fst_store_claim(named.store, &made, &claim)) == FST_OK)
        LOOK(fst_store_give_up(named.store, &claim));
    DO(fst_store_remove(named.store, &key, FST_ANY_VERSION));
    for (int i = 0; i < 1000 && DO(fst_store_next(named.store, &position, &listed)) == FST_OK; i++) {
    }
    for (int i = 0; i < 3; i++)
        DO(fst_store_evict(named.store, &bytes));
    LOOK(fst_store_length(named.store, &number));
    LOOK(fst_store_version(named.store, &number));
    LOOK(fst_store_wait(named.store, number, 1000));
}

static void end_named(void)
{
    if (named.queue) {
        DO(fst_channel_close(named.queue));
        DO(fst_channel_destroy(named.queue));
        LOOK(fst_channel_leave(named.queue));
    }
    if (named.topic) {
        DO(fst_channel_close(named.topic));
        LOOK(fst_channel_leave(named.topic));
    }
    if (named.lock)
        LOOK(fst_channel_leave(named.lock));
    if (named.store) {
        DO(fst_store_destroy(named.store));
        LOOK(fst_store_leave(named.store));
    }
}

#endif
