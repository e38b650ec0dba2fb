/* handle.c - handles and messages of objects: how an object comes to another process, by the
 * protocol of refs/claim.h. */
#include "arena/handle.h"

#include "alloc/active.h"
#include "alloc/child.h"
#include "alloc/form.h"
#include "alloc/shape.h"
#include "alloc/slab.h"
#include "platform/error.h"
#include "reclaim/message.h"
#include "reclaim/reaper.h"
#include "refs/claim.h"
#include "refs/inflight.h"
#include "refs/reftable.h"
#include "refs/word.h"
#include "region/lock.h"

/* The caller holds a reference to the object, so it is there, unless the arena is damaged. */
int fst_object_gone(struct fst_arena *a, uint64_t oid)
{
    fst_damaged(a, "object %llx is in use, and there is no such object", (unsigned long long)oid);
    return fst_damage(a);
}

struct fst_handle fst_object_handle(struct fst_arena *a, uint64_t oid, uint64_t generation)
{
    uint64_t slab =
        fst_oid_is_group(oid) ? 0 : fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->state) >> FST_STATE_GEN_SHIFT;
    return (struct fst_handle){generation | fst_handle_tag(a) << FST_HANDLE_TAG_SHIFT, oid | slab << FST_HANDLE_SLAB_SHIFT};
}

/* Note that objects of this child go to other processes from now on. So whoever owns slabs of it
 * has to pass a fence when it allocates: this thread at once, others from the slabs on that they
 * own next. */
void fst_object_note_shared(struct fst_arena *a, uint64_t oid)
{
    uint32_t index = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    if (!fst_is_child(a, index) || fst_load_relaxed(&fst_child_at(a, index)->shared))
        return;
    fst_store_relaxed(&fst_child_at(a, index)->shared, 1);
    if (fst_thread_current->arena == a && fst_active_is(fst_thread_current, index))
        fst_active_let_go(fst_thread_current, index);
}

int fst_handle_of(fst_arena *a, const struct fst_ref *ref, struct fst_handle *out)
{
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    uint64_t *word = fst_word_of(a, ref->oid);
    if (!word)
        return fst_object_gone(a, ref->oid);
    fst_object_note_shared(a, ref->oid);
    /* Whoever reads the handle may resolve it from now on. */
    uint64_t seen = fst_word_set(word, FST_WORD_HANDED);
    *out = fst_object_handle(a, ref->oid, fst_word_gen(seen));
    return FST_OK;
}

int fst_handle_check(struct fst_arena *a, const struct fst_handle *h, bool group)
{
    if (h->generation_tag >> FST_HANDLE_TAG_SHIFT != fst_handle_tag(a))
        return fst_fail(
            FST_FOREIGN,
            "the handle is of another arena: this one was made since, or the handle comes from another machine or container");
    if (fst_oid_is_group(fst_handle_oid(h)) != group)
        return fst_fail(FST_STALE, "the handle names %s", group ? "no group" : "a group, not an object");
    return FST_OK;
}

/* May a reference be made to the object? WAIT: destroy() of its cache is looking for users just
 * now. */
enum look { THERE, GONE, WAIT };

static enum look look(struct fst_arena *a, const struct fst_handle *h)
{
    uint64_t oid = fst_handle_oid(h);
    if (!fst_word_of(a, oid))
        return GONE;
    const struct fst_slab *s = fst_slab_known(a, fst_oid_slab(oid));
    uint64_t state = fst_load_acquire(&s->state);
    uint32_t index = fst_load_relaxed(&s->child);
    if (fst_state(state) != FST_SLAB_LIVE || fst_oid_object(oid) >= fst_load_relaxed(&s->objects) || !fst_is_child(a, index))
        return GONE;
    if ((state >> FST_STATE_GEN_SHIFT & ((1u << 25) - 1)) != h->oid_slab >> FST_HANDLE_SLAB_SHIFT)
        return GONE;
    uint32_t child = fst_state(fst_load_acquire(&fst_child_at(a, index)->state));
    return child == FST_CHILD_ENDED ? GONE : child == FST_CHILD_ENDING ? WAIT : THERE;
}

static inline int fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out)
{
    uint32_t id = fst_oid_slab(oid);
    struct fst_slab *s = fst_slab_known(a, id);
    const struct fst_child *c = fst_child_at(a, s->child);
    const uint64_t *word = fst_slab_word(s, FST_SLAB_ID_CLASS(id), fst_oid_object(oid));
    /* The child's life is over no sooner than that of the object. */
    if (__builtin_expect(!fst_shape_sized(a, c), 0))
        return fst_shape_check(a, s->child, fst_load_relaxed(&c->state), 0, 0);
    uint64_t seen = fst_load_relaxed(word), whole = fst_slab_whole(s, c);
    out->form = 0;
    out->nbytes = s->asked ? whole : fst_form_asked(whole, fst_word_slack(seen));
    out->data = fst_slab_data(a, s, id, fst_oid_object(oid) * c->stride, out->nbytes);
    out->oid = oid;
    out->entry = entry;
    if (__builtin_expect(!out->data, 0))
        return fst_damage(a);
    if (__builtin_expect(!(seen & FST_WORD_FORMED), 1))
        return FST_OK;
    out->form = fst_form_in(seen);
    return fst_form_nbytes(a, seen, out->data, whole, &out->nbytes);
}

int fst_object_fill(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_ref *out)
{
    return fill(a, oid, entry, out);
}

uint64_t fst_object_bytes(struct fst_arena *a, uint64_t oid)
{
    uint32_t id = fst_oid_slab(oid);
    const struct fst_slab *s = fst_slab_at(a, id);
    const uint64_t *word = fst_word_of(a, oid);
    uint64_t size = fst_child_at(a, fst_load_relaxed(&s->child))->size, asked = fst_load_relaxed(&s->asked);
    return word ? fst_form_counted(a, asked, size, fst_load_relaxed(word)) : 0;
}

/* Make one attempt at a reference: from the message, or, if that is NULL, from the bare handle.
 * FST_BUSY: try again. */
static int try_get(struct fst_thread *t, const struct fst_handle *h, const struct fst_message *message, struct fst_ref *out)
{
    struct fst_arena *a = t->arena;
    uint64_t oid = fst_handle_oid(h), generation = fst_handle_generation(h);
    uint32_t entry;
    bool dropped = false, took = false;
    enum look seen = look(a, h);
    int rc = seen == THERE ? FST_OK : seen == WAIT ? FST_BUSY : message ? fst_inflight_stale(a, message) : fst_claim_stale(a);
    if (rc == FST_OK)
        rc = message ? fst_claim_message(t, message, &entry, &took, &dropped)
                     : fst_claim(t, oid, generation, true, &entry, &dropped);
    /* A bare handle counts only if nobody has ended the object meanwhile. PAIR(cache-ending) */
    if (rc == FST_OK && !took && (seen = look(a, h)) != THERE) {
        dropped |= fst_refs_drop(a, entry);
        rc = seen == WAIT ? FST_BUSY : message ? fst_inflight_stale(a, message) : fst_claim_stale(a);
    }
    if (rc == FST_OK && (rc = fill(a, oid, entry, out)) != FST_OK)
        dropped |= fst_refs_drop(a, entry);
    if (dropped)
        fst_reaper_dropped(a, 0);
    return rc;
}

__attribute__((noinline)) int fst_object_resumed(struct fst_arena *a, uint64_t oid)
{
    uint32_t child = fst_load_relaxed(&fst_slab_at(a, fst_oid_slab(oid))->child), given_up = fst_lock_given_up();
    if (fst_is_child(a, child))
        fst_child_resumed(a, child);
    return fst_verdict(a, fst_lock_given_up() == given_up ? FST_OK : fst_lock_held(a));
}

static int get(fst_arena *a, const struct fst_handle *h, const struct fst_message *message, struct fst_ref *out)
{
    struct fst_thread *t = fst_thread_get(a);
    if (!t)
        return fst_thread_refused(a);
    int rc = fst_handle_check(a, h, false);
    if (rc == FST_OK)
        rc = fst_verdict(a, FST_OK);
    while (rc == FST_OK && (rc = try_get(t, h, message, out)) == FST_BUSY) {
        rc = fst_object_resumed(a, fst_handle_oid(h));
    }
    if (rc == FST_OK)
        fst_reaper_watch(a);
    return rc;
}

int fst_resolve(fst_arena *a, const struct fst_handle *handle, struct fst_ref *out)
{
    return get(a, handle, NULL, out);
}

/* Was the object's group or cache destroyed? Then no message of it goes in flight any more. */
static bool destroyed(struct fst_arena *a, uint64_t oid)
{
    if (fst_oid_is_group(oid))
        return fst_state(fst_load_seq_cst(&fst_group_at(a, fst_oid_group_index(oid))->state)) == FST_GROUP_DESTROYED;
    uint32_t child = fst_load_relaxed(&fst_slab_known(a, fst_oid_slab(oid))->child);
    return fst_state(fst_load_seq_cst(&fst_child_at(a, child)->state)) == FST_CHILD_ENDED;
}

int fst_object_put_in_flight(struct fst_arena *a, uint64_t oid, uint32_t entry, struct fst_message *out)
{
    uint64_t *word = fst_word_of(a, oid);
    if (!word)
        return fst_object_gone(a, oid);
    uint64_t generation = fst_word_gen(fst_word_set(word, FST_WORD_SHARED));
    fst_refs_index(a, entry);
    out->handle = fst_object_handle(a, oid, generation);
    uint32_t group = fst_inflight_group_of(a, oid);
    int rc = fst_inflight_put(a, oid, generation, group, &out->entry, &out->tag);
    /* The batch that ends a group looks at the entries in flight once. Either it sees this entry,
     * or this thread sees here that the group has ended. Then the message is a bare handle, which
     * nobody can take, and the object goes with the caller's own reference. */
    if (rc == FST_OK && destroyed(a, oid)) {
        fst_inflight_end(a, out->entry, fst_inflight_word(oid, out->tag));
        out->entry = FST_NONE;
    }
    if (rc == FST_OK && fst_message_sent(a, group))
        fst_reaper_expect(a);
    if (rc == FST_OK)
        fst_reaper_watch(a);
    return rc;
}

int fst_share(fst_arena *a, const struct fst_ref *ref, struct fst_message *out)
{
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    fst_object_note_shared(a, ref->oid);
    return fst_object_put_in_flight(a, ref->oid, ref->entry, out);
}

int fst_take(fst_arena *a, const struct fst_message *message, struct fst_ref *out)
{
    return get(a, &message->handle, message, out);
}

/* ---- dropping messages ---- */

size_t fst_inflight_drop_from(fst_arena *a, uint64_t older_than, uint64_t group, int32_t pid, bool dead)
{
    struct fst_thread *t = fst_thread_get(a);
    struct fst_message_filter filter = {.older_than = older_than, .group = group, .pid = pid, .dead = dead};
    bool dropped = false;
    size_t n = t ? fst_message_drop(t, &filter, &dropped) : 0;
    if (dropped)
        fst_reaper_dropped(a, 0);
    return n;
}

size_t fst_inflight_expire(fst_arena *a)
{
    struct fst_thread *t = fst_message_expiring(a, fst_now()) && !fst_is_damaged(a) ? fst_thread_get(a) : NULL;
    bool dropped = false;
    size_t n = t ? fst_message_expire(t, &dropped) : 0;
    if (dropped)
        fst_reaper_dropped(a, 0);
    return n;
}

/* ---- forms ---- */

int fst_form_text(fst_arena *a, const struct fst_ref *ref, char *out, size_t room, size_t *text_bytes)
{
    int rc = a->usable ? FST_OK : fst_thread_usable(a);
    if (rc)
        return rc;
    const uint64_t *word = fst_word_of(a, ref->oid);
    if (!word)
        return fst_object_gone(a, ref->oid);
    uint32_t id = fst_oid_slab(ref->oid);
    const struct fst_slab *s = fst_slab_known(a, id);
    uint64_t whole = fst_slab_whole(s, fst_child_at(a, s->child));
    *text_bytes = 0;
    if (!fst_form_in(fst_load_relaxed(word)))
        return FST_OK;
    uint64_t offset = (uint64_t)((uint8_t *)ref->data - a->data) - ((uint64_t)s->page << FST_PAGE_SHIFT);
    const uint8_t *data = fst_slab_data(a, s, id, offset, whole);
    return data ? fst_form_text_of(a, fst_load_relaxed(word), data, whole, out, room, text_bytes) : fst_damage(a);
}
