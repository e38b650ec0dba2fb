/* sender.h - what an in-flight entry says of who sent it, and when that is true.
 *
 * It is written after the entry's word, and `use` last: by the sender itself, or, if the sender was
 * killed before that, by whoever buries it.
 */
#ifndef FST_REFS_SENDER_H
#define FST_REFS_SENDER_H

#include "platform/atomics.h"
#include "platform/futex.h"
#include "region/region.h"

static inline uint32_t fst_inflight_tag(uint64_t word)
{
    return (uint32_t)(word >> FST_INFLIGHT_TAG_SHIFT);
}

/* A bit in `use`: the sender was killed before it could say who it was; or it is about to say so,
 * which takes an instant, unless it was stopped just there. After FST_INFLIGHT_UNSAID_NS it is not
 * waited for any more. */
#define FST_INFLIGHT_UNSAID    (1u << 31)
#define FST_INFLIGHT_UNSAID_NS (1000 * FST_MS)

/* Do the fields beside the word speak of the use that the word shows? */
static inline bool fst_inflight_said(const struct fst_inflight *e, uint64_t word)
{
    /* PAIR(record) */
    return (fst_load_acquire(&e->use) & ~FST_INFLIGHT_UNSAID) == fst_inflight_tag(word) + 1;
}

/* Do those fields say who the sender is? */
static inline bool fst_inflight_has_sender(const struct fst_inflight *e)
{
    return !(fst_load_relaxed(&e->use) & FST_INFLIGHT_UNSAID);
}

#endif
