/* inflight.h - in-flight entries: references that lie in a message and belong to the arena, not to
 * the sender.
 *
 * One entry is used again and again; each use has a tag of its own, which the message carries, so
 * that a message read twice, or an old one read late, does not take a newer message's reference.
 * The word is the truth; who sent it and when is for people.
 */
#ifndef FST_REFS_INFLIGHT_H
#define FST_REFS_INFLIGHT_H

#include "platform/atomics.h"
#include "refs/sender.h"
#include "refs/word.h"
#include "region/region.h"

/* The word of an entry that is in use. */
static inline uint64_t fst_inflight_word(uint64_t oid, uint32_t tag)
{
    return (uint64_t)tag << FST_INFLIGHT_TAG_SHIFT | oid << 1 | FST_INFLIGHT_LIVE;
}

static inline uint64_t fst_inflight_oid(uint64_t word)
{
    return word >> 1 & FST_OID_MASK;
}

/* The index of the group that an object belongs to, or that the id is of; FST_NONE. The id names
 * something that was there once (fst_word_of). */
static inline uint32_t fst_inflight_group_of(const struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return fst_oid_group_index(oid);
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) ? fst_load_relaxed(&fst_child_at(a, child)->group) : FST_NONE;
}

/* Put (oid, generation) of this group, which the caller holds a reference to, in flight.
 * FST_FULL. */
int fst_inflight_put(struct fst_arena *a, uint64_t oid, uint64_t generation, uint32_t group, uint32_t *entry, uint32_t *tag);

/* Take the entry's reference, if this is still the use that the message speaks of. */
bool fst_inflight_take(struct fst_arena *a, uint32_t entry, uint32_t tag, uint64_t oid);

/* Swing the entry from exactly this live word to empty: false when somebody else was first. */
bool fst_inflight_end(struct fst_arena *a, uint32_t entry, uint64_t word);

/* The same for who does not take it: say why before. A message of this use that fails tells
 * (fst_inflight_stale). */
bool fst_inflight_give_up(struct fst_arena *a, uint32_t entry, uint64_t word, enum fst_inflight_why why);

/* Give entries that do not say when they were sent, because their senders were killed just then,
 * the present as their time: otherwise they would never grow old, and never be dropped as old
 * ones. */
void fst_inflight_date(struct fst_arena *a);

/* FST_STALE, with a sentence that says why the message cannot be taken. */
int fst_inflight_stale(struct fst_arena *a, const struct fst_message *m);

/* How long ago the use that the word shows was sent, ns; 0 while that is being written down. */
uint64_t fst_inflight_age(const struct fst_inflight *e, uint64_t word);

/* The same, and who sent it; pid 0 while that is being written down. False: the entry has gone
 * on to another use. */
bool fst_inflight_sender(const struct fst_inflight *e, uint64_t word, int32_t *pid, char command[16], uint64_t *age);

#endif
