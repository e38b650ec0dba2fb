#include "alloc/lists.h"

#include "platform/error.h"
#include "refs/word.h"
#include "region/lock.h"

/* ---- what a slab's words say ---- */

uint32_t fst_slab_count(struct fst_slab *s, uint32_t class)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < fst_slab_objects(s, class); i++)
        n += !!(fst_load_relaxed(fst_slab_word(s, class, i)) & FST_WORD_ALLOCATED);
    return n;
}

bool fst_slab_looks_empty(struct fst_slab *s, uint32_t class)
{
    for (uint32_t i = 0; i < fst_slab_objects(s, class); i++)
        if (fst_load_relaxed(fst_slab_word(s, class, i)) & FST_WORD_ALLOCATED)
            return false;
    return true;
}

bool fst_slab_has_free(struct fst_slab *s, uint32_t class)
{
    for (uint32_t i = 0; i < fst_slab_objects(s, class); i++)
        if (!(fst_load_relaxed(fst_slab_word(s, class, i)) & FST_WORD_FLAGS))
            return true;
    return false;
}

void fst_slab_reopen_words(struct fst_slab *s, uint32_t class, uint32_t n)
{
    while (n-- > 0) {
        uint64_t *word = fst_slab_word(s, class, n);
        uint64_t seen = fst_load_relaxed(word);
        if ((seen & FST_WORD_FLAGS) == FST_WORD_CONDEMNED)
            fst_store_release(word, seen & ~FST_WORD_CONDEMNED);
    }
}

/* ---- the child's lists, under its lock ---- */

bool fst_lists_step(struct fst_arena *a, uint32_t child, uint8_t list, uint32_t id, uint32_t *steps)
{
    if (!fst_slab_step(a, id, steps))
        return false;
    const struct fst_slab *s = fst_slab_at(a, id);
    if (s->list == list && s->child == child && fst_state(s->state) == FST_SLAB_LIVE)
        return true;
    fst_damaged(a, "child cache %u: slab %u is on its list %u, and says that it is of child cache %u, list %u, state %u", child, id,
                list, s->child, s->list, fst_state(s->state));
    return false;
}

uint32_t *fst_lists_head(struct fst_child *c, uint8_t list)
{
    return list == FST_LIST_PARTIAL ? &c->partial : &c->full;
}

/* Do the slab's neighbours on its list know it? */
static bool in_line(struct fst_arena *a, struct fst_child *c, const struct fst_slab *s, uint32_t id)
{
    uint32_t before = s->prev != FST_NONE ? fst_slab_at(a, s->prev)->next : *fst_lists_head(c, s->list);
    if (before == id && (s->next == FST_NONE || fst_slab_at(a, s->next)->prev == id))
        return true;
    fst_damaged(a, "slab %u: its neighbours on the list of child cache %u are %u and %u, which do not know it", id, s->child,
                s->prev, s->next);
    return false;
}

void fst_lists_remove(struct fst_arena *a, struct fst_child *c, uint32_t id)
{
    struct fst_slab *s = fst_slab_at(a, id);
    if (s->list == FST_LIST_NONE || !in_line(a, c, s, id))
        return;
    if (s->prev != FST_NONE)
        fst_store_relaxed(&fst_slab_at(a, s->prev)->next, s->next);
    else
        fst_store_relaxed(fst_lists_head(c, s->list), s->next);
    if (s->next != FST_NONE)
        fst_store_relaxed(&fst_slab_at(a, s->next)->prev, s->prev);
    fst_store_relaxed(&s->list, FST_LIST_NONE);
    fst_store_relaxed(&c->slabs, c->slabs - 1);
}

void fst_lists_add(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list)
{
    struct fst_slab *s = fst_slab_at(a, id);
    uint32_t *head = fst_lists_head(c, list);
    fst_store_relaxed(&s->prev, FST_NONE);
    fst_store_relaxed(&s->next, *head);
    if (*head != FST_NONE)
        fst_store_relaxed(&fst_slab_at(a, *head)->prev, id);
    fst_store_relaxed(head, id);
    fst_store_relaxed(&s->list, list);
    fst_store_relaxed(&c->slabs, c->slabs + 1);
}

void fst_lists_move(struct fst_arena *a, struct fst_child *c, uint32_t id, uint8_t list)
{
    fst_lists_remove(a, c, id);
    if (fst_slab_at(a, id)->list == FST_LIST_NONE)
        fst_lists_add(a, c, id, list);
}

/* Make both lists anew from the slabs' states. A slab without an owner goes to PARTIAL: whoever
 * adopts it sees what is free. */
static void rebuild(struct fst_arena *a, uint32_t child)
{
    struct fst_child *c = fst_child_at(a, child);
    fst_store_relaxed(&c->partial, FST_NONE);
    fst_store_relaxed(&c->full, FST_NONE);
    fst_store_relaxed(&c->slabs, 0);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++) {
        for (uint32_t i = 0; i < fst_slab_top(a, class); i++) {
            uint32_t id = FST_SLAB_ID(class, i);
            struct fst_slab *s = fst_slab_at(a, id);
            if (fst_state(fst_load_acquire(&s->state)) != FST_SLAB_LIVE || fst_load_relaxed(&s->child) != child)
                continue;
            fst_slab_reopen_words(s, class, fst_slab_objects(s, class));
            fst_lists_add(a, c, id, fst_load_relaxed(&s->owner) ? FST_LIST_FULL : FST_LIST_PARTIAL);
        }
    }
}

bool fst_lists_lock(struct fst_arena *a, uint32_t child)
{
    enum fst_try got = fst_lock_in_time(a, &fst_child_at(a, child)->lock);
    if (got == FST_TRY_TAKEN_OVER)
        rebuild(a, child);
    return got != FST_TRY_BUSY;
}

void fst_lists_unlock(struct fst_arena *a, uint32_t child)
{
    fst_unlock(a, &fst_child_at(a, child)->lock);
}

bool fst_lists_lock_briefly(struct fst_arena *a, uint32_t child)
{
    struct fst_waits before = fst_wait_briefly();
    bool got = fst_lists_lock(a, child);
    fst_wait_for(before);
    return got;
}

bool fst_lists_still(const struct fst_slab *s, uint32_t child)
{
    return fst_state(fst_load_acquire(&s->state)) == FST_SLAB_LIVE && s->child == child;
}

void fst_lists_unown(struct fst_arena *a, struct fst_child *c, uint32_t id)
{
    struct fst_slab *s = fst_slab_at(a, id);
    fst_store_relaxed(&s->owner, 0);
    fst_full_fence(); /* PAIR(let-go) */
    if (fst_slab_has_free(s, FST_SLAB_ID_CLASS(id)))
        fst_lists_move(a, c, id, FST_LIST_PARTIAL);
}

uint32_t fst_lists_ids(struct fst_arena *a, uint32_t child, uint32_t *ids, uint32_t max)
{
    const struct fst_child *c = fst_child_at(a, child);
    uint32_t n = 0, steps = 0;
    if (!fst_lists_lock(a, child))
        return 0;
    for (uint8_t list = FST_LIST_PARTIAL; list <= FST_LIST_FULL; list++, steps = 0)
        for (uint32_t id = list == FST_LIST_FULL ? c->full : c->partial; n < max && fst_lists_step(a, child, list, id, &steps);
             id = fst_slab_at(a, id)->next)
            ids[n++] = id;
    uint32_t has = c->slabs;
    fst_lists_unlock(a, child);
    return has > n ? has : n;
}
