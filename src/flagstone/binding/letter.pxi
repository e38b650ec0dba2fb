# What is in a message of a channel or a topic.

cdef enum:
    _KIND_BYTES = 0         # the item is the message's bytes
    _KIND_PICKLE = 1        # the message's bytes are a pickle of the item
    _KIND_BLOCK = 2         # the item is the message's Block
    _KIND_BLOCK_BYTES = 3   # the item is the bytes in the message's Block
    _KIND_BLOCK_PICKLE = 4  # the bytes in the message's Block are a pickle of the item
    _INLINE_MOST = 4000     # bytes of a message that can lie in a channel's own memory


cdef class LetterBase(NamedBase):
    """How items become messages, and messages items. The class above, `flagstone.letter.Letters`,
    pickles and unpickles them, and says where large ones lie.
    """

    cdef tuple prepare(self, object item, bint keep):
        # (Block or None, bytes, kind, whether the Block stays usable here).
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
        # The item of a message that has a Block.
        if kind == _KIND_BLOCK:
            return self.attachment.arrived(block)
        if kind == _KIND_BLOCK_BYTES:
            return PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes)
        return self._unpickle(
            PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes))
