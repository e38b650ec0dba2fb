#include "reclaim/release.h"

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/group.h"
#include "alloc/slab.h"
#include "reclaim/reaper.h"
#include "refs/word.h"

void fst_release_child(struct fst_arena *a, uint32_t child)
{
    struct fst_child *c = fst_child_at(a, child);
    uint32_t state = fst_state(fst_load_acquire(&c->state));
    if ((state != FST_CHILD_OFFLINE && state != FST_CHILD_ENDED) || fst_load_relaxed(&c->used_pages) != 0)
        return;
    fst_registry_lock(a);
    uint32_t cache = c->cache, group = c->group;
    if (fst_child_try_release(a, child)) {
        fst_cache_try_release(a, cache);
        fst_group_try_release(a, group);
    }
    fst_registry_unlock(a);
}

void fst_release_after_free(struct fst_thread *t, uint64_t oid)
{
    struct fst_arena *a = t->arena;
    uint32_t id = fst_oid_slab(oid), child = fst_load_relaxed(&fst_slab_at(a, id)->child);
    if (fst_slab_freed(a, id, fst_slab_owner_word(t)))
        fst_reaper_ended(a);
    if (child < fst_load_acquire(&a->sb->child_top) &&
        fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) != FST_CHILD_LIVE)
        fst_release_child(a, child);
}
