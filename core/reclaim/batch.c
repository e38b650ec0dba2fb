#include "reclaim/batch.h"

#include <stdlib.h>
#include <string.h>

#include "channel/channel.h"
#include "platform/error.h"
#include "process/burial.h"
#include "process/slot.h"
#include "rcu/grace.h"
#include "reclaim/letters.h"
#include "reclaim/message.h"
#include "reclaim/shelves.h"
#include "refs/claim.h"
#include "refs/heirs.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/entries.h"
#include "region/file.h"
#include "region/lock.h"
#include "teardown/cgroup.h"
#include "teardown/end.h"
#include "teardown/finish.h"
#include "teardown/release.h"

/* TAKEN entries that a batch remembers, so that it need not look for them again */
#define TAKEN_FEW 1024u

struct fst_taken {
    uint32_t slot, entry;
};

/* One for each attachment, used by who holds the reaper's lock: too large for the stack of any
 * thread that may be short of memory. */
struct fst_batch {
    struct fst_thread *t;
    struct fst_arena *a;
    const struct fst_batch_options *options;
    struct fst_burial *burial; /* of the dead process whose references are looked at, or NULL */
    bool everything;           /* the last batch was broken off */
    uint64_t condemned;        /* words that need the scan */
    uint64_t n_taken;          /* TAKEN entries */
    struct fst_released released;
    uint64_t grace_ns;                        /* spent waiting for readers */
    uint64_t spliced[FST_MAX_PROCESSES / 64]; /* by slot: entries of it may be TAKEN */
    struct fst_letters letters;
    struct fst_ended ended;
    struct fst_shelves shelves;
    struct fst_taken taken[TAKEN_FEW]; /* the first of them */
    struct fst_scan scan;              /* for the condemned words */
};

/* ---- release ---- */

/* A lasting group or channel stays although nobody refers to it. */
static bool lasts(struct fst_arena *a, uint64_t oid)
{
    if (!fst_oid_is_group(oid))
        return fst_channel_lasts(a, oid);
    const struct fst_group *g = fst_group_at(a, fst_oid_group_index(oid));
    return (fst_load_relaxed(&g->flags) & (FST_GROUP_LASTING | FST_GROUP_CGROUP)) &&
           fst_state(fst_load_acquire(&g->state)) == FST_GROUP_LIVE;
}

/* Free the object of an entry, if it is still CONDEMNED in this generation, and see to what
 * becomes empty with it. */
static void release(struct fst_batch *b, uint64_t oid, uint64_t *word, uint64_t seen)
{
    uint64_t bytes;
    if (fst_channel_is_ring(b->a, oid) && fst_scan_has(&b->scan, oid) && (seen & FST_WORD_CONDEMNED) &&
        fst_channel_unreferenced(b->a, oid, word))
        return; /* what is in it goes first */
    if (!fst_words_release_one(b->a, &b->scan, oid, word, seen, &bytes))
        return;
    b->released.objects++;
    b->released.bytes += bytes;
    if (fst_oid_is_group(oid)) {
        fst_burial_group(b->burial);
        fst_end_unreferenced(b->a, fst_oid_group_index(oid));
        return;
    }
    fst_burial_object(b->burial, bytes);
    b->released.more |= fst_release_after_free(b->t, oid);
}

/* ---- splice and condemn ---- */

/* The request of one TAKEN entry. A word that was never SHARED is condemned like any other: the
 * entry may be a withdrawn attempt at an object that somebody else allocated, and is using
 * (mutant M_DIRECTANY of models/references.pml). */
static void consider(struct fst_batch *b, uint64_t entry)
{
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(b->a, oid);
    if (!word || lasts(b->a, oid))
        return;
    uint64_t seen = fst_load_acquire(word);
    if (!(seen & FST_WORD_ALLOCATED) || !fst_entry_matches(entry, seen))
        return;
    fst_words_condemn_one(&b->scan, oid, word, seen);
    b->condemned++;
}

/* DROPPED, and a dead process's LIVE, become TAKEN; then what they ask for is considered. */
static int splice_process(struct fst_batch *b, uint32_t slot)
{
    struct fst_process *p = fst_process_at(b->a, slot);
    uint32_t state = fst_state(fst_load_acquire(&p->state));
    if (state != FST_PROCESS_LIVE && state != FST_PROCESS_DEAD)
        return FST_OK;
    if (state == FST_PROCESS_LIVE && !b->everything && fst_load_relaxed(&p->dropped) == 0)
        return FST_OK;
    b->spliced[slot / 64] |= 1ull << (slot % 64);
    fst_swap32(&p->dropped, 0); /* a drop from here on kicks again */
    /* What it kept for forked children without a place stays until they are gone. */
    bool heirs = state == FST_PROCESS_DEAD && fst_process_has_heirs(b->a, slot);
    uint32_t top = fst_entry_top(b->a, slot);
    uint64_t *entries = fst_entries_of(b->a, slot, top);
    if (!entries)
        return FST_OS;
    for (uint32_t i = 0; i < top; i++) {
        uint64_t seen = fst_load_acquire(&entries[i]);
        uint32_t is = fst_entry_state(seen);
        bool splice = is == FST_ENTRY_DROPPED || (is == FST_ENTRY_LIVE && state == FST_PROCESS_DEAD && !heirs);
        if (splice && !fst_cas64(&entries[i], &seen, (seen & ~FST_ENTRY_STATE) | FST_ENTRY_TAKEN))
            continue; /* its owner took it back */
        if (!splice && is != FST_ENTRY_TAKEN)
            continue;
        if (b->n_taken < TAKEN_FEW)
            b->taken[b->n_taken] = (struct fst_taken){slot, i};
        b->n_taken++;
        consider(b, seen);
    }
    return FST_OK;
}

/* ---- release and empty ---- */

/* Release the object of an entry, if it is TAKEN, and empty the entry. */
static void finish_entry(struct fst_batch *b, uint64_t *at)
{
    uint64_t entry = fst_load_acquire(at);
    if (fst_entry_state(entry) != FST_ENTRY_TAKEN)
        return;
    uint64_t oid = fst_entry_oid(entry), *word = fst_word_of(b->a, oid);
    uint64_t seen = word ? fst_load_acquire(word) : 0;
    if (word && fst_entry_matches(entry, seen) && !lasts(b->a, oid))
        release(b, oid, word, seen);
    fst_cas64(at, &entry, 0); /* fails when its owner took it back */
}

static void begin_finish(struct fst_batch *b, uint32_t slot)
{
    const struct fst_process *p = fst_process_at(b->a, slot);
    b->burial = fst_state(fst_load_acquire(&p->state)) == FST_PROCESS_DEAD ? fst_burial_of(b->a, slot) : NULL;
}

/* Every TAKEN entry is one that the splice saw: nobody but a batch makes one. */
static int finish(struct fst_batch *b)
{
    uint32_t last = FST_NONE;
    for (uint64_t i = 0; i < b->n_taken && b->n_taken <= TAKEN_FEW; i++) {
        uint32_t slot = b->taken[i].slot;
        if (slot != last)
            begin_finish(b, slot);
        last = slot;
        /* mapped since the splice */
        finish_entry(b, fst_entries_of(b->a, slot, b->taken[i].entry + 1) + b->taken[i].entry);
    }
    for (uint32_t slot = 0; slot < FST_MAX_PROCESSES && b->n_taken > TAKEN_FEW; slot++) {
        if (!(b->spliced[slot / 64] >> (slot % 64) & 1))
            continue;
        begin_finish(b, slot);
        uint32_t top = fst_entry_top(b->a, slot);
        uint64_t *entries = fst_entries_of(b->a, slot, top);
        if (!entries)
            return FST_OS;
        for (uint32_t i = 0; i < top; i++)
            finish_entry(b, &entries[i]);
    }
    b->burial = NULL;
    return FST_OK;
}

/* Check that this process's slot lies below process_top, so that the splice visits it, and that no
 * bound has become lower. */
static int check_before(struct fst_arena *a)
{
    uint64_t state = fst_load_relaxed(&a->self->state);
    uint32_t says, used;
    if (!fst_process_is_own(a, state))
        fst_damaged(a, "process slot %u is this process's, and says state %llx", a->slot, (unsigned long long)state);
    if (!fst_refs_agree(a, &says, &used) || a->slot >= fst_process_top(a))
        fst_damaged(a, "process slot %u, which is this process's, says %u reference entries, not %u", a->slot, says, used);
    (void)fst_inflight_top(a);
    (void)fst_thread_top(a);
    return fst_verdict(a, FST_OK);
}

static int run(struct fst_batch *b)
{
    struct fst_arena *a = b->a;
    uint32_t processes, given_up = fst_lock_given_up();
    int sane = check_before(a);
    if (sane == FST_OK && (b->options->deaths || b->everything))
        sane = fst_file_reachable(a); /* others can ask who is alive, and will */
    if (sane)
        return sane;
    uint32_t buried = b->options->deaths || b->everything ? fst_finish_deaths(a) : 0;
    if (b->options->deaths)
        fst_cgroup_probe(a);
    /* Before the splice, which takes what that drops. Who was buried may have been killed before
     * it said when its message expires. */
    bool dropped = false;
#ifdef FST_MUTANT_EXPIRY_UNSAID
    buried = 0;
#endif
    if (buried || b->everything || fst_message_expiring(a, fst_now()))
        fst_message_expire(b->t, &dropped);
    if (fst_shelves_expiring(a, fst_now()))
        fst_shelves_expire(b->t, &dropped);
    if (dropped)
        fst_add32(&a->self->dropped, 1);
    processes = fst_process_top(a);
    for (uint32_t slot = 0; slot < processes && sane == FST_OK; slot++)
        sane = splice_process(b, slot);
    if (sane)
        return sane;
    bool ended = !b->options->drops_only && fst_queue_splice(a, b->everything, &b->ended);
    fst_store_relaxed(&a->sb->batch_groups, ended ? b->ended.n_groups : 0);
    if (ended)
        b->condemned += fst_words_condemn(a, &b->ended, &b->scan);
    b->condemned += fst_letters_condemn(a, &b->letters, &b->scan);
    b->condemned += fst_shelves_condemn(a, &b->shelves, ended || buried || b->everything, b->everything, &b->scan);
    if (b->condemned) {
        uint64_t began = fst_now();
        /* PAIR(reference): the scan sees the entry of whoever has looked at a word before it was
         * condemned */
        fst_full_fence();
        int rc = fst_grace_wait(a, fst_load_seq_cst(&a->sb->gp_seq), b->options->timeout, b->options->stop);
        if (rc)
            return rc;
        b->grace_ns = fst_now() - began;
        /* before the tables, to which references move */
        fst_shelves_scan(a, &b->shelves, &b->scan);
        fst_letters_scan(a, &b->letters, &b->scan); /* the same */
        if (!fst_scan(a, &b->scan))
            return FST_OS; /* who holds what is not known: nothing is released */
    }
    if (fst_is_damaged(a))
        return fst_damage(a); /* maybe not all references were found: nothing is released */
    sane = finish(b);
    if (sane)
        return sane;
    fst_shelves_finish(b->t, &b->shelves, &b->scan, &b->released);
    /* before the slots of the dead are anybody's again */
    fst_letters_finish(b->t, &b->letters, &b->scan, &b->released);
    /* slabs that the dead were closing go before their children are looked at */
    fst_finish_burials(a, b->t->name);
    if (ended && b->ended.walk)
        fst_finish_unreferenced(a);
    if (ended)
        fst_release_ended(a, &b->ended, &b->scan, b->t->name, b->options->stop, &b->released);
    if (b->options->give_back)
        fst_release_empty(b->t, b->options->others, b->options->timeout, b->options->stop);
    /* Something was left out: the next batch does it, which looks at everything. */
    return fst_lock_given_up() != given_up ? fst_lock_held(a) : FST_OK;
}

int fst_batch_create(struct fst_arena *a)
{
    a->batch = calloc(1, sizeof *a->batch);
    return a->batch ? FST_OK : fst_fail(FST_FULL, "out of memory");
}

void fst_batch_destroy(struct fst_arena *a)
{
    free(a->batch);
    a->batch = NULL;
}

/* For people: what the batch did, under its number. Killed in here, the record says 0, and is
 * none. models/record.pml. */
static void log_batch(const struct fst_batch *b, uint32_t number, uint64_t began)
{
    struct fst_superblock *sb = b->a->sb;
    struct fst_batch_record *r = &sb->batch_log[number % (sizeof sb->batch_log / sizeof *sb->batch_log)];
    fst_store_relaxed(&r->number, 0);
    fst_release_fence(); /* PAIR(record): whoever reads what follows sees the 0 */
    fst_store_relaxed(&r->groups, b->ended.n_groups);
    fst_store_relaxed(&r->children, (uint32_t)b->released.children);
    fst_store_relaxed(&r->objects, b->released.objects);
    fst_store_relaxed(&r->bytes, b->released.bytes);
    fst_store_relaxed(&r->began, began);
    fst_store_relaxed(&r->duration, fst_now() - began);
    fst_store_relaxed(&r->grace_ns, b->grace_ns);
    fst_store_release(&r->number, number); /* PAIR(record) */
}

int fst_batch_run(struct fst_thread *t, const struct fst_batch_options *options)
{
    struct fst_arena *a = t->arena;
    struct fst_superblock *sb = a->sb;
    if (fst_is_damaged(a))
        return fst_damage(a);
    int ready = fst_entries_ready(a);
    if (ready)
        return ready;
    fst_heirs_ask(a);
    if (fst_trylock(a, &sb->reaper_lock) == FST_TRY_BUSY)
        return fst_fail(FST_BUSY, "another batch is running");
    if (options->drops_only && fst_load_relaxed(&sb->batch_dirty)) {
        fst_unlock_all(a, &sb->reaper_lock);
        return fst_fail(FST_BUSY, "the last batch was broken off: the next one has to look at everything");
    }
    struct fst_batch *b = a->batch;
    memset(b, 0, offsetof(struct fst_batch, ended));
    fst_scan_begin(&b->scan);
    b->t = t;
    b->a = a;
    b->options = options;
    b->everything = fst_load_relaxed(&sb->batch_dirty) != 0;
    uint64_t began = fst_now();
    fst_store_relaxed(&sb->batch_dirty, 1);
    fst_store_relaxed(&sb->batch_started, began);
    bool numbered = !options->drops_only;
    if (numbered)
        fst_store_release(&sb->batches_begun, fst_load_relaxed(&sb->batches) + 1);
    /* PAIR(batch-number): whoever took the number before this sees its drop spliced by the next
     * batch */
    fst_full_fence();
    /* At locks no longer than for readers: a batch may be broken off anywhere, as it may be
     * killed. */
    struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = options->timeout, .stop = options->stop});
    int rc = fst_verdict(a, run(b));
    fst_wait_for(before);
    if (rc == FST_OK || rc == FST_HELD) {
        fst_add64(&sb->released_objects, b->released.objects);
        fst_add64(&sb->released_bytes, b->released.bytes);
    }
    if (rc == FST_OK) {
        if (numbered)
            log_batch(b, fst_load_relaxed(&sb->batches) + 1, began);
        fst_store_relaxed(&sb->batch_dirty, 0);
        if (numbered)
            fst_store_release(&sb->batches, fst_load_relaxed(&sb->batches) + 1);
    }
    if (options->more && b->released.more)
        *options->more = true;
    fst_store_relaxed(&sb->batch_groups, 0);
    fst_store_relaxed(&sb->batch_started, 0);
    fst_unlock_all(a, &sb->reaper_lock);
    if (fst_load_seq_cst(&sb->waiters)) /* for memory, whoever had it */
        fst_futex_wake(&sb->batches, INT32_MAX);
    return rc;
}

bool fst_batch_numbers(const struct fst_arena *a, uint32_t *over, uint32_t *begun)
{
    const struct fst_superblock *sb = a->sb;
    uint32_t again;
    *over = fst_load_acquire(&sb->batches);
    while (*begun = fst_load_acquire(&sb->batches_begun), again = fst_load_acquire(&sb->batches), again != *over)
        *over = again; /* one was over in between */
    return *begun - *over <= 1;
}

uint32_t fst_batch_begun(struct fst_arena *a)
{
    uint32_t over, begun;
    if (!fst_batch_numbers(a, &over, &begun))
        fst_damaged(a, "batch %u has begun, and the last that was over is %u", begun, over);
    return begun;
}

int fst_batch_wait(struct fst_thread *t, uint32_t cookie, const struct fst_batch_options *options)
{
    struct fst_superblock *sb = t->arena->sb;
    uint64_t began = fst_now();
    struct fst_batch_options left = *options;
    bool mine = false, held = false;
    for (;;) {
        uint32_t done = fst_load_acquire(&sb->batches);
        if ((int32_t)(done - cookie) > 0) {
            /* whoever ran it may keep empty slabs for the next objects */
            if (!mine && options->give_back)
                fst_release_empty(t, options->others, options->timeout, options->stop);
            return FST_OK;
        }
        uint64_t waited = fst_now() - began;
        if (waited >= options->timeout) {
            if (held)
                fst_lock_held(t->arena);
            else if (!fst_held_up(t->arena)) /* a batch of another thread of this process may be */
                fst_fail(FST_TIMEOUT, "the batch was not over in time");
            return FST_TIMEOUT;
        }
        left.timeout = options->timeout - waited;
        int rc = fst_batch_run(t, &left);
        if (rc == FST_BUSY)
            fst_lock_sleep(&sb->reaper_lock, left.timeout < 5 * FST_MS ? left.timeout : 5 * FST_MS);
        else if (rc != FST_OK && rc != FST_HELD)
            return rc;
        held = rc == FST_HELD;
        mine = mine || rc == FST_OK;
    }
}
