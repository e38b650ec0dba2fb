#include "region/lock.h"

#include "platform/atomics.h"
#include "platform/futex.h"
#include "region/file.h"

#include <time.h>

#define SPINS    100
#define PATIENCE (4 * FST_MS) /* how long a waiter believes in the owner before it asks the kernel */

bool fst_slot_alive(struct fst_arena *a, uint32_t slot, uint32_t generation_low)
{
    if (slot >= fst_process_top(a))
        return false; /* nobody ever had it: as good as dead */
    if (slot == a->slot)
        return generation_low == a->slot_low; /* our own lock does not show in a probe through our own description */
    uint64_t state = fst_load_acquire(&fst_process_at(a, slot)->state);
    if (fst_lock_generation(state) != generation_low)
        return false;
    return fst_file_find(a, FST_LOCK_ALIVE + slot, 1) >= 0;
}

static bool owner_dead(struct fst_arena *a, uint32_t word)
{
    return !fst_slot_alive(a, fst_lock_owner(word), word >> FST_LOCK_GEN_SHIFT);
}

/* Swing the word from exactly what the dead owner left. The waiters bit stays: others may still sleep. */
static bool take_over(struct fst_arena *a, uint32_t *lock, uint32_t seen)
{
#ifdef FST_MUTANT_LOCK_BLIND_TAKEOVER
    (void)seen;
    fst_swap32(lock, fst_lock_own_word(a) | FST_LOCK_WAITERS);
    return true;
#else
    return fst_cas32(lock, &seen, fst_lock_own_word(a) | FST_LOCK_WAITERS);
#endif
}

/* ---- how long locks are held: sampled, because a thread's CPU clock costs more than a lock ---- */

static uint32_t sample_every = 256;

static _Thread_local struct {
    const uint32_t *lock; /* the one being timed, or NULL */
    uint32_t count;
    uint64_t wall, cpu; /* when it was acquired */
} sample;

void fst_lock_sample(uint32_t every)
{
    __atomic_store_n(&sample_every, every, __ATOMIC_RELAXED);
    sample.count = 0;
}

static uint64_t cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void begin_sample(const uint32_t *lock)
{
    uint32_t every = __atomic_load_n(&sample_every, __ATOMIC_RELAXED);
    sample.count = every - 1;
    if (!every || sample.lock)
        return;
    sample.lock = lock;
    sample.wall = fst_now();
    sample.cpu = cpu_now();
}

static inline void acquired(const uint32_t *lock)
{
    if (__builtin_expect(sample.count-- == 0, 0))
        begin_sample(lock);
}

/* For people, and racing at worst with another long one. The reaper's lock and a cache's `ending` are held for as long as they need. */
static void note_hold(struct fst_arena *a, const uint32_t *lock, int clock, uint64_t ns)
{
    struct fst_superblock *sb = a->sb;
    bool ours = lock == &sb->names_lock || lock == &sb->pages_lock;
    uint64_t offset = (uint64_t)((const uint8_t *)lock - (const uint8_t *)sb);
    const struct fst_table *t = &a->known.tables[FST_T_CHILD];
    bool child = offset >= t->offset && offset < t->offset + t->count * t->size;
    if ((!ours && !child) || ns <= fst_load_relaxed(&sb->hold_ns[clock]))
        return;
    fst_store_relaxed(&sb->hold_ns[clock], ns);
    fst_store_relaxed(&sb->hold_lock[clock], ours ? (uint32_t)offset : 1);
}

static void end_sample(struct fst_arena *a)
{
    uint64_t cpu = cpu_now() - sample.cpu, wall = fst_now() - sample.wall;
    note_hold(a, sample.lock, 0, wall);
    note_hold(a, sample.lock, 1, cpu);
    sample.lock = NULL;
}

/* ---- taking and giving back ---- */

static bool lock_slow(struct fst_arena *a, uint32_t *lock, uint32_t mine);

bool fst_lock(struct fst_arena *a, uint32_t *lock)
{
    uint32_t mine = fst_lock_own_word(a);
    uint32_t seen = 0;
    /* PAIR(lock): acquires what the last owner released. */
    bool taken_over = !fst_cas32(lock, &seen, mine) && lock_slow(a, lock, mine);
    acquired(lock);
    return taken_over;
}

static bool lock_slow(struct fst_arena *a, uint32_t *lock, uint32_t mine)
{
    uint32_t seen;
    for (int i = 0; i < SPINS; i++) {
        fst_pause();
        seen = 0;
        if (fst_load_relaxed(lock) == 0 && fst_cas32(lock, &seen, mine))
            return false;
    }
    for (;;) {
        seen = fst_load_relaxed(lock);
        if (seen == 0) {
            /* Others may sleep, and we cannot know: keep the waiters bit, at the price of one needless wake-up. */
            if (fst_cas32(lock, &seen, mine | FST_LOCK_WAITERS))
                return false;
            continue;
        }
        if (!(seen & FST_LOCK_WAITERS)) {
            if (!fst_cas32(lock, &seen, seen | FST_LOCK_WAITERS))
                continue;
            seen |= FST_LOCK_WAITERS;
        }
        fst_futex_wait(lock, seen, PATIENCE);
        if (fst_load_relaxed(lock) == seen && owner_dead(a, seen) && take_over(a, lock, seen))
            return true;
    }
}

enum fst_try fst_trylock(struct fst_arena *a, uint32_t *lock)
{
    uint32_t seen = 0;
    if (fst_cas32(lock, &seen, fst_lock_own_word(a)))
        return FST_TRY_OK;
    if (owner_dead(a, seen) && take_over(a, lock, seen))
        return FST_TRY_TAKEN_OVER;
    return FST_TRY_BUSY;
}

static void unlock(struct fst_arena *a, uint32_t *lock, int sleepers)
{
    if (__builtin_expect(sample.lock == lock, 0))
        end_sample(a);
    /* PAIR(lock). A kill after the swap and before the wake-up is why waiters' sleep is bounded. */
    if (fst_swap32(lock, 0) & FST_LOCK_WAITERS)
        fst_futex_wake(lock, sleepers);
}

void fst_unlock(struct fst_arena *a, uint32_t *lock)
{
    unlock(a, lock, 1);
}

void fst_unlock_all(struct fst_arena *a, uint32_t *lock)
{
    unlock(a, lock, INT32_MAX);
}

void fst_lock_sleep(uint32_t *lock, uint64_t timeout)
{
    uint32_t seen = fst_load_relaxed(lock);
    while (seen && !(seen & FST_LOCK_WAITERS))
        if (fst_cas32(lock, &seen, seen | FST_LOCK_WAITERS))
            seen |= FST_LOCK_WAITERS;
    if (seen)
        fst_futex_wait(lock, seen, timeout);
}
