/* close.h - closing slabs that are empty, and giving their pages back.
 *
 * A slab is given back by *closing* it, once nobody owns it: every word is swung from free to
 * free|CONDEMNED, because what nobody owns may be swung by others, too (one-object slabs, and those
 * that processes have to share); one word that is not free undoes it. Words are advanced by a
 * generation when a slab is carved. models/slab.pml.
 */
#ifndef FST_ALLOC_CLOSE_H
#define FST_ALLOC_CLOSE_H

#include "alloc/revoke.h"
#include "rcu/thread.h"

/* Close the slab if it is empty: off its list, CLOSING, ours. Under the child's lock; the caller
 * then releases the run. A slab in use is left to its owner without a mark. */
bool fst_close_try(struct fst_revoke *r, struct fst_child *c, uint32_t id);

/* Undo a close: back to PARTIAL. Of an ended child, the next batch tries again. */
void fst_close_undo(struct fst_arena *a, uint32_t id, uint64_t state);

/* Give back every empty slab of the child, active ones included, other threads' too.
 * TYPESAFE_BY_RCU: after a grace period, for which it waits at most `patience`; so not inside a
 * section. Returns bytes of pages given back. */
uint64_t fst_close_shrink_child(struct fst_thread *t, uint32_t child, uint64_t patience);

/* The same in steps, so that many children share a grace period. */
#define FST_CLOSED_MAX 1024u
#define FST_CLOSED_NOW 128u
struct fst_closed {
    uint32_t n, now_n;
    uint32_t ids[FST_CLOSED_MAX]; /* closed slabs of TYPESAFE_BY_RCU caches */
    uint32_t now[FST_CLOSED_NOW]; /* those that need no grace period */
};
/* Close the child's empty slabs; those that need no grace period are given back when enough have
 * come together, and by fst_close_give_now. False: no more room, give and call again. */
bool fst_close_empty(struct fst_revoke *r, uint32_t child, struct fst_closed *closed, uint64_t *bytes);
void fst_close_give_now(struct fst_arena *a, struct fst_closed *closed, uint64_t *bytes);
/* Wait for a grace period and give them back. False: it was not over in time (see
 * fst_grace_wait), and they are open again. */
bool fst_close_give(struct fst_arena *a, struct fst_closed *closed, uint64_t patience, const uint32_t *stop, uint64_t *bytes);

#endif
