/* scan.h - which of the condemned objects does somebody still refer to?
 *
 * This is a step of a batch (reclaim/batch.h). It looks at every in-flight entry and every entry of
 * every process, and takes CONDEMNED away where one speaks of an object that is looked for. Nearly
 * none does: so a filter by slab, in this process's own memory, says at once of most entries that
 * they do not, with the entries' own bits as its index. For each entry that makes a load, a load
 * from the processor's nearest cache, and a test.
 *
 * A kill in here leaves some words that are not CONDEMNED any more. The next batch begins again
 * over everything.
 */
#ifndef FST_REFS_SCAN_H
#define FST_REFS_SCAN_H

#include "refs/word.h"
#include "region/region.h"

#define FST_SCAN_WORDS 1024u /* words of the filter: 8 KiB, a quarter of the nearest cache */
/* A filter with up to so many words in use is cleared word by word: the whole filter is more than a
 * small batch looks at. */
#define FST_SCAN_FEW 64u

struct fst_scan {
    /* bit: an object is looked for whose slab has these low bits in its id */
    uint64_t filter[FST_SCAN_WORDS];
    uint32_t used; /* how many words of the filter are not 0; the first of them are in `words` */
    uint16_t words[FST_SCAN_FEW];
};

/* Look for nothing. */
void fst_scan_begin(struct fst_scan *s);

/* Look for this object from now on. */
void fst_scan_for(struct fst_scan *s, uint64_t oid);

/* Bit 0 of the result says that an object of this slab may be looked for. `slab` may have other
 * bits above the id. */
static inline uint64_t fst_scan_bits(const struct fst_scan *s, uint64_t slab)
{
    return s->filter[slab / 64 % FST_SCAN_WORDS] >> (slab % 64);
}

static inline bool fst_scan_has(const struct fst_scan *s, uint64_t oid)
{
    return fst_scan_bits(s, fst_oid_slab(oid)) & 1;
}

/* Note that something beside processes and in-flight entries refers to this object, in whatever
 * generation: take CONDEMNED away, if the scan looks for the object. This comes before fst_scan,
 * because references move from there towards processes. */
void fst_scan_keep(struct fst_arena *a, const struct fst_scan *s, uint64_t oid);

/* Take CONDEMNED away from everything that is referred to. This comes after the objects were
 * condemned, a fence, and a grace period. `looks`: how many this batch took elsewhere, for what the
 * next one costs (fst_refs.all). False: the references of a process could not be looked at, so
 * nothing may be released; the reason is the last error. */
bool fst_scan(struct fst_arena *a, const struct fst_scan *s, uint64_t looks);

#endif
