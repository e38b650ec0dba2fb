/* method.h - GroupCache.alloc(), which nearly everybody calls without arguments. */
#ifndef FST_BINDING_METHOD_H
#define FST_BINDING_METHOD_H

#include <Python.h>

/* The method of `type` that calls plain(self) when it is called without arguments, and else
 * with(self, zero, wait), either of which may be NULL. A new reference; once in a process.
 *
 * It is made by hand because what Cython makes to take arguments apart costs every call. */
PyObject *fst_py_alloc_method(PyTypeObject *type, PyObject *(*plain)(PyObject *),
                              PyObject *(*with)(PyObject *, PyObject *, PyObject *));

#endif
