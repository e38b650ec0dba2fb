/* flagstone_await.h - one thread that waits for many channels, topics, stores and locks, in the
 * place of others. It is a part of flagstone.h, whose conventions hold here as well.
 */
#ifndef FLAGSTONE_AWAIT_H
#define FLAGSTONE_AWAIT_H

#include "flagstone_channel.h"
#include "flagstone_store.h"
#include "flagstone_types.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fst_awaits {
    FST_AWAITS_MESSAGE = 0,   /* a get from a channel may go on */
    FST_AWAITS_ROOM = 1,      /* a put into a channel may */
    FST_AWAITS_PUBLISHED = 2, /* a get by a subscription may */
    FST_AWAITS_READERS = 3,   /* a publish may */
    FST_AWAITS_LOCK = 4,      /* a lock may be acquired, or has ended */
    FST_AWAITS_CHANGE = 5,    /* the store's version is another one */
};

/* One of what a thread waits for. Waiting takes nothing and acquires nothing, so the call that
 * follows may have to wait again. The thread is woken in the place of one who would take or
 * acquire: others who sleep there look again by themselves, as after a kill. */
struct fst_awaited {
    uint32_t what; /* enum fst_awaits */
    bool ready;    /* out: it may go on */
    fst_channel_use *channel;
    const struct fst_subscription *subscription;
    fst_store_use *store;
    uint64_t version;
};

/* A thread that waits, in its process's own memory; zeroes at first. */
struct fst_waiter {
    uint32_t rung;   /* futex: 1 after fst_waiter_ring */
    uint64_t looked; /* when it last looked whether owners of locks live */
};

/* How many one call of fst_await can wait for: 127, or 1 where the kernel cannot wait for several
 * words (futex_waitv), or forbids it, which may begin at any time. */
size_t fst_await_most(void);

/* Sleep until one of `n` may go on, the waiter is rung, or the time (ns) is over; whether one may,
 * and for each whether it may. Nobody lets go of any of them meanwhile; calls are to be counted
 * (fst_channel_count). Of more than fst_await_most() the last is waited for, and the others are
 * looked at some milliseconds later; and with a most of 1 the ring is heard as late. May wait. */
bool fst_await(struct fst_waiter *waiter, struct fst_awaited *all, size_t n, uint64_t timeout);
/* Have fst_await return, now and whenever it is called, until fst_waiter_hush. Any thread of the
 * process may ring. */
void fst_waiter_ring(struct fst_waiter *waiter);
void fst_waiter_hush(struct fst_waiter *waiter);

#ifdef __cplusplus
}
#endif

#endif
