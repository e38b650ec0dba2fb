/* release.h - the end of an object, and of what becomes empty with it: slab, child, group, cache. */
#ifndef FST_RECLAIM_RELEASE_H
#define FST_RECLAIM_RELEASE_H

#include "rcu/thread.h"
#include "region/region.h"

/* The object behind oid became free and its slab is nobody's active one here: see to slab, child, group, cache. In no section. */
void fst_release_after_free(struct fst_thread *t, uint64_t oid);

#endif
