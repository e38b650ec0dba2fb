/* fork.c - what a forked child inherits, without an instant in which nobody owns it.
 *
 * before, in the parent   the reaper threads stop; who died is buried; every mutex of this process is taken; for each attachment a slot for
 *                         the child is claimed through a new lock description, which both processes will have; the parent's LIVE entries
 *                         are copied into it at the same indexes, each object becoming SHARED first; the forking thread's section is copied
 * after, in the parent    its copy of the child's lock description is closed, also when fork failed: then nobody holds it, and a batch
 *                         buries the slot
 * after, in the child     the parent's lock description is closed, so that the parent's death shows (the page that keeps it does not come
 *                         along); the slot is the child's
 *
 * Killed anywhere: the copied entries belong to a LIVE slot from before the fork until the last holder of its lock is gone. The model is
 * models/fork.pml.
 */
#include <stdlib.h>
#include <unistd.h>

#include "alloc/active.h"
#include "arena/attach.h"
#include "crash/process.h"
#include "platform/error.h"
#include "rcu/thread.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/table.h"

/* What the handlers carry across the fork, for each attachment. */
struct carried {
    struct fst_arena *arena;
    struct fst_thread *thread;   /* of the forking thread, NULL: none */
    struct fst_description lock; /* of the child; fd -1: it gets no slot */
    uint32_t slot;
    uint32_t thread_slot;
    bool has_thread_slot;
    struct carried *next;
};
static struct carried *carried;

static struct fst_thread *forking_thread(struct fst_arena *a)
{
    for (struct fst_thread *t = fst_thread_states(); t; t = t->next)
        if (t->arena == a)
            return t;
    return NULL;
}

/* Set SHARED, unless another thread has dropped the object meanwhile: a private drop takes no mutex. One under way may overwrite it: then no
 * Block of the child's speaks for the copied entry, and it goes with the child. */
static bool share(uint64_t *word, uint64_t entry)
{
    uint64_t seen = word ? fst_load_acquire(word) : 0;
    while ((seen & FST_WORD_ALLOCATED) && fst_entry_matches(entry, seen)) {
#ifdef FST_MUTANT_FORK_NOT_SHARED
        return true;
#endif
        if ((seen & FST_WORD_SHARED) || fst_cas64(word, &seen, seen | FST_WORD_SHARED))
            return true;
    }
    return false;
}

/* Under the table's mutex, so that shared entries are still. */
static bool copy_entries(struct fst_arena *a, uint32_t slot)
{
    const uint64_t *from = fst_entries_of(a, a->slot);
    uint64_t *to = fst_entries_of(a, slot);
    uint32_t top = a->refs->top;
    if (fst_table_commit_entries(a, slot, top))
        return false;
    fst_store_release(&fst_process_at(a, slot)->entry_top, top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t entry = fst_load_acquire(&from[i]);
        if (fst_entry_state(entry) != FST_ENTRY_LIVE || fst_refs_owners(a, i) == 0)
            continue;
        if (share(fst_word_of(a, fst_entry_oid(entry)), entry))
            fst_store_release(&to[i], entry);
    }
    return true;
}

static void carry(struct carried *c)
{
    struct fst_arena *a = c->arena;
    c->lock = (struct fst_description){.fd = -1};
    if (!a->usable)
        return;
    struct fst_description lock = {.fd = fst_file_reopen(a)};
    if (lock.fd < 0)
        return;
    if (fst_process_claim(a, lock.fd, &c->slot)) {
        fst_file_drop(a, &lock);
        return;
    }
    lock.mark = FST_LOCK_ALIVE + c->slot;
    if (!fst_description_keep(&lock, true) || !copy_entries(a, c->slot)) {
        fst_file_drop(a, &lock); /* the slot is JOINING without its lock: a batch buries it */
        return;
    }
    fst_process_publish(a, c->slot, a->readonly);
    fst_store_relaxed(&fst_process_at(a, c->slot)->pid, 0); /* the child says who it is; when the fork fails, nobody has died */
    c->lock = lock;
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
        if (!c)
            continue;
        c->arena = a;
        c->next = carried;
        carried = c;
        carry(c);
    }
}

static void forget(void)
{
    while (carried) {
        struct carried *c = carried;
        carried = c->next;
        free(c);
    }
}

static void in_parent(void)
{
    for (struct carried *c = carried; c; c = c->next)
        fst_file_drop(c->arena, &c->lock);
    for (struct fst_arena *a = fst_attachments; a; a = a->next)
        pthread_mutex_unlock(&a->refs->mutex);
    pthread_mutex_unlock(&fst_local_mutex);
    for (struct fst_arena *a = fst_attachments; a; a = a->next)
        fst_reaper_resume(a);
    forget();
    pthread_mutex_unlock(&fst_open_mutex);
}

/* The other threads are not here; ours goes on with its new slot, without the parent's slabs and free entries. */
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
        mine->arena = NULL; /* registers anew when it is next needed */
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
    fst_file_forked(a);
    if (c)
        a->lock = c->lock;
    pthread_mutex_unlock(&a->refs->mutex); /* by the thread that took it before the fork, as are the other two */
    fst_reaper_forked(a);
    a->usable = a->lock.fd >= 0;
    if (a->usable) /* it is a mapping of its own, so this cannot fail; if it did, we would look alive for as long as our children */
        fst_description_private(&a->lock);
    if (!a->usable) {
        adopt_threads(a, c);
        return;
    }
    a->slot = c->slot;
    a->self = fst_process_at(a, c->slot);
    a->entries = fst_entries_of(a, c->slot);
    a->slot_low = fst_lock_generation(a->self->state);
    fst_store_relaxed(&a->self->flags, a->self->flags | FST_PROCESS_FORKED);
    fst_process_describe(a->self);
    adopt_threads(a, c);
    fst_refs_rebuild(a);
}

static void in_child(void)
{
    for (struct fst_arena *a = fst_attachments; a; a = a->next) {
        struct carried *c = carried;
        while (c && c->arena != a)
            c = c->next;
        adopt(a, c);
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
