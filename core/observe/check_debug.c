/* check_debug.c - check objects of caches that are debugged: their red zones, their poison, and
 * what their records say. Each slab is looked at under its child's lock, so that it stays. */
#include <stdio.h>

#include "alloc/debug.h"
#include "alloc/fault.h"
#include "alloc/lists.h"
#include "alloc/slab.h"
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "refs/reftable.h"
#include "refs/word.h"

/* Does the slab belong to a child that is debugged, of this group (FST_NONE: of any)? Then the
 * child's lock is held. *held: that lock took longer than this thread waits. */
static bool lock_slab(struct fst_arena *a, uint32_t id, uint32_t group, bool *held)
{
    const struct fst_slab *s = fst_slab_at(a, id);
    uint32_t child = fst_load_relaxed(&s->child);
    if (fst_state(fst_load_acquire(&s->state)) != FST_SLAB_LIVE || !fst_is_child(a, child))
        return false;
    const struct fst_child *c = fst_child_at(a, child);
    if (!(fst_load_relaxed(&c->flags) & FST_CACHE_DEBUG) || (group != FST_NONE && fst_load_relaxed(&c->group) != group))
        return false;
    if (!fst_lists_lock(a, child)) {
        *held = true;
        return false;
    }
    if (fst_lists_still(s, child))
        return true;
    fst_lists_unlock(a, child);
    return false;
}

/* A walk over such slabs: the child of `id` is locked. */
struct walk {
    uint32_t group; /* of this group; FST_NONE: of any */
    uint32_t class, next, id;
    bool held; /* a lock took longer than this thread waits, and the walk is over */
};

static bool go_on(struct fst_arena *a, struct walk *w)
{
    for (; w->class < FST_SLAB_CLASSES; w->class ++, w->next = 0) {
        while (w->next < fst_slab_top(a, w->class) && !fst_is_damaged(a) && !w->held) {
            w->id = FST_SLAB_ID(w->class, w->next++);
            if (lock_slab(a, w->id, w->group, &w->held))
                return true;
        }
    }
    return false;
}

/* ---- check() ---- */

/* The first line of a site's text, which says where something happened. */
static const char *line_of(struct fst_arena *a, uint32_t site, char *out, size_t room)
{
    size_t n = fst_debug_site_text(a, site, out, room - 1), i = 0;
    while (i < n && out[i] != '\n')
        i++;
    out[i] = 0;
    return i ? out : "a place that is not known";
}

/* Say who allocated the object, who freed it, and who holds it. */
static const char *who(struct fst_arena *a, const struct fst_debug_info *o, char *out, size_t room)
{
    char from[100];
    uint32_t slots[4];
    size_t at = 0, n = fst_refs_holders(a, o->oid, slots, 4);
    out[0] = 0;
    if (o->pid)
        at += (size_t)snprintf(out + at, room - at, "; allocated by process %d thread %u at %s", o->pid, o->thread,
                               line_of(a, o->allocated_site, from, sizeof from));
    if (o->freed_pid && at < room)
        at += (size_t)snprintf(out + at, room - at, "; freed by process %d thread %u at %s", o->freed_pid, o->freed_thread,
                               line_of(a, o->freed_site, from, sizeof from));
    for (size_t i = 0; i < n && i < 4 && at < room; i++)
        at += (size_t)snprintf(out + at, room - at, "%s %d", i ? "," : "; held by process",
                               fst_load_relaxed(&fst_process_at(a, slots[i])->pid));
    if (n > 4 && at < room)
        snprintf(out + at, room - at, " and %zu more", n - 4);
    return out;
}

static void say(struct fst_check *c, const struct fst_fault *f)
{
    static const char *const where[] = {
        [FST_FAULT_RED_ZONE] = " behind it",
        [FST_FAULT_BEFORE] = " before the next object",
        [FST_FAULT_POISON] = "",
        [FST_FAULT_RECORD] = " of its record",
    };
    char by[420], wrong[100] = "was freed twice";
    const struct fst_cache *cache = fst_cache_at(c->a, (uint32_t)f->about.cache);
    uint64_t oid = f->about.oid;
    if (f->kind == FST_FAULT_LEAK)
        snprintf(wrong, sizeof wrong, "%s in a group that was destroyed", fst_many(f->about.nbytes, "byte lives", "bytes live"));
    else if (f->kind != FST_FAULT_DOUBLE_FREE)
        snprintf(wrong, sizeof wrong, "%s from %lld on%s %s %s, %02x for %02x", fst_many(f->count, "byte", "bytes"),
                 (long long)f->offset, where[f->kind], f->count == 1 ? "was" : "were",
                 f->kind == FST_FAULT_POISON ? "written after it was freed" : "overwritten", f->found[0], f->expected);
    fst_check_say(c, "cache %.*s, slab %u object %u: %s%s", FST_NAME_MAX - 1, cache->name, fst_oid_slab(oid), fst_oid_object(oid),
                  wrong, who(c->a, &f->about, by, sizeof by));
}

/* Objects of children that have ended, of which the allocator is known. */
struct ended {
    struct fst_debug_info some[64];
    size_t n;
};

static void look_for_leak(struct fst_arena *a, const struct walk *w, uint32_t object, struct ended *e)
{
    struct fst_debug_info *info = &e->some[e->n];
    const struct fst_child *child = fst_child_at(a, fst_slab_at(a, w->id)->child);
    if (fst_state(fst_load_relaxed(&child->state)) == FST_CHILD_ENDED && e->n < 64 && fst_debug_info_of(a, w->id, object, info) &&
        info->allocated && info->pid)
        e->n++;
}

void fst_check_debug(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    struct fst_fault fault;
    struct ended ended = {.n = 0};
    uint32_t slot;
    struct walk w = {.group = FST_NONE};
    while (go_on(a, &w)) {
        struct fst_slab *s = fst_slab_at(a, w.id);
        for (uint32_t k = 0; k < fst_slab_objects(s, w.class); k++) {
            if (fst_debug_look(a, w.id, k, &fault))
                say(c, &fault);
            look_for_leak(a, &w, k, &ended);
        }
        fst_lists_unlock(a, s->child);
    }
    /* An object that nobody holds is no leak: it goes with the next batch. */
    for (size_t i = 0; i < ended.n; i++)
        if (fst_refs_holders(a, ended.some[i].oid, &slot, 1))
            say(c, &(struct fst_fault){.kind = FST_FAULT_LEAK, .about = ended.some[i]});
    c->held = c->held || w.held;
}

int fst_debug_walk(fst_arena *a, fst_debug_wrong *wrong, void *context)
{
    struct fst_fault fault;
    struct walk w = {.group = FST_NONE};
    while (go_on(a, &w)) {
        struct fst_slab *s = fst_slab_at(a, w.id);
        for (uint32_t k = 0; k < fst_slab_objects(s, w.class); k++) {
            if (!fst_debug_look_new(a, w.id, k, &fault))
                continue;
            fst_fault_find_holders(a, &fault);
            wrong(context, &fault);
        }
        fst_lists_unlock(a, s->child);
    }
    return w.held ? fst_lock_held(a) : fst_verdict(a, FST_OK);
}

/* ---- who has what ---- */

int fst_debug_list(fst_arena *a, uint64_t group, fst_debug_found *found, void *context)
{
    struct fst_debug_info info;
    struct fst_batch_info last;
    /* Listed is what nobody has ever dropped, and what was dropped before the last batch began:
     * somebody else still refers to that. */
    uint64_t began = fst_batch_list(a, &last, 1) ? last.began : 0;
    struct walk w = {.group = group ? (uint32_t)group : FST_NONE};
    while (go_on(a, &w)) {
        struct fst_slab *s = fst_slab_at(a, w.id);
        for (uint32_t k = 0; k < fst_slab_objects(s, w.class); k++)
            if (fst_debug_info_of(a, w.id, k, &info) && info.allocated && info.freed_at <= began)
                found(context, &info);
        fst_lists_unlock(a, s->child);
    }
    return w.held ? fst_lock_held(a) : fst_verdict(a, FST_OK);
}
