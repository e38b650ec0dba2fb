/* channel.h - what a process has of a channel or a lock that it has open. Its own memory: a kill
 * leaves nothing of it. */
#ifndef FST_ARENA_CHANNEL_H
#define FST_ARENA_CHANNEL_H

#include "channel/channel.h"
#include "platform/error.h"
#include "rcu/thread.h"

struct fst_channel_use {
    struct fst_ring_view v; /* first: what put and get need */
    struct fst_ref ring;    /* keeps it */
    uint64_t id;
};

/* FST_CLOSED, and why. */
static inline int fst_channel_ended(void)
{
    return fst_fail(FST_CLOSED, "it has ended: it was destroyed, or its group was");
}

/* May the calling thread put and get? Its state, then. */
static inline int fst_channel_usable(const struct fst_ring_view *v, struct fst_thread **t)
{
    *t = fst_thread_get(v->a);
    if (__builtin_expect(!*t, 0))
        return fst_thread_refused(v->a);
    return __builtin_expect(fst_load_relaxed(&v->ring->ended), 0) ? fst_channel_ended() : FST_OK;
}

#endif
