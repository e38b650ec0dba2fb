#include "teardown/users.h"

#include <stdio.h>
#include <string.h>

#include "alloc/active.h"
#include "alloc/children.h"
#include "channel/channel.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "process/slot.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/scan.h"
#include "refs/word.h"
#include "region/lock.h"
#include "store/item.h"

/* What is looked for: references to objects of a cache. Its slabs are in a filter, so that nearly
 * all references to others cost a load and a test. */
struct sought {
    struct fst_arena *a;
    uint32_t cache;
    struct fst_scan slabs;
};

/* Put the slab into the filter; the result is whether an object of it is allocated. */
static bool add_slab(struct sought *s, uint32_t class, uint32_t index)
{
    uint32_t id = FST_SLAB_ID(class, index);
    struct fst_slab *slab = fst_slab_at(s->a, id);
    uint32_t state = fst_state(fst_load_acquire(&slab->state)), child = fst_load_relaxed(&slab->child);
    bool any = false;
    if (state == FST_SLAB_FREE || !fst_is_child(s->a, child) || fst_child_at(s->a, child)->cache != s->cache)
        return false;
    fst_scan_for(&s->slabs, fst_oid(id, 0));
    for (uint32_t k = 0, n = fst_slab_objects(slab, class); k < n && !any; k++)
        any = fst_load_acquire(fst_slab_word(slab, class, k)) & FST_WORD_ALLOCATED;
    return any;
}

/* Look for the cache's slabs. False: no object is allocated in any, so nobody refers to one. */
static bool seek(struct fst_arena *a, uint32_t cache, struct sought *s)
{
    bool any = false;
    s->a = a;
    s->cache = cache;
    s->slabs.used = FST_SCAN_FEW + 1; /* it was never cleared */
    fst_scan_begin(&s->slabs);
    for (uint32_t class = 0; class < FST_SLAB_CLASSES; class ++)
        for (uint32_t i = 0, top = fst_slab_top(a, class); i < top; i++)
            any |= add_slab(s, class, i);
    return any;
}

static bool of_cache(struct fst_arena *a, uint64_t oid, uint32_t cache)
{
    if (fst_oid_is_group(oid))
        return false;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) && fst_child_at(a, child)->cache == cache;
}

/* Was the object's group destroyed? Then the next batch ends its message. */
static bool ends(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) && fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) == FST_CHILD_ENDED;
}

/* Does a message or a key with this object count? */
static bool is_sought(const struct sought *s, uint64_t oid)
{
    return fst_scan_has(&s->slabs, oid) && fst_word_of(s->a, oid) && of_cache(s->a, oid, s->cache) && !ends(s->a, oid);
}

static bool counts(const struct sought *s, uint64_t entry)
{
    struct fst_arena *a = s->a;
    if (fst_entry_state(entry) != FST_ENTRY_LIVE || !fst_scan_has(&s->slabs, fst_entry_oid(entry)))
        return false;
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(a, oid);
    if (!word || !of_cache(a, oid, s->cache))
        return false;
    uint64_t w = fst_load_acquire(word);
    return (w & FST_WORD_ALLOCATED) && fst_entry_matches(entry, w);
}

static void count_process(const struct sought *s, uint32_t slot, struct fst_users *u)
{
    struct fst_arena *a = s->a;
    const struct fst_process *p = fst_process_at(a, slot);
    struct fst_table_look look;
    uint32_t n = 0;
    if (!fst_refs_look(a, slot, &look)) {
        snprintf(u->unseen, sizeof u->unseen, "pid %d (%.15s): %.250s", p->pid, p->command, fst_last_error());
        return;
    }
    for (uint32_t i = 0; i < look.top; i++)
        n += counts(s, fst_load_acquire(&look.entries[i]));
    fst_refs_looked(&look);
    bool heirs = n && fst_process_keeps_for_children(a, slot);
    if (!n || (!heirs && !fst_process_alive(a, slot)))
        return;
    size_t at = strlen(u->names);
    snprintf(u->names + at, sizeof u->names - at, "%s%u by %spid %d (%.15s)%s", at ? ", " : "", n,
             slot == a->slot ? "this process itself, " : "", p->pid, p->command,
             heirs ? ", or forked children of it that have no place in the arena" : "");
    u->own_heirs |= heirs && slot == a->slot;
    u->own += slot == a->slot ? n : 0;
    u->references += n;
    u->processes++;
}

/* Count the references to objects of the cache that lie in channels. PAIR(cache-ending): this comes
 * before the tables of processes, because references move from channels to these. */
static uint32_t count_waiting(const struct sought *s)
{
    struct fst_arena *a = s->a;
    uint32_t top = fst_channel_top(a), n = 0;
    for (uint32_t i = 0; i < top; i++) {
        struct fst_ring_view v;
        if (!fst_load_acquire(&fst_channel_at(a, i)->refs_top) || !fst_channel_look(a, i, &v))
            continue;
        for (uint32_t k = 0, used = fst_ring_refs(&v); k < used; k++) {
            uint64_t ref = fst_load_acquire(&v.refs[k]), oid = fst_node_oid(ref);
            n += (ref & FST_NODE_HELD) && is_sought(s, oid);
        }
        fst_channel_looked(a, &v);
    }
    return n;
}

/* Count the references that stores hold; before the tables, for the same reason. */
static uint32_t count_held(const struct sought *s)
{
    struct fst_arena *a = s->a;
    uint32_t n = 0;
    for (uint32_t class = 0; class < FST_ITEM_CLASSES; class ++) {
        uint32_t top = fst_item_top(a, class);
        for (uint32_t i = 0; i < top; i++) {
            uint64_t held = fst_load_acquire(fst_hold_at(a, fst_item_id(class, i))), oid = fst_hold_value(held);
            n += fst_hold_kind(held) == FST_HOLD_HELD && is_sought(s, oid);
        }
    }
    return n;
}

struct fst_users fst_users_count(struct fst_arena *a, uint32_t cache)
{
    struct fst_users u = {0};
    struct sought s;
    if (!seek(a, cache, &s))
        return u;
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        uint64_t oid = fst_inflight_oid(word);
        u.in_flight += (word & FST_INFLIGHT_LIVE) && is_sought(&s, oid);
    }
    u.in_flight += count_waiting(&s) + count_held(&s);
    top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++)
        if (fst_process_keeps(a, slot))
            count_process(&s, slot, &u);
    return u;
}

int fst_users_busy(const struct fst_arena *a, const char *name, const struct fst_users *u)
{
    if (u->unseen[0])
        return fst_fail(FST_BUSY, "cache %s may be in use: what a process holds could not be looked at, %s", name, u->unseen);
    if (u->own == u->references && !u->in_flight)
        return fst_fail(FST_BUSY,
                        "cache %s of arena %s is in use by this process itself: %s (Blocks, arrays and views of them that "
                        "are still alive here%s); drop them and try again",
                        name, fst_arena_called(a), fst_many(u->own, "reference", "references"),
                        u->own_heirs ? ", or in forked children of it that have no place in the arena, until these end" : "");
    return fst_fail(FST_BUSY,
                    "cache %s of arena %s is in use: %s of %s (%s), %u in flight; try again when they are dropped, and the "
                    "messages taken or dropped",
                    name, fst_arena_called(a), fst_many(u->references, "reference", "references"),
                    fst_many(u->processes, "process", "processes"), u->names[0] ? u->names : "none", u->in_flight);
}

/* A resolve under way writes its entry, and then looks at the child's state; this thread sets the
 * state, passes a fence, and then looks at the entries: so one of the two sees the other.
 * PAIR(cache-ending). An allocation says that it is under way, and looks at the state then: those
 * of this process are waited for. In another process one that has just begun may not show. Its
 * Block then outlives the cache, as a Block may outlive its group. */
int fst_users_look(struct fst_arena *a, uint32_t body, const char *name)
{
#ifndef FST_MUTANT_NO_SUSPENSION
    if (!fst_children_suspend(a, body))
        return FST_HELD;
#endif
    fst_full_fence();
    fst_active_await(a, body);
    uint32_t given_up = fst_lock_given_up();
    struct fst_users u = fst_users_count(a, body);
    if (fst_lock_given_up() != given_up)
        return FST_HELD; /* a channel was not looked into */
    if (!u.references && !u.in_flight && !u.unseen[0] && !fst_is_damaged(a))
        return FST_OK;
    return fst_children_resume(a, body) ? fst_users_busy(a, name, &u) : FST_HELD;
}
