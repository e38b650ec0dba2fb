/* use.h - what a process has of a channel, topic or lock that it has open. All of it is the
 * process's own memory, of which a kill leaves nothing.
 *
 * The reference to the ring is let go of by whoever leaves the channel. When the ring has ended,
 * the next look at all uses lets go of it as well, while no thread is in a call: so that a use that
 * nobody thinks of any more keeps no memory of a group that was destroyed.
 *
 * Calls pay nothing for that. Each is counted by its caller, maybe with a plain store, and looks at
 * `v.over` after that. The look makes `v.over` say that the use is over, has all threads of this
 * process pass a barrier, and then counts: PAIR(channel-use). So a call either sees that the use is
 * over, and touches the ring no more, or it is counted. A use whose calls are not counted keeps the
 * ring until it is left.
 */
#ifndef FST_CHANNEL_USE_H
#define FST_CHANNEL_USE_H

#include "channel/ring.h"

struct fst_channel_use {
    struct fst_ring_view v; /* put and get need it at each call, so it comes first */
    struct fst_ref ring;    /* while this is held, the ring is not released */
    uint64_t id;
    /* The caller's word: `idle`, and one more for each call and each subscription. NULL: nobody
     * counts. */
    uint32_t *calls;
    /* How many of these calls may sleep: in threads that a forked child does not have. */
    uint32_t *away;
    uint32_t idle;
    uint32_t subscriptions;
    bool gone; /* the ring was let go of */
    /* the list of this attachment's uses, under fst_local_mutex */
    struct fst_channel_use *prev, *next;
};

/* Put the use on the list of those that are looked at. */
void fst_use_begin(struct fst_channel_use *u);
/* Take it off the list. True: the ring is still to be let go of. */
bool fst_use_end(struct fst_channel_use *u);
/* Have the calls of the use counted from now on: fst_channel_count. */
void fst_use_count(struct fst_channel_use *u, uint32_t *calls, uint32_t *away, uint32_t idle);
/* In a forked child: the calls that slept at the fork are those of threads that the child does not
 * have, and nobody will count them down. Under fst_local_mutex. */
void fst_uses_forked(struct fst_arena *a);

/* Let go of the rings that have ended and that no thread of this process is in a call of. True: a
 * batch has something to release now. It never waits. */
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
