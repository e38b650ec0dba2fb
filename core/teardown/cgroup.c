#include "teardown/cgroup.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "alloc/group.h"
#include "platform/error.h"
#include "region/lock.h"
#include "teardown/end.h"

#define CGROUP_V1 0x27e0ebl   /* CGROUP_SUPER_MAGIC, statfs(2) */
#define CGROUP_V2 0x63677270l /* CGROUP2_SUPER_MAGIC */

bool fst_cgroup_look(struct fst_cgroup_view *v)
{
    struct stat st;
    if (stat("/proc/self/ns/mnt", &st))
        return false;
    v->mounts = st.st_ino;
    if (stat("/", &st))
        return false;
    v->root = st.st_ino;
    return true;
}

static bool in_use(struct fst_arena *a, const struct fst_cgroup *c)
{
    uint32_t index;
    uint64_t group = fst_load_acquire(&c->group);
    return group && fst_group_find(a, group, &index);
}

const struct fst_cgroup *fst_cgroup_of(struct fst_arena *a, uint64_t group)
{
    uint32_t top = fst_cgroup_top(a);
    for (uint32_t i = 0; i < top && i < FST_MAX_CGROUPS; i++)
        if (fst_load_acquire(&fst_cgroup_at(a, i)->group) == group)
            return fst_cgroup_at(a, i);
    return NULL;
}

/* A record that is free. NULL: commit one more. Under names_lock. */
static struct fst_cgroup *new_record(struct fst_arena *a)
{
    struct fst_superblock *sb = a->sb;
    for (uint32_t i = 0; i < fst_cgroup_top(a) && i < FST_MAX_CGROUPS; i++)
        if (!in_use(a, fst_cgroup_at(a, i)))
            return fst_cgroup_at(a, i);
    if ((fst_cgroup_top(a) + 1) * sizeof(struct fst_cgroup) > fst_load_acquire(&sb->tables[FST_T_CGROUP].committed))
        return NULL;
    uint32_t top = fst_cgroup_top(a);
    if (fst_damaged_beyond(a, FST_T_CGROUP, top) || fst_is_damaged(a))
        return NULL;
    fst_store_release(&sb->cgroup_top, top + 1);
    return fst_cgroup_at(a, top);
}

/* The record names its group last, and the group's flag comes after that: after a kill before
 * either, the group is like any other. */
bool fst_cgroup_bind(struct fst_arena *a, uint64_t group, const char *path, const struct stat *st, const struct fst_cgroup_view *v,
                     bool *held)
{
    uint32_t index;
    *held = !fst_registry_lock(a);
    if (*held)
        return false;
    struct fst_cgroup *c = new_record(a);
    if (c) {
        fst_store_relaxed(&c->group, 0);
        fst_release_fence(); /* PAIR(record): whoever reads what follows also sees the 0 */
        fst_store_relaxed(&c->device, (uint64_t)st->st_dev);
        fst_store_relaxed(&c->inode, (uint64_t)st->st_ino);
        fst_store_relaxed(&c->view, v->mounts);
        fst_store_relaxed(&c->root_inode, v->root);
        memset(c->path, 0, sizeof c->path);
        memcpy(c->path, path, strlen(path));
        fst_store_release(&c->group, group); /* PAIR(record) */
        if (fst_group_find(a, group, &index))
            fst_store_relaxed(&fst_group_at(a, index)->flags, fst_group_at(a, index)->flags | FST_GROUP_CGROUP);
    }
    fst_registry_unlock(a);
    return c != NULL;
}

int fst_cgroup_check_path(const char *path, struct stat *st)
{
    struct statfs fs;
    if (strlen(path) >= sizeof((struct fst_cgroup *)0)->path)
        return fst_fail(FST_INVALID, "the path of a cgroup has %zu bytes at most", sizeof((struct fst_cgroup *)0)->path - 1);
    if (stat(path, st) || statfs(path, &fs))
        return errno == ENOENT ? fst_fail(FST_MISSING, "there is no cgroup %s", path)
                               : fst_fail_errno(FST_OS, errno, "cannot look at cgroup %s", path);
    if (!S_ISDIR(st->st_mode) || ((long)fs.f_type != CGROUP_V1 && (long)fs.f_type != CGROUP_V2))
        return fst_fail(FST_INVALID, "%s is not the folder of a cgroup", path);
    return FST_OK;
}

static bool has_ended(const struct fst_cgroup *c)
{
    struct stat st;
    char path[sizeof c->path];
    memcpy(path, c->path, sizeof path - 1);
    path[sizeof path - 1] = 0;
    if (stat(path, &st))
        return errno == ENOENT || errno == ENOTDIR || errno == ENODEV;
    return (uint64_t)st.st_dev != c->device || (uint64_t)st.st_ino != c->inode;
}

void fst_cgroup_probe(struct fst_arena *a)
{
    struct fst_cgroup_view v = {0};
    uint32_t top = fst_cgroup_top(a), index;
    if (!top || !fst_cgroup_look(&v))
        return;
    for (uint32_t i = 0; i < top && i < FST_MAX_CGROUPS; i++) {
        const struct fst_cgroup *c = fst_cgroup_at(a, i);
        uint64_t group = fst_load_acquire(&c->group), state;
        if (!in_use(a, c) || c->view != v.mounts || c->root_inode != v.root || !has_ended(c))
            continue;
        uint64_t when = fst_now();
        if (!fst_registry_lock(a))
            return;
        bool found = fst_load_relaxed(&c->group) == group && fst_group_find(a, group, &index) && index != 0;
        if (found)
            fst_end_group(a, index, FST_GROUP_DESTROYED, when);
        state = found ? fst_group_at(a, index)->state : 0;
        fst_registry_unlock(a);
        if (found)
            fst_end_groups_below(a, index, state);
    }
}
