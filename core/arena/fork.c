/* fork.c - what a forked child inherits, without an instant in which nobody owns it.
 *
 * before, in the parent   The reaper threads stop; the dead are buried; every mutex of this process
 *                         is acquired. For each attachment a slot for the child is claimed through
 *                         a new lock description, which both processes will have; the parent's LIVE
 *                         entries are copied into its table at the same indexes, after each object
 * became SHARED; the forking thread's section is copied. Where the child can
 *                         get no place, the parent keeps what it inherits until it is gone
 *                         (refs/heirs.h).
 * after, in the parent Its copy of the child's lock description is closed, also when fork failed:
 *                         then nobody holds it, and a batch buries the slot.
 * after, in the child     The parent's lock description is closed, so that the parent's death shows
 *                         (the page that keeps it is not inherited); the slot is the child's.
 *
 * After a kill anywhere the copied entries belong to a slot, LIVE since before the fork, until the
 * last holder of its lock is gone. The model is models/fork.pml.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "alloc/active.h"
#include "alloc/fault.h"
#include "arena/attach.h"
#include "channel/use.h"
#include "platform/error.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/heirs.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/entries.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/table.h"

/* What the handlers carry across the fork, for each attachment. */
struct carried {
    struct fst_arena *arena;
    struct fst_thread *thread;   /* the state of the forking thread; NULL: it has none */
    struct fst_description lock; /* of the child; fd -1: it gets no slot */
    struct fst_description heirs;
    uint64_t *entries; /* the child's table */
    char refused[200]; /* why the child gets no place */
    uint32_t slot;
    uint32_t thread_slot;
    bool has_thread_slot;
    struct carried *next;
};
static struct carried *carried;
/* Whether this thread's fork leaves the reaper threads to fst_fork_end(). */
static _Thread_local bool postponed;
uint32_t fst_unusable;

static struct fst_thread *forking_thread(struct fst_arena *a)
{
    for (struct fst_thread *t = fst_thread_states(); t; t = t->next)
        if (t->arena == a)
            return t;
    return NULL;
}

/* Copy the LIVE entries, under the mutex of the table, so that shared entries do not change. */
static int copy_entries(struct fst_arena *a, uint32_t slot, uint64_t *to)
{
    const uint64_t *from = a->entries;
    uint32_t top = a->refs->top;
    int rc = fst_table_commit_entries(a, slot, top);
    if (rc)
        return rc;
    fst_store_release(&fst_process_at(a, slot)->entry_top, top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t entry = fst_load_acquire(&from[i]);
        if (fst_entry_state(entry) != FST_ENTRY_LIVE || fst_refs_own_owners(a, i) == 0)
            continue;
        /* Another thread may have dropped the object meanwhile, or be about to. Then no Block of
         * the child's speaks for the copied entry, and it goes with the child. */
        if (fst_refs_mark_shared(a, entry))
            fst_store_release(&to[i], entry);
    }
    return FST_OK;
}

/* Give the child a place: a lock and a page for heirs of its own, a slot, and in that slot's table
 * what this process holds. FST_OK, or why it gets none. */
static int give_place(struct carried *c)
{
    struct fst_arena *a = c->arena;
    c->lock.fd = fst_file_reopen(a);
    if (c->lock.fd < 0)
        return fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
    int rc = fst_process_claim(a, c->lock.fd, &c->slot);
    if (rc)
        return rc;
    c->lock.mark = FST_LOCK_ALIVE + c->slot;
    /* From here on a failure leaves the slot JOINING without its lock, and a batch buries it. */
    if (!fst_description_keep(&c->lock, true))
        return fst_fail_errno(FST_OS, errno, "no page of address space is left");
    rc = fst_heirs_prepare(a, c->slot, &c->heirs);
    if (rc == FST_OK && !fst_description_inherit(&c->heirs))
        rc = fst_fail_errno(FST_OS, errno, "no page of address space can be passed on");
    if (rc)
        return rc;
    c->entries = fst_entries_map(a, c->slot);
    return c->entries ? copy_entries(a, c->slot, c->entries) : FST_OS;
}

static void carry(struct carried *c)
{
    struct fst_arena *a = c->arena;
    if (!a->usable)
        return;
    if (give_place(c)) {
        snprintf(c->refused, sizeof c->refused, "%s", fst_last_error());
        fst_file_drop(a, &c->lock);
        fst_description_unmap(&c->heirs);
        fst_entries_unmap(a, c->entries);
        c->entries = NULL;
        fst_heirs_keep(a);
        return;
    }
    fst_process_publish(a, c->slot, a->readonly);
    /* The child will say who it is. Until then, and when the fork fails, nobody has died. */
    fst_store_relaxed(&fst_process_at(a, c->slot)->pid, 0);
    c->thread = forking_thread(a);
    if (c->thread && fst_thread_slot_claim(a, c->slot, &c->thread_slot) == FST_OK) {
        c->has_thread_slot = true;
        /* A section that began before the fork goes on in the child, as old as it is. */
        fst_store_release(&fst_thread_slot_at(a, c->thread_slot)->seq, fst_load_relaxed(&c->thread->slot->seq));
    }
}

static void before(void)
{
    pthread_mutex_lock(&fst_open_mutex);
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        fst_reaper_stop(a, false);
        fst_reaper_greet(a);
    }
    pthread_mutex_lock(&fst_local_mutex);
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        struct carried *c = calloc(1, sizeof *c);
        pthread_mutex_lock(&a->refs->mutex);
        if (!c) {
            if (a->usable)
                fst_heirs_keep(a);
            continue;
        }
        c->lock.fd = c->heirs.fd = -1;
        c->arena = a;
        c->next = carried;
        carried = c;
        carry(c);
    }
    fst_fault_before_fork();
}

static void forget(void)
{
    while (carried) {
        struct carried *c = carried;
        carried = c->next;
        free(c);
    }
}

/* The reaper threads that have something to do, under fst_open_mutex. */
static void resume(void)
{
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        fst_reaper_resume(a);
        if (fst_heirs_any(a))
            /* the reaper thread asks whether the children without a place are gone */
            fst_reaper_watch(a);
    }
}

void fst_fork_begin(void)
{
    postponed = true;
}

void fst_fork_end(void)
{
    postponed = false;
    pthread_mutex_lock(&fst_open_mutex);
    resume();
    pthread_mutex_unlock(&fst_open_mutex);
}

static void in_parent(void)
{
    fst_fault_after_fork(false);
    for (struct carried *c = carried; c; c = c->next) {
        fst_description_unmap(&c->heirs);
        fst_entries_unmap(c->arena, c->entries);
        fst_file_drop(c->arena, &c->lock);
    }
    for (struct fst_arena *a = fst_attachments; a; a = a->next)
        pthread_mutex_unlock(&a->refs->mutex);
    pthread_mutex_unlock(&fst_local_mutex);
    if (!postponed)
        resume();
    forget();
    pthread_mutex_unlock(&fst_open_mutex);
}

/* The parent's other threads do not exist in the child. The one that forked goes on with a new
 * slot, without the parent's slabs and free entries. */
static void adopt_threads(struct fst_arena *a, const struct carried *c)
{
    struct fst_thread *mine = forking_thread(a);
    for (struct fst_thread *t = a->threads, *next; t; t = next) {
        next = t->next_in_arena;
        if (t != mine)
            free(t);
    }
    a->threads = NULL;
    if (!mine)
        return;
    if (!a->usable || !c->has_thread_slot) {
        mine->arena = NULL; /* it registers anew when it next needs to */
        return;
    }
    mine->entry_count = 0;
    fst_actives_reset(mine);
    fst_thread_bind(mine, c->thread_slot);
    mine->next_in_arena = NULL;
    a->threads = mine;
    if (mine->nest)
        fst_thread_uses(a);
    else
        fst_thread_current = &fst_thread_none; /* so that its first use of the arena is noticed */
}

static void adopt(struct fst_arena *a, struct carried *c)
{
    bool had = a->usable;
    fst_file_forked(a);
    if (c)
        a->lock = c->lock;
    /* The thread that acquired this mutex before the fork gives it back, as it does the other
     * two. */
    pthread_mutex_unlock(&a->refs->mutex);
    fst_reaper_forked(a);
    a->usable = a->lock.fd >= 0;
    a->plain &= a->usable;
    /* The page is a mapping of its own, so this cannot fail. If it did, this process would look
     * alive for as long as its children. */
    if (a->usable)
        fst_description_private(&a->lock);
    if (!a->usable) { /* the page for heirs stays: it says that this process is here */
        if (had) {
            snprintf(a->refused, sizeof a->refused, "%s", c && c->refused[0] ? c->refused : "out of memory");
            fst_unusable++;
        }
        adopt_threads(a, c);
        return;
    }
    fst_heirs_forked(a, &c->heirs);
    a->slot = c->slot;
    a->self = fst_process_at(a, c->slot);
    fst_entries_unmap(a, a->entries); /* these were mapped for the parent */
    a->entries = c->entries;
    a->slot_low = fst_lock_generation(a->self->state);
    fst_store_relaxed(&a->self->flags, a->self->flags | FST_PROCESS_FORKED);
    fst_process_describe(a->self);
    adopt_threads(a, c);
    fst_refs_rebuild(a);
}

static void in_child(void)
{
    postponed = false;
    fst_fault_after_fork(true);
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        struct carried *c = carried;
        while (c && c->arena != a)
            c = c->next;
        adopt(a, c);
        fst_uses_forked(a);
    }
    pthread_mutex_unlock(&fst_local_mutex);
    forget();
    pthread_mutex_unlock(&fst_open_mutex);
}

int fst_fork_init(void)
{
    int error = pthread_atfork(before, in_parent, in_child);
    return error ? fst_fail_errno(FST_OS, error, "cannot be told of forks: no memory") : FST_OK;
}
