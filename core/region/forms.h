/* forms.h - the bytes in shared memory that say what objects without a cache of their own mean
 * (alloc/form.h says what they are for).
 */
#ifndef FST_REGION_FORMS_H
#define FST_REGION_FORMS_H

#include "region/layout.h"

/* An object's word has 13 bits, which say one of these forms, none, or FST_FORM_OWN. */
#define FST_MAX_FORMS    8190u
#define FST_FORM_BUCKETS 1024u

/* A text. It is written once, before `state` says so, and never changed or freed again. An object's
 * word has the text's index + 1 (FST_WORD_FORMED).
 *
 * struct fst_form
 *      0       4      8        16     20           24    32     512
 *      | state | next | nbytes | hash | text_bytes | pad | text | */
enum fst_form_state {
    FST_FORM_FREE = 0, /* unused; or its maker was killed, and it is nobody's */
    FST_FORM_READY = 1,
};

#define FST_FORM_TEXT 480u /* bytes of a text that has a place in the table */

struct fst_form {
    uint32_t state;
    /* form + 1 of the next one in the same bucket, 0: the last; written before this form is in the
     * bucket, and then constant */
    uint32_t next;
    uint64_t nbytes; /* of an object of this form */
    uint32_t hash;   /* of text and nbytes */
    uint32_t text_bytes;
    uint64_t pad;
    char text[FST_FORM_TEXT];
};
static_assert(sizeof(struct fst_form) == 512, "layout");

/* What lies at the end of an object's memory, behind its own bytes: the text, and then this struct.
 * struct fst_form_behind
 *      0        8            12     16
 *      | nbytes | text_bytes | hash | */
struct fst_form_behind {
    uint64_t nbytes; /* of the object's own bytes */
    uint32_t text_bytes;
    uint32_t hash;
};
static_assert(sizeof(struct fst_form_behind) == 16, "layout");

#endif
