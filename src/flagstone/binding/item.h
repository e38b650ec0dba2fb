/* item.h - the item of a list of one, where another thread may put another. */
#ifndef FST_BINDING_ITEM_H
#define FST_BINDING_ITEM_H

#include <Python.h>

/* A new reference, for who keeps it in a plain pointer: Cython counts a variable, too. */
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
