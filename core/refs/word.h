/* word.h - object ids, object words, reference entries, handles: how the 64-bit words of the
 * protocol are put together.
 *
 * The protocol itself (who may change which word when) is in refs/claim.h.
 */
#ifndef FST_REFS_WORD_H
#define FST_REFS_WORD_H

#include "region/region.h"

/* ---- object ids ---- */

static inline uint64_t fst_oid(uint32_t slab_id, uint32_t object)
{
    return (uint64_t)slab_id << 9 | object;
}

static inline uint32_t fst_oid_slab(uint64_t oid)
{
    return (uint32_t)(oid >> 9);
}

static inline uint32_t fst_oid_object(uint64_t oid)
{
    return (uint32_t)(oid & 511u);
}

static inline uint64_t fst_oid_group(uint32_t group)
{
    return fst_oid(FST_SLAB_ID(FST_OID_GROUP, group), 0);
}

static inline bool fst_oid_is_group(uint64_t oid)
{
    return oid >> 36 == FST_OID_GROUP;
}

static inline uint32_t fst_oid_group_index(uint64_t oid)
{
    return FST_SLAB_ID_INDEX(fst_oid_slab(oid));
}

/* The object's word, or NULL when the id names nothing that ever was. For ids that come from
 * outside or from shared memory. */
static inline uint64_t *fst_word_of(const struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid)) {
        uint32_t index = fst_oid_group_index(oid);
        return fst_is_group(a, index) ? &fst_group_at(a, index)->word : NULL;
    }
    uint32_t id = fst_oid_slab(oid), class = FST_SLAB_ID_CLASS(id), object = fst_oid_object(oid);
    if (!fst_slab_id_ok(a, id) || object >= fst_slab_class_words[class])
        return NULL;
    return fst_slab_word(fst_slab_known(a, id), class, object);
}

/* ---- words ---- */

static inline uint64_t fst_word_gen(uint64_t word)
{
    return word >> FST_WORD_GEN_SHIFT;
}

static inline uint64_t fst_word_slack(uint64_t word)
{
    return (word & FST_WORD_SLACK) >> FST_WORD_SLACK_SHIFT;
}

/* Five bits that depend on the object's id, so that a word from elsewhere, or noise, is mostly
 * recognized. */
static inline uint64_t fst_word_check(uint64_t oid)
{
    return ((oid * 0x9e3779b97f4a7c15ull) >> 59) << FST_WORD_CHECK_SHIFT;
}

/* The word of the same object, free, in its next generation. */
static inline uint64_t fst_word_free(uint64_t word)
{
    return (word + FST_WORD_GEN1) & ~(FST_WORD_SLACK | FST_WORD_FLAGS);
}

/* ---- entries ---- */

static inline uint64_t fst_entry(uint64_t oid, uint64_t generation, enum fst_entry_state state)
{
    return (generation << FST_ENTRY_GEN_SHIFT) + (oid << 2) + (uint64_t)state;
}

static inline enum fst_entry_state fst_entry_state(uint64_t entry)
{
    return (enum fst_entry_state)(entry & FST_ENTRY_STATE);
}

#define FST_ENTRY_SLAB_SHIFT 11 /* above this bit lies the id of the object's slab */

static inline uint64_t fst_entry_oid(uint64_t entry)
{
    return entry >> 2 & FST_OID_MASK;
}

/* Does the entry speak of the object's present generation? Only the low 23 bits are compared: a
 * false yes does no more than delay a release. */
static inline bool fst_entry_matches(uint64_t entry, uint64_t word)
{
    return entry >> FST_ENTRY_GEN_SHIFT == (fst_word_gen(word) & ((1u << FST_ENTRY_GEN_BITS) - 1));
}

/* ---- handles ---- */

#define FST_HANDLE_TAG_SHIFT  40
#define FST_HANDLE_SLAB_SHIFT FST_OID_BITS

static inline uint64_t fst_handle_tag(const struct fst_arena *a)
{
    const uint8_t *u = a->known.uuid;
    return (uint64_t)u[0] | (uint64_t)u[1] << 8 | (uint64_t)u[2] << 16;
}

static inline uint64_t fst_handle_generation(const struct fst_handle *h)
{
    return h->generation_tag & ((1ull << FST_HANDLE_TAG_SHIFT) - 1);
}

static inline uint64_t fst_handle_oid(const struct fst_handle *h)
{
    return h->oid_slab & FST_OID_MASK;
}

#endif
