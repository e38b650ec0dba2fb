/* revoke.h - taking a slab away from the thread that owns it.
 *
 * An owner changes free words of its slab with plain stores (alloc/active.h). Before anybody else
 * may change one, the owner has to be out of the way, for good and visibly. PAIR(revoke); the model
 * is models/ownership.pml.
 *
 *   - The owner, each time: it says in its thread slot which slab it allocates from; looks whether
 *     the slab is still its own, and the child still alive; changes entry and word; says that it is
 *     done.
 *   - Whoever revokes: it marks the owner word (or the child has ended), passes a barrier that all
 *     processors of the owner's threads take part in, and then looks whether the owner is
 *     allocating from the slab.
 *
 * An owner that began before the barrier shows, and one that begins after it finds the mark: so the
 * owner needs no fence of its own. An owner that is found allocating is left alone, with its slab,
 * because it may be stopped there for as long as it likes. It finds the mark when it next
 * allocates, and lets go of the slab itself.
 *
 * A barrier over the threads of this process is cheap, and one over those of other processes is not
 * (platform/membarrier.h). So where the objects of a child go to other processes, which then free
 * some of them, the owner passes a fence by itself, and says so in the slab (`fenced`); likewise
 * where its process cannot have barriers. What remains are slabs from which other processes
 * allocate for themselves alone. For these a barrier is passed once for many slabs, by a process
 * that runs a batch or is short of memory.
 *
 * A kill anywhere leaves a mark, for the owner to find, or for the next who revokes.
 */
#ifndef FST_ALLOC_REVOKE_H
#define FST_ALLOC_REVOKE_H

#include "rcu/thread.h"
#include "region/region.h"

/* Flags in a slab's owner word, which without them is a thread's name (rcu/thread.h). */
#define FST_OWNER_REVOKED (1ull << 30) /* the thread may not allocate from it any more */
#define FST_OWNER_CLOSING (1ull << 31) /* the thread gives it back */
#define FST_OWNER_FLAGS   (FST_OWNER_REVOKED | FST_OWNER_CLOSING)
#define FST_OWNER_NEVER   FST_OWNER_FLAGS /* what no owner word is: flags without a thread */
/* the owner word of a slab that nobody will finish: it is treated as a dead thread's */
#define FST_OWNER_NOBODY UINT64_MAX

/* The state of a thread that takes slabs from their owners. A field is zero at first unless its
 * comment says otherwise. */
struct fst_revoke {
    struct fst_arena *a;
    uint64_t me; /* name of the calling thread; 0: it takes none from anybody */
    bool others; /* it also takes slabs from threads of other processes */
    /* the children in question had ended before the barriers, so no mark is needed */
    bool ended;
    uint64_t near, far; /* numbers of the last barriers that it passed; 0: none */
    bool want_near;     /* a slab waits for a near barrier */
    bool want_far;      /* a slab waits for a far barrier */
    bool left;          /* a slab was left to its owner */
};

/* Is the thread that an owner word names gone? */
bool fst_owner_gone(struct fst_arena *a, uint64_t owner);

/* Does nobody but the caller change free words of the slab, other than by compare-and-swap? Under
 * the child's lock. False: the slab is left to its owner; or it is marked, and a barrier is wanted,
 * after which to ask again. */
bool fst_revoke(struct fst_revoke *r, uint32_t slab_id);

/* Pass the barrier that is wanted. False: the system does not have it. Under no lock, in no
 * section. */
bool fst_revoke_near(struct fst_revoke *r);
bool fst_revoke_far(struct fst_revoke *r);

#endif
