#include "alloc/close.h"

#include "alloc/lists.h"
#include "alloc/run.h"
#include "rcu/grace.h"
#include "refs/word.h"
#include "region/lock.h"

#ifdef FST_MUTANT_TYPESAFE_NO_WAIT
#define TYPESAFE_NO_WAIT 1
#else
#define TYPESAFE_NO_WAIT 0
#endif

/* Swing every word from free to free|CONDEMNED, or none of them. Under the child's lock. */
static bool close_words(struct fst_slab *s, uint32_t class)
{
    for (uint32_t i = 0; i < fst_slab_objects(s, class); i++) {
        uint64_t *word = fst_slab_word(s, class, i);
        uint64_t seen = fst_load_relaxed(word);
        if (!(seen & FST_WORD_FLAGS) && fst_cas64(word, &seen, seen | FST_WORD_CONDEMNED))
            continue;
        fst_slab_reopen_words(s, class, i);
        return false;
    }
    return true;
}

bool fst_close_try(struct fst_revoke *r, struct fst_child *c, uint32_t id)
{
    struct fst_arena *a = r->a;
    struct fst_slab *s = fst_slab_at(a, id);
    if (fst_is_damaged(a) || (fst_load_relaxed(&s->owner) && !r->ended && !fst_slab_looks_empty(s, FST_SLAB_ID_CLASS(id))) ||
        !fst_revoke(r, id))
        return false;
    if (!close_words(s, FST_SLAB_ID_CLASS(id))) {
        if (fst_load_relaxed(&s->owner) & FST_OWNER_REVOKED)
            fst_lists_unown(a, c, id);
        return false;
    }
    fst_lists_remove(a, c, id);
    fst_store_relaxed(&s->owner, r->me | FST_OWNER_CLOSING);
    fst_store_release(&s->state, fst_state_moved(s->state, FST_SLAB_CLOSING));
    return true;
}

/* Close up to `max` empty slabs of a list, and put their ids into `out`; the result is their
 * number. */
static uint32_t close_some(struct fst_revoke *r, uint32_t child, bool typesafe, uint8_t list, uint32_t *out, uint32_t max)
{
    struct fst_arena *a = r->a;
    struct fst_child *c = fst_child_at(a, child);
    uint32_t n = 0, steps = 0;
    if (!fst_lists_lock(a, child))
        return 0;
    /* The child's descriptor may have gone on to another life since the caller looked at its
     * flags. */
    bool same = !!(c->flags & FST_CACHE_TYPESAFE_BY_RCU) == typesafe || TYPESAFE_NO_WAIT;
    for (uint32_t id = *fst_lists_head(c, list), next; n < max && same && fst_lists_step(a, child, list, id, &steps); id = next) {
        next = fst_slab_at(a, id)->next;
        if (fst_close_try(r, c, id))
            out[n++] = id;
    }
    fst_lists_unlock(a, child);
    return n;
}

void fst_close_undo(struct fst_arena *a, uint32_t id, uint64_t state)
{
    struct fst_slab *s = fst_slab_at(a, id);
    uint32_t child = s->child;
    struct fst_child *c = fst_child_at(a, child);
    if (!fst_lists_lock_briefly(a, child)) { /* leave it CLOSING, as a dead process would */
        fst_store_release(&s->owner, FST_OWNER_NOBODY);
#ifndef FST_MUTANT_LOOSE_UNDO
        fst_swap32(&a->sb->loose, 1);
#endif
        return;
    }
    if (fst_load_acquire(&s->state) == state) {
        /* The owner is written last: a kill in between leaves a slab that is LIVE with a dead
         * owner, and is recovered. Nobody would find one that is CLOSING without an owner. */
        fst_store_release(&s->state, fst_state_moved(state, FST_SLAB_LIVE));
        fst_store_relaxed(&s->owner, 0);
        fst_slab_reopen_words(s, FST_SLAB_ID_CLASS(id), fst_slab_objects(s, FST_SLAB_ID_CLASS(id)));
        fst_lists_add(a, c, id, FST_LIST_PARTIAL);
    }
    fst_lists_unlock(a, child);
    if (fst_state(fst_load_acquire(&c->state)) != FST_CHILD_LIVE)
        fst_store_relaxed(&a->sb->ended_slabs, FST_ENDED_SLABS_NOW);
}

void fst_close_give_now(struct fst_arena *a, struct fst_closed *closed, uint64_t *bytes)
{
    *bytes += fst_run_release_closed(a, closed->now, closed->now_n);
    closed->now_n = 0;
}

static bool close_lists(struct fst_revoke *r, uint32_t child, struct fst_closed *closed, uint64_t *bytes)
{
    struct fst_arena *a = r->a;
    bool wait = (fst_child_at(a, child)->flags & FST_CACHE_TYPESAFE_BY_RCU) && !TYPESAFE_NO_WAIT;
    uint32_t n, room, most = wait ? FST_CLOSED_MAX : FST_CLOSED_NOW;
    uint32_t *ids = wait ? closed->ids : closed->now, *count = wait ? &closed->n : &closed->now_n;
    for (uint8_t list = FST_LIST_PARTIAL; list <= FST_LIST_FULL; list++) {
        do {
            room = most - *count;
            n = close_some(r, child, wait, list, ids + *count, room);
            *count += n;
            if (*count < most)
                continue;
            if (wait)
                return false;
            fst_close_give_now(a, closed, bytes);
        } while (n == room);
    }
    return true;
}

bool fst_close_empty(struct fst_revoke *r, uint32_t child, struct fst_closed *closed, uint64_t *bytes)
{
    bool all = close_lists(r, child, closed, bytes);
    return all && r->want_near && fst_revoke_near(r) ? close_lists(r, child, closed, bytes) : all;
}

bool fst_close_give(struct fst_arena *a, struct fst_closed *closed, uint64_t patience, const uint32_t *stop, uint64_t *bytes)
{
    uint32_t n = closed->n;
    closed->n = 0;
    if (n && fst_grace_wait(a, fst_load_seq_cst(&a->sb->gp_seq), patience, stop) != FST_OK) {
        for (uint32_t i = 0; i < n; i++)
            fst_close_undo(a, closed->ids[i], fst_slab_at(a, closed->ids[i])->state);
        return false;
    }
    *bytes += fst_run_release_closed(a, closed->ids, n);
    return true;
}

uint64_t fst_close_shrink_child(struct fst_thread *t, uint32_t child, uint64_t patience)
{
    struct fst_arena *a = t->arena;
    struct fst_revoke r = {.a = a, .me = t->name, .others = true};
    struct fst_closed closed;
    uint64_t bytes = 0;
    bool all, over;
    closed.n = closed.now_n = 0;
    do {
        all = fst_close_empty(&r, child, &closed, &bytes);
        fst_close_give_now(a, &closed, &bytes);
        over = fst_close_give(a, &closed, patience, NULL, &bytes);
        if (all && r.want_far && fst_revoke_far(&r))
            all = false;
    } while (!all && over);
    return bytes;
}
