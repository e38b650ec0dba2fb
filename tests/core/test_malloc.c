/* No memory for the process itself: each allocation of the core fails in turn, each thread that
 * it starts, and what else of the system's can fail and is easily forgotten. The linker sends
 * the core's calls here (--wrap). What was asked for works, or fails and says so; nothing is
 * lost, and all works when there is memory again. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

#include "support.h"

#define MS 1000000ull

static atomic_int left; /* the left-th call from here on fails; 0: none */
static atomic_int failed;

static bool fails(void)
{
    int n = atomic_load(&left);
    while (n > 0 && !atomic_compare_exchange_weak(&left, &n, n - 1)) {
    }
    if (n != 1)
        return false;
    atomic_fetch_add(&failed, 1);
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attributes, void *(*body)(void *), void *argument);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *attributes, void *(*body)(void *), void *argument)
{
    return fails() ? EAGAIN : __real_pthread_create(t, attributes, body, argument);
}

/* ---- and of what else may fail ---- */

int __real_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int __real_pthread_setspecific(pthread_key_t key, const void *value);
int __real_fchmod(int fd, mode_t mode);
int __real_fcntl64(int fd, int command, void *argument);
int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *));
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fcntl64(int fd, int command, void *argument);

int __wrap_pthread_key_create(pthread_key_t *key, void (*end)(void *))
{
    return fails() ? EAGAIN : __real_pthread_key_create(key, end);
}

int __wrap_pthread_setspecific(pthread_key_t key, const void *value)
{
    return fails() ? ENOMEM : __real_pthread_setspecific(key, value);
}

/* Nobody notices later that these have failed: whoever made an arena without them has lied. */
static atomic_int broken;

static bool fails_to_promise(void)
{
    bool is = fails();
    if (is)
        atomic_fetch_add(&broken, 1);
    return is;
}

int __wrap_fchmod(int fd, mode_t mode)
{
    errno = EPERM;
    return fails_to_promise() ? -1 : __real_fchmod(fd, mode);
}

int __wrap_fcntl64(int fd, int command, void *argument)
{
    errno = EPERM;
    return command == F_ADD_SEALS && fails_to_promise() ? -1 : __real_fcntl64(fd, command, argument);
}

static void arm(int nth)
{
    atomic_store(&failed, 0);
    atomic_store(&broken, 0);
    atomic_store(&left, nth);
}

/* Whether something failed since arm(): if not, all were tried. */
static bool disarm(void)
{
    atomic_store(&left, 0);
    return atomic_load(&failed) != 0;
}

static int entries_of(const char *path)
{
    int n = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static int descriptors(void)
{
    return entries_of("/proc/self/fd");
}

static fst_arena *a;
static uint64_t cache;

static void use(fst_arena *in)
{
    struct fst_ref ref = alloc_one(in, root_child(in, "used", 64, 0));
    fst_drop(in, &ref);
    CHECK_EQ(FST_OK, fst_barrier(in, FST_FOREVER));
    CHECK_CLEAN(in);
}

/* An arena is there, or there is nothing of it: no descriptor, no file. */
static void opening(void)
{
    fst_arena_unref(anonymous(MIB)); /* what is done once for the process is done */
    for (int named = 0; named < 2; named++) {
        const char *path = named ? new_path("malloc") : NULL;
        int before = descriptors(), files = entries_of(folder());
        bool more = true;
        for (int n = 1; more; n++) {
            fst_arena *one = NULL;
            arm(n);
            int rc = try_open(path, 16 * MIB, FST_OPEN_OR_CREATE, &one);
            more = disarm();
            if (rc == FST_OK) {
                CHECK_EQ(0, atomic_load(&broken));
                use(one);
                fst_arena_unref(one);
            } else {
                CHECK(rc == FST_FULL || rc == FST_OS);
                CHECK(more);
            }
            CHECK_EQ(before, descriptors());
            CHECK_EQ(files, entries_of(folder()));
            CHECK(n < 100);
            more &= n < 100;
        }
    }
}

/* The end of threads cannot be noticed: said at each opening, before the first of which it is
 * tried. */
static void without_a_key(void)
{
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        fst_arena *one = NULL;
        arm(1);
        CHECK_EQ(FST_OS, try_open(NULL, 16 * MIB, FST_OPEN_OR_CREATE, &one));
        CHECK(disarm());
        CHECK_EQ(FST_OS, try_open(NULL, 16 * MIB, FST_OPEN_OR_CREATE, &one));
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
}

/* Attaching fails, and who has the arena notices nothing. */
static void attach_badly(struct peer *parent, void *context)
{
    const char *path = context;
    bool more = true;
    PEER_WAIT(parent, 'g');
    for (int n = 1; more && n < 100; n++) {
        fst_arena *one = NULL;
        arm(n);
        int rc = try_open(path, 16 * MIB, FST_OPEN_EXISTING, &one);
        more = disarm();
        CHECK(rc == FST_OK || (rc == FST_FULL && more));
        if (rc == FST_OK) {
            use(one);
            fst_arena_unref(one);
        }
    }
    CHECK(!more);
}

static void attaching(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s", new_path("attach"));
    struct peer p = peer_start(attach_badly, path);
    a = open_named(path);
    struct state before = state_of(a);
    peer_say(&p, 'g');
    peer_end(&p);
    settle(a);
    fst_cache_destroy(a, make_cache(a, "used", 64, 0), NULL);
    settle(a);
    CHECK_STATE(before, state_of(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* ---- in a thread that has nothing yet ---- */

struct work {
    int nth;
    struct fst_ref held;
    struct fst_message message;
    int rc[6];
};

static void *everything(void *argument)
{
    struct work *w = argument;
    uint64_t child = 0, made = 0;
    struct fst_ref ref, taken;
    bool created;
    struct fst_group_spec spec = {.name = "made", .parent = fst_group_root(a), .limit = FST_NO_LIMIT};
    arm(w->nth);
    fst_drop(a, &w->held); /* has no way to say no */
    w->rc[0] = fst_read_lock(a);
    if (w->rc[0] == FST_OK)
        CHECK_EQ(FST_OK, fst_read_unlock(a));
    w->rc[1] = fst_take(a, &w->message, &taken);
    if (w->rc[1] == FST_OK)
        fst_drop(a, &taken);
    w->rc[2] = fst_child_open(a, cache, fst_group_root(a), &child);
    if (w->rc[2] == FST_OK && (w->rc[3] = fst_alloc(a, child, &ref)) == FST_OK)
        fst_drop(a, &ref);
    w->rc[4] = fst_group_open(a, &spec, &made, &created);
    if (w->rc[4] == FST_OK) {
        CHECK_EQ(FST_OK, fst_group_destroy(a, made));
        fst_group_unref(a, made);
    }
    w->rc[5] = fst_barrier(a, FST_FOREVER);
    return NULL;
}

static void in_a_new_thread(void)
{
    bool more = true;
    a = anonymous(16 * MIB);
    cache = make_cache(a, "c", 64, 0);
    uint64_t child = child_of(a, cache, fst_group_root(a));
    struct state before = state_of(a);
    for (int n = 1; more && n < 100; n++) {
        struct work w = {.nth = n, .held = alloc_one(a, child)};
        struct fst_ref sent = alloc_one(a, child);
        pthread_t t;
        CHECK_EQ(FST_OK, fst_share(a, &sent, &w.message));
        fst_drop(a, &sent);
        REQUIRE(pthread_create(&t, NULL, everything, &w) == 0);
        pthread_join(t, NULL);
        more = disarm();
        for (int i = 0; i < 6; i++)
            CHECK(w.rc[i] == FST_OK || w.rc[i] == FST_FULL);
        fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false);
        settle(a);
        CHECK_STATE(before, state_of(a));
        CHECK_CLEAN(a);
    }
    CHECK(!more);
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    fst_arena_unref(a);
}

/* A forked child that could not be given what it inherits has no part in the arena, and says so. */
static void forking(void)
{
    bool more = true;
    a = anonymous(16 * MIB);
    uint64_t child = root_child(a, "c", 64, 0);
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 64, 1);
    for (int n = 1; more && n < 100; n++) {
        arm(n);
        pid_t pid = fork();
        bool some = disarm();
        if (pid == 0) {
            struct fst_ref own;
            int rc = fst_alloc(a, child, &own);
            CHECK(rc == FST_OK || (rc == FST_CLOSED && some));
            if (rc == FST_OK)
                fst_drop(a, &own);
            CHECK(filled(ref.data, 64, 1));
            CHILD_EXIT();
        }
        CHECK_CHILD(pid);
        more = some;
        settle(a);
        CHECK_EQ(1, state_of(a).processes);
        CHECK(filled(ref.data, 64, 1));
    }
    CHECK(!more);
    fst_drop(a, &ref);
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* Who cannot look does not say that all is well. */
static void checking(void)
{
    bool more = true;
    a = anonymous(16 * MIB);
    for (int n = 1; more && n < 100; n++) {
        arm(n);
        size_t findings = (size_t)fst_check(a, NULL, NULL);
        more = disarm();
        CHECK_EQ(more, findings != 0);
    }
    fst_arena_unref(a);
}

/* Batches are run by who waits for them, when no thread can be started. */
static void without_a_reaper(void)
{
    a = anonymous(16 * MIB);
    cache = make_cache(a, "c", 64, 0);
    uint64_t group = make_group(a, "g", fst_group_root(a), FST_NO_LIMIT, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, group));
    fst_drop(a, &ref);
    arm(1);
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK(disarm());
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_barrier(a, 5000 * MS));
    CHECK_EQ(1, state_of(a).groups);
    CHECK_EQ(0, used_bytes(a));
    settle(a);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(without_a_key), CASE(opening), CASE(attaching), CASE(in_a_new_thread), CASE(forking), CASE(checking),
          CASE(without_a_reaper))
