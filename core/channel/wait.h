/* wait.h - sleeping until a ring has a message, or has room. The model is models/waiting.pml. */
#ifndef FST_CHANNEL_WAIT_H
#define FST_CHANNEL_WAIT_H

#include "channel/ring.h"

/* Sleep until the ring may have a message (takers), or room, for some milliseconds at most: the
 * process that was woken instead of this one may have been killed. */
void fst_ring_sleep(const struct fst_ring_view *v, bool taker, uint64_t timeout);
/* Sleep in two steps, when something else is waited for: say so, look once more, then sleep. False:
 * the word has changed, so say it again. */
bool fst_ring_say_asleep(uint32_t *word, uint32_t *mine);
void fst_ring_await(uint32_t *word, uint32_t mine, uint64_t timeout);
/* Wake all takers and all putters. */
void fst_ring_wake_all(const struct fst_ring_view *v);
/* Wake one of those who sleep at this word. */
void fst_ring_wake_slowly(uint32_t *word);
/* Wake all who sleep at this word. */
void fst_ring_wake_sleepers(uint32_t *word);
static inline void fst_ring_wake(uint32_t *word)
{
    /* This load comes after the swing that gave a reason to wake somebody. */
    if (__builtin_expect(fst_load_seq_cst(word) & 1, 0))
        fst_ring_wake_slowly(word);
}

#endif
