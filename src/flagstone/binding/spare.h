/* spare.h - Python objects that have ended, kept to be used again.
 *
 * A Block comes and goes as often as an object of the arena, and making a new Python object costs
 * as much as allocating that.
 */
#ifndef FST_BINDING_SPARE_H
#define FST_BINDING_SPARE_H

#include <Python.h>
#include <stdbool.h>

#define FST_SPARE_MOST 256

/* 1: tp_dealloc of types that Python has made ready already is replaced by functions that keep what
 * ends, which Python's documentation does not provide for (the private API; meson's option
 * private_api). 0: ends are what Cython makes of __dealloc__, and nothing is kept. Builds without
 * a GIL always have 0, because their threads would share the list of what is kept. */
#if !defined(FST_PRIVATE_API) || defined(Py_GIL_DISABLED)
#undef FST_PRIVATE_API
#define FST_PRIVATE_API 0
#endif

struct fst_spare {
    int count;
    PyObject *objects[FST_SPARE_MOST];
};

/* Keep the object, or free it. To be called by its tp_dealloc, which has let go of all that it
 * held. */
static inline void fst_spare_end(struct fst_spare *spare, PyObject *object)
{
    if (spare->count < FST_SPARE_MOST)
        spare->objects[spare->count++] = object;
    else
        Py_TYPE(object)->tp_free(object);
}

/* Call the callbacks of weak references to it. They run any code, so it may not be used again
 * before. */
static inline void fst_spare_clear_weak_references(PyObject *object)
{
    if (*(PyObject **)((char *)object + Py_TYPE(object)->tp_weaklistoffset) != NULL)
        PyObject_ClearWeakRefs(object);
}

/* One of those that were kept, of which there must be one (`count`). A new reference; its fields
 * are as they were when it ended. */
static inline PyObject *fst_spare_begin(struct fst_spare *spare)
{
    PyObject *object = spare->objects[--spare->count];
    return PyObject_Init(object, Py_TYPE(object));
}

#endif
