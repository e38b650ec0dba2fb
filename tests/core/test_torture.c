/* Torture: processes do everything to objects at random, and are killed.
 *
 * Whoever allocates an object writes a pattern into it that depends on its id and its generation,
 * before anybody else can know it; nobody changes it afterwards. So whoever has a reference and
 * finds another pattern has found memory that was recycled under a reader. At the end nothing may
 * be left. The messages and handles between them lie in plain shared memory, where they are
 * overwritten, read twice, torn and lost: all of that is allowed to them.
 *
 * Where writes are counted (fault_points), a process is killed by its own hand at one of them, or
 * by the tormentor at any instruction. TORTURE=n does n times as much. A broken build has to fail
 * here: tools/mutants.
 */
#include "platform/atomics.h"
#include "refs/word.h"
#include "support.h"

#define WORKERS  3
#define BOXES    32
#define KEEP     24
#define BALLAST  3000 /* references that only make a batch's scan take longer */
#define KILLS    60
#define ROUND_US 60000
#define POINTS   400000 /* a process stops at one of so many writes, if it lives to see it */

static fst_arena *a;
static uint64_t caches[2];

static struct arena_shared {
    uint64_t message[BOXES][3];
    uint64_t handle[BOXES][2];
    uint64_t freed[4][2]; /* handles of objects that were freed: the attempts that fail */
    uint32_t stop, wrong;
    uint64_t operations;
} * s;

/* A reference, and of which generation of the object: what the word says later may be another
 * one. */
struct held {
    struct fst_ref ref;
    uint64_t generation;
};

static void write_pattern(const struct held *h)
{
    uint64_t *p = h->ref.data;
    p[0] = h->ref.oid;
    p[1] = h->generation;
    for (uint64_t i = 2; i < h->ref.nbytes / 8; i++)
        p[i] = (h->ref.oid + i) * 0x9e3779b97f4a7c15ull ^ h->generation;
}

static void check_pattern(const struct held *h, const char *when)
{
    const uint64_t *p = h->ref.data;
    bool right = p[0] == h->ref.oid && p[1] == h->generation;
    for (uint64_t i = 2; right && i < h->ref.nbytes / 8; i++)
        right = p[i] == ((h->ref.oid + i) * 0x9e3779b97f4a7c15ull ^ h->generation);
    if (right)
        return;
    if (__atomic_fetch_add(&s->wrong, 1, __ATOMIC_SEQ_CST) < 5)
        fprintf(stderr, "# %s: object %llx generation %llu holds %llx generation %llu\n", when, (unsigned long long)h->ref.oid,
                (unsigned long long)h->generation, (unsigned long long)p[0], (unsigned long long)p[1]);
}

static void put(uint64_t *box, const void *bytes, size_t words)
{
    uint64_t copy[3];
    memcpy(copy, bytes, words * 8);
    for (size_t i = 0; i < words; i++)
        __atomic_store_n(&box[i], copy[i], __ATOMIC_RELAXED);
}

static void get(const uint64_t *box, void *bytes, size_t words)
{
    uint64_t copy[3];
    for (size_t i = 0; i < words; i++)
        copy[i] = __atomic_load_n(&box[i], __ATOMIC_RELAXED);
    memcpy(bytes, copy, words * 8);
}

struct worker {
    struct held held[KEEP];
    int n;
    uint64_t random, child[2];
};

static void allocate(struct worker *w, uint64_t r)
{
    struct held *h = &w->held[w->n];
    if (w->n == KEEP || fst_alloc(a, w->child[r & 1], &h->ref))
        return;
    h->generation = fst_word_gen(*fst_word_of(a, h->ref.oid));
    write_pattern(h);
    w->n++;
}

static void send(struct worker *w, uint64_t r, int i)
{
    struct fst_message m;
    if (fst_share(a, &w->held[i].ref, &m) == FST_OK)
        put(s->message[r % BOXES], &m, 3);
}

static void drop(struct worker *w, int i)
{
    check_pattern(&w->held[i], "before its drop");
    fst_drop(a, &w->held[i].ref);
    w->held[i] = w->held[--w->n];
}

static void receive(struct worker *w, uint64_t r)
{
    struct fst_message m;
    struct held got;
    int rc;
    if (w->n == KEEP)
        drop(w, (int)(r >> 8 & 7));
    if (r & 1) {
        get(s->message[(r >> 1) % BOXES], &m, 3);
        rc = fst_take(a, &m, &got.ref);
    } else {
        get(s->handle[(r >> 1) % BOXES], &m.handle, 2);
        rc = fst_resolve(a, &m.handle, &got.ref);
    }
    if (rc == FST_OK) {
        got.generation = fst_handle_generation(&m.handle);
        check_pattern(&got, r & 1 ? "taken" : "resolved");
        w->held[w->n++] = got;
    }
}

/* Attempts that fail at the last look: their entries come and go under the eyes of every scan. */
static void try_freed(uint64_t r)
{
    struct fst_handle h;
    struct fst_ref ref;
    get(s->freed[r & 3], &h, 2);
    for (int i = 0; i < 30; i++)
        if (fst_resolve(a, &h, &ref) == FST_OK)
            fst_drop(a, &ref);
}

static void free_one(struct worker *w, uint64_t r, int i)
{
    struct fst_handle h;
    struct fst_message m;
    fst_handle_of(a, &w->held[i].ref, &h);
    fst_share(a, &w->held[i].ref, &m);
    if (fst_free(a, &w->held[i].ref) == FST_OK)
        put(s->freed[r & 3], &h, 2);
    struct fst_ref ref;
    if (fst_take(a, &m, &ref) == FST_OK)
        fst_drop(a, &ref);
    drop(w, i);
}

static void step(struct worker *w)
{
    uint64_t r = next_random(&w->random), detail = r >> 16, bytes;
    int i = w->n ? (int)(detail % (uint64_t)w->n) : 0;
    switch (r % 32) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        allocate(w, detail);
        break;
    case 7:
    case 8:
    case 9:
    case 10:
    case 11:
        if (w->n) { /* from the table into flight: the sender's reference goes at once */
            send(w, detail >> 8, i);
            drop(w, i);
        }
        break;
    case 12:
        if (w->n)
            send(w, detail >> 8, i);
        break;
    case 13:
    case 14:
        if (w->n) {
            struct fst_handle h;
            fst_handle_of(a, &w->held[i].ref, &h);
            put(s->handle[(detail >> 8) % BOXES], &h, 2);
        }
        break;
    case 15:
    case 16:
    case 17:
    case 18:
    case 19:
    case 20:
    case 21:
    case 22:
        receive(w, detail);
        break;
    case 23:
        if (w->n && (detail >> 8) % 8 == 0)
            free_one(w, detail >> 16, i);
        break;
    case 24:
    case 25:
        try_freed(detail);
        break;
    case 26:
    case 27:
    case 28:
    case 29:
        if (w->n)
            drop(w, i);
        break;
    case 30:
        if (w->n)
            check_pattern(&w->held[i], "held");
        break;
    default:
        if (detail % 64 == 0)
            fst_cache_shrink(a, caches[detail >> 8 & 1], &bytes);
    }
}

static void arm(uint64_t *random)
{
#ifdef FST_FAULT_POINTS
    fst_fault_arm(1 + next_random(random) % POINTS);
#else
    (void)random;
#endif
}

static void disarm(void)
{
#ifdef FST_FAULT_POINTS
    fst_fault_arm(0);
#endif
}

static void work(struct peer *parent, void *context)
{
    struct worker w = {.random = (uint64_t)(uintptr_t)context};
    (void)parent;
    arm(&w.random);
    for (int i = 0; i < 2; i++)
        w.child[i] = child_of(a, caches[i], fst_group_root(a));
    static struct fst_ref ballast[BALLAST];
    size_t got;
    uint64_t child = root_child(a, "ballast", 8, 0);
    fst_alloc_many(a, child, BALLAST, ballast, &got);
    while (!__atomic_load_n(&s->stop, __ATOMIC_RELAXED)) {
        for (int i = 0; i < 100; i++)
            step(&w);
        __atomic_fetch_add(&s->operations, 100, __ATOMIC_RELAXED);
    }
    disarm();
    while (w.n)
        drop(&w, 0);
    for (size_t i = 0; i < got; i++)
        fst_drop(a, &ballast[i]);
}

/* Batches as fast as they go, so that there is always one at every step. */
static void reap(struct peer *parent, void *context)
{
    uint64_t random = (uint64_t)(uintptr_t)context;
    (void)parent;
    arm(&random);
    for (uint64_t n = 0; !__atomic_load_n(&s->stop, __ATOMIC_RELAXED); n++) {
        fst_reclaim(a, UINT64_MAX, 100000000);
        /* A message whose object is gone shows here only: for its reader it is a stale one. */
        if (n % 16 == 0 && fst_check(a, print_finding, NULL))
            __atomic_fetch_add(&s->wrong, 1, __ATOMIC_SEQ_CST);
    }
    disarm();
}

/* The process is at its end, or was killed. */
static void wait_for(struct peer *p, bool killed)
{
    int status = 0;
    close(p->out);
    CHECK(waitpid(p->pid, &status, 0) == p->pid);
    close(p->in);
    if (!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) && (killed || status))
        TEST_FAIL("process %d ended by itself with status 0x%x", p->pid, (unsigned)status);
}

static void everything_at_random(void)
{
    const char *times = getenv("TORTURE");
    int kills = KILLS * (times ? atoi(times) : 1);
    uint64_t random = 2026;
    struct peer p[WORKERS + 1];
    a = anonymous(4 * MIB);
    s = shared_memory(sizeof *s);
    caches[0] = make_cache(a, "small", 48, 0);
    caches[1] = make_cache(a, "larger", 700, 0);
    for (int i = 0; i <= WORKERS; i++)
        p[i] = peer_start(i ? work : reap, (void *)(uintptr_t)next_random(&random));
    for (int k = 0; k < kills && !s->wrong; k++) {
        usleep((useconds_t)(next_random(&random) % ROUND_US));
        int i = (int)(next_random(&random) % (WORKERS + 1));
        kill(p[i].pid, SIGKILL);
        wait_for(&p[i], true);
        p[i] = peer_start(i ? work : reap, (void *)(uintptr_t)next_random(&random));
        if (k % 8 == 7)
            fst_inflight_drop_from(a, 1000000, UINT64_MAX, 0, false);
    }
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i <= WORKERS; i++)
        wait_for(&p[i], false);
    CHECK_EQ(0, s->wrong);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(0, state_of(a).dropped);
    CHECK_EQ(1, state_of(a).processes);
    CHECK_CLEAN(a);
    printf("# %llu operations, %d kills, %u batches, %llu objects released\n", (unsigned long long)s->operations, kills,
           fst_load_relaxed(&a->sb->batches), (unsigned long long)a->sb->released_objects);
    fst_arena_unref(a);
    munmap(s, sizeof *s);
}

TEST_MAIN(CASE(everything_at_random))
