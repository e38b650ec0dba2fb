#include "channel/use.h"

#include "platform/membarrier.h"
#include "rcu/thread.h"
#include "refs/reftable.h"

/* What `v.over` points to when the ring is not to be touched any more. */
static const uint32_t over = 1;

void fst_use_begin(struct fst_channel_use *u)
{
    struct fst_arena *a = u->v.a;
    pthread_mutex_lock(&fst_local_mutex);
    u->next = a->uses;
    if (u->next)
        u->next->prev = u;
    fst_own_store_relaxed(&a->uses, u);
    pthread_mutex_unlock(&fst_local_mutex);
}

bool fst_use_end(struct fst_channel_use *u)
{
    pthread_mutex_lock(&fst_local_mutex);
    if (u->prev)
        u->prev->next = u->next;
    else
        fst_own_store_relaxed(&u->v.a->uses, u->next);
    if (u->next)
        u->next->prev = u->prev;
    bool gone = u->gone;
    pthread_mutex_unlock(&fst_local_mutex);
    return !gone;
}

void fst_use_count(struct fst_channel_use *u, uint32_t *calls, uint32_t *away, uint32_t idle)
{
    pthread_mutex_lock(&fst_local_mutex);
    u->calls = calls;
    u->away = away;
    u->idle = idle;
    pthread_mutex_unlock(&fst_local_mutex);
}

void fst_uses_forked(struct fst_arena *a)
{
    for (struct fst_channel_use *u = a->uses; u; u = u->next) {
#ifndef FST_MUTANT_FORKED_SAYS
        fst_ring_forked(&u->v);
#endif
#ifdef FST_MUTANT_FORKED_CALLS
        continue;
#endif
        if (!u->calls)
            continue;
        fst_own_store_relaxed(u->calls, *u->calls - *u->away);
        fst_own_store_relaxed(u->away, 0);
    }
}

/* Is a thread in a call that touches the ring? After the barrier no such call begins, and
 * subscriptions only become fewer: so `calls`, which is loaded first, may count too many
 * subscriptions, but never too few. */
static bool anybody_in(const struct fst_channel_use *u)
{
    uint32_t calls = fst_load_acquire(u->calls);
#ifdef FST_MUTANT_USE_BLIND
    return false;
#endif
    return calls != u->idle + fst_load_acquire(&u->subscriptions);
}

static bool has_ended(const struct fst_channel_use *u)
{
    return u->calls && !u->gone && fst_load_acquire(u->v.over);
}

bool fst_uses_let_go(struct fst_arena *a)
{
    bool any = false, dropped = false;
    if (!fst_load_relaxed(&a->uses) || !a->usable || fst_is_damaged(a))
        return false;
    pthread_mutex_lock(&fst_local_mutex);
    for (struct fst_channel_use *u = a->uses; u; u = u->next) {
        if (!has_ended(u))
            continue;
        fst_own_store_relaxed(&u->v.over, &over);
        any = true;
    }
    bool counted = any && fst_membarrier_near(); /* PAIR(channel-use) */
    for (struct fst_channel_use *u = counted ? a->uses : NULL; u; u = u->next) {
        /* No call was told of a ring that has ended since the loop above. */
#ifdef FST_MUTANT_USE_UNTOLD
        if (!has_ended(u) || anybody_in(u))
#else
        if (!u->calls || u->gone || u->v.over != &over || anybody_in(u))
#endif
            continue; /* the next look comes soon */
        u->gone = true;
        fst_ring_unmap(&u->v);
        dropped |= fst_refs_drop(a, u->ring.entry);
    }
    pthread_mutex_unlock(&fst_local_mutex);
    return dropped;
}
