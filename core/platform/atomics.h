/* atomics.h - the only atomic operations of the core, named by their ordering.
 *
 * Words in shared memory are plain integers accessed only through these. Release and acquire sides
 * that belong together carry the same PAIR(name) comment at both ends, so that a search finds
 * partners.
 */
#ifndef FST_PLATFORM_ATOMICS_H
#define FST_PLATFORM_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/fault.h"

#define FST_LINE 64 /* the bytes of a cache line on x86-64 and aarch64 */

#define fst_load_relaxed(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define fst_load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define fst_load_seq_cst(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)

#define fst_store_relaxed(p, v)                       \
    do {                                              \
        __atomic_store_n((p), (v), __ATOMIC_RELAXED); \
        FST_FAULT();                                  \
    } while (0)
#define fst_store_release(p, v)                       \
    do {                                              \
        __atomic_store_n((p), (v), __ATOMIC_RELEASE); \
        FST_FAULT();                                  \
    } while (0)

/* Keep the compiler from moving memory accesses across this point; the processor may still do
 * so. */
static inline void fst_compiler_barrier(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void fst_acquire_fence(void)
{
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
}

/* Let no store after this point be seen before what came before it. A release *store* does not
 * promise that: a later store may overtake it. */
static inline void fst_release_fence(void)
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
}

static inline void fst_full_fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Store, and let no later load come before everybody can see the store: one instruction does that
 * on x86. What came before the store is released, too. */
static inline void fst_store_fence(uint64_t *p, uint64_t v)
{
#if defined(__x86_64__)
    __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
#else
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
    fst_full_fence();
#endif
    FST_FAULT();
}

/* Compare and swap, sequentially consistent. When it fails, *expected receives what was found. */
static inline bool fst_cas64(uint64_t *p, uint64_t *expected, uint64_t desired)
{
    bool ok = __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    FST_FAULT();
    return ok;
}

/* Compare and swap as fst_cas64 does, and let no later load come before everybody can see the swap.
 * On x86 the swap alone does that; C does not promise it, and other processors need a fence. */
static inline bool fst_cas_fence(uint64_t *p, uint64_t *expected, uint64_t desired)
{
    bool ok = fst_cas64(p, expected, desired);
#if !defined(__x86_64__)
    fst_full_fence();
#endif
    return ok;
}

static inline bool fst_cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    bool ok = __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    FST_FAULT();
    return ok;
}

static inline uint32_t fst_swap32(uint32_t *p, uint32_t v)
{
    uint32_t old = __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
    FST_FAULT();
    return old;
}

static inline uint64_t fst_add64(uint64_t *p, uint64_t v)
{
    uint64_t old = __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
    FST_FAULT();
    return old;
}

static inline uint32_t fst_add32(uint32_t *p, uint32_t v)
{
    uint32_t old = __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
    FST_FAULT();
    return old;
}

static inline void fst_set_bits64(uint64_t *p, uint64_t bits)
{
    __atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST);
    FST_FAULT();
}

/* Raise *p to at least v. */
static inline void fst_max64(uint64_t *p, uint64_t v)
{
    uint64_t seen = fst_load_relaxed(p);
    while (seen < v && !fst_cas64(p, &seen, v)) {
    }
}

/* ---- words of this process alone, which its threads share ----
 *
 * Loads are those above. No other process sees a write to such a word, so a write to it is no point
 * at which tests kill the process.
 */
#define fst_own_store_relaxed(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define fst_own_store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define fst_own_store_seq_cst(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

/* Set a pointer in a table of pointers, which is set only once. False: *to has another pointer
 * already, and *seen receives that. */
#define fst_own_set_once(to, seen, desired) \
    __atomic_compare_exchange_n((to), (seen), (desired), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

static inline bool fst_own_cas32(uint32_t *p, uint32_t *expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(p, expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static inline uint32_t fst_own_swap32(uint32_t *p, uint32_t v)
{
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);
}

/* Set, clear and count are relaxed: they order nothing else. */
static inline void fst_own_set_bits32(uint32_t *p, uint32_t bits)
{
    __atomic_fetch_or(p, bits, __ATOMIC_RELAXED);
}

static inline void fst_own_clear_bits32(uint32_t *p, uint32_t bits)
{
    __atomic_fetch_and(p, ~bits, __ATOMIC_RELAXED);
}

static inline void fst_own_count_up32(uint32_t *p)
{
    __atomic_fetch_add(p, 1, __ATOMIC_RELAXED);
}

/* Count down with release order; the result is what is left. */
static inline uint32_t fst_own_count_down32(uint32_t *p)
{
    return __atomic_sub_fetch(p, 1, __ATOMIC_RELEASE);
}

/* Keep this pointer in a register: compilers tend to compute it anew from its base and index at
 * each use. */
#define FST_IN_REGISTER(p) __asm__("" : "+r"(p))

static inline void fst_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
