#include "region/lock.h"

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "region/file.h"

#include <time.h>

#define SPINS 100 /* tries before a waiter sleeps */
/* ns for which a waiter believes in the owner before it asks the kernel whether that lives */
#define PATIENCE (4 * FST_MS)

bool fst_slot_alive(struct fst_arena *a, uint32_t slot, uint32_t generation_low)
{
    if (slot >= fst_process_top(a))
        return false; /* nobody ever had it: as good as dead */
    if (slot == a->slot)
        /* This process's own lock does not show in a question through its own description. */
        return generation_low == a->slot_low;
    uint64_t state = fst_load_acquire(&fst_process_at(a, slot)->state);
    if (fst_lock_generation(state) != generation_low)
        return false;
    return fst_file_find(a, FST_LOCK_ALIVE + slot, 1) >= 0;
}

static bool owner_dead(struct fst_arena *a, uint32_t word)
{
    return !fst_slot_alive(a, fst_lock_owner(word), word >> FST_LOCK_GEN_SHIFT);
}

/* Swing the word from exactly what the dead owner left to this process's own. The waiters bit stays
 * set, because others may still sleep. */
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

/* ---- how long a thread waits ---- */

static uint64_t patience_of_all = FST_FOREVER;
static _Thread_local struct fst_waits waits;

/* The lock that this thread gave up last, for people, and how many it has given up. */
static _Thread_local struct {
    const uint32_t *lock; /* NULL: no lock */
    uint32_t word, count;
} gave_up;

void fst_patience_of_all(uint64_t ns)
{
    fst_store_relaxed(&patience_of_all, ns);
}

void fst_patience(uint64_t ns)
{
    waits.own = true;
    waits.patience = ns;
}

void fst_patience_default(void)
{
    waits.own = false;
}

struct fst_waits fst_wait_for(struct fst_waits now)
{
    struct fst_waits before = waits;
    waits = now;
    return before;
}

static uint64_t patience(void)
{
    return waits.own ? waits.patience : fst_load_relaxed(&patience_of_all);
}

struct fst_waits fst_wait_briefly(void)
{
    uint64_t most = patience();
    return fst_wait_for((struct fst_waits){.own = true, .patience = most < FST_BRIEF ? most : FST_BRIEF, .stop = waits.stop});
}

bool fst_may_wait(void)
{
    return patience() != 0;
}

uint32_t fst_lock_given_up(void)
{
    return gave_up.count;
}

static const char *name_of(const struct fst_arena *a, const uint32_t *lock)
{
    const struct fst_superblock *sb = a->sb;
    uint64_t offset = (uint64_t)((const uint8_t *)lock - (const uint8_t *)sb);
    const struct fst_table *t = &a->known.tables[FST_T_CHILD];
    if (lock == &sb->names_lock)
        return "names of caches and groups";
    if (lock == &sb->pages_lock)
        return "pages";
    if (lock == &sb->teardown_lock)
        return "synchronous destroying";
    const struct fst_table *stores = &a->known.tables[FST_T_STORE];
    if (offset >= stores->offset && offset < stores->offset + stores->count * stores->size)
        return "keys of a store";
    return offset >= t->offset && offset < t->offset + t->count * t->size ? "slabs of a cache" : "end of a cache";
}

/* Does a thread of this process wait for a lock that another process has? *lock and *word receive
 * which, and its word. */
static bool stuck(const struct fst_arena *a, const uint32_t **lock, uint32_t *word)
{
    *lock = fst_load_relaxed(&a->stuck_at);
    *word = fst_load_relaxed(&a->stuck_word);
    return *lock && fst_lock_owner(*word) != a->slot && !((fst_load_relaxed(*lock) ^ *word) & ~FST_LOCK_WAITERS);
}

/* Note that this thread waits for a lock in vain. A lock of programs, which lies in a ring and not
 * in the control region, is left out: its owner may have it for as long as it likes, and the ring
 * may be unmapped when stuck() looks. */
static void note_stuck(struct fst_arena *a, const uint32_t *lock, uint32_t word)
{
#ifndef FST_MUTANT_STUCK_AT_PROGRAMS
    if ((uint64_t)((const uint8_t *)lock - (const uint8_t *)a->sb) >= a->known.control_size)
        return;
#endif
    fst_own_store_relaxed(&a->stuck_at, lock);
    fst_own_store_relaxed(&a->stuck_word, word);
}

static int held(struct fst_arena *a, const uint32_t *lock, uint32_t word)
{
    const char *name = name_of(a, lock);
    if (fst_lock_owner(word) == a->slot && !stuck(a, &lock, &word))
        return fst_fail(FST_HELD, "the lock of the %s is held by another thread of this process", name);
    /* If a thread of this process holds it and waits for another lock, stuck() has put that lock
     * and its word in their place. */
    uint32_t slot = fst_lock_owner(word);
    const struct fst_process *p = slot < fst_process_top(a) ? fst_process_at(a, slot) : NULL;
    return fst_fail(FST_HELD, "the lock of the %s is held by process %d (%.15s), which may be stopped: let it go on, or kill it",
                    name_of(a, lock), p ? p->pid : 0, p ? p->command : "");
}

int fst_lock_held(struct fst_arena *a)
{
    return held(a, gave_up.lock, gave_up.word);
}

bool fst_held_up(struct fst_arena *a)
{
    const uint32_t *lock;
    uint32_t word;
    bool is = stuck(a, &lock, &word);
    if (is)
        held(a, lock, word);
    return is;
}

int fst_would_wait(const char *what)
{
    return fst_fail(FST_HELD, "%s", what);
}

static enum fst_try give_up(const uint32_t *lock, uint32_t seen)
{
    gave_up.lock = lock;
    gave_up.word = seen;
    gave_up.count++;
    return FST_TRY_BUSY;
}

/* ---- how long locks are held ----
 *
 * This is sampled, because the CPU clock of a thread costs more than a lock. The clocks are read
 * before the lock is acquired and after it is given back, because reading them is a system call. An
 * acquisition that had to wait is not counted.
 */

static uint32_t sample_every = 256;

static _Thread_local struct {
    const uint32_t *lock; /* the one being timed, or NULL */
    uint32_t count;
    /* clocks just before the lock was acquired; wall 0: its time is not measured */
    uint64_t wall, cpu;
} sample;

void fst_lock_sample(uint32_t every)
{
    fst_own_store_relaxed(&sample_every, every);
    sample.count = 0;
}

static uint64_t cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Of locks that are held inside each other only the outermost one's time is measured: reading the
 * clock would be a system call inside the section of the other. */
static void begin_sample(struct fst_arena *a, const uint32_t *lock, uint32_t mine)
{
    uint32_t every = fst_load_relaxed(&sample_every);
    bool inside = lock == &a->sb->pages_lock && (fst_load_relaxed(&a->sb->names_lock) & ~FST_LOCK_WAITERS) == mine;
    if (sample.lock || inside) {
        sample.count = 0; /* measure the next one instead */
        return;
    }
    sample.count = every - 1;
    if (!every)
        return;
    sample.lock = lock;
    sample.wall = fst_now();
    sample.cpu = cpu_now();
}

/* Record the time if it is the longest so far: for people, and in a race another long time may be
 * lost. The reaper's lock and a cache's lock `ending` are left out, because they are held for as
 * long as the work under them takes. */
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
    if (!sample.wall) {
        sample.lock = NULL;
        return;
    }
    uint64_t cpu = cpu_now() - sample.cpu, wall = fst_now() - sample.wall;
    note_hold(a, sample.lock, 0, wall);
    note_hold(a, sample.lock, 1, cpu);
    sample.lock = NULL;
}

/* ---- acquiring and giving back ---- */

static enum fst_try lock_slow(struct fst_arena *a, uint32_t *lock, uint32_t mine);

enum fst_try fst_lock_in_time(struct fst_arena *a, uint32_t *lock)
{
    uint32_t mine = fst_lock_own_word(a);
    uint32_t seen = 0;
    if (__builtin_expect(sample.count-- == 0, 0))
        begin_sample(a, lock, mine);
    /* PAIR(lock): acquires what the last owner released. */
    if (__builtin_expect(fst_cas32(lock, &seen, mine), 1))
        return FST_TRY_OK;
    if (sample.lock == lock)
        sample.lock = NULL;
    return lock_slow(a, lock, mine);
}

enum fst_try fst_lock_outermost(struct fst_arena *a, uint32_t *lock)
{
    enum fst_try got = fst_lock_untimed(a, lock);
    if (got != FST_TRY_BUSY && !sample.lock) {
        sample.lock = lock;
        sample.wall = 0;
    }
    return got;
}

enum fst_try fst_lock_untimed(struct fst_arena *a, uint32_t *lock)
{
    uint32_t mine = fst_lock_own_word(a), seen = 0;
    return fst_cas32(lock, &seen, mine) ? FST_TRY_OK : lock_slow(a, lock, mine); /* PAIR(lock) */
}

static bool told_to_stop(void)
{
    return waits.stop && fst_load_relaxed(waits.stop);
}

/* Is the wait over that began at `began`? Without any patience it is over before it begins, so the
 * clock need not be asked. */
static bool wait_over(uint64_t began, uint64_t most)
{
    return told_to_stop() || (most != FST_FOREVER && fst_now() - began >= most);
}

static enum fst_try lock_slow(struct fst_arena *a, uint32_t *lock, uint32_t mine)
{
    uint32_t seen;
    uint64_t most = told_to_stop() ? 0 : patience(), began = 0;
    for (int i = 0; i < SPINS; i++) {
        fst_pause();
        seen = 0;
        if (fst_load_relaxed(lock) == 0 && fst_cas32(lock, &seen, mine))
            return FST_TRY_OK;
    }
    for (;;) {
        seen = fst_load_relaxed(lock);
        if (seen == 0) {
            /* Others may sleep, which this thread cannot know: keep the waiters bit, at the price
             * of one needless wake-up. */
            if (fst_cas32(lock, &seen, mine | FST_LOCK_WAITERS))
                return FST_TRY_OK;
            continue;
        }
        if (!most)
            return owner_dead(a, seen) && take_over(a, lock, seen) ? FST_TRY_TAKEN_OVER : give_up(lock, seen);
        if (!began && most != FST_FOREVER)
            began = fst_now();
        if (!(seen & FST_LOCK_WAITERS)) {
            if (!fst_cas32(lock, &seen, seen | FST_LOCK_WAITERS))
                continue;
            seen |= FST_LOCK_WAITERS;
        }
        fst_futex_wait(lock, seen, most < PATIENCE ? most : PATIENCE);
        if (fst_load_relaxed(lock) == seen) {
            if (owner_dead(a, seen) && take_over(a, lock, seen))
                return FST_TRY_TAKEN_OVER;
            note_stuck(a, lock, seen);
        }
        /* The waiters bit stays set when this thread gives up, which costs a wake-up that nobody
         * needs. */
        if (wait_over(began, most) && (seen = fst_load_relaxed(lock)) != 0) {
            if (waits.once)
                waits.patience = 0;
            return give_up(lock, seen);
        }
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
    /* PAIR(lock): releases what the next owner acquires. A process may be killed after the swap and
     * before the wake-up: that is why the sleep of waiters is bounded. */
    if (fst_swap32(lock, 0) & FST_LOCK_WAITERS)
        fst_futex_wake(lock, sleepers);
    if (__builtin_expect(sample.lock == lock, 0))
        end_sample(a);
}

void fst_lock_abandon(struct fst_arena *a, uint32_t *lock)
{
    (void)a;
    fst_swap32(lock, FST_LOCK_ABANDONED);
    fst_futex_wake(lock, INT32_MAX);
}

void fst_unlock(struct fst_arena *a, uint32_t *lock)
{
    unlock(a, lock, 1);
}

void fst_unlock_all(struct fst_arena *a, uint32_t *lock)
{
    unlock(a, lock, INT32_MAX);
}

uint32_t fst_lock_say_asleep(uint32_t *lock)
{
    uint32_t seen = fst_load_relaxed(lock);
    while (seen && !(seen & FST_LOCK_WAITERS))
        if (fst_cas32(lock, &seen, seen | FST_LOCK_WAITERS))
            seen |= FST_LOCK_WAITERS;
    return seen;
}

void fst_lock_sleep(uint32_t *lock, uint64_t timeout)
{
    uint32_t seen = fst_lock_say_asleep(lock);
    if (seen)
        fst_futex_wait(lock, seen, timeout);
}
