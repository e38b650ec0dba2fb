# What is in a message of a channel or a topic.

cdef enum:
    _KIND_BYTES = 0         # the message is these bytes
    _KIND_PICKLE = 1        # it is what they are a pickle of
    _KIND_BLOCK = 2         # it is the Block, and no bytes
    _KIND_BLOCK_BYTES = 3   # it is the bytes in the Block
    _KIND_BLOCK_PICKLE = 4  # it is what they are a pickle of
    _INLINE_MOST = 4000


cdef class LetterBase(NamedBase):
    """How items become messages, and messages items; the class that has it says how to pickle."""

    cdef tuple prepare(self, object item, bint keep):
        cdef bytes data
        cdef uint32_t kind = _KIND_PICKLE
        if type(item) is Block and (<Block>item)._attachment == <PyObject *>self.attachment:
            return (item, b"", _KIND_BLOCK, keep)
        if type(item) is bytes:
            data, kind = item, _KIND_BYTES
        else:
            data = self._pickle(item)
        if len(data) <= self._inline:
            return (None, data, kind, False)
        kind = _KIND_BLOCK_BYTES if kind == _KIND_BYTES else _KIND_BLOCK_PICKLE
        return (self._put_large(data), b"", kind, False)

    cdef object unpack(self, Block block, uint32_t kind):
        if kind == _KIND_BLOCK:
            return self.attachment.arrived(block)
        if kind == _KIND_BLOCK_BYTES:
            return PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes)
        return self._unpickle(
            PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes))
