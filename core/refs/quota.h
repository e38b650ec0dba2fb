/* quota.h - how many messages one sender, and one group, may have in flight, so that nobody uses up
 * the table for everybody.
 *
 * Entries below FST_INFLIGHT_OPEN are anybody's and not counted: whoever has fewer than that in
 * flight pays nothing. Beyond them a sender counts what is in flight, by a look at all entries, and
 * may then put some more before it counts again. That number is so small that all processes
 * together cannot use up what is kept: a SHARE for each process slot. What is counted are entries,
 * and not what was noted about them: a process may be killed between any two writes. A share
 * belongs to the slot, so what a dead process sent counts for the slot's next process: otherwise
 * processes that come and die would use up the shares of all.
 */
#ifndef FST_REFS_QUOTA_H
#define FST_REFS_QUOTA_H

#include "region/region.h"

/* May this process use one more of the entries beyond FST_INFLIGHT_OPEN, for a message of the
 * group? If so, it is counted. */
bool fst_quota_spend(struct fst_arena *a, uint32_t group);

static inline bool fst_quota_allows(struct fst_arena *a, uint32_t entry, uint32_t group)
{
    return __builtin_expect(entry < FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)), 1) || fst_quota_spend(a, group);
}

/* Fail with FST_FULL, and a sentence: `why`, who sent what is in flight, and how much of it is this
 * group's. */
int fst_quota_full(struct fst_arena *a, uint32_t group, const char *why);

#endif
