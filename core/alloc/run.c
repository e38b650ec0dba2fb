#include "alloc/run.h"

#include "alloc/revoke.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/pages.h"
#include "region/table.h"

/* ---- charges, under pages_lock ---- */

static uint32_t group_of(const struct fst_arena *a, uint32_t child)
{
    return child == FST_NONE ? 0 : fst_child_at(a, child)->group;
}

/* The first group on the way up that may not have so many pages more, or FST_NONE. */
static uint32_t over_limit(const struct fst_arena *a, uint32_t group, uint64_t pages)
{
    for (uint32_t n = 0; fst_step(a, FST_T_GROUP, group, &n); group = fst_group_at(a, group)->parent) {
        const struct fst_group *g = fst_group_at(a, group);
        if (g->limit != UINT64_MAX && g->usage + pages > g->limit)
            return group;
    }
    return FST_NONE;
}

static void charge(struct fst_arena *a, uint32_t child, uint64_t pages)
{
    if (child != FST_NONE) {
        struct fst_child *c = fst_child_at(a, child);
        fst_store_relaxed(&c->used_pages, c->used_pages + pages);
    }
    for (uint32_t n = 0, group = group_of(a, child); fst_step(a, FST_T_GROUP, group, &n); group = fst_group_at(a, group)->parent) {
        struct fst_group *g = fst_group_at(a, group);
        fst_store_relaxed(&g->usage, g->usage + pages);
        if (g->usage > g->peak)
            fst_store_relaxed(&g->peak, g->usage);
    }
}

static void uncharge(struct fst_arena *a, uint32_t child, uint64_t pages)
{
    if (child != FST_NONE) {
        struct fst_child *c = fst_child_at(a, child);
        fst_store_relaxed(&c->used_pages, c->used_pages - pages);
    }
    for (uint32_t n = 0, group = group_of(a, child); fst_step(a, FST_T_GROUP, group, &n); group = fst_group_at(a, group)->parent) {
        struct fst_group *g = fst_group_at(a, group);
        fst_store_relaxed(&g->usage, g->usage - pages);
    }
}

/* ---- free descriptors, under pages_lock ---- */

static void push_free(struct fst_arena *a, uint32_t class, uint32_t id)
{
    fst_store_relaxed(&fst_slab_at(a, id)->next, a->sb->slab_free[class]);
    fst_store_relaxed(&a->sb->slab_free[class], id);
}

/* Reserve a free descriptor of the class. FST_NONE: the committed part of the table is used up, or
 * there is damage. */
static uint32_t pop_free(struct fst_arena *a, uint32_t class)
{
    struct fst_superblock *sb = a->sb;
    uint32_t id = sb->slab_free[class];
    uint32_t top = fst_slab_top(a, class);
    if (id != FST_NONE) {
        if (FST_SLAB_ID_CLASS(id) != class || FST_SLAB_ID_INDEX(id) >= top ||
            fst_state(fst_load_relaxed(&fst_slab_at(a, id)->state)) != FST_SLAB_FREE)
            fst_damaged(a, "slab %u is not free, and among the free ones of class %u", id, class);
        if (fst_is_damaged(a))
            return FST_NONE;
        fst_store_relaxed(&sb->slab_free[class], fst_load_relaxed(&fst_slab_at(a, id)->next));
        return id;
    }
    if (top >= a->known.tables[FST_T_SLAB + class].count)
        return FST_NONE;
    if ((uint64_t)(top + 1) * fst_slab_bytes(class) > fst_load_acquire(&sb->tables[FST_T_SLAB + class].committed))
        return FST_NONE;
    if (fst_damaged_beyond(a, FST_T_SLAB + class, top) || fst_is_damaged(a))
        return FST_NONE;
    fst_store_release(&sb->slab_top[class], top + 1); /* a descriptor that is all zero is FREE */
    return FST_SLAB_ID(class, top);
}

/* Make everything that pages_lock protects anew, from the descriptors' states. */
static void rebuild(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    uint32_t holes = 0;
    fst_pages_reset(a);
    for (uint32_t i = 0; i < fst_group_top(a); i++)
        fst_store_relaxed(&fst_group_at(a, i)->usage, 0);
    for (uint32_t i = 0; i < fst_child_top(a); i++)
        fst_store_relaxed(&fst_child_at(a, i)->used_pages, 0);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        fst_store_relaxed(&sb->slab_free[class], FST_NONE);
        for (uint32_t i = fst_slab_top(a, class); i-- > 0;) {
            uint32_t id = FST_SLAB_ID(class, i);
            const struct fst_slab *s = fst_slab_at(a, id);
            holes += fst_state(s->state) == FST_SLAB_HOLE;
            if (fst_state(s->state) == FST_SLAB_FREE)
                push_free(a, class, id);
            else if (!fst_pages_reserve_at(a, s->page, s->pages))
                fst_damaged(a, "slab %u: pages %u and %u more are another one's, or nowhere", id, s->page, s->pages);
            else if (fst_state(s->state) != FST_SLAB_HOLE)
                charge(a, s->child, s->pages);
        }
    }
    fst_store_relaxed(&sb->holes, holes);
}

bool fst_run_lock(struct fst_arena *a)
{
    enum fst_try got = fst_lock_in_time(a, &a->sb->pages_lock);
    if (got == FST_TRY_TAKEN_OVER)
#ifdef FST_MUTANT_NO_REBUILD
        (void)rebuild;
#else
        rebuild(a);
#endif
    return got != FST_TRY_BUSY;
}

bool fst_run_lock_briefly(struct fst_arena *a)
{
    struct fst_waits before = fst_wait_briefly();
    bool got = fst_run_lock(a);
    fst_wait_for(before);
    return got;
}

void fst_run_unlock(struct fst_arena *a)
{
    fst_unlock(a, &a->sb->pages_lock);
}

/* ---- reserving and giving back ---- */

/* how long to wait for pages on their way back to the system: whoever gives them back may be
 * stopped */
#define HOLE_NS (50 * FST_MS)

enum attempt { DONE, ENDED, OVER_LIMIT, NO_PAGES, NO_DESCRIPTOR };

/* Have the descriptor that will be wanted in this processor's cache by the time that the lock is
 * acquired, which waits for loads before it: fetching it was a sixth of the section. */
static void expect(struct fst_arena *a, uint32_t class)
{
    uint32_t id = fst_load_relaxed(&a->sb->slab_free[class]);
    if (FST_SLAB_ID_CLASS(id) != class || FST_SLAB_ID_INDEX(id) >= fst_slab_top(a, class))
        return;
    const struct fst_slab *s = fst_slab_at(a, id);
    __builtin_prefetch(s, 1);
    fst_load_relaxed(&s->state);
}

static enum attempt try_reserve(struct fst_arena *a, uint32_t child, uint32_t class, uint32_t pages, uint32_t align_order,
                                uint64_t owner, uint32_t *slab_id, uint32_t *group)
{
    *group = over_limit(a, group_of(a, child), pages);
    if (*group != FST_NONE) {
        struct fst_group *g = fst_group_at(a, *group);
        fst_store_relaxed(&g->limit_hits, g->limit_hits + 1);
        return OVER_LIMIT;
    }
    uint32_t id = pop_free(a, class);
    if (id == FST_NONE)
        return NO_DESCRIPTOR;
    uint32_t page = fst_pages_reserve(a, pages, align_order);
    if (page != FST_NONE && (uint64_t)page + pages > a->capacity_pages) {
        fst_damaged(a, "pages %u and %u more are free, and beyond the capacity", page, pages);
        page = FST_NONE;
    }
    if (page == FST_NONE) {
        push_free(a, class, id);
        return NO_PAGES;
    }
    struct fst_slab *s = fst_slab_at(a, id);
    fst_store_relaxed(&s->child, child);
    fst_store_relaxed(&s->page, page);
    fst_store_relaxed(&s->pages, pages);
    fst_store_relaxed(&s->owner, owner);
    fst_store_relaxed(&s->list, FST_LIST_NONE);
    fst_store_relaxed(&s->frees, 0);
    /* From this store on the run is owned. */
    fst_store_release(&s->state, fst_state_moved(s->state, FST_SLAB_CARVING));
    charge(a, child, pages);
    *slab_id = id;
    return DONE;
}

static int explain_limit(struct fst_arena *a, uint32_t group, uint64_t pages)
{
    const struct fst_group *g = fst_group_at(a, group);
    return fst_fail(FST_LIMIT, "group %.63s of arena %s: limit %s, usage %s, asked for %s more", g->name[0] ? g->name : "(no name)",
                    fst_arena_called(a), fst_exact(g->limit << FST_PAGE_SHIFT), fst_exact(g->usage << FST_PAGE_SHIFT),
                    fst_exact(pages << FST_PAGE_SHIFT));
}

int fst_run_reserve(struct fst_arena *a, uint32_t child, uint64_t child_state, uint32_t class, uint32_t pages, uint32_t align_order,
                    uint64_t owner, uint32_t *slab_id)
{
    uint32_t extend_to = 0, zones, holes;
    uint64_t began = 0;
    for (;;) {
        uint32_t group;
        expect(a, class);
        if (!fst_run_lock(a))
            return fst_lock_held(a);
        if (extend_to)
            fst_pages_extend(a, extend_to);
        zones = fst_zones(a);
        holes = a->sb->holes;
        bool alive = child == FST_NONE || fst_load_relaxed(&fst_child_at(a, child)->state) == child_state;
        enum attempt got = alive ? try_reserve(a, child, class, pages, align_order, owner, slab_id, &group) : ENDED;
        fst_run_unlock(a);
        if (got == DONE)
            break;
        if (fst_is_damaged(a))
            return fst_damage(a);
        if (got == ENDED)
            return fst_owner_ended(a);
        if (got == OVER_LIMIT)
            return explain_limit(a, group, pages);
        if (got == NO_DESCRIPTOR) {
            int rc = fst_table_commit(a, FST_T_SLAB + class, fst_slab_top(a, class) + 1);
            if (rc)
                return rc;
            continue;
        }
        if (fst_zones(a) != zones) /* another thread has brought more zones into use */
            continue;              /* somebody else has brought more into use */
        int more = fst_pages_grow(a, pages, align_order);
        if (more < 0 && fst_zones(a) == zones) {
            /* Pages are missing from the free ones for the moment in which their memory goes back
             * to the system. */
            began = began ? began : fst_now();
            if (!holes || fst_now() - began >= HOLE_NS)
                return more;
            if (!fst_may_wait())
                return fst_would_wait("pages are on their way back to the system, and free in a moment");
            fst_futex_wait(&a->sb->holes, holes, HOLE_NS / 10);
        }
        extend_to = more < 0 ? 0 : (uint32_t)more;
    }
    int rc = fst_pages_commit(a, fst_slab_at(a, *slab_id)->page, pages);
    if (rc)
        fst_run_release(a, *slab_id, fst_slab_at(a, *slab_id)->state);
    return rc;
}

/* Give run and descriptor back. Under pages_lock. */
static void release(struct fst_arena *a, uint32_t slab_id, uint64_t state)
{
    struct fst_slab *s = fst_slab_at(a, slab_id);
    uint32_t page = s->page, pages = s->pages, child = s->child;
    if (!fst_pages_owned(a, page, pages)) { /* giving them back would make them two owners' */
        fst_damaged(a, "slab %u: of pages %u and %u more some are free already, or nowhere", slab_id, page, pages);
        return;
    }
    fst_store_release(&s->state, fst_state_moved(state, FST_SLAB_FREE) + (1ull << FST_STATE_GEN_SHIFT));
    /* The owner is cleared after the state, because a slab that is CLOSING always has one. It is
     * cleared so that no thread takes the slab for one that it owned before. */
    fst_store_relaxed(&s->owner, 0);
    fst_pages_give(a, page, pages);
    if (fst_state(state) == FST_SLAB_HOLE)
        fst_store_relaxed(&a->sb->holes, a->sb->holes - 1);
    else
        uncharge(a, child, pages);
    push_free(a, FST_SLAB_ID_CLASS(slab_id), slab_id);
}

/* Leave the run, CLOSING or CARVING, as a dead process does, because the lock took longer than this
 * thread waits. */
static void leave_run(struct fst_arena *a, uint32_t slab_id, uint64_t state)
{
    struct fst_slab *s = fst_slab_at(a, slab_id);
    if (fst_load_acquire(&s->state) == state)
        fst_store_release(&s->owner, FST_OWNER_NOBODY);
#ifndef FST_MUTANT_LOOSE_RUN
    fst_swap32(&a->sb->loose, 1);
#endif
}

#define LOT 64u /* runs that are given back in one section of the lock */

uint64_t fst_run_release_closed(struct fst_arena *a, const uint32_t *slab_ids, uint32_t n)
{
    uint64_t pages = 0;
    for (uint32_t from = 0; from < n; from += LOT) {
        if (!fst_run_lock_briefly(a)) {
            for (uint32_t i = from; i < n; i++)
                leave_run(a, slab_ids[i], fst_slab_at(a, slab_ids[i])->state);
            break;
        }
        for (uint32_t i = from; i < n && i < from + LOT; i++) {
            const struct fst_slab *s = fst_slab_at(a, slab_ids[i]);
            pages += s->pages;
            release(a, slab_ids[i], s->state);
        }
        fst_run_unlock(a);
    }
    return pages << FST_PAGE_SHIFT;
}

void fst_run_release(struct fst_arena *a, uint32_t slab_id, uint64_t state)
{
    bool hole = fst_state(state) == FST_SLAB_HOLE;
    if (!fst_run_lock_briefly(a)) {
        leave_run(a, slab_id, state);
        return;
    }
    if (fst_slab_at(a, slab_id)->state == state)
        release(a, slab_id, state);
    fst_run_unlock(a);
    if (hole)
        fst_futex_wake(&a->sb->holes, INT32_MAX);
}

bool fst_run_set_limit(struct fst_arena *a, uint32_t group, uint64_t pages)
{
    if (!fst_run_lock(a))
        return false;
    fst_store_relaxed(&fst_group_at(a, group)->limit, pages);
    fst_run_unlock(a);
    return true;
}

/* ---- giving memory back to the system ---- */

/* extents, 4 MiB: a run should not be missing from the free pages for long */
#define PUNCH_EXTENTS 16u

/* Own the next idle extents through a descriptor in state HOLE, so that they are found after a
 * kill. */
static uint32_t reserve_hole(struct fst_arena *a, uint64_t *extent, bool idle_only, uint64_t owner, uint32_t *slab_id)
{
    if (!fst_run_lock(a))
        return 0;
    uint32_t count = 0, id = pop_free(a, 0);
    if (id != FST_NONE) {
        count = fst_pages_reserve_idle(a, extent, PUNCH_EXTENTS, idle_only);
        if (count) {
            struct fst_slab *s = fst_slab_at(a, id);
            fst_store_relaxed(&s->child, FST_NONE);
            fst_store_relaxed(&s->page, (uint32_t)(*extent * FST_EXTENT_PAGES));
            fst_store_relaxed(&s->pages, count * FST_EXTENT_PAGES);
            fst_store_relaxed(&s->owner, owner);
            /* This is free memory, which is charged to nobody. */
            fst_store_release(&s->state, fst_state_moved(s->state, FST_SLAB_HOLE));
            fst_store_relaxed(&a->sb->holes, a->sb->holes + 1);
            *slab_id = id;
        } else {
            push_free(a, 0, id);
        }
    }
    fst_run_unlock(a);
    return count;
}

uint64_t fst_run_punch(struct fst_arena *a, bool idle_only, uint64_t owner)
{
    uint64_t bytes = 0, extent = 0;
    uint32_t count, id;
    if (fst_table_commit(a, FST_T_SLAB, fst_slab_top(a, 0) + 1))
        return 0;
    while ((count = reserve_hole(a, &extent, idle_only, owner, &id)) > 0) {
        uint64_t length = (uint64_t)count * FST_EXTENT_PAGES * FST_PAGE;
        /* The mark is taken away first: a kill in between leaves memory that is committed and not
         * marked, which is later committed again and does no harm. */
        fst_pages_uncommitted(a, extent, count);
        if (fst_file_punch(a, a->known.data_offset + extent * FST_EXTENT_PAGES * FST_PAGE, length) == 0)
            bytes += length;
        fst_run_release(a, id, fst_slab_at(a, id)->state);
        extent += count;
    }
    return bytes;
}
