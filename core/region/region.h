/* region.h - this process's view of an arena: where its tables are mapped, and what the process keeps beside them.
 *
 * struct fst_arena is process-local memory. What upper layers keep in it is behind pointers to their own types.
 */
#ifndef FST_REGION_REGION_H
#define FST_REGION_REGION_H

#include <stdbool.h>
#include <stdint.h>

#include "region/layout.h"

struct fst_thread; /* rcu/thread.h: this process's threads */
struct fst_refs;   /* refs/reftable.h: private counts, free entries, index of shared objects */
struct fst_reaper; /* reclaim/reaper.h: the reaper thread */
struct fst_batch;  /* reclaim/batch.h: what a batch run by this process remembers */

struct fst_arena {
    struct fst_superblock *sb; /* the control region's start */
    uint8_t *data;
    uint8_t *table[FST_T_COUNT]; /* mapped address of each table */
    uint64_t capacity_pages;
    int fd;      /* data descriptor */
    int lock_fd; /* carries this process's liveness locks and nothing else */
    bool readonly;
    bool synchronous;  /* see fst_destroy_synchronously */
    bool usable;       /* false in a forked child that could not be given a slot */
    uint32_t slot;     /* our process slot */
    uint32_t slot_low; /* its generation's low bits, as they stand in lock words */
    struct fst_process *self;
    struct fst_thread *threads; /* under fst_local_mutex */
    struct fst_refs *refs;
    uint64_t *entries; /* this process's reference entries */
    uint32_t *counts;  /* beside each: see refs/reftable.h */
    struct fst_reaper *reaper;
    struct fst_batch *batch;
    uint32_t references;    /* of the process to this attachment */
    struct fst_arena *next; /* list of attachments */
    uint64_t device, inode; /* identity of the file */
    char path[256];
};

/* ---- state words of slabs, caches, children, groups and processes: state:4 | 12 bits | generation:48 (layout.h) ---- */

static inline uint32_t fst_state(uint64_t word)
{
    return (uint32_t)(word & 15u);
}

static inline uint64_t fst_state_moved(uint64_t word, uint32_t state)
{
    return (word & ~15ull) | state;
}

/* The next life of a descriptor: generation + 1. */
static inline uint64_t fst_state_next(uint64_t word, uint32_t state)
{
    return (((word >> FST_STATE_GEN_SHIFT) + 1) << FST_STATE_GEN_SHIFT) | state;
}

/* Descriptors by index. The caller has checked the index against the table's bound (`..._top`). */
static inline struct fst_process *fst_process_at(const struct fst_arena *a, uint32_t slot)
{
    return (struct fst_process *)(void *)a->table[FST_T_PROCESS] + slot;
}

static inline struct fst_thread_slot *fst_thread_slot_at(const struct fst_arena *a, uint32_t slot)
{
    return (struct fst_thread_slot *)(void *)a->table[FST_T_THREAD] + slot;
}

static inline uint64_t *fst_entries_of(const struct fst_arena *a, uint32_t slot)
{
    return (uint64_t *)(void *)a->table[FST_T_ENTRY] + (uint64_t)slot * FST_MAX_ENTRIES;
}

static inline struct fst_inflight *fst_inflight_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_inflight *)(void *)a->table[FST_T_INFLIGHT] + index;
}

static inline struct fst_cache *fst_cache_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_cache *)(void *)a->table[FST_T_CACHE] + index;
}

static inline struct fst_child *fst_child_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_child *)(void *)a->table[FST_T_CHILD] + index;
}

static inline struct fst_group *fst_group_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_group *)(void *)a->table[FST_T_GROUP] + index;
}

static inline struct fst_cgroup *fst_cgroup_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_cgroup *)(void *)a->table[FST_T_CGROUP] + index;
}

static inline struct fst_zone *fst_zone_at(const struct fst_arena *a, uint32_t index)
{
    return (struct fst_zone *)(void *)a->table[FST_T_ZONE] + index;
}

/* Bytes of a slab descriptor of the class, its words included. */
static inline uint32_t fst_slab_bytes(uint32_t class)
{
    return (uint32_t)sizeof(struct fst_slab) + ((uint32_t)fst_slab_class_words[class] << fst_slab_class_shift[class]);
}

static inline struct fst_slab *fst_slab_at(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = FST_SLAB_ID_CLASS(id);
    return (struct fst_slab *)(void *)(a->table[FST_T_SLAB + class] + (uint64_t)FST_SLAB_ID_INDEX(id) * fst_slab_bytes(class));
}

/* Does the id name a descriptor that was ever used? For ids that come from outside. */
static inline bool fst_slab_id_ok(const struct fst_arena *a, uint32_t id)
{
    uint32_t class = FST_SLAB_ID_CLASS(id);
    return class < FST_SLAB_CLASSES && FST_SLAB_ID_INDEX(id) < __atomic_load_n(&a->sb->slab_top[class], __ATOMIC_ACQUIRE);
}

static inline uint64_t *fst_slab_word(struct fst_slab *slab, uint32_t class, uint32_t object)
{
    return (uint64_t *)(void *)((uint8_t *)(slab + 1) + ((uint64_t)object << fst_slab_class_shift[class]));
}

static inline uint64_t fst_pages_of(uint64_t bytes)
{
    return (bytes + FST_PAGE - 1) >> FST_PAGE_SHIFT;
}

#endif
