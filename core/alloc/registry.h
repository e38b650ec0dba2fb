/* registry.h - descriptors of caches, children and groups, and the lists between them, under
 * superblock.names_lock.
 *
 * The descriptors' states, names and parameters are the truth. Derived from them, and rebuilt by
 * whoever gets the lock from a dead owner: free descriptors, the tables of names, each cache's list
 * of aliases, each cache's and each group's list of children, each group's list of groups, counts.
 * A child is on the list of its cache and of its group from its creation until it is released, so
 * neither descriptor is reused before; the same for a group and its parent.
 */
#ifndef FST_ALLOC_REGISTRY_H
#define FST_ALLOC_REGISTRY_H

#include "region/lock.h"
#include "region/region.h"

/* False: not in time (region/lock.h), and nothing has changed. */
bool fst_registry_lock(struct fst_arena *a) FST_TO_BE_HEEDED;
void fst_registry_unlock(struct fst_arena *a);

/* An unused descriptor of the table (FST_T_CACHE, FST_T_CHILD, FST_T_GROUP), still FREE;
 * FST_NONE: commit more and try again. */
uint32_t fst_registry_new(struct fst_arena *a, enum fst_table_kind kind);
/* It will be wanted in a moment, under the lock: have it in the cache by then. Without locks. */
void fst_registry_expect(struct fst_arena *a, enum fst_table_kind kind);
/* Commit memory for one descriptor more. Without locks. FST_FULL. */
int fst_registry_grow(struct fst_arena *a, enum fst_table_kind kind);

/* The descriptor's state became FREE: reusable from now on. */
void fst_registry_put(struct fst_arena *a, enum fst_table_kind kind, uint32_t index);

/* All of these under the lock. A cache, a group: into the tables of names and the lists that its
 * state says. */
void fst_registry_link_child(struct fst_arena *a, uint32_t child);
void fst_registry_unlink_child(struct fst_arena *a, uint32_t child);
void fst_registry_link_cache(struct fst_arena *a, uint32_t cache);
void fst_registry_link_group(struct fst_arena *a, uint32_t group);
void fst_registry_unlink_group(struct fst_arena *a, uint32_t group);

/* An ALIAS: off the list of its body, and its name is free. */
void fst_registry_unlink_alias(struct fst_arena *a, uint32_t alias);

/* May caches that are alike be merged with this one? */
bool fst_registry_mergeable(const struct fst_cache *c);

/* Hashes of the tables of names. */
uint32_t fst_registry_hash_name(const char *name, uint32_t parent);
uint32_t fst_registry_hash_shape(uint64_t size, uint64_t align, const char *format);

/* Is the child that an id names alive? *state: its state word then. FST_CLOSED. Without locks. */
int fst_registry_check_child(struct fst_arena *a, uint64_t child, uint64_t *state);

/* Cache and group of a child, by its index: ids. FST_INVALID when it is gone. */
int fst_child_owner(struct fst_arena *a, uint32_t child, uint64_t *cache, uint64_t *group);

/* Put a group that has ended on the queue for a batch, behind the others; where a batch has it
 * in hand just now, it is queued again when that is over. */
void fst_registry_queue_group(struct fst_arena *a, uint32_t group);

/* Put a cache that has ended, in this state, on the queue, when its children have ended too: a
 * batch that came before would find them alive, and nobody would look again. Under names_lock.
 * Killed before: the batch that buries the destroyer looks at everything. */
void fst_registry_queue_cache(struct fst_arena *a, uint32_t body, uint64_t state);

/* Finish what a killed close() or destroy() has begun: the states of groups and caches are the
 * truth. Under the lock. */
void fst_registry_finish_endings(struct fst_arena *a);
/* The lock could not be had to go on with an end that has begun: the next batch goes on, as
 * after a kill. Under no lock. */
void fst_registry_finish_later(struct fst_arena *a);

/* ---- ids given out: index | low generation << 32 ---- */

static inline uint64_t fst_id(uint32_t index, uint64_t state_word)
{
    return (uint64_t)(uint32_t)(state_word >> FST_STATE_GEN_SHIFT) << 32 | index;
}

static inline bool fst_id_is(uint64_t id, uint64_t state_word)
{
    return (uint32_t)(id >> 32) == (uint32_t)(state_word >> FST_STATE_GEN_SHIFT) && fst_state(state_word) != 0;
}

#endif
