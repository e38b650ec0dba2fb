/* words.h - the words of what has ended, in a batch: condemned before its grace period, freed after
 * its scan.
 *
 * These are the words of all objects of ENDED children, and of ended groups; and the in-flight
 * entries of both end. The words of what was merely dropped go the same way, one at a time, in
 * reclaim/drops.c: the two swings are here for both. The model is models/references.pml.
 */
#ifndef FST_TEARDOWN_WORDS_H
#define FST_TEARDOWN_WORDS_H

#include "refs/scan.h"
#include "teardown/queue.h"

/* What a batch has freed and released, for people and for whoever waits. */
struct fst_released {
    uint64_t objects, bytes; /* objects whose words were swung to free, and their bytes */
    uint64_t children;       /* descriptors of child caches that became FREE */
    bool more;               /* something became empty that only another batch can give back */
};

/* Condemn an object, whose word was `seen`, and have the scan look for it. */
void fst_words_condemn_one(struct fst_scan *scan, uint64_t oid, uint64_t *word, uint64_t seen);

/* After the scan: swing the word to free if it is still CONDEMNED, because then nobody refers to
 * the object. True: it was; *bytes receives what the object took of its slab, 0 for a group. It is
 * also false where the scan has not looked for the object: a batch that was broken off may have
 * left a word CONDEMNED whose object somebody took from a message since, and whose group may have
 * been destroyed after this batch condemned. */
bool fst_words_release_one(struct fst_arena *a, const struct fst_scan *scan, uint64_t oid, uint64_t *word, uint64_t seen,
                           uint64_t *bytes);

/* Was the object's group or cache destroyed? */
bool fst_words_of_ended(struct fst_arena *a, uint64_t oid);

/* Steps 1 and 2 of a batch, for what has ended: splice it into *ended, condemn its words, and add
 * to *condemned how many words the scan has to look for. `all`: the last batch was broken off.
 * False: nothing has ended. */
bool fst_words_condemn(struct fst_arena *a, bool all, struct fst_ended *ended, struct fst_scan *scan, uint64_t *condemned);

/* Step 5 of a batch, for one child or group of *ended: free what is still CONDEMNED. No memory is
 * given back yet. */
void fst_words_release_child(struct fst_arena *a, const struct fst_scan *scan, uint32_t child, struct fst_released *r);
void fst_words_release_group(struct fst_arena *a, const struct fst_scan *scan, uint32_t group, struct fst_released *r);

#endif
