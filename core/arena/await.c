/* await.c - one thread sleeps until any of many channels, topics, stores and locks may go on.
 *
 * It says at each word that it is about to sleep, looks at each thing once more, and only then
 * sleeps on all the words and one of its own, by which its process wakes it. What holds for one
 * sleeper of channel/wait.h holds for each word: whoever changes it after it was said either finds
 * the sleeper there, or has the kernel find another word than the sleeper expects. All is said
 * before anything is looked at, because several things may have one word (the subscriptions of a
 * topic), and to say it twice would change what was said first.
 *
 * A kill leaves what it leaves of one sleeper: a word that says that somebody may sleep.
 */
#include "flagstone_await.h"

#include "arena/channel.h"
#include "arena/ready.h"
#include "arena/store.h"
#include "channel/wait.h"
#include "platform/futex.h"
#include "region/lock.h"

static struct fst_arena *arena_of(const struct fst_awaited *w)
{
    return w->what == FST_AWAITS_CHANGE ? w->store->a : w->channel->v.a;
}

/* The word to sleep on; NULL: do not, the call that follows says what is wrong. */
static uint32_t *word_of(const struct fst_awaited *w)
{
    struct fst_arena *a = arena_of(w);
    if (!a->usable || fst_is_damaged(a))
        return NULL;
    if (w->what == FST_AWAITS_CHANGE)
        return fst_use_live(w->store) ? &w->store->s->sleepers : NULL;
    if (fst_use_is_over(&w->channel->v))
        return NULL;
    struct fst_ring *r = w->channel->v.ring;
    switch (w->what) {
    case FST_AWAITS_LOCK:
        return &r->lock;
    case FST_AWAITS_MESSAGE:
    case FST_AWAITS_PUBLISHED:
        return &r->takers;
    default:
        return &r->putters;
    }
}

/* Say that this thread is about to sleep. False: do not, but look at everything again. */
static bool say_asleep(const struct fst_awaited *w, uint32_t *word, uint32_t *expected)
{
    switch (w->what) {
    case FST_AWAITS_LOCK:
        return (*expected = fst_lock_say_asleep(word)) != 0;
    case FST_AWAITS_CHANGE:
        *expected = fst_store_say_asleep(w->store);
        return true;
    default:
        return fst_ring_say_asleep(word, expected);
    }
}

/* May it go on? `owners`: ask the kernel, too, whether a lock's owner lives. */
static bool ready(const struct fst_awaited *w, bool owners)
{
    switch (w->what) {
    case FST_AWAITS_LOCK:
        return fst_named_lock_ready(w->channel, owners);
    case FST_AWAITS_CHANGE:
        return fst_store_changed(w->store, w->version);
    case FST_AWAITS_MESSAGE:
    case FST_AWAITS_ROOM:
        return fst_channel_ready(w->channel, w->what == FST_AWAITS_MESSAGE);
    default:
        return fst_topic_ready(w->channel, w->what == FST_AWAITS_PUBLISHED ? w->subscription : NULL);
    }
}

static bool look(struct fst_waiter *waiter, struct fst_awaited *all, size_t n)
{
    uint64_t now = fst_now();
    bool owners = now - waiter->looked >= FST_SLEEP_NS, any = false;
    if (owners)
        waiter->looked = now;
    for (size_t i = 0; i < n; i++)
        any |= all[i].ready = ready(&all[i], owners);
    return any;
}

/* The place of the word among the first `n` of `at`, or `n`. Things with one word mostly come one
 * after the other. */
static size_t find(const struct fst_sleep *at, size_t n, const uint32_t *word)
{
    for (size_t i = n; i > 1; i--)
        if (at[i - 1].word == word)
            return i - 1;
    return n;
}

size_t fst_await_most(void)
{
    size_t words = fst_futex_most();
    return words > 1 ? words - 1 : 1;
}

bool fst_await(struct fst_waiter *waiter, struct fst_awaited *all, size_t n, uint64_t timeout)
{
    struct fst_sleep at[FST_FUTEX_MOST];
    uint64_t began = fst_now();
    for (size_t i = 0; i < n; i++)
        if (arena_of(&all[i])->usable)
            fst_reaper_watch(arena_of(&all[i])); /* they may wait for what a dead process has */
    for (;;) {
        size_t words = 1;
        bool awake = false;
        at[0] = (struct fst_sleep){.word = &waiter->rung, .expected = 0};
        for (size_t i = 0; i < n && words < FST_FUTEX_MOST; i++) {
            uint32_t *word = word_of(&all[i]);
            if (!word || find(at, words, word) < words)
                continue;
            at[words].word = word;
            if (say_asleep(&all[i], word, &at[words].expected))
                words++;
            else
                awake = true;
        }
        fst_full_fence();
        bool any = look(waiter, all, n);
        uint64_t past = fst_now() - began;
        if (any || fst_load_acquire(&waiter->rung) || past >= timeout)
            return any;
        if (!awake)
            fst_futex_wait_any(at, words, timeout - past < FST_SLEEP_NS ? timeout - past : FST_SLEEP_NS);
    }
}

void fst_waiter_ring(struct fst_waiter *waiter)
{
    fst_own_store_seq_cst(&waiter->rung, 1);
    fst_futex_wake(&waiter->rung, 1);
}

void fst_waiter_hush(struct fst_waiter *waiter)
{
    fst_own_store_seq_cst(&waiter->rung, 0);
}
