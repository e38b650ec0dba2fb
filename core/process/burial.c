#include "process/burial.h"

#include <string.h>

#include "platform/atomics.h"
#include "process/slot.h"

static struct fst_burial *at(const struct fst_arena *a, uint64_t number)
{
    return (struct fst_burial *)(void *)a->table[FST_T_BURIAL] + number % FST_MAX_BURIALS;
}

/* The highest number of a record. sb->burials may be one behind when a process that opened the
 * newest record was killed before it said so. */
static uint64_t newest(const struct fst_arena *a)
{
    uint64_t n = fst_load_relaxed(&a->sb->burials);
    return fst_load_relaxed(&at(a, n + 1)->number) == n + 1 ? n + 1 : n;
}

/* Find a record that a reaper opened just before it was killed: the process slot does not name it
 * yet. */
static struct fst_burial *find(const struct fst_arena *a, uint32_t slot, uint64_t generation)
{
    uint64_t n = newest(a);
    for (uint64_t i = 0; i < FST_MAX_BURIALS && i < n; i++) {
        struct fst_burial *b = at(a, n - i);
        if (fst_load_relaxed(&b->number) == n - i && b->slot == slot && b->generation == generation)
            return b;
    }
    return NULL;
}

struct fst_burial *fst_burial_of(struct fst_arena *a, uint32_t slot)
{
    struct fst_process *p = fst_process_at(a, slot);
    uint64_t generation = fst_load_relaxed(&p->state) >> FST_STATE_GEN_SHIFT;
    if (fst_process_unmissed(p))
        return NULL;
    struct fst_burial *b = p->burial ? at(a, p->burial) : find(a, slot, generation);
    if (b && b->slot == slot && b->generation == generation && fst_load_relaxed(&b->number)) {
        if (!p->burial)
            fst_store_relaxed(&p->burial, (uint32_t)b->number);
        return b;
    }
    if (p->burial)
        return NULL; /* more have died at once than there are records */
    uint64_t number = newest(a) + 1;
    b = at(a, number);
    fst_store_relaxed(&b->number, 0);
    fst_release_fence(); /* PAIR(record): whoever reads what follows also sees the 0 */
    fst_store_relaxed(&b->noticed_at, fst_now());
    fst_store_relaxed(&b->finished_at, 0);
    fst_store_relaxed(&b->pid, p->pid);
    fst_store_relaxed(&b->uid, p->uid);
    fst_store_relaxed(&b->slot, slot);
    fst_store_relaxed(&b->generation, generation);
    fst_store_relaxed(&b->objects, 0);
    fst_store_relaxed(&b->bytes, 0);
    fst_store_relaxed(&b->groups, 0);
    fst_store_relaxed(&b->flags, fst_load_relaxed(&p->flags));
    fst_store_relaxed(&b->reaper, a->self->pid);
    memcpy(b->command, p->command, sizeof b->command);
    fst_store_release(&b->number, number); /* PAIR(record) */
    fst_store_release(&a->sb->burials, number);
    fst_store_relaxed(&p->burial, (uint32_t)number);
    return b;
}

void fst_burial_object(struct fst_burial *b, uint64_t bytes)
{
    if (!b)
        return;
    fst_store_relaxed(&b->objects, b->objects + 1);
    fst_store_relaxed(&b->bytes, b->bytes + bytes);
}

void fst_burial_group(struct fst_burial *b)
{
    if (b)
        fst_store_relaxed(&b->groups, b->groups + 1);
}

void fst_burial_close(struct fst_arena *a, uint32_t slot)
{
    struct fst_burial *b = fst_burial_of(a, slot);
    if (!b)
        return;
    fst_store_relaxed(&b->reaper, a->self->pid);
    fst_store_release(&b->finished_at, fst_now());
}

uint64_t fst_burial_count(fst_arena *a)
{
    return newest(a);
}

/* False: the record is being written, or was overwritten. */
static bool read_record(const struct fst_burial *b, uint64_t number, struct fst_burial_info *out)
{
    memset(out, 0, sizeof *out);
    if (fst_load_acquire(&b->number) != number) /* PAIR(record) */
        return false;
    out->number = number;
    out->pid = fst_load_relaxed(&b->pid);
    out->uid = fst_load_relaxed(&b->uid);
    memcpy(out->command, b->command, sizeof out->command);
    out->command[sizeof out->command - 1] = 0;
    out->noticed_at = fst_load_relaxed(&b->noticed_at);
    out->finished_at = fst_load_acquire(&b->finished_at);
    out->objects = fst_load_relaxed(&b->objects);
    out->bytes = fst_load_relaxed(&b->bytes);
    out->groups = fst_load_relaxed(&b->groups);
    out->reaper = fst_load_relaxed(&b->reaper);
    out->tended = fst_load_relaxed(&b->flags) & FST_PROCESS_TENDED;
    fst_acquire_fence(); /* PAIR(record) */
    return fst_load_relaxed(&b->number) == number;
}

size_t fst_burial_list(fst_arena *a, struct fst_burial_info *out, size_t max)
{
    uint64_t n = newest(a);
    size_t found = 0;
    for (uint64_t i = 0; i < FST_MAX_BURIALS && i < n && found < max; i++)
        found += read_record(at(a, n - i), n - i, &out[found]);
    return found;
}
