/* Room under the limits of memory cgroups, read from files that look like the kernel's. */
#include <fcntl.h>
#include <sys/resource.h>

#include "platform/memlimit.h"
#include "support.h"

static char cgroups[128], proc[128];

/* The same path somewhere else: another place to who keeps what it found. */
static void look_anew(void)
{
    static char again[64][sizeof cgroups];
    static int n;
    fst_memlimit_cgroups = strcpy(again[n++ % 64], cgroups);
    fst_memlimit_proc = proc;
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *at = path + strlen(cgroups) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *f = fopen(path, "w");
    REQUIRE(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void write_number(const char *name, unsigned long long n)
{
    char text[32];
    snprintf(text, sizeof text, "%llu\n", n);
    write_file(cgroups, name, text);
}

static void set_up(const char *own)
{
    snprintf(cgroups, sizeof cgroups, "%s/cgroup", folder());
    snprintf(proc, sizeof proc, "%s/procfs", folder());
    mkdir(cgroups, 0700);
    mkdir(proc, 0700);
    write_file(proc, "self/cgroup", own);
    write_file(proc, "meminfo", "MemTotal:       100 kB\nSwapFree:              0 kB\n");
    look_anew();
}

static void tear_down(void)
{
    char command[512];
    fst_memlimit_cgroups = "/sys/fs/cgroup";
    fst_memlimit_proc = "/proc";
    snprintf(command, sizeof command, "rm -r %s %s", cgroups, proc);
    CHECK_EQ(0, system(command));
}

static char why[512];

/* Asked as if for the first time. */
static bool room(uint64_t bytes)
{
    look_anew();
    why[0] = 0;
    return fst_memlimit_room(bytes, why, sizeof why);
}

static void second_version(void)
{
    set_up("0::/job/worker\n");
    write_file(cgroups, "job/worker/memory.max", "max\n");
    write_number("job/worker/memory.current", 90 * MIB);
    CHECK(room(1 << 30));
    write_number("job/memory.max", 100 * MIB); /* of one above it */
    write_number("job/memory.current", 95 * MIB);
    CHECK(room(MIB));
    CHECK(!room(3 * MIB)); /* some is kept for the process itself */
    CHECK(strstr(why, "/job, whose limit of 100 MiB has 95 MiB in use") != NULL);
    CHECK(strstr(why, "tmpfs") != NULL);
    write_number("job/worker/memory.max", 90 * MIB); /* the tightest counts, and is named */
    CHECK(!room(MIB));
    CHECK(strstr(why, "/job/worker, whose limit of 90 MiB") != NULL);
    tear_down();
}

static void files_are_reclaimed(void)
{
    set_up("0::/job\n");
    write_number("job/memory.max", 100 * MIB);
    write_number("job/memory.current", 100 * MIB);
    CHECK(!room(4096));
    write_file(cgroups, "job/memory.stat",
               "anon 40\nfile 62914560\nshmem 20971520\ninactive_anon 20971520\nactive_file 20971520\n"
               "inactive_file 20971520\nslab_reclaimable 0\n");
    CHECK(room(30 * MIB)); /* of 40 MiB of files that may go; what is on a tmpfs may not */
    CHECK(!room(40 * MIB));
    tear_down();
}

static void swap_is_room(void)
{
    set_up("0::/job\n");
    write_number("job/memory.max", 100 * MIB);
    write_number("job/memory.current", 100 * MIB);
    write_file(proc, "meminfo", "SwapFree:        1048576 kB\n");
    CHECK(room(200 * MIB)); /* not counted */
    write_file(cgroups, "job/memory.swap.max", "max\n");
    write_number("job/memory.swap.current", 0);
    CHECK(room(200 * MIB));
    write_number("job/memory.swap.max", 0); /* as Kubernetes has it */
    CHECK(!room(4096));
    tear_down();
}

static void first_version(void)
{
    set_up("4:memory:/docker/abc\n3:cpu:/docker/abc\n0::/\n");
    write_number("memory/docker/abc/memory.limit_in_bytes", 9223372036854771712ull);
    write_number("memory/docker/abc/memory.usage_in_bytes", 50 * MIB);
    CHECK(room(1 << 30));
    write_number("memory/docker/abc/memory.limit_in_bytes", 64 * MIB);
    CHECK(room(10 * MIB));
    CHECK(!room(13 * MIB));
    write_file(cgroups, "memory/docker/abc/memory.stat", "inactive_file 1\ntotal_inactive_file 10485760\n");
    CHECK(room(13 * MIB));
    tear_down();
}

/* In a container whose own cgroup is what is mounted, the path is one of the host's. */
static void path_of_the_host(void)
{
    set_up("4:memory:/docker/abc\n0::/../../elsewhere\n");
    write_number("memory/memory.limit_in_bytes", 64 * MIB);
    write_number("memory/memory.usage_in_bytes", 64 * MIB);
    CHECK(!room(4096));
    tear_down();
    set_up("0::/../../elsewhere\n");
    write_number("memory.max", 64 * MIB);
    write_number("memory.current", 64 * MIB);
    CHECK(!room(4096));
    tear_down();
}

static void no_check(void)
{
    set_up("0::/job\n");
    CHECK(room(1ull << 40)); /* nothing is mounted */
    write_number("job/memory.max", 64 * MIB);
    write_number("job/memory.current", 64 * MIB);
    CHECK(!room(4096));
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = 0;
    setrlimit(RLIMIT_NOFILE, &none); /* EMFILE */
    CHECK(room(4096));
    setrlimit(RLIMIT_NOFILE, &before);
    tear_down();
}

/* Far from the limit it is not asked each time; near to it, it is. */
static void looks_as_often_as_needed(void)
{
    set_up("0::/job\n");
    write_number("job/memory.max", 1024 * MIB);
    write_number("job/memory.current", 0);
    CHECK(room(MIB));
    write_number("job/memory.current", 1024 * MIB);
    uint64_t taken = 0;
    while (taken < 1024 && fst_memlimit_room(MIB, why, sizeof why))
        taken++;
    CHECK(taken <= 1024 / 16);
    CHECK(!fst_memlimit_room(MIB, why, sizeof why));
    tear_down();
}

/* An arena says who has no room, and goes on when there is some. */
static void arena_says_so(void)
{
    set_up("0::/job\n");
    write_number("job/memory.max", 1024 * MIB);
    write_number("job/memory.current", 0);
    look_anew();
    fst_arena *a = anonymous(64 * MIB);
    write_number("job/memory.current", 1023 * MIB);
    look_anew();
    struct fst_ref ref;
    CHECK_EQ(FST_FULL, fst_alloc_bytes(a, fst_group_root(a), 8 * MIB, &ref));
    CHECK(strstr(fst_last_error(), "job, whose limit of 1 GiB") != NULL);
    CHECK(strstr(fst_last_error(), "has no room for ") != NULL);
    CHECK_EQ(0, used_bytes(a));
    write_number("job/memory.current", 100 * MIB);
    CHECK_EQ(FST_OK, fst_alloc_bytes(a, fst_group_root(a), 8 * MIB, &ref));
    fst_drop(a, &ref);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
    tear_down();
}

TEST_MAIN(CASE(second_version), CASE(files_are_reclaimed), CASE(swap_is_room), CASE(first_version), CASE(path_of_the_host),
          CASE(no_check), CASE(looks_as_often_as_needed), CASE(arena_says_so))
