/* hold.c - shared locks that are held on purpose, for tests of what others do meanwhile
 * (flagstone_test.h). */
#include <string.h>

#include "alloc/cache.h"
#include "alloc/child.h"
#include "alloc/lists.h"
#include "alloc/registry.h"
#include "alloc/run.h"
#include "flagstone_test.h"
#include "platform/error.h"
#include "region/lock.h"

int fst_lock_hold(fst_arena *a, const char *lock, uint64_t cache, uint64_t group, void **held)
{
    struct fst_superblock *sb = a->sb;
    uint64_t child = 0;
    int rc = strcmp(lock, "slabs") == 0 ? fst_child_open(a, cache, group, &child) : FST_OK;
    if (rc)
        return rc;
    uint32_t index = strcmp(lock, "slabs") == 0 ? (uint32_t)child : (uint32_t)cache;
    const struct {
        const char *name;
        uint32_t *word;
    } locks[] = {
        {"names", &sb->names_lock},
        {"pages", &sb->pages_lock},
        {"slabs", &fst_child_at(a, index)->lock},
        {"ending", &fst_cache_at(a, index)->ending},
        {"reaper", &sb->reaper_lock},
        {"destroying", &sb->teardown_lock},
    };
    size_t i = 0;
    while (i < sizeof locks / sizeof *locks && strcmp(lock, locks[i].name) != 0)
        i++;
    bool got = false;
    switch (i) {
    case 0:
        got = fst_registry_lock(a);
        break;
    case 1:
        got = fst_run_lock(a);
        break;
    case 2:
        got = fst_lists_lock(a, index);
        break;
    case 3:
        got = fst_cache_lock_ending(a, index);
        break;
    case 4:
    case 5: /* whoever takes one of these over has nothing to mend at once */
        got = fst_lock_in_time(a, locks[i].word) != FST_TRY_BUSY;
        break;
    default:
        return fst_fail(FST_INVALID, "there is no lock '%s'", lock);
    }
    *held = locks[i].word;
    return got ? FST_OK : fst_lock_held(a);
}

void fst_lock_let_go(fst_arena *a, void *held)
{
    fst_unlock_all(a, held);
}
