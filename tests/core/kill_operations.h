/* kill_operations.h - every operation of the core, as something to be killed in. */
#ifndef FST_TEST_KILL_OPERATIONS_H
#define FST_TEST_KILL_OPERATIONS_H

#include "alloc/close.h"
#include "alloc/lists.h"
#include "kill.h"

/* ---- processes that are killed on purpose before the victim begins ---- */

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

/* ---- what victims do ---- */

static void alloc_pool(void)
{
    MUST(fst_alloc(a, pool, &w->ref));
}

static void drop_ref(void)
{
    fst_drop(a, &w->ref);
}

static void warm_up(void)
{
    alloc_pool();
    drop_ref();
}

static void share_ref(void)
{
    MUST(fst_share(a, &w->ref, &w->message));
}

static void alloc_and_share(void)
{
    alloc_pool();
    share_ref();
}

/* An object that lives by its message alone. */
static void post_object(void)
{
    alloc_and_share();
    fst_handle_of(a, &w->ref, &w->handle);
    drop_ref();
}

static void take_message(void)
{
    MUST(fst_take(a, &w->message, &w->ref));
}

static void take_and_drop(void)
{
    take_message();
    drop_ref();
}

static void resolve_held(void)
{
    fst_handle_of(a, &held[3], &w->handle);
    MUST(fst_resolve(a, &w->handle, &w->ref));
}

static void in_section_for_ever(struct peer *parent, void *context)
{
    (void)context;
    fst_read_lock(a);
    peer_say(parent, 'r');
    peer_hear(parent);
}

static struct peer readers[VICTIMS];

/* An object whose word is CONDEMNED by a batch that was broken off, its entries TAKEN. The reader that it waited for is killed by the victim: a
 * dead one would be buried, and the batch done again, by who forks. */
static void leave_condemned(void)
{
    struct peer *p = &readers[w->number];
    *p = peer_start(in_section_for_ever, NULL);
    PEER_WAIT(p, 'r');
    post_object();
    fst_take(a, &w->message, &w->ref);
    drop_ref();
    for (uint64_t patience = 1000; !(*fst_word_of(a, w->ref.oid) & FST_WORD_CONDEMNED); patience *= 2)
        CHECK_EQ(FST_TIMEOUT, fst_barrier(a, patience));
}

static bool attached(pid_t pid)
{
    for (uint32_t i = 0; i < fst_process_top(a); i++)
        if (fst_process_at(a, i)->pid == pid && fst_process_alive(a, i))
            return true;
    return false;
}

static void kill_reader(void)
{
    kill(readers[w->number].pid, SIGKILL);
    while (attached(readers[w->number].pid))
        usleep(50);
}

static void wait_for_reader(void)
{
    struct peer *p = &readers[w->number];
    waitpid(p->pid, NULL, 0); /* or it was waited for with the victims' children */
    close(p->in);
    close(p->out);
}

static void resolve_handle(void)
{
    MUST(fst_resolve(a, &w->handle, &w->ref));
}

static void resolve_and_drop(void)
{
    resolve_handle();
    drop_ref();
}

static void free_ref(void)
{
    MUST(fst_free(a, &w->ref));
}

static void free_and_drop(void)
{
    free_ref();
    drop_ref();
}

/* So many that slabs fill, are let go of, and new ones are taken. */
static void alloc_forty(void)
{
    for (w->n = 0; w->n < 40; w->n++)
        MUST(fst_alloc(a, pool, &w->more[w->n]));
}

static void drop_forty(void)
{
    while (w->n)
        fst_drop(a, &w->more[--w->n]);
}

static void alloc_many_forty(void)
{
    size_t got;
    MUST(fst_alloc_many(a, pool, 40, w->more, &got));
    w->n = (int)got;
}

/* More than the entries that a thread has at hand, and that it may keep. */
static void alloc_and_drop_many(void)
{
    for (int i = 0; i < 4; i++)
        alloc_forty();
}

static void size_class_new(void)
{
    MUST(fst_alloc_bytes(a, root, 777, &w->ref));
}

static void large(void)
{
    MUST(fst_alloc_bytes(a, root, 300000, &w->ref));
}

static void very_large(void)
{
    MUST(fst_alloc_bytes(a, root, 20 * MIB, &w->ref)); /* brings a zone into use */
}

static void large_drop(void)
{
    large();
    drop_ref();
}

/* A large object that only a batch can release. */
static void forget_large(void)
{
    large();
    share_ref();
    struct fst_ref mine = w->ref;
    take_and_drop();
    fst_drop(a, &mine);
}

static void large_reused(void)
{
    uint64_t released = a->sb->released_objects;
    large();
    if (!may_give_way)
        CHECK(a->sb->released_objects > released);
}

static void open_cache(void)
{
    static char format[FST_FORMAT_MAX + 100]; /* longer than its descriptor has room for */
    memset(format, 'f', sizeof format - 1);
    struct fst_cache_spec spec = {.name = named("victim"), .size = 100, .format = format, .init = "initial", .init_bytes = 7};
    MUST(fst_cache_open(a, &spec, &w->cache));
}

static void open_child(void)
{
    MUST(fst_child_open(a, w->cache, root, &w->child));
}

static void open_cache_and_child(void)
{
    open_cache();
    open_child();
}

static void use_cache(void)
{
    open_cache_and_child();
    for (w->n = 0; w->n < 40; w->n++)
        MUST(fst_alloc(a, w->child, &w->more[w->n]));
    drop_forty();
}

static void alloc_init(void)
{
    MUST(fst_alloc(a, w->child, &w->ref));
    CHECK(memcmp(w->ref.data, "initial", 8) == 0);
}

static void destroy_cache(void)
{
    MUST(fst_cache_destroy(a, w->cache, NULL));
}

static void destroy_cache_and_wait(void)
{
    destroy_cache();
    MUST(fst_barrier(a, FST_FOREVER));
}

/* An alias of the pool; one of a cache without a name of its own. */
static void open_alias(void)
{
    w->cache = make_cache(a, "alias", 1000, 0);
}

static void open_last_alias(void)
{
    uint64_t body = make_cache(a, "body", 3000, 0);
    w->cache = make_cache(a, "alias of 3000", 3000, 0);
    MUST(fst_cache_destroy(a, body, NULL));
    open_child();
    MUST(fst_alloc(a, w->child, &w->ref));
    drop_ref();
}

static void open_body(void)
{
    w->cache = make_cache(a, "body", 3000, 0);
    make_cache(a, "alias of 3000", 3000, 0);
}

static void use_busy_cache(void)
{
    open_cache_and_child();
    alloc_init();
}

/* Another one under the name of w->cache. */
static void replace_cache(void)
{
    struct fst_cache_info old, new;
    MUST(fst_cache_look(a, w->cache, &old));
    struct fst_cache_spec spec = {.name = old.name, .size = 5000, .init = "other", .init_bytes = 5, .replace = true};
    MUST(fst_cache_open(a, &spec, &w->cache));
    MUST(fst_cache_look(a, w->cache, &new));
    CHECK(new.id != old.id &&new.size == 5000);
}

static void replace_cache_and_wait(void)
{
    replace_cache();
    MUST(fst_barrier(a, FST_FOREVER));
}

/* Whatever the replacer came to, the object is what it was, and goes like any other. */
static void drop_of_replaced(void)
{
    CHECK(memcmp(w->ref.data, "initial", 8) == 0);
    drop_ref();
}

static void destroy_busy_cache(void)
{
    CHECK_EQ(FST_BUSY, fst_cache_destroy(a, w->cache, NULL));
}

static void open_group(void)
{
    w->group = make_group(a, named("victim"), root, 8 * MIB, 0);
}

static void open_group_below(void)
{
    w->group =
        make_group(a, named("below"), make_group(a, named("victim"), root, FST_NO_LIMIT, 0), FST_NO_LIMIT, FST_GROUP_LASTING);
}

static void child_of_group(void)
{
    MUST(fst_child_open(a, pool_cache, w->group, &w->child));
}

static void open_group_and_child(void)
{
    open_group();
    child_of_group();
}

static void alloc_charged(void)
{
    MUST(fst_alloc(a, w->child, &w->ref));
}

/* A group with objects: one referenced, one in flight, one that only waits, in two caches. */
static void use_group(void)
{
    open_group_and_child();
    alloc_charged();
    MUST(fst_share(a, &w->ref, &w->message));
    struct fst_ref ref;
    MUST(fst_alloc_bytes(a, w->group, 100, &ref));
    MUST(fst_share(a, &ref, &w->group_message));
    fst_drop(a, &ref);
}

static void hit_limit(void)
{
    size_t got;
    struct fst_ref ref;
    MUST(fst_group_set_limit(a, w->group, 8192));
    (void)got;
    CHECK_EQ(FST_LIMIT, fst_alloc_bytes(a, w->group, 100000, &ref));
}

static void close_group(void)
{
    MUST(fst_group_close(a, w->group));
}

static void destroy_group(void)
{
    MUST(fst_group_destroy(a, w->group));
}

static void unref_group(void)
{
    fst_group_unref(a, w->group);
}

static void destroy_tree(void)
{
    struct fst_group_info info;
    fst_group_get_info(a, w->group, &info);
    MUST(fst_group_destroy(a, info.parent));
}

static void use_tree(void)
{
    open_group_below();
    child_of_group();
    alloc_charged();
}

static void share_group(void)
{
    MUST(fst_group_share(a, w->group, &w->group_message));
}

static void post_group(void)
{
    open_group();
    share_group();
    unref_group();
}

static void take_group(void)
{
    MUST(fst_group_take(a, &w->group_message, &w->group));
}

static void drop_messages(void)
{
    fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false);
}

static void post_and_group(void)
{
    post_object();
    post_group();
}

/* A group whose messages expire at once, with an object; the survivor has it open. */
static void open_expiring(void)
{
    struct fst_group_spec spec = {
        .name = named("expiring"), .parent = root, .limit = FST_NO_LIMIT, .messages_expire = 1, .set_messages_expire = true};
    bool created;
    MUST(fst_group_open(a, &spec, &w->group, &created));
    child_of_group();
}

/* Three of its messages, two of objects that live by them alone. */
static void post_expiring(void)
{
    for (int i = 0; i < 2; i++) {
        alloc_charged();
        share_ref();
        drop_ref();
    }
    share_group();
}

static void open_and_post_expiring(void)
{
    open_expiring();
    post_expiring();
}

static void expire_messages(void)
{
    fst_inflight_expire(a);
}

static bool in_flight_of(uint64_t group)
{
    struct fst_inflight_info info[16];
    size_t n = fst_inflight_list(a, info, 16);
    for (size_t i = 0; i < n && i < 16; i++)
        if (info[i].group == group)
            return true;
    return false;
}

/* Batches alone, of a survivor that knows of nothing, bring it about: and once. */
static void everything_expires(void)
{
    struct fst_group_info info;
    do
        MUST(fst_barrier(a, FST_FOREVER));
    while (in_flight_of(w->group)); /* else the alarm */
    MUST(fst_barrier(a, FST_FOREVER));
    MUST(fst_group_get_info(a, w->group, &info));
    CHECK_EQ(0, info.usage);
    unref_group();
}

/* Empty slabs of a cache and free extents of the arena. */
static void leave_room(void)
{
    alloc_forty();
    drop_forty();
    struct fst_ref ref;
    MUST(fst_alloc_bytes(a, root, 2 * MIB, &ref));
    fst_drop(a, &ref);
}

static void shrink_cache(void)
{
    MUST(fst_cache_shrink(a, pool_cache, &w->bytes));
}

static void shrink_arena(void)
{
    MUST(fst_shrink(a, 5000000000u, &w->bytes));
}

static void use_typed(void)
{
    MUST(fst_child_open(a, typed_cache, root, &w->child));
    for (w->n = 0; w->n < 20; w->n++)
        MUST(fst_alloc(a, w->child, &w->more[w->n]));
    drop_forty();
}

static void shrink_typed(void)
{
    MUST(fst_cache_shrink(a, typed_cache, &w->bytes));
}

static void barrier(void)
{
    MUST(fst_barrier(a, FST_FOREVER));
}

static void reclaim(void)
{
    MUST(fst_reclaim(a, root, FST_FOREVER));
}

static void post_and_forget(void)
{
    post_object();
    fst_take(a, &w->message, &w->ref);
    drop_ref();
}

/* ---- processes and threads ---- */

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
    pthread_key_create(&last_key, note_passed); /* after the core's own: destructors run in the order of the keys */
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

/* Objects, messages, groups, caches, slabs being carved and closed: what a process can be killed with. */
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

/* Empty slabs of a TYPESAFE_BY_RCU cache, closed, and not yet given back: their grace period is under way. */
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

static void die_in_batch(void)
{
    die_with_everything();
    fst_read_unlock(a);
    fst_trylock(a, &a->sb->reaper_lock);
    a->sb->batch_dirty = 1;
    uint64_t *entries = fst_entries_of(a, a->slot);
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

static void drop_group_ref(void)
{
    fst_drop(a, &w->ref);
    unref_group();
}

static void end_everything(void)
{
    use_group();
    destroy_group();
    drop_group_ref();
    struct fst_group_info info;
    use_tree();
    fst_group_get_info(a, w->group, &info);
    destroy_tree();
    drop_group_ref();
    fst_group_unref(a, info.parent);
    use_cache();
    destroy_cache();
    use_typed();
    post_and_forget();
    w->group = make_group(a, named("closed"), root, FST_NO_LIMIT, 0);
    child_of_group();
    alloc_charged();
    close_group();
    unref_group();
}

/* The last object of a group that was destroyed. */
static void use_destroyed_group(void)
{
    open_group_and_child();
    alloc_charged();
    destroy_group();
    barrier();
}

static void use_destroyed_group_shared(void)
{
    use_group();
    destroy_group();
    barrier();
}

static void drop_and_wait(void)
{
    drop_group_ref();
    barrier();
}

HELPER const struct operation operations[] = {
    {"alloc from the active slab", NULL, warm_up, alloc_pool, NULL, false},
    {"alloc with a partial slab", NULL, NULL, alloc_pool, NULL, false},
    {"alloc with new slabs", NULL, NULL, alloc_forty, NULL, false},
    {"alloc many", NULL, NULL, alloc_many_forty, NULL, false},
    {"alloc with more entries", NULL, NULL, alloc_and_drop_many, NULL, false},
    {"drop private", NULL, alloc_pool, drop_ref, NULL, false},
    {"drop private, slabs empty", NULL, alloc_forty, drop_forty, NULL, false},
    {"drop shared", NULL, alloc_and_share, drop_ref, NULL, false},
    {"share", NULL, alloc_pool, share_ref, NULL, false},
    {"take", post_object, NULL, take_message, NULL, false},
    {"take and drop", post_object, NULL, take_and_drop, NULL, false},
    {"take for the second time", alloc_and_share, take_and_drop, take_message, drop_ref, false},
    {"resolve", post_object, NULL, resolve_handle, NULL, false},
    {"resolve and drop", post_object, NULL, resolve_and_drop, NULL, false},
    {"resolve what it has", NULL, NULL, resolve_held, NULL, false},
    {"rescue", leave_condemned, kill_reader, resolve_handle, wait_for_reader, false},
    {"free", alloc_pool, NULL, free_ref, drop_ref, false},
    {"free private and drop", NULL, alloc_pool, free_and_drop, NULL, false},
    {"size class", NULL, NULL, size_class_new, NULL, false},
    {"large", NULL, NULL, large, NULL, false},
    {"very large", NULL, NULL, very_large, NULL, false},
    {"large and drop", NULL, NULL, large_drop, NULL, false},
    {"large, a dropped one reused", NULL, forget_large, large_reused, NULL, false},
    {"cache open", NULL, NULL, open_cache, NULL, false},
    {"cache open existing", NULL, open_cache, open_cache, NULL, false},
    {"child creation", NULL, open_cache, open_child, NULL, false},
    {"alloc with initial content", NULL, open_cache_and_child, alloc_init, NULL, false},
    {"cache destroy", NULL, use_cache, destroy_cache, NULL, false},
    {"cache destroy and batch", NULL, use_cache, destroy_cache_and_wait, NULL, false},
    {"cache destroy busy", NULL, use_busy_cache, destroy_busy_cache, NULL, false},
    {"cache merge", NULL, NULL, open_alias, NULL, false},
    {"alias destroy", NULL, open_alias, destroy_cache, NULL, false},
    {"alias destroy, the last", NULL, open_last_alias, destroy_cache, NULL, false},
    {"cache destroy, it has aliases", NULL, open_body, destroy_cache, NULL, false},
    {"cache replace", NULL, use_cache, replace_cache, NULL, false},
    {"cache replace and batch", NULL, use_cache, replace_cache_and_wait, NULL, false},
    {"cache replace busy", NULL, use_busy_cache, replace_cache, NULL, false},
    {"cache replace, used by the survivor", use_busy_cache, NULL, replace_cache, drop_of_replaced, false},
    {"cache replace, quiet survivor", NULL, use_busy_cache, replace_cache, NULL, true},
    {"alias replace", NULL, open_alias, replace_cache, NULL, false},
    {"alias replace, the last", NULL, open_last_alias, replace_cache, NULL, false},
    {"cache replace, it has aliases", NULL, open_body, replace_cache, NULL, false},
    {"group open", NULL, NULL, open_group, NULL, false},
    {"group open existing", open_group, NULL, open_group, unref_group, false},
    {"group open below", NULL, NULL, open_group_below, NULL, false},
    {"group's child creation", NULL, open_group, child_of_group, NULL, false},
    {"group charge", NULL, open_group_and_child, alloc_charged, NULL, false},
    {"group limit", NULL, open_group, hit_limit, NULL, false},
    {"group close", NULL, use_group, close_group, NULL, false},
    {"group destroy", NULL, use_group, destroy_group, NULL, false},
    {"group destroy, used by the survivor", use_group, NULL, destroy_group, drop_group_ref, false},
    {"group destroy, a tree", NULL, use_tree, destroy_tree, NULL, false},
    {"drop, last of a destroyed group", NULL, use_destroyed_group, drop_group_ref, NULL, false},
    {"drop and batch, last of a destroyed group", NULL, use_destroyed_group_shared, drop_and_wait, NULL, false},
    {"drop, last of a destroyed group, quiet survivor", NULL, use_destroyed_group, drop_group_ref, NULL, true},
    {"cache destroy, quiet survivor", NULL, use_cache, destroy_cache, NULL, true},
    {"group destroy, quiet survivor", NULL, use_group, destroy_group, NULL, true},
    {"batch, ended things, quiet survivor", NULL, end_everything, barrier, NULL, true},
    {"group unref", NULL, open_group, unref_group, NULL, false},
    {"group share", NULL, open_group, share_group, NULL, false},
    {"group take", post_group, NULL, take_group, NULL, false},
    {"in-flight drop", post_and_group, NULL, drop_messages, NULL, false},
    {"messages expire", open_and_post_expiring, NULL, expire_messages, everything_expires, false},
    {"messages expire in a batch", open_and_post_expiring, NULL, barrier, everything_expires, false},
    {"messages expire, quiet survivor", open_and_post_expiring, NULL, expire_messages, everything_expires, true},
    {"send what expires", open_expiring, NULL, post_expiring, everything_expires, false},
    {"send what expires, quiet survivor", open_expiring, NULL, post_expiring, everything_expires, true},
    {"cache shrink", NULL, leave_room, shrink_cache, NULL, false},
    {"cache shrink, typesafe", NULL, use_typed, shrink_typed, NULL, false},
    {"arena shrink", NULL, leave_room, shrink_arena, NULL, false},
    {"thread begin", NULL, NULL, thread_begin, NULL, false},
    {"thread exit", NULL, NULL, thread_exit, NULL, false},
    {"attach", NULL, detach_first, attach, NULL, false},
    {"attach and alloc", NULL, detach_first, attach_and_alloc, NULL, false},
    {"attach to a dead arena", dead_lasting, NULL, attach_to_dead, dead_lasting_is_whole, false},
    {"create", NULL, NULL, create_other, no_other_is_left, false},
    {"detach", NULL, NULL, detach, NULL, false},
    {"detach with shared objects", NULL, alloc_and_share, detach, NULL, false},
    {"detach, last one out", NULL, have_other, last_out_of_other, no_other_is_left, false},
    {"fork", NULL, alloc_pool, fork_once, NULL, false},
    {"reclaim with nothing to do", NULL, NULL, reclaim, NULL, false},
    {"batch, dropped objects", post_and_forget, NULL, barrier, NULL, false},
    {"batch, ended things", NULL, end_everything, barrier, NULL, false},
    {"batch, ended things of the survivor", end_everything, NULL, barrier, drop_ref, false},
    {"batch after a broken one", leave_condemned, kill_reader, barrier, wait_for_reader, false},
    {"bury", dead_with_everything, NULL, barrier, NULL, false},
    {"bury who gave slabs back", dead_closing, NULL, barrier, NULL, false},
    {"bury a reaper", dead_in_batch, NULL, barrier, NULL, false},
    {"rebuild names", dead_names, NULL, take_names, NULL, false},
    {"rebuild pages", dead_pages, NULL, take_pages, NULL, false},
    {"rebuild a child's lists", dead_child, NULL, take_child, NULL, false},
};

#define OPERATIONS ((int)(sizeof operations / sizeof *operations))

#endif
