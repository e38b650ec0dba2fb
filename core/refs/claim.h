/* claim.h - how a process comes to a reference: the protocol of entries and words.
 *
 *   allocate       entry LIVE with the generation to be; swing the word from free to ALLOCATED:
 *                  arena/object.c
 *   give           set HANDED before anybody is given a handle, SHARED before a message:
 *                  arena/object.c
 *   hold           set HANDED, then one owner more: arena/object.c
 *   resolve        entry LIVE; swing the word, HANDED or SHARED, to SHARED without CONDEMNED:
 *                  fst_claim
 *   take           entry LIVE; swing the in-flight entry to empty, else as resolve:
 *                  fst_claim_message
 *   drop, private  exactly ALLOCATED: store free, generation + 1; with HANDED: swing it; entry
 *                  EMPTY: arena/object.c
 *   drop, shared   entry DROPPED: fst_refs_drop
 *
 * The entry comes first, always: whoever is killed between the two leaves an entry that speaks of
 * nothing, never an object that nobody speaks for. An attempt that failed is withdrawn to DROPPED
 * and never to EMPTY: a batch may have counted the entry and let its own candidate go, so somebody
 * has to ask again. Clearing CONDEMNED is the *rescue*: a batch's release insists on it and fails.
 * None of this needs a read-side section: between the entry and the look at the word lies a full
 * barrier, so that whoever condemns the word and then scans the entries sees ours, or we see
 * CONDEMNED. models/references.pml.
 */
#ifndef FST_REFS_CLAIM_H
#define FST_REFS_CLAIM_H

#include "rcu/thread.h"
#include "region/region.h"

/* A reference to (oid, generation). `handle`: from a bare handle, so not if the object was
 * freed. FST_STALE, FST_FULL. *dropped becomes true when a failed attempt left a request to the
 * reaper. */
int fst_claim(struct fst_thread *t, uint64_t oid, uint64_t generation, bool handle, uint32_t *entry, bool *dropped);

/* A reference from a message; its in-flight entry becomes empty: then *took. As fst_claim with a
 * handle when it was taken before. */
int fst_claim_message(struct fst_thread *t, const struct fst_message *m, uint32_t *entry, bool *took, bool *dropped);

/* FST_STALE, with a sentence. */
int fst_claim_stale(const struct fst_arena *a);

/* Set flags in the word of an object that the caller has a reference to. Returns the word
 * before. */
uint64_t fst_word_set(uint64_t *word, uint64_t flags);

#endif
