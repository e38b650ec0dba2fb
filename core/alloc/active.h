/* active.h - the slabs that a thread owns, and those that it allocates from: its books, in its own
 * memory.
 *
 * A thread owns up to FST_OWNED_MAX slabs of a child, a MiB at most, and allocates from them with
 * plain stores. A bitmap says which of a slab's objects it believes free. It allocates from one of
 * these slabs, the *active* one. What the thread itself drops in any of them is free again by
 * setting a bit. When no bit is left, the oldest is let go for another one. The books may be wrong
 * in one way: a slab may have been revoked (alloc/revoke.h), which its owner word tells.
 */
#ifndef FST_ALLOC_ACTIVE_H
#define FST_ALLOC_ACTIVE_H

#include "alloc/revoke.h"
#include "rcu/thread.h"
#include "region/region.h"

/* Children that a thread allocates from at once, direct-mapped by index. */
#define FST_ACTIVES   64u
#define FST_OWNED     128u /* slabs that a thread owns, direct-mapped by id */
#define FST_OWNED_MAX 16u  /* of these, slabs of one child */
#define FST_SIZED     128u /* size classes of groups that a thread remembers, direct-mapped */

/* A slab that the thread owns. */
struct fst_owned {
    /* the slab's owner word while the thread owns it; FST_OWNER_NEVER: the thread has to pass a
     * fence before it looks at that word */
    uint64_t owner;
    struct fst_slab *slab;
    uint8_t *data;
    uint32_t id1; /* slab id + 1; 0: none */
    uint16_t objects;
    uint16_t word_bytes;  /* bytes from one word to the next */
    uint64_t child_state; /* the child's state word while it lives */
    const struct fst_child *child;
    struct fst_active *active;
    uint64_t pad;
    uint64_t free[8]; /* a bit for each object that is believed free */
};
static_assert(sizeof(struct fst_owned) == 128, "two lines");

/* A child that the thread allocates from: one word of the bitmap of one owned slab, with all that
 * an allocation needs beside it. */
struct fst_active {
    uint64_t child_id; /* as given to fst_alloc: index | generation << 32; 0: none */
    /* child_id where an allocation may use the fast path; otherwise the id of no child, because
     * there is no child, or an allocation has more to do: to pass a fence, to construct */
    uint64_t fast_id;
    uint64_t *bits; /* a word of `free` of the current slab; if there is none, a word that is 0 */
    /* of the current slab, from the object of the lowest bit of *bits on: */
    uint64_t owner;
    const struct fst_slab *slab;
    uint8_t *words, *data;
    uint64_t oid;
    uint64_t stride, size;
    uint64_t child_state;
    const struct fst_child *child;
    struct fst_owned *current; /* the active slab; NULL: there is none */
    uint16_t word_bytes;
    uint8_t owned;    /* slabs of the child that the thread owns */
    uint8_t most : 7; /* slabs of the child that the thread may own */
    /* fst_child_constructs: then allocations do not use the fast path */
    uint8_t constructs : 1;
    uint32_t id1;                 /* of the current slab, + 1 */
    uint8_t place[FST_OWNED_MAX]; /* indexes of those slabs in fst_actives.owned, oldest first */
};
static_assert(sizeof(struct fst_active) == 128, "two lines");

/* A size class of a group (alloc/sizeclass.h), and which child it is. */
struct fst_sized {
    uint64_t group, child; /* ids; child 0: none */
    uint32_t class;
    uint32_t pad;
};

struct fst_actives {
    struct fst_active slot[FST_ACTIVES];
    struct fst_owned owned[FST_OWNED];
    struct fst_sized sized[FST_SIZED];
};

static inline struct fst_actives *fst_actives_of(const struct fst_thread *t)
{
    return (struct fst_actives *)(uintptr_t)(t + 1);
}

static inline struct fst_active *fst_active_of(const struct fst_thread *t, uint32_t child)
{
    return &fst_actives_of(t)->slot[child % FST_ACTIVES];
}

/* The thread's place for this slab; the thread owns the slab if id1 there is slab_id + 1. */
static inline struct fst_owned *fst_owned_of(const struct fst_thread *t, uint32_t slab_id)
{
    return &fst_actives_of(t)->owned[slab_id % FST_OWNED];
}

/* The word of an object. The distance between words depends on the class of the slab. */
static inline uint64_t *fst_owned_word(const struct fst_owned *own, uint64_t object)
{
    return (uint64_t *)(void *)((uint8_t *)(own->slab + 1) + object * own->word_bytes);
}

static inline uint64_t *fst_active_word(const struct fst_active *act, uint64_t bit)
{
    return (uint64_t *)(void *)(act->words + bit * act->word_bytes);
}

/* Does the thread still own the slab? It asks after it has said what it does, in the thread slot or
 * by a free word. PAIR(revoke): whoever revokes the slab marks it, has this thread pass a barrier,
 * and then looks. Where this thread cannot be made to pass one, its books have FST_OWNER_NEVER for
 * the slab, so that one comparison says that all is as usual, and what needs the fence lies behind
 * it (fst_ours_behind_fence). */
static inline bool fst_still_ours(const struct fst_slab *slab, uint64_t owner)
{
    fst_compiler_barrier();
    return __builtin_expect(fst_load_acquire(&slab->owner) == owner, 1);
}

static inline bool fst_ours_behind_fence(const struct fst_thread *t, const struct fst_slab *slab, uint64_t owner)
{
    if (owner != FST_OWNER_NEVER)
        return false;
    fst_full_fence();
    return fst_load_acquire(&slab->owner) == t->name;
}

/* Make the books say that the thread owns nothing: at its beginning, and in a forked child. */
void fst_actives_reset(struct fst_thread *t);
/* Let go of all slabs of the thread, which is ending or detaching. */
void fst_actives_release(struct fst_thread *t);

/* Does the thread allocate from this child? If so, fst_active_let_go lets go of its slabs of the
 * child. */
bool fst_active_is(const struct fst_thread *t, uint32_t child);
void fst_active_let_go(struct fst_thread *t, uint32_t child);

/* Make the thread's active slab of this child one with free objects: another one that it owns, or a
 * partial one. Then *(*out)->bits is not 0, as far as anybody knows. FST_BUSY: there is none;
 * FST_CLOSED, FST_HELD, FST_CORRUPTED. It acquires the child's lock. */
int fst_active_find(struct fst_thread *t, uint64_t child_id, struct fst_active **out);

/* Do as fst_active_find, and have a new slab carved if there is none. FST_FULL, FST_LIMIT,
 * FST_INVALID: the child has no common size. Commits memory: never inside a section. */
int fst_active_make(struct fst_thread *t, uint64_t child_id, struct fst_active **out);

/* Wait until those allocations from the cache are over that may not have seen that its children
 * were suspended. Afterwards every object that such an allocation has made shows. */
void fst_active_await(struct fst_arena *a, uint32_t cache);

#endif
