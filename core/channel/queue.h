/* queue.h - putting into a ring and taking from it, in the way that channel/ring.h tells. */
#ifndef FST_CHANNEL_QUEUE_H
#define FST_CHANNEL_QUEUE_H

#include "channel/ring.h"

/* Is the node, whose word says QUEUED, in the queue? */
bool fst_node_in_cell(const struct fst_ring_view *v, uint32_t node, uint64_t word);

/* Make a node FREE that this process owns. */
void fst_node_free(struct fst_node *n);

/* Own a FREE node. FST_NONE: there is none. */
uint32_t fst_ring_claim(struct fst_ring_view *v);

enum fst_ring_result { FST_RING_OK, FST_RING_WAIT, FST_RING_CLOSED };

/* Put the node, whose word is `owned`, into the queue. WAIT: the queue is full; CLOSED: the channel
 * is closed; in both cases this process still owns the node. `always`: the node was in the queue
 * before, and the capacity does not count. */
enum fst_ring_result fst_ring_publish(struct fst_ring_view *v, uint32_t node, uint64_t owned, bool always);

/* Own the node that is queued at this position. False: another one is the first of the queue, or
 * there is none. */
bool fst_ring_evict(struct fst_ring_view *v, uint64_t position, uint32_t *node);

/* Own the first node of the queue. WAIT: there is none; CLOSED: there is none, and there will be
 * none. */
enum fst_ring_result fst_ring_get(struct fst_ring_view *v, uint32_t *node);

/* Is the queue full, or empty, at this moment? A closed one is neither. */
bool fst_ring_full(const struct fst_ring_view *v);
/* Is it full, and has the message at this position to be taken first? */
bool fst_ring_full_behind(const struct fst_ring_view *v, uint64_t *position);
bool fst_ring_empty(const struct fst_ring_view *v);

/* Close the channel: nothing is put any more. To repeat it does no harm. */
void fst_ring_close(const struct fst_ring_view *v);

bool fst_ring_closed(const struct fst_ring_view *v);

/* Was a message put to this position? *queued: is it still there to be taken? */
bool fst_ring_used(const struct fst_ring_view *v, uint64_t position, bool *queued);

/* About how many messages wait. */
uint32_t fst_ring_length(const struct fst_ring_view *v);

#endif
