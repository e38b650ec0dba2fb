#include "binding/method.h"

static PyObject *(*alloc_plain)(PyObject *);
static PyObject *(*alloc_with)(PyObject *, PyObject *, PyObject *);

/* Not in line: the registers that it needs would be saved for every allocation. */
static __attribute__((noinline)) PyObject *alloc_with_arguments(PyObject *self, PyObject *const *args, Py_ssize_t count,
                                                                PyObject *names)
{
    PyObject *zero = NULL, *wait = NULL;
    if (count != 0)
        return PyErr_Format(PyExc_TypeError, "alloc() takes exactly 0 positional arguments (%zd given)", count);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "zero") == 0)
            zero = args[i];
        else if (PyUnicode_CompareWithASCIIString(name, "wait") == 0)
            wait = args[i];
        else
            return PyErr_Format(PyExc_TypeError, "alloc() got an unexpected keyword argument '%U'", name);
    }
    return alloc_with(self, zero, wait);
}

static PyObject *alloc(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count == 0 && names == NULL)
        return alloc_plain(self);
    return alloc_with_arguments(self, args, count, names);
}

PyObject *fst_py_alloc_method(PyTypeObject *type, PyObject *(*plain)(PyObject *),
                              PyObject *(*with)(PyObject *, PyObject *, PyObject *))
{
    static PyMethodDef method = {
        "alloc",
        (PyCFunction)(void (*)(void))alloc,
        METH_FASTCALL | METH_KEYWORDS,
        "alloc(self, *, zero: bool = False, wait=None)\n\n"
        "A `Block`; arguments and errors as in `Cache.alloc`.",
    };
    alloc_plain = plain;
    alloc_with = with;
    return PyDescr_NewMethod(type, &method);
}
