/* thread.h - this process's threads: each has a slot in the arena for its read-side sections, and
 * private hints beside it.
 *
 * A thread registers with an arena when it first needs to, and is forgotten when it ends. The
 * thread slots of a killed process are freed by the batch that buries it (teardown/finish.c).
 */
#ifndef FST_RCU_THREAD_H
#define FST_RCU_THREAD_H

#include <pthread.h>

#include "platform/atomics.h"
#include "platform/futex.h"
#include "region/region.h"

/* Free reference entries that a thread keeps for itself, so that some hundred objects come and go
 * without a lock. */
#define FST_THREAD_ENTRIES 512

/* The state of a thread in one arena, in this process's memory. Only the thread itself touches it,
 * but for `arena`, which a detaching thread clears under fst_local_mutex. Behind it in memory lies
 * what the thread allocates from (alloc/active.h), where an allocation finds it without a
 * pointer. */
struct fst_thread {
    /* NULL: detached; the thread frees this state when it sees that, or ends */
    struct fst_arena *arena;
    struct fst_thread_slot *slot;
    uint64_t *table; /* this process's reference entries */
    /* names the thread in shared memory, among all that ever were: slot + 1 | generation of the
     * slot << 32 */
    uint64_t name;
    uint32_t index;       /* of the slot */
    uint32_t nest;        /* depth of nested sections */
    bool batches;         /* it runs batches, and allocates nothing */
    uint32_t entry_count; /* free entries in `entries` */
    uint32_t entries[FST_THREAD_ENTRIES];
    struct fst_thread *next;          /* this thread's state in another arena */
    struct fst_thread *next_in_arena; /* under fst_local_mutex */
} __attribute__((aligned(FST_LINE)));

/* Guards what this process keeps about its attachments: their list, and their threads. A thread
 * that ends holds it while it gives back its slabs and entries, so a child's lock and the mutex of
 * the table of references are acquired inside. It is held over fork. */
extern pthread_mutex_t fst_local_mutex;

/* The calling thread's state in the arena that it used last, or fst_thread_none, which is of no
 * arena. glibc keeps some room among a program's own thread-local variables for a library that is
 * loaded later (glibc.rtld.optional_static_tls); musl keeps none, and refuses such a library. */
#ifdef __GLIBC__
#define FST_THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define FST_THREAD_LOCAL _Thread_local
#endif
extern FST_THREAD_LOCAL struct fst_thread *fst_thread_current;
extern struct fst_thread fst_thread_none;

/* All states of the calling thread, linked by `next`, which a fork goes through; some may be
 * detached. */
struct fst_thread *fst_thread_states(void);

/* FST_OK; FST_CORRUPTED; or FST_CLOSED: a forked child that got no slot must not touch the arena in
 * its parent's name. */
int fst_thread_usable(const struct fst_arena *a);

/* What a function returns when fst_thread_get() gave it NULL. */
static inline int fst_thread_refused(const struct fst_arena *a)
{
    return fst_verdict(a, a->usable ? FST_FULL : FST_CLOSED);
}

/* Note that this process uses the arena: it was not forked only to go on to exec. */
void fst_thread_uses(struct fst_arena *a);

/* The slow path of fst_thread_get. NULL: there is no slot or no memory; the reason is the thread's
 * last error. */
struct fst_thread *fst_thread_register(struct fst_arena *a);

/* The calling thread's state in this arena. */
static inline struct fst_thread *fst_thread_get(struct fst_arena *a)
{
    struct fst_thread *t = fst_thread_current;
    if (__builtin_expect(t->arena == a, 1))
        return t;
    return fst_thread_register(a);
}

/* Give the thread this slot from now on. */
void fst_thread_bind(struct fst_thread *t, uint32_t index);

/* Claim a slot of the thread table for a thread of process slot `process`. FST_FULL, FST_OS. */
int fst_thread_slot_claim(struct fst_arena *a, uint32_t process, uint32_t *index);
void fst_thread_slot_free(struct fst_arena *a, uint32_t index);

/* The value of a thread slot's owner word for threads of a process slot. */
uint64_t fst_thread_owner(const struct fst_arena *a, uint32_t process);
static inline uint32_t fst_thread_owner_process(uint64_t owner)
{
    return (uint32_t)(owner & 0xffff) - 1u;
}

/* To be called once. It says how many bytes lie behind a thread's state, what makes them ready, and
 * what to do with each state of a thread that ends, before fst_thread_forget. */
int fst_threads_init(size_t behind, void (*at_start)(struct fst_thread *t), void (*at_exit)(struct fst_thread *t));

/* Give back the thread's slot. The state's memory stays until its thread sees that `arena` is NULL.
 * Under fst_local_mutex. */
void fst_thread_forget(struct fst_thread *t);

/* ---- read-side sections ----
 *
 * PAIR(read-section): nothing in a section is read before everybody can see that the section has
 * begun. The reader has a fence of its own for that, because Linux's membarrier(2) does not reach
 * every reader (docs/design/README.md). The model is models/grace_period.pml.
 */
static inline void fst_section_enter(struct fst_thread *t)
{
    if (t->nest++)
        return;
#ifdef FST_MUTANT_NO_READER_FENCE
    fst_store_release(&t->slot->seq, fst_load_relaxed(&t->arena->sb->gp_seq));
    fst_compiler_barrier();
#else
    /* The fence orders the load as well. */
    fst_store_fence(&t->slot->seq, fst_load_relaxed(&t->arena->sb->gp_seq));
#endif
}

static inline void fst_section_leave(struct fst_thread *t)
{
    if (--t->nest)
        return;
    struct fst_thread_slot *slot = t->slot;
    fst_store_release(&slot->seq, 0);
    /* There is no fence here. If this thread does not see a sleeper, because its own store is still
     * on its way, the sleeper finds the store arrived before it sleeps. If not even then, it looks
     * again after some milliseconds (rcu/grace.c). */
    fst_compiler_barrier();
    if (__builtin_expect(fst_load_relaxed(&slot->waiter) != 0, 0)) {
        fst_store_relaxed(&slot->waiter, 0);
        fst_futex_wake((const uint32_t *)(const void *)&slot->seq, INT32_MAX);
    }
}

#endif
