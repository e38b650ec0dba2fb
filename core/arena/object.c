/* object.c - allocate: how an object and its first reference come to be, by the protocol of
 * refs/claim.h. */
#include <string.h>

#include "arena/object.h"

#include "alloc/active.h"
#include "alloc/child.h"
#include "alloc/debug.h"
#include "alloc/form.h"
#include "alloc/lists.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "alloc/sizeclass.h"
#include "alloc/slab.h"
#include "platform/error.h"
#include "reclaim/reaper.h"
#include "reclaim/reuse.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* What came of an attempt at one object. */
enum attempt { GOT, NONE_FREE, LOST, ENDED };

/* Withdraw an entry that speaks of an object which this thread did not get. It becomes DROPPED, and
 * never EMPTY at once: see refs/claim.h. */
static void withdraw(struct fst_thread *t, uint32_t entry)
{
    if (fst_refs_drop(t->arena, entry))
        fst_add32(&t->arena->self->dropped, 1);
}

/* Write the entry LIVE, and then swing the word from free to ALLOCATED, in a slab that nobody owns.
 * This needs no section: the swing is a full barrier, so whoever finds the word ALLOCATED finds the
 * entry; and a slab is given back only when each of its words was swung away from what was seen
 * here. */
static inline bool swing(struct fst_arena *a, uint64_t oid, uint64_t *word, uint64_t seen, uint64_t slack, uint32_t entry)
{
    fst_store_release(&a->entries[entry], fst_entry(oid, fst_word_gen(seen), FST_ENTRY_LIVE));
    /* PAIR(cache-ending): the look at the child comes after this swing. */
    return fst_cas_fence(word, &seen, seen | FST_WORD_ALLOCATED | slack << FST_WORD_SLACK_SHIFT);
}

/* Make one attempt at an object of the active slab. While this thread says that it allocates from
 * the slab, and owns it, nobody else changes the slab's free words: so plain stores will do.
 * `fence`: pass a fence where that is needed. */
static inline __attribute__((always_inline)) enum attempt try_active(struct fst_thread *t, struct fst_active *act, uint64_t slack,
                                                                     bool fence, struct fst_ref *out)
{
    uint64_t bits = *act->bits;
    if (__builtin_expect(!bits || !t->entry_count, 0))
        return NONE_FREE;
    uint64_t bit = (unsigned)__builtin_ctzll(bits), oid = act->oid + bit;
    fst_store_relaxed(&t->slot->allocating, act->id1);
    bool ours = fst_still_ours(act->slab, act->owner) || (fence && fst_ours_behind_fence(t, act->slab, act->owner));
#ifdef FST_MUTANT_NO_OWNER
    ours = true;
#endif
    /* The child is looked at here, too: whoever ends it relies on this look, as a revoker relies on
     * the one above. PAIR(cache-ending) */
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
    /* Whoever finds the word ALLOCATED also finds the entry. */
    fst_store_release(word, seen | FST_WORD_ALLOCATED | slack << FST_WORD_SLACK_SHIFT);
    fst_store_release(&t->slot->allocating, 0);
    out->nbytes = act->size - slack;
    return GOT;
}

/* Did the child end between this thread's look and its swing? Then the object is dropped again.
 * PAIR(cache-ending) */
static bool undone(struct fst_thread *t, uint64_t child, uint64_t child_state, struct fst_ref *out)
{
    if (__builtin_expect(fst_load_acquire(&fst_child_at(t->arena, (uint32_t)child)->state) == child_state, 1))
        return false;
    fst_drop(t->arena, out);
    return true;
}

/* Write the initial content of a cache whose objects are not reused under readers, at each
 * allocation; other caches' objects get it when their slab is carved. Also write what debugging has
 * around an object. */
static void construct(struct fst_arena *a, uint64_t child, const struct fst_ref *ref)
{
    const struct fst_child *c = fst_child_at(a, (uint32_t)child);
    uint64_t bytes;
    if (c->flags & FST_CACHE_DEBUG)
        fst_debug_allocated(a, ref);
    if (!(c->flags & FST_CHILD_HAS_INIT) || (c->flags & FST_CACHE_TYPESAFE_BY_RCU))
        return;
    const uint8_t *init = fst_slab_init(a, c->cache, &bytes);
    if (!init || bytes > ref->nbytes || ref->nbytes > c->size)
        return;
    memcpy(ref->data, init, bytes);
    memset((uint8_t *)ref->data + bytes, 0, ref->nbytes - bytes);
}

/* Wait for a child that did not allocate. FST_OK: it was only suspended, and goes on; otherwise why
 * it does not. */
static int child_resumed(struct fst_arena *a, uint64_t child)
{
    uint32_t state = fst_state(fst_child_resumed(a, child));
    if (state == FST_CHILD_LIVE)
        return FST_OK;
    if (state == FST_CHILD_ENDING && !fst_is_damaged(a))
        return fst_lock_held(a);
    return fst_owner_ended(a);
}

/* Allocate a free object of a slab that nobody owns, because processes have to share it. The swing
 * is made under the child's lock, which a thread that adopts the slab holds as well. */
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
    fst_lists_unlock(a, (uint32_t)child);
    if (!got) {
        withdraw(t, entry);
        return LOST;
    }
    out->nbytes = fst_form_asked(fst_slab_whole(s, c), slack);
    out->data = fst_slab_data(a, s, id, object * c->stride, out->nbytes);
    out->oid = oid;
    out->entry = entry;
    if (!out->data) {
        fst_drop(a, out);
        return NONE_FREE;
    }
    if (undone(t, child, child_state, out))
        return ENDED;
    if (fst_child_constructs(c))
        construct(a, child, out);
    return GOT;
}

/* Allocate from what other threads own of the child and have free, because no slab can be made.
 * LOST: there may be a free one now, so the caller tries again. */
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

/* There is no memory, and other threads' slabs were looked at: was nothing found only because a
 * lock took too long, or because this thread may not wait? */
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
            return fst_owner_ended(t->arena);
        fst_reuse_for_child(t, child);
        uint64_t less = slack + fst_debug_behind(fst_load_relaxed(&fst_child_at(t->arena, (uint32_t)child)->flags));
        int rc = fst_active_make(t, child, &act);
        if (rc == FST_FULL || rc == FST_LIMIT) {
            if (fst_reuse_at_need(t, fst_child_at(t->arena, (uint32_t)child)->stride))
                continue;
            uint32_t given_up = fst_lock_given_up();
            enum attempt got = steal(t, child, less, out);
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
            /* Nobody may be able to revoke the child's slabs from this thread, so let go of
             * them. */
            if (rc != FST_HELD && fst_active_is(t, (uint32_t)child))
                fst_active_let_go(t, (uint32_t)child);
        }
        if (rc || fst_is_damaged(t->arena))
            return fst_verdict(t->arena, rc);
        if (t->entry_count == 0 && (rc = fst_refs_refill(t)) != FST_OK)
            return rc;
        if (try_active(t, act, less, true, out) != GOT)
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
        return fst_is_readonly(a);
    *t = fst_thread_get(a);
    return *t ? FST_OK : fst_thread_refused(a);
}

static __attribute__((noinline)) int alloc_prepared(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out)
{
    struct fst_thread *t = NULL;
    int rc = prepare(a, &t);
    return rc ? rc : alloc_slow(t, child, slack, out);
}

/* Try the way to allocate where objects of the child go to other processes. */
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

/* Do as alloc_slow does, as far as that needs no memory from the system. */
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

/* The fast path, without a call and without a loop. When it does not give an object, `rest` does
 * what is left to do. It gets arena and child from where they are found again, because keeping them
 * would take two registers. */
static inline int alloc_object(struct fst_arena *a, uint64_t child, uint64_t slack, struct fst_ref *out, alloc_rest *rest)
{
    struct fst_thread *t = fst_thread_current;
    if (__builtin_expect(t->arena != a, 0))
        return rest(a, child, slack, out);
    struct fst_active *act = fst_active_of(t, (uint32_t)child);
    FST_IN_REGISTER(act);
    if (__builtin_expect(act->fast_id != child, 0)) /* always true where the arena is read-only */
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

int fst_object_alloc_run(struct fst_thread *t, uint64_t child, uint64_t nbytes, uint64_t slack, struct fst_ref *out)
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
        /* The state is looked at after the word, as in try_active: somebody may have given the slab
         * back, which is still empty. */
        if (fst_load_acquire(&s->state) != slab_state || (seen & FST_WORD_FLAGS)) {
            fst_refs_give(t, entry);
            continue;
        }
        if (!swing(a, oid, word, seen, slack, entry)) {
            withdraw(t, entry);
            continue;
        }
        *out = (struct fst_ref){.data = fst_slab_data(a, s, id, 0, nbytes), .nbytes = nbytes, .oid = oid, .entry = entry};
        if (!out->data) {
            fst_drop(a, out);
            return fst_damage(a);
        }
        if (undone(t, child, child_state, out))
            continue;
        if (fst_child_at(a, (uint32_t)child)->flags & FST_CACHE_DEBUG)
            fst_debug_allocated(a, out);
        return FST_OK;
    }
}

/* The class for an object where size classes are debugged: one with room behind the bytes, as far
 * as the word can tell how much. A text behind the bytes makes it a run of its own, which keeps the
 * end of its memory apart. */
static uint32_t debugged_class(const struct fst_arena *a, uint64_t nbytes, uint64_t mark)
{
    uint32_t class = fst_size_class_of(nbytes + fst_debug_room(a));
    if (mark)
        return mark == fst_form_mark(0) ? FST_SIZE_CLASS_LARGE : class;
    return class != FST_SIZE_CLASS_LARGE && fst_size_class_bytes(class) - nbytes > FST_FORM_OWN ? FST_SIZE_CLASS_LARGE : class;
}

static __attribute__((noinline)) int alloc_sized_debugged(struct fst_thread *t, uint64_t group, uint64_t nbytes, uint64_t mark,
                                                          struct fst_ref *out)
{
    struct fst_arena *a = t->arena;
    uint32_t class = debugged_class(a, nbytes, mark);
    struct fst_sized sized;
    int rc = fst_size_class_child(a, group, class, &sized);
    if (rc)
        return rc;
    if (class == FST_SIZE_CLASS_LARGE)
        return fst_object_alloc_run(t, sized.child, nbytes, mark, out);
    return alloc_slow(t, sized.child, mark ? mark : fst_size_class_bytes(class) - nbytes, out);
}

/* Allocate an object of a size class of at least so many bytes, or in a run of its own. `mark`: the
 * mark of its form; 0: it has none. */
static int alloc_sized(fst_arena *a, uint64_t group, uint64_t nbytes, uint64_t mark, struct fst_ref *out)
{
    struct fst_thread *t = NULL;
    int rc = prepare(a, &t);
    if (rc)
        return rc;
    if (nbytes > a->known.capacity)
        return fst_fail(FST_FULL, "%s asked for, the arena's capacity is %s", fst_exact(nbytes), fst_exact(a->known.capacity));
    uint32_t class = fst_size_class_of(nbytes);
    struct fst_sized *known = fst_sized_of(t, group, class);
    for (;;) {
        bool had = fst_sized_is(known, group, class);
        if (!had && fst_debug_room(a)) /* then no child is ever remembered */
            return alloc_sized_debugged(t, group, nbytes, mark, out);
        if (!had && (rc = fst_size_class_child(a, group, class, known)) != FST_OK)
            return rc;
        if (class == FST_SIZE_CLASS_LARGE)
            rc = fst_object_alloc_run(t, known->child, nbytes, mark, out);
        else
            rc = alloc_object(a, known->child, mark ? mark : fst_size_class_bytes(class) - nbytes, out, rest_of_alloc);
        if (rc != FST_CLOSED)
            return rc;
        known->child = 0; /* that child may have been released while its group lives */
        if (!had)
            return rc;
    }
}

int fst_alloc_bytes(fst_arena *a, uint64_t group, uint64_t nbytes, struct fst_ref *out)
{
    return alloc_sized(a, group, nbytes, 0, out);
}

int fst_alloc_form(fst_arena *a, uint64_t group, uint64_t nbytes, const struct fst_form_spec *form, struct fst_ref *out)
{
    uint64_t whole = nbytes + (form->form ? 0 : fst_form_behind_bytes(form->text_bytes));
    if (whole < nbytes || form->form > FST_MAX_FORMS)
        return fst_fail(FST_INVALID, "no such form, or no such number of bytes");
    int rc = alloc_sized(a, group, whole, fst_form_mark(form->form), out);
    if (rc)
        return rc;
    out->nbytes = nbytes;
    out->form = form->form ? form->form : FST_FORM_OWN;
    if (form->form)
        return FST_OK;
    uint32_t class = fst_debug_room(a) ? FST_SIZE_CLASS_LARGE : fst_size_class_of(whole);
    if (class != FST_SIZE_CLASS_LARGE)
        whole = fst_size_class_bytes(class);
    /* Nobody else knows the object yet. */
    fst_form_put_behind(out->data, whole, nbytes, form->text, form->text_bytes);
    return FST_OK;
}
