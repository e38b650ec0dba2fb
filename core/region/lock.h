/* lock.h - locks in shared memory whose owner may be killed.
 *
 * A lock is one word (32 bits), 0 when free:
 *
 *      0         1           12                     32
 *      | waiters | slot + 1  | generation's low bits |
 *
 * A waiter sets the waiters bit and sleeps on the word for some milliseconds; then it asks the kernel whether the owner lives, and if
 * not takes the lock over by compare-and-swap from exactly the owner's word. Whoever got a lock from a dead owner rebuilds what the
 * lock protects from the authoritative words, before anything else; killed in doing so it is a dead owner itself. No pthread mutex
 * lies in shared memory: robust ones match owners by thread id, which two pid namespaces share, and put raw pointers there.
 * The model of this file is models/lock.pml.
 *
 * Lock order, outermost first. A process holds none of them over a system call (a futex apart), a first touch or a grace period;
 * apart from the first two, for which nobody else waits, and a cache's lock `ending`, for which only users of that cache wait.
 *   0  superblock.teardown_lock one synchronous destroy() at a time, over its batches    arena/destroy.c
 *   1  superblock.reaper_lock   one batch at a time                                      reclaim/batch.c
 *   2  cache.ending             one destroy() of a cache at a time                       arena/destroy.c
 *   3  superblock.names_lock    names, cache/child/group descriptors and their lists     alloc/registry.c
 *   4  child.lock               the lists of slabs of one child, one child at a time     alloc/slab.c
 *   5  superblock.pages_lock    free pages, slab descriptors, charges                    alloc/run.c
 */
#ifndef FST_REGION_LOCK_H
#define FST_REGION_LOCK_H

#include "region/region.h"

/* Acquire. True: taken over from a dead owner, rebuild. */
bool fst_lock(struct fst_arena *a, uint32_t *lock);

enum fst_try { FST_TRY_BUSY, FST_TRY_OK, FST_TRY_TAKEN_OVER };
/* Acquire if free or if its owner is dead. Makes a system call when the lock is held. */
enum fst_try fst_trylock(struct fst_arena *a, uint32_t *lock);

void fst_unlock(struct fst_arena *a, uint32_t *lock);

/* For a lock whose waiters want what its owner does under it, and not the lock: sleep until it was given back, at most so long; and give it back
 * so that all of them look. */
void fst_lock_sleep(uint32_t *lock, uint64_t timeout);
void fst_unlock_all(struct fst_arena *a, uint32_t *lock);

/* Is the process that had this slot with this generation's low bits alive? */
bool fst_slot_alive(struct fst_arena *a, uint32_t slot, uint32_t generation_low);

#define FST_LOCK_WAITERS    1u
#define FST_LOCK_SLOT_SHIFT 1
#define FST_LOCK_GEN_SHIFT  12
#define FST_LOCK_GEN_MASK   ((1u << (32 - FST_LOCK_GEN_SHIFT)) - 1)

/* The generation in a process slot's state word, as lock words carry it. */
static inline uint32_t fst_lock_generation(uint64_t state)
{
    return (uint32_t)(state >> FST_STATE_GEN_SHIFT) & FST_LOCK_GEN_MASK;
}

/* The word of a lock that this process holds and nobody waits for: names a process where one is written down, too. */
static inline uint32_t fst_lock_own_word(const struct fst_arena *a)
{
    return ((a->slot + 1) << FST_LOCK_SLOT_SHIFT) | (a->slot_low << FST_LOCK_GEN_SHIFT);
}

/* Take the lock's word apart: the slot of its owner, or FST_NONE when it is free. For people and check(). */
static inline uint32_t fst_lock_owner(uint32_t word)
{
    return ((word >> FST_LOCK_SLOT_SHIFT) & 2047u) - 1u;
}

#endif
