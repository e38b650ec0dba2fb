/* topic.h - a ring whose messages are read by all, and taken by none. The model is
 * models/topic.pml.
 *
 * The queue is a channel's. A publisher that finds it full takes the oldest message out itself,
 * unless a subscriber that blocks has not read it. Subscribers take nothing out: they copy a
 * message, and then look whether the node still says QUEUED at their position; whatever is written
 * into the node later begins with another word there. A subscriber comes to a message's object by
 * an entry of its own, written before that look. Whoever takes the node away, and then lets go of
 * its object, comes after that entry; and a batch, which looks at nodes before it looks at tables,
 * sees one of the two.
 *
 * Each subscriber has a record. The subscriber makes it COMING, and then LIVE; it becomes FREE by
 * the subscriber itself, or by whoever finds that it is dead. Only the subscriber's process moves
 * its cursor, by compare-and-swap, so that one of two threads gets a message.
 *
 * A kill anywhere leaves nodes as in a channel, and the record; the batch that buries the process
 * frees both.
 */
#ifndef FST_CHANNEL_TOPIC_H
#define FST_CHANNEL_TOPIC_H

#include "channel/ring.h"

static inline struct fst_subscriber *fst_subscriber_at(const struct fst_ring_view *v, uint32_t index)
{
    return &v->subscribers[index < FST_SUBSCRIBERS ? index : 0];
}

static inline uint32_t fst_subscriber_top(const struct fst_ring_view *v)
{
    uint32_t top = fst_load_acquire(&v->ring->subscribers_top);
    return top < FST_SUBSCRIBERS ? top : FST_SUBSCRIBERS;
}

static inline uint32_t fst_subscriber_owner(uint64_t word)
{
    return (uint32_t)(word >> FST_SUBSCRIBER_OWNER_SHIFT);
}

static inline enum fst_slow fst_subscriber_slow(uint64_t word)
{
    return (enum fst_slow)(word >> FST_SUBSCRIBER_SLOW_SHIFT & 3);
}

static inline bool fst_subscriber_live(uint64_t word)
{
    return (word & FST_SUBSCRIBER_STATE) == FST_SUBSCRIBER_LIVE;
}

/* Own a FREE record, with a cursor `history` messages behind the newest. FST_FULL. */
int fst_subscriber_claim(struct fst_ring_view *v, enum fst_slow slow, uint32_t history, struct fst_subscription *out);
/* Make the record FREE, if its word is still this one. */
bool fst_subscriber_free(const struct fst_ring_view *v, uint32_t index, uint64_t word);

/* Is the topic full, so that the message at *position has to be given up before another one can be
 * published? */
bool fst_topic_full(const struct fst_ring_view *v, uint64_t *position);
/* The record of a subscriber that blocks and has not read this position yet, or FST_NONE. */
uint32_t fst_topic_held(const struct fst_ring_view *v, uint64_t position);
/* How many subscribers will read what is published now. */
uint32_t fst_topic_reached(const struct fst_ring_view *v);

enum fst_topic_seen { FST_TOPIC_THERE, FST_TOPIC_NOT_YET, FST_TOPIC_CLOSED, FST_TOPIC_GONE };
/* What is at a position. THERE: *node receives the node, and *word the word that it must still have
 * when the message was copied. */
enum fst_topic_seen fst_topic_see(const struct fst_ring_view *v, uint64_t position, uint32_t *node, uint64_t *word);
/* The position that a subscriber reads next. */
uint64_t fst_topic_next(const struct fst_ring_view *v, uint64_t cursor, enum fst_slow slow);
/* How many messages a subscriber has not got yet. */
uint64_t fst_topic_lag(const struct fst_ring_view *v, uint64_t cursor);

#endif
