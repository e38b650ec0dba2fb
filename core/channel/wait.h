/* wait.h - sleeping until a ring has something, or has room: models/waiting.pml. */
#ifndef FST_CHANNEL_WAIT_H
#define FST_CHANNEL_WAIT_H

#include "channel/ring.h"

/* Sleep until the ring is, perhaps, not empty (takers), or not full. Some milliseconds at most: who
 * was woken for us may have been killed. */
void fst_ring_sleep(const struct fst_ring_view *v, bool taker, uint64_t timeout);
/* In two steps, for who waits for something else: look between them. False: say it again. */
bool fst_ring_say_asleep(uint32_t *word, uint32_t *mine);
void fst_ring_await(uint32_t *word, uint32_t mine, uint64_t timeout);
/* Somebody of those who sleep, or all of them. */
void fst_ring_wake_all(const struct fst_ring_view *v);
void fst_ring_wake_slowly(uint32_t *word);
void fst_ring_wake_sleepers(uint32_t *word); /* wakes all who sleep at this word */
static inline void fst_ring_wake(uint32_t *word)
{
    /* after the swing that there is something to wake for */
    if (__builtin_expect(fst_load_seq_cst(word) & 1, 0))
        fst_ring_wake_slowly(word);
}

#endif
