#include "refs/reftable.h"

#include <errno.h>
#include <stdlib.h>

#include "platform/error.h"
#include "platform/mapping.h"
#include "process/slot.h"
#include "refs/word.h"
#include "region/entries.h"
#include "region/table.h"

#define BUCKETS (1u << 18)
/* entries that local and pool have room for at first; doubled when they are used up */
#define ROOM (1u << 14)
/* entries reserved at a time: few, so that a batch has few to look at in a process that uses few */
#define REFILL 64u

int fst_refs_create(struct fst_arena *a)
{
    struct fst_refs *r = calloc(1, sizeof *r);
    if (!r)
        return fst_fail(FST_FULL, "out of memory");
    r->room = ROOM;
    r->local = fst_map_private((uint64_t)r->room * sizeof *r->local);
    r->pool = fst_map_private((uint64_t)r->room * sizeof *r->pool);
    r->buckets = fst_map_private((uint64_t)BUCKETS * sizeof *r->buckets); /* entry + 1; 0: none */
    a->counts = fst_map_private((uint64_t)a->max_entries * sizeof *a->counts);
    if (!r->local || !r->pool || !r->buckets || !a->counts) {
        int error = errno;
        a->refs = r;
        fst_refs_destroy(a);
        return fst_cannot_map(error, (uint64_t)a->max_entries * sizeof *a->counts);
    }
    pthread_mutex_init(&r->mutex, NULL);
    r->queue_head = r->queue_tail = FST_NONE;
    a->refs = r;
    return FST_OK;
}

void fst_refs_destroy(struct fst_arena *a)
{
    struct fst_refs *r = a->refs;
    if (!r)
        return;
    fst_unmap(r->local, (uint64_t)r->room * sizeof *r->local);
    fst_unmap(r->pool, (uint64_t)r->room * sizeof *r->pool);
    fst_unmap(r->buckets, (uint64_t)BUCKETS * sizeof *r->buckets);
    fst_unmap(a->counts, (uint64_t)a->max_entries * sizeof *a->counts);
    free(r);
    a->refs = NULL;
    a->counts = NULL;
}

bool fst_refs_agree(struct fst_arena *a, uint32_t *says, uint32_t *used)
{
    pthread_mutex_lock(&a->refs->mutex);
    *says = fst_entry_top(a, a->slot);
    *used = a->refs->top;
    pthread_mutex_unlock(&a->refs->mutex);
    return *says == *used;
}

bool fst_refs_look(struct fst_arena *a, uint32_t slot, struct fst_table_look *look)
{
    look->t = fst_thread_get(a);
    if (!look->t)
        return false;
    fst_section_enter(look->t);
    look->top = fst_entry_top(a, slot);
    look->entries = fst_entries_of(a, slot, look->top);
    if (!look->entries)
        fst_section_leave(look->t);
    return look->entries != NULL;
}

void fst_refs_looked(const struct fst_table_look *look)
{
    fst_section_leave(look->t);
}

size_t fst_refs_holders(struct fst_arena *a, uint64_t oid, uint32_t *processes, size_t max)
{
    const uint64_t *word = fst_word_of(a, oid);
    uint64_t live = fst_entry(oid, word ? fst_word_gen(fst_load_acquire(word)) : 0, FST_ENTRY_LIVE);
    size_t n = 0;
    uint32_t slots = word ? fst_process_top(a) : 0;
    for (uint32_t slot = 0; slot < slots; slot++) {
        if (fst_state(fst_load_acquire(&fst_process_at(a, slot)->state)) != FST_PROCESS_LIVE)
            continue;
        struct fst_table_look look;
        uint32_t i = 0;
        if (!fst_refs_look(a, slot, &look))
            continue;
        while (i < look.top && fst_load_acquire(&look.entries[i]) != live)
            i++;
        fst_refs_looked(&look);
        if (i == look.top || !fst_process_alive(a, slot))
            continue;
        if (n < max)
            processes[n] = slot;
        n++;
    }
    return n;
}

static uint64_t *entry_at(const struct fst_arena *a, uint32_t entry)
{
    return a->entries + entry;
}

static bool indexed(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_relaxed(&a->counts[entry]) & FST_COUNT_INDEXED;
}

/* ---- the index, under the mutex ---- */

static uint32_t bucket_of(uint64_t oid)
{
    return (uint32_t)((oid * 0x9e3779b97f4a7c15ull) >> 46);
}
static_assert(BUCKETS == 1u << (64 - 46), "bucket_of");

static void index_add(struct fst_arena *a, uint32_t entry, uint64_t oid)
{
    struct fst_refs *r = a->refs;
    uint32_t *head = &r->buckets[bucket_of(oid)];
    r->local[entry].oid = oid;
    r->local[entry].next_index = *head;
    fst_own_set_bits32(&a->counts[entry], FST_COUNT_INDEXED);
    *head = entry + 1;
}

static void index_remove(struct fst_arena *a, uint32_t entry)
{
    struct fst_refs *r = a->refs;
    for (uint32_t *link = &r->buckets[bucket_of(r->local[entry].oid)]; *link; link = &r->local[*link - 1].next_index) {
        if (*link == entry + 1) {
            *link = r->local[entry].next_index;
            break;
        }
    }
    fst_own_clear_bits32(&a->counts[entry], FST_COUNT_INDEXED);
}

/* ---- queue of DROPPED entries, under the mutex ---- */

static void queue_add(struct fst_refs *r, uint32_t entry)
{
    if (r->local[entry].queued)
        return;
    r->local[entry].queued = 1;
    r->local[entry].next_queue = FST_NONE;
    if (r->queue_tail == FST_NONE)
        r->queue_head = entry;
    else
        r->local[r->queue_tail].next_queue = entry;
    r->queue_tail = entry;
    r->queue_length++;
    fst_own_store_relaxed(&r->fresh, fst_load_relaxed(&r->fresh) + 1);
}

static uint32_t queue_pop(struct fst_refs *r)
{
    uint32_t entry = r->queue_head;
    r->queue_head = r->local[entry].next_queue;
    if (r->queue_head == FST_NONE)
        r->queue_tail = FST_NONE;
    r->local[entry].queued = 0;
    r->queue_length--;
    return entry;
}

/* Add to `live`. Under the mutex; `live` is read without it. */
static void count_live(struct fst_refs *r, int more)
{
    fst_own_store_relaxed(&r->live, r->live + (uint32_t)more);
}

/* Return up to `max` entries that the reaper has emptied from the queue to the pool, up to the
 * first that it has not emptied. */
static void harvest(struct fst_arena *a, uint32_t max)
{
    struct fst_refs *r = a->refs;
    while (max-- && r->queue_head != FST_NONE) {
        uint32_t entry = r->queue_head;
        if (fst_refs_owners(a, entry) == 0 && fst_load_acquire(entry_at(a, entry)) != 0)
            return;
        queue_pop(r);
        if (fst_refs_owners(a, entry) != 0)
            continue; /* in use again */
        if (indexed(a, entry))
            index_remove(a, entry);
        r->pool[r->pool_count++] = entry;
        count_live(r, -1);
    }
}

/* ---- free entries ---- */

/* Make room for so many entries in local and pool. Under the mutex. */
static bool make_room(struct fst_refs *r, uint32_t entries)
{
    struct fst_local *local;
    uint32_t *pool, more = r->room;
    while (more < entries)
        more *= 2;
    if (more == r->room)
        return true;
    local = fst_map_more(r->local, (uint64_t)r->room * sizeof *local, (uint64_t)more * sizeof *local);
    if (local)
        r->local = local;
    pool = local ? fst_map_more(r->pool, (uint64_t)r->room * sizeof *pool, (uint64_t)more * sizeof *pool) : NULL;
    if (!pool) {
        int error = errno;
        if (local) /* back to the length that fst_refs_destroy unmaps */
            fst_map_more(local, (uint64_t)more * sizeof *local, (uint64_t)r->room * sizeof *local);
        fst_cannot_map(error, (uint64_t)more * (sizeof *local + sizeof *pool));
        return false;
    }
    r->pool = pool;
    r->room = more;
    return true;
}

int fst_refs_refill(struct fst_thread *t)
{
    struct fst_arena *a = t->arena;
    struct fst_refs *r = a->refs;
    int rc = FST_OK;
    pthread_mutex_lock(&r->mutex);
    if (r->pool_count < REFILL)
        harvest(a, REFILL);
    while (rc == FST_OK && r->pool_count == 0) {
        uint32_t top = r->top;
        uint32_t more = a->max_entries - top < REFILL ? a->max_entries - top : REFILL;
        /* The system may take its time, and other threads wait for the mutex while they hold a lock
         * that all processes share. */
        pthread_mutex_unlock(&r->mutex);
        rc = fst_table_commit_entries(a, a->slot, more ? top + more : a->max_entries + 1);
        pthread_mutex_lock(&r->mutex);
        if (rc != FST_OK || r->top != top)
            continue; /* another thread has brought some, and may have reserved them all */
        if (!make_room(r, top + more)) {
            rc = FST_FULL;
            continue;
        }
        fst_store_release(&a->self->entry_top, top + more);
        r->top = top + more;
        for (uint32_t i = more; i-- > 0;)
            r->pool[r->pool_count++] = top + i;
    }
    while (rc == FST_OK && r->pool_count && t->entry_count < REFILL) {
        uint32_t entry = r->pool[--r->pool_count];
        fst_own_store_relaxed(&a->counts[entry], 1);
        t->entries[t->entry_count++] = entry;
        count_live(r, 1);
    }
    pthread_mutex_unlock(&r->mutex);
    return rc;
}

static void flush(struct fst_thread *t, uint32_t keep)
{
    struct fst_refs *r = t->arena->refs;
    pthread_mutex_lock(&r->mutex);
    while (t->entry_count > keep) {
        r->pool[r->pool_count++] = t->entries[--t->entry_count];
        count_live(r, -1);
    }
    pthread_mutex_unlock(&r->mutex);
}

__attribute__((noinline)) void fst_refs_spill(struct fst_thread *t)
{
    flush(t, FST_THREAD_ENTRIES / 2);
}

void fst_refs_flush(struct fst_thread *t)
{
    flush(t, 0);
}

/* ---- references ---- */

static bool same_object(uint64_t word, uint64_t live)
{
    return word && (word & ~FST_ENTRY_STATE) == (live & ~FST_ENTRY_STATE);
}

/* Make the entry LIVE again if it still speaks of the same object. The reaper may be moving it on
 * at the same time. */
static bool revive(struct fst_arena *a, uint32_t entry, uint64_t live)
{
    uint64_t *word = entry_at(a, entry);
    uint64_t seen = fst_load_acquire(word);
    while (same_object(seen, live))
        /* PAIR(reference): as for a fresh entry in fst_refs_get */
        if (fst_cas_fence(word, &seen, live))
            return true;
    return false;
}

static bool get_own(struct fst_arena *a, uint64_t oid, uint64_t live, uint32_t *entry)
{
    struct fst_refs *r = a->refs;
    uint32_t next;
    for (uint32_t at = r->buckets[bucket_of(oid)]; at; at = next) {
        next = r->local[at - 1].next_index;
        uint64_t word = fst_load_acquire(entry_at(a, at - 1));
        if (fst_refs_owners(a, at - 1) ? same_object(word, live) : revive(a, at - 1, live)) {
            fst_own_count_up32(&a->counts[at - 1]);
            *entry = at - 1;
            return true;
        }
    }
    return false;
}

int fst_refs_get(struct fst_arena *a, struct fst_thread *t, uint64_t oid, uint64_t generation, uint32_t *entry)
{
    struct fst_refs *r = a->refs;
    uint64_t live = fst_entry(oid, generation, FST_ENTRY_LIVE);
    /* This comes before the mutex, which it may need. FST_NONE does no harm if this process has an
     * entry for the object already. */
    uint32_t fresh = fst_refs_reserve(t);
    pthread_mutex_lock(&r->mutex);
    bool found = get_own(a, oid, live, entry);
    if (!found && fresh != FST_NONE) {
        /* PAIR(reference): either a batch's scan sees this entry, or what the caller looks at next
         * shows what the batch did. */
        fst_store_fence(entry_at(a, fresh), live);
        index_add(a, fresh, oid);
        *entry = fresh;
    }
    pthread_mutex_unlock(&r->mutex);
    if (found && fresh != FST_NONE)
        fst_refs_give(t, fresh);
    return found || fresh != FST_NONE ? FST_OK : FST_FULL;
}

uint32_t fst_refs_find_past(struct fst_arena *a, uint64_t oid)
{
    struct fst_refs *r = a->refs;
    uint32_t found = FST_NONE;
    const uint64_t *word = fst_word_of(a, oid);
    pthread_mutex_lock(&r->mutex);
    for (uint32_t at = r->buckets[bucket_of(oid)]; at && word && found == FST_NONE; at = r->local[at - 1].next_index) {
        uint64_t entry = fst_load_relaxed(entry_at(a, at - 1));
        if (fst_entry_state(entry) == FST_ENTRY_LIVE && fst_entry_oid(entry) == oid && fst_refs_owners(a, at - 1) &&
            !fst_entry_matches(entry, fst_load_acquire(word)))
            found = at - 1;
    }
    pthread_mutex_unlock(&r->mutex);
    return found;
}

/* Make the LIVE entry DROPPED and queue it. Under the mutex. */
static void drop_entry(struct fst_arena *a, uint32_t entry)
{
    uint64_t word = fst_load_relaxed(entry_at(a, entry));
#ifdef FST_MUTANT_DROP_TO_EMPTY
    fst_store_release(entry_at(a, entry), 0);
#else
    fst_store_release(entry_at(a, entry), (word & ~FST_ENTRY_STATE) | FST_ENTRY_DROPPED);
#endif
    if (!indexed(a, entry))
        index_add(a, entry, fst_entry_oid(word));
    queue_add(a->refs, entry);
}

bool fst_refs_drop(struct fst_arena *a, uint32_t entry)
{
    struct fst_refs *r = a->refs;
    pthread_mutex_lock(&r->mutex);
    /* PAIR(last-owner): what this owner did with the object comes before what the last one does
     * with it. */
    bool last = (fst_own_count_down32(&a->counts[entry]) & ~FST_COUNT_FLAGS) == 0;
    if (last) {
        drop_entry(a, entry);
        harvest(a, 2);
    }
    pthread_mutex_unlock(&r->mutex);
    return last;
}

bool fst_refs_mark_shared(struct fst_arena *a, uint64_t entry)
{
    uint64_t *word = fst_word_of(a, fst_entry_oid(entry)), seen = word ? fst_load_acquire(word) : 0;
    while ((seen & FST_WORD_ALLOCATED) && fst_entry_matches(entry, seen)) {
#ifdef FST_MUTANT_FORK_NOT_SHARED
        return true;
#endif
        if ((seen & FST_WORD_SHARED) || fst_cas64(word, &seen, seen | FST_WORD_SHARED))
            return true;
    }
    return false;
}

uint32_t fst_refs_keep(struct fst_arena *a, uint32_t turn)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < a->refs->top; i++) {
        uint64_t entry = fst_load_acquire(entry_at(a, i));
        if (fst_entry_state(entry) != FST_ENTRY_LIVE || fst_refs_own_owners(a, i) == 0 ||
            (fst_load_relaxed(&a->counts[i]) & FST_COUNT_KEPT(turn)) || !fst_refs_mark_shared(a, entry))
            continue;
        fst_own_count_up32(&a->counts[i]);
        fst_own_set_bits32(&a->counts[i], FST_COUNT_KEPT(turn));
        kept++;
    }
    return kept;
}

/* Take an owner from the entry that stood for forked children without a place in the arena. True:
 * it was the last owner. */
static bool let_go(struct fst_arena *a, uint32_t entry, uint32_t turn)
{
    if (!(fst_load_relaxed(&a->counts[entry]) & FST_COUNT_KEPT(turn)))
        return false;
    fst_own_clear_bits32(&a->counts[entry], FST_COUNT_KEPT(turn));
    return (fst_own_count_down32(&a->counts[entry]) & ~FST_COUNT_FLAGS) == 0;
}

bool fst_refs_let_go(struct fst_arena *a, uint32_t turn)
{
    bool dropped = false;
    pthread_mutex_lock(&a->refs->mutex);
    for (uint32_t i = 0; i < a->refs->top; i++) {
        if (!let_go(a, i, turn) || fst_entry_state(fst_load_relaxed(entry_at(a, i))) != FST_ENTRY_LIVE)
            continue;
        drop_entry(a, i);
        dropped = true;
    }
    a->heirs.kept[turn] = 0;
    pthread_mutex_unlock(&a->refs->mutex);
    return dropped;
}

void fst_refs_hold(struct fst_arena *a, uint32_t entry)
{
    pthread_mutex_lock(&a->refs->mutex);
    fst_own_count_up32(&a->counts[entry]);
    pthread_mutex_unlock(&a->refs->mutex);
}

void fst_refs_index(struct fst_arena *a, uint32_t entry)
{
    struct fst_refs *r = a->refs;
    pthread_mutex_lock(&r->mutex);
    if (!indexed(a, entry))
        index_add(a, entry, fst_entry_oid(fst_load_relaxed(entry_at(a, entry))));
    pthread_mutex_unlock(&r->mutex);
}

void fst_refs_rebuild(struct fst_arena *a)
{
    struct fst_refs *r = a->refs;
    while (r->queue_head != FST_NONE)
        queue_pop(r);
    r->pool_count = r->live = r->fresh = 0;
    /* What stays as it is is not written to: after a fork, each page that is written to is
     * copied. */
    for (uint32_t i = r->top; i-- > 0;) {
        bool last = let_go(a, i, 0);
        last |= let_go(a, i, 1);
        if (fst_load_relaxed(entry_at(a, i))) {
            count_live(r, 1);
            if (last) /* the parent kept it for other children only */
                drop_entry(a, i);
            continue;
        }
        if (indexed(a, i))
            index_remove(a, i);
        if (a->counts[i])
            a->counts[i] = 0;
        r->pool[r->pool_count++] = i;
    }
}
