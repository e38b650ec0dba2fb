/* Fork: what a child inherits, with no instant in which nobody owns it. */
#include <dirent.h>
#include <pthread.h>

#include "platform/liveness.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

#include "flagstone_store.h"
#include "inherited.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void keep_and_drop(struct peer *parent, void *context)
{
    (void)context;
    CHECK(fst_arena_usable(a));
    check_held(100);
    peer_say(parent, 'c');
    PEER_WAIT(parent, 'd'); /* the parent has dropped its own */
    settle(a);
    check_held(100);
    struct fst_ref ref[50];
    for (int i = 0; i < 50; i++) {
        ref[i] = alloc_one(a, child);
        memset(ref[i].data, 0xff, 256);
    }
    check_held(100);
    for (int i = 0; i < 50; i++)
        fst_drop(a, &ref[i]);
    drop_held(100);
    settle(a);
    peer_say(parent, 'e');
    peer_hear(parent);
}

static void live_on_both_sides(void)
{
    for (int order = 0; order < 2; order++) {
        set_up();
        hold(100);
        struct peer p = peer_start(keep_and_drop, NULL);
        PEER_WAIT(&p, 'c');
        CHECK_EQ(2, state_of(a).processes);
        if (order == 0)
            drop_held(100);
        peer_say(&p, 'd');
        PEER_WAIT(&p, 'e');
        if (order) {
            check_held(100);
            drop_held(100);
        }
        peer_end(&p);
        tear_down();
    }
}

/* A grandchild outlives its parent, which is killed right after the fork: what it inherited
 * stays, and comes back at its end. */
static void fork_and_be_killed(struct peer *parent, void *context)
{
    (void)context;
    int fd[2];
    REQUIRE(pipe(fd) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        char c;
        CHECK_EQ(1, read(fd[0], &c, 1)); /* its parent is about to be killed, or is */
        kill(getppid(), 0);
        for (int i = 0; i < 20; i++) {
            fst_barrier(a, FST_FOREVER);
            check_held(100);
            usleep(1000);
        }
        peer_say(parent, atomic_load(&test_failures) ? 'x' : 'k');
        peer_hear(parent);
        _exit(0); /* without a word: like a kill */
    }
    CHECK_EQ(1, write(fd[1], "x", 1));
    kill(getpid(), SIGKILL);
}

static void parent_killed_right_after(void)
{
    for (int i = 0; i < 10; i++) {
        set_up();
        hold(100);
        struct peer p = peer_start(fork_and_be_killed, NULL);
        drop_held(100);
        waitpid(p.pid, NULL, 0);
        PEER_WAIT(&p, 'k');
        CHECK(state_of(a).processes >= 2);
        CHECK(used_bytes(a) > 0);
        close(p.out);
        while (peer_hear(&p) != 0) { /* until the grandchild is gone */
        }
        close(p.in);
        /* End of file comes a little before the lock goes. */
        while (fst_liveness_find(a->lock.fd, FST_LOCK_ALIVE, FST_MAX_PROCESSES) >= 0)
            usleep(1000);
        tear_down();
    }
}

static void in_inherited_section(struct peer *parent, void *context)
{
    (void)context;
    CHECK(fst_in_section(a));
    peer_say(parent, 's');
    PEER_WAIT(parent, 'l');
    CHECK_EQ(FST_OK, fst_read_unlock(a));
    CHECK(!fst_in_section(a));
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    peer_say(parent, 'd');
    peer_hear(parent);
}

/* The child goes on with the section; so does the parent; a grace period waits for both. */
static void inside_a_section(void)
{
    set_up();
    fst_read_lock(a);
    struct peer p = peer_start(in_inherited_section, NULL);
    PEER_WAIT(&p, 's');
    CHECK(fst_in_section(a));
    fst_read_unlock(a);
    CHECK_EQ(FST_TIMEOUT, fst_synchronize(a, 20000000));
    peer_say(&p, 'l');
    PEER_WAIT(&p, 'd');
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    peer_end(&p);
    tear_down();
}

static uint32_t stop;

static void *alloc_and_drop(void *seed)
{
    uint64_t random = (uint64_t)(uintptr_t)seed;
    struct fst_ref ref[16];
    int n = 0;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint64_t r = next_random(&random);
        if (n == 16 || (n && r & 1)) {
            CHECK(filled(ref[n - 1].data, 256, ref[n - 1].oid));
            fst_drop(a, &ref[--n]);
        } else {
            ref[n] = alloc_one(a, child);
            fill(ref[n].data, 256, ref[n].oid);
            struct fst_message m;
            struct fst_ref out;
            if (r % 8 == 2 && fst_share(a, &ref[n], &m) == FST_OK && fst_take(a, &m, &out) == FST_OK)
                fst_drop(a, &out);
            n++;
        }
    }
    while (n)
        fst_drop(a, &ref[--n]);
    return NULL;
}

static void *come_and_go(void *unused)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        pthread_t t[2];
        for (int i = 0; i < 2; i++)
            pthread_create(&t[i], NULL, unused, NULL);
        for (int i = 0; i < 2; i++)
            pthread_join(t[i], NULL);
    }
    return NULL;
}

static void *one_object(void *unused)
{
    struct fst_ref ref = alloc_one(a, child);
    fst_drop(a, &ref);
    return unused;
}

/* Fork while other threads allocate, drop, share, begin and end: the child works, the parent
 * works, and nothing is left of either. */
static void with_busy_threads(void)
{
    if (SANITIZED) {
        SKIP("the sanitizer's allocator does not survive a fork beside threads");
        return;
    }
    set_up();
    pthread_t t[3];
    stop = 0;
    pthread_create(&t[0], NULL, alloc_and_drop, (void *)1);
    pthread_create(&t[1], NULL, alloc_and_drop, (void *)2);
    pthread_t coming;
    pthread_create(&coming, NULL, come_and_go, (void *)(uintptr_t)one_object);
    for (int i = 0; i < 150; i++) {
        struct fst_ref mine = alloc_one(a, child);
        fill(mine.data, 256, (uint64_t)i);
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            CHECK(filled(mine.data, 256, (uint64_t)i));
            for (int k = 0; k < 100; k++) {
                struct fst_ref ref = alloc_one(a, child);
                fst_drop(a, &ref);
            }
            fst_drop(a, &mine);
            if (i & 1) {
                fst_arena_unref(a);
                CHILD_EXIT();
            }
            if (atomic_load(&test_failures))
                _exit(1);
            kill(getpid(), SIGKILL);
        }
        fst_drop(a, &mine);
        int status;
        waitpid(pid, &status, 0);
        CHECK(i & 1 ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(t[0], NULL);
    pthread_join(t[1], NULL);
    pthread_join(coming, NULL);
    tear_down();
}

/* Threads that end take the process's mutexes in the order that fork takes them. */
static void with_ending_threads(void)
{
    if (SANITIZED) {
        SKIP("the sanitizer's allocator does not survive a fork beside threads");
        return;
    }
    set_up();
    pthread_t coming[2];
    stop = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&coming[i], NULL, come_and_go, (void *)(uintptr_t)one_object);
    for (int i = 0; i < 300; i++) {
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0)
            _exit(0);
        CHECK_CHILD(pid);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        pthread_join(coming[i], NULL);
    tear_down();
}

static void use_group(struct peer *parent, void *context)
{
    uint64_t group = *(uint64_t *)context;
    peer_say(parent, 'g');
    PEER_WAIT(parent, 'u');
    struct fst_ref ref;
    CHECK_EQ(FST_OK, fst_alloc_bytes(a, group, 100, &ref));
    fst_drop(a, &ref);
    fst_group_unref(a, group);
    peer_say(parent, 'd');
    peer_hear(parent);
}

/* An open group and shared objects, held twice, are inherited like everything else. */
static void groups_and_counts(void)
{
    set_up();
    uint64_t group = make_group(a, "job", fst_group_root(a), MIB, 0);
    struct peer p = peer_start(use_group, &group);
    PEER_WAIT(&p, 'g');
    fst_group_unref(a, group);
    settle(a);
    peer_say(&p, 'u');
    PEER_WAIT(&p, 'd');
    settle(a);
    struct fst_group_info info;
    CHECK_EQ(FST_CLOSED, fst_group_get_info(a, group, &info));
    peer_end(&p);
    tear_down();
}

static void drop_twice(struct peer *parent, void *context)
{
    struct fst_ref *ref = context;
    fst_drop(a, ref);
    settle(a);
    CHECK(filled(ref->data, 256, 77));
    fst_drop(a, ref);
    peer_say(parent, 'd');
    peer_hear(parent);
}

static void counts_are_inherited(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 256, 77);
    fst_hold(a, &ref);
    struct peer p = peer_start(drop_twice, &ref);
    fst_drop(a, &ref);
    fst_drop(a, &ref);
    PEER_WAIT(&p, 'd');
    peer_end(&p);
    tear_down();
}

/* Without a slot for the child, the child's attachment is dead, says so, and takes nothing with
 * it. */
static void no_slot_for_the_child(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 256, 1);
    /* All other slots are somebody's: JOINING, as far as anyone can see. */
    uint32_t slot;
    int fd = fst_liveness_reopen(fst_arena_fd(a));
    while (fst_process_claim(a, fd, &slot) == FST_OK) {
        /* Its byte is locked again: whatever the last owner left must not pass for the new
         * one's. */
        uint64_t state = fst_process_at(a, slot)->state;
        CHECK(!fst_slot_alive(a, slot, fst_lock_generation(state) - 1));
        CHECK(fst_lock_generation(state) > 0);
    }
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct fst_ref out;
        CHECK(!fst_arena_usable(a));
        CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &out));
        CHECK_EQ(FST_CLOSED, fst_read_lock(a));
        uint64_t id = fst_group_root(a), bytes;
        struct fst_group_spec group = {.name = "its", .parent = id, .limit = FST_NO_LIMIT};
        struct fst_cache_spec cache = {.name = "its", .size = 10};
        struct fst_message message;
        bool created;
        CHECK_EQ(FST_CLOSED, fst_group_open(a, &group, &id, &created));
        CHECK_EQ(FST_CLOSED, fst_group_hold(a, fst_group_root(a)));
        CHECK_EQ(FST_CLOSED, fst_group_set_limit(a, fst_group_root(a), MIB));
        CHECK_EQ(FST_CLOSED, fst_group_close(a, fst_group_root(a)));
        CHECK_EQ(FST_CLOSED, fst_group_destroy(a, fst_group_root(a)));
        CHECK_EQ(FST_CLOSED, fst_group_share(a, fst_group_root(a), &message));
        CHECK_EQ(FST_CLOSED, fst_share(a, &ref, &message));
        CHECK_EQ(FST_CLOSED, fst_cache_open(a, &cache, &id));
        CHECK_EQ(FST_CLOSED, fst_cache_destroy(a, 0, NULL));
        CHECK_EQ(FST_CLOSED, fst_cache_shrink(a, 0, &bytes));
        CHECK_EQ(FST_CLOSED, fst_child_open(a, 0, fst_group_root(a), &id));
        CHECK_EQ(FST_CLOSED, fst_barrier(a, FST_FOREVER));
        CHECK_EQ(FST_CLOSED, fst_shrink(a, 5000000000u, &bytes));
        fst_wait_for_memory(a, FST_FOREVER);
        fst_drop(a, &ref);
        fst_arena *other = anonymous(MIB);
        struct fst_ref small = alloc_bytes(other, 10);
        fst_drop(other, &small);
        fst_arena_unref(other);
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    CHECK(filled(ref.data, 256, 1));
    close(fd);
    fst_drop(a, &ref);
    tear_down();
}

static void grandchildren(struct peer *parent, void *context)
{
    intptr_t depth = (intptr_t)context;
    check_held(100);
    if (depth > 0) {
        struct peer p = peer_start(grandchildren, (void *)(depth - 1));
        peer_end(&p);
        check_held(100);
    }
    if (depth % 2)
        drop_held(100);
    (void)parent;
}

static void deep(void)
{
    set_up();
    hold(100);
    struct peer p = peer_start(grandchildren, (void *)6);
    peer_end(&p);
    check_held(100);
    drop_held(100);
    tear_down();
}

/* Who makes a value forks, and the child comes out of the making first: it neither ends the claim
 * nor gives the key another value. */
static void claims_are_not_inherited(void)
{
    set_up();
    struct fst_store_spec spec = {.name = "things", .group = fst_group_root(a)};
    fst_store_use *u = NULL;
    bool created;
    uint64_t version;
    struct fst_key key = {.bytes = "a", .nbytes = 1};
    struct fst_store_claim claim, other;
    struct fst_ref ref = alloc_bytes(a, 300);
    CHECK_EQ(FST_OK, fst_store_open(a, &spec, FST_CREATE_NEW, &u, &created));
    CHECK_EQ(FST_OK, fst_store_claim(u, &key, &claim));
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct fst_ref own = alloc_bytes(a, 300);
        CHECK_EQ(FST_STALE, fst_store_publish(u, &claim, &(struct fst_value){.ref = &own}, &version));
        fst_store_give_up(u, &claim);
        fst_drop(a, &own);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    CHECK_EQ(FST_WAIT, fst_store_claim(u, &key, &other));
    CHECK_EQ(FST_OK, fst_store_publish(u, &claim, &(struct fst_value){.ref = &ref}, &version));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_store_destroy(u));
    fst_store_leave(u);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static uint32_t threads(void)
{
    uint32_t n = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *one; (one = readdir(tasks));)
        n += one->d_name[0] != '.';
    closedir(tasks);
    return n;
}

/* Whoever says so has no thread of the arena's beside it until it says so again; but the child has
 * one whenever it needs one, and forks as it likes. */
static void reaper_waits_for_the_end_of_a_fork(void)
{
    uint32_t others = threads(); /* this one, and a sanitizer's */
    set_up();
    fst_arena_watch(a);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(others + 1, threads());
        fst_fork_begin();
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            others = threads();
            fst_arena_watch(a);
            CHECK_EQ(others + 1, threads());
            pid = fork();
            if (pid == 0)
                CHILD_EXIT();
            CHECK_EQ(others + 1, threads());
            CHECK_CHILD(pid);
            CHILD_EXIT();
        }
        CHECK_EQ(others, threads());
        fst_fork_end();
        CHECK_CHILD(pid);
    }
    tear_down();
}

TEST_MAIN(CASE(live_on_both_sides), CASE(parent_killed_right_after), CASE(inside_a_section), CASE(with_busy_threads),
          CASE(with_ending_threads), CASE(groups_and_counts), CASE(counts_are_inherited), CASE(no_slot_for_the_child), CASE(deep),
          CASE(claims_are_not_inherited), CASE(reaper_waits_for_the_end_of_a_fork))
