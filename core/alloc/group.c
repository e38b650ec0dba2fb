#include "alloc/group.h"

#include <string.h>

#include "alloc/children.h"
#include "alloc/names.h"
#include "alloc/run.h"
#include "flagstone_test.h"
#include "platform/error.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

bool fst_group_find(struct fst_arena *a, uint64_t id, uint32_t *index)
{
    *index = (uint32_t)id;
    return fst_is_group(a, *index) && fst_id_is(id, fst_load_acquire(&fst_group_at(a, *index)->state));
}

uint64_t fst_group_root(fst_arena *a)
{
    return fst_id(0, fst_load_acquire(&fst_group_at(a, 0)->state));
}

/* Fill in the descriptor, all but its word and its state. Under names_lock. */
static void fill(const struct fst_arena *a, struct fst_group *g, const struct fst_group_spec *spec, uint32_t parent)
{
    /* PAIR(record): whoever reads what follows also sees the last life's end */
    fst_release_fence();
    fst_store_relaxed(&g->parent, parent);
    fst_store_relaxed(&g->first, FST_NONE);
    fst_store_relaxed(&g->first_group, FST_NONE);
    fst_store_relaxed(&g->ended_at, 0);
    fst_store_relaxed(&g->flags, spec->flags & FST_GROUP_LASTING);
    fst_store_relaxed(&g->children, 0);
    fst_store_relaxed(&g->limit, spec->set_limit && spec->limit != FST_NO_LIMIT ? spec->limit >> FST_PAGE_SHIFT : UINT64_MAX);
    fst_store_relaxed(&g->usage, 0);
    g->peak = g->limit_hits = g->failed = g->reclaims = 0;
    memset(g->name, 0, sizeof g->name);
    if (spec->name)
        memcpy(g->name, spec->name, strlen(spec->name));
    uint64_t inherited = parent == FST_NONE ? 0 : fst_load_relaxed(&fst_group_at(a, parent)->messages_expire);
    fst_store_relaxed(&g->messages_expire, spec->set_messages_expire ? spec->messages_expire : inherited);
}

int fst_group_make_root(struct fst_arena *a)
{
    int rc = fst_registry_grow(a, FST_T_GROUP);
    if (rc)
        return rc;
    struct fst_group_spec spec = {.name = "root", .flags = FST_GROUP_LASTING};
    uint32_t index = fst_registry_new(a, FST_T_GROUP);
    struct fst_group *g = fst_group_at(a, index);
    fill(a, g, &spec, FST_NONE);
    fst_store_relaxed(&g->word, FST_WORD_ALLOCATED | FST_WORD_SHARED | FST_WORD_GEN1);
    fst_store_release(&g->state, fst_state_next(g->state, FST_GROUP_LIVE));
    return FST_OK;
}

/* What fst_group_note_entry noted. */
static _Thread_local struct {
    const struct fst_arena *arena;
    uint64_t group;
    uint32_t entry;
} last;

void fst_group_note_entry(const struct fst_arena *a, uint64_t group, uint32_t entry)
{
    last.arena = a;
    last.group = group;
    last.entry = entry;
}

uint32_t fst_group_last_entry(const struct fst_arena *a, uint64_t id)
{
    return last.arena == a && last.group == id ? last.entry : FST_NONE;
}

/* Find the live group of this name. A group without its word has ended: a batch has released it and
 * is about to close it, or was stopped or killed before that. Nobody waits for it; its name is
 * another group's already. */
static uint32_t find_name(struct fst_arena *a, const char *name, uint32_t parent, uint32_t hash)
{
    uint32_t steps;
    uint32_t i = name ? fst_names_first(a, FST_NAMES_GROUP, hash, &steps) : FST_NONE;
    for (; i != FST_NONE; i = fst_names_next(a, FST_NAMES_GROUP, i, &steps)) {
        const struct fst_group *g = fst_group_at(a, i);
        if (fst_state(g->state) == FST_GROUP_LIVE && g->parent == parent && strncmp(g->name, name, FST_NAME_MAX) == 0 &&
            (fst_load_acquire(&g->word) & FST_WORD_ALLOCATED))
            return i;
    }
    return FST_NONE;
}

/* The entry comes first, then the word, then the state: after a kill anywhere the entry asks a
 * batch to look, or speaks of nothing. Nobody in this process can have another entry of this life
 * of the descriptor. Other threads of this process cannot find the entry yet, because that needs a
 * mutex of this process (fst_refs_index). */
static void make(struct fst_arena *a, uint32_t index, const struct fst_group_spec *spec, uint32_t parent, uint32_t hash,
                 uint32_t entry)
{
    struct fst_group *g = fst_group_at(a, index);
    uint64_t generation = fst_word_gen(g->word) + 1;
    /* PAIR(reference): either a batch's scan sees this entry, or the batch has seen nothing of the
     * group. */
    fst_store_fence(&a->entries[entry], fst_entry(fst_oid_group(index), generation, FST_ENTRY_LIVE));
    fill(a, g, spec, parent);
    fst_store_release(&g->word, FST_WORD_ALLOCATED | FST_WORD_SHARED | generation << FST_WORD_GEN_SHIFT);
    fst_store_release(&g->state, fst_state_next(g->state, FST_GROUP_LIVE));
    fst_registry_link_group(a, index, hash);
    fst_group_note_entry(a, fst_id(index, g->state), entry);
}

/* Is the group what the caller asks for? FST_MISMATCH, and a sentence. */
static int compare(const struct fst_arena *a, const struct fst_group *g, const struct fst_group_spec *spec)
{
    uint64_t limit = spec->limit == FST_NO_LIMIT ? UINT64_MAX : spec->limit >> FST_PAGE_SHIFT;
    if (spec->set_limit && limit != g->limit)
        return fst_fail(FST_MISMATCH, "group '%s' of arena %s exists with %s%s, not %s", spec->name, fst_arena_called(a),
                        g->limit == UINT64_MAX ? "" : "a limit of ",
                        g->limit == UINT64_MAX ? "no limit" : fst_size(g->limit << FST_PAGE_SHIFT),
                        limit == UINT64_MAX ? "without one" : fst_exact(spec->limit));
    if (spec->set_messages_expire && spec->messages_expire != fst_load_relaxed(&g->messages_expire))
        return fst_fail(
            FST_MISMATCH,
            "group '%s' of arena %s exists with messages_expire of %g s (0: never), not %g s: ask for that, or for none",
            spec->name, fst_arena_called(a), (double)g->messages_expire / 1e9, (double)spec->messages_expire / 1e9);
    return FST_OK;
}

/* Claim the group that had the name under names_lock, whose id it was there. FST_CLOSED: it has
 * ended since, and its descriptor may be another group's by now; so nothing of it is looked at
 * before. */
static int open_existing(struct fst_thread *t, uint64_t id, const struct fst_group_spec *spec)
{
    struct fst_arena *a = t->arena;
    uint32_t entry;
    int rc = fst_group_claim(t, id, &entry);
    if (rc == FST_OK && (rc = compare(a, fst_group_at(a, (uint32_t)id), spec)) != FST_OK) {
        if (fst_refs_drop(a, entry))
            fst_add32(&a->self->dropped, 1);
        fst_group_again(a, (uint32_t)id);
    }
    return rc;
}

#define TRIES 10000u /* looks, to catch a group between its end and the next of its name */

int fst_group_open(fst_arena *a, const struct fst_group_spec *spec, uint64_t *group, bool *created)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t || fst_is_damaged(a))
        return fst_thread_refused(a);
    if (spec->name && (!spec->name[0] || strnlen(spec->name, FST_NAME_MAX) >= FST_NAME_MAX))
        return fst_fail(FST_INVALID, "a group's name has 1 to %d bytes", FST_NAME_MAX - 1);
    uint32_t hash = spec->name ? fst_registry_hash_name(spec->name, (uint32_t)spec->parent) : 0;
    for (uint32_t tries = 0;;) {
        uint32_t parent, index = FST_NONE;
        int rc;
        /* The system is asked for memory here, and not by make() under the lock. */
        if (t->entry_count == 0 && (rc = fst_refs_refill(t)) != FST_OK)
            return rc;
        uint32_t entry = fst_refs_reserve(t);
        fst_registry_expect(a, FST_T_GROUP);
        if (!fst_registry_lock(a)) {
            fst_refs_give(t, entry);
            return fst_lock_held(a);
        }
        bool live = fst_group_find(a, spec->parent, &parent) && fst_state(fst_group_at(a, parent)->state) == FST_GROUP_LIVE;
        uint32_t found = live ? find_name(a, spec->name, parent, hash) : FST_NONE;
        if (found != FST_NONE)
            *group = fst_id(found, fst_group_at(a, found)->state);
        bool make_it = live && found == FST_NONE && spec->create != FST_OPEN_EXISTING;
        if (make_it && (index = fst_registry_new(a, FST_T_GROUP)) != FST_NONE) {
            make(a, index, spec, parent, hash, entry);
            *group = fst_id(index, fst_group_at(a, index)->state);
        }
        fst_registry_unlock(a);
#ifdef FST_MUTANT_ID_AFTERWARDS /* Broken on purpose, for tools/mutants. */
        if (found != FST_NONE)
            *group = fst_id(found, fst_load_acquire(&fst_group_at(a, found)->state));
#endif
        /* Another thread that opens the group in between has an entry of its own, which is as
         * good. */
        if (index != FST_NONE)
            fst_refs_index(a, entry);
        else
            fst_refs_give(t, entry);
        if (fst_is_damaged(a))
            return fst_damage(a);
        if (!live)
            return fst_fail(FST_CLOSED, "the parent group has ended, in arena %s", fst_arena_called(a));
        if (found != FST_NONE && spec->create == FST_CREATE_NEW)
            return fst_fail(FST_EXISTS, "group '%s' of arena %s exists already", spec->name, fst_arena_called(a));
        if (found == FST_NONE && !make_it)
            return fst_fail(FST_MISSING, "there is no group '%s' in arena %s", spec->name ? spec->name : "", fst_arena_called(a));
        if (found != FST_NONE) {
            *created = false;
            rc = open_existing(t, *group, spec);
            if ((rc == FST_CLOSED || rc == FST_STALE) && ++tries < TRIES)
                continue; /* it ended between the two looks */
            return rc;
        }
        *created = true;
        if (index != FST_NONE)
            return FST_OK;
        rc = fst_registry_grow(a, FST_T_GROUP);
        if (rc)
            return rc;
    }
}

int fst_group_ended(struct fst_arena *a, uint64_t id)
{
    uint32_t index;
    bool named = fst_group_find(a, id, &index) && fst_group_at(a, index)->name[0];
    return fst_fail(
        FST_CLOSED, "the group%s%.*s%s of arena %s has ended: it was closed or destroyed; open it again, or take another",
        named ? " '" : "", FST_NAME_MAX - 1, named ? fst_group_at(a, index)->name : "", named ? "'" : "", fst_arena_called(a));
}

int fst_group_claim(struct fst_thread *t, uint64_t id, uint32_t *entry)
{
    struct fst_arena *a = t->arena;
    uint32_t index;
    bool dropped = false;
    if (!fst_group_find(a, id, &index) || fst_state(fst_load_acquire(&fst_group_at(a, index)->state)) != FST_GROUP_LIVE)
        return fst_group_ended(a, id);
    int rc =
        fst_claim(t, fst_oid_group(index), fst_word_gen(fst_load_acquire(&fst_group_at(a, index)->word)), false, entry, &dropped);
    /* The word may have gone on to another life of the descriptor in between: then the state does
     * not have this id any more. */
    if (rc == FST_OK &&
        (!fst_group_find(a, id, &index) || fst_state(fst_load_acquire(&fst_group_at(a, index)->state)) != FST_GROUP_LIVE)) {
        dropped |= fst_refs_drop(a, *entry);
        fst_group_again(a, index);
        rc = fst_group_ended(a, id);
    }
    if (rc == FST_OK)
        fst_group_note_entry(a, id, *entry);
    if (dropped)
        fst_add32(&a->self->dropped, 1); /* for the next batch; not worth one of its own */
    return rc == FST_STALE ? fst_group_ended(a, id) : rc;
}

bool fst_group_let_go(struct fst_arena *a, uint64_t id)
{
    uint32_t index, entry;
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return false;
    if (!fst_group_find(a, id, &index)) {
        entry = fst_refs_find_past(a, fst_oid_group((uint32_t)id));
        return entry != FST_NONE && fst_refs_drop(a, entry);
    }
    /* Find this process's entry by counting one owner more, then drop both. */
    uint64_t word = fst_load_acquire(&fst_group_at(a, index)->word);
    if (fst_refs_get(a, t, fst_oid_group(index), fst_word_gen(word), &entry))
        return false;
    /* true at once if the process had no entry */
    return fst_refs_drop(a, entry) || fst_refs_drop(a, entry);
}

int fst_group_hold(fst_arena *a, uint64_t group)
{
    struct fst_thread *t = fst_thread_get(a);
    uint32_t entry;
    return t ? fst_group_claim(t, group, &entry) : fst_thread_refused(a);
}

/* ---- ending ---- */

void fst_group_again(struct fst_arena *a, uint32_t index)
{
    if (fst_state(fst_load_acquire(&fst_group_at(a, index)->state)) != FST_GROUP_DESTROYED)
        return;
    if (!fst_registry_lock(a)) {
        fst_registry_finish_later(a); /* which looks at all groups */
        return;
    }
    if (fst_state(fst_group_at(a, index)->state) == FST_GROUP_DESTROYED)
        fst_registry_queue_group(a, index);
    fst_registry_unlock(a);
}

/* ---- looking, limits ---- */

int fst_group_set_limit(fst_arena *a, uint64_t group, uint64_t limit)
{
    uint32_t index;
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    if (!fst_registry_lock(a)) /* otherwise the descriptor may be another group's by now */
        return fst_lock_held(a);
    bool found = fst_group_find(a, group, &index), set = true;
    if (found)
        set = fst_run_set_limit(a, index, limit == FST_NO_LIMIT ? UINT64_MAX : limit >> FST_PAGE_SHIFT);
    fst_registry_unlock(a);
    if (!set)
        return fst_lock_held(a);
    return fst_verdict(a, found ? FST_OK : fst_group_ended(a, group));
}

int fst_group_get_info(fst_arena *a, uint64_t group, struct fst_group_info *out)
{
    uint32_t index;
    if (!fst_group_find(a, group, &index))
        return fst_group_ended(a, group);
    const struct fst_group *g = fst_group_at(a, index);
    memset(out, 0, sizeof *out);
    out->id = group;
    out->parent = g->parent == FST_NONE ? group : fst_id(g->parent, fst_group_at(a, g->parent)->state);
    memcpy(out->name, g->name, sizeof out->name - 1);
    out->state = fst_state(fst_load_relaxed(&g->state));
    out->released = out->state > FST_GROUP_LIVE && fst_load_relaxed(&g->first) == FST_NONE;
    out->flags = fst_load_relaxed(&g->flags) & (FST_GROUP_LASTING | FST_GROUP_CGROUP);
    out->children = fst_load_relaxed(&g->children);
    uint64_t limit = fst_load_relaxed(&g->limit);
    out->limit = limit == UINT64_MAX ? FST_NO_LIMIT : limit << FST_PAGE_SHIFT;
    out->usage = fst_load_relaxed(&g->usage) << FST_PAGE_SHIFT;
    out->peak = fst_load_relaxed(&g->peak) << FST_PAGE_SHIFT;
    out->limit_hits = fst_load_relaxed(&g->limit_hits);
    out->failed = fst_load_relaxed(&g->failed);
    out->reclaims = fst_load_relaxed(&g->reclaims);
    out->messages_expire = fst_load_relaxed(&g->messages_expire);
    fst_acquire_fence(); /* PAIR(record): does all that was read belong to this life? */
    return fst_verdict(a, fst_group_find(a, group, &index) ? FST_OK : fst_group_ended(a, group));
}

size_t fst_group_list(fst_arena *a, uint64_t *ids, size_t max)
{
    size_t n = 0;
    uint32_t top = fst_group_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t state = fst_load_acquire(&fst_group_at(a, i)->state);
        if (fst_state(state) == FST_GROUP_FREE)
            continue;
        if (n < max)
            ids[n] = fst_id(i, state);
        n++;
    }
    return n;
}

size_t fst_group_caches(fst_arena *a, uint64_t group, uint64_t *ids, size_t max)
{
    uint32_t index, top = fst_child_top(a);
    size_t n = 0;
    if (!fst_group_find(a, group, &index))
        return 0;
    /* Look at all children, and not along the group's list, which would need the lock. */
    for (uint32_t i = 0; i < top; i++) {
        const struct fst_child *c = fst_child_at(a, i);
        uint32_t cache = fst_load_relaxed(&c->cache);
        if (fst_state(fst_load_acquire(&c->state)) == FST_CHILD_FREE || fst_load_relaxed(&c->group) != index ||
            cache >= fst_cache_top(a))
            continue;
        if (n < max)
            ids[n] = fst_id(cache, fst_load_acquire(&fst_cache_at(a, cache)->state));
        n++;
    }
    return n;
}
