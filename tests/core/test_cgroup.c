/* Groups that end with a cgroup of Linux. */
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "reclaim/reaper.h"

#include "groups.h"

/* A new cgroup of any hierarchy that lets us make one, or false: that needs root and a mounted
 * hierarchy. */
static bool make_cgroup(char *folder, size_t size)
{
    static const char *const roots[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup"};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++) {
        struct statfs fs;
        snprintf(folder, size, "%s/flagstone-test-%d-%lld%09ld", roots[i], (int)getpid(), (long long)now.tv_sec, now.tv_nsec);
        if (statfs(roots[i], &fs) == 0 && (fs.f_type == 0x63677270 || fs.f_type == 0x27e0eb) && mkdir(folder, 0755) == 0)
            return true;
    }
    return false;
}

static void wait_until_ended(uint64_t group)
{
    alarm(60);
    while (!group_ended(group))
        usleep(10000);
    alarm(0);
}

static void ends_with_its_cgroup(void)
{
    char folder[128], other[128], path[128];
    if (!make_cgroup(folder, sizeof folder) || !make_cgroup(other, sizeof other)) {
        printf("# skipped: no cgroup can be made here (needs root)\n");
        CHECK(getenv("CI") == NULL || geteuid() != 0);
        return;
    }
    a = anonymous(16 * MIB);
    uint64_t group, again, root = fst_group_root(a);
    cache = make_cache(a, "c", 64, 0);
    struct fst_group_spec spec = {.name = "job", .parent = root};
    bool created;
    CHECK_EQ(FST_OK, fst_group_open_cgroup(a, &spec, folder, &group, &created));
    CHECK(created);
    CHECK_EQ(strlen(folder), fst_group_cgroup(a, group, path, sizeof path));
    CHECK(strcmp(path, folder) == 0);
    CHECK_EQ(FST_OK, fst_group_open_cgroup(a, &spec, folder, &again, &created));
    CHECK(!created && again == group);
    CHECK_EQ(FST_MISMATCH, fst_group_open_cgroup(a, &spec, other, &again, &created));
    fst_group_unref(a, group);
    uint64_t below = make_group(a, "below", group, FST_NO_LIMIT, 0), child = child_of(a, cache, below);
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 64, 7);
    fst_group_unref(a, group); /* nobody has it open, and it lasts */
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK(!group_ended(group));

    /* Made anew under its name, it is another one. */
    CHECK_EQ(0, rmdir(folder));
    CHECK_EQ(0, mkdir(folder, 0755));
    wait_until_ended(group);
    CHECK(group_ended(below));
    struct fst_ref none;
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &none));
    CHECK(filled(ref.data, 64, 7));
    fst_drop(a, &ref);
    fst_group_unref(a, below);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));

    CHECK_EQ(FST_OK, fst_group_open_cgroup(a, &spec, folder, &again, &created));
    CHECK(created && again != group);
    CHECK_EQ(0, rmdir(folder));
    wait_until_ended(again);
    fst_group_unref(a, again);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(0, fst_group_cgroup(a, root, path, sizeof path));
    CHECK_EQ(FST_OK, fst_group_open_cgroup(a, &spec, other, &again, &created));
    CHECK_EQ(FST_OK, fst_group_destroy(a, again)); /* sooner than its cgroup */
    fst_group_unref(a, again);
    rmdir(other);
    settle(a);
    CHECK_EQ(1, state_of(a).groups);
    CHECK_EQ(1, a->sb->cgroup_top); /* the record was used again and again */
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static void no_cgroup(void)
{
    a = anonymous(16 * MIB);
    uint64_t group;
    struct fst_group_spec spec = {.name = "job", .parent = fst_group_root(a)};
    bool created;
    char longest[2000];
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    longest[sizeof longest - 1] = 0;
    CHECK_EQ(FST_MISSING, fst_group_open_cgroup(a, &spec, "/sys/fs/cgroup/there/is/none", &group, &created));
    CHECK_EQ(FST_INVALID, fst_group_open_cgroup(a, &spec, "/proc", &group, &created));
    CHECK_EQ(FST_INVALID, fst_group_open_cgroup(a, &spec, longest, &group, &created));
    CHECK_EQ(1, state_of(a).groups);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(ends_with_its_cgroup), CASE(no_cgroup))
