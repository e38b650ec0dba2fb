/* method.h - methods that nearly everybody calls in one way: GroupCache.alloc(), and put() and
 * get() of a channel. */
#ifndef FST_BINDING_METHOD_H
#define FST_BINDING_METHOD_H

#include <Python.h>

/* The method of `type` that calls plain(self) when it is called without arguments, and else
 * with(self, zero, wait), either of which may be NULL. A new reference; once in a process.
 *
 * It is made by hand because what Cython makes to take arguments apart costs every call. */
PyObject *fst_py_alloc_method(PyTypeObject *type, PyObject *(*plain)(PyObject *),
                              PyObject *(*with)(PyObject *, PyObject *, PyObject *));

/* put(item) and get() of `type`, called like this, become put_plain(self, item) and
 * get_plain(self, NULL); called in any other way they are what they were. Once in a process; -1
 * with an exception. */
int fst_py_quick_channel(PyTypeObject *type, PyObject *(*put_plain)(PyObject *, PyObject *),
                         PyObject *(*get_plain)(PyObject *, PyObject *));

#endif
