/* drop.c - drop, hold and free: the ways in which an object ends, by the protocol of
 * refs/claim.h. */
#include "alloc/active.h"
#include "alloc/debug.h"
#include "alloc/slab.h"
#include "arena/handle.h"
#include "platform/error.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/release.h"

/* Let the slab know of a free object, because the thread does not own it, or its child has ended.
 * Nothing of the object is touched, which may be somebody else's already. A drop waits for no lock:
 * what it cannot have at once is left to a batch. */
static void let_slab_know(struct fst_thread *t, const struct fst_ref *ref)
{
    /* In a section nothing is given back; but the slab must be found again, by an allocation or a
     * batch. */
    if (t->nest) {
        if (fst_slab_freed(t->arena, fst_oid_slab(ref->oid), 0))
            fst_reaper_ended(t->arena);
        return;
    }
    if (ref->nbytes >= FST_EXTENT_PAGES * FST_PAGE)
        /* this memory is worth giving back to the system, if it stays idle */
        fst_reaper_watch(t->arena);
    if (fst_release_after_free(t, ref->oid))
        fst_reaper_ended(t->arena);
}

static __attribute__((noinline)) void after_private(struct fst_thread *t, const struct fst_ref *ref)
{
    struct fst_waits before = fst_wait_briefly();
    let_slab_know(t, ref);
    fst_wait_for(before);
}

/* Swing the word from exactly ALLOCATED, with or without FREED, to free; the entry becomes EMPTY
 * after that. A plain store will do: nobody else knows the object, so nobody resolves it, and a
 * fork that marks it SHARED just now copies an entry for which no Block of the child speaks. A
 * batch may have condemned the word since it was read here; it finds the word in another generation
 * and does nothing. */
static inline bool free_word(uint64_t *word)
{
    uint64_t seen = fst_load_relaxed(word);
#ifdef FST_MUTANT_DROP_SHARED_AS_PRIVATE
    seen &= ~(FST_WORD_SHARED | FST_WORD_HANDED);
#endif
#ifdef FST_MUTANT_PRIVATE_CONDEMNED
    if ((seen & FST_WORD_CONDEMNED) && !(seen & FST_WORD_SHARED))
        fst_cas64(word, &seen, fst_word_free(seen) | FST_WORD_CONDEMNED);
#endif
    if (__builtin_expect((seen & (FST_WORD_FLAGS & ~FST_WORD_FREED)) != FST_WORD_ALLOCATED, 0))
        return false;
    fst_store_release(word, fst_word_free(seen));
    return true;
}

/* Do the same where somebody was given a handle: a compare-and-swap decides who was first. */
static bool free_handed(uint64_t *word)
{
    uint64_t seen = fst_load_relaxed(word);
    if ((seen & (FST_WORD_FLAGS & ~FST_WORD_FREED)) != (FST_WORD_ALLOCATED | FST_WORD_HANDED) ||
        !fst_cas64(word, &seen, fst_word_free(seen)))
        return false;
    return true;
}

/* The thread's place for the slab, if it has owned the slab. It still says where the words are,
 * because the slab stays while this thread has an object of it. */
static inline struct fst_owned *owned_slab(struct fst_thread *t, uint32_t slab)
{
    struct fst_owned *own = fst_owned_of(t, slab);
    FST_IN_REGISTER(own);
    return __builtin_expect(own->id1 == slab + 1, 1) ? own : NULL;
}

/* After the word was freed: set the bit by which this thread's allocations find the object
 * again. */
static inline void give_bit(struct fst_owned *own, uint64_t object)
{
    uint64_t *free = &own->free[object / 64], bits = *free | 1ull << (object % 64);
    FST_IN_REGISTER(bits);
    *free = bits;
}

/* Does the bit count? Not when the thread does not own the slab any more (PAIR(revoke): either
 * whoever has revoked it sees the free word, or this thread sees that it was revoked); and not when
 * the slab's child has ended, because then nobody allocates from it any more. */
static inline bool bit_counts(const struct fst_owned *own, bool ours)
{
#ifdef FST_MUTANT_KEEP_BIT
    return true;
#endif
    return ours && __builtin_expect(fst_load_relaxed(&own->child->state) == own->child_state, 1);
}

/* Look again, because at first look the thread did not seem to own the slab. */
static __attribute__((noinline)) void after_bit(struct fst_thread *t, const struct fst_owned *own, const struct fst_ref *ref)
{
    if (!bit_counts(own, fst_still_ours(own->slab, own->owner) || fst_ours_behind_fence(t, own->slab, own->owner)))
        after_private(t, ref);
}

static __attribute__((noinline)) void drop_slowly(struct fst_arena *a, const struct fst_ref *ref)
{
    if (!a->plain) {
        if (!a->usable)
            return;
        fst_debug_dropped(a, ref->oid);
    }
    struct fst_thread *t = fst_thread_get(a);
    struct fst_owned *own = t ? owned_slab(t, fst_oid_slab(ref->oid)) : NULL;
    uint64_t *word = t ? fst_word_of(a, ref->oid) : NULL;
    if (word && fst_refs_only_owner(a, ref->entry) && (free_word(word) || free_handed(word))) {
        fst_store_release(&a->entries[ref->entry], 0);
        fst_refs_give(t, ref->entry);
        if (own) {
            give_bit(own, fst_oid_object(ref->oid));
            after_bit(t, own, ref);
        } else {
            after_private(t, ref);
        }
    } else if (fst_refs_drop(a, ref->entry)) {
        fst_reaper_dropped(a, ref->nbytes);
    }
}

void fst_drop(fst_arena *a, const struct fst_ref *ref)
{
    struct fst_thread *t = fst_thread_current;
    if (__builtin_expect(t->arena == a && t->entry_count != FST_THREAD_ENTRIES, 1)) {
        struct fst_owned *own = owned_slab(t, fst_oid_slab(ref->oid));
        uint64_t object = fst_oid_object(ref->oid);
        if (__builtin_expect(own != NULL, 1) && __builtin_expect(free_word(fst_owned_word(own, object)), 1)) {
            uint32_t entry = ref->entry;
            fst_store_release(&t->table[entry], 0);
            t->entries[t->entry_count++] = entry;
            give_bit(own, object);
            if (!bit_counts(own, fst_still_ours(own->slab, own->owner)))
                after_bit(t, own, ref);
            return;
        }
        a = t->arena; /* loaded anew, so that the fast way need not keep it */
    }
    drop_slowly(a, ref);
}

void fst_hold(fst_arena *a, const struct fst_ref *ref)
{
    uint64_t *word = a->usable ? fst_word_of(a, ref->oid) : NULL;
#ifdef FST_MUTANT_HOLD_UNMARKED
    word = NULL;
#endif
    if (word)
        /* before there are two references, either of which may drop */
        fst_word_set(word, FST_WORD_HANDED);
    fst_refs_hold(a, ref->entry);
}

int fst_free(fst_arena *a, const struct fst_ref *ref)
{
    if (a->readonly)
        return fst_is_readonly(a);
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    uint64_t *word = fst_word_of(a, ref->oid);
    if (!word)
        return fst_object_gone(a, ref->oid);
    if (fst_word_set(word, FST_WORD_FREED) & FST_WORD_FREED) {
        fst_debug_freed_before(a, ref->oid);
        return fst_fail(FST_STALE, "the object was freed before");
    }
    return FST_OK;
}
