#include "reclaim/message.h"

#include <string.h>

#include "alloc/group.h"
#include "platform/atomics.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* Take the message's reference and drop it, so that a batch looks at the object. */
static bool give_up(struct fst_thread *t, uint32_t index, uint64_t word, enum fst_inflight_why why, bool *dropped)
{
    struct fst_arena *a = t->arena;
    uint64_t oid = fst_inflight_oid(word), *object = fst_word_of(a, oid);
    uint32_t entry;
    if (!object || fst_refs_get(a, t, oid, fst_word_gen(fst_load_acquire(object)), &entry))
        return false;
    bool took = fst_inflight_give_up(a, index, word, why);
#ifdef FST_MUTANT_GIVE_UP_BARE
    a->entries[entry] = 0; /* nobody asks for the object */
    return took;
#endif
    *dropped |= fst_refs_drop(a, entry);
    if (fst_oid_is_group(oid))
        /* This process's reference may have kept the group from a batch. */
        fst_group_again(a, fst_oid_group_index(oid));
    return took;
}

/* What the kernel said of which senders live; it is asked once about each. */
struct senders {
    /* the sender's word in the entry that was last asked about; 0: none */
    uint32_t word[FST_MAX_PROCESSES];
    bool alive[FST_MAX_PROCESSES];
};

static bool sender_dead(struct fst_arena *a, struct senders *known, const struct fst_inflight *e)
{
    if (!fst_inflight_has_sender(e))
        return fst_now() - fst_load_relaxed(&e->sent_at) > FST_INFLIGHT_UNSAID_NS;
    uint32_t word = fst_load_relaxed(&e->sender), slot = fst_lock_owner(word) % FST_MAX_PROCESSES;
    if (known->word[slot] != word) {
        known->word[slot] = word;
        known->alive[slot] = fst_slot_alive(a, fst_lock_owner(word), word >> FST_LOCK_GEN_SHIFT);
    }
    return !known->alive[slot];
}

static bool matches(struct fst_arena *a, const struct fst_message_filter *f, struct senders *known, const struct fst_inflight *e,
                    uint64_t word)
{
    uint64_t oid = fst_inflight_oid(word);
    if (!(word & FST_INFLIGHT_LIVE) || !fst_word_of(a, oid) || fst_inflight_age(e, word) < f->older_than)
        return false;
    if (f->group != UINT64_MAX && fst_inflight_group_of(a, oid) != (uint32_t)f->group)
        return false;
    if (f->pid && (!fst_inflight_said(e, word) || !fst_inflight_has_sender(e) || fst_load_relaxed(&e->pid) != f->pid))
        return false;
    return !f->dead || (fst_inflight_said(e, word) && sender_dead(a, known, e));
}

size_t fst_message_drop(struct fst_thread *t, const struct fst_message_filter *filter, bool *dropped)
{
    struct fst_arena *a = t->arena;
    struct senders known;
    uint32_t top = fst_inflight_top(a);
    size_t n = 0;
    memset(&known, 0, sizeof known);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        if (matches(a, filter, &known, fst_inflight_at(a, i), word))
            n += give_up(t, i, word, FST_INFLIGHT_DROPPED, dropped);
    }
    return n;
}

/* ---- expiry ---- */

static uint64_t lifetime(const struct fst_arena *a, uint32_t group)
{
    return fst_is_group(a, group) ? fst_load_relaxed(&fst_group_at(a, group)->messages_expire) : 0;
}

static bool no_later(struct fst_arena *a, uint64_t when)
{
    uint64_t seen = fst_load_relaxed(&a->sb->expire_at);
    while (when < seen)
        if (fst_cas64(&a->sb->expire_at, &seen, when))
            return true;
    return false;
}

bool fst_message_will_expire(struct fst_arena *a, uint64_t ns)
{
    /* PAIR(expiry): the message is in flight before the look at what others have said. */
    fst_full_fence();
    return no_later(a, fst_now() + ns);
}

uint64_t fst_message_expires_in(const struct fst_arena *a)
{
    uint64_t at = fst_load_relaxed(&a->sb->expire_at), now = fst_now();
    return at == UINT64_MAX ? UINT64_MAX : at > now ? at - now : 0;
}

/* How many ns the message has left; UINT64_MAX: it never expires. */
static uint64_t left(struct fst_arena *a, const struct fst_inflight *e, uint64_t word)
{
    uint64_t ns = lifetime(a, fst_inflight_group_of(a, fst_inflight_oid(word))), age = fst_inflight_age(e, word);
    return !ns ? UINT64_MAX : age < ns ? ns - age : 0;
}

size_t fst_message_expire(struct fst_thread *t, bool *dropped)
{
    struct fst_arena *a = t->arena;
    uint64_t next = UINT64_MAX;
    size_t n = 0;
    fst_store_relaxed(&a->sb->expire_at, UINT64_MAX);
    fst_full_fence(); /* PAIR(expiry) */
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_inflight *e = fst_inflight_at(a, i);
        uint64_t word = fst_load_acquire(&e->word);
        if (!(word & FST_INFLIGHT_LIVE) || !fst_word_of(a, fst_inflight_oid(word)))
            continue;
        uint64_t rest = left(a, e, word);
        if (!rest && give_up(t, i, word, FST_INFLIGHT_EXPIRED, dropped))
            n++;
        else if (!rest && fst_load_relaxed(&e->word) == word)
            rest = FST_MS; /* this process had no free entry: try again soon */
        if (rest && rest != UINT64_MAX && rest < next)
            next = rest;
    }
    if (next != UINT64_MAX)
        no_later(a, fst_now() + next);
    return n;
}
