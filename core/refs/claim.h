/* claim.h - how a process comes to a reference: the protocol of entries and words.
 *
 *   allocate       write the entry LIVE with the generation to be; then make the word ALLOCATED:
 *                  arena/object.c
 *   give           set HANDED before anybody is given a handle, SHARED before a message:
 *                  arena/handle.c
 *   hold           set HANDED, then count one owner more: arena/drop.c
 *   resolve        write the entry LIVE; swing the word, if HANDED or SHARED, to SHARED without
 *                  CONDEMNED: fst_claim
 *   take           write the entry LIVE; swing the in-flight entry to empty, or else go on as for
 *                  resolve: fst_claim_message
 *   drop, private  where the word is exactly ALLOCATED: store free, generation + 1; with HANDED:
 *                  swing it; then the entry EMPTY: arena/drop.c
 *   drop, shared   make the entry DROPPED: fst_refs_drop
 *
 * The entry always comes first: a process that is killed between the two leaves an entry that
 * speaks of nothing, never an object that nobody speaks for. An attempt that failed is withdrawn to
 * DROPPED and never to EMPTY: a batch may have counted the entry and let its own candidate go, so
 * somebody has to ask again. Clearing CONDEMNED is the *rescue*: a batch's release insists on
 * CONDEMNED, and fails.
 *
 * None of this needs a read-side section. Between the entry and the look at the word lies a full
 * barrier: so either whoever condemns the word and then scans the entries sees this entry, or this
 * process sees CONDEMNED. The model is models/references.pml.
 */
#ifndef FST_REFS_CLAIM_H
#define FST_REFS_CLAIM_H

#include "rcu/thread.h"
#include "region/region.h"

/* Claim a reference to (oid, generation). `handle`: it comes from a bare handle, so not if the
 * object was freed. FST_STALE, FST_FULL. *dropped becomes true when a failed attempt has left a
 * request to the reaper. */
int fst_claim(struct fst_thread *t, uint64_t oid, uint64_t generation, bool handle, uint32_t *entry, bool *dropped);

/* Claim the reference of a message. *took: its in-flight entry was still there, and is empty now;
 * otherwise the message counts as a bare handle, as for fst_claim. */
int fst_claim_message(struct fst_thread *t, const struct fst_message *m, uint32_t *entry, bool *took, bool *dropped);

/* Fail with FST_STALE, and a sentence about the handle. */
int fst_claim_stale(const struct fst_arena *a);

/* Set flags in the word of an object to which the caller has a reference. The result is the word
 * before. */
uint64_t fst_word_set(uint64_t *word, uint64_t flags);

#endif
