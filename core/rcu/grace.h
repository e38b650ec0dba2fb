/* grace.h - grace periods across processes.
 *
 * gp_seq is the number of the newest grace period begun. A reader notes it when its outermost
 * section begins; a grace period with number n is over when no live thread's slot holds a number
 * below n. gp_completed is the highest number known to be over. A cookie is the gp_seq of the
 * moment: whatever was unlinked before the cookie was taken is seen by no reader once gp_completed
 * > cookie. Nobody holds a lock while waiting: each waiter runs its own grace period and stops
 * early when another one's serves it, so that a stopped process holds up nobody else's.
 * models/grace_period.pml.
 */
#ifndef FST_RCU_GRACE_H
#define FST_RCU_GRACE_H

#include "region/region.h"

/* The last grace period known to be over, and the newest begun. Both numbers only grow, by one
 * at a time, and nothing is over that has not begun: false when they contradict that. */
bool fst_grace_numbers(const struct fst_arena *a, uint64_t *over, uint64_t *begun);

/* Wait for a grace period that began after the cookie was taken, at most timeout ns. *stop (may
 * be NULL) becoming non-zero ends the wait. FST_OK, FST_TIMEOUT. Not inside a section. */
int fst_grace_wait(struct fst_arena *a, uint64_t cookie, uint64_t timeout, const uint32_t *stop);

#endif
