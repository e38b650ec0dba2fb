/* kill_groups.h - what is done with groups, and messages that end with them, as something to be
 * killed in. */
#ifndef FST_TEST_KILL_GROUPS_H
#define FST_TEST_KILL_GROUPS_H

#include "kill.h"
#include "kill_objects.h"

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

#endif
