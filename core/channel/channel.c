#include "channel/channel.h"

#include <string.h>

#include "channel/wait.h"
#include "platform/error.h"
#include "refs/word.h"
#include "region/table.h"

uint32_t fst_channel_find(struct fst_arena *a, const char *name, uint32_t flags)
{
    uint32_t top = fst_channel_top(a);
    for (uint32_t i = 0; i < top && name; i++) {
        const struct fst_channel *c = fst_channel_at(a, i);
        if (fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_LIVE && !((c->flags ^ flags) & FST_CHANNEL_KIND) &&
            strncmp(c->name, name, FST_NAME_MAX) == 0)
            return i;
    }
    return FST_NONE;
}

uint32_t fst_channel_new(struct fst_arena *a)
{
    uint32_t top = fst_channel_top(a);
    for (uint32_t i = 0; i < top; i++)
        if (fst_state(fst_load_acquire(&fst_channel_at(a, i)->state)) == FST_CHANNEL_FREE)
            return i;
    if (top >= FST_MAX_CHANNELS ||
        ((uint64_t)top + 1) * sizeof(struct fst_channel) > fst_load_acquire(&a->sb->tables[FST_T_CHANNEL].committed))
        return FST_NONE;
    if (fst_damaged_beyond(a, FST_T_CHANNEL, top) || fst_is_damaged(a))
        return FST_NONE;
    fst_store_release(&a->sb->channel_top, top + 1);
    return top;
}

int fst_channel_grow(struct fst_arena *a)
{
    return fst_table_commit(a, FST_T_CHANNEL, (uint64_t)fst_channel_top(a) + 1);
}

bool fst_channel_known(const struct fst_arena *a, uint64_t id, uint32_t *index)
{
    *index = (uint32_t)id;
    return *index < fst_channel_top(a) && fst_id_is(id, fst_load_acquire(&fst_channel_at(a, *index)->state));
}

void fst_channel_end(struct fst_arena *a, uint32_t index)
{
    struct fst_channel *c = fst_channel_at(a, index);
    struct fst_ring_view v;
    if (fst_state(c->state) != FST_CHANNEL_LIVE)
        return;
    fst_store_release(&c->state, fst_state_moved(c->state, FST_CHANNEL_ENDED));
    fst_store_relaxed(&a->sb->channel_look, 1);
    if (a->readonly || fst_ring_map(a, index, &v))
        return; /* a batch tells those who have it open */
    /* PAIR(channel-end): whoever puts a reference into a node looks at this word after it, and a
     * batch looks at the nodes after this store. */
    fst_store_release(&v.ring->ended, 1);
    fst_full_fence();
    fst_ring_wake_all(&v);
    fst_ring_unmap(&v);
}

bool fst_channel_look(struct fst_arena *a, uint32_t index, struct fst_ring_view *v)
{
    const struct fst_channel *c = fst_channel_at(a, index);
    if (!fst_registry_lock(a))
        return false;
    if (fst_state(fst_load_acquire(&c->state)) == FST_CHANNEL_LIVE && fst_ring_look(a, index, v) == FST_OK)
        return true;
    fst_registry_unlock(a);
    return false;
}

void fst_channel_looked(struct fst_arena *a, struct fst_ring_view *v)
{
    fst_ring_unmap(v);
    fst_registry_unlock(a);
}

bool fst_channel_is_ring(const struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return false;
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child);
    return fst_is_child(a, child) && (fst_child_at(a, child)->flags & FST_CACHE_CHANNELS);
}

static bool leads_to(const struct fst_channel *c, uint64_t oid, uint32_t *state)
{
    *state = fst_state(fst_load_acquire(&c->state));
    return *state != FST_CHANNEL_FREE && (fst_load_relaxed(&c->oid_slab) & FST_OID_MASK) == oid;
}

uint32_t fst_channel_of_ring(struct fst_arena *a, uint64_t oid)
{
    uint32_t top = fst_channel_top(a), ended = FST_NONE, state;
    /* Rings have slabs of their own. A batch asks for all that a dead process had open, mostly
     * again and again for the same ones, so it does not look through all descriptors each time. */
    uint16_t *hint = &a->ring_hints[FST_SLAB_ID_INDEX(fst_oid_slab(oid)) % FST_MAX_CHANNELS];
    uint32_t hinted = fst_load_relaxed(hint);
    if (hinted < top && leads_to(fst_channel_at(a, hinted), oid, &state) && state == FST_CHANNEL_LIVE)
        return hinted;
    for (uint32_t i = 0; i < top; i++) {
        if (!leads_to(fst_channel_at(a, i), oid, &state))
            continue;
        if (state == FST_CHANNEL_LIVE) {
            fst_own_store_relaxed(hint, (uint16_t)i);
            return i;
        }
        /* Maybe of an earlier ring: a batch that released it could not make the channel FREE. */
        ended = i;
    }
    return ended;
}

bool fst_channel_lasts(struct fst_arena *a, uint64_t oid)
{
    uint32_t index = fst_channel_is_ring(a, oid) ? fst_channel_of_ring(a, oid) : FST_NONE;
    if (index == FST_NONE || fst_state(fst_load_acquire(&fst_channel_at(a, index)->state)) != FST_CHANNEL_LIVE)
        return false;
    const struct fst_channel *c = fst_channel_at(a, index);
    struct fst_ring_view v;
    if (!(c->flags & FST_CHANNEL_LOCK))
        return c->flags & FST_CHANNEL_LASTING;
    /* Nobody who has not got it open can acquire it from now on, so that this stays as it is. */
    return fst_ring_look(a, index, &v) == FST_OK && fst_load_acquire(&v.ring->lock) != 0;
}

bool fst_channel_unreferenced(struct fst_arena *a, uint64_t oid, uint64_t *word)
{
    if (!fst_registry_lock(a))
        return true; /* the next batch looks again */
    uint32_t index = fst_channel_of_ring(a, oid);
    if (index != FST_NONE) {
        uint64_t seen = fst_load_acquire(word);
        /* From here on nobody opens the channel: whoever resolves its ring takes CONDEMNED away
         * first, or finds FREED. */
        while ((seen & FST_WORD_ALLOCATED) && (seen & FST_WORD_CONDEMNED) && !(seen & FST_WORD_FREED) &&
               !fst_cas64(word, &seen, seen | FST_WORD_FREED)) {
        }
        if (fst_load_acquire(word) & FST_WORD_FREED)
            fst_channel_end(a, index);
        fst_store_relaxed(&a->sb->channel_look, 1);
    }
    fst_registry_unlock(a);
    return index != FST_NONE;
}
