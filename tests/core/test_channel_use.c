/* A ring that ends while its process looks at what it has open: after the calls were told of those
 * that had ended, and before they are counted. No call was told of this one, so it stays until the
 * next look. The parent sees the barrier that lies in between (ptrace), and ends the ring there.
 * And what a channel says of how much of its ring was ever used.
 */
#include <linux/membarrier.h>
#include <sys/syscall.h>

#include "channel/use.h"
#include "platform/membarrier.h"
#include "reclaim/letters.h"
#include "reclaim/reaper.h"
#include "traced.h"

/* What the child saw, in shared memory. */
struct seen {
    bool first, second; /* let go of by the first look, */
    bool at_last;       /* and the second ring by the next one */
};

static fst_channel_use *open_channel(fst_arena *a, const char *name)
{
    struct fst_channel_spec spec = {.name = name, .capacity = 8, .inline_bytes = 64, .group = fst_group_root(a)};
    return open_channel_as(a, &spec);
}

/* The first ring has ended, the second one has not, and no thread is in a call of either. */
static void look(fst_arena *a, struct seen *seen)
{
    static uint32_t calls = 1, away;
    fst_channel_use *first = open_channel(a, "first"), *second = open_channel(a, "second");
    REQUIRE(fst_channel_destroy(first) == FST_OK);
    fst_reaper_stop(a, true); /* which would look, too */
    fst_channel_count(first, &calls, &away, 1);
    fst_channel_count(second, &calls, &away, 1);
    fst_membarrier_near(); /* the first one registers the process */
    stop_for_the_tracer();
    fst_uses_let_go(a);
    seen->first = first->gone;
    seen->second = second->gone;
    fst_uses_let_go(a);
    seen->at_last = second->gone;
    fst_channel_leave(first);
    fst_channel_leave(second);
}

/* The ring that is to end at the child's first barrier; NULL: it has. */
static void end_at_the_barrier(pid_t pid, const struct __ptrace_syscall_info *call, void *ring)
{
    fst_channel_use **u = ring;
    (void)pid;
    if (*u && call->entry.nr == SYS_membarrier && call->entry.args[0] == MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
        CHECK_EQ(FST_OK, fst_channel_destroy(*u));
        *u = NULL;
    }
}

static void ends_while_others_are_counted(void)
{
    if (!fst_membarrier_usable())
        return; /* nobody looks */
    const char *unable = cannot_trace();
    if (unable) {
        SKIP(unable);
        return;
    }
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *ring = open_channel(a, "second"), *to_end = ring;
    struct seen *seen = shared_memory(sizeof *seen);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        look(a, seen);
        fst_arena_unref(a);
        _exit(0);
    }
    see_system_calls(pid, end_at_the_barrier, &to_end);
    CHECK(!to_end);
    CHECK(seen->first);
    CHECK(!seen->second);
    CHECK(seen->at_last);
    fst_channel_leave(ring);
    settle(a);
    settle(a);
    CHECK_EQ(0, fst_channel_list(a, NULL, 0));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

/* A thread that sleeps in a call is not there in a forked child, where it keeps nothing. */
static void a_forked_child_counts_its_own(void)
{
    fst_arena *a = anonymous(64 * MIB);
    fst_channel_use *u = open_channel(a, "first"), *other = open_channel(a, "second");
    uint32_t calls = 3, away = 2, own = 2, none = 0; /* two sleep; one is in a call and forks */
    fst_channel_count(u, &calls, &away, 1);
    fst_channel_count(other, &own, &none, 1);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(calls != 1 || away != 0 || own != 2);
    int status;
    CHECK_EQ(pid, test_wait(pid, &status));
    CHECK_EQ(0, status);
    CHECK_EQ(3, calls);
    CHECK_EQ(2, away);
    fst_channel_leave(u);
    fst_channel_leave(other);
    fst_arena_unref(a);
}

/* What a batch, the look at a channel and the burial of who used it go through: what was used. */
static void bounds_of_what_was_used(void)
{
    fst_arena *b = anonymous(64 * MIB);
    struct fst_channel_spec spec = {.name = "x", .capacity = 1000, .inline_bytes = 64, .group = fst_group_root(b)};
    for (int life = 0; life < 2; life++) {
        struct fst_letter letter = {.bytes = "x", .nbytes = 1};
        struct fst_channel_info info;
        struct fst_received got;
        char bytes[64];
        fst_channel_use *u = open_channel_as(b, &spec);
        const struct fst_channel *c = fst_channel_at(b, (uint32_t)fst_channel_id(u));
        CHECK_EQ(0, c->nodes_top);
        CHECK_EQ(0, c->refs_top);
        CHECK_EQ(1, fst_letters_looks(b, UINT64_MAX));
        CHECK_EQ(FST_OK, fst_channel_put(u, &letter));
        CHECK(c->nodes_top > 0 && c->nodes_top < spec.capacity / 2);
        CHECK_EQ(0, c->refs_top);
        CHECK_EQ(0, fst_channel_kind(b, fst_channel_id(u)));
        CHECK_EQ(FST_OK, fst_channel_get_info(b, fst_channel_id(u), &info));
        CHECK_EQ(1, info.waiting);
        struct fst_ref ref = alloc_bytes(b, 100);
        letter.ref = &ref;
        CHECK_EQ(FST_OK, fst_channel_put(u, &letter));
        CHECK(c->refs_top > 0 && c->refs_top <= c->nodes_top);
        CHECK_EQ(1 + c->refs_top, fst_letters_looks(b, UINT64_MAX));
        CHECK_CLEAN(b);
        letter.ref = NULL;
        for (uint32_t i = 0; i < 3000; i++) {
            CHECK_EQ(FST_OK, fst_channel_put(u, &letter));
            CHECK_EQ(FST_OK, fst_channel_get(u, bytes, &got));
            if (got.has_ref)
                fst_drop(b, &got.ref);
        }
        CHECK_EQ(c->cells, c->nodes_top);
        CHECK(c->refs_top < c->nodes_top);
        CHECK_EQ(FST_OK, fst_channel_get_info(b, fst_channel_id(u), &info));
        CHECK_EQ(2, info.waiting);
        CHECK_CLEAN(b);
        uint64_t id = fst_channel_id(u);
        CHECK_EQ(FST_OK, fst_channel_destroy(u));
        fst_channel_leave(u);
        settle(b);
        CHECK_EQ(UINT32_MAX, fst_channel_kind(b, id));
    }
    fst_arena_unref(b);
}

TEST_MAIN(CASE(ends_while_others_are_counted), CASE(a_forked_child_counts_its_own), CASE(bounds_of_what_was_used))
