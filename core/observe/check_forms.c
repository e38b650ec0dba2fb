/* check_forms.c - check forms and their buckets. It needs no lock: a form is never changed again
 * once it is READY. A form in no bucket is what a kill leaves, or about to be put there. */
#include "alloc/form.h"
#include "observe/parts.h"
#include "platform/atomics.h"
#include "platform/error.h"

static uint32_t bucket_of(const struct fst_form *f)
{
    return f->hash % FST_FORM_BUCKETS;
}

static void check_form(struct fst_check *c, uint32_t i)
{
    const struct fst_form *f = fst_form_at(c->a, i);
    uint32_t state = fst_load_acquire(&f->state), next = fst_load_relaxed(&f->next);
    if (state > FST_FORM_READY)
        fst_check_say(c, "form %u: state %u is none", i + 1, state);
    if (state != FST_FORM_READY)
        return;
    if (!fst_form_sound(f))
        fst_check_say(c, "form %u: its text of %s, for objects of %s, fails its hash", i + 1, fst_exact(f->text_bytes),
                      fst_exact(f->nbytes));
    else if (next > fst_form_top(c->a) || next == i + 1 || (next && bucket_of(fst_form_at(c->a, next - 1)) != bucket_of(f)))
        fst_check_say(c, "form %u: followed by form %u, which is none of its bucket", i + 1, next);
}

void fst_check_forms(struct fst_check *c)
{
    const uint32_t *buckets = (const uint32_t *)(void *)c->a->table[FST_T_FORM_NAMES];
    for (uint32_t i = 0; i < FST_FORM_BUCKETS; i++) {
        uint32_t first = fst_load_acquire(&buckets[i]);
        if (first > fst_form_top(c->a))
            fst_check_say(c, "bucket %u of the forms begins with form %u, of which there are %u", i, first, fst_form_top(c->a));
    }
    uint32_t top = fst_form_top(c->a);
    for (uint32_t i = 0; i < top; i++)
        check_form(c, i);
}
