/* close.h - closing slabs that are empty, and giving their pages back.
 *
 * A slab is given back by *closing* it, once nobody owns it: every word is swung from free to
 * free|CONDEMNED. They are swung because others may swing the words of a slab that nobody owns, too
 * (one-object slabs, and those that processes have to share). One word that is not free undoes it
 * all. Words are advanced by a generation when a slab is carved. The model is models/slab.pml.
 */
#ifndef FST_ALLOC_CLOSE_H
#define FST_ALLOC_CLOSE_H

#include "alloc/revoke.h"
#include "rcu/thread.h"

/* Close the slab if it is empty: take it off its list and make it CLOSING, with this thread as its
 * owner. Under the child's lock; the caller then releases the run. A slab in use is left to its
 * owner without a mark. */
bool fst_close_try(struct fst_revoke *r, struct fst_child *c, uint32_t id);

/* Undo a close: the slab is on PARTIAL again. If its child has ended, the next batch tries
 * again. */
void fst_close_undo(struct fst_arena *a, uint32_t id, uint64_t state);

/* Give back every empty slab of the child, also those that threads allocate from, of this process
 * or others. For a TYPESAFE_BY_RCU cache that is after a grace period, for which it waits at most
 * `patience` ns; so not inside a section. The result is the bytes of the pages given back. */
uint64_t fst_close_shrink_child(struct fst_thread *t, uint32_t child, uint64_t patience);

/* What fst_close_shrink_child does, in steps, so that many children share a grace period. */
#define FST_CLOSED_MAX 1024u
#define FST_CLOSED_NOW 128u
struct fst_closed {
    uint32_t n, now_n;
    uint32_t ids[FST_CLOSED_MAX]; /* closed slabs of TYPESAFE_BY_RCU caches */
    uint32_t now[FST_CLOSED_NOW]; /* those that need no grace period */
};
/* Close the child's empty slabs. Those that need no grace period are given back when `now` is full,
 * and by fst_close_give_now. False: `ids` is full, so give them back and call again. */
bool fst_close_empty(struct fst_revoke *r, uint32_t child, struct fst_closed *closed, uint64_t *bytes);
void fst_close_give_now(struct fst_arena *a, struct fst_closed *closed, uint64_t *bytes);
/* Wait for a grace period and give back the slabs that need one. False: it was not over in time
 * (fst_grace_wait), and the slabs are open again. */
bool fst_close_give(struct fst_arena *a, struct fst_closed *closed, uint64_t patience, const uint32_t *stop, uint64_t *bytes);

#endif
