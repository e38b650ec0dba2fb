/* use.h - what a process has of a channel, topic or lock that it has open. Its own memory: a kill
 * leaves nothing of it.
 *
 * The reference to the ring is let go of by who leaves; of a ring that has ended, also by the next
 * look at all uses, while nobody is in a call: so that what nobody thinks of any more keeps no
 * memory of a group that was destroyed. Calls pay nothing for it. Each is counted by its caller,
 * with a plain store perhaps, and looks at `v.over` after that; the look makes `v.over` say that it
 * is over, has all threads of this process pass a barrier, and counts after that:
 * PAIR(channel-use). So either the call sees that, and touches the ring no more, or it is counted.
 * Who does not count its calls keeps the ring until it leaves.
 */
#ifndef FST_CHANNEL_USE_H
#define FST_CHANNEL_USE_H

#include "channel/ring.h"

struct fst_channel_use {
    struct fst_ring_view v; /* put and get need it at each call, so it comes first */
    struct fst_ref ring;    /* while this is held, the ring is not released */
    uint64_t id;
    /* Of the caller: `idle`, and one for each call and each subscription. NULL: nobody counts. */
    const uint32_t *calls;
    uint32_t idle;
    uint32_t subscriptions;
    bool gone;                           /* the ring was let go of */
    struct fst_channel_use *prev, *next; /* all of this attachment, under fst_local_mutex */
};

/* From now on it is looked at. */
void fst_use_begin(struct fst_channel_use *u);
/* And no longer. True: the ring is still to be let go of. */
bool fst_use_end(struct fst_channel_use *u);
void fst_use_count(struct fst_channel_use *u, const uint32_t *calls, uint32_t idle);

/* Let go of the rings that have ended and that nobody of this process is in: true if a batch has
 * something to take now. Never waits. */
bool fst_uses_let_go(struct fst_arena *a);

/* Has the ring ended, so that a call is to be refused? */
static inline bool fst_use_has_ended(const struct fst_ring_view *v)
{
    return fst_load_relaxed(fst_load_relaxed(&v->over)) != 0;
}

/* Is the ring not to be touched any more? */
static inline bool fst_use_is_over(const struct fst_ring_view *v)
{
    return fst_load_relaxed(&v->over) != &v->ring->ended;
}

#endif
