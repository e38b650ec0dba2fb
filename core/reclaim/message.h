/* message.h - messages that nobody will take: given up by who asks for it, or because they expired.
 *
 * Giving a message up is taking it and dropping it again: an entry of our own comes first, then the
 * in-flight entry is ended, then ours is DROPPED, so that a batch asks for the object. Killed in
 * between, the process has an entry that counts as dropped, as after any kill.
 *
 * Who sends a message of a group that expires makes sb->expire_at no later than that
 * (fst_message_sent); whoever runs a batch then gives up what has expired, and sets it to the
 * earliest time that is left. PAIR(expiry): it is set to "never" before the look at the entries, so
 * that either the look sees an entry, or its sender makes the time earlier afterwards. A sender may
 * be killed before it does: so a batch that buries somebody looks, too.
 */
#ifndef FST_RECLAIM_MESSAGE_H
#define FST_RECLAIM_MESSAGE_H

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "region/region.h"

/* Which messages: all conditions have to be met. */
struct fst_message_filter {
    uint64_t older_than; /* ns */
    uint64_t group;      /* id; UINT64_MAX: any */
    int32_t pid;         /* of the sender; 0: any */
    bool dead;           /* only of senders that are not attached any more: the kernel says so */
};

/* Give up those; how many. *dropped becomes true when that left a request to the reaper. */
size_t fst_message_drop(struct fst_thread *t, const struct fst_message_filter *filter, bool *dropped);

/* A message of an object, or group, of the group with this index is in flight from now on. True: it
 * is the first to expire. */
bool fst_message_will_expire(struct fst_arena *a, uint64_t ns);
static inline bool fst_message_sent(struct fst_arena *a, uint32_t group)
{
    uint64_t ns = group != FST_NONE ? fst_load_relaxed(&fst_group_at(a, group)->messages_expire) : 0;
    return __builtin_expect(ns != 0, 0) && fst_message_will_expire(a, ns);
}

/* Has something expired, as far as is known? */
static inline bool fst_message_expiring(const struct fst_arena *a, uint64_t now)
{
    return fst_load_relaxed(&a->sb->expire_at) <= now;
}

/* How long until then, ns; UINT64_MAX: nothing will. */
uint64_t fst_message_expires_in(const struct fst_arena *a);

/* Give up what has expired; how many. Part of a batch. */
size_t fst_message_expire(struct fst_thread *t, bool *dropped);

#endif
