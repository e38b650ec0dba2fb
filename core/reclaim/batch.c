#include "reclaim/batch.h"

#include <stdlib.h>
#include <string.h>

#include "channel/use.h"
#include "platform/error.h"
#include "process/slot.h"
#include "reclaim/drops.h"
#include "reclaim/holders.h"
#include "reclaim/letters.h"
#include "reclaim/message.h"
#include "reclaim/shelves.h"
#include "refs/heirs.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "region/entries.h"
#include "region/file.h"
#include "region/lock.h"
#include "teardown/cgroup.h"
#include "teardown/finish.h"
#include "teardown/release.h"

/* What a batch remembers. There is one for each attachment, used by the thread that holds the
 * reaper's lock: it is too large for the stack of a thread that may be short of memory. */
struct fst_batch {
    struct fst_thread *t;
    struct fst_arena *a;
    const struct fst_batch_options *options;
    bool everything;    /* the last batch was broken off: look at everything */
    uint64_t condemned; /* words that the scan has to look for */
    struct fst_released released;
    uint64_t grace_ns; /* ns that it has waited for readers */
    struct fst_letters letters;
    struct fst_ended ended;
    struct fst_shelves shelves;
    struct fst_drops drops;
    struct fst_scan scan; /* for the condemned words */
};

/* Check that this process's slot lies below process_top, so that the splice visits it, and that no
 * bound has become lower. */
static int check_before(struct fst_arena *a)
{
    uint64_t state = fst_load_relaxed(&a->self->state);
    uint32_t says, used;
    if (!fst_process_is_own(a, state))
        fst_damaged(a, "process slot %u is this process's, and says state %llx", a->slot, (unsigned long long)state);
    if (!fst_refs_agree(a, &says, &used) || a->slot >= fst_process_top(a))
        fst_damaged(a, "process slot %u, which is this process's, says %s, not %u", a->slot,
                    fst_many(says, "reference entry", "reference entries"), used);
    (void)fst_inflight_top(a);
    (void)fst_thread_top(a);
    return fst_verdict(a, FST_OK);
}

static int run(struct fst_batch *b)
{
    struct fst_arena *a = b->a;
    uint32_t given_up = fst_lock_given_up();
    int sane = check_before(a);
    if (sane == FST_OK && (b->options->deaths || b->everything))
        /* this process cannot ask who is alive, but another one can, and will */
        sane = fst_file_reachable(a);
    if (sane)
        return sane;
    uint32_t buried = b->options->deaths || b->everything ? fst_finish_deaths(a) : 0;
    if (b->options->deaths)
        fst_cgroup_probe(a);
    /* This comes before the splice, which includes what is dropped here. A process that was buried
     * may have been killed before it said when its message expires. */
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
    sane = fst_drops_condemn(a, &b->drops, b->everything, &b->scan, &b->condemned);
    if (sane)
        return sane;
    fst_shelves_end(a);
    bool ended = !b->options->drops_only && fst_words_condemn(a, b->everything, &b->ended, &b->scan, &b->condemned);
    b->condemned += fst_letters_condemn(a, &b->letters, &b->scan);
    b->condemned += fst_shelves_condemn(a, &b->shelves, ended, buried, b->everything, &b->scan);
    struct fst_holders_wait wait = {.timeout = b->options->timeout, .stop = b->options->stop};
    int rc = b->condemned ? fst_holders_ask(a, &b->shelves, &b->letters, &b->scan, &wait) : FST_OK;
    if (rc)
        return rc;
    b->grace_ns = wait.waited;
    if (fst_is_damaged(a))
        return fst_damage(a); /* maybe not all references were found, so nothing is released */
    sane = fst_drops_finish(b->t, &b->drops, &b->scan, &b->released);
    if (sane)
        return sane;
    fst_shelves_finish(b->t, &b->shelves, &b->scan, &b->released);
    /* This comes before the slots of the dead can be anybody's again. */
    fst_letters_finish(b->t, &b->letters, &b->scan, &b->released);
    /* Slabs that the dead were closing go before the children of these are looked at. */
    fst_finish_burials(a, b->t->name);
    if (ended && b->ended.walk)
        fst_finish_unreferenced(a);
    if (ended)
        fst_release_ended(a, &b->ended, &b->scan, b->t->name, b->options->stop, &b->released);
    if (b->options->give_back)
        fst_release_empty(b->t, b->options->others, b->options->timeout, b->options->stop);
    /* Something was left out, which the next batch does: it looks at everything. */
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

/* Write down for people what the batch did, under its number. After a kill in here the record says
 * 0, and counts as none. The model is models/record.pml. */
static void log_batch(const struct fst_batch *b, uint32_t number, uint64_t began)
{
    struct fst_superblock *sb = b->a->sb;
    struct fst_batch_record *r = &sb->batch_log[number % (sizeof sb->batch_log / sizeof *sb->batch_log)];
    fst_store_relaxed(&r->number, 0);
    fst_release_fence(); /* PAIR(record): whoever reads what follows also sees the 0 */
    fst_store_relaxed(&r->groups, b->ended.n_groups);
    fst_store_relaxed(&r->children, (uint32_t)b->released.children);
    fst_store_relaxed(&r->objects, b->released.objects);
    fst_store_relaxed(&r->bytes, b->released.bytes);
    fst_store_relaxed(&r->began, began);
    fst_store_relaxed(&r->duration, fst_now() - began);
    fst_store_relaxed(&r->grace_ns, b->grace_ns);
    fst_store_release(&r->number, number); /* PAIR(record) */
}

/* Wait at locks no longer than for readers: a batch may be broken off anywhere, as it may be killed
 * anywhere. */
static struct fst_waits wait_for_locks(const struct fst_batch_options *options)
{
    return fst_wait_for((struct fst_waits){.own = true, .patience = options->timeout, .stop = options->stop, .once = true});
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
    if (fst_uses_let_go(a))
        fst_add32(&a->self->dropped, 1);
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
    fst_store_relaxed(&sb->batch_groups, 0); /* of a batch that was killed */
    bool numbered = !options->drops_only;
    if (numbered)
        fst_store_release(&sb->batches_begun, fst_load_relaxed(&sb->batches) + 1);
    /* PAIR(batch-number): whoever read the number before this store sees its drop spliced by the
     * next batch. */
    fst_full_fence();
    struct fst_waits before = wait_for_locks(options);
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
    /* PAIR(waiters): whoever sleeps has counted itself before it looked at the number of
     * batches. */
    fst_full_fence();
    if (fst_load_relaxed(&sb->waiters)) /* these wait for memory, whichever batch gave it back */
        fst_futex_wake(&sb->batches, INT32_MAX);
    return rc;
}

bool fst_batch_numbers(const struct fst_arena *a, uint32_t *over, uint32_t *begun)
{
    const struct fst_superblock *sb = a->sb;
    uint32_t again;
    *over = fst_load_acquire(&sb->batches);
    while (*begun = fst_load_acquire(&sb->batches_begun), again = fst_load_acquire(&sb->batches), again != *over)
        *over = again; /* another one was over in between */
    return *begun - *over <= 1;
}

uint32_t fst_batch_begun(struct fst_arena *a)
{
    uint32_t over, begun;
    if (!fst_batch_numbers(a, &over, &begun))
        fst_damaged(a, "batch %u has begun, and the last that was over is %u", begun, over);
    return begun;
}

/* Give empty slabs back after a batch that another process ran, which may have kept them for its
 * next objects. False: some were left, because a lock took longer than this thread waits. */
static bool give_back_too(struct fst_thread *t, const struct fst_batch_options *options)
{
    uint32_t given_up = fst_lock_given_up();
    struct fst_waits before = wait_for_locks(options);
    fst_release_empty(t, options->others, options->timeout, options->stop);
    fst_wait_for(before);
    return fst_lock_given_up() == given_up;
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
            if (mine || !options->give_back || give_back_too(t, &left))
                return FST_OK;
            /* some were left, so it is not over, as after a batch of this thread that leaves
             * some */
            cookie = done;
        }
        uint64_t waited = fst_now() - began;
        if (waited >= options->timeout) {
            if (held)
                fst_lock_held(t->arena);
            /* a batch of another thread of this process may be held up */
            else if (!fst_held_up(t->arena))
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
