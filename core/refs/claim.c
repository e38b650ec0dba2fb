#include "refs/claim.h"

#include "platform/error.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"

uint64_t fst_word_set(uint64_t *word, uint64_t flags)
{
    uint64_t seen = fst_load_relaxed(word);
    while ((seen & flags) != flags && !fst_cas64(word, &seen, seen | flags)) {
    }
    return seen;
}

static bool acquire_word(uint64_t *word, uint64_t oid, uint64_t generation, bool handle)
{
    uint64_t seen = fst_load_acquire(word);
    for (;;) {
#ifdef FST_MUTANT_RESOLVE_FREED
        handle = false;
#endif
        if (!(seen & FST_WORD_ALLOCATED) || fst_word_gen(seen) != generation || (handle && (seen & FST_WORD_FREED)))
            return false;
        if (!fst_oid_is_group(oid) && (seen & FST_WORD_CHECK) != fst_word_check(oid))
            return false;
#ifndef FST_MUTANT_GUESSED_HANDLE
        /* A handle of such an object is a guess: its owner still frees it with a plain store. */
        if (!(seen & (FST_WORD_HANDED | FST_WORD_SHARED)))
            return false;
#endif
        if ((seen & FST_WORD_SHARED) && !(seen & FST_WORD_CONDEMNED))
            return true;
        uint64_t next = (seen | FST_WORD_SHARED) & ~FST_WORD_CONDEMNED;
#ifdef FST_MUTANT_NO_RESCUE
        next = seen | FST_WORD_SHARED;
#elif defined(FST_MUTANT_NO_SHARED)
        next = seen & ~FST_WORD_CONDEMNED;
#endif
        if (fst_cas64(word, &seen, next))
            return true;
    }
}

int fst_claim_stale(const struct fst_arena *a)
{
    return fst_fail(FST_STALE, "the handle's object in arena %s is gone: it was freed, or nobody held a reference any more",
                    fst_arena_called(a));
}

static int withdraw(struct fst_thread *t, uint32_t entry, bool *dropped)
{
    *dropped |= fst_refs_drop(t->arena, entry);
#ifdef FST_MUTANT_WITHDRAW_TO_EMPTY
    fst_store_release(t->arena->entries + entry, 0);
#endif
    return fst_claim_stale(t->arena);
}

static int withdraw_message(struct fst_thread *t, const struct fst_message *m, uint32_t entry, bool *dropped)
{
    withdraw(t, entry, dropped);
    return fst_inflight_stale(t->arena, m);
}

int fst_claim(struct fst_thread *t, uint64_t oid, uint64_t generation, bool handle, uint32_t *entry, bool *dropped)
{
    uint64_t *word = fst_word_of(t->arena, oid);
    if (!word)
        return fst_fail(FST_STALE, "the handle names no object that ever was");
    /* This look before the entry is written saves the withdrawal in the plain stale case. What
     * counts is the look after it. */
    uint64_t seen = fst_load_acquire(word);
    if (!(seen & FST_WORD_ALLOCATED) || fst_word_gen(seen) != generation)
        return fst_claim_stale(t->arena);
    int rc = fst_refs_get(t->arena, t, oid, generation, entry);
    if (rc)
        return rc;
    return acquire_word(word, oid, generation, handle) ? FST_OK : withdraw(t, *entry, dropped);
}

int fst_claim_message(struct fst_thread *t, const struct fst_message *m, uint32_t *entry, bool *took, bool *dropped)
{
    uint64_t oid = fst_handle_oid(&m->handle), generation = fst_handle_generation(&m->handle);
    uint64_t *word = fst_word_of(t->arena, oid);
    if (!word)
        return fst_fail(FST_STALE, "the message names no object that ever was");
    /* What is in flight is allocated. A message of another generation is an old or a damaged one,
     * and takes nobody's reference. */
    uint64_t seen = fst_load_acquire(word);
    if (!(seen & FST_WORD_ALLOCATED) || fst_word_gen(seen) != generation)
        return fst_inflight_stale(t->arena, m);
    int rc = fst_refs_get(t->arena, t, oid, generation, entry);
    if (rc)
        return rc;
    *took = fst_inflight_take(t->arena, m->entry, m->tag, oid);
    if (*took)
        return FST_OK;
    return acquire_word(word, oid, generation, true) ? FST_OK : withdraw_message(t, m, *entry, dropped);
}
