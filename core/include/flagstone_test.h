/* flagstone_test.h - what only tests ask of the core: to be killed at a point, and to be told what
 * no program needs to know.
 */
#ifndef FLAGSTONE_TEST_H
#define FLAGSTONE_TEST_H

#include "flagstone.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In a build with fault points: count the writes to shared memory of the calling thread from now
 * on, and kill this process at the n-th one (0: at none). */
void fst_fault_arm(uint64_t nth);
/* Count in the same way, but stop the process at the n-th write, as SIGSTOP does. */
void fst_fault_stop(uint64_t nth);
/* How many points this thread has passed since then. */
uint64_t fst_fault_passed(void);
bool fst_has_fault_points(void);

/* Be in a read-side section for so many turns. The result is how many grace periods that began in
 * it were over before it was: more than 0 is a broken promise. */
uint64_t fst_section_age(fst_arena *arena, uint32_t turns);

/* Make one more reference of this process to the group (fst_group_unref). FST_CLOSED: it is
 * gone. */
int fst_group_hold(fst_arena *arena, uint64_t group);

/* Hold a lock that all processes share, as a process does that is stopped inside its section:
 * "names", "pages", "slabs" (of the cache's child for the group), "ending" (the cache's), "reaper"
 * or "destroying". It is waited for within the thread's patience: FST_HELD. The thread calls
 * nothing else until it lets go. */
int fst_lock_hold(fst_arena *arena, const char *lock, uint64_t cache, uint64_t group, void **held);
void fst_lock_let_go(fst_arena *arena, void *held);

#ifdef __cplusplus
}
#endif
#endif
