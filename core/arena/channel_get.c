/* channel_get.c - taking from a channel, and acknowledging what was taken. How a reference comes
 * from a node to the taker's entry is told in arena/channel_put.c and models/handover.pml.
 */
#include <string.h>

#include "arena/channel.h"
#include "arena/handle.h"
#include "arena/object.h"
#include "channel/queue.h"
#include "channel/wait.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/reftable.h"
#include "refs/word.h"

/* Make the reference of a node that this process owns its own. FST_STALE: the object's group or
 * cache was destroyed. */
static int receive_ref(struct fst_ring_view *v, struct fst_thread *t, uint32_t node, struct fst_received *out)
{
    struct fst_arena *a = v->a;
    uint64_t ref = fst_load_acquire(&v->refs[node]);
    if (!(ref & FST_NODE_HELD))
        return FST_STALE;
    bool ack = v->flags & FST_CHANNEL_ACK;
    uint64_t oid = fst_node_oid(ref), *word = fst_oid_is_group(oid) ? NULL : fst_word_of(a, oid);
    uint32_t entry;
    if (!word) {
        fst_damaged(a, "a message refers to object %llx, and there is no such object", (unsigned long long)oid);
        return fst_damage(a);
    }
    uint64_t seen = ack ? fst_word_set(word, FST_WORD_SHARED) : fst_load_acquire(word), generation = fst_word_gen(seen);
    /* Nobody else knows the object, and this process does not either. */
    if (!ack && (seen & FST_WORD_FLAGS) == FST_WORD_ALLOCATED) {
        entry = fst_refs_reserve(t);
        if (entry == FST_NONE)
            return FST_FULL;
#ifndef FST_MUTANT_GET_BEFORE_ENTRY
        fst_store_release(&a->entries[entry], fst_entry(oid, generation, FST_ENTRY_LIVE));
#endif
    } else if (fst_refs_get(a, t, oid, generation, &entry)) {
        return FST_FULL;
    }
    bool got = ack ? fst_load_seq_cst(&v->refs[node]) == ref : fst_cas64(&v->refs[node], &ref, 0);
#ifdef FST_MUTANT_GET_BEFORE_ENTRY
    fst_store_release(&a->entries[entry], fst_entry(oid, generation, FST_ENTRY_LIVE));
#endif
    int rc = got ? fst_object_fill(a, oid, entry, &out->ref) : FST_STALE;
    if (rc && fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
    out->has_ref = rc == FST_OK;
    return rc;
}

static void done_with(struct fst_ring_view *v, struct fst_node *n)
{
    fst_node_free(n);
    fst_ring_wake(&v->ring->putters);
}

int fst_channel_get(fst_channel_use *u, void *bytes, struct fst_received *out)
{
    struct fst_ring_view *v = &u->v;
    struct fst_thread *t;
    uint32_t node;
    for (;;) {
        int rc = fst_channel_usable(v, &t);
        if (rc == FST_OK && __builtin_expect(t->entry_count == 0, 0))
            rc = fst_refs_refill(t); /* before there is a message that a failure could lose */
        if (__builtin_expect(rc != FST_OK, 0))
            return rc;
        enum fst_ring_result took = fst_ring_get(v, &node);
        if (took == FST_RING_WAIT)
            return fst_verdict(v->a, FST_WAIT);
        if (took == FST_RING_CLOSED)
            return fst_verdict(v->a, fst_channel_closed(u, "everything was taken"));
        struct fst_node *n = fst_node_at(v, node);
        uint32_t refers = fst_load_relaxed(&n->nbytes), nbytes = refers & ~FST_NODE_REFERS;
        out->nbytes = nbytes < v->inline_bytes ? nbytes : v->inline_bytes;
        out->kind = fst_load_relaxed(&n->kind);
        out->has_ref = false;
        out->node = node;
        out->word = fst_load_relaxed(&n->word);
        if (out->nbytes)
            memcpy(bytes, fst_node_bytes(n), out->nbytes);
        if (refers & FST_NODE_REFERS)
            rc = receive_ref(v, t, node, out);
        if (!(v->flags & FST_CHANNEL_ACK) || rc == FST_STALE)
            done_with(v, n);
        if (rc != FST_STALE)
            return fst_verdict(v->a, rc);
    }
}

int fst_channel_let_go(const struct fst_ring_view *v, struct fst_thread *t, uint32_t node)
{
    struct fst_arena *a = v->a;
    uint64_t ref = fst_load_acquire(&v->refs[node]), *word = fst_word_of(a, fst_node_oid(ref));
    uint32_t entry;
    if (!(ref & FST_NODE_HELD) || !word)
        return FST_OK;
    int rc = fst_refs_get(a, t, fst_node_oid(ref), fst_word_gen(fst_load_acquire(word)), &entry);
    if (rc)
        return rc;
    fst_cas64(&v->refs[node], &ref, 0);
    if (fst_refs_drop(a, entry))
        fst_reaper_dropped(a, 0);
    return FST_OK;
}

int fst_channel_done(fst_channel_use *u, const struct fst_received *taken)
{
    struct fst_ring_view *v = &u->v;
    struct fst_arena *a = v->a;
    struct fst_thread *t;
    int rc = fst_channel_usable(v, &t);
    if (rc)
        return rc;
    struct fst_node *n = taken->node <= v->mask ? fst_node_at(v, taken->node) : NULL;
    if (!n || fst_load_acquire(&n->word) != taken->word || fst_node_slot(taken->word) != a->slot)
        return fst_fail(FST_STALE, "the message is done with, or another process's");
    rc = fst_channel_let_go(v, t, taken->node);
    if (rc)
        return rc;
    done_with(v, n);
    return FST_OK;
}
