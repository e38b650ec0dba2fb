/* form.h - forms: what objects mean that have no cache of their own, as text (dtype, shape and
 * order) which the core keeps and does not read.
 *
 * An object costs nothing for it: its word has a number in place of what its size class rounded up,
 * and the form says how many bytes were asked for. So there is no write that could be missing after
 * a kill: the word says both at once that the object is allocated and what it is.
 *
 * Forms are interned and never end: a program has some hundreds, and there is room for 8,190.
 * Counting their users would cost a shared write for each object, and counts that a kill leaves
 * wrong. What finds no room (or is too long for it) lies *behind* the object's bytes, in the
 * object's own memory, and the word says so with FST_FORM_OWN.
 *
 * No lock: a form is claimed by swinging `form_top`, written, and put into its bucket by one swing;
 * links never change again. Killed in between, a claimed form is nobody's for ever, and its place
 * is lost. PAIR(form): who finds its number finds it written.
 *
 * Nothing of it is believed: the hash is of text and number of bytes, and these are compared with
 * the object's size.
 */
#ifndef FST_ALLOC_FORM_H
#define FST_ALLOC_FORM_H

#include <stddef.h>

#include "refs/word.h"
#include "region/region.h"

static_assert(FST_MAX_FORMS + 1 == FST_FORM_OWN, "numbers of forms begin with 1");

/* What stands in the word of an object that has a form. */
static inline uint64_t fst_form_mark(uint32_t form)
{
    return (FST_WORD_FORMED >> FST_WORD_SLACK_SHIFT) | (form ? form : FST_FORM_OWN);
}

/* The number of the form, or FST_FORM_OWN; 0: none. */
static inline uint32_t fst_form_in(uint64_t word)
{
    return word & FST_WORD_FORMED ? (uint32_t)fst_word_slack(word) & FST_FORM_OWN : 0;
}

/* Of an object whose size class (or slab) has `whole` bytes: how many were asked for, by the mark
 * of its word alone. */
static inline uint64_t fst_form_asked(uint64_t whole, uint64_t slack)
{
    return slack > FST_FORM_OWN || slack > whole ? whole : whole - slack;
}

/* READY and of this number, or NULL. */
const struct fst_form *fst_form_find(const struct fst_arena *a, uint32_t form);

/* Is what it says what was written? */
bool fst_form_sound(const struct fst_form *f);

/* The same by its word, for who counts: what lies behind the bytes is counted, too, and of a slab
 * that says it (`asked`) what it says. */
static inline uint64_t fst_form_counted(const struct fst_arena *a, uint64_t asked, uint64_t whole, uint64_t word)
{
    if (asked)
        return asked;
    uint32_t form = fst_form_in(word);
    const struct fst_form *f = form && form != FST_FORM_OWN ? fst_form_find(a, form) : NULL;
    return f && f->nbytes < whole ? f->nbytes : fst_form_asked(whole, fst_word_slack(word));
}

/* What was asked for, of an object with a form. FST_CORRUPTED. */
int fst_form_nbytes(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, uint64_t *nbytes);

/* Bytes that an object needs for a text behind its own. */
static inline uint64_t fst_form_behind_bytes(size_t text_bytes)
{
    return text_bytes + sizeof(struct fst_form_behind);
}
void fst_form_put_behind(uint8_t *data, uint64_t whole, uint64_t nbytes, const char *text, size_t text_bytes);

/* The text of a form, or of what lies behind: at most `room` bytes into `out`, and its length. */
int fst_form_text_of(struct fst_arena *a, uint64_t word, const uint8_t *data, uint64_t whole, char *out, size_t room,
                     size_t *text_bytes);

#endif
