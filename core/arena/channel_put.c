/* channel_put.c - putting into a channel. A message that refers to an object is handed over as
 * models/handover.pml says.
 *
 * A put may give its reference away, if nobody else knows the object. Then these steps follow. The
 * node comes to refer to the object. CONDEMNED is taken away from the object's word, in case a
 * batch looked at the node before that. The putter's entry becomes EMPTY. The node is put. The
 * taker writes an entry of its own, and takes the node's reference away after that
 * (arena/channel_get.c): it has the object as its allocator had it, and drops it with a plain
 * store. Any other object becomes SHARED, and each reference to it ends as a request to a batch.
 */
#include <string.h>

#include "alloc/child.h"
#include "arena/channel.h"
#include "arena/handle.h"
#include "channel/queue.h"
#include "channel/wait.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"

/* The state of the object's child, which says whether the node may go on to refer to the object.
 * This is asked after the node refers to it. PAIR(channel-end), PAIR(cache-ending). */
static enum fst_child_state state_of_child(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return (enum fst_child_state)fst_state(fst_load_seq_cst(&fst_child_at(a, child)->state));
}

/* Take CONDEMNED away: a batch may have looked at the node before it referred to the object, and
 * may look at this process's entry when that is EMPTY. PAIR(reference). */
static void rescue(uint64_t *word)
{
    uint64_t seen = fst_load_seq_cst(word);
    while ((seen & FST_WORD_CONDEMNED) && !fst_cas64(word, &seen, seen & ~FST_WORD_CONDEMNED)) {
    }
}

/* Is this reference the only one to the object? */
static bool private(const struct fst_arena *a, uint64_t word, uint32_t entry)
{
    return (word & (FST_WORD_FLAGS & ~FST_WORD_CONDEMNED)) == FST_WORD_ALLOCATED && fst_refs_only_owner(a, entry);
}

enum handed { HANDED_NOT, HANDED_MOVED, HANDED_SHARED };

/* Have the node refer to the object. FST_CLOSED: the object, or the channel, has ended. FST_BUSY:
 * destroy() of the object's cache is looking for users. */
static int hand_over(struct fst_channel_use *u, uint32_t node, const struct fst_letter *l, enum handed *how)
{
    struct fst_ring_view *v = &u->v;
    struct fst_arena *a = v->a;
    uint64_t oid = l->ref->oid, *word = fst_word_of(a, oid), ref = fst_node_ref(oid);
    if (!word) {
        fst_damaged(a, "object %llx is in use, and there is no such object", (unsigned long long)oid);
        return fst_damage(a);
    }
    bool move = !l->keep && !(v->flags & FST_CHANNEL_TOPIC) && private(a, fst_load_acquire(word), l->ref->entry);
    fst_object_note_shared(a, oid);
    if (!move) {
#ifndef FST_MUTANT_PUT_UNSHARED
        fst_word_set(word, FST_WORD_SHARED);
#endif
        fst_refs_index(a, l->ref->entry);
    }
#ifdef FST_MUTANT_EMPTY_BEFORE_NODE
    if (move)
        fst_store_release(&a->entries[l->ref->entry], 0);
#endif
#ifndef FST_MUTANT_REF_BEFORE_BOUND
    fst_ring_refer(v, node);
#endif
    fst_store_fence(&v->refs[node], ref);
#ifdef FST_MUTANT_REF_BEFORE_BOUND
    fst_ring_refer(v, node);
#endif
    rescue(word);
    enum fst_child_state child = state_of_child(a, oid);
    bool over = fst_load_seq_cst(&v->ring->ended);
    if (child == FST_CHILD_ENDED || child == FST_CHILD_ENDING || over) {
        fst_cas64(&v->refs[node], &ref, 0);
        return over                        ? fst_channel_ended(FST_CLOSED)
               : child == FST_CHILD_ENDING ? FST_BUSY
                                           : fst_fail(FST_CLOSED, "the object's group or cache was destroyed");
    }
    if (move)
        fst_store_release(&a->entries[l->ref->entry], 0);
    *how = move ? HANDED_MOVED : HANDED_SHARED;
    return FST_OK;
}

/* Undo the handing over of a message that could not be put. A reference that was moved comes back:
 * its entry is written first, and then the node's reference goes, as for a taker. */
static int undo(struct fst_channel_use *u, uint32_t node, const struct fst_letter *l, enum handed how, int rc)
{
    struct fst_arena *a = u->v.a;
    uint64_t ref = fst_node_ref(l->ref->oid);
    if (how == HANDED_MOVED) {
        uint64_t generation = fst_word_gen(fst_load_relaxed(fst_word_of(a, l->ref->oid)));
        fst_store_release(&a->entries[l->ref->entry], fst_entry(l->ref->oid, generation, FST_ENTRY_LIVE));
    }
    if (fst_cas64(&u->v.refs[node], &ref, 0) || how != HANDED_MOVED)
        return rc;
    if (fst_refs_drop(a, l->ref->entry))
        fst_reaper_dropped(a, 0);
    return fst_fail(FST_STALE, "the object's group or cache was destroyed");
}

/* Let go of the putter's own reference after the message was put, unless it keeps it. */
static void let_go(struct fst_thread *t, const struct fst_letter *l, enum handed how)
{
    if (how == HANDED_MOVED)
        fst_refs_give(t, l->ref->entry);
    else if (!l->keep && fst_refs_drop(t->arena, l->ref->entry))
        fst_reaper_dropped(t->arena, l->ref->nbytes);
}

static int put_ref(struct fst_channel_use *u, struct fst_thread *t, uint32_t node, const struct fst_letter *l, uint64_t owned)
{
    enum handed how = HANDED_NOT;
    int rc = hand_over(u, node, l, &how);
    if (rc)
        return rc;
    enum fst_ring_result put = fst_ring_publish(&u->v, node, owned, false);
    if (put != FST_RING_OK)
        return undo(u, node, l, how, put == FST_RING_WAIT ? FST_WAIT : FST_END);
    let_go(t, l, how);
    return FST_OK;
}

/* Wake one taker for a message of a channel, and everybody for one of a topic. */
static void wake_takers(const struct fst_ring_view *v)
{
    if (v->flags & FST_CHANNEL_TOPIC)
        fst_ring_wake_sleepers(&v->ring->takers);
    else
        fst_ring_wake_slowly(&v->ring->takers);
}

int fst_channel_put(fst_channel_use *u, const struct fst_letter *l)
{
    struct fst_ring_view *v = &u->v;
    struct fst_thread *t;
    int rc = fst_channel_usable(v, &t);
    if (__builtin_expect(rc != FST_OK, 0))
        return rc;
    if (l->nbytes > v->inline_bytes)
        return fst_fail(FST_INVALID, "%s not fit in line: the channel has room for %u",
                        fst_many(l->nbytes, "byte does", "bytes do"), v->inline_bytes);
    if (l->ref && fst_ring_full(v)) /* saves moving a reference back and forth */
        return FST_WAIT;
    uint32_t node = fst_ring_claim(v);
    if (node == FST_NONE)
        return FST_WAIT;
    struct fst_node *n = fst_node_at(v, node);
    uint64_t owned = fst_load_relaxed(&n->word);
    fst_store_relaxed(&n->nbytes, l->nbytes | (l->ref ? FST_NODE_REFERS : 0));
    fst_store_relaxed(&n->kind, l->kind);
    if (l->nbytes)
        memcpy(fst_node_bytes(n), l->bytes, l->nbytes);
    if (l->ref) {
        rc = put_ref(u, t, node, l, owned);
    } else {
        enum fst_ring_result put = fst_ring_publish(v, node, owned, false);
        rc = put == FST_RING_OK ? FST_OK : put == FST_RING_WAIT ? FST_WAIT : FST_END;
    }
    if (__builtin_expect(rc == FST_OK, 1)) {
        if (__builtin_expect(fst_load_seq_cst(&v->ring->takers) & 1, 0))
            wake_takers(v);
        return FST_OK;
    }
    fst_node_free(n);
    fst_ring_wake(&v->ring->putters); /* whoever found no free node may sleep until there is one */
    if (rc == FST_BUSY) {
        fst_child_resumed(v->a, fst_load_relaxed(&fst_slab_known(v->a, fst_oid_slab(l->ref->oid))->child));
        return fst_verdict(v->a, FST_WAIT);
    }
    if (rc == FST_END)
        fst_channel_closed(u, "nothing is put any more");
    return fst_verdict(v->a, rc);
}
