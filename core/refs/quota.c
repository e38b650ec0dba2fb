#include "refs/quota.h"

#include <stdio.h>
#include <string.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "refs/sender.h"
#include "region/lock.h"

#define NAMED 4u    /* senders that an error names */
#define LOT   4096u /* messages sent between two counts, at most */
#define ROOT  0u    /* the root group */

/* A count of what is in flight. */
struct census {
    uint32_t all, beyond;                /* all of it; what lies beyond FST_INFLIGHT_OPEN */
    uint32_t of_group;                   /* messages of the group that was asked for */
    uint32_t by_slot[FST_MAX_PROCESSES]; /* messages by the sender's slot */
    uint32_t example[FST_MAX_PROCESSES]; /* one entry of each sender */
};

static void count(const struct fst_arena *a, uint32_t group, struct census *c)
{
    uint32_t top = fst_inflight_top(a), open = FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT));
    memset(c, 0, sizeof *c);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_inflight *e = fst_inflight_at(a, i);
        uint64_t word = fst_load_acquire(&e->word);
        if (!(word & FST_INFLIGHT_LIVE))
            continue;
        c->all++;
        c->beyond += i >= open;
        if (!fst_inflight_said(e, word) || !fst_inflight_has_sender(e))
            continue;
        c->of_group += fst_load_relaxed(&e->group) == group;
        uint32_t slot = fst_lock_owner(fst_load_relaxed(&e->sender));
        if (slot < FST_MAX_PROCESSES) {
            c->by_slot[slot]++;
            c->example[slot] = i;
        }
    }
}

static uint32_t least(uint32_t x, uint32_t y)
{
    return x < y ? x : y;
}

static uint32_t below(uint32_t bound, uint32_t used)
{
    return used < bound ? bound - used : 0;
}

/* How many more messages this process may send before the next count. */
static uint32_t allowance(struct fst_arena *a, uint32_t group)
{
    struct census c;
    count(a, group, &c);
    uint32_t mine = c.by_slot[a->slot % FST_MAX_PROCESSES];
    uint32_t entries = fst_count(a, FST_T_INFLIGHT), each = FST_INFLIGHT_SHARE(entries);
    uint32_t shares = each * FST_MAX_PROCESSES, processes = fst_process_top(a) + 1;
    /* This count does not see what other processes were allowed to use and have not used yet. That
     * is as much as the shares at most, and so much is kept free beside them. */
    uint32_t room = below(entries - FST_INFLIGHT_OPEN(entries) - 2 * shares, c.beyond) / processes;
    uint32_t more = least(least(room, shares / processes), LOT);
    more = least(more, below(FST_INFLIGHT_MOST(entries), mine));
    /* The root group is the group of all who have none. Its bound would leave only the shares to
     * all of them when a single sender has reached its own. */
    if (group != ROOT)
        more = least(more, below(FST_INFLIGHT_MOST(entries), c.of_group));
    uint32_t share = below(each, mine);
#ifdef FST_MUTANT_NO_SHARE
    share = 0;
#endif
    return more > share ? more : share;
}

bool fst_quota_spend(struct fst_arena *a, uint32_t group)
{
#ifdef FST_MUTANT_NO_QUOTA
    return true;
#endif
    uint64_t *left = &a->quota[group % FST_QUOTA_GROUPS], seen = fst_load_relaxed(left);
    /* Threads may overwrite each other's number: then some more entries are used. */
    if ((uint32_t)(seen >> 32) != group || !(uint32_t)seen)
        seen = (uint64_t)group << 32 | allowance(a, group);
    bool some = (uint32_t)seen != 0;
    fst_store_relaxed(left, some ? seen - 1 : seen);
    return some;
}

int fst_quota_full(struct fst_arena *a, uint32_t group, const char *why)
{
    struct census c;
    char text[400];
    int at = 0, size = (int)sizeof text;
    count(a, group, &c);
    text[0] = 0;
    for (uint32_t n = 0; n < NAMED; n++) {
        uint32_t most = 0;
        for (uint32_t slot = 1; slot < FST_MAX_PROCESSES; slot++)
            most = c.by_slot[slot] > c.by_slot[most] ? slot : most;
        if (!c.by_slot[most] || at >= size)
            break;
        const struct fst_inflight *e = fst_inflight_at(a, c.example[most]);
        uint32_t sender = fst_load_relaxed(&e->sender);
        bool alive = fst_slot_alive(a, fst_lock_owner(sender), sender >> FST_LOCK_GEN_SHIFT);
        at += snprintf(text + at, (size_t)(size - at), "%s%u by pid %d (%.15s%s)", n ? ", " : "", c.by_slot[most],
                       fst_load_relaxed(&e->pid), e->command, alive ? "" : ", dead");
        c.by_slot[most] = 0;
    }
    return fst_fail(FST_FULL, "%s: %s not taken, %u of this group; sent: %s", why,
                    fst_many(c.all, "message is in flight and was", "messages are in flight and were"), c.of_group,
                    text[0] ? text : "nobody knows by whom");
}
