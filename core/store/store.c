#include "store/store.h"

#include <string.h>

#include "alloc/group.h"
#include "channel/wait.h"
#include "platform/error.h"
#include "region/table.h"
#include "store/index.h"

uint32_t fst_store_find(struct fst_arena *a, const char *name)
{
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_store *s = fst_store_at(a, i);
        if (fst_state(fst_load_acquire(&s->state)) == FST_STORE_LIVE && strncmp(s->name, name, FST_NAME_MAX) == 0)
            return i;
    }
    return FST_NONE;
}

uint32_t fst_store_new(struct fst_arena *a)
{
    uint32_t top = fst_store_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (fst_state(fst_load_acquire(&fst_store_at(a, i)->state)) == FST_STORE_FREE)
            return i;
    if (top >= fst_count(a, FST_T_STORE) ||
        ((uint64_t)top + 1) * sizeof(struct fst_store) > fst_load_acquire(&a->sb->tables[FST_T_STORE].committed))
        return FST_NONE;
    if (fst_damaged_beyond(a, FST_T_STORE, top) || fst_is_damaged(a))
        return FST_NONE;
    fst_store_release(&a->sb->store_top, top + 1);
    return top;
}

int fst_store_grow(struct fst_arena *a)
{
    return fst_table_commit(a, FST_T_STORE, (uint64_t)fst_store_top(a) + 1);
}

bool fst_store_known(const struct fst_arena *a, uint64_t id, uint32_t *index)
{
    *index = (uint32_t)id;
    return *index < fst_store_top(a) && fst_id_is(id, fst_load_acquire(&fst_store_at(a, *index)->state));
}

/* The group with which the store ends: a store's own group is lasting, so that it stays when nobody
 * has the store open, and ends with the one above it. */
static uint32_t home_of(const struct fst_arena *a, uint32_t group, uint32_t flags)
{
    return flags & FST_STORE_OWNS ? fst_group_at(a, group)->parent : group;
}

static bool is_over(const struct fst_arena *a, uint32_t group)
{
    const struct fst_group *g = fst_group_at(a, group);
    uint32_t state = fst_state(fst_load_acquire(&g->state));
#ifdef FST_MUTANT_STORES_STAY
    return state == FST_GROUP_DESTROYED;
#endif
    return state == FST_GROUP_DESTROYED || (state == FST_GROUP_CLOSED && !(fst_load_acquire(&g->word) & FST_WORD_ALLOCATED));
}

bool fst_store_home_over(struct fst_arena *a, uint64_t group, uint32_t flags)
{
    uint32_t index;
    return !fst_group_find(a, group, &index) || is_over(a, index) || is_over(a, home_of(a, index, flags));
}

void fst_store_at_home(struct fst_arena *a, uint32_t group, uint32_t flags)
{
    struct fst_group *g = fst_group_at(a, home_of(a, group, flags));
    fst_store_relaxed(&g->flags, g->flags | FST_GROUP_STORES);
}

uint64_t fst_store_home(struct fst_arena *a, uint32_t index)
{
    const struct fst_store *s = fst_store_at(a, index);
    uint32_t group;
    if (!fst_group_find(a, s->group, &group))
        return 0;
    group = home_of(a, group, s->flags);
    return fst_id(group, fst_load_acquire(&fst_group_at(a, group)->state));
}

void fst_store_end(struct fst_arena *a, uint32_t index)
{
    struct fst_store *s = fst_store_at(a, index);
    if (fst_state(s->state) != FST_STORE_LIVE)
        return;
    fst_store_release(&s->state, fst_state_moved(s->state, FST_STORE_ENDED));
    fst_store_relaxed(&a->sb->store_look, 1);
    fst_full_fence(); /* whoever sleeps has said so before it looked at the state */
    fst_ring_wake_sleepers(&s->sleepers);
}

bool fst_store_lock(struct fst_arena *a, uint32_t index)
{
    enum fst_try got = fst_lock_outermost(a, &fst_store_at(a, index)->lock);
    if (got == FST_TRY_TAKEN_OVER)
        fst_index_recount(a, index);
    return got != FST_TRY_BUSY;
}

void fst_store_unlock(struct fst_arena *a, uint32_t index)
{
    fst_unlock(a, &fst_store_at(a, index)->lock);
}

bool fst_store_passed(struct fst_arena *a, uint32_t index, bool recount)
{
    enum fst_try got = fst_trylock(a, &fst_store_at(a, index)->lock);
    if (got == FST_TRY_TAKEN_OVER || (got == FST_TRY_OK && recount))
        fst_index_recount(a, index);
    if (got != FST_TRY_BUSY)
        fst_store_unlock(a, index);
    return got != FST_TRY_BUSY;
}

void fst_store_tell(struct fst_arena *a, uint32_t index)
{
    struct fst_store *s = fst_store_at(a, index);
    /* This is a full barrier: whoever sleeps said so before this, or finds the new version when it
     * looks. */
    fst_add64(&s->version, 1);
}

void fst_store_wake(struct fst_arena *a, uint32_t index)
{
    struct fst_store *s = fst_store_at(a, index);
    if (__builtin_expect(!(fst_load_seq_cst(&s->sleepers) & 1), 1))
        return;
    fst_ring_wake_sleepers(&s->sleepers);
}
