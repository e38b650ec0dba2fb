#include "process/slot.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/futex.h"
#include "platform/liveness.h"
#include "region/entries.h"
#include "region/file.h"
#include "region/lock.h"
#include "region/table.h"

static size_t read_file(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;
    if (fd >= 0)
        close(fd);
    n = n < 0 ? 0 : n;
    out[n] = 0;
    return (size_t)n;
}

void fst_process_describe(struct fst_process *p)
{
    char text[sizeof p->arguments];
    p->pid = (int32_t)getpid();
    p->uid = (uint32_t)getuid();
    p->started = fst_now();
    size_t n = read_file("/proc/self/comm", text, sizeof p->command);
    if (n && text[n - 1] == '\n')
        text[n - 1] = 0;
    memcpy(p->command, text, sizeof p->command);
    p->command[sizeof p->command - 1] = 0;
    n = read_file("/proc/self/cmdline", text, sizeof text);
    for (size_t i = 0; i + 1 < n; i++)
        if (!text[i])
            text[i] = ' ';
    memcpy(p->arguments, text, sizeof p->arguments);
    p->arguments[sizeof p->arguments - 1] = 0;
}

/* The slot's last process has owned nothing there since it was buried, or left. */
static void forget_channels(struct fst_process *p)
{
    for (uint32_t i = 0; i < sizeof p->channels / sizeof *p->channels; i++)
        if (fst_load_relaxed(&p->channels[i]))
            fst_store_relaxed(&p->channels[i], 0);
}

void fst_process_note_channel(struct fst_process *self, uint32_t channel)
{
    uint64_t *word = &self->channels[channel % FST_MAX_CHANNELS / 64], bit = 1ull << (channel % 64);
    if (!(fst_load_relaxed(word) & bit))
        fst_set_bits64(word, bit);
}

static int claim_at(struct fst_arena *a, int lock_fd, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    if (fst_state(fst_load_acquire(&p->state)) != FST_PROCESS_FREE)
        return FST_BUSY;
    if (!fst_liveness_try(lock_fd, FST_LOCK_ALIVE + slot, 1))
        return FST_BUSY;
    /* PRESENT is refused only by a process that is removing the arena, and holds the whole
     * range. */
    if (!fst_liveness_try(lock_fd, FST_LOCK_PRESENT + slot, 1)) {
        fst_liveness_release(lock_fd, FST_LOCK_ALIVE + slot, 1);
        return FST_CLOSED;
    }
    uint64_t seen = fst_load_acquire(&p->state);
    if (fst_state(seen) == FST_PROCESS_FREE && fst_cas64(&p->state, &seen, fst_state_next(seen, FST_PROCESS_JOINING))) {
        /* PAIR(record): whoever reads what is written from here on also sees the new generation. */
        fst_release_fence();
        forget_channels(p);
        return FST_OK;
    }
    fst_liveness_release(lock_fd, FST_LOCK_PRESENT + slot, 1);
    fst_liveness_release(lock_fd, FST_LOCK_ALIVE + slot, 1);
    return FST_BUSY;
}

int fst_process_claim(struct fst_arena *a, int lock_fd, uint32_t *slot)
{
    for (uint32_t i = 0; i < FST_MAX_PROCESSES; i++) {
        uint32_t top = fst_process_top(a);
        if (i >= top) {
            int rc = fst_table_commit(a, FST_T_PROCESS, i + 1);
            if (rc == FST_OK)
                /* This comes before the bound: the file always has all tables below the bound. */
                rc = fst_entries_extend(a, i);
            if (rc)
                return rc;
            fst_cas32(&a->sb->process_top, &top, i + 1);
        }
        int rc = claim_at(a, lock_fd, i);
        if (rc == FST_CLOSED)
            return fst_fail(FST_CLOSED, "the arena is being removed");
        if (rc == FST_OK) {
            *slot = i;
            return FST_OK;
        }
    }
    return fst_fail(FST_FULL, "all %u process slots of the arena %s are in use", FST_MAX_PROCESSES, fst_arena_called(a));
}

void fst_process_publish(struct fst_arena *a, uint32_t slot, bool readonly)
{
    struct fst_process *p = fst_process_at(a, slot);
    fst_process_describe(p);
    fst_store_relaxed(&p->flags, readonly ? FST_PROCESS_READONLY : 0);
    fst_store_relaxed(&p->dropped, 0);
    fst_store_release(&p->state, fst_state_moved(fst_load_relaxed(&p->state), FST_PROCESS_LIVE));
}

void fst_process_leave(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t state = fst_load_relaxed(&p->state);
    /* Nobody is named from here on, should this process be killed here, and until the slot's next
     * process says its name. */
    fst_store_relaxed(&p->pid, 0);
    fst_store_release(&p->state, fst_state_moved(state, FST_PROCESS_FREE));
}

bool fst_process_is_own(const struct fst_arena *a, uint64_t state)
{
    return fst_state(state) == FST_PROCESS_LIVE && fst_lock_generation(state) == a->slot_low;
}

bool fst_process_alive(struct fst_arena *a, uint32_t slot)
{
    uint64_t state = fst_load_acquire(&fst_process_at(a, slot)->state);
    if (fst_state(state) == FST_PROCESS_FREE)
        return false;
    return fst_slot_alive(a, slot, fst_lock_generation(state));
}

bool fst_process_is_still(const struct fst_arena *a, uint32_t slot, uint64_t state)
{
    fst_acquire_fence(); /* PAIR(record) */
    return fst_load_relaxed(&fst_process_at(a, slot)->state) >> FST_STATE_GEN_SHIFT == state >> FST_STATE_GEN_SHIFT;
}

bool fst_process_unmissed(const struct fst_process *p)
{
    return !p->pid || (fst_load_relaxed(&p->flags) & (FST_PROCESS_LEFT | FST_PROCESS_FORKED));
}

bool fst_process_has_heirs(struct fst_arena *a, uint32_t slot)
{
#ifdef FST_MUTANT_BURY_HEIRS
    return false;
#endif
    return fst_file_find(a, FST_LOCK_HEIRS + (off_t)slot * FST_HEIRS_BYTES, FST_HEIRS_BYTES) >= 0;
}

void fst_process_set_flags(struct fst_process *self, uint32_t clear, uint32_t set)
{
    uint32_t seen = fst_load_relaxed(&self->flags);
    while (seen != ((seen & ~clear) | set) && !fst_cas32(&self->flags, &seen, (seen & ~clear) | set)) {
    }
}

bool fst_process_keeps_for_children(struct fst_arena *a, uint32_t slot)
{
    if (!fst_process_alive(a, slot))
        return fst_process_has_heirs(a, slot);
    return fst_load_relaxed(&fst_process_at(a, slot)->flags) & FST_PROCESS_HEIRS;
}

bool fst_process_keeps(struct fst_arena *a, uint32_t slot)
{
    enum fst_process_state state = (enum fst_process_state)fst_state(fst_load_acquire(&fst_process_at(a, slot)->state));
    return state == FST_PROCESS_LIVE || (state == FST_PROCESS_DEAD && fst_process_has_heirs(a, slot));
}

bool fst_process_any_dead(struct fst_arena *a)
{
    uint32_t top = fst_process_top(a);
    for (uint32_t slot = 0; slot < top; slot++) {
        uint64_t state = fst_load_acquire(&fst_process_at(a, slot)->state);
        /* A slot that is DEAD for longer waits for its heirs (refs/heirs.h). */
        if (fst_state(state) != FST_PROCESS_FREE && !fst_slot_alive(a, slot, fst_lock_generation(state)) &&
            !(fst_state(state) == FST_PROCESS_DEAD && fst_process_has_heirs(a, slot)))
            return true;
    }
    return false;
}
