# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: embedsignature=True, embedsignature.format=python, binding=False
# cython: freethreading_compatible=True
"""The one binding to the core: handles, buffers, errors. Policy is in the Python modules around it.

Words: an *attachment* is what this process has of an arena (`Attachment`), a *link* leads to it and
can be cut (`Link`), a *status* is a negative answer of the core (`enum fst_status`), *patience* the
nanoseconds that a call waits at a lock before it answers FST_HELD.

Four rules keep it safe without relying on the GIL:

 1. A Python object exists before the core's object does: a Block is made first, with nothing in
    it, and then the core fills it. (What a channel or topic gives is the exception: whether it is a
    Block is known only afterwards.) Between entering and leaving the core no Python code runs, so
    no collection can drop other Blocks in there.
 2. What two threads may change at once is an atomic of our own (`life`, `freed`) or an operation of
    `list` or `dict` that is atomic in every build (`Link`). What is shared by threads for speed
    alone exists only in builds with the GIL (binding/spare.h).
 3. Whoever waits has released the GIL. A lock that all processes share may be held by a process
    that is stopped: with the GIL, the core does not wait for one (the patience of all threads is
    0) and answers FST_HELD; then the call is made again without the GIL, in slices, between which
    signals are heard and somebody is told after a second. Drops and the ends of objects wait for
    nobody: a batch does what a lock kept them from.
 4. The core calls back in one case: in a cache that is debugged it asks where an allocation or a
    drop comes from (binding/debug.pxi). It holds no lock then, and has changed nothing yet; rule 1
    holds for all other caches only.

What needs policy (waiting for memory, pickles, the Cache and Group of a Block) is handed in by the
modules above, `install()`.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE,
)
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_ExceptionMatches
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.object cimport PyObject_GenericSetAttr, PyObject_RichCompare
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_XDECREF, PyObject, PyTypeObject
from libc.stdint cimport SIZE_MAX, UINT64_MAX
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy, memset, strlen

cimport numpy as cnp

import functools
import math
import os
import pickle
import weakref

import numpy as np

from flagstone.errors import (
    ArenaCorrupted, ChannelEmpty, ChannelFull, Closed, FlagstoneError, StaleHandle, exception_of,
)
from flagstone.sizes import exact_size

cnp.import_array()

include "binding/native.pxi"

cdef object _hooks = None       # flagstone.block.Hooks
cdef object _form_of = None     # flagstone.format.form_of
cdef object _group_type = None  # flagstone.group.Group
cdef object _load = None        # flagstone.block._load, which a Block's pickle calls
cdef object _carried = None     # flagstone.arriving.carried, which a message's pickle calls
cdef object np_ndarray = np.ndarray
cdef cnp.dtype _BYTE = np.dtype(np.uint8)
cdef Py_ssize_t _ONE = 1
# From this many bytes on the GIL is released while an object is allocated or zeroed, because the
# system has to find and clear memory for it.
cdef enum: _LONG = 262144


def install(hooks):
    """Hand in what the modules above decide: see `flagstone.block.Hooks`."""
    global _carried, _form_of, _group_type, _hooks, _load
    _hooks = hooks
    _load = hooks.load
    _carried = hooks.carried
    _form_of = hooks.form_of
    _group_type = hooks.group_type


include "binding/errors.pxi"
include "binding/lists.pxi"
include "binding/handle.pxi"
include "binding/format.pxi"
include "binding/block.pxi"
include "binding/ticket.pxi"
include "binding/attachment.pxi"
include "binding/observe.pxi"
include "binding/link.pxi"
include "binding/bound.pxi"
include "binding/objects.pxi"
include "binding/section.pxi"
include "binding/allocator.pxi"
include "binding/named.pxi"
include "binding/lock.pxi"
include "binding/letter.pxi"
include "binding/channel.pxi"
include "binding/store.pxi"
include "binding/topic.pxi"
include "binding/waiter.pxi"
include "binding/debug.pxi"
include "binding/process.pxi"
