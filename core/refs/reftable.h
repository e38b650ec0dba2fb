/* reftable.h - this process's reference table: one 64-bit entry in shared memory for each object
 * that the process uses.
 *
 * Beside each entry the process keeps, in its own memory, how many owners (Blocks, for instance)
 * share the entry, and how it is linked:
 *
 *   - Free entries are in the threads' small stacks and in one pool. An entry that is EMPTY and in
 *     use by nobody is in exactly one of these.
 *   - An entry of an object that others may know is *indexed* by object id, so that the process has
 *     one entry for an object however often it resolves it, and takes back its own DROPPED entry
 *     instead of using another.
 *   - A DROPPED entry is *queued* until the reaper has made it EMPTY; then it is free again.
 *
 * While the process lives, only it and the reaper write its entries; the reaper moves DROPPED ones
 * on to TAKEN and EMPTY. A kill leaves the entries as they are: the batch that buries the process
 * counts its LIVE ones as dropped (reclaim/drops.h).
 *
 * The mutex is process-local, held for nanoseconds, and never over anything that could run Python.
 * It is held over fork.
 */
#ifndef FST_REFS_REFTABLE_H
#define FST_REFS_REFTABLE_H

#include <pthread.h>

#include "rcu/thread.h"
#include "region/region.h"

/* Each entry has a word of fst_arena.counts and a struct fst_local beside it, in this process's
 * memory.
 *
 * The word counts the owners that the entry has in this process; 0: none, so the process does not
 * hold the object by it. The count is written under the mutex, and read by owners without it. Where
 * the object's word is neither HANDED nor SHARED, an owner need not read it: it is the only one. A
 * free entry in a thread's stack has a count of 1 already, for whoever reserves it next. */
#define FST_COUNT_INDEXED 0x80000000u
/* One of the owners stands for forked children without a place in the arena (refs/heirs.h); there
 * are two flags, for turns 0 and 1. */
#define FST_COUNT_KEPT(turn) (0x20000000u << (turn))
#define FST_COUNT_FLAGS      0xe0000000u

struct fst_local {
    /* of the object by which the entry is indexed: the entry itself may be EMPTY already */
    uint64_t oid;
    uint32_t next_index; /* entry + 1 of the next one in the same bucket of the index; 0: none */
    uint32_t next_queue; /* the next queued entry; FST_NONE: none */
    uint32_t queued;     /* 1: it is queued */
    uint32_t pad;
};

/* What a process keeps of all its entries. */
struct fst_refs {
    pthread_mutex_t mutex;   /* guards all below, and the counts of indexed entries */
    struct fst_local *local; /* by entry */
    uint32_t *pool;          /* free entries */
    /* entries for which `local` and `pool` have room: address space in proportion to what is
     * used */
    uint32_t room;
    uint32_t pool_count;
    uint32_t top;                    /* entries ever used; the process slot says so to others */
    uint32_t *buckets;               /* of the index: entry + 1 of the first one; 0: none */
    uint32_t queue_head, queue_tail; /* DROPPED entries, oldest first */
    uint32_t queue_length;
    /* entries queued since the reaper last set this to 0; one that comes and goes counts once */
    uint32_t fresh;
    uint32_t live; /* entries that have left the pool: about how many are in use */
    /* how many looks this process's last batch took, at entries of all processes and at what stores
     * and channels hold, which is about what the next one costs; written without the mutex */
    uint64_t all;
};

/* How many owners does the entry have, children without a place included? */
static inline uint32_t fst_refs_owners(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_relaxed(&a->counts[entry]) & ~FST_COUNT_FLAGS;
}

/* Does the entry have one owner alone, and is it not indexed? PAIR(last-owner) */
static inline bool fst_refs_only_owner(const struct fst_arena *a, uint32_t entry)
{
    return fst_load_acquire(&a->counts[entry]) == 1;
}

/* Make and unmap what the process keeps of its entries. FST_FULL, FST_OS. */
int fst_refs_create(struct fst_arena *a);
void fst_refs_destroy(struct fst_arena *a);

/* Does this process's slot say as many entries as the process has used? *says receives what the
 * slot says, *used how many were used. */
bool fst_refs_agree(struct fst_arena *a, uint32_t *says, uint32_t *used);

/* Look at the entries of any process's table without the reaper's lock: from fst_refs_look to
 * fst_refs_looked the thread is in a read-side section. It has to be, because the batch that buries
 * a process gives the table's memory back after a grace period; to read a hole would be an
 * allocation, and SIGBUS where the file system is full. PAIR(table). False: this thread has no
 * slot, or the table cannot be mapped, so it may not look; the reason is its last error. */
struct fst_table_look {
    struct fst_thread *t;
    const uint64_t *entries;
    uint32_t top;
};
bool fst_refs_look(struct fst_arena *a, uint32_t slot, struct fst_table_look *look);
void fst_refs_looked(const struct fst_table_look *look);

/* Fill in the slots of living processes that have a LIVE entry for the object in its present life,
 * up to max. The result is how many there are. */
size_t fst_refs_holders(struct fst_arena *a, uint64_t oid, uint32_t *processes, size_t max);

/* Reserve some free entries for the thread's stack, which is empty. FST_FULL. */
int fst_refs_refill(struct fst_thread *t);
/* Give the thread's free entries back to the pool: fst_refs_flush all of them, fst_refs_spill half
 * of a full stack. */
void fst_refs_flush(struct fst_thread *t);
void fst_refs_spill(struct fst_thread *t);

/* Reserve a free entry, into which the caller may write LIVE; FST_NONE: there is none, and the
 * reason is the last error. */
static inline uint32_t fst_refs_reserve(struct fst_thread *t)
{
    if (__builtin_expect(t->entry_count == 0, 0) && fst_refs_refill(t) != FST_OK)
        return FST_NONE;
    return t->entries[--t->entry_count];
}

/* Give back an entry that was reserved; it is EMPTY. */
static inline void fst_refs_give(struct fst_thread *t, uint32_t entry)
{
    if (__builtin_expect(t->entry_count == FST_THREAD_ENTRIES, 0))
        fst_refs_spill(t);
    t->entries[t->entry_count++] = entry;
}

/* Count one more owner of a LIVE entry for (oid, generation): the entry that this process has, a
 * DROPPED or TAKEN one of its own that is swung back, or a new one. What the caller looks at next,
 * it sees as it is after everybody can see the entry. FST_FULL. */
int fst_refs_get(struct fst_arena *a, struct fst_thread *t, uint64_t oid, uint64_t generation, uint32_t *entry);

/* Count one owner of the entry less. True: it was the last one, and LIVE has become DROPPED, which
 * is a request to the reaper. An attempt that failed is withdrawn in the same way. */
bool fst_refs_drop(struct fst_arena *a, uint32_t entry);

/* Find an entry of this process that speaks of a past life of this group's descriptor: a destroyed
 * group goes although processes have it open. FST_NONE: there is no such entry. */
uint32_t fst_refs_find_past(struct fst_arena *a, uint64_t oid);

/* Count one owner of the entry more. */
void fst_refs_hold(struct fst_arena *a, uint32_t entry);

/* Set SHARED in the word of the object of which the entry, given by value, speaks: until then a
 * drop may free the object without the mutex. False: the object is gone. */
bool fst_refs_mark_shared(struct fst_arena *a, uint64_t entry);

/* For the children that have flag `turn`, give each LIVE entry of this process one owner more, and
 * set SHARED in its object's word, so that no thread frees the object without looking at its
 * owners. The result is how many entries got one. Under the mutex. */
uint32_t fst_refs_keep(struct fst_arena *a, uint32_t turn);
/* The children that have flag `turn` are gone: let go of what was kept for them alone. True: an
 * entry became DROPPED. */
bool fst_refs_let_go(struct fst_arena *a, uint32_t turn);

/* How many owners of the entry do not stand for such children? */
static inline uint32_t fst_refs_own_owners(const struct fst_arena *a, uint32_t entry)
{
    uint32_t count = fst_load_relaxed(&a->counts[entry]);
    return (count & ~FST_COUNT_FLAGS) - !!(count & FST_COUNT_KEPT(0)) - !!(count & FST_COUNT_KEPT(1));
}

/* In a forked child, make pool, queue and index agree with the child's own table of entries: those
 * that are EMPTY there are free, and owners that stood for other children are gone. */
void fst_refs_rebuild(struct fst_arena *a);

/* Put the entry into the index: others may know its object from now on. */
void fst_refs_index(struct fst_arena *a, uint32_t entry);

#endif
