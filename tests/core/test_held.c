/* A lock whose owner is stopped, and a thread that does not wait for it: what it is told, that
 * nothing has changed then, and that what cannot be put off is done by a batch once the lock is
 * free. None of this waits for the owner to go on: the test goes on before it does.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "alloc/cache.h"
#include "alloc/lists.h"
#include "alloc/registry.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "held_operations.h"
#include "reclaim/reaper.h"
#include "region/lock.h"

#define SHORT 3000000ull /* ns */
#define HANG  60         /* seconds until a wait counts as one for ever */

static struct state before;

static void start(void)
{
    alarm(HANG);
    a = anonymous(256 * MIB);
    root = fst_group_root(a);
    pool_cache = make_cache(a, "pool", 1000, FST_CACHE_NO_MERGE);
    pool = child_of(a, pool_cache, root);
    typed_cache = make_cache(a, "typed", 1000, FST_CACHE_TYPESAFE_BY_RCU);
    typed = child_of(a, typed_cache, root);
    ref = alloc_one(a, pool); /* the thread has its slot, and entries */
    fst_drop(a, &ref);
    ref = alloc_bytes(a, 300000);
    fst_drop(a, &ref);
    ref = alloc_bytes(a, 777);
    fst_drop(a, &ref);
    settle(a);
    before = state_of(a);
    ref = alloc_one(a, pool); /* and slabs of its own */
    fst_drop(a, &ref);
    ref = alloc_bytes(a, 777);
    fst_drop(a, &ref);
}

static void finish(void)
{
    settle(a);
    struct fst_cache_info info;
    CHECK_EQ(FST_OK, fst_cache_get_info(a, pool_cache, &info));
    CHECK_STATE(before, state_of(a));
    CHECK_CLEAN(a);
    CHECK_EQ(0, fst_load_relaxed(&a->sb->loose));
    fst_arena_unref(a);
    alarm(0);
}

/* ---- who holds a lock ---- */

static uint32_t *names_word(void)
{
    return &a->sb->names_lock;
}

static uint32_t *pages_word(void)
{
    return &a->sb->pages_lock;
}

static uint32_t *pool_word(void)
{
    return &fst_child_at(a, (uint32_t)pool)->lock;
}

static uint32_t *ending_word(void)
{
    return &fst_cache_at(a, (uint32_t)pool_cache)->ending;
}

static uint32_t *reaper_word(void)
{
    return &a->sb->reaper_lock;
}

struct held_lock {
    const char *name;
    uint32_t *(*word)(void);
    const char *held; /* names of the operations that are told so */
};

static void hold_and_stop(struct peer *parent, void *context)
{
    const struct held_lock *lock = context;
    fst_reaper_stop(a, true);
    peer_say(parent, 'r');
    peer_hear(parent);
    lock_word(a, lock->word());
    raise(SIGSTOP);
    fst_unlock(a, lock->word());
    peer_say(parent, 'u');
    peer_hear(parent);
}

/* It has inherited what this process has now, and nothing that comes later. */
static struct peer holder_of(const struct held_lock *lock)
{
    struct peer p = peer_start(hold_and_stop, (void *)(uintptr_t)lock);
    PEER_WAIT(&p, 'r');
    return p;
}

static void stop(const struct peer *p)
{
    int status = 0;
    peer_say(p, 'g');
    CHECK(waitpid(p->pid, &status, WUNTRACED) == p->pid && WIFSTOPPED(status));
}

static void let_go(struct peer *p)
{
    kill(p->pid, SIGCONT);
    PEER_WAIT(p, 'u');
}

static void go_on(struct peer *p)
{
    let_go(p);
    peer_end(p);
}

/* One operation beside a stopped owner: with no patience, then with a little; then the owner goes
 * on, or is killed, and it succeeds. */
static void beside(const struct held_lock *lock, const struct operation *o, bool kill_it, char *held, size_t size)
{
    struct peer p = holder_of(lock);
    if (o->prepare)
        o->prepare();
    stop(&p);
    fst_patience(0);
    int rc = o->act(), again = rc;
    if (rc == FST_HELD) {
        CHECK(strstr(fst_last_error(), "held by process") != NULL);
        fst_patience(SHORT);
        again = o->act();
        /* which has left what it found to a batch */
        CHECK(again == FST_HELD || o->act == shrink_cache);
        snprintf(held + strlen(held), size - strlen(held), "%s%s", held[0] ? ", " : "", o->name);
    }
    fst_patience(FST_FOREVER);
    if (kill_it)
        peer_kill(&p);
    else
        go_on(&p);
    if (rc == FST_HELD)
        rc = o->act();
    if (rc != FST_OK)
        TEST_FAIL("%s, %s: %d, %s", lock->name, o->name, rc, fst_last_error());
    if (o->undo)
        o->undo();
}

static const struct held_lock locks[] = {
    {"names", names_word,
     "open cache, open alias, destroy cache, open group, destroy group, close group, limit group, open child, "
     "count cache, shrink cache, check"},
    {"pool", pool_word, "alloc many, shrink cache, check"},
    {"pages", pages_word, "alloc many, alloc large, open cache, limit group, shrink cache, check"},
    {"ending", ending_word, "open child"},
    {"reaper", reaper_word, ""},
};
#define LOCKS (sizeof locks / sizeof *locks)

static void every_operation(void)
{
    for (size_t i = 0; i < LOCKS; i++) {
        start();
        for (int kill_it = 0; kill_it < 2; kill_it++) {
            char held[1024] = "";
            for (size_t k = 0; k < sizeof operations / sizeof *operations; k++)
                beside(&locks[i], &operations[k], kill_it, held, sizeof held);
            if (strcmp(held, locks[i].held) != 0)
                TEST_FAIL("%s: these are told that it is held: %s", locks[i].name, held);
        }
        finish();
    }
}

/* ---- what cannot be put off ---- */

/* Whatever the thread's patience is: a wait without end would be ended by the alarm. */
static void drops_with(uint64_t patience)
{
    for (size_t i = 0; i < LOCKS; i++) {
        start();
        struct peer p = holder_of(&locks[i]);
        uint64_t g = make_group(a, "g", root, FST_NO_LIMIT, 0), in_group = child_of(a, pool_cache, g);
        struct fst_ref more[OBJECTS], few[8];
        CHECK_EQ(FST_OK, alloc_forty());
        size_t n;
        CHECK_EQ(FST_OK, fst_alloc_many(a, in_group, OBJECTS, more, &n));
        for (int k = 0; k < 8; k++)
            few[k] = alloc_bytes(a, 300000);
        CHECK_EQ(FST_OK, fst_group_destroy(a, g));
        stop(&p);
        fst_patience(patience);
        drop_forty();
        for (size_t k = 0; k < n; k++)
            fst_drop(a, &more[k]);
        for (int k = 0; k < 8; k++)
            fst_drop(a, &few[k]);
        fst_group_unref(a, g);
        fst_patience(FST_FOREVER);
        int rc = fst_barrier(a, 10 * SHORT);
        if (rc != FST_TIMEOUT && locks[i].word != ending_word)
            TEST_FAIL("%s: %d", locks[i].name, rc);
        go_on(&p);
        finish();
    }
}

static void drops(void)
{
    drops_with(0);
    drops_with(FST_FOREVER);
}

/* Nobody refers to the channel any more, and the batch that finds it may not say so. */
static void a_channel_is_left(void)
{
    start();
    struct peer p = holder_of(&locks[0]);
    struct fst_channel_spec spec = {.name = "left", .group = root, .capacity = 8, .inline_bytes = 64};
    fst_channel_use *u = NULL;
    bool created;
    CHECK_EQ(FST_OK, fst_channel_open(a, &spec, FST_CREATE_NEW, &u, &created));
    fst_reaper_stop(a, true);
    stop(&p);
    fst_patience(0);
    if (u)
        fst_channel_leave(u);
    fst_barrier(a, SHORT);
    fst_patience(FST_FOREVER);
    CHECK_EQ(1, fst_channel_list(a, NULL, 0));
    go_on(&p);
    settle(a);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    before.caches++; /* of rings */
    finish();
}

static struct peer holder;

static void *allocate_and_end(void *context)
{
    struct fst_ref *mine = context;
    *mine = alloc_one(a, pool); /* with all patience there is: its end has none */
    struct fst_ref other = alloc_one(a, typed);
    fst_drop(a, &other);
    stop(&holder);
    return NULL;
}

/* Threads that end hold a mutex that others need. */
static void end_of_a_thread(void)
{
    start();
    pthread_t thread;
    struct fst_ref mine;
    holder = holder_of(&locks[1]);
    CHECK_EQ(0, pthread_create(&thread, NULL, allocate_and_end, &mine));
    CHECK_EQ(0, pthread_join(thread, NULL));
    struct fst_ref other = alloc_one(a, typed); /* this thread registers with nothing in its way */
    fst_drop(a, &other);
    go_on(&holder);
    fst_drop(a, &mine);
    finish();
}

static void leave(struct peer *parent, void *context)
{
    struct fst_ref some[3];
    (void)context;
    for (int k = 0; k < 3; k++)
        some[k] = alloc_one(a, pool);
    CHECK_EQ(FST_OK, fst_share(a, &some[1], &message));
    fst_drop(a, &some[2]);
    peer_say(parent, 'r');
    peer_hear(parent);
    /* the reaper has something to do */
    fst_group_destroy(a, make_group(a, "of who leaves", root, FST_NO_LIMIT, 0));
    peer_say(parent, 'd');
    peer_hear(parent);
    fst_arena_unref(a);
    peer_say(parent, 'l');
}

/* Whoever leaves while a lock is held by somebody else does not wait, with a reaper's thread that
 * may be waiting. */
static void leaving(void)
{
    for (size_t i = 0; i < LOCKS; i++) {
        start();
        struct peer p = holder_of(&locks[i]);
        struct peer leaver = peer_start(leave, NULL);
        PEER_WAIT(&leaver, 'r');
        peer_say(&leaver, 'g');
        PEER_WAIT(&leaver, 'd');
        stop(&p);
        peer_say(&leaver, 'g');
        PEER_WAIT(&leaver, 'l');
        peer_end(&leaver);
        go_on(&p);
        finish();
    }
}

/* A fork stops the reaper's thread, which has a batch to run and waits for the lock. */
static void forking(void)
{
    for (size_t i = 0; i < LOCKS; i++) {
        start();
        struct peer p = holder_of(&locks[i]);
        must_alloc();
        stop(&p);
        CHECK_EQ(FST_OK, fst_share(a, &ref, &message));
        drop_ref(); /* starts it */
        for (int k = 0; k < 3; k++) {
            pid_t pid = fork();
            if (pid == 0)
                _exit(fst_arena_usable(a) ? 0 : 1);
            CHECK_CHILD(pid);
            fst_reaper_watch(a);
        }
        go_on(&p);
        finish();
    }
}

/* Exit: the reaper's thread ends, whatever it waits for. */
static void exiting(void)
{
    for (size_t i = 0; i < LOCKS; i++) {
        start();
        struct peer p = holder_of(&locks[i]);
        stop(&p);
        pid_t pid = fork();
        if (pid == 0) {
            fst_patience_of_all(0);
            fst_patience_default();
            struct fst_ref r[2];
            for (int k = 0; k < 2 && fst_alloc(a, typed, &r[k]) == FST_OK; k++) {
                fst_share(a, &r[k], &message);
                fst_drop(a, &r[k]);
            }
            fst_leave_all();
            _exit(0);
        }
        CHECK_CHILD(pid);
        go_on(&p);
        finish();
    }
}

/* ---- slabs that were left, and the batch that finds them (superblock.loose) ---- */

static struct fst_slab *slab_of(const struct fst_ref *r)
{
    return fst_slab_at(a, fst_oid_slab(r->oid));
}

/* After one batch that has the locks. Nobody has died, which would have it look as well. */
static void look_after(void)
{
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(0, fst_load_relaxed(&a->sb->loose));
    CHECK_CLEAN(a);
}

/* Its thread ends: whoever comes next allocates from it. */
static void a_slab_is_left(void)
{
    start();
    pthread_t thread;
    struct fst_ref mine;
    holder = holder_of(&locks[1]);
    CHECK_EQ(0, pthread_create(&thread, NULL, allocate_and_end, &mine));
    CHECK_EQ(0, pthread_join(thread, NULL));
    CHECK_EQ(true, fst_load_relaxed(&slab_of(&mine)->owner) != 0);
    let_go(&holder);
    look_after();
    CHECK_EQ(0, fst_load_relaxed(&slab_of(&mine)->owner));
    CHECK_EQ(FST_LIST_PARTIAL, fst_load_relaxed(&slab_of(&mine)->list));
    peer_end(&holder);
    fst_drop(a, &mine);
    finish();
}

static void *fill_and_end(void *context)
{
    struct fst_ref *many = context;
    for (int k = 0; k < 200; k++)
        many[k] = alloc_one(a, pool);
    return NULL;
}

/* It was full and nobody's, and is not full any more. */
static void a_drop_is_left(void)
{
    start();
    pthread_t thread;
    struct fst_ref many[200];
    struct peer p = holder_of(&locks[1]);
    CHECK_EQ(0, pthread_create(&thread, NULL, fill_and_end, many));
    CHECK_EQ(0, pthread_join(thread, NULL));
    struct fst_slab *full = slab_of(&many[0]);
    CHECK_EQ(0, fst_load_relaxed(&full->owner));
    CHECK_EQ(FST_LIST_FULL, fst_load_relaxed(&full->list));
    stop(&p);
    fst_drop(a, &many[0]);
    CHECK_EQ(FST_LIST_FULL, fst_load_relaxed(&full->list));
    let_go(&p);
    look_after();
    CHECK_EQ(FST_LIST_PARTIAL, fst_load_relaxed(&full->list));
    peer_end(&p);
    for (int k = 1; k < 200; k++)
        fst_drop(a, &many[k]);
    finish();
}

static void read_without_reaper(struct peer *parent, void *context)
{
    fst_reaper_stop(context, true);
    read_until_told(parent, context);
}

static uint32_t *typed_word(void)
{
    return &fst_child_at(a, (uint32_t)typed)->lock;
}

static const struct held_lock typed_lock = {"typed", typed_word, ""};
static struct fst_slab *closing;

static void *stop_when_it_closes(void *context)
{
    (void)context;
    while (fst_state(fst_load_acquire(&closing->state)) != FST_SLAB_CLOSING)
        usleep(100);
    stop(&holder);
    return NULL;
}

/* It was to go back, but its readers did not end in time. */
static void a_close_is_left(void)
{
    start();
    pthread_t thread;
    struct fst_ref r = alloc_one(a, typed);
    closing = slab_of(&r);
    fst_drop(a, &r);
    holder = holder_of(&typed_lock);
    struct peer reader = peer_start(read_without_reaper, a);
    PEER_WAIT(&reader, 'r');
    CHECK_EQ(0, pthread_create(&thread, NULL, stop_when_it_closes, NULL));
    CHECK_EQ(FST_HELD, fst_cache_shrink(a, typed_cache, &bytes));
    CHECK_EQ(0, pthread_join(thread, NULL));
    CHECK_EQ(FST_SLAB_CLOSING, fst_state(fst_load_relaxed(&closing->state)));
    peer_say(&reader, 'g');
    PEER_WAIT(&reader, 'l');
    let_go(&holder);
    look_after();
    CHECK(fst_state(fst_load_relaxed(&closing->state)) != FST_SLAB_CLOSING);
    peer_end(&reader);
    peer_end(&holder);
    finish();
}

/* ---- locks that come and go ---- */

/* Hold one lock after the other for a while, so that whoever has no patience is turned away in the
 * middle of what it does. */
static void hold_now_and_then(struct peer *parent, void *context)
{
    uint64_t seed = 7;
    (void)context;
    fst_reaper_stop(a, true);
    peer_say(parent, 'r');
    fcntl(parent->in, F_SETFL, O_NONBLOCK);
    char c;
    while (read(parent->in, &c, 1) != 0) {
        const struct held_lock *lock = &locks[next_random(&seed) % 4];
        if (lock->word == ending_word)
            CHECK(fst_cache_lock_ending(a, (uint32_t)pool_cache));
        else if (lock->word == names_word)
            CHECK(fst_registry_lock(a));
        else if (lock->word == pages_word)
            CHECK(fst_run_lock(a));
        else
            CHECK(fst_lists_lock(a, (uint32_t)pool));
        usleep(next_random(&seed) % 300);
        fst_unlock(a, lock->word());
        usleep(next_random(&seed) % 200);
    }
}

static uint64_t turned_away;

#define INSIST(call)                                               \
    do {                                                           \
        int rc_;                                                   \
        while ((rc_ = (call)) == FST_HELD)                         \
            turned_away++;                                         \
        if (rc_ != FST_OK)                                         \
            TEST_FAIL("%s: %d, %s", #call, rc_, fst_last_error()); \
    } while (0)

#define MANY 300

/* A tree, and a cache with children in all of it, ended in many sections of the lock. */
static void many_at_once(int round)
{
    static uint64_t below[MANY];
    struct fst_group_spec spec = {.name = "top", .parent = root};
    struct fst_cache_spec wide = {.name = "wide", .size = 200, .flags = FST_CACHE_NO_MERGE};
    uint64_t top, of, first = 0;
    bool created;
    INSIST(fst_group_open(a, &spec, &top, &created));
    INSIST(fst_cache_open(a, &wide, &of));
    for (int i = 0; i < MANY; i++) {
        struct fst_group_spec s = {.parent = top};
        INSIST(fst_group_open(a, &s, &below[i], &created));
        INSIST(fst_child_open(a, of, below[i], &child));
        if (i == 0)
            first = child;
    }
    INSIST(fst_alloc(a, first, &ref));
    if (round % 2) {
        int rc;
        while ((rc = fst_cache_destroy(a, of, NULL)) == FST_HELD)
            turned_away++;
        CHECK_EQ(FST_BUSY, rc);
        struct fst_ref other;
        INSIST(fst_alloc(a, first, &other)); /* its children were given back to who allocates */
        fst_drop(a, &other);
    }
    drop_ref();
    if (round % 3)
        INSIST(fst_cache_destroy(a, of, NULL));
    INSIST(fst_group_destroy(a, top));
    if (round % 3 == 0)
        INSIST(fst_cache_destroy(a, of, NULL));
    for (int i = 0; i < MANY; i++)
        fst_group_unref(a, below[i]);
    fst_group_unref(a, top);
}

static void held_now_and_then(void)
{
    start();
    struct peer p = peer_start(hold_now_and_then, NULL);
    PEER_WAIT(&p, 'r');
    fst_patience(0);
    /* on a busy machine it may take longer to meet */
    for (int round = 0; round < 12 || !turned_away; round++) {
        for (size_t k = 0; k < sizeof operations / sizeof *operations; k++) {
            const struct operation *o = &operations[k];
            fst_patience(FST_FOREVER);
            if (o->prepare)
                o->prepare();
            fst_patience(0);
            INSIST(o->act());
            fst_patience(FST_FOREVER);
            if (o->undo)
                o->undo();
            fst_patience(0);
        }
        many_at_once(round);
        CHECK_EQ(true, fst_barrier(a, SHORT) != FST_CORRUPTED);
    }
    fst_patience(FST_FOREVER);
    peer_end(&p);
    finish();
}

TEST_MAIN(CASE(every_operation), CASE(drops), CASE(end_of_a_thread), CASE(leaving), CASE(forking), CASE(exiting),
          CASE(a_slab_is_left), CASE(a_drop_is_left), CASE(a_close_is_left), CASE(a_channel_is_left), CASE(held_now_and_then))
