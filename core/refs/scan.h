/* scan.h - which of the condemned objects does somebody still refer to? Step 4 of a batch
 * (reclaim/batch.h).
 *
 * It looks at every in-flight entry and every entry of every process, and takes CONDEMNED away
 * where one speaks of an object of ours. Nearly none does: so a filter by slab, in this process's
 * own memory, says of most entries at once that they do not, and the entries' own bits are its
 * index. That makes it a load, a load from the processor's nearest cache and a test for each entry.
 *
 * Killed in here: some words are not CONDEMNED any more. The next batch begins again over
 * everything.
 */
#ifndef FST_REFS_SCAN_H
#define FST_REFS_SCAN_H

#include "refs/word.h"
#include "region/region.h"

#define FST_SCAN_WORDS 1024u /* of the filter: 8 KiB, a quarter of the nearest cache */
/* words of it that are cleared one by one: all of it is more than a small batch looks at */
#define FST_SCAN_FEW 64u

struct fst_scan {
    /* bit: a slab of which an object is looked for has this low part of its id */
    uint64_t filter[FST_SCAN_WORDS];
    uint32_t used; /* words of it that are not 0; the first of them: */
    uint16_t words[FST_SCAN_FEW];
};

/* Look for nothing. */
void fst_scan_begin(struct fst_scan *s);

/* Look for this object. */
void fst_scan_for(struct fst_scan *s, uint64_t oid);

/* Bit 0: an object of this slab may be looked for. `slab` may have other bits above the id. */
static inline uint64_t fst_scan_bits(const struct fst_scan *s, uint64_t slab)
{
    return s->filter[slab / 64 % FST_SCAN_WORDS] >> (slab % 64);
}

static inline bool fst_scan_has(const struct fst_scan *s, uint64_t oid)
{
    return fst_scan_bits(s, fst_oid_slab(oid)) & 1;
}

/* Somebody else than processes and in-flight entries refers to this object, in whatever generation:
 * take CONDEMNED away, if the scan looks for it. Before fst_scan: references move towards
 * processes. */
void fst_scan_keep(struct fst_arena *a, const struct fst_scan *s, uint64_t oid);

/* Take CONDEMNED away from what is referred to. After the objects were condemned, a fence and a
 * grace period. False: a process's references could not be looked at, and nothing may be released;
 * the reason is the last error. */
bool fst_scan(struct fst_arena *a, const struct fst_scan *s);

#endif
