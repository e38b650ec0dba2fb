/* Topics, when others go on at any instruction: a reader, a publisher or a subscriber is stopped
 * after n machine instructions (ptrace), others publish so much that all that it has looked at is
 * used for something else, and it goes on.
 *
 * Instructions so many (APART) apart, from a start that SEED=n moves; all with FST_TEST_SOAK=1.
 */
#include "channel/topic.h"
#include "reclaim/reaper.h"
#include "traced.h"

#define CAPACITY 3u
/* A sanitizer's instructions are many, and most of them its own. */
#ifdef __SANITIZE_ADDRESS__
#define APART 12u
#else
#define APART 3u
#endif

static fst_arena *a;
static uint64_t pool;
static fst_channel_use *topic;
static bool objects; /* messages have one */
static uint64_t next;

static struct fst_subscription subscribe(enum fst_slow slow, uint32_t history)
{
    struct fst_subscription s = {0};
    CHECK_EQ(FST_OK, fst_topic_subscribe(topic, slow, history, &s));
    return s;
}

static struct fst_ref make(uint64_t n)
{
    struct fst_ref ref = alloc_one(a, pool);
    fill(ref.data, ref.nbytes, n);
    return ref;
}

static int publish_ref(uint64_t n, struct fst_ref *ref)
{
    uint32_t reached;
    return fst_topic_publish(topic, &(struct fst_letter){.bytes = &n, .nbytes = sizeof n, .ref = ref}, &reached);
}

static int publish(uint64_t n)
{
    struct fst_ref ref = {0};
    if (objects)
        ref = make(n);
    int rc = publish_ref(n, objects ? &ref : NULL);
    if (rc && objects)
        fst_drop(a, &ref);
    return rc;
}

static uint64_t look_at(const uint8_t *bytes, struct fst_received *r)
{
    uint64_t n;
    memcpy(&n, bytes, sizeof n);
    CHECK(r->has_ref == objects);
    if (r->has_ref) {
        CHECK(filled(r->ref.data, r->ref.nbytes, n));
        fst_drop(a, &r->ref);
    }
    return n;
}

static int get(const struct fst_subscription *s, uint64_t *n)
{
    uint8_t bytes[64];
    struct fst_received r;
    int rc = fst_topic_get(topic, s, bytes, &r);
    if (rc == FST_OK)
        *n = look_at(bytes, &r);
    return rc;
}

/* ---- who is stopped ---- */

static struct fst_subscription theirs;

static void subscribe_first(void)
{
    theirs = subscribe(FST_SLOW_DROPS, CAPACITY - 1);
}

static uint8_t got_bytes[64];
static struct fst_received got;

static void read_one(void)
{
    CHECK_EQ(FST_OK, fst_topic_get(topic, &theirs, got_bytes, &got));
}

/* No message comes again, however late it was. */
static void read_on(void)
{
    uint64_t last = look_at(got_bytes, &got), n;
    while (get(&theirs, &n) == FST_OK) {
        CHECK(n > last);
        last = n;
    }
}

static void publish_own(void)
{
    CHECK_EQ(FST_OK, publish(1000000));
}

/* What the first time does, but once. */
static void come_before(void)
{
    struct fst_subscription s = subscribe(FST_SLOW_DROPS, 0);
    fst_topic_unsubscribe(topic, &s);
}

static void come(void)
{
    theirs = subscribe(FST_SLOW_BLOCKS, CAPACITY - 1);
}

/* It has missed nothing since it came. */
static void read_all(void)
{
    uint64_t n, last = 0;
    int rc;
    while ((rc = get(&theirs, &n)) == FST_OK) {
        CHECK(last == 0 || n == last + 1);
        last = n;
    }
    CHECK_EQ(FST_WAIT, rc);
    CHECK(last != 0);
    CHECK_EQ(0, fst_topic_lost(topic, &theirs));
}

static const struct overtaken {
    const char *name;
    void (*before)(void), (*run)(void), (*after)(void);
    uint32_t others; /* messages that others publish meanwhile, if nobody holds them back */
    bool objects;    /* of what they take away the objects are released, and used anew */
} overtaken[] = {
    /* what it reads is overtaken, its object released and used anew, and the node in the queue
     * again, as the newest: there are 128 */
    {"a reader", subscribe_first, read_one, read_on, 127, true},
    /* what it takes away, to make room, is taken by others, and the node in the queue again,
     * as the newest */
    {"a publisher", NULL, publish_own, NULL, 126, false},
    /* what it begins with is taken away by who has not seen it */
    {"a subscriber", come_before, come, read_all, CAPACITY + 2, false},
};
#define OVERTAKEN ((int)(sizeof overtaken / sizeof *overtaken))

static pid_t start_traced(const struct overtaken *o, uint32_t *done)
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid)
        return pid;
    struct fst_ref warm = alloc_one(a, pool);
    fst_drop(a, &warm);
    if (o->before)
        o->before();
    stop_for_the_tracer();
    o->run();
    __atomic_store_n(done, 1, __ATOMIC_SEQ_CST);
    if (o->after)
        o->after();
    CHILD_EXIT();
}

/* What others publish is read by all who are there: the last of them are in the topic. */
static void look_at_the_last(uint64_t last)
{
    struct fst_subscription s = subscribe(FST_SLOW_DROPS, CAPACITY - 1);
    uint64_t n, seen = 0;
    int rc;
    while ((rc = get(&s, &n)) == FST_OK)
        seen += n == last || n == last - 1;
    CHECK_EQ(FST_WAIT, rc);
    CHECK_EQ(0, fst_topic_lost(topic, &s));
    CHECK(seen >= 1);
    fst_topic_unsubscribe(topic, &s);
}

/* True: there are more instructions. */
static bool overtake(const struct overtaken *o, uint64_t n, uint32_t *done)
{
    struct fst_ref other[4];
    __atomic_store_n(done, 0, __ATOMIC_SEQ_CST);
    for (uint32_t i = 0; i < CAPACITY; i++)
        CHECK_EQ(FST_OK, publish(++next));
    pid_t pid = start_traced(o, done);
    bool more = step(pid, n, done) == n;
    int rc = FST_OK;
    for (uint32_t i = 0; i < o->others && rc == FST_OK; i++)
        if ((rc = publish(next + 1)) == FST_OK)
            next++;
    CHECK(rc == FST_OK || rc == FST_WAIT);
    if (objects)
        settle(a);
    for (int i = 0; i < 4; i++) {
        other[i] = alloc_one(a, pool);
        memset(other[i].data, 0xee, other[i].nbytes);
    }
    CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);
    CHECK_CHILD(pid);
    for (int i = 0; i < 4; i++)
        fst_drop(a, &other[i]);
    settle(a);
    look_at_the_last(next);
    return more;
}

static void run(const struct overtaken *o)
{
    uint32_t *done = shared_memory(sizeof *done);
    objects = o->objects;
    const char *seed = getenv("SEED");
    uint64_t apart = getenv("FST_TEST_SOAK") ? 1 : APART, n = 1 + (seed ? strtoull(seed, NULL, 0) : 0) % apart, times = 0;
    a = anonymous(64 * MIB);
    fst_reaper_stop(a, true);
    pool = child_of(a, make_cache(a, "pool", 64, 0), fst_group_root(a));
    struct fst_channel_spec spec = {
        .name = "topic", .capacity = CAPACITY, .inline_bytes = 64, .flags = FST_CHANNEL_TOPIC, .group = fst_group_root(a)};
    bool created;
    REQUIRE(fst_channel_open(a, &spec, FST_OPEN_OR_CREATE, &topic, &created) == FST_OK);
    for (next = 0; overtake(o, n, done) && !atomic_load(&test_failures); n += apart)
        times++;
    if (atomic_load(&test_failures))
        TEST_FAIL("%s, instruction %llu", o->name, (unsigned long long)n);
    printf("# %s: overtaken at %llu of %llu instructions\n", o->name, (unsigned long long)times, (unsigned long long)n);
    CHECK_CLEAN(a);
    fst_channel_leave(topic);
    fst_arena_unref(a);
}

static const char *name_of(int i)
{
    return overtaken[i].name;
}

static const char *cannot_stop(int i)
{
    (void)i;
    return cannot_trace();
}

static void run_one(int i)
{
    run(&overtaken[i]);
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){OVERTAKEN, name_of, cannot_stop, run_one}, argc, argv);
}
