/* queue.h - putting into a ring and taking from it: channel/ring.h says how. */
#ifndef FST_CHANNEL_QUEUE_H
#define FST_CHANNEL_QUEUE_H

#include "channel/ring.h"

/* Is the node, QUEUED as it says, in the queue? */
bool fst_node_in_cell(const struct fst_ring_view *v, uint32_t node, uint64_t word);

/* OWNED by us becomes FREE. */
void fst_node_free(struct fst_node *n);

/* A FREE node for us to own; FST_NONE: there is none. */
uint32_t fst_ring_claim(const struct fst_ring_view *v);

enum fst_ring_result { FST_RING_OK, FST_RING_WAIT, FST_RING_CLOSED };

/* Put the node, whose word is `owned`, into the queue. WAIT: it is full. Else the node is OWNED by
 * us still. `always`: it was in the queue before, and the capacity does not count. */
enum fst_ring_result fst_ring_publish(struct fst_ring_view *v, uint32_t node, uint64_t owned, bool always);

/* Own the node that is queued at this position, which is the first one, or none: false. */
bool fst_ring_evict(const struct fst_ring_view *v, uint64_t position, uint32_t *node);

/* Own the first node of the queue. WAIT: there is none; CLOSED: and there will be none. */
enum fst_ring_result fst_ring_get(struct fst_ring_view *v, uint32_t *node);

/* Full, or empty, at this moment? CLOSED counts as neither. */
bool fst_ring_full(const struct fst_ring_view *v);
/* ... and what has to be taken first is the message at this position. */
bool fst_ring_full_behind(const struct fst_ring_view *v, uint64_t *position);
bool fst_ring_empty(const struct fst_ring_view *v);

/* Nothing is put any more. Idempotent. */
void fst_ring_close(const struct fst_ring_view *v);

bool fst_ring_closed(const struct fst_ring_view *v);

/* Was something put to this position? *queued: is it still there to be taken? */
bool fst_ring_used(const struct fst_ring_view *v, uint64_t position, bool *queued);

/* About how many wait. */
uint32_t fst_ring_length(const struct fst_ring_view *v);

#endif
