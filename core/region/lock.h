/* lock.h - locks in shared memory whose owner may be killed.
 *
 * A lock is one word (32 bits), 0 when free:
 *
 *      0         1           12                     32
 *      | waiters | slot + 1  | generation's low bits |
 *
 * A waiter sets the waiters bit and sleeps on the word for some milliseconds. Then it asks the
 * kernel whether the owner lives, and if not takes the lock over, by compare-and-swap from exactly
 * the owner's word. Whoever got a lock from a dead owner first rebuilds what the lock protects from
 * the authoritative words; if it is killed while it does, it is a dead owner itself. No pthread
 * mutex lies in shared memory: robust ones match owners by thread id, which two pid namespaces
 * share, and put raw pointers there. The model of this file is models/lock.pml.
 *
 * An owner that is stopped keeps its lock. So nobody waits for longer than its thread was told to
 * (fst_patience): then the caller gets FST_HELD. What cannot be put off (a drop, a thread's end, a
 * batch) is left in a state that a kill might have left as well, and superblock.loose or ended_walk
 * says so: the next batch that gets the locks mends it.
 *
 * Lock order, outermost first. A process holds none of them over a first touch of memory, a mutex
 * of this process, a grace period or a system call (but a futex call, and the question who is alive
 * after a kill). The exceptions are the first two, for which nobody else waits, and a cache's lock
 * `ending`, for which only users of that cache wait.
 *   0  superblock.teardown_lock  one synchronous destroy() at a time, over its batches:
 *                                arena/destroy.c
 *   1  superblock.reaper_lock    one batch at a time: reclaim/batch.c
 *   2  cache.ending              one destroy() of a cache at a time: arena/destroy.c
 *   2  store.lock                keys of one store: store/store.c
 *   3  superblock.names_lock     names; cache, child and group descriptors and their lists:
 *                                alloc/registry.c
 *   4  child.lock                the lists of slabs of one child, one child at a time:
 *                                alloc/lists.c
 *   5  superblock.pages_lock     free pages, slab descriptors, charges: alloc/run.c
 */
#ifndef FST_REGION_LOCK_H
#define FST_REGION_LOCK_H

#include "region/region.h"

enum fst_try { FST_TRY_BUSY, FST_TRY_OK, FST_TRY_TAKEN_OVER };

/* The compiler warns a caller that does not look whether it got the lock. */
#define FST_TO_BE_HEEDED __attribute__((warn_unused_result))

/* Acquire the lock within the patience of the calling thread. TAKEN_OVER: a dead owner had it, so
 * rebuild what it protects. BUSY: the owner lives, maybe stopped, and did not give the lock back in
 * time; then the caller leaves things as they are, or leaves them to a batch, as if it were killed
 * here. */
enum fst_try fst_lock_in_time(struct fst_arena *a, uint32_t *lock) FST_TO_BE_HEEDED;
/* Acquire a store's lock, inside which other locks are acquired: for how long any of them is held
 * is not measured then. */
enum fst_try fst_lock_outermost(struct fst_arena *a, uint32_t *lock) FST_TO_BE_HEEDED;
/* Acquire a lock of programs: for how long they hold it is their affair and not measured, and
 * another thread may give it back. */
enum fst_try fst_lock_untimed(struct fst_arena *a, uint32_t *lock) FST_TO_BE_HEEDED;

/* Fail with FST_HELD, and a sentence about the lock that this thread gave up last, and its
 * owner. */
int fst_lock_held(struct fst_arena *a);
/* How many locks this thread has given up so far: a caller of several functions that may give up
 * compares the number before with that after. */
uint32_t fst_lock_given_up(void);
/* May the calling thread wait at all? If not, it fails with fst_would_wait where it would wait:
 * FST_HELD, and the sentence `what`. */
bool fst_may_wait(void);
int fst_would_wait(const char *what);

/* How a thread waits at each lock: for how long (fst_patience), and the address of a word (NULL:
 * none) that ends its waits, and lets none begin, when it is not 0. fst_wait_for returns what held
 * before, to be put back afterwards. */
struct fst_waits {
    bool own; /* false: as long as fst_patience_of_all says */
    uint64_t patience;
    const uint32_t *stop;
    /* after the first wait that is given up this thread waits no more: a function that needs a lock
     * for each of a thousand objects does not wait a thousand times */
    bool once;
};
struct fst_waits fst_wait_for(struct fst_waits waits);
/* Wait no longer than FST_BRIEF from now on: for what must not wait (a drop, letting go, undoing),
 * and yet should not leave work to a batch only because another processor is in the lock's section
 * just now. */
#define FST_BRIEF 200000u /* ns */
struct fst_waits fst_wait_briefly(void);

/* Give the lock back with its work undone: the word looks like a dead owner's, so that the next one
 * who acquires it mends first. */
void fst_lock_abandon(struct fst_arena *a, uint32_t *lock);
#define FST_LOCK_ABANDONED (2047u << FST_LOCK_SLOT_SHIFT) /* names a slot that no process has */

/* Acquire the lock if it is free or its owner is dead. Asks the kernel when the lock is held. */
enum fst_try fst_trylock(struct fst_arena *a, uint32_t *lock);

void fst_unlock(struct fst_arena *a, uint32_t *lock);

/* For a lock whose waiters want what its owner does under it, and not the lock itself: sleep until
 * it was given back, for at most `timeout` ns; and give it back so that all sleepers look. */
void fst_lock_sleep(uint32_t *lock, uint64_t timeout);
/* The first half of that, when something else is waited for, too: say that this thread is about to
 * sleep. The result is the word to sleep on; 0: the lock is free. */
uint32_t fst_lock_say_asleep(uint32_t *lock);
void fst_unlock_all(struct fst_arena *a, uint32_t *lock);

/* Is the process that had this slot with this generation's low bits alive? */
bool fst_slot_alive(struct fst_arena *a, uint32_t slot, uint32_t generation_low);

#define FST_LOCK_WAITERS    1u
#define FST_LOCK_SLOT_SHIFT 1
#define FST_LOCK_GEN_SHIFT  12
#define FST_LOCK_GEN_MASK   ((1u << (32 - FST_LOCK_GEN_SHIFT)) - 1)

/* The part of the generation in a process slot's state word that lock words carry. */
static inline uint32_t fst_lock_generation(uint64_t state)
{
    return (uint32_t)(state >> FST_STATE_GEN_SHIFT) & FST_LOCK_GEN_MASK;
}

/* The word of a lock that this process holds and nobody waits for. Other words that name a process
 * have the same form. */
static inline uint32_t fst_lock_own_word(const struct fst_arena *a)
{
    return ((a->slot + 1) << FST_LOCK_SLOT_SHIFT) | (a->slot_low << FST_LOCK_GEN_SHIFT);
}

/* The slot of the owner that the lock's word names, or FST_NONE when it is free. */
static inline uint32_t fst_lock_owner(uint32_t word)
{
    return ((word >> FST_LOCK_SLOT_SHIFT) & 2047u) - 1u;
}

#endif
