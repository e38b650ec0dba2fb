/* index.h - which item a key belongs to: a run of slots for each store, searched from where the
 * key's hash says.
 *
 * Whoever changes the index holds the store's lock; whoever looks up needs none. A slot is one
 * word. The item to which it leads is asked whether it is the key's, so a slot whose item belongs
 * to another key by now does no harm. A slot is written before its item's hold says HELD, so
 * whatever can be looked up is found.
 *
 * A run that is too full is copied into one that is twice as long, which then replaces it. Whoever
 * searched the old run meanwhile, in vain, finds that the descriptor names another one, and
 * searches again. A killed writer leaves a slot too many, or a run that is reserved and not used;
 * whoever takes the lock over counts anew.
 */
#ifndef FST_STORE_INDEX_H
#define FST_STORE_INDEX_H

#include "region/region.h"
#include "store/item.h"

/* A run of slots, as its store's descriptor says it. */
struct fst_index {
    uint64_t *slots;
    uint64_t size; /* a power of two; 0: none yet */
    uint64_t word; /* the descriptor's word `index` */
};

/* See the store's run. False: it leads beyond the table, and the arena is damaged. */
bool fst_index_see(const struct fst_arena *a, const struct fst_store *s, struct fst_index *out);

/* A search for items of a hash: each call returns the next one, in order, and FST_NONE at the end.
 * `at` and `steps` are 0 at first; `at` is then the slot. */
struct fst_search {
    uint64_t hash, steps, at;
};
uint32_t fst_index_next(const struct fst_index *x, struct fst_search *search);

/* The item of the store to which a slot leads. FST_NONE: none, or one that belongs to another key
 * by now. */
uint32_t fst_index_item(const struct fst_arena *a, uint32_t store, const struct fst_index *x, uint64_t at);

/* Is there room for one more slot? The functions from here on are called under the store's lock. */
bool fst_index_roomy(const struct fst_store *s, const struct fst_index *x);
void fst_index_add(struct fst_store *s, const struct fst_index *x, uint64_t hash, uint32_t item);
/* Remove the slot `at`, where a search has found its item. */
void fst_index_remove(struct fst_store *s, const struct fst_index *x, uint64_t at);
/* Count slots and keys anew, after a take-over. */
void fst_index_recount(struct fst_arena *a, uint32_t store);

/* Replace the run by a longer one, or by one without slots that lead nowhere. FST_WAIT: commit so
 * many slots (fst_index_commit, without locks) and try again. */
int fst_index_grow(struct fst_arena *a, uint32_t store, uint64_t *commit);
int fst_index_commit(struct fst_arena *a, uint64_t slots);

#endif
