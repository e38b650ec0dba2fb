#include "region/table.h"

#include <errno.h>

#include "platform/atomics.h"
#include "platform/error.h"
#include "platform/mapping.h"
#include "region/entries.h"
#include "region/file.h"

/* The bytes to have committed when `need` are needed and `have` are committed: an eighth more than
 * there are, but no more than 128 KiB at a time, and whole pages. */
static uint64_t growth(uint64_t have, uint64_t need, uint64_t total)
{
    uint64_t step = have / 8;
    if (step > (128u << 10))
        step = 128u << 10;
    uint64_t want = need > have + step ? need : have + step;
    want = (want + FST_PAGE - 1) & ~(uint64_t)(FST_PAGE - 1);
    return want < total ? want : total;
}

static int commit(struct fst_arena *a, uint64_t offset, uint64_t *committed, uint64_t need, uint64_t total, const char *name)
{
    uint64_t have = fst_load_acquire(committed);
    if (have > total) {
        fst_damaged(a, "%s of %s are said to have memory, of %s", fst_exact(have), name, fst_exact(total));
        return fst_damage(a);
    }
    if (need <= have)
        return FST_OK;
    uint64_t want = growth(have, need, total);
    int error = fst_file_commit(a, offset + have, want - have);
    if (error == ENOSPC || error == ENOMEM) {
        want = (need + FST_PAGE - 1) & ~(uint64_t)(FST_PAGE - 1);
        error = fst_file_commit(a, offset + have, want - have);
    }
    if (error == ENOSPC || error == ENOMEM)
        return fst_fail_errno(FST_FULL, error, "%s has no room for more %s", fst_commit_refused_by(), name);
    if (error)
        return fst_fail_errno(FST_OS, error, "cannot commit memory for %s", name);
    /* Two processes may commit the same bytes, which does no harm. A kill before this line leaves
     * only a call to be repeated. */
    fst_max64(committed, want);
    return FST_OK;
}

int fst_table_commit(struct fst_arena *a, enum fst_table_kind kind, uint64_t count)
{
    const struct fst_table *t = &a->known.tables[kind];
    if (fst_is_damaged(a))
        return fst_damage(a); /* the number asked for may come from the damage */
    if (count > t->count)
        return fst_fail(FST_FULL, "all %llu %s of the arena %s are in use", (unsigned long long)t->count, fst_table_name(kind),
                        fst_arena_called(a));
    uint64_t total = (t->count * t->size + FST_PAGE - 1) & ~(uint64_t)(FST_PAGE - 1);
    return commit(a, t->offset, &a->sb->tables[kind].committed, count * t->size, total, fst_table_name(kind));
}

int fst_table_commit_entries(struct fst_arena *a, uint32_t slot, uint32_t count)
{
    if (count > a->max_entries)
        return fst_fail(FST_FULL, "this process uses all %u reference entries", a->max_entries);
    uint64_t bytes = (uint64_t)a->max_entries * sizeof(uint64_t);
    return commit(a, fst_entries_offset(a, slot), &fst_process_at(a, slot)->entries_committed, count * sizeof(uint64_t), bytes,
                  "reference entries");
}
