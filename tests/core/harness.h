/* harness.h - run test cases and say which one failed, where (TAP, for meson).
 *
 *     static void grows(void) { CHECK(x > 0); CHECK_EQ(2, y); }
 *     TEST_MAIN(CASE(grows), CASE(shrinks))
 *
 * CHECK notes a failure and goes on; REQUIRE ends the program, where going on makes no sense. Both
 * work in every thread. A forked child ends with CHILD_EXIT(), and its parent says
 * CHECK_CHILD(pid): the child's failures count. Words on the command line choose cases: the names
 * that contain one of them.
 */
#ifndef FST_TEST_HARNESS_H
#define FST_TEST_HARNESS_H
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emulated.h"
#include "stopped_early.h"

struct test_case {
    const char *name;
    void (*run)(void);
};

static atomic_int test_failures; /* of the case that is running */
static const char *test_skipped; /* its reason */
#define TEST_FAIL(...)                                                                                                    \
    (atomic_fetch_add(&test_failures, 1), fprintf(stderr, "# %s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), \
     (void)fputc('\n', stderr))
#define CHECK(cond)   ((cond) ? (void)0 : TEST_FAIL("%s", #cond))
#define REQUIRE(cond) ((cond) ? (void)0 : (TEST_FAIL("%s (required)", #cond), _exit(1)))
#define CHECK_EQ(want, got)                                           \
    do {                                                              \
        long long want_ = (long long)(want), got_ = (long long)(got); \
        if (want_ != got_)                                            \
            TEST_FAIL("%s is %lld, not %lld", #got, got_, want_);     \
    } while (0)

/* The thread sanitizer sees no order that another process's locks make: of a slab that went from
 * one thread to another by way of a second process it says that they race. */
#if defined(__SANITIZE_THREAD__)
#define UNSEEN_BY_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNSEEN_BY_SANITIZER 1
#endif
#endif
#ifdef UNSEEN_BY_SANITIZER
#define SKIP_UNDER_THREAD_SANITIZER()                                                   \
    do {                                                                                \
        test_skipped = "the thread sanitizer sees no order that another process makes"; \
        return;                                                                         \
    } while (0)
#else
#define SKIP_UNDER_THREAD_SANITIZER() ((void)0)
#endif

/* A signal for the tester (a fuzzer's alarm) is no answer. */
__attribute__((unused)) static pid_t test_wait(pid_t pid, int *status)
{
    pid_t done;
    do
        done = waitpid(pid, status, 0);
    while (done < 0 && errno == EINTR);
    return done;
}

/* At the end of a case, or before return. */
#define SKIP(reason) (test_skipped = (reason))
#define CHILD_EXIT() _exit(atomic_load(&test_failures) != 0)
#define CHECK_CHILD(pid)                                                           \
    do {                                                                           \
        int status_ = -1;                                                          \
        if (test_wait((pid), &status_) < 0 || status_ != 0)                        \
            TEST_FAIL("child %s ended with status 0x%x", #pid, (unsigned)status_); \
    } while (0)

/* Cases by number: what the i-th is called, why it cannot run (NULL: it can), and how it runs. */
struct test_cases {
    int count;
    const char *(*name)(int i);
    const char *(*unable)(int i); /* NULL: they all can */
    void (*run)(int i);
};

__attribute__((unused)) static int test_each(const struct test_cases *cases, int argc, char **argv)
{
    int failed = 0;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a child must not print its parent's lines again */
    printf("1..%d\n", cases->count);
    stopped_early_tell();
    for (int i = 0; i < cases->count; i++) {
        stopped_case = cases->name(i);
        int wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strstr(stopped_case, argv[k]) != NULL;
        atomic_store(&test_failures, 0);
        test_skipped = !wanted ? "not asked for" : cases->unable ? cases->unable(i) : NULL;
        if (!test_skipped)
            test_skipped = emulated_unable(stopped_case);
        if (!test_skipped)
            cases->run(i);
        int bad = atomic_load(&test_failures) != 0;
        failed += bad;
        printf("%s %d - %s%s%s\n", bad ? "not ok" : "ok", i + 1, stopped_case, test_skipped ? " # SKIP " : "",
               test_skipped ? test_skipped : "");
    }
    return failed != 0;
}

static const struct test_case *test_listed;

__attribute__((unused)) static const char *test_listed_name(int i)
{
    return test_listed[i].name;
}

__attribute__((unused)) static void test_listed_run(int i)
{
    test_listed[i].run();
}

#define CASE(function) ((struct test_case){#function, function})
#define TEST_MAIN(...)                                                                                                         \
    int main(int argc, char **argv)                                                                                            \
    {                                                                                                                          \
        const struct test_case listed[] = {__VA_ARGS__};                                                                       \
        test_listed = listed;                                                                                                  \
        return test_each(&(struct test_cases){(int)(sizeof listed / sizeof *listed), test_listed_name, NULL, test_listed_run}, \
                         argc, argv);                                                                                          \
    }

#endif
