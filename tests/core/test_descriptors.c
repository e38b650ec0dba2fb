/* Descriptors that were closed behind the core's back, as programs do that become daemons, and
 * whose numbers are other files' now. */
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>

#include "platform/liveness.h"
#include "platform/memlimit.h"
#include "process/slot.h"
#include "region/file.h"
#include "support.h"

#define BIG     (8 * MIB)
#define NUMBERS 64 /* that are the user's */

static uint64_t data; /* where the arena's data begin in its file */

/* A file of the user's, as long as the arena's, and all A where it has bytes. */
static int users_file(const fst_arena *a)
{
    data = a->known.data_offset;
    int fd = memfd_create("users", MFD_CLOEXEC);
    static char bytes[FST_PAGE];
    memset(bytes, 'A', sizeof bytes);
    REQUIRE(fd >= 0 && pwrite(fd, bytes, sizeof bytes, 0) == FST_PAGE);
    for (uint64_t at = data; at < data + 2 * BIG; at += FST_PAGE)
        REQUIRE(pwrite(fd, bytes, sizeof bytes, (off_t)at) == FST_PAGE);
    return fd;
}

static void check_users_file(int fd)
{
    struct stat st;
    char bytes[FST_PAGE];
    CHECK(fstat(fd, &st) == 0);
    CHECK_EQ(FST_PAGE + 2 * BIG, (uint64_t)st.st_blocks * 512);
    for (uint64_t at = 0; at < data + 2 * BIG; at = at ? at + FST_PAGE : data) {
        REQUIRE(pread(fd, bytes, sizeof bytes, (off_t)at) == FST_PAGE);
        for (size_t i = 0; i < sizeof bytes; i++)
            if (bytes[i] != 'A') {
                TEST_FAIL("byte %llu of the user's file", (unsigned long long)(at + i));
                return;
            }
    }
}

static bool keeps(const struct peer *p, int fd)
{
    return fd <= 2 || fd == p->in || fd == p->out;
}

/* Close all but what the peer talks through. */
static void close_all(const struct peer *p)
{
    for (int fd = 3; fd < 1024; fd++)
        if (!keeps(p, fd))
            close(fd);
}

/* All low numbers are the user's. The highest of them is returned, for looking. */
static int give_away(const struct peer *p, int fd)
{
    int last = -1;
    for (int n = 3; n < NUMBERS; n++)
        if (!keeps(p, n) && n != fd)
            last = dup2(fd, n);
    return last;
}

static fst_arena *a;
static uint64_t child;
static struct fst_ref held;
static bool named;

static void set_up(void)
{
    a = named ? open_named(new_path("d")) : anonymous(64 * MIB);
    child = root_child(a, "c", 65536, 0);
}

static void work(void)
{
    struct fst_ref ref = alloc_bytes(a, BIG), many[100];
    uint64_t bytes;
    fill(ref.data, 4096, 5);
    for (int i = 0; i < 100; i++)
        many[i] = alloc_one(a, child);
    for (int i = 0; i < 100; i++)
        fst_drop(a, &many[i]);
    CHECK(filled(ref.data, 4096, 5));
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_shrink(a, 5000000000u, &bytes));
    CHECK(bytes >= BIG);
    CHECK_CLEAN(a);
}

static int lose(struct peer *parent)
{
    int users = users_file(a), high = fcntl(users, F_DUPFD_CLOEXEC, 1000);
    close(users);
    for (int fd = 3; fd < 1000; fd++)
        if (!keeps(parent, fd))
            close(fd);
    give_away(parent, high);
    return high;
}

static void daemonized(struct peer *parent, void *unused)
{
    (void)unused;
    held = alloc_one(a, child);
    fill(held.data, 65536, 1);
    int high = lose(parent);
    struct fst_handle handle;
    CHECK_EQ(FST_OK, fst_handle_of(a, &held, &handle));
    CHECK(write(parent->out, &handle, sizeof handle) == sizeof handle);
    PEER_WAIT(parent, 'l'); /* the others have buried whom they take for dead, and work */
    CHECK(filled(held.data, 65536, 1));
    work();
    check_users_file(high);
    /* A fork in such a state is a fork like any other. */
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        CHECK(fst_arena_usable(a));
        CHECK(filled(held.data, 65536, 1));
        work();
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    work();
    fst_drop(a, &held);
    fst_arena_unref(a);
    check_users_file(high);
    for (int n = 3; n < NUMBERS; n++)
        CHECK(fcntl(n, F_GETFD) >= 0); /* nothing of the user's was closed */
    peer_say(parent, 'e');
    peer_hear(parent);
}

/* A living process that lost its numbers stays alive for everybody, goes on working, and touches
 * nothing of the user's. */
static void closed_and_given_away(void)
{
    for (int which = 0; which < 2; which++) {
        named = which;
        if (!named && geteuid() != 0)
            break; /* only the privileged come from a mapping to a descriptor */
        set_up();
        struct peer p = peer_start(daemonized, NULL);
        struct fst_handle handle;
        struct fst_ref seen, others[500];
        REQUIRE(read(p.in, &handle, sizeof handle) == sizeof handle);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
        CHECK_EQ(2, state_of(a).processes);
        for (int i = 0; i < 500; i++) {
            others[i] = alloc_one(a, child);
            fill(others[i].data, 65536, 2);
        }
        CHECK_EQ(FST_OK, fst_resolve(a, &handle, &seen));
        CHECK(filled(seen.data, 65536, 1));
        fst_drop(a, &seen);
        for (int i = 0; i < 500; i++)
            fst_drop(a, &others[i]);
        peer_say(&p, 'l');
        PEER_WAIT(&p, 'e');
        peer_end(&p);
        settle(a);
        CHECK_EQ(0, used_bytes(a));
        CHECK_EQ(1, state_of(a).processes);
        CHECK_CLEAN(a);
        fst_arena_unref(a);
    }
}

/* The number is a descriptor of the arena's own file, but not the one that holds our locks. */
static void same_file_at_the_number(void)
{
    named = true;
    set_up();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        int number = a->lock.fd, other = open(a->path, O_RDWR | O_CLOEXEC);
        REQUIRE(dup2(other, number) == number);
        close(other);
        CHECK_EQ(-1, fst_file_lock(a));
        work();
        /* we are alive, and it shows */
        CHECK(fst_liveness_find(number, FST_LOCK_ALIVE + a->slot, 1) == 0);
        fst_arena_unref(a);
        CHECK(fcntl(number, F_GETFD) >= 0);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    settle(a);
    CHECK_EQ(1, state_of(a).processes);
    fst_arena_unref(a);
}

/* The user looks at the arena's file himself, through descriptors that allow no more than that. */
static void opened_to_look_at(void)
{
    static const int how[] = {O_RDONLY, O_WRONLY, O_PATH};
    named = true;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        set_up();
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            int numbers[] = {a->lock.fd, fst_arena_fd(a)}, other = open(a->path, how[i] | O_CLOEXEC);
            REQUIRE(other >= 0 && dup2(other, numbers[0]) >= 0 && dup2(other, numbers[1]) >= 0);
            close(other);
            work();
            CHECK(fst_arena_fd(a) >= 0);
            fst_arena_unref(a);
            CHECK(fcntl(numbers[0], F_GETFD) >= 0 && fcntl(numbers[1], F_GETFD) >= 0);
            CHILD_EXIT();
        }
        CHECK_CHILD(pid);
        settle(a);
        CHECK_EQ(1, state_of(a).processes);
        fst_arena_unref(a);
    }
}

/* Another thread closes all and opens its own while a descriptor is borrowed. */
static void lost_while_borrowed(void)
{
    named = true;
    set_up();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        a->handing = 1; /* as if a third thread were making a lasting one: we get one of our own */
        struct peer nobody = {.in = -1, .out = -1};
        close_all(&nobody);
        int number = fst_file_get(a);
        CHECK(number >= 0);
        REQUIRE(dup2(2, number) == number);
        fst_file_put(a, number);
        CHECK(fcntl(number, F_GETFD) >= 0);
        a->handing = 0;
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    settle(a);
    fst_arena_unref(a);
}

static char look[128], answer[128];
static int users_number;

/* Whoever commits has just asked for his cgroup, and waits for the answer. */
static void *close_meanwhile(void *users)
{
    int fd = open(look, O_WRONLY);
    dup2(*(int *)users, a->lock.fd);
    users_number = a->lock.fd;
    rename(answer, look); /* who asks again waits for nobody */
    CHECK(write(fd, "0::/\n", 5) == 5);
    close(fd);
    return NULL;
}

static void lost_while_the_cgroup_is_read(void)
{
    named = true;
    set_up();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        char proc[64], own[96];
        snprintf(proc, sizeof proc, "%s/looked-at", folder());
        snprintf(own, sizeof own, "%s/self", proc);
        snprintf(look, sizeof look, "%s/cgroup", own);
        snprintf(answer, sizeof answer, "%s/answer", own);
        REQUIRE(mkdir(proc, 0700) == 0 && mkdir(own, 0700) == 0 && mkfifo(look, 0600) == 0);
        REQUIRE(close(open(answer, O_CREAT | O_RDWR, 0600)) == 0);
        int users = users_file(a);
        pthread_t thread;
        REQUIRE(pthread_create(&thread, NULL, close_meanwhile, &users) == 0);
        fst_memlimit_proc = proc;
        fst_memlimit_cgroups = proc; /* another place than what was looked at before */
        struct fst_ref ref = alloc_bytes(a, BIG);
        pthread_join(thread, NULL);
        check_users_file(users);
        fst_drop(a, &ref);
        fst_arena_unref(a);
        CHECK(fcntl(users_number, F_GETFD) >= 0);
        REQUIRE(unlink(look) == 0 && rmdir(own) == 0 && rmdir(proc) == 0);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    settle(a);
    fst_arena_unref(a);
}

/* What is passed on to other processes is told from everything else, too. */
static void handed_on_and_lost(void)
{
    named = false;
    set_up();
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        int number = fst_arena_fd(a), users = memfd_create("users", MFD_CLOEXEC);
        CHECK(number >= 0);
        CHECK_EQ(number, fst_arena_fd(a));
        dup2(users, number);
        int again = fst_arena_fd(a);
        CHECK(again >= 0 && again != number);
        /* the right file, through another description */
        dup2(fcntl(a->lock.fd, F_DUPFD_CLOEXEC, 0), again);
        work();
        fst_arena_unref(a);
        CHECK(fcntl(number, F_GETFD) >= 0);
        CHECK(fcntl(again, F_GETFD) >= 0);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    settle(a);
    CHECK_EQ(1, state_of(a).processes);
    fst_arena_unref(a);
}

/* Everything closed, no name, and no privilege: nobody can be asked who lives, which is said;
 * memory is safe, taken and given back. */
static void no_way_to_the_file(void)
{
    if (geteuid() != 0) {
        SKIP("needs root, to give it up");
        return;
    }
    named = false;
    set_up();
    held = alloc_one(a, child);
    fill(held.data, 65536, 1);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        struct peer nobody = {.in = -1, .out = -1};
        close_all(&nobody);
        REQUIRE(setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 && setresuid(65534, 65534, 65534) == 0);
        CHECK_EQ(FST_CLOSED, fst_barrier(a, FST_FOREVER));
        CHECK(strstr(fst_last_error(), "became") || strstr(fst_last_error(), "become daemons"));
        CHECK_EQ(FST_CLOSED, fst_arena_fd(a));
        CHECK(filled(held.data, 65536, 1));
        struct fst_ref ref = alloc_bytes(a, BIG);
        fill(ref.data, 4096, 3);
        CHECK(filled(ref.data, 4096, 3));
        fst_drop(a, &ref);
        fst_drop(a, &held);
        fst_arena_unref(a);
        CHILD_EXIT();
    }
    CHECK_CHILD(pid);
    CHECK(filled(held.data, 65536, 1));
    fst_drop(a, &held);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_EQ(1, state_of(a).processes);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* The last one out removes the file, also when it lost its numbers, and leaves the name of
 * another file alone. */
static void the_last_one_lost_them(void)
{
    for (int how = 0; how < 3; how++) {
        const char *path = new_path("last");
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) {
            struct peer nobody = {.in = -1, .out = -1};
            a = open_named(path);
            close_all(&nobody);
            if (how == 2) {
                unlink(path);
                CHECK(close(open(path, O_CREAT | O_RDWR, 0600)) == 0);
            }
            if (how == 1)
                fst_leave_all();
            else
                fst_arena_unref(a);
            CHILD_EXIT();
        }
        CHECK_CHILD(pid);
        CHECK_EQ(how == 2 ? 0 : -1, access(path, F_OK));
        unlink(path);
    }
}

/* Killed, it is as dead as any other: the mapping goes with the process. */
static void lose_and_wait(struct peer *parent, void *unused)
{
    (void)unused;
    held = alloc_one(a, child);
    lose(parent);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static void killed_without_numbers(void)
{
    named = true;
    set_up();
    struct peer p = peer_start(lose_and_wait, NULL);
    PEER_WAIT(&p, 'r');
    CHECK_EQ(2, state_of(a).processes);
    kill(p.pid, SIGKILL);
    waitpid(p.pid, NULL, 0);
    close(p.in);
    close(p.out);
    settle(a);
    CHECK_EQ(1, state_of(a).processes);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

TEST_MAIN(CASE(closed_and_given_away), CASE(same_file_at_the_number), CASE(opened_to_look_at), CASE(lost_while_borrowed),
          CASE(lost_while_the_cgroup_is_read), CASE(handed_on_and_lost), CASE(no_way_to_the_file), CASE(the_last_one_lost_them),
          CASE(killed_without_numbers))
