/* grace.h - grace periods across processes.
 *
 * gp_seq is the number of the newest grace period begun. A reader notes it when its outermost
 * section begins. The grace period with number n is over when no live thread's slot holds a number
 * below n, and gp_completed is the highest number known to be over. A cookie is the gp_seq of a
 * moment: whatever was unlinked before the cookie was read is seen by no reader once gp_completed >
 * cookie.
 *
 * Nobody holds a lock while waiting. Each waiter runs a grace period of its own, and stops early
 * when another's serves it; so a waiter that is stopped holds up nobody else. The model is
 * models/grace_period.pml.
 */
#ifndef FST_RCU_GRACE_H
#define FST_RCU_GRACE_H

#include "region/region.h"

/* The last grace period known to be over, and the newest begun. Both numbers only grow, by one at a
 * time, and none is over that has not begun. False when the numbers contradict that. */
bool fst_grace_numbers(const struct fst_arena *a, uint64_t *over, uint64_t *begun);

/* Wait for a grace period that began after the cookie was read, for at most `timeout` ns; or until
 * *stop (may be NULL) is not 0. FST_OK; FST_TIMEOUT, after a stop as well; FST_CORRUPTED. Not
 * inside a section. */
int fst_grace_wait(struct fst_arena *a, uint64_t cookie, uint64_t timeout, const uint32_t *stop);

#endif
