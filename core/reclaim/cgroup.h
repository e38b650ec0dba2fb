/* cgroup.h - groups that end with a Linux cgroup.
 *
 * A record in a table of its own (struct fst_cgroup) says which group belongs to which cgroup: its folder's path, device and inode as they
 * were when the group was bound. Batches look whether the folder is still the same one; when it is not, the group is destroyed. Only
 * processes to which the path means the same look: those of the same mount namespace and root folder. A record whose group is gone is free.
 */
#ifndef FST_RECLAIM_CGROUP_H
#define FST_RECLAIM_CGROUP_H

#include "region/region.h"

/* Is any group bound to a cgroup? A hint. */
static inline bool fst_cgroup_any(const struct fst_arena *a)
{
    return fst_cgroup_top(a) != 0;
}

/* Destroy the groups whose cgroup has ended. Without locks but the reaper's. */
void fst_cgroup_probe(struct fst_arena *a);

#endif
