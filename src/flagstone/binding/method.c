#include "binding/method.h"

#include <string.h>

static PyObject *(*alloc_plain)(PyObject *);
static PyObject *(*alloc_with)(PyObject *, PyObject *, PyObject *);

/* Not inline, because the registers that it needs would be saved for every allocation. */
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

/* ---- put() and get() of a channel ---- */

/* A method: for the arguments that nearly everybody gives, and for all others. */
struct quick {
    PyObject *slow; /* Cython's method, which takes its arguments apart */
    PyObject *(*plain)(PyObject *self, PyObject *argument);
    PyMethodDef method;
};

static __attribute__((noinline)) PyObject *call_slow(const struct quick *quick, PyObject *self, PyObject *const *args,
                                                     Py_ssize_t count, PyObject *names)
{
    PyObject *few[8], **all = few, *result;
    size_t rest = (size_t)count + (names == NULL ? 0 : (size_t)PyTuple_GET_SIZE(names));
    if (rest >= sizeof few / sizeof *few && (all = PyMem_Malloc((rest + 1) * sizeof *all)) == NULL)
        return PyErr_NoMemory();
    all[0] = self;
    if (rest != 0)
        memcpy(all + 1, args, rest * sizeof *all);
    result = PyObject_Vectorcall(quick->slow, all, (size_t)count + 1, names);
    if (all != few)
        PyMem_Free(all);
    return result;
}

static PyObject *put(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);
static PyObject *get(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names);

static struct quick quick_put = {.method = {"put", (PyCFunction)(void (*)(void))put, METH_FASTCALL | METH_KEYWORDS, NULL}},
                    quick_get = {.method = {"get", (PyCFunction)(void (*)(void))get, METH_FASTCALL | METH_KEYWORDS, NULL}};

static PyObject *put(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count == 1 && names == NULL)
        return quick_put.plain(self, args[0]);
    return call_slow(&quick_put, self, args, count, names);
}

static PyObject *get(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    if (count == 0 && names == NULL)
        return quick_get.plain(self, NULL);
    return call_slow(&quick_get, self, args, count, names);
}

static int replace(PyTypeObject *type, struct quick *quick, PyObject *(*plain)(PyObject *, PyObject *))
{
    PyObject *slow = PyDict_GetItemString(type->tp_dict, quick->method.ml_name), *method;
    int status;
    if (slow == NULL || !Py_IS_TYPE(slow, &PyMethodDescr_Type)) {
        PyErr_Format(PyExc_SystemError, "%s has no method %s", type->tp_name, quick->method.ml_name);
        return -1;
    }
    quick->slow = Py_NewRef(slow);
    quick->plain = plain;
    quick->method.ml_doc = ((PyMethodDescrObject *)slow)->d_method->ml_doc;
    method = PyDescr_NewMethod(type, &quick->method);
    if (method == NULL)
        return -1;
    status = PyDict_SetItemString(type->tp_dict, quick->method.ml_name, method);
    Py_DECREF(method);
    PyType_Modified(type);
    return status;
}

int fst_py_quick_channel(PyTypeObject *type, PyObject *(*put_plain)(PyObject *, PyObject *),
                         PyObject *(*get_plain)(PyObject *, PyObject *))
{
    return replace(type, &quick_put, put_plain) || replace(type, &quick_get, get_plain) ? -1 : 0;
}
