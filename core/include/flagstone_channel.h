/* flagstone_channel.h - channels: bounded queues of messages, each for one taker, found by name.
 * Part of flagstone.h, whose conventions hold here as well.
 *
 * A message is some bytes, or an object, or both. No process that is stopped or killed anywhere
 * holds up another, or loses it a message; what a killed one had taken is lost with it, or, with
 * acknowledgements, comes again.
 */
#ifndef FLAGSTONE_CHANNEL_H
#define FLAGSTONE_CHANNEL_H

#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What was taken and not acknowledged goes back into the queue when its taker dies. */
#define FST_CHANNEL_ACK 1u
/* It lives without a process that has it open, until it, its group or its arena ends. */
#define FST_CHANNEL_LASTING 2u
/* It is a topic: see below. */
#define FST_CHANNEL_TOPIC 4u
/* It is a lock: see below. A name of its own kind; capacity 1, no bytes in line. */
#define FST_CHANNEL_LOCK 8u

struct fst_channel_spec {
    const char *name;      /* NULL: without a name */
    uint32_t capacity;     /* messages that may wait; 1 to 1,048,576 */
    uint32_t inline_bytes; /* of a message, at most 4,000 */
    uint32_t flags;        /* FST_CHANNEL_* */
    uint64_t group;        /* id: what the memory is charged to */
};

/* A process's use of a channel. May be used by many threads, and after a fork by the child. */
typedef struct fst_channel_use fst_channel_use;

/* Open the channel of this name, or create it. FST_MISMATCH: it exists with other parameters
 * (`group` apart). */
int fst_channel_open(fst_arena *arena, const struct fst_channel_spec *spec, enum fst_create how, fst_channel_use **out,
                     bool *created);
/* Let others open it who have no name: a message that keeps the channel until it is taken. */
int fst_channel_share(fst_channel_use *use, struct fst_message *out);
int fst_channel_join(fst_arena *arena, const struct fst_message *message, fst_channel_use **out);
/* Let go of it; nobody uses it meanwhile. The last process to do so ends it, unless it is
 * lasting. */
void fst_channel_leave(fst_channel_use *use);
/* Count the calls that are in it, for it to be let go of when it has ended and there are none:
 * `calls` is `idle`, and one more for each call and each subscription, counted up before it and
 * down after it, and lies there until fst_channel_leave(). Uncounted, it keeps its memory, also
 * that of a destroyed group, until that. */
void fst_channel_count(fst_channel_use *use, const uint32_t *calls, uint32_t idle);
uint64_t fst_channel_id(const fst_channel_use *use);
/* About how many messages wait. */
uint32_t fst_channel_length(const fst_channel_use *use);

struct fst_letter {
    const void *bytes;
    uint32_t nbytes;     /* at most the channel's inline_bytes */
    uint32_t kind;       /* the user's, given to the taker */
    struct fst_ref *ref; /* an object of the caller's, NULL: none */
    /* the caller's reference stays; otherwise it moves, and is the caller's no more when FST_OK
     * is returned */
    bool keep;
};
/* FST_WAIT: full. FST_END: closed. FST_CLOSED: ended. FST_STALE: the object's group or cache was
 * destroyed meanwhile, and its reference is gone. */
int fst_channel_put(fst_channel_use *use, const struct fst_letter *letter);

struct fst_received {
    uint32_t nbytes, kind;
    bool has_ref;
    struct fst_ref ref;
    uint32_t node; /* for fst_channel_done */
    uint64_t word;
};
/* `bytes` has room for inline_bytes. FST_WAIT: empty. FST_END: closed, and everything was taken.
 * FST_CLOSED: ended. Messages whose object was destroyed with its group or cache are passed
 * over. */
int fst_channel_get(fst_channel_use *use, void *bytes, struct fst_received *out);
/* With FST_CHANNEL_ACK: the message is done with. FST_STALE: it was before, or it is another
 * process's. */
int fst_channel_done(fst_channel_use *use, const struct fst_received *taken);

/* Until a get (taker), or a put, may go on: then true. Some milliseconds at most, whatever the
 * timeout. May wait. */
bool fst_channel_wait(fst_channel_use *use, bool taker, uint64_t timeout);
/* Nothing is put any more; what is there can be taken. Idempotent. */
int fst_channel_close(fst_channel_use *use);
/* The channel ends now: its name is free, everybody's put and get fail with FST_CLOSED, what
 * waits is dropped. */
int fst_channel_destroy(fst_channel_use *use);

/* ---- topics: every subscriber gets every message; opened and left as channels with
 * FST_CHANNEL_TOPIC
 *
 * The last `capacity` messages lie there, with the objects that they hold, until others take their
 * places. Each subscriber has a policy of its own; one that is slow, stopped or dead harms nobody
 * else, but for FST_SLOW_BLOCKS, whose subscribers hold publishers back for as long as they
 * live. */

enum fst_slow {
    FST_SLOW_BLOCKS = 0, /* publishers wait for it */
    FST_SLOW_DROPS = 1,  /* it misses what is overtaken */
    FST_SLOW_ENDS = 2,   /* its get gives FST_LAPPED from then on */
    FST_SLOW_LATEST = 3, /* it gets the newest only */
};

#define FST_SUBSCRIBERS 256u /* of one topic, at most */

/* Of this process alone: not of a forked child. */
struct fst_subscription {
    uint32_t index;
    uint64_t word;
};

/* A message for all; `keep` as for channels, nothing moves. `reached`: how many subscribers there
 * are for it. FST_WAIT: somebody holds it back. FST_END, FST_CLOSED, FST_STALE as for a
 * channel. */
int fst_topic_publish(fst_channel_use *use, const struct fst_letter *letter, uint32_t *reached);
/* Begin with the last `history` of what is there. FST_FULL: too many subscribers. */
int fst_topic_subscribe(fst_channel_use *use, enum fst_slow slow, uint32_t history, struct fst_subscription *out);
/* Again is fine, unless calls are counted. */
void fst_topic_unsubscribe(fst_channel_use *use, const struct fst_subscription *s);
/* As fst_channel_get. FST_LAPPED: see FST_SLOW_ENDS. FST_CLOSED: also for a forked child. */
int fst_topic_get(fst_channel_use *use, const struct fst_subscription *s, void *bytes, struct fst_received *out);
/* The newest message, which stays; FST_WAIT: there is none. */
int fst_topic_latest(fst_channel_use *use, void *bytes, struct fst_received *out);
/* Until a get, or a publish (s is NULL), may go on: then true. Some milliseconds at most. May
 * wait. */
bool fst_topic_wait(fst_channel_use *use, const struct fst_subscription *s, uint64_t timeout);

struct fst_subscriber_info {
    uint32_t slow; /* enum fst_slow */
    bool own;      /* this process's */
    int32_t pid;   /* in its own pid namespace */
    char command[16];
    uint64_t lag;  /* messages that it has not got yet */
    uint64_t lost; /* that it was too slow for */
    bool holds;    /* it holds publishers back now */
};
/* Up to max of them; returns their number. */
size_t fst_topic_list(fst_arena *arena, uint64_t channel, struct fst_subscriber_info *out, size_t max);
/* What a subscription has lost so far. UINT64_MAX: the topic has ended, and nobody knows. */
uint64_t fst_topic_lost(fst_channel_use *use, const struct fst_subscription *s);

/* ---- locks: for programs, found by name, opened and left as channels with FST_CHANNEL_LOCK
 *
 * Owned by one thread of one process at a time, and given back by any thread of that process. Not
 * by a forked child. Who dies with it, or leaves the arena, leaves it to the next one, who is told.
 * While somebody owns it, dead or not, it lives without a process that has it open. */

/* Waits for so long, without asking for signals. FST_WAIT: others own it. FST_BUSY: this very
 * thread does. FST_CLOSED: it was destroyed, or its group was. `inherited`: its last owner has gone
 * without giving it back. */
int fst_named_lock_acquire(fst_channel_use *use, uint64_t timeout, bool *inherited);
/* FST_INVALID: no thread of this process owns it. One that has ended may say FST_OK. */
int fst_named_lock_release(fst_channel_use *use);

struct fst_named_lock_owner {
    bool owned, own; /* by somebody; by a thread of this process */
    bool dead;       /* who owns it, has gone */
    int32_t pid;     /* in its own pid namespace */
    char command[16];
};
/* For people, and for asking whether it is ours. Asks the kernel, when somebody else owns it. */
void fst_named_lock_look(fst_channel_use *use, struct fst_named_lock_owner *out);
/* The same of a lock that is listed. False: it is gone, or no lock. */
bool fst_named_lock_look_at(fst_arena *arena, uint64_t channel, struct fst_named_lock_owner *out);

#ifdef __cplusplus
}
#endif
#endif
