/* kill_processes.h - what is done with processes and threads, and what others mend of them, as
 * something to be killed in. */
#ifndef FST_TEST_KILL_PROCESSES_H
#define FST_TEST_KILL_PROCESSES_H

#include "alloc/close.h"
#include "alloc/lists.h"
#include "kill.h"
#include "kill_objects.h"

static void in_a_dead_process(void (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        fst_reaper_stop(a, true);
        body();
        kill(getpid(), SIGKILL);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void detach(void)
{
    fst_arena_unref(a);
}

static void detach_first(void)
{
    fst_arena_unref(a);
    a = NULL;
}

static void attach(void)
{
    MUST(try_open(path, 0, FST_OPEN_EXISTING, &a));
}

static void attach_and_alloc(void)
{
    attach();
    MUST(fst_alloc(a, pool, &w->ref));
}

static void create_other(void)
{
    fst_arena *b;
    MUST(try_open(w->other_path, 4 * MIB, FST_OPEN_OR_CREATE, &b));
}

static fst_arena *other;

static void have_other(void)
{
    MUST(try_open(w->other_path, 4 * MIB, FST_CREATE_NEW, &other));
    struct fst_message m;
    struct fst_ref ref = alloc_bytes(other, 100);
    fst_share(other, &ref, &m);
    fst_drop(other, &ref);
    fst_reaper_stop(other, true);
}

static void last_out_of_other(void)
{
    fst_arena_unref(other);
}

/* What crashed creators leave does not stay. */
static void no_other_is_left(void)
{
    fst_gc(folder(), NULL);
    CHECK(access(w->other_path, F_OK) != 0);
}

static void make_dead_lasting(void)
{
    struct fst_open_options o = {.path = w->other_path, .capacity = 4 * MIB, .lasting = true, .mode = 0600};
    MUST(fst_arena_open(&o, &other));
    struct fst_ref ref = alloc_bytes(other, 100);
    struct fst_message m;
    fst_share(other, &ref, &m);
    make_group(other, named("dead"), fst_group_root(other), MIB, 0);
    CHECK(fst_registry_lock(other)); /* and is killed with a lock */
}

static void dead_lasting(void)
{
    in_a_dead_process(make_dead_lasting);
}

static void attach_to_dead(void)
{
    MUST(try_open(w->other_path, 0, FST_OPEN_EXISTING, &other));
    struct fst_ref ref = alloc_bytes(other, 100);
    fst_drop(other, &ref);
    MUST(fst_barrier(other, FST_FOREVER));
}

static void dead_lasting_is_whole(void)
{
    if (try_open(w->other_path, 0, FST_OPEN_EXISTING, &other)) {
        TEST_FAIL("open: %s", fst_last_error());
        return;
    }
    CHECK_CLEAN(other);
    settle(other);
    CHECK_EQ(0, used_bytes(other));
    CHECK_EQ(1, state_of(other).processes);
    CHECK_EQ(1, state_of(other).groups);
    fst_arena_unref(other);
    MUST(fst_unlink(w->other_path));
}

static void fork_once(void)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) { /* goes on counting where its parent was */
        struct fst_ref ref;
        MUST(fst_alloc(a, pool, &ref));
        fst_drop(a, &w->ref);
        if (fst_fault_passed() > report[w->number].passed)
            report[w->number].passed = fst_fault_passed();
        _exit(atomic_load(&test_failures) != 0);
    }
    int status;
    if (waitpid(pid, &status, 0) == pid && WIFSIGNALED(status))
        kill(getpid(), SIGKILL); /* one of the two died there: that was this point */
}

/* The last destructor of a thread that ends: how many points the others passed. */
static void note_passed(void *unused)
{
    (void)unused;
    report[w->number].passed = fst_fault_passed();
}

static pthread_key_t last_key;

static void *end_armed(void *unused)
{
    pthread_setspecific(last_key, &last_key);
    struct fst_ref ref[3];
    for (int i = 0; i < 3; i++)
        ref[i] = alloc_one(a, pool);
    for (int i = 0; i < 2; i++)
        fst_drop(a, &ref[i]);
    MUST(fst_alloc_bytes(a, root, 100, &ref[0]));
    fst_read_lock(a); /* and ends inside a section */
    fst_fault_arm(w->point);
    return unused;
}

static void thread_exit(void)
{
    pthread_t t;
    fst_fault_arm(0);
    /* after the core's own: destructors run in the order of the keys */
    pthread_key_create(&last_key, note_passed);
    pthread_create(&t, NULL, end_armed, NULL);
    pthread_join(t, NULL);
}

static void register_thread(void)
{
    MUST(fst_read_lock(a));
    MUST(fst_read_unlock(a));
}

static void *register_armed(void *unused)
{
    fst_fault_arm(w->point);
    register_thread();
    report[w->number].passed = fst_fault_passed();
    fst_fault_arm(0);
    return unused;
}

static void thread_begin(void)
{
    pthread_t t;
    fst_fault_arm(0);
    pthread_create(&t, NULL, register_armed, NULL);
    pthread_join(t, NULL);
}

/* ---- recovery ---- */

static void die_with_names(void)
{
    open_group_and_child();
    open_cache();
    CHECK(fst_cache_lock_ending(a, (uint32_t)pool_cache));
    fst_children_suspend(a, (uint32_t)pool_cache);
    CHECK(fst_registry_lock(a));
}

static void dead_names(void)
{
    in_a_dead_process(die_with_names);
}

static void take_names(void)
{
    CHECK(fst_registry_lock(a));
    fst_registry_unlock(a);
}

static void die_with_pages(void)
{
    large();
    CHECK(fst_run_lock(a));
}

static void dead_pages(void)
{
    in_a_dead_process(die_with_pages);
}

static void take_pages(void)
{
    CHECK(fst_run_lock(a));
    fst_run_unlock(a);
}

static void die_with_child(void)
{
    alloc_forty();
    CHECK(fst_lists_lock(a, (uint32_t)pool));
}

static void dead_child(void)
{
    in_a_dead_process(die_with_child);
}

static void take_child(void)
{
    CHECK(fst_lists_lock(a, (uint32_t)pool));
    fst_lists_unlock(a, (uint32_t)pool);
}

/* Objects, messages, groups, caches, slabs being carved and closed: what a process can be killed
 * with. */
static void die_with_everything(void)
{
    alloc_forty();
    use_group();
    post_object();
    post_group();
    use_busy_cache();
    use_typed();
    large();
    resolve_held();
    uint32_t id;
    uint64_t owner = fst_thread_get(a)->name;
    fst_run_reserve(a, (uint32_t)pool, fst_child_at(a, (uint32_t)pool)->state, 0, 3, 0, owner, &id);
    fst_read_lock(a);
}

static void dead_with_everything(void)
{
    in_a_dead_process(die_with_everything);
}

/* Empty slabs of a TYPESAFE_BY_RCU cache, closed, and not yet given back: their grace period is
 * under way. */
static void die_closing(void)
{
    struct fst_closed closed = {.n = 0};
    use_typed();
    fst_actives_release(fst_thread_get(a));
    struct fst_revoke r = {.a = a, .me = fst_thread_get(a)->name};
    fst_close_empty(&r, (uint32_t)w->child, &closed, &w->bytes);
    CHECK(closed.n > 0);
}

static void dead_closing(void)
{
    in_a_dead_process(die_closing);
}

static void dead_debugged(void)
{
    in_a_dead_process(alloc_some_debugged);
}

static void die_in_batch(void)
{
    die_with_everything();
    fst_read_unlock(a);
    fst_trylock(a, &a->sb->reaper_lock);
    a->sb->batch_dirty = 1;
    uint64_t *entries = a->entries;
    for (uint32_t i = 0; i < a->self->entry_top; i++) {
        if (entries[i] && i % 2) {
            entries[i] = (entries[i] & ~FST_ENTRY_STATE) | FST_ENTRY_TAKEN;
            uint64_t *word = fst_word_of(a, fst_entry_oid(entries[i]));
            if (i % 3 && (*word & FST_WORD_ALLOCATED))
                *word |= FST_WORD_CONDEMNED;
        }
    }
}

static void dead_in_batch(void)
{
    in_a_dead_process(die_in_batch);
}

#endif
