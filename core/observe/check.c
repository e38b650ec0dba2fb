/* check.c - validate every structure of an arena. The superblock, processes and threads, and
 * references are in here; the other parts are in check_*.c. */
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"
#include "process/slot.h"
#include "rcu/grace.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/entries.h"
#include "region/lock.h"
#include "region/superblock.h"
#include "region/table.h"

/* ---- the superblock ---- */

/* Check the bounds of a table that is committed from its start. */
static void check_committed(struct fst_check *c, uint32_t kind)
{
    const struct fst_table *t = &c->a->known.tables[kind];
    uint64_t bytes = fst_load_acquire(&c->a->sb->tables[kind].committed);
    uint64_t total = (t->count * t->size + FST_PAGE - 1) & ~(uint64_t)(FST_PAGE - 1);
    if (kind == FST_T_ENTRY)
        total = 0; /* each process has its own */
    bool enough = kind == FST_T_ENTRY || (uint64_t)fst_seen(c->a, kind) * t->size <= bytes;
    if (bytes > total || bytes % FST_PAGE || !enough)
        fst_check_say(c, "table %s: %s are said to have memory", fst_table_name(kind), fst_exact(bytes));
}

/* Check that nothing is in use beyond a bound. (fst_top_of notes a bound that is wrong in
 * itself.) */
static void check_top(struct fst_check *c, uint32_t kind)
{
    uint32_t top = fst_top_of(c->a, kind);
    if (fst_damaged_beyond(c->a, kind, top))
        fst_check_say(c, "there are %u %s, and one more was in use", top, fst_table_name(kind));
}

static void check_counters(struct fst_check *c)
{
    const struct fst_superblock *sb = c->a->sb;
    uint64_t over, begun;
    uint32_t done, first;
    if (!fst_grace_numbers(c->a, &over, &begun))
        fst_check_say(c, "superblock: grace period %llu is over, and %llu have begun", (unsigned long long)over,
                      (unsigned long long)begun);
    if (!fst_batch_numbers(c->a, &done, &first))
        fst_check_say(c, "superblock: batch %u has begun, and the last that was over is %u", first, done);
    if (fst_load_relaxed(&sb->lasting) > 1)
        fst_check_say(c, "superblock: lasting is %llu", (unsigned long long)fst_load_relaxed(&sb->lasting));
}

static void check_superblock(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    const struct fst_superblock *sb = a->sb;
    if (fst_superblock_checksum(sb) != sb->checksum || sb->checksum != a->known.checksum)
        fst_check_say(c, "superblock: its constant part was overwritten (checksum)");
    if (sb->state != FST_ARENA_READY && sb->state != FST_ARENA_REMOVED)
        fst_check_say(c, "superblock: state %llu is none", (unsigned long long)sb->state);
    check_counters(c);
    const uint32_t *locks[] = {&sb->pages_lock, &sb->names_lock, &sb->reaper_lock, &sb->teardown_lock};
    for (uint32_t i = 0; i < sizeof locks / sizeof *locks; i++)
        fst_check_lock(c, "superblock", i, locks[i]);
    for (uint32_t kind = 0; kind < FST_T_COUNT; kind++) {
        check_committed(c, kind);
        check_top(c, kind);
    }
}

/* ---- who is attached ---- */

static void check_process(struct fst_check *c, uint32_t slot)
{
    struct fst_arena *a = c->a;
    const struct fst_process *p = fst_process_at(a, slot);
    uint64_t state = fst_load_acquire(&p->state), bytes = fst_load_acquire(&p->entries_committed);
    uint32_t top = fst_load_acquire(&p->entry_top);
    if (!fst_check_state(c, "process slot", slot, state, FST_PROCESS_DEAD))
        return;
    if (slot == a->slot && !fst_process_is_own(a, state)) {
        fst_check_say(c, "process slot %u: it is this process's, and its state is %llx", slot, (unsigned long long)state);
        return;
    }
    if (bytes % FST_PAGE || bytes > a->max_entries * sizeof(uint64_t) || top > a->max_entries ||
        (top * sizeof(uint64_t) > bytes && fst_load_acquire(&p->entry_top) == top)) {
        fst_check_say(c, "process slot %u: %s, %s of memory for them", slot, fst_many(top, "reference entry", "reference entries"),
                      fst_exact(bytes));
        return;
    }
    bool room = (top + 1) * sizeof(uint64_t) <= bytes;
    const uint64_t *entries = room ? fst_entries_of(a, slot, top + 1) : NULL;
    if (room && !entries) {
        fst_check_say(c, "process slot %u: its reference entries could not be looked at: %s", slot, fst_last_error());
        return;
    }
    bool beyond = room && fst_load_acquire(&entries[top]);
    if (beyond && fst_load_acquire(&p->entry_top) == top) {
        fst_check_say(c, "process slot %u: %s, and one more was in use", slot,
                      fst_many(top, "reference entry", "reference entries"));
        return;
    }
    uint32_t says, used;
    if (slot == a->slot && !fst_refs_agree(a, &says, &used))
        fst_check_say(c, "process slot %u: %s, this process has %u", slot, fst_many(says, "reference entry", "reference entries"),
                      used);
}

/* Check that what an entry speaks of was there once. It is read twice, because it may just have
 * changed. */
static void check_entry(struct fst_check *c, uint32_t slot, uint32_t index, const uint64_t *at)
{
    uint64_t entry = fst_load_acquire(at);
    bool empty = fst_entry_state(entry) == FST_ENTRY_EMPTY;
    if (empty ? !entry : fst_word_of(c->a, fst_entry_oid(entry)) != NULL)
        return;
    if (fst_load_acquire(at) == entry)
        fst_check_say(c, "process slot %u: entry %u is %llx, which speaks of no object that ever was", slot, index,
                      (unsigned long long)entry);
}

static void check_processes(struct fst_check *c)
{
    for (uint32_t slot = 0; slot < fst_process_top(c->a); slot++) {
        size_t before = c->findings;
        struct fst_table_look look;
        /* all thread slots are in use, or there is no memory */
        if (!fst_refs_look(c->a, slot, &look)) {
            fst_check_say(c, "the tables of references could not be looked at: %s", fst_last_error());
            return;
        }
        check_process(c, slot);
        uint32_t state = fst_state(fst_load_acquire(&fst_process_at(c->a, slot)->state));
        for (uint32_t i = 0; i < look.top && c->findings == before && state != FST_PROCESS_FREE; i++)
            check_entry(c, slot, i, &look.entries[i]);
        fst_refs_looked(&look);
    }
}

static void check_threads(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    size_t before = c->findings;
    for (uint32_t i = 0; i < fst_thread_top(a); i++) {
        const struct fst_thread_slot *s = fst_thread_slot_at(a, i);
        uint64_t owner = fst_load_acquire(&s->owner), seq = fst_load_acquire(&s->seq), begun = fst_load_acquire(&a->sb->gp_seq);
        uint32_t slot = fst_thread_owner_process(owner);
        bool was = !owner || (slot < fst_process_top(a) && owner >> 16 &&
                              owner >> 16 <= fst_load_acquire(&fst_process_at(a, slot)->state) >> FST_STATE_GEN_SHIFT);
        if (!was && fst_load_acquire(&s->owner) == owner)
            fst_check_say(c, "thread slot %u: its owner is %llx, which no process ever wrote", i, (unsigned long long)owner);
        else if (seq > begun && begun)
            fst_check_say(c, "thread slot %u: in a section of grace period %llu, and %llu have begun", i, (unsigned long long)seq,
                          (unsigned long long)begun);
    }
    pthread_mutex_lock(&fst_local_mutex);
    uint64_t mine = fst_thread_owner(a, a->slot);
    for (const struct fst_thread *t = c->findings == before ? a->threads : NULL; t; t = t->next_in_arena)
        if (fst_load_relaxed(&t->slot->owner) != mine)
            fst_check_say(c, "thread slot %u: a thread of this process uses it, and its owner is %llx", t->index,
                          (unsigned long long)t->slot->owner);
    pthread_mutex_unlock(&fst_local_mutex);
}

static void check_inflight(struct fst_check *c)
{
    struct fst_arena *a = c->a;
    for (uint32_t i = 0; i < fst_inflight_top(a); i++) {
        const uint64_t *at = &fst_inflight_at(a, i)->word;
        uint64_t word = fst_load_acquire(at);
        bool fine = !(word & ~((uint64_t)FST_INFLIGHT_TAG_MASK << FST_INFLIGHT_TAG_SHIFT));
        if (word & FST_INFLIGHT_LIVE) {
            const uint64_t *object = fst_word_of(a, fst_inflight_oid(word));
            fine = object && (fst_load_acquire(object) & FST_WORD_ALLOCATED);
        }
        if (!fine && fst_load_acquire(at) == word)
            fst_check_say(c, "in-flight entry %u: %llx speaks of an object that is not there", i, (unsigned long long)word);
    }
}

size_t fst_check(fst_arena *a, void (*found)(void *context, const char *text), void *context)
{
    struct fst_check c = {.a = a, .found = found, .context = context};
    check_superblock(&c);
    /* Each part depends on those before it: when one is wrong, the next would say the same in other
     * words. To look at references writes to this thread's own slot, so threads come before
     * them. */
    size_t before = c.findings;
    void (*const parts[])(struct fst_check *) = {fst_check_registry, fst_check_pages, fst_check_slabs,    check_threads,
                                                 check_processes,    check_inflight,  fst_check_channels, fst_check_stores,
                                                 fst_check_forms,    fst_check_debug};
    for (size_t i = 0; i < sizeof parts / sizeof *parts && c.findings == before && !c.held && !fst_is_damaged(a); i++)
        parts[i](&c);
    if (c.held && !c.findings) {
        fst_lock_held(a);
        return FST_CHECK_HELD;
    }
    /* Some damage shows only when it is followed. */
    if (fst_is_damaged(a) && !c.findings)
        fst_check_say(&c, "%s", a->damage->text);
    return c.findings;
}
