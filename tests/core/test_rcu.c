/* Read-side sections and grace periods between threads and processes. */
#include <pthread.h>

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "support.h"

static fst_arena *a;

static void nesting(void)
{
    a = anonymous(16 * MIB);
    CHECK(!fst_in_section(a));
    CHECK_EQ(FST_OK, fst_read_lock(a));
    CHECK_EQ(FST_OK, fst_read_lock(a));
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    CHECK(fst_in_section(a));
    CHECK_EQ(FST_IN_SECTION, fst_synchronize(a, FST_FOREVER));
    CHECK_EQ(FST_IN_SECTION, fst_barrier(a, FST_FOREVER));
    uint64_t bytes, cookie;
    CHECK_EQ(FST_IN_SECTION, fst_reclaim(a, UINT64_MAX, 0));
    CHECK_EQ(FST_IN_SECTION, fst_shrink(a, 5000000000u, &bytes));
    CHECK_EQ(FST_IN_SECTION, fst_barrier_begin(a, &cookie));
    CHECK_EQ(FST_IN_SECTION, fst_cache_shrink(a, make_cache(a, "c", 64, 0), &bytes));
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    CHECK(!fst_in_section(a));
    CHECK_EQ(FST_INVALID, fst_read_unlock(a));
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    fst_arena_unref(a);
}

static void *unlock_elsewhere(void *unused)
{
    CHECK_EQ(FST_INVALID, fst_read_unlock(a));
    CHECK(!fst_in_section(a));
    return unused;
}

static void sections_belong_to_threads(void)
{
    pthread_t other;
    a = anonymous(16 * MIB);
    fst_read_lock(a);
    pthread_create(&other, NULL, unlock_elsewhere, NULL);
    pthread_join(other, NULL);
    CHECK(fst_in_section(a));
    fst_read_unlock(a);
    fst_arena_unref(a);
}

static void polled(void)
{
    a = anonymous(16 * MIB);
    uint64_t cookie = fst_gp_cookie(a);
    CHECK(!fst_gp_done(a, cookie));
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    CHECK(fst_gp_done(a, cookie));
    CHECK(!fst_gp_done(a, fst_gp_cookie(a)));
    fst_arena_unref(a);
}

static void reader(struct peer *parent, void *context)
{
    (void)context;
    CHECK_EQ(FST_OK, fst_read_lock(a));
    peer_say(parent, 'r');
    if (peer_hear(parent) == 'l')
        CHECK_EQ(FST_OK, fst_read_unlock(a));
    peer_say(parent, 'd');
    peer_hear(parent);
}

static void waits_for_another_process(void)
{
    a = anonymous(16 * MIB);
    struct peer p = peer_start(reader, NULL);
    PEER_WAIT(&p, 'r');
    uint64_t cookie = fst_gp_cookie(a);
    CHECK_EQ(FST_TIMEOUT, fst_synchronize(a, 20000000));
    CHECK(strstr(fst_last_error(), "section") != NULL);
    CHECK(!fst_gp_done(a, cookie));
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'd');
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    CHECK(fst_gp_done(a, cookie));
    peer_end(&p);
    fst_arena_unref(a);
}

static void stall_is_reported(void)
{
    struct fst_arena_info info;
    a = anonymous(16 * MIB);
    struct peer p = peer_start(reader, NULL);
    PEER_WAIT(&p, 'r');
    CHECK_EQ(FST_TIMEOUT, fst_synchronize(a, 1200000000));
    fst_arena_get_info(a, &info);
    CHECK_EQ(p.pid, info.stalled_pid);
    CHECK(info.stalled_ns > 0);
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'd');
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    fst_arena_get_info(a, &info);
    CHECK_EQ(0, info.stalled_pid);
    peer_end(&p);
    fst_arena_unref(a);
}

static void *synchronize_in_thread(void *result)
{
    *(int *)result = fst_synchronize(a, FST_FOREVER);
    return NULL;
}

/* A killed reader reads nothing any more, also when somebody sleeps for its section already. */
static void killed_reader(void)
{
    int result = 1;
    pthread_t waiter;
    a = anonymous(16 * MIB);
    struct peer p = peer_start(reader, NULL);
    PEER_WAIT(&p, 'r');
    pthread_create(&waiter, NULL, synchronize_in_thread, &result);
    usleep(20000);
    peer_kill(&p);
    pthread_join(waiter, NULL);
    CHECK_EQ(FST_OK, result);
    p = peer_start(reader, NULL);
    PEER_WAIT(&p, 'r');
    peer_kill(&p);
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A stopped reader delays grace periods, and nothing else. */
static void stopped_reader(void)
{
    a = anonymous(16 * MIB);
    uint64_t child = root_child(a, "c", 64, 0);
    struct peer p = peer_start(reader, NULL);
    PEER_WAIT(&p, 'r');
    kill(p.pid, SIGSTOP);
    struct fst_ref ref = alloc_one(a, child), again;
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    CHECK_EQ(FST_OK, fst_take(a, &m, &again));
    fst_drop(a, &again);
    fst_drop(a, &ref);
    CHECK_EQ(FST_TIMEOUT, fst_barrier(a, 20000000));
    for (int i = 0; i < 1000; i++) {
        ref = alloc_one(a, child);
        fst_drop(a, &ref);
    }
    kill(p.pid, SIGCONT);
    peer_say(&p, 'l');
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    PEER_WAIT(&p, 'd');
    peer_end(&p);
    CHECK_EQ(0, used_bytes(a));
    fst_arena_unref(a);
}

/* ---- x = i; synchronize; y = i: a section that has not seen x = i does not see y = i ---- */

#define LITMUS_SECTIONS 3000000
#define LITMUS_STORES   50
#define LITMUS_LINES    (1u << 16)

static struct litmus {
    alignas(64) uint64_t x;
    alignas(64) uint64_t y;
    alignas(64) uint64_t sections;
    uint64_t wrong;
} * l;

/* Stores to cold memory just before the section keep its first store in the processor's store
 * buffer for as long as they take: the case for which the reader's fence is there. */
static void *litmus_reader(void *seed)
{
    uint64_t random = (uint64_t)(uintptr_t)seed, wrong = 0;
    volatile char *cold = mmap(NULL, LITMUS_LINES * 64ull, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uint64_t i = 0; i < LITMUS_LINES; i++)
        cold[i * 64] = 1;
    struct fst_thread *t = fst_thread_get(a);
    for (uint32_t section = 1; section <= LITMUS_SECTIONS; section++) {
        uint32_t at[LITMUS_STORES], stores = (uint32_t)(next_random(&random) % LITMUS_STORES);
        for (uint32_t i = 0; i < stores; i++)
            at[i] = (uint32_t)(next_random(&random) % LITMUS_LINES) * 64;
        uint32_t pause = (uint32_t)(next_random(&random) % 200);
        for (uint32_t i = 0; i < stores; i++)
            cold[at[i]] = 2;
        fst_section_enter(t);
        uint64_t x = __atomic_load_n(&l->x, __ATOMIC_RELAXED);
        for (uint32_t i = 0; i < pause; i++)
            fst_compiler_barrier();
        uint64_t y = __atomic_load_n(&l->y, __ATOMIC_RELAXED);
        fst_section_leave(t);
        wrong += y > x;
        __atomic_store_n(&l->sections, section, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&l->wrong, wrong, __ATOMIC_RELAXED);
    munmap((void *)(uintptr_t)cold, LITMUS_LINES * 64ull);
    return NULL;
}

static void litmus_process(struct peer *parent, void *context)
{
    (void)context;
    peer_say(parent, 'r');
    litmus_reader((void *)(uintptr_t)getpid());
}

static void publishing_litmus(void)
{
    a = anonymous(16 * MIB);
    l = shared_memory(sizeof *l);
    struct peer p = peer_start(litmus_process, NULL);
    PEER_WAIT(&p, 'r');
    for (uint64_t i = 1; __atomic_load_n(&l->sections, __ATOMIC_RELAXED) < LITMUS_SECTIONS; i++) {
        __atomic_store_n(&l->x, i, __ATOMIC_RELAXED);
        CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
        __atomic_store_n(&l->y, i, __ATOMIC_RELAXED);
    }
    peer_end(&p);
    CHECK_EQ(0, l->wrong);
    munmap(l, sizeof *l);
    fst_arena_unref(a);
}

/* ---- threads ---- */

static void *one_section(void *unused)
{
    fst_read_lock(a);
    fst_read_unlock(a);
    return unused;
}

/* A thread that ends right after its section: its slot is another thread's at once, and no grace
 * period waits for it. */
static void threads_that_end(void)
{
    a = anonymous(16 * MIB);
    for (int i = 0; i < 300; i++) {
        pthread_t t[4];
        for (int k = 0; k < 4; k++)
            pthread_create(&t[k], NULL, one_section, NULL);
        CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
        for (int k = 0; k < 4; k++)
            pthread_join(t[k], NULL);
    }
    CHECK(a->sb->thread_top < 10);
    fst_arena_unref(a);
}

static void *end_in_section(void *unused)
{
    fst_read_lock(a);
    return unused;
}

/* A thread that ends inside a section has left it. */
static void thread_ends_in_section(void)
{
    pthread_t t;
    a = anonymous(16 * MIB);
    pthread_create(&t, NULL, end_in_section, NULL);
    pthread_join(t, NULL);
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    fst_arena_unref(a);
}

static void *stay(void *barrier)
{
    int rc = fst_read_lock(a);
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    if (rc == FST_OK)
        fst_read_unlock(a);
    return NULL;
}

static void full_thread_table(void)
{
    pthread_barrier_t barrier;
    pthread_t t;
    a = anonymous(16 * MIB);
    uint64_t child = root_child(a, "c", 64, 0);
    fst_synchronize(a, FST_FOREVER); /* the slot of this thread */
    uint32_t index, claimed = 0;
    while (fst_thread_slot_claim(a, a->slot, &index) == FST_OK)
        claimed++;
    CHECK_EQ(FST_MAX_THREADS - 1, claimed);
    CHECK(strstr(fst_last_error(), "thread slots") != NULL);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&t, NULL, stay, &barrier);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
    struct fst_ref ref = alloc_one(a, child); /* this thread has its slot */
    fst_drop(a, &ref);
    CHECK_CLEAN(a);
    fst_thread_slot_free(a, index);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&t, NULL, stay, &barrier);
    pthread_barrier_wait(&barrier);
    CHECK_EQ(FST_TIMEOUT, fst_synchronize(a, 1000000)); /* it is in its section: it got the slot */
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
    fst_arena_unref(a);
}

static void *without_slot(void *result)
{
    *(int *)result = fst_read_lock(a);
    CHECK(strstr(fst_last_error(), "all 4096 thread slots") != NULL);
    return NULL;
}

static void full_table_is_an_error(void)
{
    pthread_t t;
    int result = 0;
    uint32_t index;
    a = anonymous(16 * MIB);
    fst_synchronize(a, FST_FOREVER);
    while (fst_thread_slot_claim(a, a->slot, &index) == FST_OK) {
    }
    pthread_create(&t, NULL, without_slot, &result);
    pthread_join(t, NULL);
    CHECK_EQ(FST_FULL, result);
    fst_arena_unref(a);
}

/* ---- exec inside a section ---- */

static void exec_in_section(struct peer *parent, void *context)
{
    (void)context;
    fst_read_lock(a);
    peer_say(parent, 'r');
    execl("/bin/sleep", "sleep", "1000", (char *)NULL);
}

/* exec ends the process for the arena: its liveness lock is close-on-exec. */
static void exec_ends_sections(void)
{
    a = anonymous(16 * MIB);
    struct peer p = peer_start(exec_in_section, NULL);
    PEER_WAIT(&p, 'r');
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    peer_kill(&p);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(1, state_of(a).processes);
    fst_arena_unref(a);
}

/* Many sections and grace periods near the point where the counter's low half, on which waiters
 * sleep, wraps. */
static void sequence_wraps(void)
{
    a = anonymous(16 * MIB);
    a->sb->gp_seq = 0xfffffff0ull;
    a->sb->gp_completed = 0xfffffff0ull;
    for (int i = 0; i < 40; i++) {
        struct peer p = peer_start(reader, NULL);
        PEER_WAIT(&p, 'r');
        CHECK_EQ(FST_TIMEOUT, fst_synchronize(a, 100000));
        peer_say(&p, 'l');
        CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
        PEER_WAIT(&p, 'd');
        peer_end(&p);
    }
    CHECK(a->sb->gp_seq > 0x100000000ull);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(nesting), CASE(sections_belong_to_threads), CASE(polled), CASE(waits_for_another_process), CASE(stall_is_reported),
          CASE(killed_reader), CASE(stopped_reader), CASE(publishing_litmus), CASE(threads_that_end), CASE(thread_ends_in_section),
          CASE(full_thread_table), CASE(full_table_is_an_error), CASE(exec_ends_sections), CASE(sequence_wraps))
