/* Topics: what each subscriber sees, and what kills at every write, and stops, leave behind. */
#include <unistd.h>

#include "channel/topic.h"
#include "kill_again.h"
#include "stepping.h"

#define CAPACITY 3u

static fst_channel_use *topic;
static struct fst_subscription mine; /* the survivor's, which blocks */
static uint64_t next;

static fst_channel_use *open_topic(const char *name, uint32_t capacity)
{
    struct fst_channel_spec spec = {
        .name = name, .capacity = capacity, .inline_bytes = 64, .flags = FST_CHANNEL_TOPIC, .group = root};
    return open_channel_as(a, &spec);
}

static struct fst_subscription subscribe(enum fst_slow slow, uint32_t history)
{
    struct fst_subscription s = {0};
    int rc = fst_topic_subscribe(topic, slow, history, &s);
    if (rc)
        give_way(rc, "subscribe");
    return s;
}

static int publish(uint64_t n, struct fst_ref *ref, uint32_t *reached)
{
    uint32_t unused;
    return fst_topic_publish(topic, &(struct fst_letter){.bytes = &n, .nbytes = sizeof n, .kind = 5, .ref = ref},
                             reached ? reached : &unused);
}

static void publish_object(uint64_t n)
{
    struct fst_ref ref = alloc_one(a, pool);
    fill(ref.data, ref.nbytes, n);
    MUST(publish(n, &ref, NULL));
}

static int unpack(int rc, const uint8_t *bytes, struct fst_received *r, uint64_t *n)
{
    if (rc)
        return rc;
    CHECK_EQ(5, r->kind);
    CHECK_EQ(sizeof *n, r->nbytes);
    memcpy(n, bytes, sizeof *n);
    if (r->has_ref) {
        CHECK(filled(r->ref.data, r->ref.nbytes, *n));
        fst_drop(a, &r->ref);
    }
    return rc;
}

static int get(const struct fst_subscription *s, uint64_t *n)
{
    uint8_t bytes[64];
    struct fst_received r;
    return unpack(fst_topic_get(topic, s, bytes, &r), bytes, &r, n);
}

static int latest(uint64_t *n)
{
    uint8_t bytes[64];
    struct fst_received r;
    return unpack(fst_topic_latest(topic, bytes, &r), bytes, &r, n);
}

/* ---- between processes that live ---- */

static void each_sees_what_it_asked_for(void)
{
    uint64_t n, lost = 0;
    uint32_t reached;
    struct fst_subscription drops = subscribe(FST_SLOW_DROPS, 0), ends = subscribe(FST_SLOW_ENDS, 0),
                            newest = subscribe(FST_SLOW_LATEST, 0);
    CHECK_EQ(FST_WAIT, get(&drops, &n));
    CHECK_EQ(FST_WAIT, latest(&n));
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQ(FST_OK, i % 2 ? publish(i, NULL, &reached) : (publish_object(i), FST_OK));
        if (i % 2)
            CHECK_EQ(i < 3 ? 4 : 3, reached); /* one of them has ended */
        CHECK_EQ(FST_OK, get(&mine, &n));
        CHECK_EQ(i, n);
    }
    CHECK_EQ(FST_OK, publish(10, NULL, &reached));
    CHECK_EQ(3, reached);
    CHECK_EQ(FST_OK, get(&mine, &n));
    CHECK_EQ(FST_LAPPED, get(&ends, &n));
    CHECK_EQ(FST_LAPPED, get(&ends, &n));
    for (uint64_t i = 8; i <= 10; i++) {
        CHECK_EQ(FST_OK, get(&drops, &n));
        CHECK_EQ(i, n);
    }
    CHECK_EQ(FST_WAIT, get(&drops, &n));
    lost = fst_topic_lost(topic, &drops);
    CHECK_EQ(8, lost);
    CHECK_EQ(FST_OK, get(&newest, &n));
    CHECK_EQ(10, n);
    CHECK_EQ(FST_WAIT, get(&newest, &n));
    CHECK_EQ(FST_OK, latest(&n));
    CHECK_EQ(FST_OK, latest(&n));
    CHECK_EQ(10, n);
    struct fst_subscription late = subscribe(FST_SLOW_BLOCKS, 2);
    CHECK_EQ(FST_OK, get(&late, &n));
    CHECK_EQ(9, n);
    /* it holds publishers back, and nobody else does */
    CHECK_EQ(FST_OK, publish(11, NULL, NULL));
    CHECK_EQ(FST_OK, publish(12, NULL, NULL));
    CHECK_EQ(FST_WAIT, publish(13, NULL, NULL));
    struct fst_subscriber_info info[8];
    CHECK_EQ(5, fst_topic_list(a, fst_channel_id(topic), info, 8));
    CHECK(info[4].holds && info[4].own && info[4].lag == 3);
    fst_topic_unsubscribe(topic, &late);
    fst_topic_unsubscribe(topic, &late);
    CHECK_EQ(FST_CLOSED, get(&late, &n));
    CHECK_EQ(FST_OK, get(&mine, &n)); /* it has not read it either */
    CHECK_EQ(FST_OK, publish(13, NULL, NULL));
    fst_topic_unsubscribe(topic, &drops);
    fst_topic_unsubscribe(topic, &ends);
    fst_topic_unsubscribe(topic, &newest);
    CHECK_EQ(FST_OK, fst_channel_close(topic));
    CHECK_EQ(FST_END, publish(14, NULL, NULL));
    for (uint64_t i = 12; i <= 13; i++) {
        CHECK_EQ(FST_OK, get(&mine, &n));
        CHECK_EQ(i, n);
    }
    CHECK_EQ(FST_END, get(&mine, &n));
    CHECK_CLEAN(a);
}

static void positions_wrap(void)
{
    struct fst_ring_view *v = (struct fst_ring_view *)topic;
    uint64_t begin = FST_POSITION_MASK - 100, n;
    for (uint64_t i = 0; i <= v->mask; i++)
        v->cells[(begin + i) & v->mask] = (begin + i) & FST_POSITION_MASK;
    v->ring->head = v->ring->tail = v->seen_head = v->seen_tail = begin;
    fst_topic_unsubscribe(topic, &mine);
    mine = subscribe(FST_SLOW_BLOCKS, 0);
    struct fst_subscription drops = subscribe(FST_SLOW_DROPS, 0);
    for (uint64_t i = 0; i < 300; i++) {
        CHECK_EQ(FST_OK, publish(i, NULL, NULL));
        CHECK_EQ(FST_OK, get(&mine, &n));
        CHECK_EQ(i, n);
        if (i % 7 == 6)
            for (uint64_t k = i - 2; k <= i; k++) {
                CHECK_EQ(FST_OK, get(&drops, &n));
                CHECK_EQ(k, n);
            }
    }
    CHECK(v->ring->tail < 1000);
    CHECK_EQ(42 * 4, fst_topic_lost(topic, &drops));
    fst_topic_unsubscribe(topic, &drops);
}

/* A forked child has no subscription of its parent's; a dead one that blocks is looked through at
 * once, before any batch. */
static void of_one_process(void)
{
    uint64_t n;
    pid_t pid = fork();
    if (pid == 0) {
        CHECK_EQ(FST_CLOSED, get(&mine, &n));
        fst_topic_unsubscribe(topic, &mine);
        subscribe(FST_SLOW_BLOCKS, 0);
        CHILD_EXIT();
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    for (uint64_t i = 0; i < 10; i++) {
        CHECK_EQ(FST_OK, publish(i, NULL, NULL));
        CHECK_EQ(FST_OK, get(&mine, &n));
        CHECK_EQ(i, n);
    }
}

/* ---- killed ---- */

static void make_ref(void)
{
    w->ref = alloc_one(a, pool);
    fill(w->ref.data, w->ref.nbytes, 99);
}

static void publish_number(void)
{
    MUST(publish(99, NULL, NULL));
}

static void publish_ref(void)
{
    MUST(publish(99, &w->ref, NULL));
}

static void put_objects_there(void)
{
    uint64_t n;
    for (uint32_t i = 0; i < CAPACITY; i++) {
        publish_object(next++);
        CHECK_EQ(FST_OK, get(&mine, &n));
    }
}

static void sleep_there(void)
{
    struct fst_ring_view *v = (struct fst_ring_view *)topic;
    v->ring->takers |= 1;
}

static struct fst_subscription victims;

static void come(void)
{
    victims = subscribe(FST_SLOW_BLOCKS, 2);
}

static void come_and_go(void)
{
    come();
    fst_topic_unsubscribe(topic, &victims);
}

static void get_two(void)
{
    uint64_t n;
    MUST(get(&victims, &n));
    MUST(get(&victims, &n));
}

static void get_latest(void)
{
    uint64_t n;
    MUST(latest(&n));
}

/* All that live go on: nobody holds anybody back, what is there is read in order, and the objects
 * go when others take their places. */
static void flush(void)
{
    uint64_t n;
    while (get(&mine, &n) == FST_OK) {
    }
    for (uint64_t i = 0; i < 3 * CAPACITY; i++) {
        CHECK_EQ(FST_OK, publish(1000 + i, NULL, NULL));
        CHECK_EQ(FST_OK, get(&mine, &n));
        CHECK_EQ(1000 + i, n);
    }
    settle(a);
    struct fst_subscriber_info info[2];
    CHECK_EQ(1, fst_topic_list(a, fst_channel_id(topic), info, 2));
}

static const struct operation operations[] = {
    {"publish", NULL, NULL, publish_number, flush, false},
    {"publish an object", NULL, make_ref, publish_ref, flush, false},
    {"publish over an object", put_objects_there, make_ref, publish_ref, flush, false},
    {"publish and wake", NULL, sleep_there, publish_number, flush, false},
    {"subscribe", put_objects_there, NULL, come, flush, false},
    {"subscribe and leave", put_objects_there, NULL, come_and_go, flush, false},
    {"get", put_objects_there, come, get_two, flush, false},
    {"latest", put_objects_there, NULL, get_latest, flush, false},
};
#define KILLED ((int)(sizeof operations / sizeof *operations))

/* ---- a storm ---- */

#define PUBLISHERS 2
#define READERS    3 /* one of each kind that can fall behind, and one that blocks and is killed */
#define WORKERS    (PUBLISHERS + READERS)

static struct {
    uint64_t published[PUBLISHERS], read;
    uint32_t over;
} * storm;

static void storm_publisher(uint32_t me)
{
    for (;;) {
        uint64_t number = storm->published[me] + 1;
        struct fst_ref ref, *object = NULL;
        if (number % 3 == 0) {
            ref = alloc_one(a, pool);
            fill(ref.data, ref.nbytes, (uint64_t)me << 32 | number);
            object = &ref;
        }
        int rc;
        while ((rc = publish((uint64_t)me << 32 | number, object, NULL)) == FST_WAIT)
            fst_topic_wait(topic, NULL, FST_FOREVER);
        if (rc)
            _exit(3);
        __atomic_store_n(&storm->published[me], number, __ATOMIC_SEQ_CST);
    }
}

static void storm_reader(enum fst_slow slow)
{
    struct fst_subscription s = subscribe(slow, slow);
    uint64_t n, last[PUBLISHERS] = {0};
    for (;;) {
        int rc = get(&s, &n);
        if (rc == FST_WAIT) {
            fst_topic_wait(topic, &s, FST_FOREVER);
            continue;
        }
        if (rc || atomic_load(&test_failures) || n >> 32 >= PUBLISHERS || (uint32_t)n < last[n >> 32])
            _exit(4);
        last[n >> 32] = (uint32_t)n;
        __atomic_fetch_add(&storm->read, 1, __ATOMIC_RELAXED);
    }
}

static pid_t storm_start(uint32_t worker)
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (worker < PUBLISHERS)
            storm_publisher(worker);
        static const enum fst_slow kinds[] = {FST_SLOW_DROPS, FST_SLOW_LATEST, FST_SLOW_BLOCKS};
        storm_reader(kinds[worker - PUBLISHERS]);
    }
    return pid;
}

/* Everybody but us is killed and comes again. We miss nothing, and see nothing twice but what a
 * killed publisher, which cannot know whether it was said, says again. */
static void storms(void)
{
    pid_t pids[WORKERS];
    uint64_t seen[PUBLISHERS] = {0}, seed = 5, n, again = 0;
    uint32_t rounds = getenv("FST_TEST_SOAK") ? 5000 : 150, kills = 0;
    storm = shared_memory(sizeof *storm);
    for (uint32_t i = 0; i < WORKERS; i++)
        pids[i] = storm_start(i);
    for (uint32_t round = 0; round < rounds && !atomic_load(&test_failures); round++) {
        for (uint32_t i = 0; i < 200; i++) {
            int rc = get(&mine, &n);
            if (rc == FST_WAIT) {
                fst_topic_wait(topic, &mine, FST_FOREVER);
                continue;
            }
            REQUIRE(rc == FST_OK);
            uint64_t *last = &seen[n >> 32];
            again += (uint32_t)n == *last;
            CHECK((uint32_t)n == *last || (uint32_t)n == *last + 1);
            *last = (uint32_t)n;
        }
        uint32_t i = (uint32_t)(next_random(&seed) % WORKERS);
        int status;
        if (round % 5 == 0) { /* stopped for a while, and nobody cares, but for who blocks */
            kill(pids[i], SIGSTOP);
            if (i != WORKERS - 1 && i >= PUBLISHERS)
                for (uint32_t k = 0; k < 50; k++)
                    if (get(&mine, &n) == FST_OK) {
                        CHECK((uint32_t)n == seen[n >> 32] || (uint32_t)n == seen[n >> 32] + 1);
                        seen[n >> 32] = (uint32_t)n;
                    }
        }
        kill(pids[i], SIGKILL);
        REQUIRE(waitpid(pids[i], &status, 0) == pids[i]);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        kills++;
        if (round % 7 == 0)
            settle(a); /* buries them */
        pids[i] = storm_start(i);
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
    CHECK(again <= kills + WORKERS);
    CHECK(seen[0] > 0 && seen[1] > 0);
    printf("# %llu and %llu messages, %u kills, %llu twice, %llu read by others\n", (unsigned long long)seen[0],
           (unsigned long long)seen[1], kills, (unsigned long long)again, (unsigned long long)storm->read);
    settle(a);
    flush();
    munmap(storm, sizeof *storm);
}

static void begin(void)
{
    start();
    topic = open_topic(named("topic"), CAPACITY);
    mine = subscribe(FST_SLOW_BLOCKS, 0);
    settle(a);
    base = state_of(a);
    fst_cache_list(a, base_caches, 16);
}

static const struct test_case cases[] = {{"each sees what it asked for", each_sees_what_it_asked_for},
                                         {"positions wrap", positions_wrap},
                                         {"of one process", of_one_process},
                                         {"a storm", storms}};
#define CASES ((int)(sizeof cases / sizeof *cases))

static const char *name_of(int i)
{
    return i < CASES ? cases[i].name : operations[i - CASES].name;
}

static const char *unable(int i)
{
    return i < CASES ? NULL : cannot_kill(i);
}

static void run(int i)
{
    begin();
    if (i < CASES)
        cases[i].run();
    else
        kill_anywhere(&operations[i - CASES], &(struct kill_run){1, NULL, kill_some_batches});
    fst_topic_unsubscribe(topic, &mine);
    fst_channel_leave(topic);
    fst_arena_unref(a);
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){CASES + KILLED, name_of, unable, run}, argc, argv);
}
