#include "alloc/debug.h"

#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "alloc/fault.h"
#include "alloc/form.h"
#include "alloc/registry.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "refs/claim.h"
#include "refs/word.h"
#include "region/file.h"

static_assert(FST_DEBUG_BEHIND >= sizeof(struct fst_debug_record) + 9 + 7, "a zone of nine bytes at least");

uint32_t fst_arena_debug(fst_arena *a)
{
    return a->known.flags & FST_CACHE_DEBUG;
}

bool fst_debug_seen(const fst_arena *a)
{
    return !a->plain;
}

uint32_t fst_debug_flags(const struct fst_cache_spec *spec)
{
    uint32_t flags = spec->flags;
    if (spec->init || (flags & FST_CACHE_TYPESAFE_BY_RCU))
        flags &= ~FST_CACHE_POISON;
    return flags & FST_CACHE_DEBUG && !(flags & FST_CACHE_SIZE_CLASS) ? flags | FST_CACHE_NO_MERGE : flags;
}

/* ---- where everything lies ---- */

struct around {
    uint8_t *data;
    uint64_t asked; /* bytes that were asked for: the zone begins here */
    uint64_t whole; /* bytes of the object's memory */
    struct fst_debug_record *record;
    uint32_t flags; /* those of the child */
    uint64_t *word;
};

/* Find what is around an object whose word is `seen`. False: its child is not debugged, or there is
 * damage. */
static bool find(const struct fst_arena *a, uint32_t id, uint32_t object, uint64_t seen, struct around *out)
{
    struct fst_slab *s = fst_slab_at(a, id);
    uint32_t child = fst_load_relaxed(&s->child);
    if (!fst_is_child(a, child))
        return false;
    const struct fst_child *c = fst_child_at(a, child);
    if (!(c->flags & FST_CACHE_DEBUG))
        return false;
    uint64_t one = s->asked ? (uint64_t)s->pages << FST_PAGE_SHIFT : c->size;
    uint64_t page = s->page, pages = s->pages, offset = object * c->stride;
    if (page + pages > a->capacity_pages || one > pages << FST_PAGE_SHIFT || offset > (pages << FST_PAGE_SHIFT) - one ||
        one < FST_DEBUG_BEHIND)
        return false;
    out->data = a->data + (page << FST_PAGE_SHIFT) + offset;
    out->whole = one;
    out->flags = c->flags;
    out->word = fst_slab_word(s, FST_SLAB_ID_CLASS(id), object);
    uint64_t at = (one - sizeof(struct fst_debug_record)) & ~7ull;
    out->record = (struct fst_debug_record *)(void *)(out->data + at);
    if (s->asked)
        out->asked = s->asked;
    else if (seen & FST_WORD_ALLOCATED)
        out->asked = fst_form_counted(a, 0, c->size, seen);
    else
        out->asked = c->size - fst_debug_behind(c->flags);
    if (out->asked > at)
        out->asked = at;
    return true;
}

bool fst_debug_has(const struct fst_arena *a, uint64_t oid)
{
    uint32_t id = fst_oid_slab(oid);
    if (fst_oid_is_group(oid) || !fst_slab_id_ok(a, id))
        return false;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, id)->child);
    return fst_is_child(a, child) && (fst_child_at(a, child)->flags & FST_CACHE_DEBUG);
}

static uint8_t *end_of_record(const struct around *o)
{
    return (uint8_t *)(o->record + 1);
}

/* ---- writing ---- */

/* A process that may only read releases objects, too. It maps the object for writing as long as it
 * writes around it, so that whoever is given the object next, and check(), have something to
 * compare. False: it cannot, and the record stays as it is, which fst_debug_look() allows for. */
static bool reach(struct fst_arena *a, struct around *o, struct fst_mapped *m)
{
    m->base = NULL;
    if (!a->readonly)
        return true;
#ifdef FST_MUTANT_READONLY_RECORD
    return false;
#endif
    uint8_t *data = fst_file_map_data(a, (uint64_t)(o->data - a->data), o->whole, m);
    if (!data)
        return false;
    o->record = (struct fst_debug_record *)(void *)(data + ((uint8_t *)o->record - o->data));
    o->data = data;
    return true;
}

static void put_zones(const struct around *o)
{
#ifdef FST_MUTANT_NO_ZONE
    return;
#endif
    memset(o->data + o->asked, FST_DEBUG_ZONE, (uint64_t)((uint8_t *)o->record - o->data) - o->asked);
    memset(o->record->before, FST_DEBUG_BEFORE, sizeof o->record->before);
    memset(end_of_record(o), FST_DEBUG_ZONE, (uint64_t)(o->data + o->whole - end_of_record(o)));
}

static void put_poison(const struct around *o)
{
    if (!(o->flags & FST_CACHE_POISON) || !o->asked)
        return;
#ifdef FST_MUTANT_NO_POISON
    return;
#endif
    memset(o->data, FST_DEBUG_FREE, o->asked - 1);
    o->data[o->asked - 1] = FST_DEBUG_END;
}

void fst_debug_carve(struct fst_arena *a, uint32_t id, uint32_t objects, const struct fst_child *c)
{
    struct around o;
    for (uint32_t i = 0; (c->flags & FST_CACHE_DEBUG) && i < objects; i++) {
        if (!find(a, id, i, 0, &o))
            return;
        memset(o.record, 0, sizeof *o.record);
        put_zones(&o);
        put_poison(&o);
        fst_store_release(&o.record->state, (uint32_t)FST_DEBUG_IS_FREE);
    }
}

/* ---- comparing ---- */

/* The first byte of n that is not `value`, or n. */
static uint64_t first_other(const uint8_t *p, uint64_t n, uint8_t value)
{
    if (n == 0 || (p[0] == value && memcmp(p, p + 1, n - 1) == 0))
        return n;
    uint64_t i = 0;
    while (i < n && p[i] == value)
        i++;
    return i;
}

/* Do the n bytes at `at` differ from `value`? Then *out says which do. */
static bool differs(const struct around *o, const uint8_t *at, uint64_t n, uint8_t value, enum fst_fault_kind kind,
                    struct fst_fault *out)
{
    uint64_t first = first_other(at, n, value), last = n;
    if (first == n)
        return false;
    while (last > first + 1 && at[last - 1] == value)
        last--;
    out->kind = kind;
    out->offset = (at - o->data) + (int64_t)first;
    out->count = last - first;
    out->expected = value;
    out->found_bytes = out->count < sizeof out->found ? (uint32_t)out->count : (uint32_t)sizeof out->found;
    memcpy(out->found, at + first, out->found_bytes);
    return true;
}

static bool zones_differ(const struct around *o, struct fst_fault *out)
{
    if (!(o->flags & FST_CACHE_RED_ZONE))
        return false;
    const uint8_t *zone = o->data + o->asked, *record = (const uint8_t *)o->record;
    return differs(o, zone, (uint64_t)(record - zone), FST_DEBUG_ZONE, FST_FAULT_RED_ZONE, out) ||
           differs(o, o->record->before, sizeof o->record->before, FST_DEBUG_BEFORE, FST_FAULT_BEFORE, out) ||
           differs(o, end_of_record(o), (uint64_t)(o->data + o->whole - end_of_record(o)), FST_DEBUG_ZONE, FST_FAULT_BEFORE, out);
}

static bool poison_differs(const struct around *o, struct fst_fault *out)
{
    if (!(o->flags & FST_CACHE_POISON) || !o->asked)
        return false;
    return differs(o, o->data, o->asked - 1, FST_DEBUG_FREE, FST_FAULT_POISON, out) ||
           differs(o, o->data + o->asked - 1, 1, FST_DEBUG_END, FST_FAULT_POISON, out);
}

static void describe(const struct fst_arena *a, uint32_t id, uint32_t object, const struct around *o, struct fst_debug_info *out)
{
    const struct fst_child *c = fst_child_at(a, fst_slab_at(a, id)->child);
    const struct fst_debug_record *r = o->record;
    memset(out, 0, sizeof *out);
    out->oid = fst_oid(id, object);
    if (c->cache < fst_cache_top(a) && fst_is_group(a, c->group)) {
        out->cache = fst_id(c->cache, fst_cache_at(a, c->cache)->state);
        out->group = fst_id(c->group, fst_group_at(a, c->group)->state);
    }
    out->nbytes = o->asked;
    out->allocated = fst_load_relaxed(o->word) & FST_WORD_ALLOCATED;
    out->allocated_site = fst_load_relaxed(&r->allocated_site);
    out->freed_site = fst_load_relaxed(&r->freed_site);
    out->pid = fst_load_relaxed(&r->pid);
    out->freed_pid = fst_load_relaxed(&r->freed_pid);
    out->thread = fst_load_relaxed(&r->thread);
    out->freed_thread = fst_load_relaxed(&r->freed_thread);
    out->allocated_at = fst_load_relaxed(&r->allocated_at);
    out->freed_at = fst_load_relaxed(&r->freed_at);
}

bool fst_debug_info_of(const struct fst_arena *a, uint32_t id, uint32_t object, struct fst_debug_info *out)
{
    struct around o;
    const uint64_t *word = fst_slab_word(fst_slab_at(a, id), FST_SLAB_ID_CLASS(id), object);
    uint64_t seen = fst_load_acquire(word);
    if (!find(a, id, object, seen, &o) || fst_load_acquire(&o.record->state) == FST_DEBUG_CHANGING)
        return false;
    describe(a, id, object, &o, out);
    return fst_word_gen(fst_load_acquire(word)) == fst_word_gen(seen);
}

bool fst_debug_look(const struct fst_arena *a, uint32_t id, uint32_t object, struct fst_fault *out)
{
    struct around o;
    const uint64_t *word = fst_slab_word(fst_slab_at(a, id), FST_SLAB_ID_CLASS(id), object);
    uint64_t seen = fst_load_acquire(word);
    if (!find(a, id, object, seen, &o))
        return false;
    bool used = seen & FST_WORD_ALLOCATED, bad;
    uint32_t state = fst_load_acquire(&o.record->state);
    memset(out, 0, sizeof *out);
    if (state == FST_DEBUG_IS_USED && used) {
        bad = zones_differ(&o, out);
    } else if (state == FST_DEBUG_IS_FREE && !used) {
        bad = zones_differ(&o, out) || poison_differs(&o, out);
    } else if (used ? state == FST_DEBUG_IS_FREE || state == FST_DEBUG_CHANGING : state == FST_DEBUG_IS_USED) {
        return false; /* changing; or released by a process for which reach() failed */
    } else {
        bad = true;
        out->kind = FST_FAULT_RECORD;
        out->offset = (uint8_t *)o.record - o.data;
        out->count = out->found_bytes = sizeof state;
        memcpy(out->found, &state, sizeof state);
    }
    if (!bad && (fst_load_relaxed(&o.record->said) & FST_DEBUG_TWICE)) {
        bad = true;
        out->kind = FST_FAULT_DOUBLE_FREE;
    }
    if (!bad)
        return false;
    memcpy(out->uuid, a->known.uuid, sizeof out->uuid);
    describe(a, id, object, &o, &out->about);
    out->about.allocated = used;
    fst_acquire_fence();
    /* If somebody allocated or released the object meanwhile, nothing was compared. */
    uint64_t now = fst_load_acquire(word);
    return ((now ^ seen) & ~(FST_WORD_FLAGS & ~FST_WORD_ALLOCATED)) == 0 && fst_load_acquire(&o.record->state) == state;
}

/* ---- finding ---- */

/* Report what is wrong with an object, once in its life: every later look finds the same. */
static void report(struct fst_arena *a, uint64_t oid, struct around o)
{
    struct fst_fault fault;
    struct fst_mapped m;
    if ((fst_load_relaxed(&o.record->said) & FST_DEBUG_SAID) ||
        !fst_debug_look(a, fst_oid_slab(oid), fst_oid_object(oid), &fault) ||
        fault.kind == FST_FAULT_DOUBLE_FREE) /* its second free has reported that */
        return;
    if (reach(a, &o, &m))
        fst_store_relaxed(&o.record->said, fst_load_relaxed(&o.record->said) | FST_DEBUG_SAID);
    fst_file_unmap_data(&m);
    fst_fault_keep(a, &fault);
}

bool fst_debug_look_new(const struct fst_arena *a, uint32_t id, uint32_t object, struct fst_fault *out)
{
    struct around o;
    return find(a, id, object, 0, &o) && !(fst_load_relaxed(&o.record->said) & FST_DEBUG_SAID) &&
           fst_debug_look(a, id, object, out) && out->kind != FST_FAULT_DOUBLE_FREE;
}

/* With FST_CACHE_CONSISTENCY: look at all other objects of the slab. */
static void look_around(struct fst_arena *a, uint64_t oid)
{
#ifdef FST_MUTANT_DEBUG_ALONE
    return;
#endif
    struct around o;
    struct fst_slab *s = fst_slab_at(a, fst_oid_slab(oid));
    uint32_t objects = fst_slab_objects(s, FST_SLAB_ID_CLASS(fst_oid_slab(oid)));
    for (uint32_t i = 0; i < objects; i++)
        if (i != fst_oid_object(oid) && find(a, fst_oid_slab(oid), i, 0, &o))
            report(a, fst_oid(fst_oid_slab(oid), i), o);
}

/* ---- who allocates or drops ---- */

static fst_debug_where *ask_where;

void fst_debug_ask(fst_debug_where *where)
{
    ask_where = where;
}

static uint32_t where(struct fst_arena *a, const struct around *o)
{
    return (o->flags & FST_CACHE_STORE_USER) && ask_where ? ask_where(a) : 0;
}

static uint32_t thread_number(void)
{
    static __thread uint32_t number;
    static __thread int32_t of;
    int32_t pid = (int32_t)getpid();
    if (of != pid) {
        number = (uint32_t)syscall(SYS_gettid);
        of = pid;
    }
    return number;
}

/* ---- an object's life ---- */

void fst_debug_allocated(struct fst_arena *a, const struct fst_ref *ref)
{
    struct around o, free;
    uint32_t id = fst_oid_slab(ref->oid), object = fst_oid_object(ref->oid);
    if (!find(a, id, object, 0, &free) || !find(a, id, object, fst_load_relaxed(free.word), &o))
        return;
    a->plain = false;
#ifndef FST_MUTANT_DEBUG_PRIVATE
    fst_word_set(o.word, FST_WORD_SHARED | FST_WORD_HANDED);
#endif
    struct fst_debug_record *r = o.record;
    struct fst_fault fault = {0};
    if (fst_load_relaxed(&r->state) == FST_DEBUG_IS_FREE && !(fst_load_relaxed(&r->said) & FST_DEBUG_SAID) &&
        (zones_differ(&free, &fault) || poison_differs(&free, &fault))) {
        memcpy(fault.uuid, a->known.uuid, sizeof fault.uuid);
        describe(a, id, object, &free, &fault.about);
        fault.about.allocated = false;
        fst_fault_keep(a, &fault);
    }
    uint32_t site = where(a, &o); /* this may take long, so it comes before anything is changed */
    fst_store_release(&r->state, (uint32_t)FST_DEBUG_CHANGING);
    fst_release_fence();
    if ((o.flags & FST_CACHE_POISON) && o.asked)
        memset(o.data, FST_DEBUG_FRESH, o.asked);
    put_zones(&o);
    fst_store_relaxed(&r->said, 0);
    if (o.flags & FST_CACHE_STORE_USER) {
        fst_store_relaxed(&r->allocated_site, site);
#ifndef FST_MUTANT_NO_USER
        fst_store_relaxed(&r->pid, a->self->pid);
#endif
        fst_store_relaxed(&r->thread, thread_number());
        fst_store_relaxed(&r->allocated_at, fst_now());
        fst_store_relaxed(&r->freed_at, 0);
        fst_store_relaxed(&r->freed_site, 0);
        fst_store_relaxed(&r->freed_pid, 0);
        fst_store_relaxed(&r->freed_thread, 0);
    }
    fst_store_release(&r->state, (uint32_t)FST_DEBUG_IS_USED);
    if (o.flags & FST_CACHE_CONSISTENCY)
        look_around(a, ref->oid);
}

void fst_debug_dropped(struct fst_arena *a, uint64_t oid)
{
    struct around o;
    struct fst_mapped m;
    if (!fst_debug_has(a, oid) || !find(a, fst_oid_slab(oid), fst_oid_object(oid), 0, &o))
        return;
    if (fst_load_acquire(&o.record->state) != FST_DEBUG_IS_USED)
        return;
    report(a, oid, o);
    if (o.flags & FST_CACHE_CONSISTENCY)
        look_around(a, oid);
    if (!(o.flags & FST_CACHE_STORE_USER))
        return;
    uint32_t site = where(a, &o);
    if (reach(a, &o, &m)) {
        struct fst_debug_record *r = o.record;
        fst_store_relaxed(&r->freed_site, site);
        fst_store_relaxed(&r->freed_pid, a->self->pid);
        fst_store_relaxed(&r->freed_thread, thread_number());
        fst_store_relaxed(&r->freed_at, fst_now());
    }
    fst_file_unmap_data(&m);
}

bool fst_debug_release(struct fst_arena *a, uint64_t oid, uint64_t *word)
{
    struct around o;
    struct fst_mapped m = {0};
    uint64_t seen = fst_load_acquire(word);
    /* Nobody refers to the object; once its word says FREED, nobody resolves it either, and what
     * follows is only this thread's. */
    do {
        if (!(seen & FST_WORD_ALLOCATED) || !(seen & FST_WORD_CONDEMNED))
            return false;
    } while (!fst_cas64(word, &seen, seen | FST_WORD_FREED));
    seen |= FST_WORD_FREED;
    bool found = find(a, fst_oid_slab(oid), fst_oid_object(oid), 0, &o);
    if (found)
        report(a, oid, o);
    if (found && reach(a, &o, &m)) {
        struct fst_debug_record *r = o.record;
#ifdef FST_MUTANT_WORD_BEFORE_POISON
        fst_cas64(word, &seen, fst_word_free(seen));
#endif
        fst_store_release(&r->state, (uint32_t)FST_DEBUG_CHANGING);
        fst_release_fence();
        fst_store_relaxed(&r->said, fst_load_relaxed(&r->said) & FST_DEBUG_TWICE);
        put_zones(&o);
        put_poison(&o);
        fst_store_release(&r->state, (uint32_t)FST_DEBUG_IS_FREE);
    }
    fst_file_unmap_data(&m);
    return fst_cas64(word, &seen, fst_word_free(seen));
}

void fst_debug_freed_before(struct fst_arena *a, uint64_t oid)
{
    struct around o;
    struct fst_fault fault = {.kind = FST_FAULT_DOUBLE_FREE};
    const uint64_t *word = fst_word_of(a, oid);
    if (!word || !fst_debug_has(a, oid) || !find(a, fst_oid_slab(oid), fst_oid_object(oid), fst_load_acquire(word), &o))
        return;
    memcpy(fault.uuid, a->known.uuid, sizeof fault.uuid);
    describe(a, fst_oid_slab(oid), fst_oid_object(oid), &o, &fault.about);
#ifndef FST_MUTANT_FORGET_TWICE
    fst_store_relaxed(&o.record->said, fst_load_relaxed(&o.record->said) | FST_DEBUG_TWICE);
#endif
    fst_fault_keep(a, &fault);
}

/* ---- sites ---- */

int fst_debug_site_add(fst_arena *a, const char *text, size_t bytes, uint32_t *site)
{
    return fst_form_intern(a, text, bytes, UINT64_MAX, false, site);
}

size_t fst_debug_site_text(fst_arena *a, uint32_t site, char *out, size_t room)
{
    const struct fst_form *f = site ? fst_form_find(a, site) : NULL;
    if (!f || f->nbytes != UINT64_MAX || !fst_form_sound(f))
        return 0;
    size_t n = f->text_bytes < room ? f->text_bytes : room;
    memcpy(out, f->text, n);
    return n;
}
