#include "alloc/children.h"

#include "alloc/registry.h"
#include "platform/atomics.h"

bool fst_children_lock(struct fst_children *w)
{
    if (w->begun && w->at == FST_NONE)
        return false;
    w->held = !fst_registry_lock(w->a);
    if (w->held)
        return false;
    if (w->begun && fst_load_relaxed(&fst_child_at(w->a, w->at)->state) != w->state) {
        w->begun = false;
        w->restarted = true;
    }
    w->left = FST_CHILDREN_LOT;
    return true;
}

void fst_children_unlock(struct fst_children *w)
{
    if (fst_is_damaged(w->a))
        w->at = FST_NONE;
    w->state = w->at == FST_NONE ? 0 : fst_child_at(w->a, w->at)->state;
    fst_registry_unlock(w->a);
}

uint32_t fst_children_lot(struct fst_children *w, uint32_t ids[FST_CHILDREN_LOT])
{
    uint32_t n = 0;
    if (!fst_children_lock(w))
        return 0;
    for (uint32_t child; (child = fst_children_next(w)) != FST_NONE;)
        ids[n++] = child;
    fst_children_unlock(w);
    return n;
}

/* ---- moving them on ---- */

static void end(struct fst_arena *a, uint32_t child, enum fst_child_state to)
{
    struct fst_child *c = fst_child_at(a, child);
    uint32_t now = fst_state(c->state);
    if (now == FST_CHILD_LIVE || now == FST_CHILD_ENDING || (now == FST_CHILD_OFFLINE && to == FST_CHILD_ENDED))
        fst_store_release(&c->state, fst_state_moved(c->state, to));
}

void fst_children_end_group(struct fst_arena *a, uint32_t group, enum fst_child_state state)
{
    struct fst_children w = fst_children_of_group(a, group);
    for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE;)
        end(a, child, state);
}

bool fst_children_end_cache(struct fst_arena *a, uint32_t cache, enum fst_child_state state, uint32_t *ended)
{
    struct fst_children w = fst_children_of_cache(a, cache);
    while (fst_children_lock(&w)) {
        for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE; ++*ended)
            end(a, child, state);
        fst_children_unlock(&w);
    }
    return !w.held;
}

static bool swing_all(struct fst_arena *a, uint32_t cache, enum fst_child_state from, enum fst_child_state to)
{
    struct fst_children w = fst_children_of_cache(a, cache);
    while (fst_children_lock(&w)) {
        for (uint32_t child; (child = fst_children_next(&w)) != FST_NONE;) {
            struct fst_child *c = fst_child_at(a, child);
            if (fst_state(c->state) == from)
                fst_store_release(&c->state, fst_state_moved(c->state, to));
        }
        fst_children_unlock(&w);
    }
    return !w.held;
}

bool fst_children_suspend(struct fst_arena *a, uint32_t cache)
{
    return swing_all(a, cache, FST_CHILD_LIVE, FST_CHILD_ENDING);
}

bool fst_children_resume(struct fst_arena *a, uint32_t cache)
{
    return swing_all(a, cache, FST_CHILD_ENDING, FST_CHILD_LIVE);
}
