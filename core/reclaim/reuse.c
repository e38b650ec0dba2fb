#include "reclaim/reuse.h"

#include <unistd.h>

#include "alloc/active.h"
#include "reclaim/batch.h"
#include "reclaim/holders.h"
#include "reclaim/reaper.h"
#include "refs/word.h"

/* For each page, a batch may take so many looks, at entries, slots and what else refers to objects:
 * a look takes a ns or so, and
 * writing to a page 200. */
#define LOOKS_A_PAGE 32u
/* a drop counts for so many looks, because its object is condemned and released */
#define LOOKS_A_DROP 16u
/* The bytes of a processor's own cache, where the system does not say. */
#define OWN_CACHE (2u << 20)

/* Has a slab that the thread owns a free object? A wrong answer leads to a batch for nothing, or to
 * a new slab. */
static bool owns_free(const struct fst_thread *t, uint64_t child_id)
{
    const struct fst_actives *mine = fst_actives_of(t);
    const struct fst_active *act = &mine->slot[(uint32_t)child_id % FST_ACTIVES];
    for (uint32_t i = 0; act->child_id == child_id && i < act->owned; i++) {
        const struct fst_owned *own = &mine->owned[act->place[i]];
        for (uint32_t k = 0; k < own->objects; k++) {
            if (!(fst_load_relaxed(fst_owned_word(own, k)) & FST_WORD_FLAGS))
                return true;
        }
    }
    return false;
}

/* Would a batch be over at once? Not when it has to bury a process, begin again over everything, or
 * wait. *dropped receives the most that one process has dropped. */
static bool quick(struct fst_arena *a, uint64_t most, uint32_t *dropped)
{
    const struct fst_superblock *sb = a->sb;
    uint32_t processes = fst_process_top(a), threads = fst_thread_top(a);
    uint64_t looks = (uint64_t)processes + threads + fst_inflight_top(a);
    *dropped = 0;
    if (looks > most || fst_load_relaxed(&sb->reaper_lock) || fst_load_relaxed(&sb->batch_dirty) || fst_load_relaxed(&sb->waiters))
        return false;
    for (uint32_t i = 0; i < processes; i++) {
        const struct fst_process *p = fst_process_at(a, i);
        uint32_t is = fst_state(fst_load_relaxed(&p->state));
        if (is == FST_PROCESS_FREE)
            continue;
        uint32_t drops = fst_load_relaxed(&p->dropped);
        looks += fst_entry_top(a, i) + (uint64_t)drops * LOOKS_A_DROP;
        if (is == FST_PROCESS_DEAD || looks > most)
            return false;
        if (*dropped < drops)
            *dropped = drops;
    }
    if (*dropped && looks + fst_holders_looks(a, most - looks) > most)
        return false;
    for (uint32_t i = 0; *dropped && i < threads; i++)
        if (fst_load_relaxed(&fst_thread_slot_at(a, i)->seq))
            return false;
    return true;
}

uint64_t fst_reuse_rest(const struct fst_arena *a)
{
    static uint64_t known; /* asking the system may trap in a virtual machine */
    uint64_t pages = fst_load_relaxed(&known);
    if (!pages) {
        long own = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
        own = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        pages = 2 * fst_pages_of(own > 0 ? (uint64_t)own : OWN_CACHE);
        fst_own_store_relaxed(&known, pages);
    }
    return a->capacity_pages / 16 < pages ? a->capacity_pages / 16 : pages;
}

/* Is what was dropped to rest for a while? As long as little goes round, it is used again at once,
 * and stays in the caches next to the processors that use it. When more is under way than these
 * hold, its bytes come from the shared cache anyway. But bytes that another processor has just read
 * are still in that one's own cache, and writing to them takes longer than writing to bytes that it
 * has lost since, by reading twice as much as its cache holds. */
static bool let_lie(const struct fst_arena *a, uint64_t dropped, uint64_t used)
{
    uint64_t rest = fst_reuse_rest(a);
    return dropped < rest && used >= dropped + rest;
}

/* Run a batch, if there is cause, for an object of so many pages, whose child uses `used` pages (0:
 * what rests is needed as well). True: it has released something. */
static bool reuse(struct fst_thread *t, uint64_t pages, uint64_t used)
{
    struct fst_arena *a = t->arena;
    uint32_t dropped;
    if (t->nest || pages < FST_REAPER_LARGE >> FST_PAGE_SHIFT || !quick(a, pages * LOOKS_A_PAGE, &dropped) || !dropped ||
        let_lie(a, dropped * pages, used))
        return false;
    /* A reader may have come since quick() looked. If its section does not end while this thread
     * spins, the batch is broken off, and the reaper ends it: until then there are new slabs. */
    bool more = false;
    struct fst_batch_options options = {.drops_only = true, .timeout = 0, .more = &more};
    uint64_t before = fst_load_relaxed(&a->sb->released_objects);
    int rc = fst_batch_run(t, &options);
    if (rc == FST_TIMEOUT || more)
        fst_reaper_ended(a);
    return rc == FST_OK && fst_load_relaxed(&a->sb->released_objects) != before;
}

void fst_reuse_for_run(struct fst_thread *t, uint64_t child_id, uint64_t pages)
{
    reuse(t, pages, fst_load_relaxed(&fst_child_at(t->arena, (uint32_t)child_id)->used_pages));
}

void fst_reuse_for_slab(struct fst_thread *t, uint64_t child_id)
{
    const struct fst_child *c = fst_child_at(t->arena, (uint32_t)child_id);
    if (fst_load_relaxed(&c->partial) == FST_NONE && !owns_free(t, child_id))
        fst_reuse_for_run(t, child_id, fst_load_relaxed(&c->stride) >> FST_PAGE_SHIFT);
}

bool fst_reuse_at_need(struct fst_thread *t, uint64_t bytes)
{
    return reuse(t, fst_pages_of(bytes), 0);
}
