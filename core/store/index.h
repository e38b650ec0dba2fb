/* index.h - which item is a key's: a run of slots for each store, searched from where the key's
 * hash says.
 *
 * Under the store's lock for who changes it; who looks up takes none. A slot is one word, and what
 * it leads to is asked whether it is the key's: so a slot that leads to an item that is another
 * one's by now is as good as none. Slots come before their item's hold says HELD: what can be
 * looked up is found. A run that is too full is copied into one that is twice as long, which then
 * takes its place; who searched the old one meanwhile in vain finds that the descriptor says
 * another one, and searches again. A killed writer leaves a slot too many, or a run that is
 * reserved and not used; who takes the lock over counts anew.
 */
#ifndef FST_STORE_INDEX_H
#define FST_STORE_INDEX_H

#include "region/region.h"
#include "store/item.h"

/* A run of slots as its store says it. */
struct fst_index {
    uint64_t *slots;
    uint64_t size; /* a power of two; 0: none yet */
    uint64_t word; /* the descriptor's */
};

/* False: it leads nowhere, and the arena is damaged. */
bool fst_index_see(const struct fst_arena *a, const struct fst_store *s, struct fst_index *out);

/* A search for items of a hash: next of them, in order. Start with `at` and `steps` 0. */
struct fst_search {
    uint64_t hash, steps, at;
};
uint32_t fst_index_next(const struct fst_index *x, struct fst_search *search);

/* The item of the store that a slot leads to; FST_NONE: none, or one that is another key's by
 * now. */
uint32_t fst_index_item(const struct fst_arena *a, uint32_t store, const struct fst_index *x, uint64_t at);

/* All of these under the store's lock. There is room for one more. */
bool fst_index_roomy(const struct fst_store *s, const struct fst_index *x);
void fst_index_add(struct fst_store *s, const struct fst_index *x, uint64_t hash, uint32_t item);
/* The slot where a search has found its item. */
void fst_index_remove(struct fst_store *s, const struct fst_index *x, uint64_t at);
/* Count anew, after a take-over. */
void fst_index_recount(struct fst_arena *a, uint32_t store);

/* A longer run, or one without slots that lead nowhere. FST_WAIT: try again; *commit: slots to
 * commit before, without locks. */
int fst_index_grow(struct fst_arena *a, uint32_t store, uint64_t *commit);
int fst_index_commit(struct fst_arena *a, uint64_t slots);

#endif
