# What names an object: handles, and the messages of pickles.

@cython.final
cdef class Handle:
    """16 bytes that name an object for ever and guarantee nothing: `arena.get(handle)` gives the
    object, or raises `StaleHandle`. `Block.handle` makes one.

    Immutable, hashable, compared and ordered by these bytes, which `bytes(handle)` returns. It may
    be used by any thread and process, pickled and stored: it holds nothing.

    Args:
        data: the 16 bytes of another one, as any object with the buffer protocol.

    Raises:
        ValueError: these are not 16 bytes.
        TypeError: this is no buffer.
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


cdef int _message(bytes message, fst_message *out) except -1:
    # A message of a pickle, which came from outside: it is looked at before it goes to the core.
    if len(message) != sizeof(fst_message):
        raise ValueError(f"a message is {sizeof(fst_message)} bytes, not {len(message)}")
    memcpy(out, PyBytes_AS_STRING(message), sizeof(fst_message))
    return 0
