/* inflight.h - in-flight entries: references that lie in a message and belong to the arena, not to
 * the sender.
 *
 * An entry is used again and again. Each use has a tag of its own, which the message carries, so
 * that a message that is read twice, or an old one read late, does not take a newer message's
 * reference. The word is the truth; who sent the message, and when, is for people.
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

/* The index of the group that an object belongs to, or whose id this is; or FST_NONE. The id names
 * something that was there once (fst_word_of). */
static inline uint32_t fst_inflight_group_of(const struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return fst_oid_group_index(oid);
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) ? fst_load_relaxed(&fst_child_at(a, child)->group) : FST_NONE;
}

/* Put (oid, generation) of this group in flight; the caller holds a reference to it. FST_FULL,
 * FST_OS. */
int fst_inflight_put(struct fst_arena *a, uint64_t oid, uint64_t generation, uint32_t group, uint32_t *entry, uint32_t *tag);

/* Take the entry's reference, if the entry is still in the use that the message speaks of. */
bool fst_inflight_take(struct fst_arena *a, uint32_t entry, uint32_t tag, uint64_t oid);

/* Swing the entry from exactly this live word to empty. False when another thread was first. */
bool fst_inflight_end(struct fst_arena *a, uint32_t entry, uint64_t word);

/* End a use without taking it, and say why before: a message of this use that fails then tells the
 * reason (fst_inflight_stale). */
bool fst_inflight_give_up(struct fst_arena *a, uint32_t entry, uint64_t word, enum fst_inflight_why why);

/* Give a time, the present, to entries that do not say when they were sent because their senders
 * were killed just then: otherwise they would never grow old, and never be dropped for their
 * age. */
void fst_inflight_date(struct fst_arena *a);

/* Fail with FST_STALE, and a sentence that says why the message cannot be taken. */
int fst_inflight_stale(struct fst_arena *a, const struct fst_message *m);

/* How long ago the use that the word shows was sent, ns; 0 while that is being written down. */
uint64_t fst_inflight_age(const struct fst_inflight *e, uint64_t word);

/* The age in ns, and who sent it; pid 0 while that is being written down. False: the entry has gone
 * on to another use. */
bool fst_inflight_sender(const struct fst_inflight *e, uint64_t word, int32_t *pid, char command[16], uint64_t *age);

#endif
