/* flagstone_test.h - what only tests ask of the core: to be killed at a point, and to be told what
 * no program needs to know.
 */
#ifndef FLAGSTONE_TEST_H
#define FLAGSTONE_TEST_H

#include "flagstone.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In a build with fault points: kill this process at the n-th write to shared memory from now by
 * the calling thread (0: never), and count them. */
void fst_fault_arm(uint64_t nth);
/* The same, and stop it there, as SIGSTOP does. */
void fst_fault_stop(uint64_t nth);
uint64_t fst_fault_passed(void);
bool fst_has_fault_points(void);

/* A read-side section of so many turns: how many grace periods that began in it are over before it
 * is. More than 0 is a broken promise. */
uint64_t fst_section_age(fst_arena *arena, uint32_t turns);

/* One more reference of this process to the group; FST_CLOSED when it is gone. */
int fst_group_hold(fst_arena *arena, uint64_t group);

/* Hold a lock that all processes share, as who is stopped inside its section does: "names",
 * "pages", "slabs" (of the cache's child for the group), "ending" (the cache's), "reaper",
 * "destroying". Within the thread's patience; the thread calls nothing else until it lets go. */
int fst_lock_hold(fst_arena *arena, const char *lock, uint64_t cache, uint64_t group, void **held);
void fst_lock_let_go(fst_arena *arena, void *held);

#ifdef __cplusplus
}
#endif
#endif
