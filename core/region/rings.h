/* rings.h - every byte of a channel: its descriptor, and its ring, an object in the data region. */
#ifndef FST_REGION_RINGS_H
#define FST_REGION_RINGS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "flagstone.h"

/* A channel is a descriptor, found by its name, and an object of its own in the data region, the
 * *ring*: a head, cells and nodes. Who has it open refers to the ring by an entry, as to any
 * object; when a batch finds no such entry, the channel ends. channel/ring.h.
 *
 * struct fst_channel
 *      0       8                16         24         28             32      36      40      48
 *      | state | generation_tag | oid_slab | capacity | inline_bytes | flags | cells | group |
 *      48    64     128
 *      | pad | name | */
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
    uint32_t capacity; /* messages that may wait */
    uint32_t inline_bytes;
    uint32_t flags; /* FST_CHANNEL_* of flagstone_channel.h */
    uint32_t cells; /* a power of two; as many nodes */
    uint64_t group; /* id */
    uint64_t pad[2];
    char name[FST_NAME_MAX];
};
static_assert(offsetof(struct fst_channel, name) == 64, "layout");
static_assert(sizeof(struct fst_channel) == 128, "layout");

/* The ring's head; then `cells` cells of 8 bytes, as many references (region/bits.h), so that a
 * batch finds them close together, and as many nodes. Each line is written by others.
 * struct fst_ring
 *      0       4      8        16    64     72    128    136   192      196       200
 *      | ended | lock | holder | pad | tail | pad | head | pad | takers | putters |
 *      200               204   256
 *      | subscribers_top | pad | */
struct fst_ring {
    /* 1: its channel has ended. Written after the descriptor's state, for who has it open */
    uint32_t ended;
    uint32_t lock;   /* of a lock for programs: as in region/lock.h */
    uint64_t holder; /* and which thread has it: fst_thread.name, 0: none */
    uint64_t pad0[6];
    uint64_t tail; /* a hint: the next message's position, or some before it (channel/ring.h) */
    uint64_t pad1[7];
    uint64_t head; /* the same for the next one to be taken */
    uint64_t pad2[7];
    /* futex: count << 1 | somebody may sleep: until there is something to take */
    uint32_t takers;
    uint32_t putters;         /* the same: until there is room */
    uint32_t subscribers_top; /* of a topic: records ever used; only grows */
    uint32_t pad3[13];
};
static_assert(offsetof(struct fst_ring, tail) == 64 && offsetof(struct fst_ring, head) == 128, "layout");
static_assert(sizeof(struct fst_ring) == 256, "layout");

/* A node; then the message's bytes. The distance from one to the next is a multiple of a line.
 * struct fst_node
 *      0      8        12     16
 *      | word | nbytes | kind | */
struct fst_node {
    uint64_t word;   /* region/bits.h: FREE, OWNED or QUEUED */
    uint32_t nbytes; /* and FST_NODE_REFERS */
    uint32_t kind;   /* the user's */
};
static_assert(sizeof(struct fst_node) == 16, "layout");

/* A subscriber of a topic; they lie behind the nodes, each on a line of its own.
 * struct fst_subscriber
 *      0      8        16     24    64
 *      | word | cursor | lost | pad | */
struct fst_subscriber {
    uint64_t word;   /* region/bits.h */
    uint64_t cursor; /* position of the next message that it reads */
    uint64_t lost;   /* messages that it was too slow for */
    uint64_t pad[5];
};
static_assert(sizeof(struct fst_subscriber) == 64, "layout");

#endif
