/* address.c - to which of the objects that this process uses do these bytes belong? */
#include "alloc/form.h"
#include "alloc/slab.h"
#include "platform/error.h"
#include "rcu/thread.h"
#include "refs/reftable.h"
#include "refs/word.h"

/* Does the entry speak of an object that has this address? Then *out receives a reference that
 * nobody has counted yet. */
static bool reaches(struct fst_arena *a, uint32_t entry, const uint8_t *address, struct fst_ref *out)
{
    uint64_t e = fst_load_acquire(&a->entries[entry]), oid = fst_entry_oid(e);
    if (fst_entry_state(e) != FST_ENTRY_LIVE || fst_oid_is_group(oid))
        return false;
    const uint64_t *word = fst_word_of(a, oid);
    uint64_t w = word ? fst_load_acquire(word) : 0;
    uint32_t id = fst_oid_slab(oid);
    const struct fst_slab *s = word ? fst_slab_known(a, id) : NULL;
    /* The child is read once, because another thread may drop the object meanwhile, and the slab
     * may be given back. */
    uint32_t child = s ? fst_load_relaxed(&s->child) : FST_NONE;
    if (!(w & FST_WORD_ALLOCATED) || !fst_entry_matches(e, w) || !fst_is_child(a, child))
        return false;
    const struct fst_child *c = fst_child_at(a, child);
    uint64_t whole = fst_slab_whole(s, c);
    uint64_t nbytes = fst_load_relaxed(&s->asked) ? whole : fst_form_asked(whole, fst_word_slack(w));
    uint8_t *data = fst_slab_data(a, s, id, fst_oid_object(oid) * c->stride, nbytes);
    if (!data || address < data || address >= data + nbytes)
        return false;
    /* Behind the object's own bytes there may be the text of its form. */
    if ((w & FST_WORD_FORMED) && (fst_form_nbytes(a, w, data, whole, &nbytes) != FST_OK || address >= data + nbytes))
        return false;
    *out = (struct fst_ref){.data = data, .nbytes = nbytes, .oid = oid, .entry = entry, .form = fst_form_in(w)};
    return true;
}

bool fst_arena_spans(const fst_arena *a, const void *address)
{
    const uint8_t *at = address;
    return at >= a->data && at < a->data + a->known.capacity;
}

int fst_ref_at(fst_arena *a, const void *address, struct fst_ref *out)
{
    int rc = fst_thread_usable(a);
    if (rc)
        return rc;
    const uint8_t *at = address;
    uint32_t says, used = 0;
    if (fst_arena_spans(a, address))
        fst_refs_agree(a, &says, &used);
    for (uint32_t i = 0; i < used; i++) {
        if (reaches(a, i, at, out)) {
            fst_hold(a, out);
            return FST_OK;
        }
    }
    return fst_fail(FST_MISSING, "the address lies in no object that this process uses");
}
