/* Handles and messages: how an object comes to another process, and what an old, a guessed or a
 * forged one gets. */
#include "refs/claim.h"
#include "refs/reftable.h"

#include "objects.h"

static void stale_handles(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_handle h, wrong;
    fst_handle_of(a, &ref, &h);
    CHECK_EQ(FST_OK, fst_resolve(a, &h, &out));
    CHECK(out.data == ref.data && out.nbytes == 64 && out.oid == ref.oid);
    fst_drop(a, &out);
    wrong = h;
    wrong.generation_tag ^= 1ull << FST_HANDLE_TAG_SHIFT;
    CHECK_EQ(FST_FOREIGN, fst_resolve(a, &wrong, &out));
    for (int bit = 0; bit < 40; bit++) {
        wrong = h;
        wrong.generation_tag ^= 1ull << bit;
        CHECK_EQ(FST_STALE, fst_resolve(a, &wrong, &out));
    }
    for (int bit = 0; bit < 64; bit++) {
        wrong = h;
        wrong.oid_slab ^= 1ull << bit;
        CHECK_EQ(FST_STALE, fst_resolve(a, &wrong, &out));
    }
    fst_drop(a, &ref);
    settle(a);
    CHECK_EQ(FST_STALE, fst_resolve(a, &h, &out));
    ref = alloc_one(a, child); /* the same memory again */
    CHECK_EQ(FST_STALE, fst_resolve(a, &h, &out));
    fst_drop(a, &ref);
    tear_down();
}

/* A handle that nobody was given, and that is right in every bit: the object is its owner's
 * alone until it gives one. */
static void guessed_handles(void)
{
    set_up();
    struct fst_ref known = alloc_one(a, child), ref = alloc_one(a, child), out;
    struct fst_handle h, guess;
    fst_handle_of(a, &known, &h);
    CHECK_EQ(fst_oid_slab(known.oid), fst_oid_slab(ref.oid));
    guess.oid_slab = (h.oid_slab & ~FST_OID_MASK) | ref.oid;
    guess.generation_tag = (h.generation_tag >> FST_HANDLE_TAG_SHIFT << FST_HANDLE_TAG_SHIFT) | generation_of(a, &ref);
    CHECK_EQ(FST_STALE, fst_resolve(a, &guess, &out));
    fst_handle_of(a, &ref, &h);
    CHECK(!memcmp(&h, &guess, sizeof h));
    CHECK_EQ(FST_OK, fst_resolve(a, &guess, &out));
    CHECK(out.data == ref.data);
    fst_drop(a, &out);
    fst_drop(a, &ref);
    fst_drop(a, &known);
    settle(a);
    CHECK_EQ(FST_STALE, fst_resolve(a, &guess, &out));
    tear_down();
}

/* Bytes of handles and messages at random: an error each, and nothing else. */
static void random_handles(void)
{
    set_up();
    static struct fst_ref ref[300];
    struct fst_ref out;
    uint64_t random = 7;
    for (int i = 0; i < 300; i++) {
        ref[i] = alloc_one(a, child);
        fill(ref[i].data, 64, (uint64_t)i);
    }
    struct fst_handle h;
    for (int i = 0; i < 300; i += 2) /* of the others nobody was given one */
        fst_handle_of(a, &ref[i], &h);
    uint64_t tag = h.generation_tag >> FST_HANDLE_TAG_SHIFT << FST_HANDLE_TAG_SHIFT, got = 0;
    for (int i = 0; i < 500000; i++) { /* two calls each */
        struct fst_message m = {.entry = (uint32_t)(next_random(&random) % 300), .tag = (uint32_t)(next_random(&random) % 3)};
        m.handle.generation_tag = i & 1 ? next_random(&random) : tag | next_random(&random) % 4;
        m.handle.oid_slab = i & 2 ? next_random(&random) : next_random(&random) & ~(7ull << 36) & 0x7fffff003ffull;
        int rc = i & 4 ? fst_resolve(a, &m.handle, &out) : fst_take(a, &m, &out);
        CHECK(rc == FST_OK || rc == FST_STALE || rc == FST_FOREIGN);
        if (rc == FST_OK) {
            got++;
            fst_drop(a, &out);
        }
        uint64_t group;
        rc = fst_group_take(a, &m, &group);
        CHECK(rc == FST_STALE || rc == FST_FOREIGN || rc == FST_CLOSED || rc == FST_OK);
        if (rc == FST_OK)
            fst_group_unref(a, group);
    }
    for (int i = 0; i < 300; i++) {
        CHECK(filled(ref[i].data, 64, (uint64_t)i));
        fst_drop(a, &ref[i]);
    }
    tear_down();
}

static void message_read_twice(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child), one, two;
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    CHECK_EQ(1, state_of(a).in_flight);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER)); /* in flight: it stays */
    CHECK_EQ(FST_OK, fst_take(a, &m, &one));
    CHECK_EQ(0, state_of(a).in_flight);
    CHECK_EQ(FST_OK, fst_take(a, &m, &two));
    CHECK(one.data == two.data);
    fst_drop(a, &one);
    fst_drop(a, &two);
    settle(a);
    CHECK_EQ(FST_STALE, fst_take(a, &m, &one));
    tear_down();
}

/* The in-flight entry of an old message is a newer message's by now; its reference is left
 * alone. */
static void old_message_after_newer(void)
{
    set_up();
    struct fst_ref x = alloc_one(a, child), y = alloc_one(a, child), out;
    struct fst_message old, newer;
    CHECK_EQ(FST_OK, fst_share(a, &x, &old));
    CHECK_EQ(FST_OK, fst_take(a, &old, &out));
    fst_drop(a, &out);
    CHECK_EQ(FST_OK, fst_share(a, &y, &newer));
    CHECK_EQ(old.entry, newer.entry);
    CHECK(old.tag != newer.tag);
    fill(y.data, 64, 3);
    fst_drop(a, &y);
    CHECK_EQ(FST_OK, fst_take(a, &old, &out)); /* x is there; as a bare handle */
    fst_drop(a, &out);
    CHECK_EQ(1, state_of(a).in_flight);
    fst_drop(a, &x);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_STALE, fst_take(a, &old, &out));
    CHECK_EQ(1, state_of(a).in_flight);
    CHECK_EQ(FST_OK, fst_take(a, &newer, &out));
    CHECK(filled(out.data, 64, 3));
    fst_drop(a, &out);
    tear_down();
}

/* The same object in two messages through one entry. */
static void same_object_twice(void)
{
    set_up();
    struct fst_ref x = alloc_one(a, child), out;
    struct fst_message first, second;
    fst_share(a, &x, &first);
    fst_take(a, &first, &out);
    fst_drop(a, &out);
    fst_share(a, &x, &second);
    CHECK_EQ(FST_OK, fst_take(a, &first, &out));
    CHECK_EQ(1, state_of(a).in_flight);
    fst_drop(a, &out);
    fst_drop(a, &x);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_take(a, &second, &out));
    fst_drop(a, &out);
    tear_down();
}

/* An entry of another life of the object, as an attempt with an old handle writes it, keeps
 * nothing. */
static void entry_of_another_life(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_thread *t = fst_thread_get(a);
    struct fst_message m;
    struct fst_handle h;
    uint32_t entry;
    CHECK_EQ(FST_OK, fst_refs_get(a, t, ref.oid, generation_of(a, &ref) + 1, &entry));
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    CHECK_EQ(FST_OK, fst_handle_of(a, &ref, &h));
    fst_drop(a, &out);
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_STALE, fst_resolve(a, &h, &out));
    fst_refs_drop(a, entry);
    tear_down();
}

/* A batch has condemned a private object that is in use, as for an ended group: its drop asks
 * that batch or the next, and the word is free for others afterwards. */
static void condemned_while_held(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child);
    fst_word_set(fst_word_of(a, ref.oid), FST_WORD_CONDEMNED);
    fst_drop(a, &ref);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    tear_down();
}

/* A message whose handle was tampered with takes nobody's reference. */
static void forged_message(void)
{
    set_up();
    struct fst_ref x = alloc_one(a, child), out;
    struct fst_message m, forged;
    fill(x.data, 64, 8);
    fst_share(a, &x, &m);
    fst_drop(a, &x);
    forged = m;
    forged.handle.generation_tag += 1;
    CHECK_EQ(FST_STALE, fst_take(a, &forged, &out));
    CHECK_EQ(1, state_of(a).in_flight);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    CHECK(filled(out.data, 64, 8));
    fst_drop(a, &out);
    tear_down();
}

static void free_for_everyone(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child), out, taken;
    struct fst_handle h;
    struct fst_message m;
    fill(ref.data, 64, 9);
    fst_handle_of(a, &ref, &h);
    fst_share(a, &ref, &m);
    CHECK_EQ(FST_OK, fst_free(a, &ref));
    CHECK_EQ(FST_STALE, fst_free(a, &ref));
    CHECK_EQ(FST_STALE, fst_resolve(a, &h, &out));
    CHECK_EQ(FST_OK, fst_take(a, &m, &taken)); /* an in-flight reference keeps the bytes */
    fst_drop(a, &ref);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    CHECK(filled(taken.data, 64, 9));
    CHECK_EQ(FST_STALE, fst_take(a, &m, &out)); /* the second reading is a bare handle */
    CHECK(filled(taken.data, 64, 9));
    fst_drop(a, &taken);
    /* Private and freed: no batch needed. */
    ref = alloc_one(a, child);
    CHECK_EQ(FST_OK, fst_free(a, &ref));
    fst_drop(a, &ref);
    CHECK(!(word_of(&ref) & FST_WORD_FLAGS));
    tear_down();
}

/* ---- other processes ---- */

static void between_processes(void)
{
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(receive, post);
    struct fst_ref ref = alloc_one(a, child);
    *post = (struct post){.nbytes = 64, .seed = 11};
    fill(ref.data, 64, 11);
    fst_handle_of(a, &ref, &post->h);
    fst_share(a, &ref, &post->m);
    fst_drop(a, &ref);
    fst_barrier(a, FST_FOREVER);
    TELL(p, 't');
    uint64_t generation = fst_word_gen(word_of(&ref));
    settle(a);
    CHECK_EQ(generation, fst_word_gen(word_of(&ref))); /* it lives on there */
    struct fst_ref again;
    CHECK_EQ(FST_OK, fst_resolve(a, &post->h, &again));
    TELL(p, 'd');
    settle(a);
    CHECK(filled(again.data, 64, 11));
    TELL(p, 'h');
    fst_drop(a, &again);
    settle(a);
    TELL(p, 'c');
    uint32_t holders[4];
    CHECK_EQ(1, fst_holders(a, &ref, holders, 4));
    TELL(p, 'f');
    TELL(p, 's');
    CHECK_EQ(FST_STALE, fst_resolve(a, &post->h, &again));
    TELL(p, 'd');
    settle(a);
    TELL(p, 's');
    peer_end(&p);
    tear_down();
    munmap(post, sizeof *post);
}

/* What only a killed process held comes back; what is in flight from it stays. */
static void killed_holder(void)
{
    struct post *post = shared_memory(sizeof *post);
    set_up();
    struct peer p = peer_start(receive, post);
    struct fst_ref ref = alloc_one(a, child), out;
    *post = (struct post){.nbytes = 64, .seed = 12};
    fill(ref.data, 64, 12);
    fst_share(a, &ref, &post->m);
    fst_handle_of(a, &ref, &post->h);
    fst_drop(a, &ref);
    TELL(p, 't');
    settle(a);
    CHECK_EQ(FST_OK, fst_resolve(a, &post->h, &out));
    peer_kill(&p);
    settle(a);
    CHECK(filled(out.data, 64, 12));
    fst_drop(a, &out);
    settle(a);
    CHECK_EQ(FST_STALE, fst_resolve(a, &post->h, &out));
    CHECK_EQ(1, state_of(a).processes);
    tear_down();
    munmap(post, sizeof *post);
}

static void sender_exits(struct peer *parent, void *context)
{
    struct post *post = context;
    struct fst_ref ref = alloc_one(a, child);
    fill(ref.data, 64, 13);
    CHECK_EQ(FST_OK, fst_share(a, &ref, &post->m));
    peer_say(parent, 's');
    peer_hear(parent);
    fst_arena_unref(a);
}

static void sender_gone_before_receiver(void)
{
    struct post *post = shared_memory(sizeof *post);
    struct fst_ref out;
    set_up();
    for (int killed = 0; killed < 2; killed++) {
        struct peer p = peer_start(sender_exits, post);
        PEER_WAIT(&p, 's');
        if (killed)
            peer_kill(&p);
        else
            peer_end(&p);
        fst_barrier(a, FST_FOREVER);
        struct fst_inflight_info info;
        CHECK_EQ(1, fst_inflight_list(a, &info, 1));
        CHECK_EQ(p.pid, info.pid);
        CHECK_EQ(64, info.nbytes);
        CHECK_EQ(FST_OK, fst_take(a, &post->m, &out));
        CHECK(filled(out.data, 64, 13));
        fst_drop(a, &out);
    }
    CHECK_EQ(1, state_of(a).processes);
    tear_down();
    munmap(post, sizeof *post);
}

static void dropped_message(void)
{
    set_up();
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_message m;
    fst_share(a, &ref, &m);
    fst_drop(a, &ref);
    CHECK_EQ(0, fst_inflight_drop_from(a, FST_FOREVER, UINT64_MAX, 0, false)); /* none is so old */
    CHECK_EQ(0, fst_inflight_drop_from(a, 0, make_group(a, "other", fst_group_root(a), FST_NO_LIMIT, 0), 0, false));
    CHECK_EQ(1, fst_inflight_drop_from(a, 0, fst_group_root(a), 0, false));
    settle(a);
    CHECK_EQ(FST_STALE, fst_take(a, &m, &out));
    tear_down();
}

TEST_MAIN(CASE(stale_handles), CASE(guessed_handles), CASE(random_handles), CASE(message_read_twice), CASE(old_message_after_newer),
          CASE(same_object_twice), CASE(entry_of_another_life), CASE(condemned_while_held), CASE(forged_message),
          CASE(free_for_everyone), CASE(between_processes), CASE(killed_holder), CASE(sender_gone_before_receiver),
          CASE(dropped_message))
