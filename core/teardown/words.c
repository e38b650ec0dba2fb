#include "teardown/words.h"

#include "alloc/debug.h"
#include "alloc/lists.h"
#include "platform/atomics.h"
#include "refs/inflight.h"
#include "refs/word.h"

/* ---- one word ---- */

void fst_words_condemn_one(struct fst_scan *scan, uint64_t oid, uint64_t *word, uint64_t seen)
{
    while ((seen & FST_WORD_ALLOCATED) && !(seen & FST_WORD_CONDEMNED))
        if (fst_cas64(word, &seen, seen | FST_WORD_CONDEMNED))
            break;
    fst_scan_for(scan, oid);
}

/* How many bytes the object takes of its slab; of an object without a common size, what was asked
 * for. The caller asks before the word is free, because after that the slab may belong to something
 * else. *debugged: the object's cache is debugged. */
static uint64_t bytes_of(const struct fst_arena *a, uint64_t oid, bool *debugged)
{
    uint32_t id = fst_oid_slab(oid);
    *debugged = false;
    if (FST_SLAB_ID_CLASS(id) >= FST_SLAB_CLASSES)
        return 0; /* a group */
    const struct fst_slab *s = fst_slab_at(a, id);
    uint32_t child = fst_load_relaxed(&s->child);
    uint64_t asked = fst_load_relaxed(&s->asked);
    if (!fst_is_child(a, child))
        return asked;
    const struct fst_child *c = fst_child_at(a, child);
    *debugged = c->flags & FST_CACHE_DEBUG;
    return asked ? asked : c->stride;
}

/* Swing the word to free if it is still CONDEMNED. The scan has looked for the object. */
static bool free_condemned(uint64_t *word, uint64_t seen)
{
#ifdef FST_MUTANT_RELEASE_UNCONDEMNED
    while ((seen & FST_WORD_ALLOCATED))
#else
    while ((seen & FST_WORD_ALLOCATED) && (seen & FST_WORD_CONDEMNED))
#endif
        if (fst_cas64(word, &seen, fst_word_free(seen)))
            return true;
    return false;
}

bool fst_words_release_one(struct fst_arena *a, const struct fst_scan *scan, uint64_t oid, uint64_t *word, uint64_t seen,
                           uint64_t *bytes)
{
    bool debugged;
    *bytes = 0;
    if (!fst_scan_has(scan, oid))
        return false;
    *bytes = bytes_of(a, oid, &debugged);
    return __builtin_expect(debugged, 0) ? fst_debug_release(a, oid, word) : free_condemned(word, seen);
}

/* ---- all words of a child ---- */

/* What a visit to the words is for. */
struct visit {
    struct fst_arena *a;
    struct fst_scan *condemn;       /* condemn the words, and have this scan look for them; */
    const struct fst_scan *release; /* or free those that this scan has looked for */
    struct fst_released *released;
    uint64_t condemned;
};

static void visit_word(struct visit *v, uint64_t oid, uint64_t *word, uint64_t seen)
{
    uint64_t bytes;
    if (v->condemn) {
        fst_words_condemn_one(v->condemn, oid, word, seen);
        v->condemned++;
    } else if (fst_words_release_one(v->a, v->release, oid, word, seen, &bytes)) {
        v->released->objects++;
        v->released->bytes += bytes;
    }
}

static void visit_slab(struct visit *v, uint32_t id, uint32_t child)
{
    struct fst_slab *s = fst_slab_at(v->a, id);
    uint32_t class = FST_SLAB_ID_CLASS(id);
    for (uint32_t k = 0; k < fst_slab_objects(s, class); k++) {
        uint64_t *word = fst_slab_word(s, class, k);
        uint64_t seen = fst_load_acquire(word);
        if (fst_load_relaxed(&s->child) != child || fst_state(fst_load_acquire(&s->state)) != FST_SLAB_LIVE)
            return; /* the slab became empty and was given back */
        if (seen & FST_WORD_ALLOCATED)
            visit_word(v, fst_oid(id, k), word, seen);
    }
}

#define SLABS 1024u /* slabs of a child that are noted before they are visited */

/* Visit every allocated word of a child, if it was destroyed; those of an OFFLINE child live on. A
 * drop elsewhere may give an empty slab back meanwhile, so the ids are noted first. The slabs of a
 * child with very many are found through all descriptors instead. */
static void visit_child(struct visit *v, uint32_t child)
{
    struct fst_arena *a = v->a;
    if (fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) != FST_CHILD_ENDED)
        return;
    if (fst_child_at(a, child)->flags & FST_CACHE_CHANNELS)
        return; /* the rings of channels go when their nodes refer to nothing: reclaim/letters.h */
    uint32_t ids[SLABS], n = fst_lists_ids(a, child, ids, SLABS);
    for (uint32_t i = 0; i < n && n <= SLABS; i++)
        visit_slab(v, ids[i], child);
    for (uint32_t class = 0; n > SLABS && class < FST_SLAB_CLASSES; class ++)
        for (uint32_t i = 0; i < fst_slab_top(a, class); i++)
            if (fst_load_relaxed(&fst_slab_at(a, FST_SLAB_ID(class, i))->child) == child)
                visit_slab(v, FST_SLAB_ID(class, i), child);
}

/* ---- condemning ---- */

bool fst_words_of_ended(struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return fst_state(fst_load_acquire(&fst_group_at(a, fst_oid_group_index(oid))->state)) == FST_GROUP_DESTROYED;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) && fst_state(fst_load_acquire(&fst_child_at(a, child)->state)) == FST_CHILD_ENDED;
}

/* End the in-flight entries of what was destroyed. A taker that was quicker is in its table
 * already; one that was slower has a bare handle. */
static void end_inflight(struct fst_arena *a)
{
    uint32_t top = fst_inflight_top(a);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = fst_load_acquire(&fst_inflight_at(a, i)->word);
        uint64_t oid = fst_inflight_oid(word);
#ifdef FST_MUTANT_NO_REVOKE
        continue;
#endif
        if ((word & FST_INFLIGHT_LIVE) && fst_word_of(a, oid) && fst_words_of_ended(a, oid))
            fst_inflight_give_up(a, i, word, FST_INFLIGHT_DESTROYED);
    }
}

bool fst_words_condemn(struct fst_arena *a, bool all, struct fst_ended *ended, struct fst_scan *scan, uint64_t *condemned)
{
    if (!fst_queue_splice(a, all, ended))
        return false;
    fst_store_relaxed(&a->sb->batch_groups, ended->n_groups); /* for people */
    struct visit v = {.a = a, .condemn = scan};
    struct fst_ended_children children = {.a = a, .ended = ended};
    struct fst_ended_groups groups = {.a = a, .ended = ended};
    for (uint32_t child; (child = fst_ended_next_child(&children)) != FST_NONE;)
        visit_child(&v, child);
    for (uint32_t group; (group = fst_ended_next_group(&groups)) != FST_NONE;) {
        uint64_t *word = &fst_group_at(a, group)->word;
        uint64_t seen = fst_load_acquire(word);
        if (seen & FST_WORD_ALLOCATED)
            visit_word(&v, fst_oid_group(group), word, seen);
    }
    end_inflight(a);
    *condemned += v.condemned;
    return true;
}

/* ---- freeing ---- */

void fst_words_release_child(struct fst_arena *a, const struct fst_scan *scan, uint32_t child, struct fst_released *r)
{
    struct visit v = {.a = a, .release = scan, .released = r};
    if (scan->used)
        visit_child(&v, child);
}

void fst_words_release_group(struct fst_arena *a, const struct fst_scan *scan, uint32_t group, struct fst_released *r)
{
    uint64_t *word = &fst_group_at(a, group)->word;
    if (fst_scan_has(scan, fst_oid_group(group)) && free_condemned(word, fst_load_acquire(word)))
        r->objects++;
}
