/* Groups and stores that are opened by name, when what has the name ends at any instruction and its
 * descriptor goes to another one: a child that opens is stopped after n machine instructions
 * (ptrace), its parent ends what is there, releases it and makes another of its kind, and the child
 * goes on. What it gets has the name that it asked for, or it gets nothing.
 *
 * Instructions so many (APART) apart, from a start that SEED=n moves; all with FST_TEST_SOAK=1.
 */
#include "groups.h"
#include "reclaim/reaper.h"
#include "traced.h"

#include "region/lock.h"

/* A sanitizer's instructions are many, and most of them its own. */
#ifdef __SANITIZE_ADDRESS__
#define APART 48u
#else
#define APART 9u
#endif

/* What the parent does, and what is asked of the child. */
struct named {
    const char *name;
    uint32_t (*make)(const char *name); /* its descriptor */
    void (*end)(void);                  /* what was made last */
    bool (*open_is_right)(void);
};

static uint64_t group_made;
static fst_store_use *store_made;

static uint32_t make_a_group(const char *name)
{
    group_made = make_group(a, name, fst_group_root(a), FST_NO_LIMIT, 0);
    return (uint32_t)group_made;
}

static void end_the_group(void)
{
    fst_group_destroy(a, group_made);
    fst_group_unref(a, group_made);
}

static bool the_group_is_right(void)
{
    struct fst_group_spec spec = {.name = "asked for", .parent = fst_group_root(a), .create = FST_OPEN_EXISTING};
    struct fst_group_info info;
    uint64_t group;
    bool created;
    int rc = fst_group_open(a, &spec, &group, &created);
    if (rc)
        return rc == FST_MISSING || rc == FST_CLOSED;
    bool right = fst_group_get_info(a, group, &info) != FST_OK || strcmp(info.name, spec.name) == 0;
    fst_group_unref(a, group);
    return right;
}

static fst_store_use *open_store(const char *name, enum fst_create how, int *rc)
{
    struct fst_store_spec spec = {.name = name, .group = fst_group_root(a)};
    fst_store_use *use = NULL;
    bool created;
    *rc = fst_store_open(a, &spec, how, &use, &created);
    return use;
}

static uint32_t make_a_store(const char *name)
{
    int rc;
    store_made = open_store(name, FST_CREATE_NEW, &rc);
    REQUIRE(rc == FST_OK);
    return (uint32_t)fst_store_id(store_made);
}

static void end_the_store(void)
{
    CHECK_EQ(FST_OK, fst_store_destroy(store_made));
    fst_store_leave(store_made);
}

static bool the_store_is_right(void)
{
    struct fst_store_info info;
    int rc;
    fst_store_use *use = open_store("asked for", FST_OPEN_EXISTING, &rc);
    if (rc)
        return rc == FST_MISSING || rc == FST_CLOSED;
    bool right = fst_store_get_info(a, fst_store_id(use), &info) != FST_OK || strcmp(info.name, "asked for") == 0;
    fst_store_leave(use);
    return right;
}

static const struct named kinds[] = {
    {"a group", make_a_group, end_the_group, the_group_is_right},
    {"a store", make_a_store, end_the_store, the_store_is_right},
};
#define KINDS ((int)(sizeof kinds / sizeof *kinds))

static struct shared {
    uint32_t done, wrong;
} * shared;

/* The child has no reference to what it opens: it was forked before that was made. */
static pid_t start_opening(const struct named *k)
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid)
        return pid;
    CHECK(k->open_is_right()); /* once before, so that it has all that a process needs */
    stop_for_the_tracer();
    bool right = k->open_is_right();
    __atomic_store_n(&shared->done, 1, __ATOMIC_SEQ_CST);
    shared->wrong += !right;
    CHILD_EXIT();
}

/* True: there are more instructions. *again counts the descriptors that went to another one. */
static bool take_its_place(const struct named *k, uint64_t n, uint64_t *again)
{
    memset(shared, 0, sizeof *shared);
    pid_t pid = start_opening(k);
    uint32_t first = k->make("asked for");
    bool more = step(pid, n, &shared->done) == n;
    /* Inside the section nothing can come in between. */
    if (!fst_load_acquire(&a->sb->names_lock)) {
        k->end();
        settle(a);
        *again += k->make("another") == first;
    }
    CHECK(ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0);
    CHECK_CHILD(pid);
    CHECK_EQ(0, shared->wrong);
    k->end();
    settle(a);
    return more;
}

static void run_one(int i)
{
    const struct named *k = &kinds[i];
    const char *seed = getenv("SEED");
    uint64_t apart = getenv("FST_TEST_SOAK") ? 1 : APART, n = 1 + (seed ? strtoull(seed, NULL, 0) : 0) % apart;
    uint64_t times = 0, again = 0;
    shared = shared_memory(sizeof *shared);
    a = anonymous(64 * MIB);
    fst_reaper_stop(a, true);
    for (; take_its_place(k, n, &again) && !atomic_load(&test_failures); n += apart)
        times++;
    if (atomic_load(&test_failures))
        TEST_FAIL("%s, instruction %llu", k->name, (unsigned long long)n);
    printf("# %s: %llu stops, the descriptor another's at %llu\n", k->name, (unsigned long long)times, (unsigned long long)again);
    CHECK(again > 0);
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static const char *name_of(int i)
{
    return kinds[i].name;
}

static const char *cannot_stop(int i)
{
    (void)i;
    return cannot_trace();
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){KINDS, name_of, cannot_stop, run_one}, argc, argv);
}
