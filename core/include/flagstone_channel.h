/* flagstone_channel.h - channels: bounded queues of messages, each message for one taker; and
 * topics and locks. All are found by name. It is a part of flagstone.h, whose conventions hold here
 * as well.
 *
 * A message is some bytes, or an object, or both. No process that is stopped or killed anywhere
 * holds up another one, or loses it a message. What a killed process had taken is lost with it, or,
 * with acknowledgements, comes again.
 */
#ifndef FLAGSTONE_CHANNEL_H
#define FLAGSTONE_CHANNEL_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What was taken and not acknowledged goes back into the queue when its taker dies. */
#define FST_CHANNEL_ACK 1u
/* The channel lives without a process that has it open, until it is destroyed, or its group or its
 * arena ends. */
#define FST_CHANNEL_LASTING 2u
/* The channel is a topic: see below. Topics have names of their own. */
#define FST_CHANNEL_TOPIC 4u
/* The channel is a lock: see below. Locks have names of their own; capacity 1, inline_bytes 0. */
#define FST_CHANNEL_LOCK 8u
/* For fst_channel_open alone: one that is there may have another capacity, or other inline_bytes,
 * which are those of one that is created. */
#define FST_CHANNEL_ANY_CAPACITY 16u
#define FST_CHANNEL_ANY_INLINE   32u

/* A channel to be opened. */
struct fst_channel_spec {
    const char *name;      /* 1 to 63 bytes; NULL: without a name */
    uint32_t capacity;     /* messages that may wait; 1 to 1,048,576 */
    uint32_t inline_bytes; /* bytes of a message that lie in the queue itself, at most 4,000 */
    uint32_t flags;        /* FST_CHANNEL_* */
    uint64_t group;        /* id of the group to which its memory is charged */
};

/* A process's use of a channel. Many threads may use it at once, and after a fork the child may,
 * too. */
typedef struct fst_channel_use fst_channel_use;

/* Open the channel of this name, or create it; *created says which. FST_MISMATCH: it exists with
 * other parameters (`group` apart). FST_EXISTS, FST_MISSING as `how` says; FST_INVALID, FST_FULL,
 * FST_LIMIT, FST_CLOSED, FST_READONLY, FST_HELD. */
int fst_channel_open(fst_arena *arena, const struct fst_channel_spec *spec, enum fst_create how, fst_channel_use **out,
                     bool *created);
/* Let others open the channel who have no name: make a message that keeps the channel until it is
 * taken; fst_channel_join opens it from the message. FST_FULL; FST_CLOSED: the channel has ended;
 * FST_STALE, FST_FOREIGN. */
int fst_channel_share(fst_channel_use *use, struct fst_message *out);
int fst_channel_join(fst_arena *arena, const struct fst_message *message, fst_channel_use **out);
/* Let go of the channel; no thread uses it meanwhile or afterwards. The last process to do so ends
 * the channel, unless it is lasting. */
void fst_channel_leave(fst_channel_use *use);
/* Have the calls counted that are in the channel, so that its memory is let go of when it has ended
 * and no call is in it. `calls` is `idle`, and one more for each call and each subscription: the
 * caller counts it up before each and down after it, and keeps it until fst_channel_leave(). So is
 * `away`, for the calls among them that may sleep: these are not counted any more in a forked
 * child, which does not have their threads.
 * Without that, this process keeps the channel's memory until then, also that of a destroyed
 * group. */
void fst_channel_count(fst_channel_use *use, uint32_t *calls, uint32_t *away, uint32_t idle);
uint64_t fst_channel_id(const fst_channel_use *use);
/* About how many messages wait. */
uint32_t fst_channel_length(const fst_channel_use *use);

/* A message to be put. */
struct fst_letter {
    const void *bytes;
    uint32_t nbytes;     /* at most the channel's inline_bytes */
    uint32_t kind;       /* a number of the user's, which the taker gets */
    struct fst_ref *ref; /* an object that the caller refers to; NULL: none */
    /* true: the caller keeps its reference; otherwise the reference moves, and is the caller's no
     * more when FST_OK is returned */
    bool keep;
};
/* Put a message into the queue, without waiting. FST_WAIT: the queue is full; FST_END: the channel
 * was closed; FST_CLOSED: it has ended; FST_STALE: the object's group or cache was destroyed
 * meanwhile, and the caller's reference is gone. FST_INVALID: too many bytes; FST_FULL. */
int fst_channel_put(fst_channel_use *use, const struct fst_letter *letter);

/* A message that was taken. */
struct fst_received {
    uint32_t nbytes, kind; /* as in struct fst_letter */
    bool has_ref;          /* it came with an object, and `ref` is this process's reference to it */
    struct fst_ref ref;
    uint32_t node; /* which message this is, for fst_channel_done */
    uint64_t word;
};
/* Take the first message of the queue, without waiting. `bytes` has room for inline_bytes.
 * FST_WAIT: the queue is empty; FST_END: the channel was closed, and everything was taken;
 * FST_CLOSED: it has ended; FST_FULL. A message whose object was destroyed with its group or cache
 * is passed over. */
int fst_channel_get(fst_channel_use *use, void *bytes, struct fst_received *out);
/* With FST_CHANNEL_ACK: say that a message is done with. FST_STALE: it was said before, or the
 * message is another process's. */
int fst_channel_done(fst_channel_use *use, const struct fst_received *taken);

/* Sleep until a get (`taker`), or a put, may go on: then true. It sleeps for some milliseconds at
 * most, whatever the timeout (ns), so call it again. May wait. */
bool fst_channel_wait(fst_channel_use *use, bool taker, uint64_t timeout);
/* Close the channel: nothing is put any more, and what is there can be taken. To repeat it does no
 * harm. FST_CLOSED: it has ended. */
int fst_channel_close(fst_channel_use *use);
/* End the channel now: its name is free, everybody's put and get fail with FST_CLOSED, and what
 * waits in it is dropped. FST_READONLY, FST_HELD. */
int fst_channel_destroy(fst_channel_use *use);

/* ---- topics ----
 *
 * Every subscriber of a topic gets every message. Topics are opened and left as channels are, with
 * FST_CHANNEL_TOPIC.
 *
 * The last `capacity` messages lie there, with the objects that they hold, until others take their
 * places. Each subscriber has a policy of its own. One that is slow, stopped or dead harms nobody
 * else; but subscribers with FST_SLOW_BLOCKS hold publishers back for as long as they live. */

/* What becomes of a subscriber that does not keep up. */
enum fst_slow {
    FST_SLOW_BLOCKS = 0, /* publishers wait for it */
    FST_SLOW_DROPS = 1,  /* it misses what has been overtaken */
    FST_SLOW_ENDS = 2,   /* its get gives FST_LAPPED from then on */
    FST_SLOW_LATEST = 3, /* it only ever gets the newest message */
};

#define FST_SUBSCRIBERS 256u /* of one topic, at most */

/* A subscription belongs to this process alone, and not to a forked child. */
struct fst_subscription {
    uint32_t index;
    uint64_t word;
};

/* Publish a message for all. `keep` is as for channels, and nothing moves. *reached receives how
 * many subscribers there are for it. FST_WAIT: a subscriber holds publishers back; FST_END,
 * FST_CLOSED, FST_STALE, FST_INVALID, FST_FULL as for a channel. */
int fst_topic_publish(fst_channel_use *use, const struct fst_letter *letter, uint32_t *reached);
/* Subscribe, beginning with the last `history` messages that are there. FST_FULL: the topic has too
 * many subscribers; FST_CLOSED. */
int fst_topic_subscribe(fst_channel_use *use, enum fst_slow slow, uint32_t history, struct fst_subscription *out);
/* End a subscription. To repeat it does no harm, unless calls are counted (fst_channel_count). */
void fst_topic_unsubscribe(fst_channel_use *use, const struct fst_subscription *s);
/* Get the next message, as fst_channel_get does. FST_LAPPED: see FST_SLOW_ENDS. FST_CLOSED: the
 * topic or the subscription has ended, or this is a forked child. */
int fst_topic_get(fst_channel_use *use, const struct fst_subscription *s, void *bytes, struct fst_received *out);
/* Get the newest message, which stays. FST_WAIT: there is none. */
int fst_topic_latest(fst_channel_use *use, void *bytes, struct fst_received *out);
/* Sleep until a get, or a publish (s is NULL), may go on: then true. It sleeps for some
 * milliseconds at most. May wait. */
bool fst_topic_wait(fst_channel_use *use, const struct fst_subscription *s, uint64_t timeout);

/* A subscriber of a topic, for people. */
struct fst_subscriber_info {
    uint32_t slow; /* enum fst_slow */
    bool own;      /* it belongs to this process */
    int32_t pid;   /* in that process's own pid namespace */
    char command[16];
    uint64_t lag;  /* messages that it has not got yet */
    uint64_t lost; /* messages that it was too slow for */
    bool holds;    /* it holds publishers back just now */
};
/* Fill in up to `max` of them; the result is how many there are. */
size_t fst_topic_list(fst_arena *arena, uint64_t channel, struct fst_subscriber_info *out, size_t max);
/* How many messages a subscription has lost so far. UINT64_MAX: the topic has ended, and nobody
 * knows. */
uint64_t fst_topic_lost(fst_channel_use *use, const struct fst_subscription *s);

/* ---- locks ----
 *
 * These locks are for programs, found by name, and opened and left as channels are, with
 * FST_CHANNEL_LOCK.
 *
 * A lock is owned by one thread of one process at a time, and given back by any thread of that
 * process, but not by a forked child. An owner that dies, or leaves the arena, leaves the lock to
 * the next one, who is told. While somebody owns the lock, dead or not, it lives without a process
 * that has it open. */

/* Acquire the lock, waiting for up to `timeout` ns. *inherited: the last owner has gone without
 * giving it back. FST_WAIT: another thread owns it; FST_BUSY: this very thread does; FST_CLOSED: it
 * was destroyed, or its group was. Signals do not end the wait. May wait. */
int fst_named_lock_acquire(fst_channel_use *use, uint64_t timeout, bool *inherited);
/* Give the lock back. FST_INVALID: no thread of this process owns it. When the lock has ended it
 * may return FST_OK. */
int fst_named_lock_release(fst_channel_use *use);

/* The owner of a lock. */
struct fst_named_lock_owner {
    bool owned, own; /* by anybody; by a thread of this process */
    bool dead;       /* its owner has gone without giving it back */
    int32_t pid;     /* in the owner's own pid namespace; 0 if it has gone */
    char command[16];
};
/* Look who owns the lock, for people, and to ask whether this process does. When another process
 * does, the call asks the kernel whether that lives. */
void fst_named_lock_look(fst_channel_use *use, struct fst_named_lock_owner *out);
/* Look at a lock that was listed. False: it is gone, or no lock. */
bool fst_named_lock_look_at(fst_arena *arena, uint64_t channel, struct fst_named_lock_owner *out);

#ifdef __cplusplus
}
#endif
#endif
