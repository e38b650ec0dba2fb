/* texts.h - texts that the core finds, one behind the other, each with its final zero.
 *
 * They are collected without the GIL, because the core calls back with its locks held, and whoever
 * holds one must not wait for the GIL.
 */
#ifndef FST_BINDING_TEXTS_H
#define FST_BINDING_TEXTS_H

#include <stddef.h>

struct fst_texts {
    char *bytes; /* from malloc(); NULL if there are none */
    size_t size;
};

/* Add one; a text for which there is no memory is left out. `texts` is a struct fst_texts. */
void fst_texts_add(void *texts, const char *text);

#endif
