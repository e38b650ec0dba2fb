/* leave.c - leaving an arena: what a process gives back itself. What it has no time for, or has not
 * given back when it is killed, stays where a batch finds it when it buries the process.
 */
#include "alloc/active.h"
#include "arena/attach.h"
#include "arena/folder.h"
#include "platform/liveness.h"
#include "process/slot.h"
#include "rcu/thread.h"
#include "reclaim/batch.h"
#include "reclaim/letters.h"
#include "reclaim/reaper.h"
#include "reclaim/shelves.h"
#include "refs/heirs.h"
#include "refs/reftable.h"
#include "region/file.h"
#include "region/lock.h"

#define LEAVE_NS (50 * FST_MS) /* ns for the last batch of a process that leaves */

void fst_arena_disown(struct fst_thread *t)
{
    struct fst_waits before = fst_wait_for((struct fst_waits){.own = true, .patience = 0});
    fst_actives_release(t);
    fst_wait_for(before);
}

void fst_arena_leave(struct fst_arena *a)
{
    struct stat st = {.st_dev = a->device, .st_ino = a->inode};
    if (!a->usable)
        return;
    bool ours = a->path[0] && !fst_load_relaxed(&a->sb->lasting);
    int fd = fst_file_lock(a);
    if (fd >= 0) {
        fst_liveness_release(fd, FST_LOCK_PRESENT + a->slot, 1);
        if (ours)
            fst_folder_remove(fd, FST_NONE, a->path, &st);
        return;
    }
    /* Only the mapping keeps this process's locks, so the process cannot let go of PRESENT alone:
     * for others it counts as present until it is gone, but not for itself. */
    fd = ours ? fst_file_get(a) : -1;
    if (fd >= 0)
        fst_folder_remove(fd, a->slot, a->path, &st);
    fst_file_put(a, fd);
}

/* Drop every entry of this process that is still LIVE: those of groups, and of objects whose owners
 * have gone without dropping them. What forked children without a place may look at stays. */
static void drop_all(struct fst_arena *a)
{
    uint64_t *entries = a->entries;
    for (uint32_t i = 0; i < a->refs->top; i++) {
        uint64_t seen = fst_load_relaxed(&entries[i]);
        if ((seen & FST_ENTRY_STATE) == FST_ENTRY_LIVE &&
            !(fst_load_relaxed(&a->counts[i]) & FST_COUNT_FLAGS & ~FST_COUNT_INDEXED)) {
            fst_store_release(&entries[i], (seen & ~FST_ENTRY_STATE) | FST_ENTRY_DROPPED);
            fst_store_relaxed(&a->self->dropped, 1);
        }
    }
}

static bool all_empty(const struct fst_arena *a)
{
    const uint64_t *entries = a->entries;
    for (uint32_t i = 0; i < a->refs->top; i++)
        if (fst_load_relaxed(&entries[i]))
            return false;
    return true;
}

static void forget_threads(struct fst_arena *a)
{
    pthread_mutex_lock(&fst_local_mutex);
    while (a->threads) {
        struct fst_thread *t = a->threads;
        fst_arena_disown(t);
        fst_thread_forget(t);
    }
    pthread_mutex_unlock(&fst_local_mutex);
}

void fst_arena_detach(struct fst_arena *a)
{
    fst_reaper_stop(a, true);
    fst_store_relaxed(&a->self->flags, a->self->flags | FST_PROCESS_LEFT);
    fst_heirs_ask(a);
    drop_all(a);
    struct fst_thread *t = fst_thread_get(a);
    if (t) {
        t->nest = 0;
        struct fst_batch_options options = {.deaths = true, .timeout = LEAVE_NS};
        fst_batch_run(t, &options);
    }
    forget_threads(a);
    if (all_empty(a) && !fst_letters_owns(a) && !fst_shelves_owns(a)) {
        fst_store_relaxed(&a->self->entry_top, 0);
        fst_process_leave(a, a->slot);
    }
    fst_arena_leave(a);
}
