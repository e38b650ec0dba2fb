/* form.h - forms: what objects without a cache of their own mean, as a text (dtype, shape and
 * order) which the core keeps and does not read.
 *
 * A form costs an object nothing: the object's word has the form's number in place of the bytes
 * that its size class rounded up, and the form says how many bytes were asked for. So no write can
 * be missing after a kill: the word says at once that the object is allocated and what it is.
 *
 * Forms are interned and never end: a program has some hundreds, and there is room for 8,190.
 * Counting their users would cost a shared write for each object, and make counts that a kill
 * leaves wrong. A text that finds no room, or is too long, lies *behind* the object's bytes, in the
 * object's own memory, and the word says so with FST_FORM_OWN.
 *
 * There is no lock. A form is claimed by swinging `form_top`, then written, then put into its
 * bucket by one swing; its link never changes again. After a kill in between, a claimed form is
 * nobody's for ever, and its place is lost. PAIR(form): whoever finds a form's number finds the
 * form written.
 *
 * None of this is believed: the hash is of text and number of bytes, and that number is compared
 * with the object's size.
 */
#ifndef FST_ALLOC_FORM_H
#define FST_ALLOC_FORM_H

#include <stddef.h>

#include "refs/word.h"
#include "region/region.h"

static_assert(FST_MAX_FORMS + 1 == FST_FORM_OWN, "numbers of forms begin with 1");

/* What stands in the word's slack of an object that has this form; 0: its text lies behind its
 * bytes. */
static inline uint64_t fst_form_mark(uint32_t form)
{
    return (FST_WORD_FORMED >> FST_WORD_SLACK_SHIFT) | (form ? form : FST_FORM_OWN);
}

/* The number of the form in a word, or FST_FORM_OWN; 0: the object has none. */
static inline uint32_t fst_form_in(uint64_t word)
{
    return word & FST_WORD_FORMED ? (uint32_t)fst_word_slack(word) & FST_FORM_OWN : 0;
}

/* How many bytes were asked for, of an object whose size class or slab has `whole` bytes, by its
 * word's slack alone. */
static inline uint64_t fst_form_asked(uint64_t whole, uint64_t slack)
{
    return slack > FST_FORM_OWN || slack > whole ? whole : whole - slack;
}

/* The form of this number, if it is READY, or NULL. */
const struct fst_form *fst_form_find(const struct fst_arena *a, uint32_t form);

/* Does the form's hash fit its text? */
bool fst_form_sound(const struct fst_form *f);

/* How many bytes were asked for, by the whole word: for whoever counts. What lies behind an
 * object's own bytes is counted, too. Where the slab says how many bytes were asked for (`asked`,
 * not 0), that is the answer. */
static inline uint64_t fst_form_counted(const struct fst_arena *a, uint64_t asked, uint64_t whole, uint64_t word)
{
    if (asked)
        return asked;
    uint32_t form = fst_form_in(word);
    const struct fst_form *f = form && form != FST_FORM_OWN ? fst_form_find(a, form) : NULL;
    return f && f->nbytes < whole ? f->nbytes : fst_form_asked(whole, fst_word_slack(word));
}

/* What was asked for, of an object with a form. FST_CORRUPTED when word and form contradict each
 * other. */
int fst_form_nbytes(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, uint64_t *nbytes);

/* The bytes that an object needs for a text behind its own. */
static inline uint64_t fst_form_behind_bytes(size_t text_bytes)
{
    return text_bytes + sizeof(struct fst_form_behind);
}
void fst_form_put_behind(uint8_t *data, uint64_t whole, uint64_t nbytes, const char *text, size_t text_bytes);

/* The text of an object's form, or the one that lies behind its bytes: at most `room` bytes of it
 * into `out`, and its length. FST_CORRUPTED. */
int fst_form_text_of(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, char *out, size_t room,
                     size_t *text_bytes);

#endif
