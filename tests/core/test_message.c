/* Messages that nobody takes: given up by who asks, by time, and how many there may be. */
#include "platform/futex.h"
#include "refs/inflight.h"
#include "support.h"

#define SOON  (20 * FST_MS)
#define NEVER (3600ull * 1000 * FST_MS)

static fst_arena *a;
static uint64_t cache, group, child;

static uint64_t expiring(const char *name, uint64_t parent, uint64_t ns)
{
    struct fst_group_spec spec = {.name = name, .parent = parent, .messages_expire = ns, .set_messages_expire = true};
    uint64_t id = 0;
    bool created;
    if (fst_group_open(a, &spec, &id, &created))
        TEST_FAIL("group %s: %s", name, fst_last_error());
    return id;
}

static void set_up(uint64_t ns)
{
    a = anonymous(64 * MIB);
    cache = make_cache(a, "c", 64, 0);
    group = expiring("g", fst_group_root(a), ns);
    child = child_of(a, cache, group);
}

static void tear_down(void)
{
    fst_group_unref(a, group);
    settle(a);
    CHECK_EQ(0, used_bytes(a));
    CHECK_CLEAN(a);
    fst_arena_unref(a);
}

static struct fst_message send_one(void)
{
    struct fst_ref ref = alloc_one(a, child);
    struct fst_message m;
    if (fst_share(a, &ref, &m))
        TEST_FAIL("share: %s", fst_last_error());
    fst_drop(a, &ref);
    return m;
}

/* Sleeping only: whoever gives them up does so by itself. A test that waits in vain is killed by
 * its time. */
static void wait_until_in_flight(size_t n)
{
    uint32_t word = 0;
    while (fst_inflight_count(a) != n)
        fst_futex_wait(&word, 0, FST_MS);
}

static void check_stale(const struct fst_message *m, const char *why)
{
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER)); /* nobody holds it any more */
    CHECK_EQ(FST_STALE, fst_take(a, m, &out));
    if (!strstr(fst_last_error(), why))
        TEST_FAIL("not \"%s\": %s", why, fst_last_error());
}

/* ---- expiry ---- */

static void expired_by_itself(void)
{
    set_up(SOON);
    for (int i = 0; i < 3; i++) {
        struct fst_message m = send_one();
        CHECK_EQ(1, fst_inflight_count(a));
        wait_until_in_flight(0);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
        CHECK_EQ(0, used_bytes(a));
        check_stale(&m, "expired");
    }
    tear_down();
}

/* Each in its own time: what lasts longer is not given up with what does not, and is not forgotten
 * after it. */
static void in_its_own_time(void)
{
    set_up(SOON);
    uint64_t later = expiring("later", fst_group_root(a), 5 * SOON), never = expiring("never", fst_group_root(a), NEVER),
             soon = child;
    child = child_of(a, cache, never);
    send_one();
    child = child_of(a, cache, later);
    send_one();
    child = soon;
    send_one();
    child = child_of(a, cache, fst_group_root(a));
    send_one();
    CHECK_EQ(4, fst_inflight_count(a));
    wait_until_in_flight(2);
    CHECK_EQ(0, fst_inflight_expire(a));
    struct fst_inflight_info info[2];
    CHECK_EQ(2, fst_inflight_list(a, info, 2));
    CHECK(info[0].group == never || info[1].group == never);
    fst_group_unref(a, later);
    fst_group_unref(a, never);
    settle(a);
    tear_down();
}

static void taken_in_time_or_held(void)
{
    set_up(SOON);
    struct fst_ref ref = alloc_one(a, child), out;
    struct fst_message m;
    CHECK_EQ(FST_OK, fst_share(a, &ref, &m));
    wait_until_in_flight(0);
    CHECK_EQ(FST_OK, fst_take(a, &m, &out)); /* a bare handle of an object that somebody holds */
    fst_drop(a, &out);
    fst_drop(a, &ref);
    m = send_one();
    if (fst_take(a, &m, &out) == FST_OK) { /* unless we were not scheduled for so long */
        CHECK_EQ(0, fst_inflight_count(a));
        fst_drop(a, &out);
    }
    tear_down();
}

static void inherited_and_matched(void)
{
    set_up(SOON);
    struct fst_group_spec spec = {
        .name = "g", .parent = fst_group_root(a), .messages_expire = 2 * SOON, .set_messages_expire = true};
    struct fst_group_info info;
    uint64_t id;
    bool created;
    CHECK_EQ(FST_MISMATCH, fst_group_open(a, &spec, &id, &created));
    CHECK(strstr(fst_last_error(), "messages_expire") != NULL);
    uint64_t below = make_group(a, "below", group, FST_NO_LIMIT, 0), other = expiring("other", group, 0);
    CHECK_EQ(FST_OK, fst_group_get_info(a, below, &info));
    CHECK_EQ(SOON, info.messages_expire);
    CHECK_EQ(FST_OK, fst_group_get_info(a, other, &info));
    CHECK_EQ(0, info.messages_expire);
    child = child_of(a, cache, below);
    send_one();
    wait_until_in_flight(0);
    fst_group_unref(a, below);
    fst_group_unref(a, other);
    tear_down();
}

static void send_and_wait(struct peer *parent, void *context)
{
    *(struct fst_message *)context = send_one();
    peer_say(parent, 's');
    peer_hear(parent);
}

/* Nobody but the sender has shared anything, and it is gone before the time: an idle process gives
 * the message up. */
static void sender_gone(void)
{
    struct fst_message *m = shared_memory(sizeof *m);
    for (int killed = 0; killed < 2; killed++) {
        set_up(10 * SOON);
        fst_arena_watch(a);
        struct peer p = peer_start(send_and_wait, m);
        PEER_WAIT(&p, 's');
        if (killed)
            peer_kill(&p);
        else
            peer_end(&p);
        wait_until_in_flight(0);
        check_stale(m, "expired");
        tear_down();
    }
    munmap(m, sizeof *m);
}

/* Killed at each write of what `body` does, with so many messages sent before: nothing stays in
 * flight, and nothing is lost.
 */
static void killed_at_each_write(uint64_t expire, int sent, bool watched, uint64_t most,
                                 void (*body)(struct peer *parent, void *context))
{
    if (!fst_has_fault_points()) {
        test_skipped = "built without fault points";
        return;
    }
    for (uint64_t n = 1; n < most; n++) {
        set_up(expire);
        if (watched)
            fst_arena_watch(a);
        for (int i = 0; i < sent; i++)
            send_one();
        struct peer p = peer_start(body, &n);
        bool done = peer_hear(&p) == 'd';
        peer_kill(&p);
        wait_until_in_flight(0);
        CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
        CHECK_EQ(0, used_bytes(a));
        tear_down();
        if (done)
            break;
    }
}

static void share_and_die(struct peer *parent, void *context)
{
    struct fst_ref ref = alloc_one(a, child);
    struct fst_message m;
    fst_fault_arm(*(uint64_t *)context);
    if (fst_share(a, &ref, &m))
        TEST_FAIL("share: %s", fst_last_error());
    fst_fault_arm(0);
    peer_say(parent, 'd'); /* it has passed all of them */
    peer_hear(parent);
}

/* Killed at each write of a share: what it left in flight expires, whether or not it was said when.
 */
static void killed_while_sharing(void)
{
    killed_at_each_write(SOON, 0, true, 100, share_and_die);
}

static void expire_and_die(struct peer *parent, void *context)
{
    fst_fault_arm(*(uint64_t *)context);
    fst_inflight_expire(a);
    fst_fault_arm(0);
    peer_say(parent, 'd');
    peer_hear(parent);
}

/* Killed at each write of giving up what has expired: the rest is given up all the same, and once.
 */
static void killed_while_expiring(void)
{
    killed_at_each_write(1, 3, false, 200, expire_and_die);
}

/* ---- who sent it ---- */

static void dropped_of_the_dead(void)
{
    struct fst_message *m = shared_memory(3 * sizeof *m);
    set_up(NEVER);
    struct peer dead = peer_start(send_and_wait, &m[0]), alive = peer_start(send_and_wait, &m[1]);
    PEER_WAIT(&dead, 's');
    PEER_WAIT(&alive, 's');
    struct fst_message mine = send_one();
    CHECK_EQ(0, fst_inflight_drop_from(a, 0, UINT64_MAX, 0, true));
    peer_kill(&dead);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    struct peer next = peer_start(send_and_wait, &m[2]); /* it has the dead one's slot */
    PEER_WAIT(&next, 's');
    CHECK_EQ(0, fst_inflight_drop_from(a, NEVER, UINT64_MAX, 0, true));
    CHECK_EQ(0, fst_inflight_drop_from(a, 0, fst_group_root(a), 0, true));
    CHECK_EQ(1, fst_inflight_drop_from(a, 0, UINT64_MAX, 0, true));
    check_stale(&m[0], "dropped");
    CHECK_EQ(0, fst_inflight_drop_from(a, 0, UINT64_MAX, dead.pid, false));
    CHECK_EQ(1, fst_inflight_drop_from(a, 0, UINT64_MAX, alive.pid, false));
    check_stale(&m[1], "dropped");
    peer_end(&next); /* it ends by itself, and has the arena no more */
    peer_end(&alive);
    CHECK_EQ(1, fst_inflight_drop_from(a, 0, UINT64_MAX, 0, true));
    CHECK_EQ(1, fst_inflight_count(a));
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_take(a, &mine, &out));
    fst_drop(a, &out);
    tear_down();
    munmap(m, 3 * sizeof *m);
}

static void says_why(void)
{
    set_up(NEVER);
    struct fst_message taken = send_one(), destroyed = send_one();
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_take(a, &taken, &out));
    fst_drop(a, &out);
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    check_stale(&taken, "good for one load");
    CHECK_EQ(FST_OK, fst_group_destroy(a, group));
    CHECK_EQ(FST_OK, fst_barrier(a, FST_FOREVER));
    check_stale(&destroyed, "destroyed");
    settle(a);
    tear_down();
}

/* ---- how many ---- */

static uint32_t send_many(const struct fst_ref *ref)
{
    struct fst_message m;
    uint32_t n = 0;
    while (fst_share(a, ref, &m) == FST_OK)
        n++;
    return n;
}

static void send_the_share(struct peer *parent, void *context)
{
    (void)context;
    struct fst_ref ref = alloc_one(a, child_of(a, cache, fst_group_root(a)));
    CHECK_EQ(FST_INFLIGHT_SHARE(fst_count(a, FST_T_INFLIGHT)),
             send_many(&ref)); /* others have so many in flight that only shares are left */
    peer_say(parent, 'f');
    peer_hear(parent);
    fst_drop(a, &ref);
}

static void send_until_full(struct peer *parent, void *context)
{
    uint32_t *sent = context;
    struct fst_ref ref = alloc_one(a, child);
    *sent = send_many(&ref);
    peer_say(parent, 'f');
    peer_hear(parent);
    fst_drop(a, &ref);
}

/* One sender cannot use up the table for the others, nor one group, whoever sends; the error names
 * who sent what. */
static void bounds(void)
{
    uint32_t *sent = shared_memory(sizeof *sent);
    set_up(NEVER);
    struct fst_ref ref = alloc_one(a, child);
    uint32_t n = send_many(&ref);
    CHECK_EQ(FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)), n);
    char count[64], pid[64];
    snprintf(count, sizeof count, "%u messages", n);
    snprintf(pid, sizeof pid, "%u by pid %d", n, (int)getpid());
    if (!strstr(fst_last_error(), count) || !strstr(fst_last_error(), pid))
        TEST_FAIL("%s", fst_last_error());
    /* Of the same group, which has its bound, too: the sender's share. */
    struct peer same = peer_start(send_until_full, sent);
    PEER_WAIT(&same, 'f');
    CHECK_EQ(FST_INFLIGHT_SHARE(fst_count(a, FST_T_INFLIGHT)), *sent);
    /* Room that was made is used again. */
    struct fst_inflight_info *info = malloc(sizeof *info);
    CHECK_EQ(n + *sent, fst_inflight_list(a, info, 1));
    struct fst_message m = {.handle = info->handle, .entry = info->entry, .tag = info->tag};
    struct fst_ref out;
    CHECK_EQ(FST_OK, fst_take(a, &m, &out));
    fst_drop(a, &out);
    CHECK_EQ(1, send_many(&ref));
    free(info);
    peer_end(&same);
    fst_drop(a, &ref);
    settle(a);
    tear_down();
    munmap(sent, sizeof *sent);
}

/* Who is in no group of its own is no part of a sender's beside it that has reached its bound. */
static void root_group(void)
{
    uint32_t *sent = shared_memory(sizeof *sent);
    set_up(NEVER);
    child = child_of(a, cache, fst_group_root(a));
    struct fst_ref ref = alloc_one(a, child);
    CHECK_EQ(FST_INFLIGHT_MOST(fst_count(a, FST_T_INFLIGHT)), send_many(&ref));
    struct peer other = peer_start(send_until_full, sent);
    PEER_WAIT(&other, 'f');
    /* and not its share alone */
    CHECK(*sent > FST_INFLIGHT_MOST(fst_count(a, FST_T_INFLIGHT)) / 4);
    struct peer late = peer_start(send_the_share, NULL);
    PEER_WAIT(&late, 'f');
    peer_end(&late);
    peer_end(&other);
    fst_drop(a, &ref);
    settle(a);
    tear_down();
    munmap(sent, sizeof *sent);
}

/* Many senders and groups use up all but the shares, which those have who have little in flight. */
static void shares(void)
{
    uint32_t *sent = shared_memory(sizeof *sent);
    set_up(NEVER);
    struct peer p[3];
    uint32_t all = 0;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "g%d", i);
        uint64_t own = expiring(name, fst_group_root(a), NEVER);
        child = child_of(a, cache, own);
        p[i] = peer_start(send_until_full, sent);
        PEER_WAIT(&p[i], 'f');
        CHECK(*sent >= FST_INFLIGHT_SHARE(fst_count(a, FST_T_INFLIGHT)));
        all += *sent;
        fst_group_unref(a, own);
    }
    CHECK(all <= fst_count(a, FST_T_INFLIGHT) - FST_INFLIGHT_SHARE(fst_count(a, FST_T_INFLIGHT)) * (FST_MAX_PROCESSES - 3));
    CHECK(all > FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)) +
                    /* the second one had a good part of what is beyond */
                    FST_INFLIGHT_MOST(fst_count(a, FST_T_INFLIGHT)) / 4);
    struct peer late[2];
    for (int i = 0; i < 2; i++) {
        late[i] = peer_start(send_the_share, NULL);
        PEER_WAIT(&late[i], 'f');
    }
    /* the last one first: it has inherited the pipes of those before it */
    for (int i = 2; i > 0; i--)
        peer_end(&late[i - 1]);
    for (int i = 3; i > 0; i--)
        peer_end(&p[i - 1]);
    settle(a);
    tear_down();
    munmap(sent, sizeof *sent);
}

TEST_MAIN(CASE(expired_by_itself), CASE(in_its_own_time), CASE(taken_in_time_or_held), CASE(inherited_and_matched),
          CASE(sender_gone), CASE(killed_while_sharing), CASE(killed_while_expiring), CASE(dropped_of_the_dead), CASE(says_why),
          CASE(bounds), CASE(root_group), CASE(shares))
