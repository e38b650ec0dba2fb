/* cgroup.c - groups that end with a Linux cgroup, as programs open them. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "alloc/group.h"
#include "platform/error.h"
#include "reclaim/reaper.h"
#include "region/lock.h"
#include "region/table.h"
#include "teardown/cgroup.h"

static void let_go(struct fst_arena *a, uint64_t group)
{
    if (fst_group_let_go(a, group))
        fst_reaper_dropped(a, 0);
}

int fst_group_open_cgroup(fst_arena *a, const struct fst_group_spec *spec, const char *path, uint64_t *group, bool *created)
{
    struct stat st;
    struct fst_cgroup_view v = {0};
    int rc = fst_cgroup_check_path(path, &st);
    if (rc == FST_OK && !fst_cgroup_look(&v))
        rc = fst_fail_errno(FST_OS, errno, "cannot tell the mount namespace of this process");
    if (rc == FST_OK)
        rc = fst_group_open(a, spec, group, created);
    if (rc)
        return rc;
    if (!*created) {
        const struct fst_cgroup *c = fst_cgroup_of(a, *group);
        if (c && c->device == (uint64_t)st.st_dev && c->inode == (uint64_t)st.st_ino)
            return FST_OK;
        let_go(a, *group);
        return fst_fail(FST_MISMATCH, "group %s exists and ends with %.983s", spec->name ? spec->name : "(no name)",
                        c ? c->path : "its processes, not with a cgroup");
    }
    bool held;
    while (!fst_cgroup_bind(a, *group, path, &st, &v, &held)) {
        rc = held ? fst_lock_held(a) : fst_table_commit(a, FST_T_CGROUP, (uint64_t)fst_cgroup_top(a) + 1);
        if (rc) {
            let_go(a, *group);
            return rc;
        }
    }
    fst_reaper_watch(a);
    return FST_OK;
}

size_t fst_group_cgroup(fst_arena *a, uint64_t group, char *path, size_t size)
{
    const struct fst_cgroup *c = fst_cgroup_of(a, group);
    size_t n = c ? strnlen(c->path, sizeof c->path - 1) : 0;
    if (size) {
        size_t copied = n < size - 1 ? n : size - 1;
        if (c)
            memcpy(path, c->path, copied);
        path[c ? copied : 0] = 0;
    }
    fst_acquire_fence(); /* PAIR(record) */
    if (!c || fst_load_relaxed(&c->group) == group)
        return n;
    if (size) /* the group has gone meanwhile, and the record is another one's */
        path[0] = 0;
    return 0;
}
