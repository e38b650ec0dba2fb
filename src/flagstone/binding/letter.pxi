# What is in a message of a channel or a topic.

cdef enum:
    _KIND_BYTES = 0         # the item is the message's bytes
    _KIND_PICKLE = 1        # the message's bytes are a pickle of the item
    _KIND_BLOCK = 2         # the item is the message's Block
    _KIND_BLOCK_BYTES = 3   # the item is the bytes in the message's Block
    _KIND_BLOCK_DUMP = 4    # the item was dumped into the message's Block
    _KIND_CARRIES = 5       # the message's bytes are a pickle of the item, which has its Block
    _KIND_BLOCK_PICKLE = 6  # the bytes in the message's Block are a pickle of the item
    _INLINE_MOST = 4000     # bytes of a message that can lie in a channel's own memory

# Those that the class above tells apart.
LETTER_KINDS = (_KIND_PICKLE, _KIND_CARRIES)


cdef class LetterBase(NamedBase):
    """How items become messages, and messages items. The class above, `flagstone.letter.Letters`,
    pickles and unpickles them, and says where large ones lie.
    """

    cdef tuple prepare(self, object item, bint keep):
        # A letter: (Block or None, bytes, kind, whether the Block stays usable here, the tickets of
        # what is in flight or None).
        cdef object what
        cdef tuple letter = self.ready(item, keep)
        if letter is not None:
            return letter
        what = self.begun(item)
        return <tuple>what if type(what) is tuple else self.placed(self._place(what), what)

    cdef object begun(self, object item):
        # The letter of an item that is not ready(); or what needs a Block to become one, bytes or a
        # Dumped.
        cdef Carrier carrier
        cdef tuple done
        if type(item) is bytes:
            return item
        carrier = Carrier.__new__(Carrier)
        carrier.attachment = self.link.get()
        try:
            done = pickled(item, self._inline, carrier)
        except SeveralBlocks as error:
            return self.packaged(self._several(item, str(error)))
        if done[2] is None and done[1] is None and len(<bytes>done[0]) <= self._inline:
            if carrier.block is None:
                return (None, done[0], _KIND_PICKLE, False, None)
            return (carrier.block, done[0], _KIND_CARRIES, True, None)
        return self.packaged(self._packed(item, done, carrier.block))

    cdef inline tuple ready(self, object item, bint keep):
        # The letter of an item that is not pickled; else None.
        if type(item) is Block and (<Block>item)._attachment == <PyObject *>self.attachment:
            return (item, b"", _KIND_BLOCK, keep, None)
        if type(item) is bytes and len(<bytes>item) <= self._inline:
            return (None, item, _KIND_BYTES, False, None)
        return None

    cdef inline object packaged(self, object package):
        # The letter of what the class above made of a pickle; where that needs a Block, itself.
        if type(package) is not tuple:
            return package
        block, data, kind, tickets = <tuple>package
        return (block, data, kind, kind == _KIND_CARRIES, tickets)

    cdef inline tuple placed(self, object block, object what):
        # The letter of what needed a Block, which has it now.
        if type(what) is bytes:
            return (block, b"", _KIND_BLOCK_BYTES, False, None)
        return (block, b"", _KIND_BLOCK_PICKLE if what.bare else _KIND_BLOCK_DUMP, False,
                what.tickets)

    # The parts of prepare(), for a coroutine, which waits for memory in between.

    def _begun(self, item, bint keep):
        """The letter of an item, which `_try` sends; or what needs a Block to become one."""
        cdef tuple letter
        self.usable()
        letter = self.ready(item, keep)
        return self.begun(item) if letter is None else letter

    def _placed(self, Block block not None, what):
        """The letter of what needed a Block, which has it now."""
        return self.placed(block, what)

    def _give_up(self, tuple letter not None):
        """Take back what is in flight in a letter that was not sent."""
        self.give_up(letter)

    cdef int sent(self, tuple letter) except -1:
        # It is in a message: what is in flight is the taker's, whatever happens here from now on.
        if letter[4] is not None:
            (<list>letter[4]).clear()
        return 0

    cdef int give_up(self, tuple letter) except -1:
        # It is in no message: what is in flight is taken back.
        return take_back(letter[4])

    cdef object arrived(self, Attachment attachment, char *data, fst_received *r):
        # The item of a message that was received. `attachment` matters only where it has a Block.
        cdef Block block
        if not r.has_ref:
            item = PyBytes_FromStringAndSize(data, r.nbytes)
            return self._unpickle(item, None) if r.kind == _KIND_PICKLE else item
        block = _begin_block()
        block.of(attachment)
        block.ref = r.ref
        block.life = 1
        if r.kind == _KIND_BLOCK:
            return attachment.arrived(block)
        if r.kind == _KIND_BLOCK_BYTES:
            return PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes)
        if r.kind == _KIND_BLOCK_PICKLE:
            item = PyBytes_FromStringAndSize(<char *>block.ref.data, block.ref.nbytes)
            return self._unpickle(item, None)
        if r.kind == _KIND_CARRIES:
            return self._unpickle(PyBytes_FromStringAndSize(data, r.nbytes),
                                  attachment.arrived(block))
        return self._load(block)
