/* item.h - the item of a list of one, in whose place another thread may put another. */
#ifndef FST_BINDING_ITEM_H
#define FST_BINDING_ITEM_H

#include <Python.h>

/* A new reference to it, also for a caller that keeps it in a plain pointer. (In Cython, `list[0]`
 * makes a variable, which is counted once more, and counts what another thread may have freed.) */
static inline PyObject *fst_py_only_item(PyObject *list)
{
#ifdef Py_GIL_DISABLED
    return PyList_GetItemRef(list, 0);
#else
    PyObject *item = PyList_GET_ITEM(list, 0);
    Py_INCREF(item);
    return item;
#endif
}

#endif
