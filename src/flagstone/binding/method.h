/* method.h - methods that are nearly always called in one way: GroupCache.alloc(), and put() and
 * get() of a channel.
 *
 * They are made by hand because the code that Cython makes to take arguments apart costs every
 * call. */
#ifndef FST_BINDING_METHOD_H
#define FST_BINDING_METHOD_H

#include <Python.h>

/* The method `alloc` of `type`, a new reference; NULL with an exception. Called without arguments
 * it is plain(self), else with(self, zero, wait), where NULL stands for what was not given. To be
 * made once in a process. */
PyObject *fst_py_alloc_method(PyTypeObject *type, PyObject *(*plain)(PyObject *),
                              PyObject *(*with)(PyObject *, PyObject *, PyObject *));

/* Replace put and get of `type`: put(item) becomes put_plain(self, item), and get() becomes
 * get_plain(self, NULL); called in any other way they are what they were. To be called once in a
 * process. 0, or -1 with an exception. */
int fst_py_quick_channel(PyTypeObject *type, PyObject *(*put_plain)(PyObject *, PyObject *),
                         PyObject *(*get_plain)(PyObject *, PyObject *));

#endif
