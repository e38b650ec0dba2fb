/* cgroup.h - groups that end with a Linux cgroup.
 *
 * A record in a table of its own (struct fst_cgroup) says which group belongs to which cgroup: its
 * folder's path, device and inode as they were when the group was bound. Batches look whether the
 * folder is still the same one; when it is not, the group is destroyed. Only processes for which
 * the path leads to the same folder look: those of the same mount namespace and root folder. A
 * record whose group is gone is free.
 */
#ifndef FST_TEARDOWN_CGROUP_H
#define FST_TEARDOWN_CGROUP_H

#include "region/region.h"

struct stat;

/* How this process sees paths: the inodes of its mount namespace and of its root folder. */
struct fst_cgroup_view {
    uint64_t mounts, root;
};
bool fst_cgroup_look(struct fst_cgroup_view *v);

/* Is this the folder of a cgroup? FST_OK, or FST_MISSING, FST_INVALID, FST_OS. */
int fst_cgroup_check_path(const char *path, struct stat *st);

/* The group's record, or NULL. */
const struct fst_cgroup *fst_cgroup_of(struct fst_arena *a, uint64_t group);

/* Bind a group to the cgroup with this folder. False: *held says that names_lock took longer than
 * this thread waits; otherwise commit one record more, and try again. Without locks. A kill in here
 * leaves a group like any other. */
bool fst_cgroup_bind(struct fst_arena *a, uint64_t group, const char *path, const struct stat *st, const struct fst_cgroup_view *v,
                     bool *held);

/* Is any group bound to a cgroup? A hint. */
static inline bool fst_cgroup_any(const struct fst_arena *a)
{
    return fst_cgroup_top(a) != 0;
}

/* Destroy the groups whose cgroup has ended. Under no lock but the reaper's. */
void fst_cgroup_probe(struct fst_arena *a);

#endif
