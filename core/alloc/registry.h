/* registry.h - descriptors of caches, children and groups, and the lists between them, under
 * superblock.names_lock.
 *
 * The descriptors' states, names and parameters are the truth. Derived from them, and rebuilt by
 * whoever gets the lock from a dead owner, are: free descriptors, the tables of names, each cache's
 * list of aliases, each cache's and each group's list of children, each group's list of groups, and
 * counts. A child is on the list of its cache and on that of its group from its creation until it
 * is released, so neither descriptor is reused before that; the same holds for a group and its
 * parent.
 */
#ifndef FST_ALLOC_REGISTRY_H
#define FST_ALLOC_REGISTRY_H

#include "region/lock.h"
#include "region/region.h"

/* Acquire names_lock. False: that took longer than this thread waits (region/lock.h), and nothing
 * has changed. */
bool fst_registry_lock(struct fst_arena *a) FST_TO_BE_HEEDED;
void fst_registry_unlock(struct fst_arena *a);

/* An unused descriptor of the table (FST_T_CACHE, FST_T_CHILD, FST_T_GROUP), which is still FREE.
 * FST_NONE: commit more (fst_registry_grow) and try again. Under names_lock. */
uint32_t fst_registry_new(struct fst_arena *a, enum fst_table_kind kind);
/* Load the descriptor that fst_registry_new will give into the processor's cache, so that the
 * section of the lock is short. Without locks. */
void fst_registry_expect(struct fst_arena *a, enum fst_table_kind kind);
/* Commit memory for one more descriptor. Without locks. FST_FULL, FST_OS. */
int fst_registry_grow(struct fst_arena *a, enum fst_table_kind kind);

/* Put a descriptor whose state has become FREE among the free ones. Under names_lock. */
void fst_registry_put(struct fst_arena *a, enum fst_table_kind kind, uint32_t index);

/* Put a child on the lists of its cache and group, or take it off; put a cache or group into the
 * tables of names and on the lists that its state asks for, or take a group off. All under
 * names_lock. `hash` is that of the group's name, which who opens it computes before the lock. */
void fst_registry_link_child(struct fst_arena *a, uint32_t child);
void fst_registry_unlink_child(struct fst_arena *a, uint32_t child);
void fst_registry_link_cache(struct fst_arena *a, uint32_t cache);
void fst_registry_link_group(struct fst_arena *a, uint32_t group, uint32_t hash);
void fst_registry_unlink_group(struct fst_arena *a, uint32_t group);

/* Take an ALIAS off the list of its body; its name is free then. Under names_lock. */
void fst_registry_unlink_alias(struct fst_arena *a, uint32_t alias);

/* May caches that are alike be merged with this one? */
bool fst_registry_mergeable(const struct fst_cache *c);

/* The hashes of the tables of names: of a name and its parent's index (0 for a cache), and of what
 * caches have to share to be merged. */
uint32_t fst_registry_hash_name(const char *name, uint32_t parent);
uint32_t fst_registry_hash_shape(uint64_t size, uint64_t align, const char *format);

/* Is the child that an id names LIVE? *state receives its state word. FST_CLOSED if not. Without
 * locks. */
int fst_registry_check_child(struct fst_arena *a, uint64_t child, uint64_t *state);

/* The ids of cache and group of a child, by its index. FST_INVALID when there is none. */
int fst_child_owner(struct fst_arena *a, uint32_t child, uint64_t *cache, uint64_t *group);

/* Put a group that has ended on the queue for a batch, behind the others. A group that a batch is
 * handling just now is queued again when that is over. Under names_lock. */
void fst_registry_queue_group(struct fst_arena *a, uint32_t group);

/* Put a cache that has ended, in this state, on the queue, after its children have ended: a batch
 * that came before that would find them alive, and nobody would look again. Under names_lock. After
 * a kill before it, the batch that buries the destroyer looks at everything. */
void fst_registry_queue_cache(struct fst_arena *a, uint32_t body, uint64_t state);

/* Finish what a killed close() or destroy() has begun: the states of groups and caches are the
 * truth. Under names_lock. */
void fst_registry_finish_endings(struct fst_arena *a);
/* Have the next batch go on with an end that has begun, as after a kill, because the lock took
 * longer than this thread waits. Without locks. */
void fst_registry_finish_later(struct fst_arena *a);

/* ---- ids that are given out: index | low generation << 32 ---- */

static inline uint64_t fst_id(uint32_t index, uint64_t state_word)
{
    return (uint64_t)(uint32_t)(state_word >> FST_STATE_GEN_SHIFT) << 32 | index;
}

static inline bool fst_id_is(uint64_t id, uint64_t state_word)
{
    return (uint32_t)(id >> 32) == (uint32_t)(state_word >> FST_STATE_GEN_SHIFT) && fst_state(state_word) != 0;
}

#endif
