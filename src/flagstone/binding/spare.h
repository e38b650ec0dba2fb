/* spare.h - Python objects that have ended, and may begin again.
 *
 * A Block comes and goes as often as an object of the arena, and making one anew is as dear as the
 * object.
 */
#ifndef FST_BINDING_SPARE_H
#define FST_BINDING_SPARE_H

#include <Python.h>
#include <stdbool.h>

#define FST_SPARE_MOST 256

/* Whether tp_dealloc of a type that Python knows already is replaced, by one that keeps what ends.
 * Python's documentation does not speak of that. Without it, ends are what Cython makes of a
 * __dealloc__, and nothing is kept. So it is where threads run at once, too: what is kept would be
 * a list that they share. */
#if !defined(FST_PRIVATE_API) || defined(Py_GIL_DISABLED)
#undef FST_PRIVATE_API
#define FST_PRIVATE_API 0
#endif

struct fst_spare {
    int count;
    PyObject *objects[FST_SPARE_MOST];
};

/* From the object's tp_dealloc, which has let go of all that it held: keep it, or free it. */
static inline void fst_spare_end(struct fst_spare *spare, PyObject *object)
{
    if (spare->count < FST_SPARE_MOST)
        spare->objects[spare->count++] = object;
    else
        Py_TYPE(object)->tp_free(object);
}

/* The callbacks of weak references to it, before it may begin again: they run anything. */
static inline void fst_spare_clear_weak_references(PyObject *object)
{
    if (*(PyObject **)((char *)object + Py_TYPE(object)->tp_weaklistoffset) != NULL)
        PyObject_ClearWeakRefs(object);
}

/* One of them, if there are any: its fields are as they were when it ended. A new reference. */
static inline PyObject *fst_spare_begin(struct fst_spare *spare)
{
    PyObject *object = spare->objects[--spare->count];
    return PyObject_Init(object, Py_TYPE(object));
}

#endif
