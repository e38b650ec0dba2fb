# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=python, binding=False
"""The one binding to the core: handles, buffers, errors. No policy: that is in the Python modules
around it.

Three rules keep it safe without relying on the GIL:

 1. A Python object exists before the core's object does. `Block` is made first, inert; then the
    core fills it. Between entering and leaving the core no Python code runs, so no collection can
    drop other Blocks in there.
 2. What two threads may change at once is an atomic of our own (`life`, `freed`) or an operation of
    `list` or `dict` that is atomic in every build (`Link`).
 3. Whoever waits has released the GIL. A lock that all processes share may be held by a process
    that is stopped: with the GIL, the core does not wait for one (the patience of all threads is
    0) and answers FST_HELD; then the call is made again without the GIL, in slices, between which
    signals are heard and somebody is told after a second. Drops and the ends of objects wait for
    nobody: a batch does what a lock kept them from. Nothing of the core is called back with the
    GIL.

What needs policy (waiting for memory, pickles, the Cache and Group of a Block) is handed in by the
modules above, `install()`.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE,
)
from cpython.exc cimport PyErr_CheckSignals
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject_GenericSetAttr, PyObject_RichCompare, destructor
from cpython.exc cimport PyErr_Occurred
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from libc.stdint cimport UINT64_MAX
from libc.stdlib cimport free, qsort
from libc.string cimport memcmp, memcpy, memset, strlen

cimport numpy as cnp

import math
import os

import numpy as np

from flagstone.errors import (
    ArenaCorrupted, ChannelEmpty, ChannelFull, Closed, StaleHandle, exception_of,
)
from flagstone.sizes import exact_size

cnp.import_array()

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

cdef object _hooks = None
cdef object _load = None  # what a Block's pickle calls
cdef cnp.dtype _BYTE = np.dtype(np.uint8)
cdef Py_ssize_t _ONE = 1
# From so many bytes on, the GIL is released while an object is allocated or zeroed: the system has
# to find, and clear, memory for it.
cdef enum: _LONG = 262144


def install(hooks):
    """Hand in what the modules above decide: see `flagstone.block.Hooks`."""
    global _hooks, _load
    _hooks = hooks
    _load = hooks.load


cdef str _text(const char *text):
    # The core's texts are for people, and hold paths and names that came from shared memory: never trust
    # them to be UTF-8, and give nothing that cannot be printed.
    cdef bytes raw = text
    return raw.decode("utf-8", "backslashreplace")


cdef str _path(const char *path):
    # A path is bytes: os.fsencode() of this gives them back.
    cdef bytes raw = path
    return os.fsdecode(raw)


cdef object _error(int status, object mismatch=ValueError):
    return exception_of(status, _text(fst_last_error()), fst_last_errno(), mismatch)


cdef int _check(int status) except -1:
    if status != FST_OK:
        raise _error(status)
    return 0


# Nanoseconds for which a call without the GIL waits at a lock before it looks for signals.
cdef enum: _SLICE = 50000000

# With the GIL held nobody waits.
fst_patience_of_all(0)


cdef int _again(int status, Attachment attachment, uint64_t *began) except -1:
    """Whether a call that was just made is to be made again without the GIL: it waits for a lock.

    `began` is the caller's, 0 at first. Raises what a signal's handler raises.
    """
    cdef str why
    if status != FST_HELD:
        return 0
    why = _text(fst_last_error())
    if not began[0]:
        began[0] = fst_now()
    PyErr_CheckSignals()
    _hooks.held(attachment, why, (fst_now() - began[0]) / 1e9)
    return 1


@cython.final
cdef class Handle:
    """16 bytes that name an object for ever and guarantee nothing: `arena.get(handle)` gives the
    object, or `StaleHandle`.

    `Handle(data)` takes exactly 16 bytes (`ValueError` otherwise), `bytes(handle)` gives them back.
    Hashable and comparable by these bytes; safe to use from any thread, to pickle, to store.
    """

    cdef fst_handle value

    def __cinit__(self, data):
        cdef bytes raw = data if type(data) is bytes else bytes(memoryview(data))
        if len(raw) != sizeof(fst_handle):
            raise ValueError(f"a handle is {sizeof(fst_handle)} bytes, not {len(raw)}")
        memcpy(&self.value, PyBytes_AS_STRING(raw), sizeof(fst_handle))

    def __bytes__(self):
        return PyBytes_FromStringAndSize(<char *>&self.value, sizeof(fst_handle))

    def __reduce__(self):
        return Handle, (self.__bytes__(),)

    def __hash__(self):
        return hash(self.__bytes__())

    def __richcmp__(self, other, int op):
        if not isinstance(other, Handle):
            return NotImplemented
        return PyObject_RichCompare(self.__bytes__(), (<Handle>other).__bytes__(), op)

    def __repr__(self):
        return f"Handle({self.__bytes__().hex()})"


cdef object _handle(fst_handle *value):
    return Handle(PyBytes_FromStringAndSize(<char *>value, sizeof(fst_handle)))


@cython.final
@cython.no_gc
cdef class Format:
    """What the bytes of an object mean: a dtype, a shape and an order. Immutable.

    `travels`: belongs to one Block (`put`) and not to its cache, so it goes into the pickle.
    """

    cdef readonly cnp.dtype dtype
    cdef readonly tuple shape
    cdef readonly object nbytes
    cdef readonly bint travels
    cdef uint64_t size
    cdef int ndim
    cdef int flags        # of the array: in which order its elements lie
    cdef int contiguous   # of PyBUF_*: what may be asked of a buffer of it
    cdef Py_ssize_t item
    cdef readonly bytes code  # PEP 3118, or None where it has no word for the dtype
    cdef char *code_text      # into `code`
    cdef Py_ssize_t dims[64]
    cdef Py_ssize_t strides[64]

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None, bytes code=None,
                  bint fortran=False, bint travels=False):
        if dtype.hasobject:
            raise TypeError(f"{dtype!r} holds Python objects: they mean nothing elsewhere")
        if len(shape) > 64:
            raise ValueError(f"a shape has at most 64 dimensions, not {len(shape)}")
        self.dtype = dtype
        self.shape = shape
        self.nbytes = math.prod(shape, start=dtype.itemsize)
        self.size = self.nbytes
        self.travels = travels
        self.item = dtype.itemsize
        self.ndim = len(shape)
        self.flags = cnp.NPY_ARRAY_F_CONTIGUOUS if fortran else cnp.NPY_ARRAY_C_CONTIGUOUS
        cdef Py_ssize_t stride = self.item
        cdef int i, at, long = 0
        for i in range(self.ndim):
            at = i if fortran else self.ndim - 1 - i
            self.dims[at] = shape[at]
            self.strides[at] = stride
            stride *= self.dims[at]
            long += self.dims[at] != 1
        self.contiguous = (PyBUF_F_CONTIGUOUS if fortran else PyBUF_C_CONTIGUOUS) & ~PyBUF_STRIDES
        if long < 2 or not self.size:
            self.contiguous = (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS) & ~PyBUF_STRIDES
        self.code = code
        if code is not None:
            self.code_text = PyBytes_AS_STRING(code)

    @property
    def order(self):
        """"C" or "F"."""
        return "F" if self.flags == cnp.NPY_ARRAY_F_CONTIGUOUS else "C"


@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class View:
    """The base of an array: keeps the bytes of a Block while the array lives, also when the Block
    is freed.
    """

    cdef readonly Block block

    def __init__(self):
        raise TypeError("a View is made by Block.array")

    # Its end is _end_view().

    def __repr__(self):
        return f"<view of {self.block!r}>"


@cython.final
@cython.no_gc
cdef class Block:
    """An object in an arena, and this process's reference to it.

    Made by `Cache.alloc`, `Arena.alloc`, `Arena.put` and `Arena.get`, or by unpickling. Dropping
    the last reference to a Block (and to all its views) drops the process's reference; the last one
    anywhere frees the object. Has the buffer protocol: a `memoryview` has the cache's dtype and
    shape, or is bytes. Safe to use from any thread; what is written into the bytes is the users' to
    coordinate.
    """

    # Own references, each written once, in plain pointers: fields that Cython knows begin as None, whose count is
    # then what a loop of allocations waits for.
    cdef PyObject *_attachment  # NULL: never filled
    cdef PyObject *_format      # NULL: plain bytes
    cdef fst_ref ref
    # 1 for the Block itself until free(), and 1 for each view; at 0 the reference is dropped. Once a buffer was given out it
    # stays until the end of this object: `np.ndarray(shape, dtype, buffer=block)` gives the buffer back at once, keeps the
    # object, and goes on looking at the bytes.
    cdef int life
    cdef int freed
    cdef PyObject *_weak        # the weak references to it, which are Python's

    def __init__(self):
        raise TypeError("a Block is made by Cache.alloc(), Arena.alloc(), put() or get()")

    # Its end is _end_block().

    cdef inline Attachment attachment(self):
        return <Attachment>self._attachment if self._attachment != NULL else None

    cdef inline Format format(self):
        return <Format>self._format if self._format != NULL else None

    cdef inline void of(self, Attachment attachment) noexcept:
        Py_INCREF(attachment)
        self._attachment = <PyObject *>attachment

    cdef inline void shape(self, PyObject *format) noexcept:
        # A Format or None. A plain pointer is counted once, and not for the argument, too.
        if format != <PyObject *>None:
            Py_INCREF(<object>format)
            self._format = format

    cdef void leave(self) noexcept:
        if leave(&self.life):
            fst_drop((<Attachment>self._attachment).ptr, &self.ref)

    cdef int use(self) except -1:
        if load(&self.freed) or not load(&self.life):
            raise Closed("this Block was freed")
        if fst_unusable:  # nearly never
            _check(fst_arena_refused((<Attachment>self._attachment).ptr))
        return 0

    cdef int export(self) except -1:
        # Until leave(): another thread's free() must not take the reference away meanwhile.
        self.use()
        if not enter(&self.life):
            raise Closed("this Block was freed")
        return 0

    cdef inline uint64_t size(self) noexcept:
        return self.ref.nbytes if self._format == NULL else (<Format>self._format).size

    @property
    def nbytes(self):
        """Bytes: what was asked for."""
        self.use()
        return self.size()

    @property
    def readonly(self):
        """Whether this process attached read-only: arrays and buffers then refuse writes."""
        self.use()
        return self.attachment().readonly

    @property
    def handle(self):
        """A `Handle`, which guarantees nothing."""
        cdef fst_handle value
        self.export()
        try:
            _check(fst_handle_of((<Attachment>self._attachment).ptr, &self.ref, &value))
        finally:
            self.leave()
        return _handle(&value)

    @property
    def array(self):
        """A NumPy array over the bytes, without copying: the cache's dtype and shape, or bytes
        (`uint8`).

        The array keeps the bytes for as long as it, or any array made from it, lives. `Closed`
        after `free()`.
        """
        cdef cnp.dtype dtype = _BYTE
        cdef cnp.npy_intp count = <cnp.npy_intp>self.ref.nbytes
        cdef cnp.npy_intp *dims = &count
        cdef int ndim = 1, flags = cnp.NPY_ARRAY_C_CONTIGUOUS
        cdef View view
        view = View.__new__(View)
        self.export()
        view.block = self
        if self._format != NULL:
            dtype, ndim = (<Format>self._format).dtype, (<Format>self._format).ndim
            dims = <cnp.npy_intp *>(<Format>self._format).dims
            flags = (<Format>self._format).flags
        if not (<Attachment>self._attachment).readonly:
            flags |= cnp.NPY_ARRAY_WRITEABLE
        if <size_t>self.ref.data % <size_t>dtype.alignment == 0:
            flags |= cnp.NPY_ARRAY_ALIGNED
        Py_INCREF(dtype)
        array = PyArray_NewFromDescr(<PyTypeObject *>cnp.ndarray, <cnp.PyArray_Descr *>dtype, ndim,
                                     dims, NULL, self.ref.data, flags, NULL)
        cnp.set_array_base(array, view)
        return array

    @property
    def shape(self):
        """Of `array`: a tuple."""
        self.use()
        return (self.ref.nbytes,) if self._format == NULL else (<Format>self._format).shape

    @property
    def dtype(self):
        """Of `array`."""
        self.use()
        return _BYTE if self._format == NULL else (<Format>self._format).dtype

    @property
    def ndim(self):
        """Of `array`."""
        self.use()
        return 1 if self._format == NULL else (<Format>self._format).ndim

    def __len__(self):
        self.use()
        if self._format == NULL:
            return self.ref.nbytes
        if (<Format>self._format).ndim == 0:
            raise TypeError("this Block has no dimension, so no len(): see .shape")
        return (<Format>self._format).dims[0]

    def __bool__(self):
        # Whatever its len() is: a Block is there.
        return True

    @property
    def _address(self):
        """Of its first byte, in this process; also when it was freed."""
        return <size_t>self.ref.data

    def part(self, index):
        """The `Part` that `block.array[index]` looks at: a view that travels with this Block.

        Args:
            index: integers, slices, `...`, None and names of fields, as NumPy takes them; all
                integers give one element, as an array of no dimension.

        Raises:
            TypeError: an index that would copy (a list, an array, a mask).
            IndexError: out of bounds.
            Closed: after `free()`.
        """
        return _hooks.part(self, index)

    def weak(self):
        """A `WeakBlock`: names the object, holds nothing, and may be pickled and loaded any number
        of times. `Closed` after `free()`.
        """
        return _hooks.weak(self)

    def __getitem__(self, index):
        return _hooks.item(self, index)

    def __setitem__(self, index, value):
        self.array[index] = value

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Format format = self.format()
        cdef Attachment attachment = self.attachment()
        cdef int asked
        if flags & PyBUF_WRITABLE and attachment is not None and attachment.readonly:
            raise BufferError("the arena is attached read-only")
        if format is not None:
            if flags & PyBUF_FORMAT and format.code is None:
                raise BufferError(f"a buffer cannot describe {format.dtype!r}: use .array")
            # Who does not ask for strides takes it as in C order.
            asked = flags & (PyBUF_C_CONTIGUOUS | PyBUF_F_CONTIGUOUS) & ~PyBUF_STRIDES
            if flags & PyBUF_STRIDES != PyBUF_STRIDES:
                asked = PyBUF_C_CONTIGUOUS & ~PyBUF_STRIDES
            if asked & ~format.contiguous:
                raise BufferError(f"this Block is in {format.order} order, which was not asked for:"
                                  " use .array, or .array.T")
        self.export()
        stay(&self.life)
        buffer.obj = self
        buffer.buf = self.ref.data
        buffer.len = <Py_ssize_t>self.size()
        buffer.readonly = attachment.readonly
        buffer.suboffsets = NULL
        buffer.internal = NULL
        buffer.format = NULL
        buffer.shape = NULL
        buffer.strides = NULL
        # Without PyBUF_ND the consumer sees one run of bytes, as hashlib and file.write want it.
        buffer.ndim = 1
        buffer.itemsize = 1
        if flags & PyBUF_FORMAT:
            buffer.format = <char *>"B" if format is None else format.code_text
        if format is not None:
            buffer.itemsize = format.item
        if flags & PyBUF_ND:
            if format is None:
                buffer.shape = <Py_ssize_t *>&self.ref.nbytes
            else:
                buffer.ndim = format.ndim
                buffer.shape = format.dims
        if flags & PyBUF_STRIDES == PyBUF_STRIDES:
            buffer.strides = &_ONE if format is None else format.strides

    def __releasebuffer__(self, Py_buffer *buffer):
        self.leave()

    def __array__(self, dtype=None, copy=None):
        array = self.array
        if copy:
            return np.array(array, dtype=dtype)
        if dtype is None or np.dtype(dtype) == array.dtype:
            return array
        if copy is not None:
            raise ValueError(f"cannot give {array.dtype} as {np.dtype(dtype)} without a copy")
        return array.astype(dtype)

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def free(self):
        """Free the object for everyone.

        Handles to it go stale and this Block raises `Closed` from now on; views, other holders and
        messages in flight keep the bytes until they let go, and so does this Block itself if a
        buffer of it was ever given out (`memoryview(block)`, `np.ndarray(..., buffer=block)`).
        Never waits.

        Raises:
            Closed: this Block was freed before.
            StaleHandle: somebody else has freed the object, or its group was destroyed. The Block
                stays usable.
            ReadOnly: attached with `readonly=True`.
        """
        cdef int status
        self.use()
        if swap(&self.freed, 1):
            raise Closed("this Block was freed")
        status = fst_free((<Attachment>self._attachment).ptr, &self.ref)
        if status != FST_OK:
            swap(&self.freed, 0)
            raise _error(status)
        self.leave()

    @property
    def cache(self):
        """The `Cache` of the object (of several names for one cache, the first)."""
        return _hooks.cache_of(self.attachment(), self._owner()[0])

    @property
    def group(self):
        """The `Group` that the object is charged to."""
        return _hooks.group_of(self.attachment(), self._owner()[1])

    @property
    def holders(self):
        """Who uses the object now: a list of `Holder(pid, command)`, one for each process."""
        cdef uint32_t slots[1024]
        cdef size_t i, count
        self.use()
        count = min(<size_t>1024, fst_holders(
            (<Attachment>self._attachment).ptr, &self.ref, slots, 1024))
        return _hooks.holders_of(self.attachment(), [slots[i] for i in range(count)])

    cpdef tuple _owner(self):
        """Ids of the object's cache and group."""
        cdef uint64_t cache = 0, group = 0
        self.export()
        try:
            _check(fst_object_owner((<Attachment>self._attachment).ptr, &self.ref, &cache, &group))
        finally:
            self.leave()
        return cache, group

    @property
    def _parts(self):
        """(attachment, format)"""
        self.use()
        return self.attachment(), self.format()

    cpdef bytes _share(self):
        """The message of a pickle, whose reference is in flight from now on."""
        cdef fst_message message
        cdef int status
        self.export()
        try:
            status = fst_share((<Attachment>self._attachment).ptr, &self.ref, &message)
            if status == FST_FULL:
                return _hooks.once_more(self.attachment(), _error(status), self._share)
            _check(status)
        finally:
            self.leave()
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    def _copy_from(self, Block source not None):
        """Copy the bytes of a Block of the same size: all of them, whatever they mean."""
        cdef uint64_t count = min(self.ref.nbytes, source.ref.nbytes)
        self.export()
        try:
            source.export()
            with nogil:
                memcpy(self.ref.data, source.ref.data, count)
            source.leave()
        finally:
            self.leave()

    def __reduce__(self):
        return reduce_block(self)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return _hooks.deepcopy(self)

    def __dask_tokenize__(self):
        # Dask's name for it: the object's, in whichever process, and not its content's.
        return "flagstone.Block", self.handle.__bytes__()

    def _repr_html_(self):
        if load(&self.freed) or not load(&self.life):
            return "<p>Block, freed</p>"
        return _hooks.html_of(self, self.attachment(), self.format())

    def __repr__(self):
        if load(&self.freed) or not load(&self.life):
            return "<Block, freed>"
        return _hooks.repr_of(self, self.attachment(), self.format())


def reduce_block(Block block not None):
    """`Block.__reduce__`. A message is some dozen of calls into Python, most of them with code and data that the message's
    own bytes have pushed out of the processor's caches: so the usual pickle is made here.
    """
    cdef tuple locator = None
    cdef bytes message
    block.use()
    if block._format == NULL or not (<Format>block._format).travels:
        locator = (<Attachment>block._attachment).locator
    if locator is None:
        return _hooks.reduce(block)
    message = block._share()
    return _load, (locator, message, None, None, "C", (<Attachment>block._attachment).ticket(message))


@cython.final
@cython.no_gc
cdef class Ticket:
    """Goes into the pickle beside a message, as nothing, and takes the message back if that pickle fails.

    A pickler keeps what it has pickled until it ends; C's does so with the exception set, if it
    fails. Then nobody has the pickle.
    """

    cdef PyObject *attachment
    cdef fst_message message

    def __init__(self):
        raise TypeError("a Ticket is made by Attachment.ticket()")

    # Its end is _end_ticket(), for the reason that Blocks have, and because a __dealloc__ would see no exception.


def reduce_ticket(Ticket ticket not None):
    # The pickler knows this function already, so that nothing is as dear as to look for another.
    return _load, ()


cdef destructor _ticket_rest = (<PyTypeObject *>Ticket).tp_dealloc


cdef void _end_ticket(PyObject *self) noexcept:
    cdef PyObject *attachment = (<Ticket>self).attachment
    if attachment != NULL and PyErr_Occurred() != NULL:
        _take_back((<Attachment>attachment).ptr, &(<Ticket>self).message)
    _ticket_rest(self)
    Py_XDECREF(attachment)


cdef void _take_back(fst_arena *arena, fst_message *message) noexcept:
    cdef fst_ref ref
    cdef uint64_t group
    if fst_take(arena, message, &ref) == FST_OK:
        fst_drop(arena, &ref)
    elif fst_group_take(arena, message, &group) == FST_OK:
        fst_group_unref(arena, group)


(<PyTypeObject *>Ticket).tp_dealloc = _end_ticket


# Blocks and views end in functions of our own, put before what Cython makes: a `__dealloc__` would
# save and restore the exception state around itself, which costs as much as the drop. In here the
# object has no reference left, so none may be taken: no temporary of its type, fields only.

cdef destructor _block_rest = (<PyTypeObject *>Block).tp_dealloc
cdef destructor _view_rest = (<PyTypeObject *>View).tp_dealloc


cdef void _end_block(PyObject *self) noexcept:
    # Views hold the Block, so none is left: either the Block's own 1 remains, or nothing (freed, or
    # never filled).
    cdef PyObject *attachment = (<Block>self)._attachment
    cdef PyObject *format = (<Block>self)._format
    if (<Block>self).life:
        fst_drop((<Attachment>attachment).ptr, &(<Block>self).ref)
    # Before the object may begin again: its callbacks run anything, also allocations.
    if (<Block>self)._weak != NULL:
        PyObject_ClearWeakRefs(self)
    if not put_aside(self):
        _block_rest(self)
    Py_XDECREF(format)
    Py_XDECREF(attachment)  # may be the arena's end, and run anything


cdef inline Block _begin_block():
    """A Block with nothing in it."""
    cdef Block block
    if not spares:
        return Block.__new__(Block)
    block = again()
    block._attachment = NULL
    block._format = NULL
    block.life = block.freed = 0
    return block


cdef void _end_view(PyObject *self) noexcept:
    if <void *>(<View>self).block != <void *>None and leave(&(<View>self).block.life):
        fst_drop((<Attachment>(<View>self).block._attachment).ptr, &(<View>self).block.ref)
    _view_rest(self)


# Instead of Cython's `__weakref__`, which a function cannot read: _end_block() has to, for a Block that begins again.
cdef void _allow_weak_references(Block block) noexcept:
    keep_weak_references_at(<PyTypeObject *>Block, <char *>&block._weak - <char *><PyObject *>block)


_allow_weak_references(Block.__new__(Block))
(<PyTypeObject *>Block).tp_dealloc = _end_block
(<PyTypeObject *>View).tp_dealloc = _end_view


@cython.final
@cython.no_gc
cdef class Known:
    """A cache and its Format: what the last object that arrived was of. Never changes."""

    cdef uint64_t cache
    cdef Format format

    def __init__(self):
        raise TypeError("a Known is made by Attachment")


@cython.final
@cython.no_gc
cdef class Attachment:
    """This process's attachment to an arena: one reference of the core's, let go when the last user
    of this object is gone.

    Everything of an arena that needs its memory (Blocks, sections) holds it; `Arena`, `Cache` and
    `Group` reach it through a `Link`, which `Arena.close()` cuts. Methods are the core's functions;
    negative answers become exceptions, except where a method says that it returns the status.
    """

    cdef fst_arena *ptr
    cdef readonly bint readonly
    cdef readonly bytes uuid
    cdef readonly str path       # None: anonymous
    cdef readonly tuple locator  # how others find a named arena (flagstone.attach.Locator); None: anonymous
    cdef readonly dict formats   # cache id -> Format or None, for Blocks that arrive as handles
    cdef list last               # of one: the Known of the last of them; ids are never used again
    cdef readonly bint synchronous  # destroying waits: see fst_destroy_synchronously
    cdef public object noticed   # what flagstone.notices has told of it
    cdef public uint64_t told    # burials up to this number were told of
    cdef object __weakref__

    def __init__(self):
        raise TypeError("use Attachment.open(), open_fd() or find()")

    def __dealloc__(self):
        # May wait for the reaper thread, which may wait for a section of a thread of ours, which
        # may wait for the GIL.
        if self.ptr != NULL:
            with nogil:
                fst_arena_unref(self.ptr)

    cdef int fill(self) except -1:
        cdef fst_arena_info info
        _check(fst_arena_get_info(self.ptr, &info))
        self.uuid = info.uuid[:16]
        self.path = None if info.anonymous else _path(info.path)
        self.locator = None if info.anonymous else (self.uuid, <bytes>info.path, None)
        self.readonly = info.readonly
        self.formats = {}
        self.last = [None]
        self.told = fst_burial_count(self.ptr)
        return 0

    @staticmethod
    def open(bytes path, uint64_t capacity, int create, bint readonly, bint lasting,
             bint huge_pages, uint32_t mode):
        """Attach or create; path None is anonymous, `create` an `enum fst_create`."""
        cdef Attachment self = Attachment.__new__(Attachment)
        cdef fst_open_options options
        cdef int status
        memset(&options, 0, sizeof(options))
        options.path = NULL if path is None else PyBytes_AS_STRING(path)
        options.capacity = capacity
        options.create = <fst_create>create
        options.readonly = readonly
        options.lasting = lasting
        options.huge_pages = huge_pages
        options.mode = mode
        with nogil:
            status = fst_arena_open(&options, &self.ptr)
        _check(status)
        self.fill()
        return self

    @staticmethod
    def open_fd(int fd, bint readonly):
        """Attach through a descriptor, which stays the caller's."""
        cdef Attachment self = Attachment.__new__(Attachment)
        cdef int status
        with nogil:
            status = fst_arena_open_fd(fd, readonly, &self.ptr)
        _check(status)
        self.fill()
        return self

    @staticmethod
    def find(bytes uuid not None):
        """The attachment that this process has to the arena of this uuid, or None."""
        cdef Attachment self = Attachment.__new__(Attachment)
        if len(uuid) != 16:
            raise ValueError("a uuid is 16 bytes")
        cdef const uint8_t *bytes_of = <const uint8_t *>PyBytes_AS_STRING(uuid)
        with nogil:  # another thread may be opening an arena, or leaving one
            self.ptr = fst_arena_find(bytes_of)
        if self.ptr == NULL:
            return None
        self.fill()
        return self

    @property
    def usable(self):
        return fst_arena_usable(self.ptr)

    def require_usable(self):
        """`Closed`, with the reason, where `usable` is false."""
        _check(fst_arena_refused(self.ptr))

    @property
    def address(self):
        return <size_t>self.ptr

    def fd(self):
        cdef int fd = fst_arena_fd(self.ptr)
        if fd < 0:
            raise _error(fd)
        return fd

    def info(self):
        cdef fst_arena_info info
        _check(fst_arena_get_info(self.ptr, &info))
        facts = <object>info
        facts["uuid"] = info.uuid[:16]  # Cython takes it for a text, which ends at its first zero
        return facts

    # ---- caches and groups

    def cache_open(self, bytes name, uint64_t size, uint64_t align, uint32_t flags, bytes format,
                   bytes init, bint replace, object mismatch):
        """The id of the cache of this name, made if there is none; `mismatch(id, text)` is the exception when there is
        one with other parameters, and it is not to be replaced.
        """
        cdef fst_cache_spec spec
        cdef uint64_t cache = 0, began = 0
        cdef int status
        spec.name, spec.size, spec.align, spec.flags, spec.format = name, size, align, flags, format
        spec.init = NULL if init is None else PyBytes_AS_STRING(init)
        spec.init_bytes = 0 if init is None else <uint32_t>len(init)
        spec.replace = replace
        while True:
            with nogil:
                fst_patience(_SLICE)
                status = fst_cache_open(self.ptr, &spec, &cache)
                fst_patience_default()
            if status != FST_HELD or not _again(status, self, &began):
                break
        if status == FST_MISMATCH:
            raise mismatch(cache, _text(fst_last_error()))
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.cache_open, name, size, align, flags, format, init,
                                    replace, mismatch)
        _check(status)
        return cache

    def cache_destroy(self, uint64_t cache):
        """Whether only the name went: the cache lives on by others."""
        cdef fst_bool name_only = 0
        cdef uint64_t began = 0
        cdef int status
        while True:
            with nogil:
                fst_patience(_SLICE)
                status = fst_cache_destroy(self.ptr, cache, &name_only)
                fst_patience_default()
            if status != FST_HELD or not _again(status, self, &began):
                break
        _check(status)
        if not name_only:
            self.formats.pop(cache, None)
        return bool(name_only)

    def cache_shrink(self, uint64_t cache):
        cdef uint64_t count = 0, began = 0
        cdef int status
        total = 0
        while True:
            with nogil:
                fst_patience(_SLICE)
                status = fst_cache_shrink(self.ptr, cache, &count)
                fst_patience_default()
            total += count
            if status != FST_HELD or not _again(status, self, &began):
                break
        _check(status)
        return total

    def cache_look(self, uint64_t cache):
        """cache_info() with nothing counted: what is there to be counted is 0."""
        cdef fst_cache_info info
        _check(fst_cache_look(self.ptr, cache, &info))
        return self.described(&info)

    def cache_info(self, uint64_t cache):
        cdef fst_cache_info info
        cdef uint64_t began = 0
        cdef int status
        status = fst_cache_get_info(self.ptr, cache, &info)
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                status = fst_cache_get_info(self.ptr, cache, &info)
                fst_patience_default()
        _check(status)
        return self.described(&info)

    cdef object described(self, fst_cache_info *info):
        # With the whole text of the format. Its length lies in shared memory.
        cdef object facts = info[0]
        cdef size_t room = <size_t>info.format_bytes + 1
        cdef uint64_t began = 0
        cdef char *text
        cdef int status
        if strlen(info.format) == info.format_bytes or room > FST_FORMAT_LONGEST:
            return facts
        text = <char *>_allocate(room, 1)
        try:
            while True:
                with nogil:
                    fst_patience(_SLICE)
                    status = fst_cache_format(self.ptr, info.id, text, room)
                    fst_patience_default()
                if status != FST_HELD or not _again(status, self, &began):
                    break
            _check(status)
            facts["format"] = <bytes>text
        finally:
            PyMem_Free(text)
        return facts

    def cache_ids(self):
        return _ids(self, fst_cache_list, 0)

    @property
    def root_group(self):
        return fst_group_root(self.ptr)

    def group_open(self, Link link not None, bytes name, uint64_t parent, object limit,
                   bint lasting, int create, bytes cgroup, object mismatch, object messages_expire):
        """(GroupRef, whether it was created); `limit` None keeps what there is, `create` is an `enum fst_create`,
        `cgroup` the folder of the one that it ends with, or None; `messages_expire`: ns, or None, as with `limit`.
        """
        cdef GroupRef ref = GroupRef.__new__(GroupRef)
        cdef fst_group_spec spec
        cdef fst_bool created = 0
        cdef const char *folder = NULL
        cdef uint64_t began = 0
        cdef int status
        spec.name = NULL if name is None else PyBytes_AS_STRING(name)
        spec.parent = parent
        spec.limit = FST_NO_LIMIT if limit is None else limit
        spec.set_limit = limit is not None
        spec.flags = lasting
        spec.create = <fst_create>create
        spec.messages_expire = 0 if messages_expire is None else messages_expire
        spec.set_messages_expire = messages_expire is not None
        if cgroup is None:
            status = fst_group_open(self.ptr, &spec, &ref.node.id, &created)
        else:
            folder = PyBytes_AS_STRING(cgroup)
            status = FST_HELD
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                if folder == NULL:
                    status = fst_group_open(self.ptr, &spec, &ref.node.id, &created)
                else:
                    status = fst_group_open_cgroup(self.ptr, &spec, folder, &ref.node.id, &created)
                fst_patience_default()
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_open, link, name, parent, limit, lasting, create,
                                    cgroup, mismatch, messages_expire)
        if status != FST_OK:
            raise _error(status, mismatch)
        ref.hold(link, self)
        if spec.messages_expire:
            self.watch()
        return ref, bool(created)

    def group_take(self, Link link not None, bytes message not None):
        """The GroupRef of a pickled group."""
        cdef GroupRef ref = GroupRef.__new__(GroupRef)
        cdef fst_message value
        cdef int status
        _message(message, &value)
        status = fst_group_take(self.ptr, &value, &ref.node.id)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_take, link, message)
        _check(status)
        ref.hold(link, self)
        return ref

    def group_share(self, uint64_t group):
        cdef fst_message message
        cdef int status = fst_group_share(self.ptr, group, &message)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.group_share, group)
        _check(status)
        return PyBytes_FromStringAndSize(<char *>&message, sizeof(message))

    cpdef Ticket ticket(self, bytes message):
        """The Ticket of a message, an object's or a group's."""
        cdef Ticket ticket = Ticket.__new__(Ticket)
        _message(message, &ticket.message)
        Py_INCREF(self)
        ticket.attachment = <PyObject *>self
        return ticket

    def group_close(self, uint64_t group):
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_close(self.ptr, group)
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                status = fst_group_close(self.ptr, group)
                fst_patience_default()
        _check(status)

    def group_destroy(self, uint64_t group):
        """End the group; (usage, peak, limit hits, failed, reclaims) as they were just before."""
        cdef fst_group_info info
        cdef uint64_t began = 0
        cdef int status
        _check(fst_group_get_info(self.ptr, group, &info))
        status = FST_HELD if self.synchronous else fst_group_destroy(self.ptr, group)
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                status = fst_group_destroy(self.ptr, group)
                fst_patience_default()
        _check(status)
        return info.usage, info.peak, info.limit_hits, info.failed, info.reclaims

    def group_set_limit(self, uint64_t group, uint64_t limit):
        cdef uint64_t began = 0
        cdef int status
        status = fst_group_set_limit(self.ptr, group, limit)
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                status = fst_group_set_limit(self.ptr, group, limit)
                fst_patience_default()
        _check(status)

    def group_info(self, uint64_t group):
        cdef fst_group_info info
        _check(fst_group_get_info(self.ptr, group, &info))
        return info

    def group_cgroup(self, uint64_t group):
        """The folder of the cgroup that the group ends with, or None."""
        cdef char path[1024]
        return _path(path) if fst_group_cgroup(self.ptr, group, path, sizeof(path)) else None

    def destroy_synchronously(self, bint on):
        """From now on, destroying waits until everything is released."""
        self.synchronous = on
        fst_destroy_synchronously(self.ptr, on)

    def group_ids(self):
        return _ids(self, fst_group_list, 0)

    def group_caches(self, uint64_t group):
        return _ids(self, NULL, group)

    def channel_ids(self):
        return _ids(self, fst_channel_list, 0)

    def channel_info(self, uint64_t channel):
        cdef fst_channel_info info
        _check(fst_channel_get_info(self.ptr, channel, &info))
        return info

    def group_gone(self, uint64_t group):
        """Whether the group's descriptor has been released."""
        cdef fst_group_info info
        return _gone(fst_group_get_info(self.ptr, group, &info))

    def cache_gone(self, uint64_t cache):
        """Whether the cache's descriptor has been released."""
        cdef fst_cache_info info
        return _gone(fst_cache_look(self.ptr, cache, &info))

    # ---- objects: where a Block or a status is returned, the status is for the caller to wait and
    # try again

    def alloc_bytes(self, uint64_t group, uint64_t nbytes, Format format, uint64_t patience=0):
        """Waits for locks at most `patience` ns; 0 does not wait."""
        cdef Block block = _begin_block()
        cdef int status
        block.of(self)
        block.shape(<PyObject *>format)
        if nbytes < _LONG and not patience:
            status = fst_alloc_bytes(self.ptr, group, nbytes, &block.ref)
        else:
            with nogil:
                fst_patience(patience)
                status = fst_alloc_bytes(self.ptr, group, nbytes, &block.ref)
                fst_patience_default()
        if status != FST_OK:
            return status
        block.life = 1
        return block

    def take(self, bytes message not None, Format format):
        """The Block of a pickled message; `format` None is the cache's."""
        cdef Block block = _begin_block()
        cdef fst_message value
        cdef int status
        block.of(self)
        _message(message, &value)
        status = fst_take(self.ptr, &value, &block.ref)
        if status == FST_HELD:
            status = self.get_patiently(NULL, &value, &block.ref)
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.take, message, format)
        _check(status)
        return self.arrived(block, format)

    cpdef Block resolve(self, Handle handle, Format format=None):
        """The Block of a bare handle; `format` None is the cache's."""
        cdef Block block = _begin_block()
        cdef int status
        block.of(self)
        status = fst_resolve(self.ptr, &handle.value, &block.ref)
        if status == FST_HELD:
            status = self.get_patiently(&handle.value, NULL, &block.ref)
        if status == FST_INVALID or status == FST_FOREIGN:
            raise StaleHandle(_text(fst_last_error()) or "the handle names no object of this arena")
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.resolve, handle, format)
        _check(status)
        return self.arrived(block, format)

    cdef int get_patiently(self, fst_handle *handle, fst_message *message, fst_ref *ref) except? 1:
        # Its cache's destroy() is looking for users: wait until it has decided.
        cdef uint64_t began = 0
        cdef int status = FST_HELD
        while status == FST_HELD and _again(status, self, &began):
            with nogil:
                fst_patience(_SLICE)
                if message != NULL:
                    status = fst_take(self.ptr, message, ref)
                else:
                    status = fst_resolve(self.ptr, handle, ref)
                fst_patience_default()
        return status

    def hold_at(self, size_t address):
        """A Block of the object of this process that has this byte, or None."""
        cdef Block block = _begin_block()
        cdef int status
        block.of(self)
        status = fst_ref_at(self.ptr, <const void *>address, &block.ref)
        if status == FST_MISSING:
            return None
        if status == FST_FULL:
            return _hooks.once_more(self, _error(status), self.hold_at, address)
        _check(status)
        return self.arrived(block, None)

    cdef Block arrived(self, Block block, Format format):
        cdef uint64_t cache = 0, group = 0
        cdef object last
        block.life = 1
        if format is None:
            _check(fst_object_owner(self.ptr, &block.ref, &cache, &group))
            last = self.last[0]
            if last is not None and (<Known>last).cache == cache:
                format = (<Known>last).format
            else:
                format = self.learn(cache)
        # The text of a format lies in shared memory: believe it only as far as the object reaches.
        if format is not None and format.size > block.ref.nbytes and format.size:
            raise ArenaCorrupted(f"an object of {exact_size(block.ref.nbytes)} is said to be"
                                 f" {format.dtype} {format.shape}")
        block.shape(<PyObject *>format)
        return block

    cdef Format learn(self, uint64_t cache):
        cdef Known known = Known.__new__(Known)
        found = self.formats.get(cache, self)
        known.cache = cache
        known.format = _hooks.format_of(self, cache) if found is self else found
        self.last[0] = known
        return known.format

    def reclaim(self, uint64_t group, uint64_t timeout):
        """Free what can be freed now, counted for the group. Returns the status; may wait."""
        cdef int status
        with nogil:
            status = fst_reclaim(self.ptr, group, timeout)
        return status

    def note_failed(self, uint64_t group):
        """Count an allocation of the group that failed for good."""
        fst_group_note_failed(self.ptr, group)

    def wait_for_memory(self, uint64_t timeout):
        with nogil:
            fst_wait_for_memory(self.ptr, timeout)

    def describe_usage(self):
        cdef char text[4096]
        text[0] = 0
        fst_describe_usage(self.ptr, text, sizeof(text))
        return _text(text)

    # ---- grace periods

    @property
    def in_section(self):
        return fst_in_section(self.ptr)

    def synchronize(self, uint64_t timeout):
        """Whether it was done in time; may wait."""
        cdef int status
        with nogil:
            status = fst_synchronize(self.ptr, timeout)
        return _in_time(status)

    def barrier_begin(self):
        cdef uint64_t cookie = 0
        cdef int status
        with nogil:
            status = fst_barrier_begin(self.ptr, &cookie)
        _check(status)
        return cookie

    def barrier_wait(self, uint64_t cookie, uint64_t timeout):
        """Whether it was done in time; may wait."""
        cdef int status
        with nogil:
            status = fst_barrier_wait(self.ptr, cookie, timeout)
        return _in_time(status)

    def gp_cookie(self):
        return fst_gp_cookie(self.ptr)

    def gp_done(self, uint64_t cookie):
        return fst_gp_done(self.ptr, cookie)

    def section_age(self, uint32_t turns):
        """For tests: a section, and how many grace periods ended that had to wait for it."""
        return fst_section_age(self.ptr, turns)

    def shrink(self, uint64_t timeout):
        cdef uint64_t count = 0
        cdef int status
        with nogil:
            fst_patience(_SLICE)
            status = fst_shrink(self.ptr, timeout, &count)
            fst_patience_default()
        _check(status)
        return count

    # ---- looking

    @property
    def burial_count(self):
        return fst_burial_count(self.ptr)

    def burials(self):
        """The last deaths, the newest first."""
        cdef fst_burial_info infos[64]
        cdef size_t count = fst_burial_list(self.ptr, infos, 64), i
        return [infos[i] for i in range(count)]

    def processes(self):
        cdef size_t room = 64, count, i
        cdef fst_process_info *infos
        while True:
            infos = <fst_process_info *>_allocate(room, sizeof(fst_process_info))
            try:
                with nogil:
                    count = fst_process_list(self.ptr, infos, room)
                if count <= room:
                    return [infos[i] for i in range(count)]
            finally:
                PyMem_Free(infos)
            room = count + 64

    def batches(self):
        """The last batches, newest first."""
        cdef fst_batch_info infos[16]
        cdef size_t i, count = fst_batch_list(self.ptr, infos, 16)
        return [infos[i] for i in range(count)]

    def child_counts(self):
        """Child caches by state."""
        cdef fst_child_counts counts
        fst_child_count(self.ptr, &counts)
        return counts

    def keepers(self):
        """Who keeps what has ended from being released."""
        cdef fst_keeper keepers[256]
        cdef size_t i, count
        with nogil:
            count = fst_keeper_list(self.ptr, keepers, 256)
        return [keepers[i] for i in range(count)]

    @property
    def section_in_the_way(self):
        """Process and thread whose section is what a grace period waits for, or None."""
        cdef int32_t pid = 0
        cdef uint32_t thread = 0
        return (pid, thread) if fst_section_in_the_way(self.ptr, &pid, &thread) else None

    def cache_keepers(self, uint64_t cache):
        """Who keeps objects of a cache."""
        cdef fst_keeper keepers[256]
        cdef size_t i, count
        with nogil:
            count = fst_cache_keepers(self.ptr, cache, keepers, 256)
        return [keepers[i] for i in range(count)]

    def in_flight(self, uint64_t older_than, type kind, object cache_name, object group_name):
        """(What is in flight and at least so many ns old, the oldest first; who sent it).

        The first is a list of `kind`, which has the slots of `flagstone.snapshot.InFlight`; there may be a million,
        so they are filled here, and names are asked for once. The second is {(pid, command, alive): [messages,
        bytes]}.
        """
        cdef size_t room, count, i
        cdef fst_inflight_info *infos
        cdef in_flight_age *order
        while True:
            with nogil:
                fst_inflight_expire(self.ptr)
                room = fst_inflight_count(self.ptr) + 256
            infos = <fst_inflight_info *>_allocate(room, sizeof(fst_inflight_info))
            order = NULL
            try:
                with nogil:
                    count = fst_inflight_list(self.ptr, infos, room)
                if count > room:
                    continue
                order = <in_flight_age *>_allocate(count + 1, sizeof(in_flight_age))
                room = 0
                with nogil:
                    for i in range(count):
                        if infos[i].age >= older_than:
                            order[room].age, order[room].index = infos[i].age, i
                            room += 1
                    qsort(order, room, sizeof(in_flight_age), _older)
                return _in_flight(infos, order, room, kind, cache_name, group_name)
            finally:
                PyMem_Free(order)
                PyMem_Free(infos)

    def drop_in_flight(self, uint64_t older_than, uint64_t group, int32_t pid, bint dead):
        cdef size_t count
        with nogil:
            count = fst_inflight_drop_from(self.ptr, older_than, group, pid, dead)
        return count

    def watch(self):
        """Look for deaths, and messages that expire, from now on: a thread."""
        with nogil:
            fst_arena_watch(self.ptr)

    def check(self):
        """What fst_check found, as texts."""
        cdef fst_py_texts texts
        texts.bytes = NULL
        texts.size = 0
        cdef uint64_t began = 0
        cdef size_t found
        while True:
            with nogil:
                fst_patience(_SLICE)
                found = fst_check(self.ptr, fst_py_collect, &texts)
                fst_patience_default()
            if found != FST_CHECK_HELD or not _again(FST_HELD, self, &began):
                break
        try:
            # Each text ends with a zero, so the last piece of the split would be empty.
            return _texts(texts.bytes, texts.size - 1) if texts.size else []
        finally:
            free(texts.bytes)


cdef struct in_flight_age:
    uint64_t age
    size_t index


cdef int _older(const void *a, const void *b) noexcept nogil:
    cdef uint64_t x = (<in_flight_age *>a).age, y = (<in_flight_age *>b).age
    return -1 if x > y else x < y


cdef tuple _in_flight(fst_inflight_info *infos, in_flight_age *order, size_t count, type kind,
                      object cache_name, object group_name):
    cdef list found = []
    cdef dict senders = {}, names = {}, texts = {}
    cdef fst_inflight_info *one
    cdef fst_inflight_info *last = NULL
    cdef list total = None
    cdef str command = None
    cdef object name = None, owner = None
    cdef uint64_t cache = 0, group = 0
    cdef size_t i
    for i in range(count):
        one = &infos[order[i].index]
        if last == NULL or one.pid != last.pid or one.sender_alive != last.sender_alive or memcmp(
                one.command, last.command, sizeof(one.command)):
            command = _text(one.command)
            command = texts.setdefault(command, command)
            total = senders.setdefault((one.pid, command, bool(one.sender_alive)), [0, 0])
        last = one
        total[0] += 1
        total[1] += one.nbytes
        # A dataclass that is frozen is filled as its own __init__ does it, without its detour through Python.
        if name is None or one.cache != cache:
            cache = one.cache
            name = _named(names, (False, cache), cache_name) if cache else ""
        if owner is None or one.group != group:
            group = one.group
            owner = _named(names, (True, group), group_name)
        item = PyType_GenericAlloc(<PyTypeObject *>kind, 0)
        PyObject_GC_UnTrack(<void *>item)  # what it holds holds nothing, and there may be a million
        PyObject_GenericSetAttr(item, "object", _handle(&one.handle))
        PyObject_GenericSetAttr(item, "is_group", True if one.is_group else False)
        PyObject_GenericSetAttr(item, "nbytes", one.nbytes)
        PyObject_GenericSetAttr(item, "cache", "" if one.is_group else name)
        PyObject_GenericSetAttr(item, "group", owner)
        PyObject_GenericSetAttr(item, "pid", one.pid)
        PyObject_GenericSetAttr(item, "command", command)
        PyObject_GenericSetAttr(item, "age", one.age / 1e9)
        found.append(item)
    return found, senders


cdef object _named(dict names, tuple key, object ask):
    name = names.get(key)
    if name is None:
        name = names[key] = ask(key[1])
    return name


cdef list _texts(const char *bytes, size_t size):
    return PyBytes_FromStringAndSize(bytes, size).decode("utf-8", "backslashreplace").split("\0")


cdef list _paths(const char *path):
    # Each has its final zero; an empty one is the end.
    cdef list found = []
    while path != NULL and path[0]:
        found.append(_path(path))
        path += strlen(path) + 1
    return found


ctypedef size_t (*_list_function)(fst_arena *, uint64_t *, size_t) noexcept nogil


cdef list _ids(Attachment attachment, _list_function function, uint64_t group):
    # Without a function: the caches of the group.
    cdef size_t room = 256, count, i
    cdef uint64_t *ids
    while True:
        ids = <uint64_t *>_allocate(room, sizeof(uint64_t))
        try:
            if function is NULL:
                count = fst_group_caches(attachment.ptr, group, ids, room)
            else:
                count = function(attachment.ptr, ids, room)
            if count <= room:
                return [ids[i] for i in range(count)]
        finally:
            PyMem_Free(ids)
        room = count + 256


cdef void *_allocate(size_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Malloc(count * size)
    if memory == NULL:
        raise MemoryError()
    return memory


cdef int _message(bytes message, fst_message *out) except -1:
    if len(message) != sizeof(fst_message):
        raise ValueError(f"a message is {sizeof(fst_message)} bytes, not {len(message)}")
    memcpy(out, PyBytes_AS_STRING(message), sizeof(fst_message))
    return 0


cdef bint _gone(int status) except -1:
    if status == FST_CLOSED or status == FST_STALE:
        return True
    _check(status)
    return False


cdef bint _in_time(int status) except -1:
    if status == FST_TIMEOUT:
        return False
    _check(status)
    return True


cdef struct group_node:
    # A GroupRef in its Link's list.
    group_node *prev
    group_node *next
    PyObject *attachment  # a reference of ours; NULL: let go
    uint64_t id
    uint32_t entry        # where the process's reference is


@cython.final
@cython.no_gc
cdef class Link:
    """What an Arena and everything made from it share: the attachment, until `Arena.close()` takes
    it away.

    The attachment lies in a list of one, because reading an item of a list gives a reference of
    one's own in every build, while another thread puts None there. The groups that are open through
    this link, to be let go when it is cut, are linked through their GroupRefs: groups come and go
    by the hundred thousand, and a dictionary of them is a cache miss for each of its parts.
    """

    cdef list box
    cdef group_node *first
    cdef int busy  # 1: somebody changes the list; for an instant, in which no Python code runs
    cdef readonly bytes uuid

    def __cinit__(self, Attachment attachment not None):
        self.uuid = attachment.uuid
        self.box = [attachment]

    cdef void add(self, group_node *node) noexcept:
        while swap(&self.busy, 1):
            pass
        node.prev = NULL
        node.next = self.first
        if self.first != NULL:
            self.first.prev = node
        self.first = node
        swap(&self.busy, 0)

    cdef bint let_go(self, group_node *node) noexcept:
        """Let go of the group of this node, or of the first one: False when there is none to."""
        cdef PyObject *attachment = NULL
        cdef uint64_t group = 0
        cdef uint32_t entry = 0
        while swap(&self.busy, 1):
            pass
        if node == NULL:
            node = self.first
        if node != NULL and node.attachment != NULL:
            attachment, node.attachment = node.attachment, NULL
            group, entry = node.id, node.entry
            if node.prev != NULL:
                node.prev.next = node.next
            else:
                self.first = node.next
            if node.next != NULL:
                node.next.prev = node.prev
        swap(&self.busy, 0)
        if attachment == NULL:
            return False
        fst_group_unref_at((<Attachment>attachment).ptr, group, entry)
        Py_DECREF(<Attachment>attachment)
        return True

    cdef inline Attachment get(self):
        cdef object attachment = self.box[0]
        if attachment is None:
            raise _hooks.closed(self.uuid)
        return <Attachment>attachment

    cdef inline PyObject *own(self) except NULL:
        # A reference for who keeps it in a plain pointer; counted once, and not for a variable, too.
        cdef PyObject *attachment = only_item(<PyObject *>self.box)
        if attachment == <PyObject *>None:
            raise _hooks.closed(self.uuid)
        Py_INCREF(<object>attachment)
        return attachment

    @property
    def attachment(self):
        """The `Attachment`; `Closed` after `close()`, or in a process that could not carry it over
        a fork.
        """
        cdef Attachment attachment = self.get()
        if fst_unusable:
            _check(fst_arena_refused(attachment.ptr))
        return attachment

    def resolve(self, handle):
        """The Block of a bare handle: `Arena.get`."""
        if type(handle) is not Handle:
            raise TypeError(f"get() takes a Handle, not {type(handle).__name__}: Handle(16 bytes)")
        return self.get().resolve(<Handle>handle)

    @property
    def closed(self):
        return self.box[0] is None

    def close(self):
        """Let go of the attachment and of the groups that are open through it. Never raises."""
        self.box[0] = None
        while self.let_go(NULL):
            pass


@cython.final
@cython.no_gc
cdef class GroupRef:
    """One reference of this process to a group: let go by `release()`, when the Link is cut, or
    with this object.
    """

    cdef Link link
    cdef group_node node

    def __init__(self):
        raise TypeError("a GroupRef is made by Attachment.group_open() or group_take()")

    def __dealloc__(self):
        if self.link is not None:
            self.link.let_go(&self.node)

    @property
    def id(self):
        return self.node.id

    cdef int hold(self, Link link, Attachment attachment) except -1:
        self.link = link
        self.node.entry = fst_group_entry(attachment.ptr, self.node.id)
        Py_INCREF(attachment)
        self.node.attachment = <PyObject *>attachment
        link.add(&self.node)
        # Cut meanwhile by another thread, which may have missed this one.
        if link.box[0] is None:
            link.let_go(&self.node)
        return 0

    def release(self):
        """Let go; again is fine."""
        if self.link is not None:
            self.link.let_go(&self.node)


@cython.final
@cython.no_gc
cdef class GroupCache:
    """One cache for one group: the fastest way to allocate. Made by `Cache.bind(group)`; safe to
    use from any thread.

    Holds the group open, as the `Group` does that it was bound to. Pickles as its cache and a reference in flight to the
    group: good for one load, as a pickled Group is.
    """

    cdef Link link
    cdef GroupRef ref            # None: not held open (the root group needs nobody)
    cdef Format format
    cdef uint64_t child
    cdef readonly uint64_t _size
    cdef readonly uint64_t _cache_id
    cdef readonly uint64_t _group_id
    cdef object __weakref__

    def __cinit__(self, Link link not None, GroupRef ref, Format format, uint64_t size,
                  uint64_t cache_id, uint64_t group_id):
        self.link = link
        self.ref = ref
        self.format = format
        self._size = size
        self._cache_id = cache_id
        self._group_id = group_id
        # Where that would have to wait, the first allocation does it, which knows for how long; until
        # then the id is that of no child.
        self.child = UINT64_MAX
        cdef int status = self._reopen(0)
        if status == FST_FULL or status == FST_LIMIT:
            _hooks.once_more(link.get(), _error(status), self._open)
        elif status != FST_HELD:
            _check(status)

    def _open(self):
        """`_reopen` at once, or an exception."""
        _check(self._reopen(0))

    def _reopen(self, uint64_t patience):
        """Find the child cache, or make it; the status. Waits for locks at most `patience` ns."""
        cdef fst_arena *ptr = self.link.get().ptr
        cdef uint64_t child = 0
        cdef int status
        if not patience:
            status = fst_child_open(ptr, self._cache_id, self._group_id, &child)
        else:
            with nogil:
                fst_patience(patience)
                status = fst_child_open(ptr, self._cache_id, self._group_id, &child)
                fst_patience_default()
        if status == FST_OK:
            self.child = child
        return status

    def alloc(self, *, bint zero=False, object wait=None):
        """A `Block`; arguments and errors as in `Cache.alloc`."""
        cdef Block block
        if wait is None:
            block = _begin_block()
            if self._fill(block) == FST_OK:
                if zero:
                    _zero(&block.ref)
                return block
        return _hooks.alloc(self, zero, wait)

    def aalloc(self, *, bint zero=False, object wait=None):
        """An awaitable of a `Block`; as `Cache.aalloc`."""
        return _hooks.aalloc(self, zero, wait)

    def alloc_many(self, n):
        """A list of n Blocks, or an exception and none: as `Cache.alloc_many`."""
        return _hooks.alloc_many(self, n)

    cdef inline int _fill(self, Block block) except? 1:
        # Allocate the Block's object; the status.
        cdef int status
        cdef fst_arena *ptr
        block._attachment = self.link.own()
        block.shape(<PyObject *>self.format)
        ptr = (<Attachment>block._attachment).ptr
        if self._size < _LONG:
            status = fst_alloc(ptr, self.child, &block.ref)
        else:
            status = alloc_long(ptr, self.child, &block.ref)
        if status == FST_OK:
            block.life = 1
        return status

    def _attempt(self, bint zero, uint64_t patience):
        """A Block, or the status. Waits for locks at most `patience` ns; 0 does not wait."""
        cdef Block block = _begin_block()
        cdef fst_arena *ptr
        cdef int status
        if not patience:
            status = self._fill(block)
        else:
            block._attachment = self.link.own()
            block.shape(<PyObject *>self.format)
            ptr = (<Attachment>block._attachment).ptr
            with nogil:
                fst_patience(patience)
                status = fst_alloc(ptr, self.child, &block.ref)
                fst_patience_default()
            if status == FST_OK:
                block.life = 1
        if status != FST_OK:
            return status
        if zero:
            _zero(&block.ref)
        return block

    def _attempt_many(self, size_t n, uint64_t patience):
        """(Blocks, status): up to n. Waits for locks at most `patience` ns; 0 does not wait."""
        cdef Attachment attachment = self.link.get()
        cdef list blocks = []
        cdef Block block
        cdef size_t got = 0, i
        cdef int status
        cdef fst_ref *refs = <fst_ref *>_allocate(n, sizeof(fst_ref))
        try:
            for i in range(n):
                block = _begin_block()
                block.of(attachment)
                block.shape(<PyObject *>self.format)
                blocks.append(block)
            if not patience and n < _LONG // self._size:
                status = fst_alloc_many(attachment.ptr, self.child, n, refs, &got)
            else:
                with nogil:
                    fst_patience(patience)
                    status = fst_alloc_many(attachment.ptr, self.child, n, refs, &got)
                    fst_patience_default()
            for i in range(got):
                block = <Block>blocks[i]
                block.ref = refs[i]
                block.life = 1
        finally:
            PyMem_Free(refs)
        del blocks[got:]
        return blocks, status

    @property
    def _attachment(self):
        return self.link.attachment

    @property
    def cache(self):
        """The `Cache`."""
        return _hooks.cache_of(self.link.attachment, self._cache_id)

    @property
    def group(self):
        """The `Group`."""
        return _hooks.group_of(self.link.attachment, self._group_id)

    def __reduce__(self):
        return _hooks.reduce_bound(self)

    def __repr__(self):
        return _hooks.repr_bound(self)


cdef object _alloc_plain(GroupCache self):
    # GroupCache.alloc() without arguments: as _fill(), as far as nothing goes wrong.
    cdef PyObject *attachment = only_item(<PyObject *>self.link.box)
    cdef int status
    cdef Block block
    if not spares or attachment == <PyObject *>None:
        return _otherwise(self)
    block = again()
    Py_INCREF(<object>attachment)
    block._attachment = attachment
    block._format = NULL
    block.shape(<PyObject *>self.format)
    block.life = block.freed = 0
    if self._size < _LONG:
        status = fst_alloc((<Attachment>attachment).ptr, self.child, &block.ref)
    else:
        status = alloc_long((<Attachment>attachment).ptr, self.child, &block.ref)
    if status != FST_OK:
        return _otherwise(self)
    block.life = 1
    return block


cdef object _alloc_otherwise(GroupCache self):
    return self.alloc(zero=False)


# Behind a pointer, so that no register is saved for it in the function above.
cdef object (*_otherwise)(GroupCache self)
_otherwise = _alloc_otherwise
shorten_alloc(GroupCache.alloc, <object (*)(object)>_alloc_plain)


cdef void _zero(fst_ref *ref) noexcept:
    if ref.nbytes < _LONG:
        memset(ref.data, 0, ref.nbytes)
    else:
        with nogil:
            memset(ref.data, 0, ref.nbytes)


@cython.final
@cython.no_gc
cdef class ReadSection:
    """A read-side section of the calling thread: `with arena.read(): ...`.

    Inside, nothing that was looked up is reused or released, and nothing waits or reclaims: an
    allocation that would have to fails at once. Sections nest; one ends in the thread that began it
    (`RuntimeError` elsewhere).
    """

    cdef Attachment attachment

    def __cinit__(self, Attachment attachment not None):
        self.attachment = attachment

    def __enter__(self):
        _check(fst_read_lock(self.attachment.ptr))
        return self

    def __exit__(self, kind, value, traceback):
        cdef int status = fst_read_unlock(self.attachment.ptr)
        if status == FST_CLOSED:
            raise _error(status)
        if status != FST_OK:
            raise RuntimeError(_text(fst_last_error()))


include "_channel.pxi"


# ---- what needs no attachment


def peek(bytes path not None):
    """What the file is, without attaching."""
    cdef fst_peek out
    cdef int status
    cdef const char *name = path
    with nogil:
        status = peek_file(name, &out)
    _check(status)
    facts = <object>out
    facts["uuid"] = out.uuid[:16]  # as above: all 16 bytes, zeros included
    return facts


def gc(bytes folder not None):
    """Remove what no live process has from the folder: the paths that are gone."""
    cdef char *removed = NULL
    cdef const char *name = folder
    cdef int status
    with nogil:
        status = fst_gc(name, &removed)
    try:
        if status < 0:
            raise _error(status)
        return _paths(removed)
    finally:
        free(removed)


def unlink(bytes path not None):
    """Remove an arena's name."""
    cdef const char *name = path
    cdef int status
    with nogil:
        status = fst_unlink(name)
    _check(status)


def last_error(int status):
    """The exception for a status that a method returned to this thread just before."""
    return _error(status)


def leave_all():
    """The process is about to end."""
    with nogil:
        fst_leave_all()


def now():
    """Nanoseconds since boot."""
    return fst_now()


def lock_sample(uint32_t every):
    """How often this process looks how long it holds a shared lock: every so many acquisitions."""
    fst_lock_sample(every)


def fault_arm(uint64_t nth):
    """In a build with fault points: kill this process at its n-th write to shared memory from now;
    0 never.
    """
    fst_fault_arm(nth)


def fault_passed():
    """How many fault points the calling thread has passed."""
    return fst_fault_passed()


def has_fault_points():
    return fst_has_fault_points()
