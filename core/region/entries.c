#include "region/entries.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/mapping.h"
#include "region/file.h"

int fst_cannot_map(int error, uint64_t bytes)
{
    struct rlimit limit;
    if (error == ENOMEM && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return fst_fail_errno(
            FST_OS, error,
            "cannot map %s of address space: `ulimit -v` (RLIMIT_AS; h_vmem on a cluster) allows this process %s in "
            "all; raise it, which costs no memory, or give the arena less capacity",
            fst_size(bytes), fst_size(limit.rlim_cur));
    return fst_fail_errno(FST_OS, error, "cannot map %s of address space", fst_size(bytes));
}

int fst_entries_create(struct fst_arena *a)
{
    a->others = calloc(1, sizeof *a->others);
    return a->others ? FST_OK : fst_fail(FST_FULL, "out of memory");
}

/* The number of entries in a mapping of this level. */
static uint64_t reach(const struct fst_arena *a, uint32_t level)
{
    uint64_t n = (uint64_t)FST_ENTRIES_LEAST << level;
    return n < a->max_entries ? n : a->max_entries;
}

void fst_entries_destroy(struct fst_arena *a)
{
    for (uint32_t slot = 0; a->others && slot < FST_MAX_PROCESSES; slot++)
        for (uint32_t level = 0; level < FST_ENTRIES_LEVELS; level++)
            fst_unmap(a->others->mapped[slot][level], reach(a, level) * sizeof(uint64_t));
    free(a->others);
    a->others = NULL;
    fst_entries_unmap(a, a->entries);
    a->entries = NULL;
}

int fst_entries_extend(struct fst_arena *a, uint32_t slot)
{
    uint64_t end = fst_entries_offset(a, slot + 1);
    int fd = fst_file_get(a);
    if (fd < 0)
        return fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
    int rc = fst_file_extend(fd, end);
    fst_file_put(a, fd);
    return rc;
}

static uint64_t *map(struct fst_arena *a, uint32_t slot, uint64_t count)
{
    uint64_t offset = fst_entries_offset(a, slot), bytes = count * sizeof(uint64_t);
    struct stat st;
    int fd = fst_file_get(a);
    if (fd < 0) {
        fst_fail_errno(FST_CLOSED, errno, "%s", fst_file_lost(a, errno));
        return NULL;
    }
    bool there = fstat(fd, &st) == 0 && (uint64_t)st.st_size >= offset + bytes;
    uint64_t *at = there ? fst_map(fd, offset, bytes, true, false) : NULL;
    int error = errno;
    fst_file_put(a, fd);
    if (!there) {
        fst_damaged(a, "process slot %u is said to have reference entries, and the file ends before them", slot);
        fst_damage(a);
    } else if (!at) {
        fst_cannot_map(error, bytes);
    }
    return at;
}

uint64_t *fst_entries_map(struct fst_arena *a, uint32_t slot)
{
    return map(a, slot, a->max_entries);
}

void fst_entries_unmap(const struct fst_arena *a, uint64_t *entries)
{
    fst_unmap(entries, a->max_entries * sizeof(uint64_t));
}

uint64_t *fst_entries_of(const struct fst_arena *a, uint32_t slot, uint32_t count)
{
    if (slot == a->slot && a->entries)
        return a->entries;
    uint64_t **mapped = a->others->mapped[slot % FST_MAX_PROCESSES], *none = NULL;
    uint32_t need = 0;
    while (need < FST_ENTRIES_LEVELS - 1 && reach(a, need) < count)
        need++;
    for (uint32_t level = need; level < FST_ENTRIES_LEVELS; level++) {
        uint64_t *at = fst_load_acquire(&mapped[level]);
        if (at)
            return at;
    }
    uint64_t *at = map(a->damage->arena, slot % FST_MAX_PROCESSES, reach(a, need));
    if (at && !fst_own_set_once(&mapped[need], &none, at)) {
        fst_unmap(at, reach(a, need) * sizeof(uint64_t));
        return none; /* another thread was quicker */
    }
    return at;
}

int fst_entries_ready(struct fst_arena *a)
{
    uint32_t processes = fst_process_top(a);
    for (uint32_t slot = 0; slot < processes; slot++) {
        uint32_t top = fst_entry_top(a, slot);
        if (top && !fst_entries_of(a, slot, top))
            return fst_is_damaged(a) ? fst_damage(a) : FST_OS;
    }
    return FST_OK;
}
