/* kill_objects.h - what is done with objects and batches, as something to be killed in. */
#ifndef FST_TEST_KILL_OBJECTS_H
#define FST_TEST_KILL_OBJECTS_H

#include "kill.h"

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

/* An object whose word is CONDEMNED by a batch that was broken off, its entries TAKEN. The
 * reader that it waited for is killed by the victim: a dead one would be buried, and the batch
 * done again, by who forks. */
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

/* A text that nobody has had, and an object of it. */
static void intern_form(void)
{
    char text[64];
    struct fst_form_spec spec = {.text = text};
    spec.text_bytes = (size_t)snprintf(text, sizeof text, "%s at %llu", named("form"), (unsigned long long)w->point);
    MUST(fst_form_intern(a, text, spec.text_bytes, 100, true, &spec.form));
    CHECK(spec.form != 0);
    MUST(fst_alloc_form(a, root, 100, &spec, &w->ref));
}

/* The survivor finds it, or makes it. */
static void intern_too(void)
{
    intern_form();
    uint32_t again = 0;
    char text[64];
    size_t bytes = (size_t)snprintf(text, sizeof text, "%s at %llu", named("form"), (unsigned long long)w->point);
    MUST(fst_form_intern(a, text, bytes, 100, true, &again));
    CHECK_EQ(again, w->ref.form);
    drop_ref();
}

static void form_behind(void)
{
    struct fst_form_spec spec = {.text = "what it means", .text_bytes = 13};
    MUST(fst_alloc_form(a, root, 100, &spec, &w->ref));
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

/* ---- batches ---- */

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

#endif
