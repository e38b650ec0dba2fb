/* reftable.h - this process's reference table: one 64-bit entry in shared memory for each object it
 * uses.
 *
 * Beside each entry the process keeps, in its own memory, how many owners (Blocks) share it and how
 * it is linked:
 *
 *   - Free entries are in the threads' small stacks and one pool. An entry that is EMPTY and in use
 *     by nobody is in exactly one.
 *   - An entry of an object that others may know is *indexed* by object id, so that the process has
 *     one entry for an object however often it resolves it, and takes back its own DROPPED entry
 *     instead of using another.
 *   - A DROPPED entry is *queued* here until the reaper has made it EMPTY; then it is free again.
 *
 * The mutex is process-local, held for nanoseconds, and never over anything that could run Python.
 * It is held over fork.
 */
#ifndef FST_REFS_REFTABLE_H
#define FST_REFS_REFTABLE_H

#include <pthread.h>

#include "rcu/thread.h"
#include "region/region.h"

/* Process-local companions of an entry: its word in fst_arena.counts, and a struct fst_local.
 *
 * The count says how many owners the entry has in this process; 0: the entry is not ours to
 * speak for. It is written under the mutex; an owner reads it without, and need not where the
 * word is neither HANDED nor SHARED: then it is the only one. A thread's free entry has 1
 * already, for whoever takes it next. */
#define FST_COUNT_INDEXED 0x80000000u
/* Two more: one of the owners is a forked child without a place in the arena (refs/heirs.h). */
#define FST_COUNT_KEPT(turn) (0x20000000u << (turn))
#define FST_COUNT_FLAGS      0xe0000000u

struct fst_local {
    uint64_t oid;        /* of the object it is indexed by: the entry itself may be EMPTY already */
    uint32_t next_index; /* chain of the index by object id */
    uint32_t next_queue;
    uint32_t queued;
    uint32_t pad;
};

struct fst_refs {
    pthread_mutex_t mutex; /* guards all below, and the counts of indexed entries */
    struct fst_local *local;
    uint32_t *pool; /* free entries */
    /* entries that both have room for: address space in proportion to what is used */
    uint32_t room;
    uint32_t pool_count;
    uint32_t top; /* entries ever used: the truth of what the process slot says to others */
    uint32_t *buckets;
    uint32_t queue_head, queue_tail; /* DROPPED entries, oldest first */
    uint32_t queue_length;
    /* queued since the reaper last set it to 0: an entry that comes and goes counts once */
    uint32_t fresh;
    uint32_t live; /* entries taken from the pool and not returned: about how many are in use */
    /* entries of all processes that the last batch of this one scanned: what the next costs.
     * Without the mutex */
    uint64_t all;
};

static inline uint32_t fst_refs_owners(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_relaxed(&a->counts[entry]) & ~FST_COUNT_FLAGS;
}

/* Does the entry have one owner alone? PAIR(last-owner). Not if it is indexed. */
static inline bool fst_refs_only_owner(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_acquire(&a->counts[entry]) == 1;
}

int fst_refs_create(struct fst_arena *a);
void fst_refs_destroy(struct fst_arena *a);

/* Does our process slot say as many entries as we have used? What it says, and how many. */
bool fst_refs_agree(struct fst_arena *a, uint32_t *says, uint32_t *used);

/* The entries of a process's table, for who does not hold the reaper's lock: in a read-side
 * section, because the batch that buries a process gives the table's memory back after a grace
 * period, and reading the hole would be an allocation, and SIGBUS where the file system is full.
 * PAIR(table). False: this thread has no slot, and may not look; the reason is its last error. */
struct fst_table_look {
    struct fst_thread *t;
    const uint64_t *entries;
    uint32_t top;
};
bool fst_refs_look(struct fst_arena *a, uint32_t slot, struct fst_table_look *look);
void fst_refs_looked(const struct fst_table_look *look);

/* The slots of living processes that have a LIVE entry for the object in its present life: up to
 * max; returns how many there are. */
size_t fst_refs_holders(struct fst_arena *a, uint64_t oid, uint32_t *processes, size_t max);

/* Fill the thread's stack of free entries. FST_FULL. */
int fst_refs_refill(struct fst_thread *t);
/* Return all of the thread's free entries to the pool, or half of them. */
void fst_refs_flush(struct fst_thread *t);
void fst_refs_spill(struct fst_thread *t);

/* An entry index that is free, for writing LIVE into; FST_NONE: none to be had (the reason is
 * the last error). */
static inline uint32_t fst_refs_reserve(struct fst_thread *t)
{
    if (__builtin_expect(t->entry_count == 0, 0) && fst_refs_refill(t) != FST_OK)
        return FST_NONE;
    return t->entries[--t->entry_count];
}

/* Back again, EMPTY. */
static inline void fst_refs_give(struct fst_thread *t, uint32_t entry)
{
    if (__builtin_expect(t->entry_count == FST_THREAD_ENTRIES, 0))
        fst_refs_spill(t);
    t->entries[t->entry_count++] = entry;
}

/* A LIVE entry for (oid, generation), counted once more: the one this process has, a DROPPED or
 * TAKEN one swung back, or a new one. What the caller looks at next, it sees as it is after
 * everybody can see the entry. FST_FULL. */
int fst_refs_get(struct fst_arena *a, struct fst_thread *t, uint64_t oid, uint64_t generation, uint32_t *entry);

/* One owner less; the last one turns LIVE into DROPPED, a request to the reaper: then true. Also
 * withdraws an attempt. */
bool fst_refs_drop(struct fst_arena *a, uint32_t entry);

/* An entry of ours that speaks of a past life of this group's descriptor, if there is one: a
 * destroyed group goes though processes have it open. FST_NONE. */
uint32_t fst_refs_find_past(struct fst_arena *a, uint64_t oid);

/* One owner more. */
void fst_refs_hold(struct fst_arena *a, uint32_t entry);

/* Set SHARED, unless the entry's object is gone: a private drop takes no mutex. */
bool fst_refs_mark_shared(struct fst_arena *a, uint64_t entry);

/* For the children that have flag `turn`: each object that we hold has an owner more, and is
 * SHARED, so that no thread frees it without asking. How many. Under the mutex. */
uint32_t fst_refs_keep(struct fst_arena *a, uint32_t turn);
/* Those children are gone: what was kept for them alone is let go of. True: something is DROPPED by
 * that. */
bool fst_refs_let_go(struct fst_arena *a, uint32_t turn);

/* Owners that are not such children. */
static inline uint32_t fst_refs_own_owners(const struct fst_arena *a, uint32_t entry)
{
    uint32_t count = fst_load_relaxed(&a->counts[entry]);
    return (count & ~FST_COUNT_FLAGS) - !!(count & FST_COUNT_KEPT(0)) - !!(count & FST_COUNT_KEPT(1));
}

/* In a forked child: take out of these what its table has not. What it has stays as it is. */
void fst_refs_rebuild(struct fst_arena *a);

/* Others may know the object from now on: make the entry findable. */
void fst_refs_index(struct fst_arena *a, uint32_t entry);

#endif
