/* Attaching, creating, leaving and removing arenas; files that are no arenas; what crashed
 * processes leave in a folder. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "region/superblock.h"
#include "support.h"

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static size_t open_files(void)
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void named_life(void)
{
    const char *path = new_path("life");
    fst_arena *a, *b;
    CHECK_EQ(FST_MISSING, try_open(path, 0, FST_OPEN_EXISTING, &a));
    CHECK_EQ(FST_OK, try_open(path, 8 * MIB, FST_CREATE_NEW, &a));
    CHECK_EQ(FST_EXISTS, try_open(path, 8 * MIB, FST_CREATE_NEW, &b));
    CHECK_EQ(FST_OK, try_open(path, 0, FST_OPEN_OR_CREATE, &b));
    CHECK(a == b);
    CHECK_EQ(FST_INVALID, try_open(path, 9 * MIB, FST_OPEN_OR_CREATE, &b));
    struct fst_open_options ro = {.path = path, .readonly = true};
    CHECK_EQ(FST_MISMATCH, fst_arena_open(&ro, &b));
    struct fst_arena_info info;
    fst_arena_get_info(a, &info);
    CHECK_EQ(8 * MIB, info.capacity);
    CHECK(strcmp(info.path, path) == 0 && !info.anonymous && !info.lasting && !info.unlinked);
    b = fst_arena_find(info.uuid);
    CHECK(a == b);
    struct fst_peek peek;
    CHECK_EQ(FST_OK, fst_peek(path, &peek));
    CHECK_EQ(8 * MIB, peek.capacity);
    CHECK(!peek.lasting);
    fst_arena_unref(a);
    fst_arena_unref(a);
    CHECK(exists(path));
    fst_arena_unref(a);
    CHECK(!exists(path));
}

static void lasting(void)
{
    const char *path = new_path("lasting");
    struct fst_open_options o = {.path = path, .capacity = 8 * MIB, .lasting = true, .mode = 0600};
    fst_arena *a;
    CHECK_EQ(FST_OK, fst_arena_open(&o, &a));
    struct fst_ref ref = alloc_bytes(a, 100);
    struct fst_message m;
    fill(ref.data, 100, 3);
    fst_share(a, &ref, &m);
    fst_arena_unref(a);
    CHECK(exists(path));
    CHECK_EQ(0, fst_gc(folder(), NULL));
    CHECK(exists(path));
    REQUIRE(try_open(path, 0, FST_OPEN_EXISTING, &a) == FST_OK);
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    CHECK(filled(out.data, 100, 3));
    fst_drop(a, &out);
    fst_arena_unref(a);
    CHECK(exists(path));
    CHECK_EQ(FST_OK, fst_unlink(path));
    CHECK(!exists(path));
}

static void unlinked_from_outside(void)
{
    const char *path = new_path("unlinked");
    fst_arena *a = open_named(path), *b;
    struct fst_arena_info info;
    CHECK_EQ(0, unlink(path));
    fst_arena_get_info(a, &info);
    CHECK(info.unlinked);
    struct fst_ref ref = alloc_bytes(a, 100);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, try_open(path, MIB, FST_OPEN_OR_CREATE, &b)); /* another one of this name */
    CHECK(a != b);
    fst_arena_unref(a); /* must not remove the other's name */
    CHECK(exists(path));
    fst_arena_unref(b);
    CHECK(!exists(path));
}

/* ---- eight processes at one name ---- */

struct race {
    char path[128];
    uint32_t go, opens, wrong;
};

static void open_and_leave(struct peer *parent, void *context)
{
    struct race *race = context;
    PEER_WAIT(parent, 'g');
    for (int i = 0; i < 100; i++) {
        fst_arena *a = NULL;
        int rc = try_open(race->path, 4 * MIB, FST_OPEN_OR_CREATE, &a);
        if (rc) {
            TEST_FAIL("open: %d %s", rc, fst_last_error());
            continue;
        }
        __atomic_fetch_add(&race->opens, 1, __ATOMIC_RELAXED);
        struct fst_ref ref;
        if (fst_alloc_bytes(a, fst_group_root(a), 100, &ref) == FST_OK) {
            fill(ref.data, 100, (uint64_t)getpid());
            CHECK(filled(ref.data, 100, (uint64_t)getpid()));
            fst_drop(a, &ref);
        } else {
            TEST_FAIL("alloc: %s", fst_last_error());
        }
        fst_arena_unref(a);
    }
}

static void create_attach_and_last_out(void)
{
    struct race *race = shared_memory(sizeof *race);
    struct peer p[8];
    snprintf(race->path, sizeof race->path, "%s", new_path("race"));
    for (int i = 0; i < 8; i++)
        p[i] = peer_start(open_and_leave, race);
    for (int i = 0; i < 8; i++)
        peer_say(&p[i], 'g');
    for (int i = 0; i < 8; i++)
        peer_end(&p[i]);
    CHECK_EQ(800, race->opens);
    CHECK(!exists(race->path));
    munmap(race, sizeof *race);
}

static void open_for_ever(struct peer *parent, void *context)
{
    struct race *race = context;
    (void)parent;
    for (;;) {
        fst_arena *a;
        if (try_open(race->path, 4 * MIB, FST_OPEN_OR_CREATE, &a) == FST_OK) {
            struct fst_ref ref;
            if (fst_alloc_bytes(a, fst_group_root(a), 100, &ref) == FST_OK)
                fst_drop(a, &ref);
            else
                __atomic_fetch_add(&race->wrong, 1, __ATOMIC_RELAXED);
            __atomic_fetch_add(&race->opens, 1, __ATOMIC_RELAXED);
            fst_arena_unref(a);
        } else {
            __atomic_fetch_add(&race->wrong, 1, __ATOMIC_RELAXED);
            fprintf(stderr, "# open: %s\n", fst_last_error());
        }
    }
}

/* The same while they are killed at random moments: of creating, attaching, leaving, removing. */
static void killed_at_the_door(void)
{
    struct race *race = shared_memory(sizeof *race);
    struct peer p[4];
    uint64_t random = 99;
    snprintf(race->path, sizeof race->path, "%s", new_path("door"));
    for (int i = 0; i < 4; i++)
        p[i] = peer_start(open_for_ever, race);
    for (int k = 0; k < 300; k++) {
        usleep((useconds_t)(next_random(&random) % 4000));
        int i = (int)(next_random(&random) % 4);
        peer_kill(&p[i]);
        p[i] = peer_start(open_for_ever, race);
    }
    for (int i = 0; i < 4; i++)
        peer_kill(&p[i]);
    CHECK(race->opens > 0);
    CHECK_EQ(0, race->wrong);
    /* One more open and leave: nothing is left of them all. */
    fst_arena *a;
    REQUIRE(try_open(race->path, 0, FST_OPEN_OR_CREATE, &a) == FST_OK);
    settle(a);
    CHECK_EQ(1, state_of(a).processes);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    CHECK(!exists(race->path));
    munmap(race, sizeof *race);
}

/* ---- leftovers ---- */

static void make_and_die(struct peer *parent, void *context)
{
    fst_arena *a = open_named(context);
    alloc_bytes(a, MIB);
    peer_say(parent, 'o');
    peer_hear(parent);
}

static void leftovers(void)
{
    char path[4][128];
    struct fst_peek peek;
    for (int i = 0; i < 4; i++) {
        snprintf(path[i], sizeof path[i], "%s", new_path("left"));
        struct peer p = peer_start(make_and_die, path[i]);
        PEER_WAIT(&p, 'o');
        CHECK_EQ(FST_OK, fst_peek(path[i], &peek));
        CHECK_EQ(1, peek.processes);
        CHECK(!peek.orphan);
        if (i == 0) { /* alive: nobody removes it */
            CHECK_EQ(0, fst_gc(folder(), NULL));
            CHECK(exists(path[i]));
        }
        peer_kill(&p);
        CHECK(exists(path[i]));
        CHECK_EQ(FST_OK, fst_peek(path[i], &peek));
        CHECK(peek.orphan);
        if (i < 2) { /* opening another arena in the folder removes it */
            const char *other = new_path("other");
            fst_arena *a = open_named(other);
            CHECK(!exists(path[i]));
            fst_arena_unref(a);
        }
    }
    char *removed = NULL;
    /* the last one: opening it had removed the one before */
    CHECK_EQ(1, fst_gc(folder(), &removed));
    CHECK(removed && strcmp(removed, path[3]) == 0 && removed[strlen(removed) + 1] == 0);
    free(removed);
    CHECK(!exists(path[2]) && !exists(path[3]));
}

/* A crashed creator's own name: the next open of it begins anew. */
static void leftover_of_the_same_name(void)
{
    const char *path = new_path("again");
    struct peer p = peer_start(make_and_die, (void *)(uintptr_t)path);
    PEER_WAIT(&p, 'o');
    peer_kill(&p);
    fst_arena *a;
    CHECK_EQ(FST_OK, try_open(path, 4 * MIB, FST_CREATE_NEW, &a));
    CHECK_EQ(0, used_bytes(a));
    fst_arena_unref(a);
    CHECK(!exists(path));
}

/* ---- files that are not what they should be ---- */

static void write_file(const char *path, const void *bytes, size_t n)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0600);
    REQUIRE(fd >= 0);
    CHECK_EQ(n, (size_t)write(fd, bytes, n));
    close(fd);
}

static void check_refused(const char *path, int expected)
{
    fst_arena *a = NULL;
    struct fst_peek peek;
    CHECK_EQ(expected, try_open(path, 0, FST_OPEN_OR_CREATE, &a));
    CHECK(strstr(fst_last_error(), path) != NULL);
    CHECK_EQ(expected, try_open(path, 0, FST_OPEN_EXISTING, &a));
    CHECK_EQ(expected, fst_peek(path, &peek));
}

static void foreign_files(void)
{
    const char *path = new_path("foreign");
    char text[8192];
    memset(text, 'x', sizeof text);
    write_file(path, text, sizeof text);
    check_refused(path, FST_LAYOUT);
    CHECK_EQ(FST_LAYOUT, fst_unlink(path));
    CHECK(exists(path)); /* whatever it is, it is not ours to remove */
    fst_gc(folder(), NULL);
    CHECK(exists(path));
    unlink(path);
    CHECK_EQ(0, mkfifo(path, 0600));
    check_refused(path, FST_REFUSED);
    unlink(path);
    CHECK_EQ(0, mkdir(path, 0700));
    check_refused(path, FST_REFUSED);
    rmdir(path);
    const char *target = new_path("target");
    fst_arena *a = open_named(target);
    CHECK_EQ(0, symlink(target, path));
    check_refused(path, FST_REFUSED);
    CHECK_EQ(FST_REFUSED, fst_unlink(path));
    fst_arena_unref(a);
    check_refused(path, FST_REFUSED); /* a dangling link */
    unlink(path);
    fst_arena *none;
    CHECK_EQ(FST_INVALID, try_open("relative", 0, FST_OPEN_OR_CREATE, &none));
    CHECK(try_open("/dev/shm/fst-ctest-no/such/folder", 0, FST_OPEN_OR_CREATE, &none) < 0);
    CHECK(try_open("/tmp/fst-ctest-none", 0, FST_OPEN_EXISTING, &none) < 0);
    CHECK(try_open("/proc/self/fst-ctest", 0, FST_CREATE_NEW, &none) < 0);
}

/* A lasting arena with some content, and its superblock. */
static void make_victim(const char *path, struct fst_superblock *sb)
{
    struct fst_open_options o = {.path = path, .capacity = 4 * MIB, .lasting = true, .mode = 0600};
    fst_arena *a;
    REQUIRE(fst_arena_open(&o, &a) == FST_OK);
    struct fst_ref ref = alloc_bytes(a, 1000);
    struct fst_message m;
    fst_share(a, &ref, &m);
    fst_arena_unref(a);
    int fd = open(path, O_RDONLY);
    CHECK_EQ(sizeof *sb, (size_t)pread(fd, sb, sizeof *sb, 0));
    close(fd);
}

static void truncated(void)
{
    const char *path = new_path("truncated");
    struct fst_superblock sb;
    make_victim(path, &sb);
    uint64_t size = fst_superblock_file_size(&sb, 1), random = 5;
    for (uint64_t n = 0; n < 300; n++) {
        uint64_t length = n < 100 ? n * 8 : n < 200 ? sizeof sb - 100 + n - 99 : next_random(&random) % size;
        write_file(path, &sb, sizeof sb);
        CHECK_EQ(0, truncate(path, (off_t)length));
        fst_arena *a;
        int rc = try_open(path, 0, FST_OPEN_EXISTING, &a);
        CHECK(rc == FST_CORRUPTED || rc == FST_LAYOUT);
        if (rc == FST_OK)
            fst_arena_unref(a);
    }
    CHECK_EQ(0, truncate(path, (off_t)size + 4096));
    check_refused(path, FST_CORRUPTED);
    unlink(path);
}

static void put_superblock(const char *path, const struct fst_superblock *sb)
{
    int fd = open(path, O_RDWR);
    CHECK_EQ(sizeof *sb, (size_t)pwrite(fd, sb, sizeof *sb, 0));
    close(fd);
}

static void other_versions(void)
{
    const char *path = new_path("version");
    struct fst_superblock sb, bad;
    make_victim(path, &sb);
#define WITH(expected, change)           \
    do {                                 \
        bad = sb;                        \
        change;                          \
        put_superblock(path, &bad);      \
        check_refused(path, (expected)); \
    } while (0)
    WITH(FST_LAYOUT, bad.fingerprint ^= 1);
    CHECK(strstr(fst_last_error(), "fingerprint") != NULL);
    WITH(FST_LAYOUT, bad.magic = __builtin_bswap64(bad.magic));
    CHECK(strstr(fst_last_error(), "byte order") != NULL);
    WITH(FST_LAYOUT, bad.magic ^= 256);
    WITH(FST_CORRUPTED, bad.checksum ^= 1);
    WITH(FST_CORRUPTED, bad.capacity += 4096);
    WITH(FST_CORRUPTED, bad.control_size -= 4096);
    WITH(FST_CORRUPTED, bad.tables[3].offset += 64);
    WITH(FST_CORRUPTED, bad.tables[5].count *= 2);
    WITH(FST_CORRUPTED, bad.uuid[3] ^= 1);
    WITH(FST_CORRUPTED, bad.tables[FST_T_CACHE].committed = 1ull << 60);
    WITH(FST_CORRUPTED, bad.process_top = FST_MAX_PROCESSES + 1);
    WITH(FST_CORRUPTED, bad.thread_top = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.inflight_top = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.cache_top = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.child_top = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.group_top = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.slab_top[2] = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.zones = UINT32_MAX);
    WITH(FST_CORRUPTED, bad.state = 77);
    put_superblock(path, &sb);
    fst_arena *a;
    CHECK_EQ(FST_OK, try_open(path, 0, FST_OPEN_EXISTING, &a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    unlink(path);
}

/* ---- anonymous ones, descriptors ---- */

static void by_descriptor(void)
{
    fst_arena *a = anonymous(4 * MIB), *b;
    CHECK_EQ(FST_OK, fst_arena_open_fd(fst_arena_fd(a), false, &b));
    CHECK(a == b);
    fst_arena_unref(b);
    CHECK(fcntl(fst_arena_fd(a), F_GETFD) & FD_CLOEXEC);
    int fd = dup(fst_arena_fd(a));
    fst_arena_unref(a);
    CHECK_EQ(FST_OK, fst_arena_open_fd(fd, false, &a)); /* the file lives on with the descriptor */
    close(fd);
    struct fst_ref ref = alloc_bytes(a, 10);
    fst_drop(a, &ref);
    fst_arena_unref(a);
    int pair[2];
    REQUIRE(pipe(pair) == 0);
    CHECK(fst_arena_open_fd(pair[0], false, &a) < 0);
    CHECK(fst_arena_open_fd(-1, false, &a) < 0);
    CHECK(fst_arena_open_fd(0, false, &a) < 0);
    close(pair[0]);
    close(pair[1]);
}

static void thousand_in_a_row(void)
{
    size_t before = open_files();
    for (int i = 0; i < 1000; i++) {
        fst_arena *a;
        const char *path = i & 1 ? new_path("row") : NULL;
        CHECK_EQ(FST_OK, try_open(path, 16 * MIB, FST_CREATE_NEW, &a));
        struct fst_ref ref = alloc_bytes(a, 100);
        struct fst_message m;
        if (i % 3 == 0)
            fst_share(a, &ref, &m);
        fst_drop(a, &ref);
        fst_arena_unref(a);
        CHECK(!path || !exists(path));
    }
    CHECK_EQ(before, open_files());
}

static void several_at_once(void)
{
    fst_arena *a[50];
    struct fst_ref ref[50];
    size_t before = open_files();
    for (int i = 0; i < 50; i++) {
        a[i] = anonymous(4 * MIB);
        ref[i] = alloc_bytes(a[i], 64);
        fill(ref[i].data, 64, (uint64_t)i);
    }
    struct fst_handle h;
    struct fst_ref out;
    fst_handle_of(a[0], &ref[0], &h);
    CHECK_EQ(FST_FOREIGN, fst_resolve(a[1], &h, &out));
    for (int i = 0; i < 50; i++)
        CHECK(filled(ref[i].data, 64, (uint64_t)i));
    for (int i = 0; i < 50; i += 2)
        fst_arena_unref(a[i]);
    for (int i = 1; i < 50; i += 2) {
        fst_drop(a[i], &ref[i]);
        fst_arena_unref(a[i]);
    }
    CHECK_EQ(before, open_files());
}

static void *use_arenas(void *unused)
{
    for (int i = 0; i < 100; i++) {
        fst_arena *a;
        CHECK_EQ(FST_OK, try_open(NULL, MIB, FST_CREATE_NEW, &a));
        struct fst_ref ref = alloc_bytes(a, 10);
        fst_drop(a, &ref);
        fst_arena_unref(a);
    }
    return unused;
}

/* A thread that outlives arenas it was registered with. */
static void threads_and_arenas(void)
{
    pthread_t t[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&t[i], NULL, use_arenas, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
}

/* No multiple of 16 or 64 KiB, which a page is elsewhere: what lies behind the data is mapped, too,
 * and the rings of channels where the data is mapped read-only (page_size in meson.options). */
static void odd_capacities(void)
{
    for (uint64_t k = 1; k < 5; k++) {
        const char *path = new_path("odd");
        fst_arena *a, *b;
        struct fst_arena_info info;
        REQUIRE(try_open(path, 5 * MIB + k * 4096, FST_CREATE_NEW, &a) == FST_OK);
        fst_arena_get_info(a, &info);
        CHECK(info.capacity >= 5 * MIB + k * 4096 && info.capacity < 6 * MIB);
        struct fst_ref ref = alloc_bytes(a, 3 * MIB), small = alloc_bytes(a, 100);
        memset(ref.data, 1, ref.nbytes);
        struct fst_message m;
        fill(small.data, 100, 5);
        CHECK_EQ(FST_OK, fst_share(a, &small, &m));
        pid_t child = fork();
        if (!child) {
            struct fst_ref out;
            CHECK_EQ(FST_OK, try_open(path, 0, FST_OPEN_EXISTING, &b));
            CHECK_EQ(FST_OK, fst_take(b, &m, &out));
            CHECK(filled(out.data, 100, 5));
            CHILD_EXIT();
        }
        CHECK_CHILD(child);
        fst_drop(a, &ref);
        fst_drop(a, &small);
        uint64_t bytes;
        CHECK_EQ(FST_OK, fst_shrink(a, 5000000000u, &bytes));
        CHECK(bytes >= 3 * MIB);
        fst_arena_unref(a);
    }
}

static void big_capacity(void)
{
    fst_arena *a = anonymous(1ull << 40);
    struct fst_arena_info info;
    struct fst_ref ref = alloc_bytes(a, 64 * MIB);
    memset(ref.data, 1, ref.nbytes);
    fst_arena_get_info(a, &info);
    CHECK_EQ(1ull << 40, info.capacity);
    CHECK(info.committed < 256 * MIB);
    fst_drop(a, &ref);
    uint64_t bytes;
    CHECK_EQ(FST_OK, fst_shrink(a, 5000000000u, &bytes));
    CHECK(bytes >= 64 * MIB);
    fst_arena_unref(a);
    fst_arena *none;
    CHECK_EQ(FST_INVALID, try_open(NULL, UINT64_MAX, FST_CREATE_NEW, &none));
    CHECK_EQ(FST_INVALID, try_open(NULL, UINT64_MAX - 5000, FST_CREATE_NEW, &none));
    CHECK_EQ(FST_INVALID, try_open(NULL, 1ull << 63, FST_CREATE_NEW, &none));
}

static void attach_only(struct peer *parent, void *context)
{
    PEER_WAIT(parent, 'g');
    open_named(context);
    peer_say(parent, 'a');
    peer_hear(parent);
    fst_leave_all(); /* as at the end of an interpreter, which then ends without another word */
}

/* Whoever attaches does not destroy: the creator leaves first, the attacher's end removes. */
static void last_one_out(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s", new_path("last"));
    struct peer p = peer_start(attach_only, path);
    fst_arena *a = open_named(path);
    peer_say(&p, 'g');
    PEER_WAIT(&p, 'a');
    CHECK_EQ(2, state_of(a).processes);
    fst_arena_unref(a);
    CHECK(exists(path));
    peer_end(&p);
    CHECK(!exists(path));
}

TEST_MAIN(CASE(named_life), CASE(lasting), CASE(unlinked_from_outside), CASE(create_attach_and_last_out), CASE(killed_at_the_door),
          CASE(leftovers), CASE(leftover_of_the_same_name), CASE(foreign_files), CASE(truncated), CASE(other_versions),
          CASE(by_descriptor), CASE(thousand_in_a_row), CASE(several_at_once), CASE(threads_and_arenas), CASE(odd_capacities),
          CASE(big_capacity), CASE(last_one_out))
