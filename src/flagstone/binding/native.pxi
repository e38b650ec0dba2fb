# What the binding needs of C, Python and NumPy beyond their pxd files.

cdef extern from *:
    """
    #include <stdlib.h>
    #include <string.h>
    #include "flagstone.h"

    static inline int fst_py_load(int *flag) {
        return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
    }
    /* Counts that threads share. enter() refuses to wake the dead: a count of 0 stays 0. */
    static inline int fst_py_swing(int *count, int *seen, int next) {
        return __atomic_compare_exchange_n(count, seen, next, 0, __ATOMIC_ACQ_REL,
                                           __ATOMIC_RELAXED);
    }
    static inline int fst_py_enter(int *count) {
        int seen = fst_py_load(count);
        while (seen != 0)
            if (fst_py_swing(count, &seen, seen + 1))
                return 1;
        return 0;
    }
    static inline int fst_py_leave(int *count) {
        return __atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL) == 0;
    }
    /* Between enter() and leave(): from now on leave() does not answer that nobody is left. */
    static inline void fst_py_stay(int *count) {
        if (!(fst_py_load(count) & (1 << 30)))
            __atomic_fetch_or(count, 1 << 30, __ATOMIC_ACQ_REL);
    }
    /* 1 becomes 0: nobody else looks at it, and nobody will. */
    static inline int fst_py_only(int *count) {
        int one = 1;
        return fst_py_swing(count, &one, 0);
    }
    static inline int fst_py_swap(int *flag, int value) {
        return __atomic_exchange_n(flag, value, __ATOMIC_ACQ_REL);
    }

    /* An allocation that may take long. Not in line: the registers that it needs would be saved for
     * every allocation. */
    static __attribute__((noinline)) int fst_py_alloc_long(fst_arena *arena, uint64_t child,
                                                           struct fst_ref *out) {
        int status = fst_alloc_at_once(arena, child, out);
        if (status != FST_OK) {
            Py_BEGIN_ALLOW_THREADS
            status = fst_alloc(arena, child, out);
            Py_END_ALLOW_THREADS
        }
        return status;
    }

    /* Of a list of one. Its argument is no object to Cython, which would count it once more, and less. */
    static inline PyObject *fst_py_only_item(PyObject *list) {
        return PyList_GET_ITEM(list, 0);
    }

    /* Blocks that have ended, to begin again: a Block comes and goes as often as an object, and making one anew is as dear as the
     * object. None where threads run at once. */
    static PyObject *fst_py_spare[256];
    static int fst_py_spares;
    static inline int fst_py_put_aside(PyObject *block) {
    #ifndef Py_GIL_DISABLED
        if (fst_py_spares < (int)(sizeof fst_py_spare / sizeof *fst_py_spare)) {
            fst_py_spare[fst_py_spares++] = block;
            return 1;
        }
    #endif
        return 0;
    }
    static inline PyObject *fst_py_again(void) {
        PyObject *block = fst_py_spare[--fst_py_spares];
        _Py_NewReference(block);
        return block;
    }

    static inline void fst_py_keep_weak_references_at(PyTypeObject *type, Py_ssize_t offset) {
        type->tp_weaklistoffset = offset;
    }

    /* alloc() without arguments, which is nearly every one, goes past what Cython makes to take arguments apart. */
    static PyObject *(*fst_py_alloc_plain)(PyObject *);
    static PyCFunction fst_py_alloc_any;
    static PyObject *fst_py_alloc(PyObject *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
        if (count == 0 && names == NULL)
            return fst_py_alloc_plain(self);
        return ((PyObject *(*)(PyObject *, PyObject *const *, Py_ssize_t, PyObject *))(void (*)(void))fst_py_alloc_any)(
            self, args, count, names);
    }
    static void fst_py_shorten_alloc(PyObject *method, PyObject *(*plain)(PyObject *)) {
        PyMethodDef *def = Py_TYPE(method) == &PyMethodDescr_Type ? ((PyMethodDescrObject *)method)->d_method : NULL;
        if (def == NULL || def->ml_flags != (METH_FASTCALL | METH_KEYWORDS))
            return; /* slower, and right */
        fst_py_alloc_plain = plain;
        fst_py_alloc_any = def->ml_meth;
        def->ml_meth = (PyCFunction)(void (*)(void))fst_py_alloc;
    }

    /* Findings are collected without the GIL: the core calls back under its locks, where the GIL
     * must not be waited for. */
    struct fst_py_texts { char *bytes; size_t size; };
    static void fst_py_collect(void *context, const char *text) {
        struct fst_py_texts *texts = (struct fst_py_texts *)context;
        size_t length = strlen(text) + 1;
        char *more = (char *)realloc(texts->bytes, texts->size + length);
        if (more == NULL)
            return;
        memcpy(more + texts->size, text, length);
        texts->bytes = more;
        texts->size += length;
    }
    """
    int enter "fst_py_enter"(int *count) nogil
    int leave "fst_py_leave"(int *count) nogil
    void stay "fst_py_stay"(int *count) nogil
    int load "fst_py_load"(int *flag) nogil
    int only "fst_py_only"(int *count) nogil
    int swap "fst_py_swap"(int *flag, int value) nogil
    int alloc_long "fst_py_alloc_long"(fst_arena *arena, uint64_t child, fst_ref *out)
    PyObject *only_item "fst_py_only_item"(PyObject *list)
    int spares "fst_py_spares"
    int put_aside "fst_py_put_aside"(PyObject *block) noexcept
    Block again "fst_py_again"()
    void keep_weak_references_at "fst_py_keep_weak_references_at"(PyTypeObject *type, Py_ssize_t offset)
    void shorten_alloc "fst_py_shorten_alloc"(object method, object (*plain)(object))
    struct fst_py_texts:
        char *bytes
        size_t size
    void fst_py_collect(void *context, const char *text) noexcept nogil

cdef extern from "Python.h":
    void PyObject_ClearWeakRefs(PyObject *block) noexcept
    object PyType_GenericAlloc(PyTypeObject *kind, Py_ssize_t count)
    void PyObject_GC_UnTrack(void *item)

cdef extern from "numpy/arrayobject.h":
    # Not in NumPy's own pxd. Takes over one reference to `dtype`.
    object PyArray_NewFromDescr(PyTypeObject *subtype, cnp.PyArray_Descr *dtype, int ndim,
                                const cnp.npy_intp *dims, const cnp.npy_intp *strides, void *data,
                                int flags, PyObject *like)
