/* object.c - allocate, drop, free, share, take, resolve: the life of a reference, as refs/claim.h lays it down. */
#include <string.h>

#include "arena/object.h"

#include "alloc/active.h"
#include "alloc/child.h"
#include "alloc/group.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "alloc/sizeclass.h"
#include "alloc/slab.h"
#include "platform/error.h"
#include "reclaim/message.h"
#include "reclaim/reaper.h"
#include "reclaim/reuse.h"
#include "refs/claim.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"
#include "teardown/release.h"

/* ---- allocate ---- */

/* What became of an attempt at one object. */
enum attempt { GOT, NONE_FREE, LOST, ENDED };

/* The entry speaks of an object we did not get. DROPPED and never EMPTY: see refs/claim.h. */
static void withdraw(struct fst_thread *t, uint32_t entry)
{
    if (fst_refs_drop(t->arena, entry))
        fst_add32(&t->arena->self->dropped, 1);
}

/* Entry LIVE, then the word from free to ALLOCATED, in a slab that nobody owns. Needs no section: the swing is a full barrier, so whoever
 * finds the word ALLOCATED finds the entry; and a slab is given back only when each of its words was swung away from what we saw. */
static inline bool swing(struct fst_arena *a, uint64_t oid, uint64_t *word, uint64_t seen, uint64_t slack, uint32_t entry)
{
    fst_store_release(&a->entries[entry], fst_entry(oid, fst_word_gen(seen), FST_ENTRY_LIVE));
    return fst_cas64(word, &seen, seen | FST_WORD_ALLOCATED | slack << FST_WORD_SLACK_SHIFT);
}

/* After we have said what we do, in the thread slot or by a free word: is the slab still ours? PAIR(revoke): whoever takes it away marks it,
 * has us pass a barrier, and then looks. Where we cannot be made to pass one, our books hold FST_OWNER_NEVER, so that one comparison says that
 * all is as usual, and the fence is behind it. */
static inline bool still_ours(const struct fst_slab *slab, uint64_t owner)
{
    fst_compiler_barrier();
    return __builtin_expect(fst_load_acquire(&slab->owner) == owner, 1);
}

static bool ours_behind_fence(const struct fst_thread *t, const struct fst_slab *slab, uint64_t owner)
{
    if (owner != FST_OWNER_NEVER)
        return false;
    fst_full_fence();
    return fst_load_acquire(&slab->owner) == t->name;
}

/* One attempt at an object of the active slab. While we say that we allocate from it, and it is ours, nobody else changes its free words: so
 * plain stores do. `fence`: where that is needed. */
static inline __attribute__((always_inline)) enum attempt try_active(struct fst_thread *t, struct fst_active *act, uint64_t slack,
                                                                     bool fence, struct fst_ref *out)
{
    uint64_t bits = *act->bits;
    if (__builtin_expect(!bits || !t->entry_count, 0))
        return NONE_FREE;
    uint64_t bit = (unsigned)__builtin_ctzll(bits), oid = act->oid + bit;
    fst_store_relaxed(&t->slot->allocating, act->id1);
    bool ours = still_ours(act->slab, act->owner) || (fence && ours_behind_fence(t, act->slab, act->owner));
#ifdef FST_MUTANT_NO_OWNER
    ours = true;
#endif
    /* The child, too: whoever ends it counts on the same. PAIR(cache-ending) */
    if (!ours || __builtin_expect(fst_load_acquire(&act->child->state) != act->child_state, 0)) {
        fst_store_release(&t->slot->allocating, 0);
        return NONE_FREE;
    }
    uint64_t *word = fst_active_word(act, bit), seen = fst_load_acquire(word);
    *act->bits = bits & (bits - 1);
    if (__builtin_expect((seen & FST_WORD_FLAGS) != 0, 0)) {
        fst_store_release(&t->slot->allocating, 0);
        return LOST;
    }
    uint32_t entry = t->entries[--t->entry_count];
    out->data = act->data + bit * act->stride;
    out->oid = oid;
    out->entry = entry;
#ifdef FST_MUTANT_WORD_BEFORE_ENTRY
    fst_store_release(word, seen | FST_WORD_ALLOCATED | slack << FST_WORD_SLACK_SHIFT);
#endif
    fst_store_release(&t->table[entry], fst_entry(oid, fst_word_gen(seen), FST_ENTRY_LIVE));
    fst_store_release(word, seen | FST_WORD_ALLOCATED | slack << FST_WORD_SLACK_SHIFT); /* who finds it finds the entry */
    fst_store_release(&t->slot->allocating, 0);
    out->nbytes = act->size - slack;
    return GOT;
}

/* The child ended between our look and our swing: PAIR(cache-ending). */
static bool undone(struct fst_thread *t, uint64_t child, uint64_t child_state, struct fst_ref *out)
{
    if (__builtin_expect(fst_load_acquire(&fst_child_at(t->arena, (uint32_t)child)->state) == child_state, 1))
        return false;
    fst_drop(t->arena, out);
    return true;
}

/* `init` of a cache whose objects are not reused under readers: at each allocation. Others get it when their slab is carved. */
static void construct(struct fst_arena *a, uint64_t child, const struct fst_ref *ref)
{
    const struct fst_child *c = fst_child_at(a, (uint32_t)child);
    uint64_t bytes;
    const uint8_t *init = fst_slab_init(a, c->cache, &bytes);
    if (!init || bytes > ref->nbytes)
        return;
    memcpy(ref->data, init, bytes);
    memset((uint8_t *)ref->data + bytes, 0, ref->nbytes - bytes);
}

/* The child did not allocate: FST_OK when it was only suspended, and goes on; else why not. */
static int child_resumed(struct fst_arena *a, uint64_t child)
{
    uint32_t state = fst_state(fst_child_resumed(a, child));
    if (state == FST_CHILD_LIVE)
        return FST_OK;
    if (state == FST_CHILD_ENDING && !fst_is_damaged(a))
        return fst_lock_held(a);
    return fst_fail(FST_CLOSED, "the cache or the group has ended");
}

/* A free object of a slab that nobody owns, because processes have to share it. The swing is made under the child's lock: whoever adopts
 * the slab holds that, too. */
static enum attempt alloc_unowned(struct fst_thread *t, uint64_t child, uint64_t child_state, uint64_t slack, struct fst_ref *out)
{
    struct fst_arena *a = t->arena;
    struct fst_child *c = fst_child_at(a, (uint32_t)child);
    uint32_t id, object, entry = fst_refs_reserve(t);
    if (entry == FST_NONE)
        return NONE_FREE;
    if (!fst_slab_find_shared(a, (uint32_t)child, child_state, &id, &object)) {
        fst_refs_give(t, entry);
        return NONE_FREE;
    }
    struct fst_slab *s = fst_slab_at(a, id);
    uint64_t *word = fst_slab_word(s, FST_SLAB_ID_CLASS(id), object), seen = fst_load_acquire(word), oid = fst_oid(id, object);
    bool got = !(seen & FST_WORD_FLAGS) && swing(a, oid, word, seen, slack, entry);
    fst_slab_unlock(a, (uint32_t)child);
    if (!got) {
        withdraw(t, entry);
        return LOST;
    }
    out->nbytes = (s->asked ? s->asked : c->size) - slack;
    out->data = fst_slab_data(a, s, id, object * c->stride, out->nbytes);
    out->oid = oid;
    out->entry = entry;
    if (!out->data) {
        fst_drop(a, out);
        return NONE_FREE;
    }
    if (undone(t, child, child_state, out))
        return ENDED;
    if ((c->flags & FST_CHILD_HAS_INIT) && !(c->flags & FST_CACHE_TYPESAFE_BY_RCU))
        construct(a, child, out);
    return GOT;
}

/* There is no slab to be had: what others have of the child that is free. LOST: try again. */
static enum attempt steal(struct fst_thread *t, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    uint64_t child_state = fst_load_acquire(&fst_child_at(t->arena, (uint32_t)child)->state);
    if (fst_state(child_state) != FST_CHILD_LIVE || !fst_id_is(child, child_state))
        return ENDED;
    enum attempt got = alloc_unowned(t, child, child_state, slack, out);
    if (got == NONE_FREE && fst_slab_revoke_owned(t, child, child_state))
        got = LOST;
    return got;
}

/* There is no memory, so others' was asked for: was it for want of a lock, or of leave to wait, that none was found? */
static int verdict_on_need(struct fst_arena *a, bool section, uint32_t given_up, int rc)
{
    if (fst_lock_given_up() != given_up)
        return fst_lock_held(a);
    return fst_may_wait() || section ? rc : fst_would_wait("the arena is short of memory");
}

static __attribute__((noinline)) int alloc_slow(struct fst_thread *t, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    for (;;) {
        struct fst_active *act;
        if (!fst_is_child(t->arena, (uint32_t)child))
            return fst_fail(FST_CLOSED, "the cache or the group has ended");
        fst_reuse_for_child(t, child);
        int rc = fst_active_make(t, child, &act);
        if (rc == FST_FULL || rc == FST_LIMIT) {
            if (fst_reuse_at_need(t, fst_child_at(t->arena, (uint32_t)child)->stride))
                continue;
            uint32_t given_up = fst_lock_given_up();
            enum attempt got = steal(t, child, slack, out);
            if (got == LOST && !fst_is_damaged(t->arena))
                continue;
            if (got == GOT)
                return FST_OK;
            int why = got == ENDED ? child_resumed(t->arena, child) : FST_OK;
            return fst_verdict(t->arena, why ? why : verdict_on_need(t->arena, t->nest != 0, given_up, rc));
        }
        if (rc == FST_CLOSED) {
            rc = child_resumed(t->arena, child);
            if (rc == FST_OK && !fst_is_damaged(t->arena))
                continue;
            if (rc != FST_HELD && fst_active_is(t, (uint32_t)child)) /* nobody may be able to take its slabs from us */
                fst_active_let_go(t, (uint32_t)child);
        }
        if (rc || fst_is_damaged(t->arena))
            return fst_verdict(t->arena, rc);
        if (t->entry_count == 0 && (rc = fst_refs_refill(t)) != FST_OK)
            return rc;
        if (try_active(t, act, slack, true, out) != GOT)
            continue;
        if (act->constructs)
            construct(t->arena, child, out);
        if (!fst_is_damaged(t->arena))
            return FST_OK;
        fst_drop(t->arena, out);
        return fst_damage(t->arena);
    }
}

static int prepare(struct fst_arena *a, struct fst_thread **t)
{
    if (__builtin_expect(a->readonly, 0))
        return fst_fail(FST_READONLY, "the arena is attached read-only");
    *t = fst_thread_get(a);
    return *t ? FST_OK : fst_thread_refused(a);
}

static __attribute__((noinline)) int alloc_prepared(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    struct fst_thread *t = NULL;
    int rc = prepare(a, &t);
    return rc ? rc : alloc_slow(t, child, slack, out);
}

/* Where objects of the child go to other processes. */
static inline enum attempt alloc_fenced(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    struct fst_thread *t = fst_thread_current;
    struct fst_active *act = fst_active_of(t, (uint32_t)child);
    if (t->arena != a || act->child_id != child || act->constructs)
        return NONE_FREE;
    return try_active(t, act, slack, true, out);
}

static __attribute__((noinline)) int rest_of_alloc(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    return alloc_fenced(a, child, slack, out) == GOT ? FST_OK : alloc_prepared(a, child, slack, out);
}

/* As alloc_slow, as far as the system is not asked for memory. */
static __attribute__((noinline)) int rest_at_once(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    struct fst_thread *t = fst_thread_current;
    struct fst_active *act;
    if (alloc_fenced(a, child, slack, out) == GOT)
        return FST_OK;
    if (t->arena != a || a->readonly || !fst_is_child(a, (uint32_t)child))
        return FST_BUSY;
    fst_reuse_for_child(t, child);
    if (fst_active_find(t, child, &act) != FST_OK || act->constructs || !t->entry_count)
        return FST_BUSY;
    return try_active(t, act, slack, true, out) == GOT ? FST_OK : FST_BUSY;
}

typedef int alloc_rest(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out);

/* The fast path: no call, no loop. What is left to do when that does not give an object is in `rest`, which gets arena and child from where
 * they are found again: keeping them would take two registers. */
static inline int alloc_object(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out, alloc_rest *rest)
{
    struct fst_thread *t = fst_thread_current;
    if (__builtin_expect(t->arena != a, 0))
        return rest(a, child, slack, out);
    struct fst_active *act = fst_active_of(t, (uint32_t)child);
    FST_IN_REGISTER(act);
    if (__builtin_expect(act->fast_id != child, 0)) /* so always where the arena is read-only */
        return rest(a, child, slack, out);
    if (__builtin_expect(try_active(t, act, slack, false, out) == GOT, 1))
        return FST_OK;
    return rest(t->arena, act->fast_id, slack, out);
}

int fst_alloc_at_once(fst_arena *a, uint64_t child, struct fst_ref *out)
{
    return alloc_object(a, child, 0, out, rest_at_once);
}

int fst_alloc(fst_arena *a, uint64_t child, struct fst_ref *out)
{
    return alloc_object(a, child, 0, out, rest_of_alloc);
}

int fst_alloc_many(fst_arena *a, uint64_t child, size_t n, struct fst_ref *out, size_t *got)
{
    size_t i = 0;
    int rc = FST_OK;
    while (i < n && (rc = alloc_object(a, child, 0, &out[i], rest_of_alloc)) == FST_OK)
        i++;
    *got = i;
    return rc;
}

int fst_object_alloc_run(struct fst_thread *t, uint64_t child, uint64_t nbytes, struct fst_ref *out)
{
    struct fst_arena *a = t->arena;
    for (;;) {
        uint32_t id, entry = fst_refs_reserve(t);
        if (entry == FST_NONE)
            return FST_FULL;
        uint64_t slab_state, child_state = fst_load_acquire(&fst_child_at(a, (uint32_t)child)->state);
        fst_reuse_for_run(t, child, fst_pages_of(nbytes));
        int rc = fst_slab_large(t, child, nbytes, &id, &slab_state);
        if (rc) {
            fst_refs_give(t, entry);
            if (rc == FST_CLOSED && child_resumed(a, child) == FST_OK && !fst_is_damaged(a))
                continue; /* its cache was not destroyed after all */
            if ((rc == FST_FULL || rc == FST_LIMIT) && fst_reuse_at_need(t, nbytes))
                continue;
            return rc;
        }
        struct fst_slab *s = fst_slab_at(a, id);
        uint64_t *word = fst_slab_word(s, FST_SLAB_ID_CLASS(id), 0), seen = fst_load_acquire(word), oid = fst_oid(id, 0);
        /* The state after the word, as in try_active. */
        if (fst_load_acquire(&s->state) != slab_state || (seen & FST_WORD_FLAGS)) { /* somebody gave the still empty slab back */
            fst_refs_give(t, entry);
            continue;
        }
        if (!swing(a, oid, word, seen, 0, entry)) {
            withdraw(t, entry);
            continue;
        }
        *out = (struct fst_ref){.data = fst_slab_data(a, s, id, 0, nbytes), .nbytes = nbytes, .oid = oid, .entry = entry};
        if (!out->data) {
            fst_drop(a, out);
            return fst_damage(a);
        }
        if (!undone(t, child, child_state, out))
            return FST_OK;
    }
}

int fst_alloc_bytes(fst_arena *a, uint64_t group, uint64_t nbytes, struct fst_ref *out)
{
    struct fst_thread *t = NULL;
    uint64_t child;
    int rc = prepare(a, &t);
    if (rc)
        return rc;
    if (nbytes > a->known.capacity)
        return fst_fail(FST_FULL, "%s asked for, the arena's capacity is %s", fst_exact(nbytes), fst_exact(a->known.capacity));
    rc = fst_size_class_child(a, group, nbytes, &child);
    if (rc)
        return rc;
    if (nbytes > FST_SIZE_CLASS_MAX)
        return fst_object_alloc_run(t, child, nbytes, out);
    return alloc_object(a, child, fst_size_class_bytes(fst_size_class_of(nbytes)) - nbytes, out, rest_of_alloc);
}

/* ---- drop, hold, free ---- */

/* The object's slab is not ours, or its child has ended: let the slab know. Nothing of the object is touched: it may be somebody else's
 * already. */
static __attribute__((noinline)) void after_private(struct fst_thread *t, const struct fst_ref *ref)
{
    if (t->nest) { /* nothing is given back in a section, but the slab must be found again: by an allocation, or by a batch */
        if (fst_slab_freed(t->arena, fst_oid_slab(ref->oid), 0))
            fst_reaper_ended(t->arena);
        return;
    }
    if (ref->nbytes >= FST_EXTENT_PAGES * FST_PAGE)
        fst_reaper_watch(t->arena); /* memory worth giving back to the system, if it stays idle */
    if (fst_release_after_free(t, ref->oid))
        fst_reaper_ended(t->arena);
}

/* The word from exactly ALLOCATED, FREED apart, to free; then the entry to EMPTY. A plain store: nobody else knows the object, so nobody
 * resolves it, and a fork that marks it SHARED just now copies an entry that no Block of the child's speaks for. A batch may have condemned
 * the word since our look; it finds it in another generation and does nothing. */
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

/* The same where somebody was given a handle: a swing decides. */
static bool free_handed(uint64_t *word)
{
    uint64_t seen = fst_load_relaxed(word);
    if ((seen & (FST_WORD_FLAGS & ~FST_WORD_FREED)) != (FST_WORD_ALLOCATED | FST_WORD_HANDED) ||
        !fst_cas64(word, &seen, fst_word_free(seen)))
        return false;
    return true;
}

/* Where the thread keeps what it knows of the slab, if it has owned it. While we have an object of it, where its words are holds. */
static inline struct fst_owned *owned_slab(struct fst_thread *t, uint32_t slab)
{
    struct fst_owned *own = fst_owned_of(t, slab);
    FST_IN_REGISTER(own);
    return __builtin_expect(own->id1 == slab + 1, 1) ? own : NULL;
}

/* After the word was freed: the object is found again by its bit. */
static inline void give_bit(struct fst_owned *own, uint64_t object)
{
    uint64_t *free = &own->free[object / 64], bits = *free | 1ull << (object % 64);
    FST_IN_REGISTER(bits);
    *free = bits;
}

/* Unless the slab is not ours any more. PAIR(revoke): whoever has taken it away sees the free word, or we see that it has. Or its child may
 * have ended: then nobody allocates from it any more. */
static inline bool bit_counts(const struct fst_owned *own, bool ours)
{
#ifdef FST_MUTANT_KEEP_BIT
    return true;
#endif
    return ours && __builtin_expect(fst_load_relaxed(&own->child->state) == own->child_state, 1);
}

/* The slab was not found ours at first look. */
static __attribute__((noinline)) void after_bit(struct fst_thread *t, const struct fst_owned *own, const struct fst_ref *ref)
{
    if (!bit_counts(own, still_ours(own->slab, own->owner) || ours_behind_fence(t, own->slab, own->owner)))
        after_private(t, ref);
}

static __attribute__((noinline)) void drop_slowly(struct fst_arena *a, const struct fst_ref *ref)
{
    if (!a->usable)
        return;
    struct fst_thread *t = fst_thread_get(a);
    struct fst_owned *own = t ? owned_slab(t, fst_oid_slab(ref->oid)) : NULL;
    uint64_t *word = t ? fst_word_of(a, ref->oid) : NULL;
    if (word && fst_object_only_owner(a, ref->entry) && (free_word(word) || free_handed(word))) {
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
            if (!bit_counts(own, still_ours(own->slab, own->owner)))
                after_bit(t, own, ref);
            return;
        }
        a = t->arena; /* not kept until here */
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
        fst_word_set(word, FST_WORD_HANDED); /* before there are two, either of which may drop */
    fst_refs_hold(a, ref->entry);
}

/* We hold a reference, so it is there. */
static int gone_word(struct fst_arena *a, uint64_t oid)
{
    fst_damaged(a, "object %llx is in use, and there is no such object", (unsigned long long)oid);
    return fst_damage(a);
}

int fst_free(fst_arena *a, const struct fst_ref *ref)
{
    if (a->readonly)
        return fst_fail(FST_READONLY, "the arena is attached read-only");
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    uint64_t *word = fst_word_of(a, ref->oid);
    if (!word)
        return gone_word(a, ref->oid);
    if (fst_word_set(word, FST_WORD_FREED) & FST_WORD_FREED)
        return fst_fail(FST_STALE, "the object was freed before");
    return FST_OK;
}

/* ---- handles and messages ---- */

struct fst_handle fst_object_handle(struct fst_arena *a, uint64_t oid, uint64_t generation)
{
    uint64_t slab =
        fst_oid_is_group(oid) ? 0 : fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->state) >> FST_STATE_GEN_SHIFT;
    return (struct fst_handle){generation | fst_handle_tag(a) << FST_HANDLE_TAG_SHIFT, oid | slab << FST_HANDLE_SLAB_SHIFT};
}

/* Objects of this child go to other processes from now on: who owns slabs of it begins to fence. Of other threads only what they own next. */
void fst_object_note_shared(struct fst_arena *a, uint64_t oid)
{
    uint32_t index = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    if (!fst_is_child(a, index) || fst_load_relaxed(&fst_child_at(a, index)->shared))
        return;
    fst_store_relaxed(&fst_child_at(a, index)->shared, 1);
    if (fst_thread_current->arena == a && fst_active_is(fst_thread_current, index))
        fst_active_let_go(fst_thread_current, index);
}

int fst_handle_of(fst_arena *a, const struct fst_ref *ref, struct fst_handle *out)
{
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    uint64_t *word = fst_word_of(a, ref->oid);
    if (!word)
        return gone_word(a, ref->oid);
    fst_object_note_shared(a, ref->oid);
    uint64_t seen = fst_word_set(word, FST_WORD_HANDED); /* whoever reads the handle may resolve it from now on */
    *out = fst_object_handle(a, ref->oid, fst_word_gen(seen));
    return FST_OK;
}

static int check_handle(struct fst_arena *a, const struct fst_handle *h, bool group)
{
    if (h->generation_tag >> FST_HANDLE_TAG_SHIFT != fst_handle_tag(a))
        return fst_fail(
            FST_FOREIGN,
            "the handle is of another arena: this one was made since, or the handle comes from another machine or container");
    if (fst_oid_is_group(fst_handle_oid(h)) != group)
        return fst_fail(FST_STALE, "the handle names %s", group ? "no group" : "a group, not an object");
    return FST_OK;
}

/* Is the object there to be had? WAIT: its cache's destroy() is looking for users right now. */
enum look { THERE, GONE, WAIT };

static enum look look(struct fst_arena *a, const struct fst_handle *h)
{
    uint64_t oid = fst_handle_oid(h);
    if (!fst_word_of(a, oid))
        return GONE;
    const struct fst_slab *s = fst_slab_known(a, fst_oid_slab(oid));
    uint64_t state = fst_load_acquire(&s->state);
    uint32_t index = fst_load_relaxed(&s->child);
    if (fst_state(state) != FST_SLAB_LIVE || fst_oid_object(oid) >= fst_load_relaxed(&s->objects) || !fst_is_child(a, index))
        return GONE;
    if ((state >> FST_STATE_GEN_SHIFT & ((1u << 25) - 1)) != h->oid_slab >> FST_HANDLE_SLAB_SHIFT)
        return GONE;
    uint32_t child = fst_state(fst_load_acquire(&fst_child_at(a, index)->state));
    return child == FST_CHILD_ENDED ? GONE : child == FST_CHILD_ENDING ? WAIT : THERE;
}

static inline int fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out)
{
    uint32_t id = fst_oid_slab(oid);
    struct fst_slab *s = fst_slab_known(a, id);
    const struct fst_child *c = fst_child_at(a, s->child);
    const uint64_t *word = fst_slab_word(s, FST_SLAB_ID_CLASS(id), fst_oid_object(oid));
    if (__builtin_expect(!fst_shape_sized(a, c), 0)) /* its life is over no sooner than our object's */
        return fst_shape_check(a, s->child, fst_load_relaxed(&c->state), 0, 0);
    out->nbytes = s->asked ? s->asked : c->size - fst_word_slack(fst_load_relaxed(word));
    out->data = fst_slab_data(a, s, id, fst_oid_object(oid) * c->stride, out->nbytes);
    out->oid = oid;
    out->entry = entry;
    return out->data ? FST_OK : fst_damage(a);
}

int fst_object_fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out)
{
    return fill(a, oid, entry, out);
}

static int stale(void)
{
    return fst_fail(FST_STALE, "the handle's object is gone: it was freed, or nobody held a reference any more");
}

/* One attempt at a reference: from the message, or (message NULL) from the bare handle. FST_BUSY: try again. */
static int try_get(struct fst_thread *t, const struct fst_handle *h, const struct fst_message *message, struct fst_ref *out)
{
    struct fst_arena *a = t->arena;
    uint64_t oid = fst_handle_oid(h), generation = fst_handle_generation(h);
    uint32_t entry;
    bool dropped = false, took = false;
    enum look seen = look(a, h);
    int rc = seen == THERE ? FST_OK : seen == WAIT ? FST_BUSY : message ? fst_inflight_stale(a, message) : stale();
    if (rc == FST_OK)
        rc = message ? fst_claim_message(t, message, &entry, &took, &dropped)
                     : fst_claim(t, oid, generation, true, &entry, &dropped);
    /* A bare handle counts only if nobody ended the object meanwhile. PAIR(cache-ending) */
    if (rc == FST_OK && !took && (seen = look(a, h)) != THERE) {
        dropped |= fst_refs_drop(a, entry);
        rc = seen == WAIT ? FST_BUSY : message ? fst_inflight_stale(a, message) : stale();
    }
    if (rc == FST_OK && (rc = fill(a, oid, entry, out)) != FST_OK)
        dropped |= fst_refs_drop(a, entry);
    if (dropped)
        fst_reaper_dropped(a, 0);
    return rc;
}

/* destroy() of the object's cache is looking for users: wait until it has decided. */
static __attribute__((noinline)) int object_resumed(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child), given_up = fst_lock_given_up();
    if (fst_is_child(a, child))
        fst_child_resumed(a, child);
    return fst_verdict(a, fst_lock_given_up() == given_up ? FST_OK : fst_lock_held(a));
}

static int get(fst_arena *a, const struct fst_handle *h, const struct fst_message *message, struct fst_ref *out)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return fst_thread_refused(a);
    int rc = check_handle(a, h, false);
    if (rc == FST_OK)
        rc = fst_verdict(a, FST_OK);
    while (rc == FST_OK && (rc = try_get(t, h, message, out)) == FST_BUSY) {
        rc = object_resumed(a, fst_handle_oid(h));
    }
    if (rc == FST_OK)
        fst_reaper_watch(a);
    return rc;
}

int fst_resolve(fst_arena *a, const struct fst_handle *handle, struct fst_ref *out)
{
    return get(a, handle, NULL, out);
}

/* Has its group or cache been destroyed? Then nothing of it goes in flight any more. */
static bool destroyed(struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return fst_state(fst_load_seq_cst(&fst_group_at(a, fst_oid_group_index(oid))->state)) == FST_GROUP_DESTROYED;
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return fst_state(fst_load_seq_cst(&fst_child_at(a, child)->state)) == FST_CHILD_ENDED;
}

/* Of an object, or a group, that the caller has a reference to, so that its generation is the word's. */
static int put_in_flight(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_message *out)
{
    uint64_t *word = fst_word_of(a, oid);
    if (!word)
        return gone_word(a, oid);
    uint64_t generation = fst_word_gen(fst_word_set(word, FST_WORD_SHARED));
    fst_refs_index(a, entry);
    out->handle = fst_object_handle(a, oid, generation);
    uint32_t group = fst_inflight_group_of(a, oid);
    int rc = fst_inflight_put(a, oid, generation, group, &out->entry, &out->tag);
    /* The batch that ends a group looks at the entries in flight once. Either it sees ours, or we see the end here: then the message is a
     * bare handle, which nobody can take, and the object goes with the caller's own reference. */
    if (rc == FST_OK && destroyed(a, oid)) {
        fst_inflight_end(a, out->entry, fst_inflight_word(oid, out->tag));
        out->entry = FST_NONE;
    }
    if (rc == FST_OK && fst_message_sent(a, group))
        fst_reaper_expect(a);
    if (rc == FST_OK)
        fst_reaper_watch(a);
    return rc;
}

int fst_share(fst_arena *a, const struct fst_ref *ref, struct fst_message *out)
{
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    fst_object_note_shared(a, ref->oid);
    return put_in_flight(a, ref->oid, ref->entry, out);
}

int fst_take(fst_arena *a, const struct fst_message *message, struct fst_ref *out)
{
    return get(a, &message->handle, message, out);
}

/* ---- the same for groups ---- */

void fst_group_unref(fst_arena *a, uint64_t group)
{
    if (fst_group_let_go(a, group))
        fst_reaper_dropped(a, 0);
}

uint32_t fst_group_entry(fst_arena *a, uint64_t group)
{
    uint32_t index, entry = fst_group_last_entry(a, group);
    struct fst_thread *t = fst_thread_get(a);
    if (entry != FST_NONE || !t || !fst_group_find(a, group, &index))
        return entry;
    uint64_t generation = fst_word_gen(fst_load_acquire(&fst_group_at(a, index)->word));
    if (fst_refs_get(a, t, fst_oid_group(index), generation, &entry))
        return FST_NONE;
    if (fst_refs_drop(a, entry)) /* the caller has none */
        fst_reaper_dropped(a, 0);
    return entry;
}

void fst_group_unref_at(fst_arena *a, uint64_t group, uint32_t entry)
{
    /* A forked child may not have been given the reference: then it is not where it was. */
    uint64_t word = a->usable && entry < FST_MAX_ENTRIES ? fst_load_relaxed(&a->entries[entry]) : 0;
    if (fst_entry_state(word) != FST_ENTRY_LIVE || fst_entry_oid(word) != fst_oid_group((uint32_t)group) ||
        !fst_refs_owners(a, entry))
        fst_group_unref(a, group);
    else if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
}

int fst_group_share(fst_arena *a, uint64_t group, struct fst_message *out)
{
    struct fst_thread *t = fst_thread_get(a);
    uint32_t entry;
    if (!t)
        return fst_thread_refused(a);
    int rc = fst_group_claim(t, group, &entry);
    if (rc)
        return rc;
    uint32_t index;
    fst_section_enter(t); /* or a group that is destroyed now might be another one by the time that its message is put down */
    bool live = fst_group_find(a, group, &index) && fst_state(fst_group_at(a, index)->state) != FST_GROUP_DESTROYED;
    rc = live ? put_in_flight(a, fst_oid_group(index), entry, out) : fst_fail(FST_CLOSED, "the group has ended");
    fst_section_leave(t);
    if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
    fst_group_again(a, (uint32_t)group);
    return rc;
}

int fst_group_take(fst_arena *a, const struct fst_message *message, uint64_t *group)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return fst_thread_refused(a);
    int rc = check_handle(a, &message->handle, true);
    if (rc)
        return rc;
    uint32_t entry, index = fst_oid_group_index(fst_handle_oid(&message->handle));
    bool took, dropped = false;
    rc = fst_claim_message(t, message, &entry, &took, &dropped);
    if (rc == FST_OK) {
        uint64_t state = fst_load_acquire(&fst_group_at(a, index)->state);
        *group = fst_id(index, state);
        fst_acquire_fence(); /* the state is of the life that we have claimed, if the word says so after it */
        uint64_t generation = fst_word_gen(fst_load_relaxed(&fst_group_at(a, index)->word));
        if (fst_state(state) == FST_GROUP_DESTROYED || generation != fst_handle_generation(&message->handle)) {
            dropped |= fst_refs_drop(a, entry);
            fst_group_again(a, index);
            rc = fst_fail(FST_CLOSED, "the group was destroyed");
        } else {
            fst_group_note_entry(a, *group, entry);
        }
    }
    if (dropped)
        fst_reaper_dropped(a, 0);
    return rc;
}

/* ---- dropping messages ---- */

size_t fst_inflight_drop_from(fst_arena *a, uint64_t older_than, uint64_t group, int32_t pid, bool dead)
{
    struct fst_thread *t = fst_thread_get(a);
    struct fst_message_filter filter = {.older_than = older_than, .group = group, .pid = pid, .dead = dead};
    bool dropped = false;
    size_t n = t ? fst_message_drop(t, &filter, &dropped) : 0;
    if (dropped)
        fst_reaper_dropped(a, 0);
    return n;
}

size_t fst_inflight_expire(fst_arena *a)
{
    struct fst_thread *t = fst_message_expiring(a, fst_now()) && !fst_is_damaged(a) ? fst_thread_get(a) : NULL;
    bool dropped = false;
    size_t n = t ? fst_message_expire(t, &dropped) : 0;
    if (dropped)
        fst_reaper_dropped(a, 0);
    return n;
}
