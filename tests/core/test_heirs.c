/* Forked children that get no place in the arena: what they inherited is kept until they are
 * gone. */
#include <sys/resource.h>

#include "process/slot.h"
#include "refs/heirs.h"

#include "inherited.h"

/* No descriptor is free for what the child needs. */
static pid_t fork_without_a_place(void)
{
    struct rlimit was, none;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &was) == 0);
    none = was;
    none.rlim_cur = 3;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none) == 0);
    pid_t pid = fork();
    REQUIRE(setrlimit(RLIMIT_NOFILE, &was) == 0);
    REQUIRE(pid >= 0);
    return pid;
}

/* A line both ways between those who fork and are forked: made before, used by bytes. */
static struct peer up, down;

static void make_lines(void)
{
    int one[2], two[2];
    REQUIRE(pipe(one) == 0 && pipe(two) == 0);
    down = (struct peer){.in = one[0], .out = two[1]}; /* the parent's ends */
    up = (struct peer){.in = two[0], .out = one[1]};
}

static void end_lines(void)
{
    close(up.in);
    close(up.out);
    close(down.in);
    close(down.out);
}

/* Take and overwrite whatever can be had. */
static void scribble(void)
{
    enum { MANY = 2000 };
    static struct fst_ref ref[MANY];
    settle(a);
    for (int i = 0; i < MANY; i++) {
        ref[i] = alloc_one(a, child);
        memset(ref[i].data, 0xff, 256);
    }
    for (int i = 0; i < MANY; i++)
        fst_drop(a, &ref[i]);
    settle(a);
}

static void look_when_told(void)
{
    struct fst_ref out;
    struct fst_handle handle;
    CHECK(!fst_arena_usable(a));
    CHECK_EQ(FST_CLOSED, fst_arena_refused(a));
    CHECK(strstr(fst_last_error(), "EMFILE"));
    CHECK_EQ(1, fst_unusable);
    CHECK_EQ(FST_CLOSED, fst_alloc(a, child, &out));
    CHECK_EQ(FST_CLOSED, fst_handle_of(a, &held[0], &handle));
    CHECK_EQ(FST_CLOSED, fst_free(a, &held[0]));
    peer_say(&up, 'r');
    while (peer_hear(&up) == 'l') {
        check_held(100);
        peer_say(&up, atomic_load(&test_failures) ? 'x' : 'g');
    }
}

#define LOOK                   \
    do {                       \
        peer_say(&down, 'l');  \
        PEER_WAIT(&down, 'g'); \
    } while (0)

static void fork_nothing(struct peer *parent, void *unused)
{
    (void)unused;
    drop_held(100);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static void kept_while_the_child_lives(void)
{
    make_lines();
    set_up();
    for (int round = 0; round < 3; round++) {
        hold(100);
        pid_t pid = fork_without_a_place();
        if (pid == 0) {
            look_when_told();
            CHILD_EXIT();
        }
        PEER_WAIT(&down, 'r');
        if (round == 1) { /* one with a place is no heir, and lives on */
            struct peer p = peer_start(fork_nothing, NULL);
            PEER_WAIT(&p, 'r');
            drop_held(100);
            scribble();
            LOOK;
            peer_say(&down, 'e');
            CHECK_CHILD(pid);
            settle(a);
            CHECK_EQ(2, state_of(a).processes);
            CHECK_EQ(0, fst_heirs_any(a));
            peer_end(&p);
        } else {
            drop_held(100);
            scribble();
            LOOK;
            scribble();
            LOOK;
            CHECK(fst_heirs_any(a));
            peer_say(&down, 'e');
            CHECK_CHILD(pid);
        }
        settle(a);
        CHECK_EQ(0, fst_heirs_any(a));
        CHECK_EQ(0, used_bytes(a));
    }
    tear_down();
    end_lines();
}

/* Several at once, of different times: what each inherited stays as long as it. */
static void one_after_the_other(void)
{
    make_lines();
    set_up();
    struct fst_ref early = alloc_one(a, child), late;
    fill(early.data, 256, 1000);
    pid_t first = fork_without_a_place();
    if (first == 0) {
        struct peer me = up;
        PEER_WAIT(&me, '1');
        CHECK(filled(early.data, 256, 1000));
        CHILD_EXIT();
    }
    fst_drop(a, &early);
    scribble();
    late = alloc_one(a, child);
    fill(late.data, 256, 2000);
    int line[2];
    REQUIRE(pipe(line) == 0);
    pid_t second = fork_without_a_place();
    if (second == 0) {
        char c;
        CHECK_EQ(1, read(line[0], &c, 1));
        CHECK(filled(late.data, 256, 2000));
        CHILD_EXIT();
    }
    fst_drop(a, &late);
    scribble();
    peer_say(&down, '1');
    CHECK_CHILD(first);
    scribble();
    CHECK(used_bytes(a) > 0);
    CHECK_EQ(1, write(line[1], "2", 1));
    CHECK_CHILD(second);
    settle(a);
    CHECK_EQ(0, fst_heirs_any(a));
    close(line[0]);
    close(line[1]);
    tear_down();
    end_lines();
}

/* The parent is killed, or leaves the arena: what it kept stays for its child, and its child's
 * child. */
static void fork_and_go(struct peer *parent, void *context)
{
    intptr_t how = (intptr_t)context;
    hold(100);
    pid_t pid = fork_without_a_place();
    if (pid == 0) {
        pid = how == 2 ? fork() : 0;
        if (pid == 0)
            look_when_told();
        _exit(atomic_load(&test_failures) != 0);
    }
    PEER_WAIT(parent, 'g');
    if (how == 1)
        drop_held(100);
    if (how == 1)
        fst_arena_unref(a);
    else
        kill(getpid(), SIGKILL);
    CHILD_EXIT();
}

static void the_parent_goes_first(void)
{
    for (intptr_t how = 0; how < 3; how++) {
        make_lines();
        set_up();
        struct peer p = peer_start(fork_and_go, (void *)how);
        PEER_WAIT(&down, 'r');
        peer_say(&p, 'g');
        waitpid(p.pid, NULL, 0);
        close(p.in);
        close(p.out);
        scribble();
        CHECK_EQ(2, state_of(a).processes); /* the dead one's slot waits */
        LOOK;
        scribble();
        LOOK;
        CHECK(!fst_process_any_dead(a)); /* nothing to do until the heir is gone */
        peer_say(&down, 'e');
        close(up.out);
        CHECK_EQ(0, peer_hear(&down)); /* it is gone; its page a little later */
        for (int i = 0; i < 5000 && used_bytes(a); i++) {
            settle(a);
            usleep(1000);
        }
        up.out = dup(down.out);
        tear_down();
        end_lines();
    }
}

/* Another program has inherited nothing. */
static void exec_lets_go(void)
{
    set_up();
    hold(100);
    int line[2];
    REQUIRE(pipe(line) == 0);
    pid_t pid = fork_without_a_place();
    if (pid == 0) {
        dup2(line[0], 0);
        close(line[1]);
        execl("/bin/cat", "cat", (char *)NULL);
        _exit(1);
    }
    close(line[0]);
    drop_held(100);
    for (int i = 0; i < 5000 && used_bytes(a); i++) {
        settle(a);
        usleep(1000);
    }
    CHECK_EQ(0, used_bytes(a));
    close(line[1]);
    CHECK_CHILD(pid);
    tear_down();
}

TEST_MAIN(CASE(kept_while_the_child_lives), CASE(one_after_the_other), CASE(the_parent_goes_first), CASE(exec_lets_go))
