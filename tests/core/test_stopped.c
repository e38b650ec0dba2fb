/* A process that is stopped while it holds one of the arena's locks is alive: nobody takes the lock
 * over. What goes on without it and what waits is written down here, lock by lock, and for people
 * in docs/caveats.md. Whatever waits goes on when the process does, or when it is killed.
 */
#include "kill_operations.h"

static struct fst_ref fresh;

static void alloc_and_drop(void)
{
    MUST(fst_alloc(a, pool, &fresh));
    fst_drop(a, &fresh);
}

static void alloc_fresh(void)
{
    MUST(fst_alloc_bytes(a, root, 777, &fresh));
}

static void take_one_by_one(void)
{
    take_message();
    drop_ref();
}

static void have_attached(void)
{
    detach_first();
}

/* What a program does all the time, then what it does now and then. */
static const struct operation done_meanwhile[] = {
    {"alloc and drop", NULL, warm_up, alloc_and_drop, NULL, false},
    {"share", NULL, alloc_pool, share_ref, NULL, false},
    {"take and drop", post_object, NULL, take_one_by_one, NULL, false},
    {"resolve and drop", post_object, NULL, resolve_and_drop, NULL, false},
    {"free", NULL, alloc_pool, free_ref, NULL, false},
    {"open what exists", open_cache, NULL, open_cache, NULL, false},
    {"attach", NULL, have_attached, attach, NULL, false},
    {"alloc of many", NULL, NULL, alloc_forty, NULL, false},
    {"alloc of a new size", NULL, NULL, alloc_fresh, NULL, false},
    {"large alloc", NULL, NULL, large, NULL, false},
    {"open cache", NULL, NULL, open_cache, NULL, false},
    {"open group", NULL, NULL, open_group, NULL, false},
    {"destroy group", NULL, use_group, destroy_group, NULL, false},
    {"destroy cache", NULL, use_cache, destroy_cache, NULL, false},
};
#define MEANWHILE ((int)(sizeof done_meanwhile / sizeof *done_meanwhile))

struct held_lock {
    const char *name;
    uint32_t *(*word)(void);
    const char *waits; /* names of the operations that do */
};

static uint32_t *reaper_word(void)
{
    return &a->sb->reaper_lock;
}

static uint32_t *names_word(void)
{
    return &a->sb->names_lock;
}

static uint32_t *child_word(void)
{
    return &fst_child_at(a, (uint32_t)pool)->lock;
}

static uint32_t *pages_word(void)
{
    return &a->sb->pages_lock;
}

static const struct held_lock locks[] = {
    {"reaper's lock", reaper_word, ""},
    {"names' lock", names_word,
     "open what exists, alloc of a new size, large alloc, open cache, open group, destroy group, destroy cache"},
    {"child's lock", child_word, "alloc of many"},
    {"pages' lock", pages_word, "alloc of many, large alloc, open cache"},
};

static const struct held_lock *chosen;

static void hold_and_stop(void)
{
    lock_word(a, chosen->word());
    __atomic_store_n(&report[1].gave_way, 1, __ATOMIC_SEQ_CST); /* it has the lock */
    raise(SIGSTOP);
    fst_unlock(a, chosen->word());
}

static const struct operation holder = {"holder", NULL, NULL, hold_and_stop, NULL, false};

static bool asleep(pid_t pid)
{
    char name[64], state = 0;
    snprintf(name, sizeof name, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(name, "r");
    if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = 0;
    if (f)
        fclose(f);
    return state == 'S';
}

/* Until the operation is done, or sleeps at the lock. True: it waits. */
static bool waits_for_lock(pid_t pid, const uint32_t *word)
{
    for (;;) {
        if (__atomic_load_n(&report[0].done, __ATOMIC_SEQ_CST))
            return false;
        if ((__atomic_load_n(word, __ATOMIC_SEQ_CST) & FST_LOCK_WAITERS) && asleep(pid))
            return true;
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid)
            return false;
        usleep(100);
    }
}

static void stop_in(const struct held_lock *lock, const struct operation *o, int signal, char *found, size_t size)
{
    static uint32_t *go;
    int status = 0;
    if (!go)
        go = shared_memory(sizeof *go);
    *go = 0;
    chosen = lock;
    snprintf(doing, sizeof doing, "%s, %s, %s", lock->name, o->name, signal == SIGKILL ? "killed" : "continued");
    alarm(PATIENCE);
    before_victim(o, 0, UINT64_MAX);
    before_victim(&holder, 1, UINT64_MAX);
    uint32_t *word = lock->word(); /* while the arena is attached: the operation may detach */
    pid_t victim = start_victim(o, 0, go);
    wait_until_prepared(victim, 0);
    pid_t stopped = start_victim(&holder, 1, NULL);
    CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
    CHECK(__atomic_load_n(&report[1].gave_way, __ATOMIC_SEQ_CST));
    __atomic_store_n(go, 1, __ATOMIC_SEQ_CST);
    bool waits = waits_for_lock(victim, word);
    if (waits)
        snprintf(found + strlen(found), size - strlen(found), "%s%s", found[0] ? ", " : "", o->name);
    kill(stopped, signal);
    if (signal == SIGCONT)
        CHECK(!end_victim(stopped, 1));
    CHECK(!end_victim(victim, 0)); /* it goes on in any case */
    if (signal == SIGKILL)
        CHECK(end_victim(stopped, 1));
    look(&o, 1);
    alarm(0);
}

/* Nobody runs a batch, and nobody waits for one who does not ask for it. */
static void barrier_behind_a_stopped_reaper(void)
{
    int status = 0;
    chosen = &locks[0];
    snprintf(doing, sizeof doing, "barrier behind a stopped reaper");
    alarm(PATIENCE);
    before_victim(&holder, 1, UINT64_MAX);
    pid_t stopped = start_victim(&holder, 1, NULL);
    CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
    CHECK_EQ(FST_TIMEOUT, fst_barrier(a, 20000000));
    CHECK_EQ(FST_OK, fst_synchronize(a, FST_FOREVER));
    kill(stopped, SIGKILL);
    CHECK(end_victim(stopped, 1));
    const struct operation *o = &done_meanwhile[0];
    look(&o, 1);
    alarm(0);
}

static const char *name_of(int i)
{
    return locks[i].name;
}

static void run(int i)
{
    char found[2][1024] = {"", ""};
    start();
    for (int k = 0; k < 2 * MEANWHILE && !atomic_load(&test_failures); k++)
        stop_in(&locks[i], &done_meanwhile[k / 2], k % 2 ? SIGKILL : SIGCONT, found[k % 2], sizeof found[0]);
    if (i == 0)
        barrier_behind_a_stopped_reaper();
    for (int k = 0; k < 2; k++)
        if (strcmp(found[k], locks[i].waits) != 0)
            TEST_FAIL("%s: these wait: %s", locks[i].name, found[k]);
    if (atomic_load(&test_failures))
        fprintf(stderr, "# in: %s\n", doing);
    fst_arena_unref(a);
}

int main(int argc, char **argv)
{
    return test_each(&(struct test_cases){(int)(sizeof locks / sizeof *locks), name_of, NULL, run}, argc, argv);
}
