/* quota.h - how many messages one sender, and one group, may have in flight, so that nobody uses up
 * the table for everybody.
 *
 * Entries below FST_INFLIGHT_OPEN are anybody's, without any count: whoever has not that many in
 * flight pays nothing. Beyond, a sender counts what is in flight, by a look at all entries, and may
 * then put some more before it counts again. How many is so few that all processes together cannot
 * use up what is kept: a SHARE for each process slot. The count is of entries and not of what was
 * said of them before: a process may be killed between any two writes. A share belongs to the slot,
 * so what a dead process sent counts for who has its slot next: otherwise those who come and die
 * would take the shares of all.
 */
#ifndef FST_REFS_QUOTA_H
#define FST_REFS_QUOTA_H

#include "region/region.h"

/* May this process use one more of the entries beyond FST_INFLIGHT_OPEN, for a message of the
 * group? Then that is counted. */
bool fst_quota_spend(struct fst_arena *a, uint32_t group);

static inline bool fst_quota_allows(struct fst_arena *a, uint32_t entry, uint32_t group)
{
    return __builtin_expect(entry < FST_INFLIGHT_OPEN(fst_count(a, FST_T_INFLIGHT)), 1) || fst_quota_spend(a, group);
}

/* FST_FULL, with a sentence: `why`, who sent what is in flight, and how much is of this group. */
int fst_quota_full(struct fst_arena *a, uint32_t group, const char *why);

#endif
