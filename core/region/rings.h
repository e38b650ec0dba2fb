/* rings.h - every byte of a channel: its descriptor, and its ring, an object in the data region. */
#ifndef FST_REGION_RINGS_H
#define FST_REGION_RINGS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "flagstone.h"

/* A channel is a descriptor, found by its name, and an object of its own in the data region, the
 * *ring*: a head, cells and nodes (channel/ring.h). A process that has the channel open refers to
 * the ring by an entry, as to any object; when a batch finds no such entry, the channel ends.
 *
 * struct fst_channel
 *      0       8                16         24         28             32      36      40      48
 *      | state | generation_tag | oid_slab | capacity | inline_bytes | flags | cells | group |
 *      48          52         56    64     128
 *      | nodes_top | refs_top | pad | name | */
enum fst_channel_state {
    FST_CHANNEL_FREE = 0,
    FST_CHANNEL_LIVE = 1,
    /* its name is free; batches release what its nodes refer to, and then its ring */
    FST_CHANNEL_ENDED = 2,
};

struct fst_channel {
    uint64_t state;
    uint64_t generation_tag; /* the ring's handle */
    uint64_t oid_slab;
    uint32_t capacity;     /* messages that may wait in it */
    uint32_t inline_bytes; /* most bytes of a message */
    uint32_t flags;        /* FST_CHANNEL_* of flagstone_channel.h */
    uint32_t cells;        /* a power of two; there are as many nodes */
    uint64_t group;        /* id */
    /* nodes that were ever owned, and nodes that ever referred to an object: bounds for whoever
     * looks through the ring, raised before that. They only grow while the channel lives */
    uint32_t nodes_top;
    uint32_t refs_top;
    uint64_t pad;
    char name[FST_NAME_MAX];
};
static_assert(offsetof(struct fst_channel, name) == 64, "layout");
static_assert(sizeof(struct fst_channel) == 128, "layout");

/* The ring's head. Behind it lie `cells` cells of 8 bytes, as many references (region/bits.h),
 * which a batch finds close together in this way, and as many nodes. Each line is written by other
 * processes.
 * struct fst_ring
 *      0       4      8        16    64     72    128    136   192      196       200
 *      | ended | lock | holder | pad | tail | pad | head | pad | takers | putters |
 *      200               204   256
 *      | subscribers_top | pad | */
struct fst_ring {
    /* 1: its channel has ended. It is written after the descriptor's state, for processes that have
     * the channel open */
    uint32_t ended;
    uint32_t lock;   /* of a lock for programs: its word, as in region/lock.h */
    uint64_t holder; /* of a lock for programs: the thread that has it (fst_thread.name), 0: none */
    uint64_t pad0[6];
    uint64_t tail; /* a hint: the position of the next message, or one before it (channel/ring.h) */
    uint64_t pad1[7];
    uint64_t head; /* a hint: the position of the next message to be taken, or one before it */
    uint64_t pad2[7];
    /* futex for takers, who sleep until there is something to take: count << 1 | somebody may
     * sleep */
    uint32_t takers;
    uint32_t putters;         /* futex for putters, who sleep until there is room: the same */
    uint32_t subscribers_top; /* of a topic: records ever used; it only grows */
    uint32_t pad3[13];
};
static_assert(offsetof(struct fst_ring, tail) == 64 && offsetof(struct fst_ring, head) == 128, "layout");
static_assert(sizeof(struct fst_ring) == 256, "layout");

/* A node; behind it lie the message's bytes. The distance from one node to the next is a multiple
 * of a cache line.
 * struct fst_node
 *      0      8        12     16
 *      | word | nbytes | kind | */
struct fst_node {
    uint64_t word;   /* in region/bits.h: FREE, OWNED or QUEUED */
    uint32_t nbytes; /* of the message; and FST_NODE_REFERS */
    uint32_t kind;   /* the user's */
};
static_assert(sizeof(struct fst_node) == 16, "layout");

/* A subscriber of a topic. They lie behind the nodes, each on a cache line of its own.
 * struct fst_subscriber
 *      0      8        16     24    64
 *      | word | cursor | lost | pad | */
struct fst_subscriber {
    uint64_t word;   /* see region/bits.h */
    uint64_t cursor; /* the position of the next message that it reads */
    uint64_t lost;   /* messages that it was too slow for */
    uint64_t pad[5];
};
static_assert(sizeof(struct fst_subscriber) == 64, "layout");

#endif
