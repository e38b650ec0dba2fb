# What the binding needs of C, Python and NumPy beyond their pxd files.

cdef extern from "binding/life.h" nogil:
    uint32_t life_of "fst_life_of"(const uint32_t *count)
    bint enter "fst_life_enter"(uint32_t *count)
    bint leave "fst_life_leave"(uint32_t *count)
    void stay "fst_life_stay"(uint32_t *count)
    bint only "fst_life_only"(uint32_t *count)
    bint call_begin "fst_call_begin"(uint32_t *count)
    bint call_end "fst_call_end"(uint32_t *count)
    void call_away "fst_call_away"(uint32_t *count)
    void call_back "fst_call_back"(uint32_t *count)
    uint32_t load "fst_load_acquire"(uint32_t *flag)
    uint32_t swap "fst_own_swap32"(uint32_t *flag, uint32_t value)

cdef extern from "binding/spare.h":
    bint PRIVATE_API "FST_PRIVATE_API"
    struct fst_spare:
        int count
    void spare_end "fst_spare_end"(fst_spare *spare, PyObject *object) noexcept
    Block spare_block "fst_spare_begin"(fst_spare *spare)
    View spare_view "fst_spare_begin"(fst_spare *spare)
    void clear_weak_references "fst_spare_clear_weak_references"(PyObject *object) noexcept

cdef extern from "binding/alloc.h":
    int alloc_long "fst_py_alloc_long"(fst_arena *arena, uint64_t child, fst_ref *out)
    int alloc_sized "fst_py_alloc_sized"(fst_arena *arena, uint64_t group, uint64_t nbytes,
                                         const fst_form_spec *form, fst_ref *out) nogil

cdef extern from "binding/allocator.h" nogil:
    const void *allocating "fst_allocating"()
    void set_allocating "fst_set_allocating"(const void *of)

cdef extern from "binding/item.h":
    PyObject *only_item "fst_py_only_item"(PyObject *list)
    object only_object "fst_py_only_item"(object list)

cdef extern from "binding/method.h":
    object alloc_method "fst_py_alloc_method"(PyTypeObject *type, object (*plain)(object),
                                              object (*with_)(object, PyObject *, PyObject *))
    int quick_channel "fst_py_quick_channel"(PyTypeObject *type,
                                             object (*put_plain)(object, PyObject *),
                                             object (*get_plain)(object, PyObject *)) except -1

cdef extern from "binding/texts.h":
    struct fst_texts:
        char *bytes
        size_t size
    void fst_texts_add(void *texts, const char *text) noexcept nogil

cdef extern from "binding/ticket.h":
    PyObject *ticket_type "fst_ticket_type"() except NULL
    object ticket_new "fst_ticket_new"(object attachment, fst_arena *arena,
                                       const fst_message *message)
    bint ticket_pickled "fst_ticket_pickled"(object ticket) except False
    struct fst_tickets:
        pass
    fst_tickets tickets_gather "fst_tickets_gather"(PyObject *list, PyObject *carrier)
    PyObject *tickets_carrier "fst_tickets_carrier"()
    void tickets_gathered "fst_tickets_gathered"(fst_tickets before)
    void ticket_refuse "fst_ticket_refuse"(object ticket)

cdef extern from "Python.h":
    object PyObject_Vectorcall(object function, PyObject **arguments, size_t count, object names)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    object PyType_GenericAlloc(PyTypeObject *kind, Py_ssize_t count)
    void PyObject_GC_UnTrack(void *item)
    object PyCapsule_New(void *pointer, const char *name, void (*end)(PyObject *) noexcept)
    void *PyCapsule_GetPointer(PyObject *capsule, const char *name) except? NULL
    void PyErr_Fetch(PyObject **kind, PyObject **value, PyObject **traceback)
    void PyErr_Restore(PyObject *kind, PyObject *value, PyObject *traceback)

cdef extern from "numpy/arrayobject.h":
    # NumPy's own pxd does not have it. It takes over one reference to `dtype`, also where it fails.
    object PyArray_NewFromDescr(PyTypeObject *subtype, cnp.PyArray_Descr *dtype, int ndim,
                                const cnp.npy_intp *dims, const cnp.npy_intp *strides, void *data,
                                int flags, PyObject *like)

    # Since NumPy 1.22.
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept nogil
        void *(*calloc)(void *ctx, size_t count, size_t size) noexcept nogil
        void *(*realloc)(void *ctx, void *data, size_t size) noexcept nogil
        void (*free)(void *ctx, void *data, size_t size) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)
    object PyDataMem_GetHandler()
