/* clobber_work.h - the arena that test_clobber.c damages, and everything that is done with it
 * afterwards. */
#ifndef FST_TEST_CLOBBER_WORK_H
#define FST_TEST_CLOBBER_WORK_H

#include <sys/prctl.h>

#include "alloc/child.h"
#include "alloc/registry.h"
#include "clobber_fields.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "refs/word.h"
#include "region/entries.h"
#include "region/region.h"
#include "region/table.h"
#include "support.h"

/* seconds */
#define PATIENCE (getenv("FST_CLOBBER_PATIENCE") ? (unsigned)atoi(getenv("FST_CLOBBER_PATIENCE")) : 30u)

enum phase { PHASE_CHECK, PHASE_GO_ON };

/* A structure of the populated arena. */
struct spot {
    enum structure structure;
    char label[32];
    uint64_t offset; /* in the file */
    uint64_t self;   /* what a link to it looks like */
    bool own;        /* of the process that does the damage: found by it */
};

/* Between the test, the base and their children. */
static struct shared {
    struct spot spot[128];
    uint32_t spots;
    /* of the case */
    enum phase phase;
    int status;
    uint32_t findings;
    char first[256], last[256];
    const char *step; /* the same program: the same address */
    int rc;
    char path[128];
} * shared;

/* ---- the base's arena ---- */

#define HELD 24
static fst_arena *base;
static struct fst_ref held[HELD];
static unsigned n_held;
static struct fst_message messages[6];
static unsigned n_messages;
static struct fst_message group_message;
static uint64_t plain, alias, typesafe, starting, big, outer, inner, innermost, kept;
static uint64_t children[8];
static unsigned n_children;

static void place(enum structure s, const char *label, const void *at, uint64_t self)
{
    REQUIRE(shared->spots < sizeof shared->spot / sizeof *shared->spot);
    struct spot *p = &shared->spot[shared->spots++];
    p->structure = s;
    snprintf(p->label, sizeof p->label, "%s", label);
    const uint8_t *here = at, *data_end = base->data + (base->capacity_pages << FST_PAGE_SHIFT);
    if (s == S_ENTRY)
        p->offset = fst_entries_offset(base, base->slot) + (uint64_t)(here - (const uint8_t *)base->entries);
    else if (here >= base->data && here < data_end)
        p->offset = base->known.data_offset + (uint64_t)(here - base->data);
    else
        p->offset = (uint64_t)(here - (const uint8_t *)base->sb);
    p->self = self;
}

static void place_own(enum structure s, const char *label)
{
    place(s, label, base->sb, 0);
    shared->spot[shared->spots - 1].own = true;
}

/* Where the spot is, for the process that damages it. */
static uint8_t *spot_at(fst_arena *a, const struct spot *p)
{
    if (p->own)
        return p->structure == S_PROCESS ? (uint8_t *)a->self
               : p->structure == S_ENTRY ? (uint8_t *)a->entries
                                         : (uint8_t *)fst_thread_get(a)->slot;
    if (p->offset >= a->known.data_offset && p->structure != S_ENTRY)
        return a->data + (p->offset - a->known.data_offset);
    if (p->structure != S_ENTRY)
        return (uint8_t *)a->sb + p->offset;
    uint64_t offset = p->offset - fst_entries_offset(a, 0), table = a->max_entries * sizeof(uint64_t);
    uint64_t *entries = fst_entries_of(a, (uint32_t)(offset / table), a->max_entries);
    REQUIRE(entries != NULL);
    return (uint8_t *)entries + offset % table;
}

static void hold(fst_arena *a, uint64_t child)
{
    REQUIRE(n_held < HELD);
    held[n_held] = alloc_one(a, child);
    memset(held[n_held].data, (int)n_held + 1, held[n_held].nbytes);
    n_held++;
}

static void send(fst_arena *a, const struct fst_ref *ref)
{
    REQUIRE(fst_share(a, ref, &messages[n_messages++]) == FST_OK);
}

/* Every call has an answer that the interface knows. */
#define DO(call) (shared->step = #call, answer(call))
static int answer(int rc)
{
    shared->rc = rc;
    if (rc > FST_OK || rc < FST_LAPPED) {
        fprintf(stderr, "# %s gave %d\n", shared->step, rc);
        _exit(2);
    }
    return rc;
}
#define LOOK(call) (shared->step = #call, (void)(call))

/* The bytes lie in the data region, whatever was damaged. */
static void use(fst_arena *a, const struct fst_ref *ref)
{
    const uint8_t *end = a->data + (a->capacity_pages << FST_PAGE_SHIFT);
    const uint8_t *data = ref->data;
    shared->step = "using an object";
    if (data < a->data || data > end || ref->nbytes > (uint64_t)(end - data)) {
        fprintf(stderr, "# an object of %llu bytes lies outside of the data\n", (unsigned long long)ref->nbytes);
        _exit(3);
    }
    memset(ref->data, 0x5a, ref->nbytes);
}

#include "clobber_named.h"

static void make_everything(fst_arena *a)
{
    static const char start[] = "this is how an object begins";
    static char format[2 * FST_FORMAT_MAX];
    memset(format, 'f', sizeof format - 1);
    struct fst_cache_spec init = {.name = "starting", .size = 200, .format = format, .init = start, .init_bytes = sizeof start};
    uint64_t gone;
    plain = make_cache(a, "plain", 64, 0);
    gone = make_cache(a, "gone", 72, 0);
    alias = make_cache(a, "alias", 64, 0);
    make_cache(a, "another alias", 64, 0);
    typesafe = make_cache(a, "typesafe", 128, FST_CACHE_TYPESAFE_BY_RCU);
    big = make_cache(a, "big", 40000, 0);
    REQUIRE(fst_cache_open(a, &init, &starting) == FST_OK);
    outer = make_group(a, "outer", fst_group_root(a), 8 * MIB, 0);
    inner = make_group(a, "inner", outer, 4 * MIB, 0);
    innermost = make_group(a, "innermost", inner, FST_NO_LIMIT, 0);
    make_group(a, "sibling", outer, FST_NO_LIMIT, 0);
    uint64_t ended = make_group(a, "ended", fst_group_root(a), FST_NO_LIMIT, 0);
    uint64_t ended_child = child_of(a, typesafe, ended);
    kept = make_group(a, "kept", outer, FST_NO_LIMIT, 0);
    uint64_t all[] = {child_of(a, plain, fst_group_root(a)),    child_of(a, plain, innermost), child_of(a, typesafe, inner),
                      child_of(a, starting, fst_group_root(a)), child_of(a, big, outer),       child_of(a, plain, kept),
                      child_of(a, typesafe, fst_group_root(a))};
    n_children = sizeof all / sizeof *all;
    memcpy(children, all, sizeof all);
    uint64_t gone_child = child_of(a, gone, fst_group_root(a));
    for (unsigned i = 0; i < n_children; i++)
        for (int k = 0; k < 2; k++)
            hold(a, all[i]);
    held[n_held++] = alloc_bytes(a, 100);
    unsigned large = n_held;
    held[n_held++] = alloc_bytes(a, 300000);
    struct fst_form_spec form = {.text = "a text of a form", .text_bytes = 16};
    for (uint64_t nbytes = 99; nbytes <= 100; nbytes++) /* number 1, and one with an object */
        REQUIRE(fst_form_intern(a, form.text, form.text_bytes, nbytes, false, &form.form) == FST_OK);
    REQUIRE(fst_alloc_form(a, fst_group_root(a), 100, &form, &held[n_held++]) == FST_OK);
    struct fst_ref passing = alloc_bytes(a, 700000);
    fst_drop(a, &passing);
    for (unsigned i = 0; i < 5; i++)
        send(a, &held[2 * i]);
    REQUIRE(fst_group_share(a, inner, &group_message) == FST_OK);
    REQUIRE(fst_cache_destroy(a, gone, NULL) == FST_OK && fst_group_destroy(a, ended) == FST_OK);
    fst_group_unref(a, ended);
    REQUIRE(fst_group_destroy(a, kept) == FST_OK);
    fst_group_unref(a, kept);

    /* somebody is killed: a burial */
    pid_t pid = fork();
    if (pid == 0)
        kill(getpid(), SIGKILL);
    waitpid(pid, NULL, 0);
    REQUIRE(fst_barrier(a, FST_FOREVER) == FST_OK && fst_barrier(a, FST_FOREVER) == FST_OK);
    CHECK_EQ(0, fst_check(a, print_finding, NULL));
    struct fst_superblock *sb = a->sb;

    /* A record of a cgroup that does not end: the root folder stands for it. */
    struct stat root, mounts;
    REQUIRE(stat("/", &root) == 0 && stat("/proc/self/ns/mnt", &mounts) == 0);
    REQUIRE(fst_table_commit(a, FST_T_CGROUP, 1) == FST_OK);
    *fst_cgroup_at(a, 0) = (struct fst_cgroup){
        .group = outer, .device = root.st_dev, .inode = root.st_ino, .view = mounts.st_ino, .root_inode = root.st_ino, .path = "/"};
    sb->cgroup_top = 1;
    fst_debug_leaked(a, &(struct fst_debug_info){.nbytes = 100}, 1);

    place(S_SUPERBLOCK, "superblock", sb, 0);
    place(S_TABLE, "table of processes", &sb->tables[FST_T_PROCESS], 0);
    place(S_TABLE, "table of entries", &sb->tables[FST_T_ENTRY], 0);
    place(S_TABLE, "table of children", &sb->tables[FST_T_CHILD], 0);
    place(S_TABLE, "table of zones", &sb->tables[FST_T_ZONE], 0);
    place(S_TABLE, "table of slabs", &sb->tables[FST_T_SLAB + 2], 0);
    place(S_RECORD, "last batch", &sb->batch_log[sb->batches % 16], 0);
    place(S_INFLIGHT, "message", fst_inflight_at(a, messages[0].entry), messages[0].entry);
    place(S_INFLIGHT, "free message", fst_inflight_at(a, 40), 40);
    place(S_ZONE, "zone", fst_zone_at(a, 0), 0);
    uint32_t ids[] = {fst_oid_slab(held[0].oid), fst_oid_slab(held[8].oid), fst_oid_slab(held[large].oid),
                      fst_cache_at(a, (uint32_t)starting)->init_slab};
    const char *const slab_labels[] = {"slab", "big slab", "large slab", "initial slab"};
    for (unsigned i = 0; i < 4; i++)
        place(S_SLAB, slab_labels[i], fst_slab_at(a, ids[i]), ids[i]);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        if (sb->slab_free[class] != FST_NONE)
            place(S_SLAB, "free slab", fst_slab_at(a, sb->slab_free[class]), sb->slab_free[class]);
    place(S_WORD, "allocated", fst_word_of(a, held[0].oid), held[0].oid);
    place(S_WORD, "large allocated", fst_word_of(a, held[large].oid), held[large].oid);
    place(S_WORD, "free", fst_word_of(a, fst_oid(ids[0], 40)), 0);
    place(S_CACHE, "plain", fst_cache_at(a, (uint32_t)plain), (uint32_t)plain);
    place(S_CACHE, "alias", fst_cache_at(a, (uint32_t)alias), (uint32_t)alias);
    place(S_CACHE, "starting", fst_cache_at(a, (uint32_t)starting), (uint32_t)starting);
    place(S_CACHE, "gone", fst_cache_at(a, (uint32_t)gone), (uint32_t)gone);
    place(S_CHILD, "plain in root", fst_child_at(a, (uint32_t)all[0]), (uint32_t)all[0]);
    place(S_CHILD, "plain in innermost", fst_child_at(a, (uint32_t)all[1]), (uint32_t)all[1]);
    place(S_CHILD, "plain in kept", fst_child_at(a, (uint32_t)all[5]), (uint32_t)all[5]);
    place(S_CHILD, "gone", fst_child_at(a, (uint32_t)gone_child), (uint32_t)gone_child);
    (void)ended_child;
    place(S_GROUP, "root", fst_group_at(a, 0), 0);
    place(S_GROUP, "outer", fst_group_at(a, (uint32_t)outer), (uint32_t)outer);
    place(S_GROUP, "innermost", fst_group_at(a, (uint32_t)innermost), (uint32_t)innermost);
    place(S_GROUP, "kept", fst_group_at(a, (uint32_t)kept), (uint32_t)kept);
    place(S_GROUP, "ended", fst_group_at(a, (uint32_t)ended), (uint32_t)ended);
    place(S_CGROUP, "cgroup", fst_cgroup_at(a, 0), 0);
    place(S_PROCESS, "base", a->self, a->slot);
    place_own(S_PROCESS, "own process");
    place(S_BURIAL, "burial", (struct fst_burial *)(void *)a->table[FST_T_BURIAL] + 1, 1);
    place(S_THREAD, "thread of base", fst_thread_get(a)->slot, fst_thread_get(a)->index);
    place_own(S_THREAD, "own thread");
    place(S_ENTRY, "entry of base", &a->entries[held[0].entry], 0);
    place_own(S_ENTRY, "own entry");
    static const char *const names[] = {"cache name", "cache shape", "group name"};
    for (int k = 0; k < 3; k++) {
        uint32_t *bucket = (uint32_t *)(void *)a->table[FST_T_CACHE_NAMES + k];
        while (!*bucket)
            bucket++;
        place(S_BUCKET, names[k], bucket, *bucket);
    }
    make_named(a);
    place(S_FORM, "form", fst_form_at(a, 1), 2);
    place(S_SUMMARY, "partly free zones", a->table[FST_T_ZONE_SUMMARY], 0);
    place(S_SUMMARY, "zones with free extents",
          (uint64_t *)(void *)a->table[FST_T_ZONE_SUMMARY] + 6 * sb->tables[FST_T_ZONE_SUMMARY].count / FST_ZONE_CLASSES, 0);
}

/* ---- what is done after the damage ---- */

static void work_with_objects(fst_arena *a)
{
    static struct fst_ref got[200];
    unsigned n = 0;
    size_t many = 0;
    for (unsigned i = 0; i < n_children; i++)
        for (int k = 0; k < 3; k++)
            if (DO(fst_alloc(a, children[i], &got[n])) == FST_OK)
                use(a, &got[n++]);
    DO(fst_alloc_many(a, children[0], 80, got + n, &many));
    for (size_t i = 0; i < many; i++)
        use(a, &got[n++]);
    static const uint64_t sizes[] = {0, 8, 100, 100, 5000, 70000, 300000, 1200000};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (DO(fst_alloc_bytes(a, i % 2 ? fst_group_root(a) : outer, sizes[i], &got[n])) == FST_OK)
            use(a, &got[n++]);
    struct fst_form_spec form = {.text = "a text of a form", .text_bytes = 16};
    DO(fst_form_intern(a, form.text, form.text_bytes, 100, false, &form.form));
    if (DO(fst_alloc_form(a, outer, 100, &form, &got[n])) == FST_OK)
        use(a, &got[n++]);
    form.form = 0;
    if (DO(fst_alloc_form(a, outer, 100, &form, &got[n])) == FST_OK)
        use(a, &got[n++]);
    for (unsigned i = 0; i < n_held; i++) {
        char text[64];
        size_t text_bytes;
        DO(fst_form_text(a, &held[i], text, sizeof text, &text_bytes));
    }
    for (unsigned i = 0; i < n; i += 3) {
        struct fst_message m;
        struct fst_handle h;
        struct fst_ref more;
        DO(fst_handle_of(a, &got[i], &h));
        if (DO(fst_resolve(a, &h, &more)) == FST_OK) {
            use(a, &more);
            LOOK(fst_drop(a, &more));
        }
        if (i % 2 && DO(fst_share(a, &got[i], &m)) == FST_OK && i % 4 == 1 && DO(fst_take(a, &m, &more)) == FST_OK) {
            use(a, &more);
            LOOK(fst_drop(a, &more));
        }
        uint32_t processes[8];
        LOOK(fst_holders(a, &got[i], processes, 8));
    }
    DO(fst_free(a, &got[0]));
    for (unsigned i = 0; i < n; i++)
        LOOK(fst_drop(a, &got[i]));
    for (unsigned i = 0; i < n_messages; i++) {
        struct fst_ref ref;
        if (DO(fst_resolve(a, &messages[i].handle, &ref)) == FST_OK) {
            use(a, &ref);
            LOOK(fst_drop(a, &ref));
        }
        if (i < 3 && DO(fst_take(a, &messages[i], &ref)) == FST_OK) {
            use(a, &ref);
            LOOK(fst_drop(a, &ref));
        }
    }
}

static void work_with_caches(fst_arena *a)
{
    uint64_t cache, child, group, bytes, ids[32];
    struct fst_cache_info info;
    struct fst_cache_spec known = {.name = "plain", .size = 64}, other = {.name = "alias", .size = 64};
    struct fst_cache_spec new[] = {{.name = "new", .size = 64},
                                   {.name = "newer", .size = 512, .flags = FST_CACHE_NO_MERGE},
                                   {.name = "newest", .size = 24, .init = "x", .init_bytes = 1}};
    DO(fst_cache_open(a, &known, &cache));
    DO(fst_cache_open(a, &other, &cache));
    for (int i = 0; i < 3; i++) {
        struct fst_ref ref;
        if (DO(fst_cache_open(a, &new[i], &cache)))
            continue;
        if (DO(fst_child_open(a, cache, fst_group_root(a), &child)) == FST_OK && DO(fst_alloc(a, child, &ref)) == FST_OK) {
            use(a, &ref);
            LOOK(fst_drop(a, &ref));
        }
        DO(fst_child_open(a, cache, inner, &child));
        DO(fst_cache_shrink(a, cache, &bytes));
        DO(fst_cache_destroy(a, cache, NULL));
    }
    size_t n = fst_cache_list(a, ids, 32);
    for (size_t i = 0; i < n && i < 32; i++) {
        DO(fst_cache_get_info(a, ids[i], &info));
        DO(fst_cache_look(a, ids[i], &info));
    }
    for (unsigned i = 0; i < n_children; i++)
        DO(fst_child_owner(a, (uint32_t)children[i], &cache, &group));
    DO(fst_cache_destroy(a, plain, NULL));
    DO(fst_cache_destroy(a, starting, NULL));
    DO(fst_cache_shrink(a, typesafe, &bytes));
}

static void work_with_groups(fst_arena *a)
{
    uint64_t group, ids[32];
    bool created;
    struct fst_group_info info;
    char text[64];
    struct fst_group_spec known = {.name = "inner", .parent = outer}, new = {.name = "new", .parent = innermost},
                          nameless = {.parent = outer};
    if (DO(fst_group_open(a, &known, &group, &created)) == FST_OK)
        LOOK(fst_group_unref(a, group));
    for (int i = 0; i < 2; i++) {
        uint64_t child;
        struct fst_ref ref;
        if (DO(fst_group_open(a, i ? &nameless : &new, &group, &created)))
            continue;
        DO(fst_group_set_limit(a, group, MIB));
        if (DO(fst_child_open(a, plain, group, &child)) == FST_OK && DO(fst_alloc(a, child, &ref)) == FST_OK) {
            use(a, &ref);
            LOOK(fst_drop(a, &ref));
        }
        DO(i ? fst_group_close(a, group) : fst_group_destroy(a, group));
        LOOK(fst_group_unref(a, group));
    }
    if (DO(fst_group_take(a, &group_message, &group)) == FST_OK)
        LOOK(fst_group_unref(a, group));
    size_t n = fst_group_list(a, ids, 32);
    for (size_t i = 0; i < n && i < 32; i++) {
        uint64_t caches[8];
        DO(fst_group_get_info(a, ids[i], &info));
        LOOK(fst_group_caches(a, ids[i], caches, 8));
        LOOK(fst_group_cgroup(a, ids[i], text, sizeof text));
    }
    DO(fst_group_destroy(a, inner));
    DO(fst_group_close(a, outer));
}

static void look_around_arena(fst_arena *a)
{
    static struct fst_process_info processes[16];
    static struct fst_burial_info burials[16];
    struct fst_batch_info batches[16];
    struct fst_child_counts counts;
    struct fst_keeper keepers[16];
    struct fst_use uses[16];
    struct fst_inflight_info in_flight[16];
    struct fst_arena_info info;
    struct fst_fault faults[8];
    char text[512];
    DO(fst_arena_get_info(a, &info));
    LOOK(fst_process_list(a, processes, 16));
    LOOK(fst_burial_list(a, burials, 16));
    LOOK(fst_burial_count(a));
    LOOK(fst_batch_list(a, batches, 16));
    LOOK(fst_child_count(a, &counts));
    LOOK(fst_keeper_list(a, keepers, 16));
    LOOK(fst_use_list(a, uses, 16));
    LOOK(fst_inflight_list(a, in_flight, 16));
    LOOK(fst_debug_log(a, faults, 8));
    LOOK(fst_describe_usage(a, text, sizeof text));
}

#define WAIT_NS (30 * 1000000ull)

static void wait_for_things(fst_arena *a)
{
    uint64_t bytes, cookie;
    if (DO(fst_read_lock(a)) == FST_OK)
        DO(fst_read_unlock(a));
    DO(fst_synchronize(a, WAIT_NS));
    DO(fst_barrier_begin(a, &cookie));
    DO(fst_barrier_wait(a, cookie, WAIT_NS));
    DO(fst_reclaim(a, UINT64_MAX, WAIT_NS));
    LOOK(fst_wait_for_memory(a, 1000));
    (void)bytes;
}

static void count_finding(void *context, const char *text)
{
    (void)context;
    if (!shared->first[0])
        snprintf(shared->first, sizeof shared->first, "%s", text);
    else if (!shared->last[0])
        snprintf(shared->last, sizeof shared->last, "%s", text);
}

static void do_everything(fst_arena *a)
{
    work_with_objects(a);
    look_around_arena(a);
    wait_for_things(a);
    work_with_caches(a);
    struct named inherited = named;
    if (!named.queue)
        LOOK(open_all_named(a, &named));
    work_with_channels(a);
    work_with_stores(a);
    await_named();
    work_with_groups(a);
    LOOK(fst_inflight_drop_from(a, 0, UINT64_MAX, 0, false));
    wait_for_things(a);
    end_named();
    wait_for_things(a);
    if (inherited.queue && DO(open_all_named(a, &named)) == FST_OK)
        end_named();
    uint64_t bytes;
    DO(fst_shrink(a, 5000000000u, &bytes));
    look_around_arena(a);
    LOOK(fst_check(a, count_finding, NULL));
    shared->step = "fork";
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    LOOK(fst_arena_unref(a));
}

/* Of a process that has never seen the arena. */
static void attach_and_look(void)
{
    fst_arena *a = NULL;
    struct fst_open_options o = {.path = shared->path, .create = FST_OPEN_EXISTING, .lasting = true};
    alarm(PATIENCE);
    int rc = DO(fst_arena_open(&o, &a));
    if (rc)
        _exit(rc == FST_LAYOUT || rc == FST_CORRUPTED || rc == FST_CLOSED ? 0 : 4);
    do_everything(a);
    _exit(0);
}

#endif
