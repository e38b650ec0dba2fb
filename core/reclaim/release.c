#include "reclaim/release.h"

#include "alloc/child.h"
#include "alloc/slab.h"
#include "reclaim/reaper.h"
#include "refs/word.h"

void fst_release_after_free(struct fst_thread *t, uint64_t oid)
{
    struct fst_arena *a = t->arena;
    uint32_t id = fst_oid_slab(oid), child = fst_load_relaxed(&fst_slab_at(a, id)->child);
    if (fst_slab_freed(a, id, t->name))
        fst_reaper_ended(a);
    if (fst_is_child(a, child) && fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) != FST_CHILD_LIVE)
        fst_child_release(a, &child, 1);
}
