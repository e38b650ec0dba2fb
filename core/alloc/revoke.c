#include "alloc/revoke.h"

#include "platform/futex.h"
#include "platform/membarrier.h"

static uint32_t slot_of(uint64_t owner)
{
    return (uint32_t)(owner & ~FST_OWNER_FLAGS) - 1;
}

bool fst_owner_gone(struct fst_arena *a, uint64_t owner)
{
    uint32_t index = slot_of(owner);
    if (!owner)
        return false;
    if (index >= fst_thread_top(a))
        return true;
    const struct fst_thread_slot *s = fst_thread_slot_at(a, index);
    return fst_load_acquire(&s->owner) == 0 || fst_load_relaxed(&s->generation) != (uint32_t)(owner >> 32);
}

/* The number that the next barrier will reach or exceed. */
static uint64_t next_barrier(struct fst_arena *a)
{
    return fst_load_seq_cst(&a->sb->barriers) + 1;
}

bool fst_revoke(struct fst_revoke *r, uint32_t id)
{
    struct fst_arena *a = r->a;
    struct fst_slab *s = fst_slab_at(a, id);
    uint64_t owner = fst_load_relaxed(&s->owner);
    if (!owner || fst_owner_gone(a, owner))
        return true;
    if (!r->me || (owner & ~FST_OWNER_REVOKED) == r->me)
        return r->me != 0;
    const struct fst_thread_slot *slot = fst_thread_slot_at(a, slot_of(owner));
    bool near = fst_thread_owner_process(fst_load_relaxed(&slot->owner)) == a->slot;
    if (!near && !r->others) {
        r->left = true;
        return false;
    }
    if (!r->ended && !(owner & FST_OWNER_REVOKED)) {
        /* A kill here leaves a number that says nothing without the mark. */
        fst_store_relaxed(&s->revoked, next_barrier(a));
        fst_store_release(&s->owner, owner | FST_OWNER_REVOKED);
    }
    uint64_t passed = near && r->near > r->far ? r->near : r->far, needed = r->ended ? 1 : fst_load_relaxed(&s->revoked);
#ifdef FST_MUTANT_REVOKE_AT_ONCE
    passed = needed;
#endif
    if (fst_load_relaxed(&s->fenced)) {
        fst_full_fence(); /* PAIR(revoke) */
    } else if (passed < needed) {
        r->want_near |= near;
        r->want_far |= !near;
        return false;
    }
    bool busy = fst_load_acquire(&slot->allocating) == id + 1;
#ifdef FST_MUTANT_REVOKE_BLIND
    busy = false;
#endif
    r->left |= busy;
    return !busy;
}

bool fst_revoke_near(struct fst_revoke *r)
{
    uint64_t number = fst_add64(&r->a->sb->barriers, 1) + 1;
    r->want_near = false;
    if (!fst_membarrier_near()) {
        r->left = true;
        return false;
    }
    r->near = number;
    return true;
}

bool fst_revoke_far(struct fst_revoke *r)
{
    uint64_t number = fst_add64(&r->a->sb->barriers, 1) + 1;
    r->want_far = false;
    if (!fst_membarrier_far()) {
        r->left = true;
        return false;
    }
    r->far = number;
    return true;
}
