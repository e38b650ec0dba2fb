/* alloc.h - two ways to allocate: of what is large, without the GIL; and by number of bytes. */
#ifndef FST_BINDING_ALLOC_H
#define FST_BINDING_ALLOC_H

#include <Python.h>

#include "flagstone.h"

/* Allocate a large object: at once if a slab that is there has a free one, else without the GIL.
 * Not inline, because the registers that it needs would be saved for every allocation. */
static __attribute__((noinline)) int fst_py_alloc_long(fst_arena *arena, uint64_t child, struct fst_ref *out)
{
    int status = fst_alloc_at_once(arena, child, out);
    if (status != FST_OK) {
        Py_BEGIN_ALLOW_THREADS status = fst_alloc(arena, child, out);
        Py_END_ALLOW_THREADS
    }
    return status;
}

/* Allocate so many bytes, of a form, or (NULL) of none: plain bytes. */
static inline int fst_py_alloc_sized(fst_arena *arena, uint64_t group, uint64_t nbytes, const struct fst_form_spec *form,
                                     struct fst_ref *out)
{
    return form == NULL ? fst_alloc_bytes(arena, group, nbytes, out) : fst_alloc_form(arena, group, nbytes, form, out);
}

#endif
