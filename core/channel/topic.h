/* topic.h - a ring whose messages are read by all, and taken by none: models/topic.pml.
 *
 * The queue is a channel's. Who publishes and finds it full takes what is oldest itself, unless a
 * subscriber that blocks has not read it. Subscribers take nothing: they copy, and look whether the
 * node still says QUEUED at their position; what comes after begins with another word there. An
 * object is taken by an entry of their own, written before that look: who takes the node away, and
 * then lets go of its object, comes after it, and a batch that looks at nodes before tables sees
 * one of the two.
 *
 * Each subscriber has a record: FREE -> COMING -> LIVE by itself, FREE by itself, or by who finds
 * that it is dead. Its cursor is moved by its own process alone, by compare-and-swap: of two
 * threads one has the message.
 *
 * Killed anywhere: nodes as in a channel, and the record; the batch that buries it frees both.
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

/* A FREE record becomes ours, with a cursor `history` behind the newest. FST_FULL. */
int fst_subscriber_claim(const struct fst_ring_view *v, enum fst_slow slow, uint32_t history, struct fst_subscription *out);
/* FREE, if the word is this one still. */
bool fst_subscriber_free(const struct fst_ring_view *v, uint32_t index, uint64_t word);

/* The position that has to be given up before another message can be published: false, there is
 * room. */
bool fst_topic_full(const struct fst_ring_view *v, uint64_t *position);
/* Has a subscriber that blocks not read it yet? Its record, or FST_NONE. */
uint32_t fst_topic_held(const struct fst_ring_view *v, uint64_t position);
/* How many subscribers read what is published now. */
uint32_t fst_topic_reached(const struct fst_ring_view *v);

enum fst_topic_seen { FST_TOPIC_THERE, FST_TOPIC_NOT_YET, FST_TOPIC_CLOSED, FST_TOPIC_GONE };
/* What is at a position: THERE with its node, and the word that it has to have still when it was
 * copied. */
enum fst_topic_seen fst_topic_see(const struct fst_ring_view *v, uint64_t position, uint32_t *node, uint64_t *word);
/* The position that a subscriber reads next. */
uint64_t fst_topic_next(const struct fst_ring_view *v, uint64_t cursor, enum fst_slow slow);
/* Messages that a subscriber has not got yet. */
uint64_t fst_topic_lag(const struct fst_ring_view *v, uint64_t cursor);

#endif
