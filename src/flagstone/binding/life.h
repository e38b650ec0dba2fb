/* life.h - counts of the users of a reference, which threads share. A count that has become 0 stays
 * 0: the reference is gone. */
#ifndef FST_BINDING_LIFE_H
#define FST_BINDING_LIFE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "platform/atomics.h"

/* The bit that fst_life_stay sets: with it, a count never becomes 0. */
#define FST_LIFE_STAYS (1u << 30)

static inline uint32_t fst_life_of(const uint32_t *count)
{
    return fst_load_acquire(count);
}

/* One user more; false if the count is 0. */
static inline bool fst_life_enter(uint32_t *count)
{
    uint32_t seen = fst_life_of(count);
    while (seen != 0)
        if (fst_own_cas32(count, &seen, seen + 1))
            return true;
    return false;
}

/* One user less; true if none is left. Then everything that the others did before they left is
 * seen. */
static inline bool fst_life_leave(uint32_t *count)
{
    if (fst_own_count_down32(count) != 0)
        return false;
    fst_acquire_fence();
    return true;
}

/* From now on fst_life_leave does not return true. Only between fst_life_enter and
 * fst_life_leave. */
static inline void fst_life_stay(uint32_t *count)
{
    if (!(fst_life_of(count) & FST_LIFE_STAYS))
        fst_own_set_bits32(count, FST_LIFE_STAYS);
}

/* Let 1 become 0, so that nobody else can begin to use the reference; false if the count is not
 * 1. */
static inline bool fst_life_only(uint32_t *count)
{
    uint32_t one = 1;
    return fst_own_cas32(count, &one, 0);
}

/* fst_life_enter and fst_life_leave for calls, which begin and end with the GIL held, if there is
 * one. Then no other thread of Python changes the count meanwhile, and the two atomic operations,
 * which are a good part of a short call, are not needed. The core reads the count at any time:
 * channel/use.h. */
static inline bool fst_call_begin(uint32_t *count)
{
#ifdef Py_GIL_DISABLED
    return fst_life_enter(count);
#else
    uint32_t seen = fst_load_relaxed(count);
    if (seen == 0)
        return false;
    fst_own_store_relaxed(count, seen + 1);
    fst_compiler_barrier(); /* PAIR(channel-use) */
    return true;
#endif
}

/* A call that sleeps without the GIL is counted once more, between its begin and its end: after a
 * fork, the child takes those off that slept (channel/use.h). */
static inline void fst_call_away(uint32_t *count)
{
#ifdef Py_GIL_DISABLED
    fst_own_count_up32(count);
#else
    fst_own_store_relaxed(count, fst_load_relaxed(count) + 1);
#endif
}

static inline void fst_call_back(uint32_t *count)
{
#ifdef Py_GIL_DISABLED
    fst_own_count_down32(count);
#else
    fst_own_store_relaxed(count, fst_load_relaxed(count) - 1);
#endif
}

static inline bool fst_call_end(uint32_t *count)
{
#ifdef Py_GIL_DISABLED
    return fst_life_leave(count);
#else
    uint32_t left = fst_load_relaxed(count) - 1;
    fst_own_store_release(count, left); /* PAIR(channel-use) */
    return left == 0;
#endif
}

#endif
