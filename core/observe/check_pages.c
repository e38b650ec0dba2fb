#include <stdlib.h>

#include "alloc/child.h"
#include "alloc/form.h"
#include "alloc/lists.h"
#include "alloc/revoke.h"
#include "alloc/run.h"
#include "alloc/slab.h"
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "refs/word.h"
#include "region/lock.h"
#include "region/pages.h"

/* ---- under pages_lock ---- */

/* What all descriptors add up to. */
struct sums {
    uint64_t *owned;    /* a bit for each page that a descriptor names, a word for each extent */
    uint64_t *children; /* pages by child */
    uint64_t *groups;   /* pages by group */
    uint32_t n_children, n_groups;
    uint64_t pages;
    uint32_t holes;
    /* descriptors that name a page of another one; only the first is told, because it may be the
     * one that is wrong */
    uint32_t overlaps;
};

static bool check_run(struct fst_check *c, uint32_t id, struct sums *sums)
{
    struct fst_arena *a = c->a;
    const struct fst_slab *s = fst_slab_at(a, id);
    uint64_t pages = (uint64_t)fst_zones(a) * FST_ZONE_PAGES, state = fst_load_acquire(&s->state);
    if (!fst_check_state(c, "slab", id, state, FST_SLAB_HOLE))
        return false;
    /* The owner says who is to finish a run: nobody would finish one without an owner. The state is
     * read last, because a slab that is reopened becomes LIVE before it loses its owner. */
    uint64_t owner = fst_load_acquire(&s->owner);
    uint32_t is = fst_state(fst_load_acquire(&s->state));
    if ((is == FST_SLAB_CARVING || is == FST_SLAB_CLOSING || is == FST_SLAB_HOLE) && !owner) {
        fst_check_say(c, "slab %u: state %u, and nobody's", id, is);
        return false;
    }
    if (s->pages == 0 || (uint64_t)s->page + s->pages > pages || (uint64_t)s->page + s->pages > a->capacity_pages) {
        fst_check_say(c, "slab %u: pages %u to %llu are not in the arena", id, s->page, (unsigned long long)s->page + s->pages);
        return false;
    }
    if (s->child != FST_NONE && s->child >= sums->n_children) {
        fst_check_say(c, "slab %u: there is no child cache %u", id, s->child);
        return false;
    }
    for (uint64_t p = s->page, end = p + s->pages; p < end; p = (p / FST_EXTENT_PAGES + 1) * FST_EXTENT_PAGES) {
        uint64_t *owned = &sums->owned[p / FST_EXTENT_PAGES], mine = UINT64_MAX << p % FST_EXTENT_PAGES;
        if (end - p < FST_EXTENT_PAGES - p % FST_EXTENT_PAGES)
            mine &= ~(UINT64_MAX << end % FST_EXTENT_PAGES);
        if (*owned & mine) {
            uint64_t page = p - p % FST_EXTENT_PAGES + (uint64_t)__builtin_ctzll(*owned & mine);
            if (!sums->overlaps++)
                fst_check_say(c, "slab %u: page %llu belongs to another slab too", id, (unsigned long long)page);
            return false;
        }
        *owned |= mine;
    }
    sums->pages += s->pages;
    sums->holes += is == FST_SLAB_HOLE;
    if (is == FST_SLAB_HOLE)
        return true;
    uint32_t group = 0, steps = 0;
    if (s->child != FST_NONE) {
        sums->children[s->child] += s->pages;
        group = fst_child_at(a, s->child)->group;
    }
    for (; group < sums->n_groups && steps++ <= sums->n_groups; group = fst_group_at(a, group)->parent)
        sums->groups[group] += s->pages;
    return true;
}

static void check_free_slabs(struct fst_check *c, uint32_t class, uint32_t count)
{
    struct fst_arena *a = c->a;
    uint32_t top = fst_slab_top(a, class), n = 0, id = a->sb->slab_free[class];
    for (; id != FST_NONE && n <= top; n++) {
        if (FST_SLAB_ID_CLASS(id) != class || FST_SLAB_ID_INDEX(id) >= top || fst_state(fst_slab_at(a, id)->state) != FST_SLAB_FREE)
            break;
        id = fst_slab_at(a, id)->next;
    }
    if (id != FST_NONE || n != count)
        fst_check_say(c, "slab class %u: %s free, and their list leads to %u of them and to %x", class,
                      fst_many(count, "descriptor is", "descriptors are"), n, id);
}

static void check_descriptors(struct fst_check *c, struct sums *sums)
{
    struct fst_arena *a = c->a;
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        uint32_t top = fst_slab_top(a, class), count = 0;
        bool broken = false;
        for (uint32_t i = 0; i < top; i++) {
            uint32_t id = FST_SLAB_ID(class, i);
            uint64_t state = fst_slab_at(a, id)->state;
            if (state >> 4 & 0xfff || fst_state(state) != FST_SLAB_FREE)
                broken |= !check_run(c, id, sums);
            else
                count++;
        }
        if (!broken)
            check_free_slabs(c, class, count);
    }
}

static void check_free_pages(struct fst_check *c, const struct sums *sums)
{
    struct fst_arena *a = c->a;
    uint64_t wrong = 0, first = 0, pages = (uint64_t)fst_zones(a) * FST_ZONE_PAGES;
    if (pages > a->capacity_pages)
        pages = a->capacity_pages;
    for (uint64_t p = 0; p < pages; p += FST_EXTENT_PAGES) {
        const struct fst_zone *z = fst_zone_at(a, (uint32_t)(p / FST_ZONE_PAGES));
        uint64_t bad = ~(z->free[p / FST_EXTENT_PAGES % FST_ZONE_EXTENTS] ^ sums->owned[p / FST_EXTENT_PAGES]);
        if (pages - p < FST_EXTENT_PAGES)
            bad &= ~(UINT64_MAX << (pages - p));
        if (bad && !wrong)
            first = p + (uint64_t)__builtin_ctzll(bad);
        wrong += (uint64_t)__builtin_popcountll(bad);
    }
    if (wrong) {
        fst_check_say(c, "%s free and owned, or neither; the first is %llu", fst_many(wrong, "page is", "pages are"),
                      (unsigned long long)first);
        return;
    }
    uint32_t zone = fst_pages_misfiled(a);
    if (zone != FST_NONE)
        fst_check_say(c, "zone %u: its bitmaps do not say what is free in it", zone);
    if (sums->pages != a->sb->used_pages)
        fst_check_say(c, "used pages: %llu counted, %llu recorded", (unsigned long long)sums->pages,
                      (unsigned long long)a->sb->used_pages);
    if (sums->holes != a->sb->holes)
        fst_check_say(c, "holes: %u counted, %u recorded", sums->holes, a->sb->holes);
}

/* Compare the charges of children and groups. One slab with a wrong child makes several of them
 * wrong, so only the first is told. */
static void check_charges(struct fst_check *c, const struct sums *sums)
{
    struct fst_arena *a = c->a;
    uint32_t children = 0, groups = 0, child = 0, group = 0;
    for (uint32_t i = sums->n_children; i-- > 0;)
        if (fst_state(fst_child_at(a, i)->state) != FST_CHILD_FREE && fst_child_at(a, i)->used_pages != sums->children[i]) {
            children++;
            child = i;
        }
    for (uint32_t i = sums->n_groups; i-- > 0;)
        if (fst_state(fst_group_at(a, i)->state) != FST_GROUP_FREE && fst_group_at(a, i)->usage != sums->groups[i]) {
            groups++;
            group = i;
        }
    if (children)
        fst_check_say(c, "child %u: %s counted, %llu recorded (wrong for %s and %s)", child,
                      fst_many(sums->children[child], "page", "pages"), (unsigned long long)fst_child_at(a, child)->used_pages,
                      fst_many(children, "child", "children"), fst_many(groups, "group", "groups"));
    else if (groups)
        fst_check_say(c, "group %u: %s counted, %llu recorded (wrong for %s)", group,
                      fst_many(sums->groups[group], "page", "pages"), (unsigned long long)fst_group_at(a, group)->usage,
                      fst_many(groups, "group", "groups"));
}

/* All is added up in one section of the lock, because it comes out even only while nobody allocates
 * or gives back: a page that moved from a slab that is still to come to one that was counted
 * already would be missing. So what is done in the section is little: for a slab some 30 ns, for 64
 * pages one. */
void fst_check_pages(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    /* Zones may be added until this thread has the lock, so there is a bit for each page of the
     * capacity. */
    struct sums sums = {.owned = calloc(a->capacity_pages / FST_EXTENT_PAGES + 1, sizeof(uint64_t))};
    /* Children and groups may be added as well. Those that come later have no pages yet, or pages
     * that are not looked at; so begin again if there are more. */
    bool again = false;
    do {
        sums.n_children = fst_child_top(a);
        sums.n_groups = fst_group_top(a);
        free(sums.children);
        free(sums.groups);
        sums.children = calloc(sums.n_children + 1u, sizeof(uint64_t));
        sums.groups = calloc(sums.n_groups + 1u, sizeof(uint64_t));
        if (!sums.owned || !sums.children || !sums.groups) {
            fst_check_say(c, "the pages could not be looked at: out of memory");
            break;
        }
        c->held = !fst_run_lock(a);
        if (c->held)
            break;
        again = fst_child_top(a) != sums.n_children || fst_group_top(a) != sums.n_groups;
        if (!again) {
            size_t before = c->findings;
            check_descriptors(c, &sums);
            if (c->findings == before && !fst_is_damaged(a)) {
                check_free_pages(c, &sums);
                if (c->findings == before)
                    check_charges(c, &sums);
            }
        }
        fst_run_unlock(a);
    } while (again);
    free(sums.owned);
    free(sums.children);
    free(sums.groups);
}

/* ---- under the child's lock ---- */

static bool check_word(struct fst_check *c, uint32_t id, uint32_t object, uint64_t word)
{
    uint64_t flags = word & FST_WORD_FLAGS;
    if ((word & FST_WORD_CHECK) != fst_word_check(fst_oid(id, object)))
        fst_check_say(c, "slab %u object %u: word %016llx fails its check", id, object, (unsigned long long)word);
    else if (!(flags & FST_WORD_ALLOCATED) && ((flags & ~FST_WORD_CONDEMNED) || fst_word_slack(word)))
        fst_check_say(c, "slab %u object %u: free, but its word is %016llx", id, object, (unsigned long long)word);
    else if (fst_form_in(word) != FST_FORM_OWN && fst_form_in(word) > fst_form_top(c->a))
        fst_check_say(c, "slab %u object %u: of form %u, which there is not", id, object, fst_form_in(word));
    else
        return true;
    return false;
}

/* Compare the numbers of a LIVE slab with those of its child. */
static bool check_numbers(struct fst_check *c, uint32_t id, const struct fst_slab *s, const struct fst_child *child)
{
    bool any = child->pages == 0;
    uint32_t pages = any ? (uint32_t)fst_pages_of(s->asked + fst_slab_behind(child)) : child->pages;
    if (FST_SLAB_ID_CLASS(id) == child->slab_class && s->objects == child->objects && s->pages == (pages ? pages : 1) &&
        (any || s->asked == 0))
        return true;
    fst_check_say(c, "slab %u: %s, %s, %s do not fit child cache %u", id, fst_many(s->objects, "object", "objects"),
                  fst_many(s->pages, "page", "pages"), fst_exact(s->asked), s->child);
    return false;
}

static bool check_owner(struct fst_check *c, uint32_t id, const struct fst_slab *s)
{
    uint64_t owner = fst_load_acquire(&s->owner);
    uint32_t index = (uint32_t)(owner & ~FST_OWNER_FLAGS) - 1;
    if (!owner)
        return true;
    /* A thread for which the child's lock took too long may have let go of the slab and left it
     * where it is: a batch that is running or will run finishes that. */
    const struct fst_superblock *sb = c->a->sb;
    if (s->list != FST_LIST_PARTIAL && owner == FST_OWNER_NOBODY &&
        (fst_load_acquire(&sb->loose) || fst_load_acquire(&sb->batch_started) || fst_load_acquire(&sb->batch_dirty)))
        return true;
    if (s->list != FST_LIST_PARTIAL && index < fst_thread_top(c->a) &&
        owner >> 32 <= fst_load_acquire(&fst_thread_slot_at(c->a, index)->generation))
        return true;
    fst_check_say(c, "slab %u: its owner is %llx, which no thread ever was", id, (unsigned long long)owner);
    return false;
}

static bool check_list(struct fst_check *c, uint32_t child, uint32_t head, uint8_t list, uint32_t *count)
{
    struct fst_arena *a = c->a;
    uint32_t previous = FST_NONE, steps = 0;
    for (uint32_t id = head; id != FST_NONE; id = fst_slab_at(a, id)->next) {
        if (!fst_slab_id_ok(a, id) || steps++ > fst_slab_top(a, FST_SLAB_ID_CLASS(id))) {
            fst_check_say(c, "child %u: its list of slabs leads to %u, which is none", child, id);
            return false;
        }
        struct fst_slab *s = fst_slab_at(a, id);
        if (s->child != child || s->list != list || s->prev != previous || fst_state(s->state) != FST_SLAB_LIVE) {
            fst_check_say(c, "child %u: slab %u on its list is of child %u, list %u, state %u", child, id, s->child, s->list,
                          fst_state(s->state));
            return false;
        }
        uint32_t class = FST_SLAB_ID_CLASS(id);
        if (check_numbers(c, id, s, fst_child_at(a, child)) && check_owner(c, id, s))
            for (uint32_t i = 0; i < fst_slab_objects(s, class); i++)
                check_word(c, id, i, fst_load_relaxed(fst_slab_word(s, class, i)));
        previous = id;
        ++*count;
    }
    return true;
}

/* A LIVE slab of a child is on one of that child's lists. This is looked at under the child's lock,
 * if the slab is still the same then. */
static void check_listed(struct fst_check *c, uint32_t id)
{
    struct fst_arena *a = c->a;
    const struct fst_slab *s = fst_slab_at(a, id);
    uint32_t child = fst_load_relaxed(&s->child);
    if (fst_state(fst_load_acquire(&s->state)) != FST_SLAB_LIVE || child == FST_NONE || !fst_is_child(a, child))
        return;
    if (!fst_lists_lock(a, child)) {
        c->held = true;
        return;
    }
    if (fst_state(s->state) == FST_SLAB_LIVE && s->child == child) {
        const struct fst_child *of = fst_child_at(a, child);
        uint32_t head = s->list == FST_LIST_PARTIAL ? of->partial : of->full;
        bool known = s->list == FST_LIST_PARTIAL || s->list == FST_LIST_FULL;
        known = known && (s->prev == FST_NONE ? head == id : fst_slab_id_ok(a, s->prev) && fst_slab_at(a, s->prev)->next == id);
        known = known && (s->next == FST_NONE || (fst_slab_id_ok(a, s->next) && fst_slab_at(a, s->next)->prev == id));
        if (!known || fst_state(of->state) == FST_CHILD_FREE)
            fst_check_say(c, "slab %u: list %u of child cache %u does not know it", id, s->list, child);
    }
    fst_lists_unlock(a, child);
}

void fst_check_slabs(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    size_t before = c->findings;
    for (uint32_t i = 0; i < fst_child_top(a); i++) {
        const struct fst_child *child = fst_child_at(a, i);
        uint32_t count = 0;
        fst_check_lock(c, "child", i, &child->lock);
        if (fst_state(fst_load_acquire(&child->state)) == FST_CHILD_FREE)
            continue;
        if (!fst_lists_lock(a, i)) {
            c->held = true;
            return;
        }
        if (fst_state(fst_load_acquire(&child->state)) != FST_CHILD_FREE &&
            check_list(c, i, child->partial, FST_LIST_PARTIAL, &count) && check_list(c, i, child->full, FST_LIST_FULL, &count) &&
            count != child->slabs)
            fst_check_say(c, "child %u: %s on its lists, %u recorded", i, fst_many(count, "slab", "slabs"), child->slabs);
        fst_lists_unlock(a, i);
    }
    for (uint32_t class = 0; class < FST_SLAB_CLASSES && c->findings == before && !c->held; class ++)
        for (uint32_t i = 0; i < fst_slab_top(a, class); i++)
            check_listed(c, FST_SLAB_ID(class, i));
}
