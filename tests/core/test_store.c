/* Stores in one process, and between processes that live. */
#include "alloc/registry.h"
#include "platform/atomics.h"
#include "platform/futex.h"
#include "reclaim/reaper.h"
#include "refs/word.h"
#include "store/index.h"
#include "store/item.h"
#include "store/store.h"
#include "support.h"
#include "traced.h"

static fst_store_use *open_store(fst_arena *a, const char *name, uint64_t group)
{
    struct fst_store_spec spec = {.name = name, .group = group};
    fst_store_use *u = NULL;
    bool created;
    if (fst_store_open(a, &spec, FST_OPEN_OR_CREATE, &u, &created)) {
        TEST_FAIL("open: %s", fst_last_error());
        _exit(1);
    }
    return u;
}

static struct fst_key key_of(const char *text)
{
    return (struct fst_key){.bytes = text, .nbytes = (uint32_t)strlen(text)};
}

static int put_ref(fst_store_use *u, const char *text, const struct fst_ref *ref, uint64_t if_version)
{
    struct fst_key key = key_of(text);
    uint64_t version;
    return fst_store_put(u, &key, &(struct fst_value){.ref = ref, .kind = 3}, if_version, &version);
}

/* An object filled with n; the store alone holds it. */
static int put_new(fst_arena *a, fst_store_use *u, const char *text, uint64_t n)
{
    struct fst_ref ref = alloc_bytes(a, 300);
    fill(ref.data, ref.nbytes, n);
    int rc = put_ref(u, text, &ref, FST_ANY_VERSION);
    fst_drop(a, &ref);
    return rc;
}

static struct fst_looked_up looked; /* by the last get() */

static int get(fst_store_use *u, const char *text, struct fst_ref *ref)
{
    struct fst_key key = key_of(text);
    return fst_store_get(u, &key, ref, &looked);
}

/* FST_OK: the key holds an object filled with n. */
static int holds(fst_arena *a, fst_store_use *u, const char *text, uint64_t n)
{
    struct fst_ref ref;
    int rc = get(u, text, &ref);
    if (rc)
        return rc;
    CHECK_EQ(3, looked.kind);
    CHECK(filled(ref.data, ref.nbytes, n));
    fst_drop(a, &ref);
    return FST_OK;
}

static int take_away(fst_store_use *u, const char *text)
{
    struct fst_key key = key_of(text);
    return fst_store_remove(u, &key, FST_ANY_VERSION);
}

static uint64_t keys_of(fst_arena *a, fst_store_use *u)
{
    struct fst_store_info info;
    CHECK_EQ(FST_OK, fst_store_get_info(a, fst_store_id(u), &info));
    return info.keys;
}

static void put_get_replace_remove(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_ref first = alloc_bytes(a, 300);
    fst_drop(a, &first);
    settle(a);
    struct state base = state_of(a);
    CHECK_EQ(FST_MISSING, holds(a, u, "a", 1));
    CHECK_EQ(FST_OK, put_new(a, u, "a", 1));
    CHECK_EQ(FST_OK, put_new(a, u, "b", 2));
    settle(a);
    CHECK_EQ(FST_OK, holds(a, u, "a", 1));
    CHECK_EQ(FST_OK, holds(a, u, "b", 2));
    struct fst_ref ref;
    CHECK_EQ(FST_OK, get(u, "a", &ref));
    CHECK_EQ(FST_OK, put_new(a, u, "a", 3));
    settle(a);
    CHECK_EQ(FST_OK, holds(a, u, "a", 3));
    CHECK(filled(ref.data, ref.nbytes, 1)); /* who has the old value keeps it */
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, put_new(a, u, "b", 4)); /* nobody has the old one: still asked for */
    CHECK_EQ(2, keys_of(a, u));
    CHECK_CLEAN(a);
    CHECK_EQ(FST_OK, take_away(u, "a"));
    CHECK_EQ(FST_MISSING, take_away(u, "a"));
    CHECK_EQ(FST_MISSING, holds(a, u, "a", 3));
    CHECK_EQ(FST_OK, take_away(u, "b"));
    CHECK_EQ(0, keys_of(a, u));
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_arena_unref(a);
}

static uint64_t version_of(fst_store_use *u)
{
    uint64_t version = 0;
    CHECK_EQ(FST_OK, fst_store_version(u, &version));
    return version;
}

static void versions(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_ref ref = alloc_bytes(a, 300);
    struct fst_key key = key_of("a");
    uint64_t first, second, version = version_of(u);
    struct fst_value value = {.ref = &ref, .kind = 255};
    CHECK_EQ(FST_MISSING, fst_store_key_version(u, &key, &first));
    CHECK_EQ(FST_MISMATCH, fst_store_put(u, &key, &value, 7, &first));
    CHECK_EQ(FST_OK, fst_store_put(u, &key, &value, FST_NO_VERSION, &first));
    CHECK_EQ(FST_MISMATCH, fst_store_put(u, &key, &value, FST_NO_VERSION, &second));
    CHECK_EQ(FST_OK, fst_store_put(u, &key, &value, first, &second));
    CHECK(second > first && version_of(u) >= second && first > version);
    CHECK_EQ(FST_MISMATCH, fst_store_put(u, &key, &value, first, &version));
    CHECK_EQ(FST_OK, fst_store_key_version(u, &key, &version));
    CHECK_EQ(second, version);
    CHECK_EQ(FST_MISMATCH, fst_store_remove(u, &key, first));
    CHECK_EQ(FST_OK, fst_store_remove(u, &key, second));
    CHECK(version_of(u) > second);
    CHECK(fst_store_wait(u, second, FST_FOREVER));
    CHECK(!fst_store_wait(u, version_of(u), 1000));
    fst_drop(a, &ref);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* Keys that are no text: each is its own. */
static void any_bytes(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_ref ref = alloc_bytes(a, 8);
    uint8_t bytes[256];
    uint64_t version[256][2], got;
    memset(bytes, 0, sizeof bytes);
    struct fst_value value = {.ref = &ref};
    for (uint32_t n = 0; n < 256; n++)
        for (uint8_t kind = 0; kind < 2; kind++)
            CHECK_EQ(FST_OK, fst_store_put(u, &(struct fst_key){.bytes = bytes, .nbytes = n, .kind = kind}, &value, FST_NO_VERSION,
                                           &version[n][kind]));
    for (uint32_t n = 0; n < 256; n++)
        for (uint8_t kind = 0; kind < 2; kind++) {
            CHECK_EQ(FST_OK, fst_store_key_version(u, &(struct fst_key){.bytes = bytes, .nbytes = n, .kind = kind}, &got));
            CHECK_EQ(version[n][kind], got);
        }
    CHECK_EQ(FST_INVALID, fst_store_key_version(u, &(struct fst_key){.bytes = bytes, .nbytes = 256}, &got));
    CHECK_EQ(512, keys_of(a, u));
    CHECK_CLEAN(a);
    struct fst_listed_key listed;
    uint64_t position = 0, n = 0;
    while (fst_store_next(u, &position, &listed) == FST_OK) {
        CHECK_EQ(version[listed.nbytes][listed.kind], listed.version);
        n++;
    }
    CHECK_EQ(512, n);
    fst_drop(a, &ref);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* Keys whose hashes begin alike lie behind each other. */
static void same_slot(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_ref ref = alloc_bytes(a, 8);
    uint64_t keys[100], version, n = 0;
    struct fst_value value = {.ref = &ref};
    for (uint64_t k = 0; n < 100; k++)
        if ((fst_item_hash(a, &k, sizeof k, 0) & 511) == 5)
            keys[n++] = k;
    for (int round = 0; round < 30; round++) {
        for (uint64_t i = 0; i < 100; i++)
            CHECK_EQ(FST_OK, fst_store_put(u, &(struct fst_key){.bytes = &keys[i], .nbytes = 8}, &value, FST_NO_VERSION, &version));
        for (uint64_t i = 0; i < 100; i++) {
            uint64_t k = (i * 37 + (uint64_t)round) % 100;
            CHECK_EQ(FST_OK, fst_store_remove(u, &(struct fst_key){.bytes = &keys[k], .nbytes = 8}, FST_ANY_VERSION));
            for (uint64_t j = 0; j < 100 && i % 10 == 0; j++) {
                struct fst_key key = {.bytes = &keys[(j * 37 + (uint64_t)round) % 100], .nbytes = 8};
                CHECK_EQ(j <= i ? FST_MISSING : FST_OK, fst_store_key_version(u, &key, &version));
            }
        }
        CHECK_EQ(0, keys_of(a, u));
    }
    CHECK_CLEAN(a);
    fst_drop(a, &ref);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* It grows, all is found, and what was is used again. */
static void many_keys(void)
{
    fst_arena *a = anonymous(256 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a)), *other = open_store(a, "others", fst_group_root(a));
    struct fst_ref ref = alloc_bytes(a, 8);
    uint64_t version, count = 100000;
    struct fst_value value = {.ref = &ref};
    struct fst_store_info info;
    for (int round = 0; round < 3; round++) {
        for (uint64_t k = 0; k < count; k++) {
            struct fst_key key = {.bytes = &k, .nbytes = 8};
            CHECK_EQ(FST_OK, fst_store_put(u, &key, &value, FST_NO_VERSION, &version));
            if (k % 3 == 0)
                CHECK_EQ(FST_OK, fst_store_put(other, &key, &value, FST_NO_VERSION, &version));
        }
        CHECK_EQ(FST_OK, fst_store_get_info(a, fst_store_id(u), &info));
        CHECK_EQ(count, info.keys);
        CHECK(info.slots >= count && info.slots <= 4 * count);
        CHECK_EQ(count * 8, info.bytes);
        CHECK_EQ((count + 2) / 3, keys_of(a, other));
        for (uint64_t k = 0; k < 2 * count; k++) {
            struct fst_key key = {.bytes = &k, .nbytes = 8};
            CHECK_EQ(k < count ? FST_OK : FST_MISSING, fst_store_key_version(u, &key, &version));
        }
        for (uint64_t k = 0; k < count; k++) {
            struct fst_key key = {.bytes = &k, .nbytes = 8};
            CHECK_EQ(FST_OK, fst_store_remove(u, &key, FST_ANY_VERSION));
            if (k % 3 == 0)
                CHECK_EQ(FST_OK, fst_store_remove(other, &key, FST_ANY_VERSION));
        }
        CHECK_EQ(0, keys_of(a, u) + keys_of(a, other));
    }
    CHECK(a->sb->item_top[0] <= count * 3 / 2);
    CHECK_CLEAN(a);
    fst_drop(a, &ref);
    fst_store_leave(u);
    fst_store_leave(other);
    fst_arena_unref(a);
}

/* destroy(), its group, and its objects' groups. */
static void ends(void)
{
    fst_arena *a = anonymous(64 * MIB);
    uint64_t root = fst_group_root(a);
    uint64_t number;
    struct state base = state_of(a);
    fst_store_use *u = open_store(a, "things", root);
    settle(a);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(FST_OK, put_new(a, u, i == 0 ? "a" : i == 1 ? "b" : "c", (uint64_t)i));
    struct fst_ref ref;
    CHECK_EQ(FST_OK, get(u, "b", &ref));
    CHECK_EQ(FST_OK, fst_store_destroy(u));
    CHECK_EQ(FST_CLOSED, fst_store_version(u, &number));
    CHECK_EQ(FST_CLOSED, fst_store_length(u, &number));
    CHECK_EQ(FST_CLOSED, holds(a, u, "a", 0));
    CHECK_EQ(FST_CLOSED, put_new(a, u, "a", 0));
    fst_store_use *again = open_store(a, "things", root); /* the name is free at once */
    CHECK_EQ(FST_MISSING, holds(a, again, "a", 0));
    CHECK(filled(ref.data, ref.nbytes, 1));
    settle(a);
    CHECK(filled(ref.data, ref.nbytes, 1));
    fst_drop(a, &ref);
    settle(a);
    CHECK_EQ(1, fst_store_list(a, NULL, 0));

    uint64_t group = make_group(a, "job", root, FST_NO_LIMIT, 0);
    fst_store_use *v = open_store(a, "job's", group);
    ref = alloc_one(a, child_of(a, make_cache(a, "typed", 200, 0), group));
    CHECK_EQ(FST_OK, put_new(a, v, "x", 9));
    CHECK_EQ(FST_OK, put_ref(again, "typed", &ref, FST_ANY_VERSION));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, get(again, "typed", &ref));
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK_EQ(FST_MISSING, get(again, "typed", &ref)); /* of the group: gone at once */
    settle(a);
    CHECK_EQ(FST_CLOSED, holds(a, v, "x", 9)); /* and the store with it */
    CHECK_EQ(0, keys_of(a, again));
    CHECK_CLEAN(a);
    fst_drop(a, &ref);
    fst_group_unref(a, group);
    CHECK_EQ(FST_OK, fst_store_destroy(again));
    settle(a);
    settle(a);
    uint64_t ids[8];
    for (size_t n = fst_cache_list(a, ids, 8); n > base.caches; n--)
        fst_cache_destroy(a, ids[n - 1], NULL);
    settle(a);
    CHECK_EQ(0, fst_store_list(a, NULL, 0));
    CHECK_EQ(base.used, state_of(a).used);
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_store_leave(again);
    fst_store_leave(v);
    fst_arena_unref(a);
}

/* What a store holds is in use: its cache cannot be destroyed. */
static void busy(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    uint64_t cache = make_cache(a, "typed", 200, 0);
    struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
    CHECK_EQ(FST_OK, put_ref(u, "a", &ref, FST_ANY_VERSION));
    fst_drop(a, &ref);
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, cache, NULL));
    CHECK_EQ(FST_OK, take_away(u, "a"));
    CHECK_EQ(FST_OK, fst_cache_destroy(a, cache, NULL));
    fst_store_leave(u);
    fst_arena_unref(a);
}

static void made_once(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_key key = key_of("a"), b = key_of("b");
    struct fst_store_claim claim, other;
    struct fst_ref ref = alloc_bytes(a, 300);
    uint64_t version;
    CHECK_EQ(FST_OK, fst_store_claim(u, &key, &claim));
    CHECK_EQ(FST_WAIT, fst_store_claim(u, &key, &other));
    CHECK_EQ(FST_MISSING, fst_store_key_version(u, &key, &version));
    CHECK_EQ(0, keys_of(a, u));
    fst_store_give_up(u, &claim);
    CHECK_EQ(FST_OK, fst_store_claim(u, &key, &claim));
    CHECK_EQ(FST_OK, fst_store_publish(u, &claim, &(struct fst_value){.ref = &ref}, &version));
    CHECK_EQ(FST_EXISTS, fst_store_claim(u, &key, &other));
    CHECK_EQ(FST_STALE, fst_store_publish(u, &claim, &(struct fst_value){.ref = &ref}, &version));
    /* A put wins over who makes it. */
    CHECK_EQ(FST_OK, fst_store_claim(u, &b, &claim));
    CHECK_EQ(FST_OK, put_ref(u, "b", &ref, FST_NO_VERSION));
    CHECK_EQ(FST_STALE, fst_store_publish(u, &claim, &(struct fst_value){.ref = &ref}, &version));
    CHECK_EQ(2, keys_of(a, u));
    fst_drop(a, &ref);
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* Whoever makes it is killed: the next one does. */
static void maker_killed(void)
{
    for (int batch = 0; batch < 2; batch++) {
        fst_arena *a = anonymous(64 * MIB);
        fst_store_use *u = open_store(a, "things", fst_group_root(a));
        struct fst_key key = key_of("a");
        struct fst_store_claim claim;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            CHECK_EQ(FST_OK, fst_store_claim(u, &key, &claim));
            kill(getpid(), atomic_load(&test_failures) ? SIGABRT : SIGKILL);
        }
        int status;
        CHECK(test_wait(pid, &status) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        if (batch) {
            settle(a);
            CHECK_EQ(FST_HOLD_FREE, fst_hold_kind(*fst_hold_at(a, 0)));
        }
        CHECK_EQ(FST_OK, fst_store_claim(u, &key, &claim));
        fst_store_give_up(u, &claim);
        CHECK_CLEAN(a);
        fst_store_leave(u);
        fst_arena_unref(a);
    }
}

static void evicted(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    struct fst_ref first = alloc_bytes(a, 300);
    fst_drop(a, &first);
    settle(a);
    struct state base = state_of(a);
    char name[16];
    uint64_t bytes;
    for (uint64_t i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%llu", (unsigned long long)i);
        CHECK_EQ(FST_OK, put_new(a, u, name, i));
    }
    for (uint64_t i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "%llu", (unsigned long long)i);
        CHECK_EQ(FST_OK, holds(a, u, name, i));
    }
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(FST_OK, fst_store_evict(u, &bytes));
        CHECK_EQ(300, bytes);
    }
    for (uint64_t i = 0; i < 100; i++) { /* what was used is left */
        snprintf(name, sizeof name, "%llu", (unsigned long long)i);
        CHECK_EQ(i < 50 ? FST_OK : FST_MISSING, holds(a, u, name, i));
    }
    for (int i = 0; i < 50; i++)
        CHECK_EQ(FST_OK, fst_store_evict(u, &bytes));
    CHECK_EQ(FST_MISSING, fst_store_evict(u, &bytes));
    settle(a);
    CHECK_STATE(base, state_of(a));
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_arena_unref(a);
}

static void expire(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    fst_reaper_stop(a, true);
    struct fst_ref ref = alloc_bytes(a, 300);
    fst_drop(a, &ref);
    settle(a);
    struct state base = state_of(a);
    ref = alloc_bytes(a, 300);
    struct fst_key key = key_of("a");
    uint64_t version;
    CHECK_EQ(FST_OK, fst_store_put(u, &key, &(struct fst_value){.ref = &ref, .ttl = 30 * FST_MS}, FST_ANY_VERSION, &version));
    CHECK_EQ(FST_OK, put_ref(u, "b", &ref, FST_ANY_VERSION));
    fst_drop(a, &ref);
    CHECK(a->sb->item_expires_at != UINT64_MAX);
    while (fst_store_key_version(u, &key, &version) == FST_OK)
        usleep(1000);
    CHECK_EQ(FST_MISSING, take_away(u, "nothing"));
    settle(a);
    CHECK_EQ(1, keys_of(a, u));
    CHECK_EQ(UINT64_MAX, a->sb->item_expires_at);
    CHECK_EQ(FST_OK, take_away(u, "b"));
    settle(a);
    CHECK_STATE(base, state_of(a));
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* ---- two that replace, some that read ---- */

#define READERS 3
#define ROUNDS  20000u

static struct {
    uint32_t over;
    uint64_t reads[READERS];
} * race;

static void replace_in_a_loop(fst_arena *a, fst_store_use *u, uint64_t me)
{
    for (uint64_t n = 1; n <= ROUNDS && !atomic_load(&test_failures); n++) {
        struct fst_ref ref = alloc_bytes(a, 256);
        uint64_t *words = ref.data;
        for (int i = 0; i < 32; i++)
            words[i] = n << 8 | me;
        CHECK_EQ(FST_OK, put_ref(u, "key", &ref, FST_ANY_VERSION));
        fst_drop(a, &ref);
    }
}

static void read_in_a_loop(fst_arena *a, fst_store_use *u, uint64_t me)
{
    uint64_t last[2] = {0};
    while (!__atomic_load_n(&race->over, __ATOMIC_SEQ_CST) && !atomic_load(&test_failures)) {
        struct fst_ref ref;
        if (get(u, "key", &ref))
            continue;
        const uint64_t *words = ref.data;
        for (int i = 1; i < 32; i++)
            CHECK_EQ(words[0], words[i]);
        uint64_t who = words[0] & 1, n = words[0] >> 8;
        CHECK(n >= last[who]); /* nothing comes back */
        last[who] = n;
        race->reads[me]++;
        fst_drop(a, &ref);
    }
}

static void replaced_while_read(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    race = shared_memory(sizeof *race);
    pid_t pid[READERS + 2];
    fflush(NULL);
    for (uint64_t i = 0; i < READERS + 2; i++)
        if ((pid[i] = fork()) == 0) {
            if (i < 2)
                replace_in_a_loop(a, u, i);
            else
                read_in_a_loop(a, u, i - 2);
            CHILD_EXIT();
        }
    CHECK_CHILD(pid[0]);
    CHECK_CHILD(pid[1]);
    __atomic_store_n(&race->over, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < READERS; i++) {
        CHECK_CHILD(pid[2 + i]);
        CHECK(race->reads[i] > 0);
    }
    settle(a);
    CHECK_EQ(1, keys_of(a, u));
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_arena_unref(a);
}

/* ---- replaced at any instruction of who looks up: at so many of them ---- */

#define STOPS 40

static int put_numbered(fst_arena *a, fst_store_use *u, uint64_t n)
{
    struct fst_key key = key_of("key");
    struct fst_ref ref = alloc_bytes(a, 300);
    uint64_t version;
    fill(ref.data, ref.nbytes, n);
    int rc = fst_store_put(u, &key, &(struct fst_value){.ref = &ref, .kind = (uint8_t)n}, FST_ANY_VERSION, &version);
    fst_drop(a, &ref);
    return rc;
}

static pid_t traced_reader(fst_arena *a, fst_store_use *u, uint32_t *done)
{
    *done = 0;
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid)
        return pid;
    struct fst_ref ref;
    atomic_store(&test_failures, 0);
    fst_reaper_stop(a, true);              /* its batch would wait for what it has locked */
    CHECK_EQ(FST_OK, get(u, "key", &ref)); /* it has its thread's slot, and entries */
    fst_drop(a, &ref);
    stop_for_the_tracer();
    int rc = get(u, "key", &ref);
    __atomic_store_n(done, 1, __ATOMIC_RELAXED);
    CHECK_EQ(FST_OK, rc);
    CHECK(filled(ref.data, ref.nbytes, looked.kind));
    CHILD_EXIT();
}

/* Stop a reader after n instructions (0: at the end of its look), and replace, release and use for
 * something else what it was about to look up. Returns how many it went. */
static uint64_t replace_after(fst_arena *a, fst_store_use *u, uint64_t n, uint32_t *done)
{
    struct fst_ref other[4];
    pid_t pid = traced_reader(a, u, done);
    uint64_t went = step(pid, n, done);
    CHECK_EQ(FST_OK, put_numbered(a, u, 2 + n % 200));
    settle(a);
    for (int i = 0; i < 4; i++) {
        other[i] = alloc_bytes(a, 300);
        memset(other[i].data, 0xee, 300);
    }
    CHECK(ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
    CHECK_CHILD(pid);
    for (int i = 0; i < 4; i++)
        fst_drop(a, &other[i]);
    settle(a);
    return went;
}

static void replaced_at_any_instruction(void)
{
    if ((test_skipped = cannot_trace()))
        return;
    fst_arena *a = anonymous(64 * MIB);
    fst_store_use *u = open_store(a, "things", fst_group_root(a));
    uint32_t *done = shared_memory(sizeof *done);
    fst_reaper_stop(a, true);
    CHECK_EQ(FST_OK, put_numbered(a, u, 1));
    uint64_t length = replace_after(a, u, 0, done), stride = length / STOPS + 1, stops = 0;
    CHECK(length > STOPS);
    for (uint64_t n = 1; n <= length && !atomic_load(&test_failures); n += stride, stops++)
        replace_after(a, u, n, done);
    printf("# a look of %llu instructions, stopped %llu times\n", (unsigned long long)length, (unsigned long long)stops);
    CHECK_CLEAN(a);
    fst_store_leave(u);
    fst_arena_unref(a);
    munmap(done, sizeof *done);
}

TEST_MAIN(CASE(put_get_replace_remove), CASE(versions), CASE(any_bytes), CASE(same_slot), CASE(many_keys), CASE(ends), CASE(busy),
          CASE(made_once), CASE(maker_killed), CASE(evicted), CASE(expire), CASE(replaced_while_read),
          CASE(replaced_at_any_instruction))
