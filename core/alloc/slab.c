#include "alloc/slab.h"

#include <string.h>

#include "alloc/close.h"
#include "alloc/debug.h"
#include "alloc/lists.h"
#include "alloc/registry.h"
#include "alloc/run.h"
#include "alloc/shape.h"
#include "platform/error.h"
#include "platform/membarrier.h"
#include "rcu/grace.h"
#include "refs/word.h"
#include "region/lock.h"

#define SHARED_FOR 255u /* adoptions that pass a slab by after processes had to share it */
#define KEEP_EMPTY 2u   /* empty one-object slabs that a child keeps before it gives one back */

/* ---- carving ---- */

/* Advance every word to free in a new generation: no handle and no entry that the slab's last life
 * left matches. */
static void carve_words(struct fst_arena *a, uint32_t id, uint32_t objects, const struct fst_child *c)
{
    struct fst_slab *s = fst_slab_at(a, id);
    uint32_t class = FST_SLAB_ID_CLASS(id);
    fst_store_relaxed(&s->objects, (uint16_t)objects);
    for (uint32_t i = 0; i < objects; i++) {
        uint64_t *word = fst_slab_word(s, class, i);
        /* A batch may still try to release a word of the slab's last life, and fails. */
        uint64_t next = fst_word_free(fst_load_relaxed(word));
        /* The store is a release: whoever sees this word also sees that the slab's state has gone
         * on. */
        fst_store_release(word, (next & ~FST_WORD_CHECK) | fst_word_check(fst_oid(id, i)));
    }
    const struct fst_cache *cache = fst_cache_at(a, c->cache);
    if (!fst_shape_has_init(cache) || !(c->flags & FST_CACHE_TYPESAFE_BY_RCU))
        return;
    uint64_t bytes;
    const uint8_t *init = fst_slab_init(a, c->cache, &bytes);
    if (!init || bytes > c->size)
        return;
    uint8_t *data = a->data + ((uint64_t)s->page << FST_PAGE_SHIFT);
    for (uint32_t i = 0; i < objects; i++) {
        memset(data + i * c->stride, 0, c->size);
        memcpy(data + i * c->stride, init, bytes);
    }
}

static void carve(struct fst_arena *a, uint32_t id, uint32_t objects, const struct fst_child *c)
{
    carve_words(a, id, objects, c);
    fst_debug_carve(a, id, objects, c);
}

/* Say whether the slab's next owner has to pass a fence when it allocates. This comes before
 * anybody can see that it owns the slab. */
static void set_fenced(const struct fst_child *c, struct fst_slab *s)
{
    fst_store_relaxed(&s->fenced, fst_load_relaxed(&c->shared) || !fst_membarrier_usable());
}

/* Put a carved slab into the child's lists, unless the child has ended meanwhile. *state receives
 * the slab's state word while it lives. Nobody may read it later: once the lock is given back, the
 * slab can be closed, released and carved again for another child. */
static int enlist(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t id, bool keep, uint64_t *state)
{
    struct fst_child *c = fst_child_at(a, child);
    struct fst_slab *s = fst_slab_at(a, id);
    if (!fst_lists_lock(a, child)) {
        fst_run_release(a, id, s->state);
        return fst_lock_held(a);
    }
    bool alive = fst_load_acquire(&c->state) == child_state;
    if (alive) {
        *state = fst_state_moved(s->state, FST_SLAB_LIVE);
        fst_store_release(&s->state, *state);
        fst_lists_add(a, c, id, FST_LIST_FULL);
        if (keep)
            set_fenced(c, s);
        else
            fst_store_relaxed(&s->owner, 0);
    }
    fst_lists_unlock(a, child);
    if (alive)
        return FST_OK;
    fst_run_release(a, id, s->state);
    return fst_owner_ended(a);
}

const uint8_t *fst_slab_init(struct fst_arena *a, uint32_t cache, uint64_t *bytes)
{
    const struct fst_cache *c = fst_cache_at(a, cache);
    const struct fst_slab *s = fst_slab_at(a, c->init_slab);
    uint64_t page = s->page, pages = s->pages;
    *bytes = c->init_bytes;
    uint64_t all = *bytes + c->rest_bytes;
    if (fst_slab_id_ok(a, c->init_slab) && page + pages <= a->capacity_pages && all <= pages << FST_PAGE_SHIFT)
        return a->data + (page << FST_PAGE_SHIFT);
    fst_damaged(a, "cache %u: its initial content of %s is not in slab %u", cache, fst_exact(all), c->init_slab);
    return NULL;
}

uint8_t *fst_slab_outside(const struct fst_arena *a, uint32_t id, uint64_t offset, uint64_t bytes)
{
    const struct fst_slab *s = fst_slab_at(a, id);
    fst_damaged(a, "slab %u: an object of %s at %llu is not in its %s from %u", id, fst_exact(bytes), (unsigned long long)offset,
                fst_many(s->pages, "page", "pages"), s->page);
    return NULL;
}

/* Is the slab's descriptor what it has to be for this child? Under the child's lock. */
static bool fits(struct fst_arena *a, uint32_t child, uint32_t id)
{
    const struct fst_child *c = fst_child_at(a, child);
    const struct fst_slab *s = fst_slab_at(a, id);
    uint32_t class = FST_SLAB_ID_CLASS(id);
    if (class == c->slab_class && s->objects == c->objects && s->objects <= fst_slab_class_words[class] && s->pages == c->pages &&
        (uint64_t)s->page + s->pages <= a->capacity_pages && fst_shape_fits(a, c))
        return true;
    fst_damaged(a, "slab %u: %s in %s from %u do not fit its child cache %u", id, fst_many(s->objects, "object", "objects"),
                fst_many(s->pages, "page", "pages"), s->page, child);
    return false;
}

int fst_slab_new(struct fst_thread *t, uint32_t child, uint64_t child_state, uint32_t pages, uint32_t objects, uint64_t asked,
                 bool keep, uint32_t *id, uint64_t *state)
{
    struct fst_arena *a = t->arena;
    struct fst_child *c = fst_child_at(a, child);
    int rc = fst_shape_check(a, child, child_state, pages, objects);
    if (rc == FST_OK)
        rc = fst_run_reserve(a, child, child_state, c->slab_class, pages, c->align_order, t->name, id);
    if (rc)
        return rc;
    fst_store_relaxed(&fst_slab_at(a, *id)->asked, asked);
    carve(a, *id, objects, c);
    return enlist(a, child, child_state, *id, keep, state);
}

/* ---- slabs for owners ---- */

/* Leave the slab without an owner, in a way that the next batch finds, if it is still `owner`'s:
 * the child's lock took too long. Whoever holds the lock may mark the owner word at the same time,
 * and then makes the slab its own. */
static void leave_slab(struct fst_arena *a, struct fst_slab *s, uint64_t owner)
{
    uint64_t seen = owner;
    /* This is said before, for whoever looks, and again after, for a batch that began in
     * between. */
    fst_swap32(&a->sb->loose, 1);
    if (owner && !fst_cas64(&s->owner, &seen, FST_OWNER_NOBODY) && seen == (owner | FST_OWNER_REVOKED))
        fst_cas64(&s->owner, &seen, FST_OWNER_NOBODY);
    fst_swap32(&a->sb->loose, 1);
#ifdef FST_MUTANT_LOOSE_SLAB
    fst_swap32(&a->sb->loose, 0);
#endif
}

void fst_slab_let_go(struct fst_arena *a, uint32_t child, uint32_t id, uint64_t owner)
{
    struct fst_slab *s = fst_slab_at(a, id);
    if (!fst_lists_lock_briefly(a, child)) {
        leave_slab(a, s, owner);
        return;
    }
    /* A slab that was revoked meanwhile may be anybody's by now. If its owner word still names
     * `owner`, it is in the life that the owner knows. */
    if (fst_lists_still(s, child) && !((fst_load_relaxed(&s->owner) ^ owner) & ~FST_OWNER_REVOKED))
        fst_lists_unown(a, fst_child_at(a, child), id);
    fst_lists_unlock(a, child);
}

uint32_t fst_slab_adopt_partial(struct fst_thread *t, uint32_t child, bool *held)
{
    struct fst_arena *a = t->arena;
    struct fst_child *c = fst_child_at(a, child);
    uint32_t steps = 0, found = FST_NONE;
    *held = !fst_lists_lock(a, child);
    if (*held)
        return FST_NONE;
    for (uint32_t id = c->partial, next; found == FST_NONE && fst_lists_step(a, child, FST_LIST_PARTIAL, id, &steps); id = next) {
        struct fst_slab *s = fst_slab_at(a, id);
        next = s->next;
        if (!fits(a, child, id) || fst_is_damaged(a))
            break;
        if (s->shared) {
            fst_store_relaxed(&s->shared, s->shared - 1);
            continue;
        }
        fst_lists_move(a, c, id, FST_LIST_FULL);
        /* PAIR(let-go): either whoever frees from here on sees FULL without an owner, or this
         * thread sees the free word. */
        fst_full_fence();
        if (fst_slab_has_free(s, FST_SLAB_ID_CLASS(id))) {
            fst_store_relaxed(&s->frees, 0);
            set_fenced(c, s);
            fst_store_relaxed(&s->owner, t->name);
            found = id;
        }
    }
    fst_lists_unlock(a, child);
    return found;
}

bool fst_slab_find_shared(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t *slab_id, uint32_t *object)
{
    struct fst_child *c = fst_child_at(a, child);
    bool found = false;
    uint32_t steps = 0;
    if (!fst_lists_lock(a, child))
        return false;
    for (uint32_t id = c->partial; !found && c->state == child_state && fst_lists_step(a, child, FST_LIST_PARTIAL, id, &steps);
         id = fst_slab_at(a, id)->next) {
        struct fst_slab *s = fst_slab_at(a, id);
        uint32_t objects = fst_load_relaxed(&s->owner) || !fits(a, child, id) ? 0 : fst_slab_objects(s, FST_SLAB_ID_CLASS(id));
        for (uint32_t i = 0; i < objects && !found; i++) {
            found = !(fst_load_relaxed(fst_slab_word(s, FST_SLAB_ID_CLASS(id), i)) & FST_WORD_FLAGS);
            *slab_id = id;
            *object = i;
        }
        if (found)
            fst_store_relaxed(&s->shared, SHARED_FOR);
    }
    if (!found)
        fst_lists_unlock(a, child);
    return found;
}

/* Revoke those slabs of the child that other threads own and that have free objects, as far as the
 * barriers that were passed allow. True: one of them has no owner now. */
static bool revoke_owned(struct fst_revoke *r, uint32_t child, uint64_t child_state)
{
    struct fst_arena *a = r->a;
    struct fst_child *c = fst_child_at(a, child);
    bool any = false;
    uint32_t steps = 0;
    if (!fst_lists_lock(a, child))
        return false;
    for (uint32_t id = c->full, next; c->state == child_state && fst_lists_step(a, child, FST_LIST_FULL, id, &steps); id = next) {
        struct fst_slab *s = fst_slab_at(a, id);
        next = s->next;
        if (!fst_load_relaxed(&s->owner) || !fst_slab_has_free(s, FST_SLAB_ID_CLASS(id)) || fst_is_damaged(a) || !fst_revoke(r, id))
            continue;
        if (r->far)
            fst_store_relaxed(&s->shared, SHARED_FOR);
        fst_lists_unown(a, c, id);
        any = true;
    }
    fst_lists_unlock(a, child);
    return any;
}

bool fst_slab_revoke_owned(struct fst_thread *t, uint64_t child_id, uint64_t child_state)
{
    struct fst_revoke r = {.a = t->arena, .me = t->name};
    uint32_t child = (uint32_t)child_id;
    if (revoke_owned(&r, child, child_state) || (r.want_near && fst_revoke_near(&r) && revoke_owned(&r, child, child_state)))
        return true;
    if (t->nest || !fst_may_wait())
        return false; /* nothing waits in a section; a thread that may not wait comes again */
    r.others = true;
    return revoke_owned(&r, child, child_state) || (r.want_far && fst_revoke_far(&r) && revoke_owned(&r, child, child_state));
}

int fst_slab_large(struct fst_thread *t, uint64_t child_id, uint64_t asked, uint32_t *slab_id, uint64_t *slab_state)
{
    uint64_t state = 0;
    int rc = fst_registry_check_child(t->arena, child_id, &state);
    if (rc)
        return rc;
    uint64_t whole = asked + fst_slab_behind(fst_child_at(t->arena, (uint32_t)child_id));
    return fst_slab_new(t, (uint32_t)child_id, state, (uint32_t)fst_pages_of(whole), 1, asked, false, slab_id, slab_state);
}

/* ---- frees by other threads than the owner ---- */

static uint32_t partial_length(struct fst_arena *a, const struct fst_child *c, uint32_t max)
{
    uint32_t n = 0;
    for (uint32_t id = c->partial; n < max && id != FST_NONE; id = fst_slab_at(a, id)->next)
        n++;
    return n;
}

/* Should an empty slab of this child be given back at once? */
static bool give_back_now(struct fst_arena *a, const struct fst_child *c)
{
    if (c->flags & FST_CACHE_TYPESAFE_BY_RCU)
        return false; /* this needs a grace period, which shrink waits for */
    if (fst_state(fst_load_relaxed(&c->state)) != FST_CHILD_LIVE || c->pages == 0)
        /* ended or offline; or its runs are of all lengths, and no other object can use one */
        return true;
    return c->objects > 1 ? c->partial != FST_NONE && fst_slab_at(a, c->partial)->next != FST_NONE
                          : partial_length(a, c, KEEP_EMPTY + 1) > KEEP_EMPTY;
}

bool fst_slab_freed(struct fst_arena *a, uint32_t slab_id, uint64_t owner)
{
    struct fst_slab *s = fst_slab_at(a, slab_id);
    fst_full_fence(); /* PAIR(let-go) */
    uint32_t child = fst_load_relaxed(&s->child);
    if (!fst_is_child(a, child))
        return false;
    struct fst_child *c = fst_child_at(a, child);
    /* Nobody allocates from an ended child any more: its active slabs are as good as let go. */
    bool live = fst_state(fst_load_acquire(&c->state)) == FST_CHILD_LIVE;
    if (live && fst_load_relaxed(&s->owner) != 0)
        return false;
    uint32_t frees = fst_load_relaxed(&s->frees) + 1u;
    if (live && frees < fst_load_relaxed(&s->objects) && fst_load_relaxed(&s->list) == FST_LIST_PARTIAL) {
        fst_store_relaxed(&s->frees, (uint16_t)frees);
        return false;
    }
    bool closed = false, waits = false;
    uint64_t state = 0;
    /* A drop waits for nobody: a batch finds the slab (fst_slab_recover). */
    if (!fst_lists_lock_briefly(a, child)) {
        if (!live)
            fst_store_relaxed(&a->sb->ended_slabs, FST_ENDED_SLABS_NOW);
#ifndef FST_MUTANT_LOOSE_DROP
        fst_swap32(&a->sb->loose, 1);
#endif
        return true;
    }
    if (fst_lists_still(s, child) && (fst_load_relaxed(&s->owner) == 0 || !live)) {
        uint32_t used = fst_slab_count(s, FST_SLAB_ID_CLASS(slab_id));
        if (s->list == FST_LIST_FULL && fst_load_relaxed(&s->owner) == 0)
            fst_lists_move(a, c, slab_id, FST_LIST_PARTIAL);
        fst_store_relaxed(&s->frees, (uint16_t)(s->objects - used));
        struct fst_revoke r = {.a = a, .me = owner};
        closed = used == 0 && owner && give_back_now(a, c) && fst_close_try(&r, c, slab_id);
        waits = used == 0 && fst_state(fst_load_relaxed(&c->state)) != FST_CHILD_LIVE && !closed;
        state = s->state;
    }
    fst_lists_unlock(a, child);
    if (closed)
        fst_run_release(a, slab_id, state);
    if (waits)
        fst_store_relaxed(&a->sb->ended_slabs, FST_ENDED_SLABS_NOW);
    return waits;
}

/* Is this the slab of a cache's initial content, or of the rest of its format, whose maker was
 * killed before it said so? Then make it LIVE. */
static bool recover_init(struct fst_arena *a, uint32_t slab_id)
{
    struct fst_slab *s = fst_slab_at(a, slab_id);
    bool found = false;
    if (!fst_registry_lock(a))
        return true; /* it may be, and cannot be looked up now */
    for (uint32_t i = 0; i < fst_cache_top(a) && !found; i++)
        found = fst_state(fst_cache_at(a, i)->state) != FST_CACHE_FREE && fst_cache_at(a, i)->init_slab == slab_id;
    if (found) {
        fst_store_release(&s->state, fst_state_moved(s->state, FST_SLAB_LIVE));
        fst_store_relaxed(&s->owner, 0);
    }
    fst_registry_unlock(a);
    return found;
}

void fst_slab_recover(struct fst_arena *a, uint32_t slab_id, uint64_t me)
{
    struct fst_slab *s = fst_slab_at(a, slab_id);
    uint64_t state = fst_load_acquire(&s->state), owner = fst_load_acquire(&s->owner);
    uint32_t is = fst_state(state);
    if (is == FST_SLAB_LIVE && !owner && fst_load_relaxed(&s->list) == FST_LIST_FULL &&
        fst_slab_has_free(s, FST_SLAB_ID_CLASS(slab_id)))
        fst_slab_freed(a, slab_id, me); /* a drop could not put it where it is found */
    if (is == FST_SLAB_FREE || !fst_owner_gone(a, owner))
        return;
    if (s->child == FST_NONE && (is == FST_SLAB_CARVING || is == FST_SLAB_LIVE) && recover_init(a, slab_id))
        return;
    if (is == FST_SLAB_LIVE && fst_is_child(a, s->child))
        fst_slab_let_go(a, s->child, slab_id, owner);
    else if (is == FST_SLAB_CLOSING && fst_is_child(a, s->child) && (fst_child_at(a, s->child)->flags & FST_CACHE_TYPESAFE_BY_RCU))
        /* The grace period of the slab may not be over: whoever shrinks next waits for one. */
        fst_close_undo(a, slab_id, state);
    else
        fst_run_release(a, slab_id, state);
}
