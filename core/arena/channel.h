/* channel.h - what a process has of a channel or a lock that it has open. Its own memory: a kill
 * leaves nothing of it. */
#ifndef FST_ARENA_CHANNEL_H
#define FST_ARENA_CHANNEL_H

#include "channel/channel.h"

struct fst_channel_use {
    struct fst_ring_view v; /* first: what put and get need */
    struct fst_ref ring;    /* keeps it */
    uint64_t id;
};

#endif
