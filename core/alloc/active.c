#include "alloc/active.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "alloc/registry.h"
#include "alloc/shape.h"
#include "alloc/slab.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/membarrier.h"
#include "refs/word.h"
#include "region/lock.h"

/* how long an allocation under way is waited for, whose thread may be stopped */
#define STUCK_NS    (100 * FST_MS)
#define OWNED_BYTES (1u << 20) /* the most bytes of one child's slabs that a thread owns */

static uint64_t no_bits; /* what `bits` of an active without a slab points to: it is always 0 */

/* An id for fast_id that nobody asks for here: the index in it belongs to another place. */
static uint64_t no_id(const struct fst_thread *t, const struct fst_active *act)
{
    return (uint64_t)(act - fst_actives_of(t)->slot) + 1;
}

void fst_actives_reset(struct fst_thread *t)
{
    struct fst_actives *mine = fst_actives_of(t);
    memset(mine, 0, sizeof *mine);
    for (struct fst_active *act = mine->slot; act < mine->slot + FST_ACTIVES; act++)
        act->fast_id = no_id(t, act);
}

/* Take the slab out of this thread's books; its owner word stays. */
static void forget(struct fst_thread *t, struct fst_owned *own)
{
    struct fst_active *act = own->active;
    uint32_t i = 0, place = (uint32_t)(own - fst_actives_of(t)->owned);
    own->id1 = 0;
    while (act->place[i] != place)
        i++;
    memmove(&act->place[i], &act->place[i + 1], --act->owned - i);
    if (act->current != own)
        return;
    act->current = NULL;
    act->bits = &no_bits;
}

static void disown(struct fst_thread *t, struct fst_owned *own)
{
    uint32_t child = (uint32_t)own->active->child_id, id = own->id1 - 1;
    forget(t, own);
    fst_slab_let_go(t->arena, child, id, t->name);
}

static struct fst_owned *owned_at(struct fst_thread *t, const struct fst_active *act, uint32_t i)
{
    return &fst_actives_of(t)->owned[act->place[i]];
}

static void drop_active(struct fst_thread *t, struct fst_active *act)
{
    while (act->owned)
        disown(t, owned_at(t, act, 0));
    act->child_id = 0;
    act->fast_id = no_id(t, act);
}

void fst_actives_release(struct fst_thread *t)
{
    for (uint32_t i = 0; i < FST_ACTIVES; i++)
        drop_active(t, &fst_actives_of(t)->slot[i]);
}

bool fst_active_is(const struct fst_thread *t, uint32_t child)
{
    const struct fst_active *act = fst_active_of(t, child);
    return act->child_id && (uint32_t)act->child_id == child;
}

void fst_active_let_go(struct fst_thread *t, uint32_t child)
{
    drop_active(t, fst_active_of(t, child));
}

/* Begin to allocate from the child, in place of another one. */
static void begin(struct fst_thread *t, struct fst_active *act, uint64_t child_id, uint64_t child_state)
{
    const struct fst_child *c = fst_child_at(t->arena, (uint32_t)child_id);
    uint64_t bytes = (uint64_t)c->pages << FST_PAGE_SHIFT;
    drop_active(t, act);
    act->bits = &no_bits;
    act->child_state = child_state;
    act->child = c;
    act->stride = c->stride;
    act->size = c->size;
    /* A thread owns fewer slabs of large objects: memory that is used again and again stays in the
     * processor's cache, which is worth more than a lock that is saved. */
    act->most = c->objects <= 1 ? 1 : bytes * FST_OWNED_MAX > OWNED_BYTES ? (uint8_t)(OWNED_BYTES / bytes) : FST_OWNED_MAX;
    act->child_id = child_id;
    act->constructs = fst_child_constructs(c);
}

static bool fill_free(struct fst_owned *own)
{
    bool any = false;
    memset(own->free, 0, sizeof own->free);
    for (uint32_t i = 0; i < own->objects; i++) {
        if (!(fst_load_relaxed(fst_owned_word(own, i)) & FST_WORD_FLAGS)) {
            own->free[i / 64] |= 1ull << (i % 64);
            any = true;
        }
    }
    return any;
}

/* Allocate from this slab from now on, if there is a bit in its bitmap. */
static bool use(const struct fst_thread *t, struct fst_active *act, struct fst_owned *own)
{
    uint32_t w = 0;
    while (w * 64 < own->objects && !own->free[w])
        w++;
    if (w * 64 >= own->objects)
        return false;
    act->current = own;
    act->bits = &own->free[w];
    act->owner = own->owner;
    act->fast_id = act->constructs || own->owner == FST_OWNER_NEVER ? no_id(t, act) : act->child_id;
    act->slab = own->slab;
    act->words = (uint8_t *)fst_owned_word(own, w * 64);
    act->data = own->data + w * 64 * act->stride;
    act->oid = fst_oid(own->id1 - 1, w * 64);
    act->id1 = own->id1;
    act->word_bytes = own->word_bytes;
    return true;
}

static bool still_owned(const struct fst_thread *t, const struct fst_owned *own)
{
    return fst_load_acquire(&own->slab->owner) == t->name;
}

/* Go on with a slab that the thread already owns. */
static bool use_owned(struct fst_thread *t, struct fst_active *act)
{
    if (act->current && still_owned(t, act->current) && use(t, act, act->current))
        return true;
    for (uint32_t i = act->owned; i-- > 0;) {
        struct fst_owned *own = owned_at(t, act, i);
        if (!still_owned(t, own))
            disown(t, own);
        else if (use(t, act, own))
            return true;
    }
    /* Nobody tells an owner what others have freed, so look at the words. */
    return act->current && fill_free(act->current) && use(t, act, act->current);
}

/* Allocate from the slab, which this thread owns now. False: nothing is free in it. */
static bool adopt(struct fst_thread *t, struct fst_active *act, uint32_t id)
{
    struct fst_arena *a = t->arena;
    struct fst_slab *s = fst_slab_at(a, id);
    struct fst_owned *own = fst_owned_of(t, id);
    uint32_t class = FST_SLAB_ID_CLASS(id);
    if (own->id1 == id + 1)
        forget(t, own); /* it was revoked, and is this thread's again */
    else if (own->id1)
        disown(t, own);
    while (act->owned >= act->most)
        disown(t, owned_at(t, act, 0));
    own->id1 = id + 1;
    /* Another thread may have revoked it already, and whoever has it then may write what is read
     * here. That does no harm: the owner's name, which is looked at before each use, tells. */
    own->owner = fst_load_relaxed(&s->fenced) ? FST_OWNER_NEVER : t->name;
    own->slab = s;
    own->word_bytes = (uint16_t)(1u << fst_slab_class_shift[class]);
    own->data = a->data + ((uint64_t)fst_load_relaxed(&s->page) << FST_PAGE_SHIFT);
    own->objects = (uint16_t)fst_slab_objects(s, class);
    own->child_state = act->child_state;
    own->child = act->child;
    own->active = act;
    act->place[act->owned++] = (uint8_t)(own - fst_actives_of(t)->owned);
    return fill_free(own) && use(t, act, own);
}

int fst_active_find(struct fst_thread *t, uint64_t child_id, struct fst_active **out)
{
    struct fst_arena *a = t->arena;
    uint32_t child = (uint32_t)child_id, id;
    uint64_t state = 0;
    bool held;
    int rc = fst_registry_check_child(a, child_id, &state);
    if (rc)
        return rc;
    struct fst_active *act = *out = fst_active_of(t, child);
    bool same = act->child_id == child_id && act->child_state == state;
    rc = same ? fst_verdict(a, FST_OK)
              : fst_shape_check(a, child, state, fst_child_at(a, child)->pages, fst_child_at(a, child)->objects);
    if (rc && fst_child_at(a, child)->pages)
        return rc;
    if (!same)
        begin(t, act, child_id, state);
    if (use_owned(t, act))
        return FST_OK;
    while ((id = fst_slab_adopt_partial(t, child, &held)) != FST_NONE)
        if (adopt(t, act, id))
            return FST_OK;
        else
            disown(t, fst_owned_of(t, id));
    if (held)
        return fst_lock_held(a);
    return fst_verdict(a, FST_BUSY);
}

int fst_active_make(struct fst_thread *t, uint64_t child_id, struct fst_active **out)
{
    uint32_t id;
    uint64_t slab_state = 0;
    int rc = fst_active_find(t, child_id, out);
    if (rc != FST_BUSY)
        return rc;
    struct fst_active *act = *out;
    if (!act->child->pages) {
        /* The child may have ended since fst_registry_check_child, and its descriptor may be
         * another child's by now. */
        if (fst_load_acquire(&act->child->state) != act->child_state)
            return fst_owner_ended(t->arena);
        return fst_fail(FST_INVALID, "objects of this cache have no common size: allocate by number of bytes");
    }
    rc = fst_slab_new(t, (uint32_t)child_id, act->child_state, act->child->pages, act->child->objects, 0, true, &id, &slab_state);
    if (rc == FST_OK)
        adopt(t, act, id);
    return rc;
}

/* Is this slab, given by its id + 1, or by 0 for none, one of the cache? */
static bool of_cache(struct fst_arena *a, uint32_t slab1, uint32_t cache)
{
    if (!slab1 || !fst_slab_id_ok(a, slab1 - 1))
        return false;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, slab1 - 1)->child);
    return fst_is_child(a, child) && fst_load_relaxed(&fst_child_at(a, child)->cache) == cache;
}

/* Has this process other threads that may allocate? A thread that registers later sees that the
 * children are suspended. */
static bool others_allocate(struct fst_arena *a)
{
    bool any = false;
    pthread_mutex_lock(&fst_local_mutex);
    for (const struct fst_thread *t = a->threads; t; t = t->next_in_arena)
        any |= t != fst_thread_current && !fst_load_relaxed(&t->batches);
    pthread_mutex_unlock(&fst_local_mutex);
    return any;
}

void fst_active_await(struct fst_arena *a, uint32_t cache)
{
    uint64_t until = fst_now() + STUCK_NS;
    uint32_t top = fst_thread_top(a), seen;
    if (others_allocate(a))
        fst_membarrier_near();
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_thread_slot *slot = fst_thread_slot_at(a, i);
        while (of_cache(a, seen = fst_load_acquire(&slot->allocating), cache) && fst_now() < until)
            sched_yield();
    }
}
