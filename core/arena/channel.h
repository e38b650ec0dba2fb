/* channel.h - what the calls of channels, topics and locks have in common. */
#ifndef FST_ARENA_CHANNEL_H
#define FST_ARENA_CHANNEL_H

#include "channel/channel.h"
#include "channel/use.h"
#include "platform/error.h"
#include "rcu/thread.h"

/* Fail with this code (FST_CLOSED, or FST_STALE for a caller that may open another one), and say
 * why. */
static inline int fst_channel_ended(int code)
{
    return fst_fail(code, "it has ended: it was destroyed, or its group was");
}

/* May the calling thread put and get? *t receives its state. */
static inline int fst_channel_usable(const struct fst_ring_view *v, struct fst_thread **t)
{
    *t = fst_thread_get(v->a);
    if (__builtin_expect(!*t, 0))
        return fst_thread_refused(v->a);
    return __builtin_expect(fst_use_has_ended(v), 0) ? fst_channel_ended(FST_CLOSED) : FST_OK;
}

/* What one with these flags is called, for people. */
static inline const char *fst_channel_noun(uint32_t flags)
{
    return flags & FST_CHANNEL_TOPIC ? "topic" : flags & FST_CHANNEL_LOCK ? "lock" : "channel";
}

/* Fail with FST_END: the channel was closed, and what follows from that. */
static inline int fst_channel_closed(const struct fst_channel_use *u, const char *therefore)
{
    const struct fst_channel *c = fst_channel_at(u->v.a, (uint32_t)u->id);
    return fst_fail(FST_END, "%s%s%.63s%s of arena %s was closed: %s", fst_channel_noun(c->flags), *c->name ? " '" : "", c->name,
                    *c->name ? "'" : "", fst_arena_called(u->v.a), therefore);
}

/* Let go of the object of a node that this process owns, through an entry of its own, so that a
 * batch asks for the object. FST_FULL: there is no free entry, and the node still refers to the
 * object. */
int fst_channel_let_go(const struct fst_ring_view *v, struct fst_thread *t, uint32_t node);

#endif
