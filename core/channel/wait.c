#include "channel/wait.h"

#include "channel/queue.h"
#include "platform/futex.h"

bool fst_ring_say_asleep(uint32_t *word, uint32_t *mine)
{
    uint32_t seen = fst_load_relaxed(word);
    *mine = (seen + 2) | 1;
    return fst_cas32(word, &seen, *mine);
}

void fst_ring_await(uint32_t *word, uint32_t mine, uint64_t timeout)
{
    fst_futex_wait(word, mine, timeout < FST_SLEEP_NS ? timeout : FST_SLEEP_NS);
}

void fst_ring_sleep(const struct fst_ring_view *v, bool taker, uint64_t timeout)
{
    uint32_t *word = taker ? &v->ring->takers : &v->ring->putters, mine;
    if (!fst_ring_say_asleep(word, &mine))
        return;
    if (fst_load_seq_cst(&v->ring->ended) || !(taker ? fst_ring_empty(v) : fst_ring_full(v)))
        return;
    fst_ring_await(word, mine, timeout);
}

void fst_ring_wake_slowly(uint32_t *word)
{
    uint32_t seen = fst_load_relaxed(word);
    while (seen & 1) {
        if (!fst_cas32(word, &seen, seen + 2))
            continue;
        seen += 2;
        if (fst_futex_wake(word, 1) == 0)
            fst_cas32(word, &seen, (seen + 2) & ~1u); /* nobody slept, and nobody has come since */
        return;
    }
}

void fst_ring_wake_sleepers(uint32_t *word)
{
    uint32_t seen = fst_load_relaxed(word);
    while (seen & 1)
        if (fst_cas32(word, &seen, (seen + 2) & ~1u)) {
            fst_futex_wake(word, INT32_MAX); /* whoever comes now finds another count */
            return;
        }
}

void fst_ring_wake_all(const struct fst_ring_view *v)
{
    fst_add32(&v->ring->takers, 2);
    fst_add32(&v->ring->putters, 2);
    fst_futex_wake(&v->ring->takers, INT32_MAX);
    fst_futex_wake(&v->ring->putters, INT32_MAX);
}
