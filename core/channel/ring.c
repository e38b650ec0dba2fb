#include "channel/ring.h"

#include <errno.h>
#include <string.h>

#include "alloc/slab.h"
#include "platform/error.h"
#include "process/slot.h"
#include "refs/word.h"

uint32_t fst_ring_cells(uint32_t capacity, uint32_t flags)
{
    uint32_t cells = 1;
    if (flags & FST_CHANNEL_LOCK)
        return cells; /* nothing is ever put into the ring of a lock */
    while (cells < capacity + FST_RING_SLACK)
        cells *= 2;
    return cells;
}

static uint32_t stride(uint32_t inline_bytes)
{
    return (uint32_t)((sizeof(struct fst_node) + inline_bytes + FST_LINE - 1) / FST_LINE * FST_LINE);
}

uint64_t fst_ring_bytes(uint32_t capacity, uint32_t inline_bytes, uint32_t flags)
{
    uint64_t subscribers = flags & FST_CHANNEL_TOPIC ? FST_SUBSCRIBERS * sizeof(struct fst_subscriber) : 0;
    return sizeof(struct fst_ring) + (uint64_t)fst_ring_cells(capacity, flags) * (2 * sizeof(uint64_t) + stride(inline_bytes)) +
           subscribers;
}

bool fst_ring_gone(const struct fst_arena *a, const struct fst_channel *c)
{
    struct fst_handle h = {c->generation_tag, c->oid_slab};
    uint64_t oid = fst_handle_oid(&h), *word = fst_oid_is_group(oid) ? NULL : fst_word_of(a, oid);
    uint64_t seen = word ? fst_load_acquire(word) : 0;
    return !(seen & FST_WORD_ALLOCATED) || fst_word_gen(seen) != fst_handle_generation(&h);
}

static int see(struct fst_arena *a, const struct fst_channel *c, bool write, struct fst_ring_view *v)
{
    struct fst_handle h = {c->generation_tag, c->oid_slab};
    uint64_t oid = fst_handle_oid(&h);
    *v = (struct fst_ring_view){.a = a,
                                .capacity = c->capacity,
                                .inline_bytes = c->inline_bytes,
                                .flags = c->flags,
                                .mask = (uint64_t)c->cells - 1,
                                /* A process that only looks moves no hints. */
                                .hinted = !write                         ? UINT64_MAX
                                          : c->flags & FST_CHANNEL_TOPIC ? 0
                                                                         : FST_RING_HINTED - 1,
                                .stride = stride(c->inline_bytes)};
    if (fst_ring_gone(a, c))
        return fst_fail(FST_STALE, "the channel is gone");
    const struct fst_slab *s = fst_slab_known(a, fst_oid_slab(oid));
    if (v->capacity < 1 || v->capacity > FST_RING_CAPACITY || v->inline_bytes > FST_RING_INLINE_MOST ||
        c->cells != fst_ring_cells(v->capacity, v->flags) || s->asked != fst_ring_bytes(v->capacity, v->inline_bytes, v->flags)) {
        fst_damaged(a, "a channel of %s has a ring of %s", fst_many(v->capacity, "message", "messages"), fst_exact(s->asked));
        return fst_damage(a);
    }
    uint8_t *base = fst_slab_data(a, s, fst_oid_slab(oid), 0, s->asked);
    if (!base)
        return fst_damage(a);
    if (write && a->readonly && !(base = fst_file_map_data(a, (uint64_t)(base - a->data), s->asked, &v->mapped)))
        return fst_fail_errno(FST_OS, errno, "cannot map a channel's ring");
    v->ring = (struct fst_ring *)(void *)base;
    v->over = &v->ring->ended;
    v->seen_tail = fst_load_acquire(&v->ring->tail) & FST_POSITION_MASK;
    v->seen_head = fst_load_acquire(&v->ring->head) & FST_POSITION_MASK;
    v->cells = (uint64_t *)(void *)(base + sizeof *v->ring);
    v->refs = v->cells + v->mask + 1;
    v->nodes = (uint8_t *)(v->refs + v->mask + 1);
    v->subscribers = (struct fst_subscriber *)(void *)(v->nodes + (v->mask + 1) * v->stride);
    return FST_OK;
}

static int see_at(struct fst_arena *a, uint32_t channel, bool write, struct fst_ring_view *v)
{
    struct fst_channel *c = fst_channel_at(a, channel);
    int rc = see(a, c, write, v);
    v->channel = c;
    v->number = channel;
    return rc;
}

int fst_ring_map(struct fst_arena *a, uint32_t channel, struct fst_ring_view *v)
{
    return see_at(a, channel, true, v);
}

int fst_ring_look(struct fst_arena *a, uint32_t channel, struct fst_ring_view *v)
{
    return see_at(a, channel, false, v);
}

int fst_ring_map_new(struct fst_arena *a, const struct fst_channel *c, struct fst_ring_view *v)
{
    return see(a, c, true, v);
}

/* Raise the bound above this node; the result is what it is at least. */
static uint32_t raise(const struct fst_ring_view *v, uint32_t *top, uint32_t node)
{
    uint32_t cells = (uint32_t)v->mask + 1, to = (node / FST_RING_STEP + 1) * FST_RING_STEP;
    uint32_t seen = fst_load_relaxed(top);
    while (seen < to && !fst_cas32(top, &seen, to)) {
    }
    return seen < to ? to : seen < cells ? seen : cells;
}

void fst_ring_say_slowly(struct fst_ring_view *v)
{
#ifndef FST_MUTANT_OWNS_UNSAID
    fst_process_note_channel(v->a->self, v->number);
#endif
    fst_own_store_release(&v->said, true);
}

void fst_ring_own_slowly(struct fst_ring_view *v, uint32_t node)
{
    fst_ring_say(v);
    fst_own_store_release(&v->seen_nodes, raise(v, &v->channel->nodes_top, node));
}

void fst_ring_refer_slowly(struct fst_ring_view *v, uint32_t node)
{
    fst_own_store_release(&v->seen_refs, raise(v, &v->channel->refs_top, node));
}

void fst_ring_unmap(struct fst_ring_view *v)
{
    fst_file_unmap_data(&v->mapped);
}

void fst_ring_format(struct fst_ring_view *v)
{
    struct fst_ring *r = v->ring;
    fst_store_relaxed(&r->ended, 0);
    fst_store_relaxed(&r->lock, 0);
    fst_store_relaxed(&r->holder, 0);
    fst_store_relaxed(&r->tail, 0);
    fst_store_relaxed(&r->head, 0);
    fst_store_relaxed(&r->takers, 0);
    fst_store_relaxed(&r->putters, 0);
    fst_store_relaxed(&r->subscribers_top, 0);
    if (v->flags & FST_CHANNEL_TOPIC)
        memset(v->subscribers, 0, FST_SUBSCRIBERS * sizeof *v->subscribers);
    for (uint64_t i = 0; i <= v->mask; i++) {
        v->cells[i] = fst_cell(i, FST_CELL_EMPTY);
        v->refs[i] = 0;
        struct fst_node *n = fst_node_at(v, (uint32_t)i);
        *n = (struct fst_node){.word = FST_NODE_FREE};
    }
}
