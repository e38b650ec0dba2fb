/* message.h - messages that nobody will take: given up on request, or because they expired.
 *
 * To give a message up is to take it and drop it again. An entry of this process comes first, then
 * the in-flight entry is ended, and then that entry is DROPPED, so that a batch asks for the
 * object. After a kill in between, the process has an entry that counts as dropped, as after any
 * kill.
 *
 * Whoever sends a message of a group whose messages expire makes sb->expire_at no later than that
 * (fst_message_sent). Whoever runs a batch then gives up what has expired, and sets it to the
 * earliest time that is left. PAIR(expiry): it is set to "never" before the look at the entries, so
 * that either the look sees an entry, or the entry's sender makes the time earlier afterwards. A
 * sender may be killed before it does that: so a batch that buries somebody looks as well.
 */
#ifndef FST_RECLAIM_MESSAGE_H
#define FST_RECLAIM_MESSAGE_H

#include "platform/atomics.h"
#include "rcu/thread.h"
#include "region/region.h"

/* Conditions that a message has to meet, all of them. */
struct fst_message_filter {
    uint64_t older_than; /* ns */
    uint64_t group;      /* id; UINT64_MAX: any */
    int32_t pid;         /* of the sender; 0: any */
    /* only messages of senders that are not attached any more, as the kernel says */
    bool dead;
};

/* Give up the messages that meet the filter; the result is their number. *dropped becomes true when
 * that left a request to the reaper. */
size_t fst_message_drop(struct fst_thread *t, const struct fst_message_filter *filter, bool *dropped);

/* Note that a message of an object of the group with this index, or of that group, is in flight.
 * True: it is the first to expire. */
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

/* How many ns until then; UINT64_MAX: nothing will expire. */
uint64_t fst_message_expires_in(const struct fst_arena *a);

/* Give up what has expired, as a part of a batch; the result is the number of messages. *dropped as
 * above. */
size_t fst_message_expire(struct fst_thread *t, bool *dropped);

#endif
