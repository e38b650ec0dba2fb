/* life.h - counts of who uses a reference, which threads share: 0 is the end of it, for ever. */
#ifndef FST_BINDING_LIFE_H
#define FST_BINDING_LIFE_H

#include <Python.h>
#include <stdbool.h>
#include <stdint.h>

#include "platform/atomics.h"

/* From when on leave() does not say that nobody is left: see fst_life_stay. */
#define FST_LIFE_STAYS (1u << 30)

static inline uint32_t fst_life_of(const uint32_t *count)
{
    return fst_load_acquire(count);
}

/* One more; false if there is none, because nobody wakes the dead. */
static inline bool fst_life_enter(uint32_t *count)
{
    uint32_t seen = fst_life_of(count);
    while (seen != 0)
        if (fst_own_cas32(count, &seen, seen + 1))
            return true;
    return false;
}

/* One less; true if nobody is left, and then everything that the others did is seen. */
static inline bool fst_life_leave(uint32_t *count)
{
    if (fst_own_count_down32(count) != 0)
        return false;
    fst_acquire_fence();
    return true;
}

/* Between enter() and leave(): from now on leave() does not answer that nobody is left. */
static inline void fst_life_stay(uint32_t *count)
{
    if (!(fst_life_of(count) & FST_LIFE_STAYS))
        fst_own_set_bits32(count, FST_LIFE_STAYS);
}

/* 1 becomes 0: nobody else looks at it, and nobody will. False if there are more, or none. */
static inline bool fst_life_only(uint32_t *count)
{
    uint32_t one = 1;
    return fst_own_cas32(count, &one, 0);
}

/* The same for calls, which begin and end with the GIL if there is one: nobody else is at the count
 * then, and two atomic operations are a good part of a short call. The core looks at it whenever it
 * likes: channel/use.h. */
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
