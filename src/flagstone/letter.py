"""Letters: how items that are neither bytes nor Blocks go into a message of a channel or topic.

An item is pickled. One Block of the same arena in it travels as the message's own, which the
channel holds: no kill and no refusal leaves it in flight, and of a topic everybody can have it.
What is large goes into a Block with its buffers beside the pickle (`flagstone.dumped`), and then
that is the message's own, and Blocks in the item are in flight, as in any pickle.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from flagstone._core import (
    LETTER_KINDS,
    Attachment,
    Beside,
    Block,
    pickled,
    take_back,
    with_tickets,
)
from flagstone.block import aalloc_bytes, alloc_bytes
from flagstone.dumped import Dumped, dumped
from flagstone.errors import FlagstoneError
from flagstone.group import Group, look
from flagstone.names import named
from flagstone.opened import Opened
from flagstone.sizes import format_size

if TYPE_CHECKING:
    from flagstone._core import _Letter, _Package, _Pickled

__all__ = ["Letters", "check_sizes"]

_PICKLE, _CARRIES, _BLOCK_PICKLE, _BLOCK_DUMP = LETTER_KINDS


def _bare(what: Dumped) -> Dumped:
    what.bare = what.alone  # the message's kind says it
    return what


def _kind_of(what: Dumped) -> int:
    return _BLOCK_PICKLE if what.bare else _BLOCK_DUMP


class _Several(Exception):
    """An item has more Blocks than a message can carry, or others."""


class _Pickler(pickle.Pickler):
    """Pickles an item whose first Block is the message's own."""

    def __init__(self, attachment: Attachment, inline: int) -> None:
        # What the pickler refers to does not refer to it, so that it ends at once.
        self._pieces: list[bytes] = []
        self.beside = Beside(inline)
        file = SimpleNamespace(write=_copying(self._pieces))
        super().__init__(file, 5, buffer_callback=self.beside)
        self._attachment = attachment
        self.block: Block | None = None

    def body(self) -> bytes:
        """What was pickled."""
        return b"".join(self._pieces)

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Block:
            return NotImplemented
        if value._parts[0] is not self._attachment:
            raise _Several("a Block of another arena")
        if self.block is None:
            self.block = value
        elif value is not self.block and value.handle != self.block.handle:
            raise _Several("several Blocks")
        return _carried, ()


def _copying(pieces: list[bytes]) -> Callable[[Any], None]:
    """A file's `write`. A long bytearray comes as itself, and its owner may go on to change it."""
    return lambda piece: pieces.append(piece if type(piece) is bytes else bytes(piece))


class Letters(Opened):
    """What Channel and Topic objects have in common: how items are pickled, and where they lie when
    they are large.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _carries: bool  # whether the last item's Block was the message's own
        _group_id: int
        _inline: int
        _name: str | None

        def _letter(self, item: Any, keep: bool) -> _Letter | None: ...
        def _letter_of_bytes(self, block: Block) -> _Letter: ...
        def _letter_of(self, package: _Package) -> _Letter: ...

    @property
    def name(self) -> str | None:
        """The name that it was opened by; None if it has none."""
        return self._name

    @property
    def inline(self) -> int:
        """The bytes of a message that can lie in its own memory; a larger one needs a Block."""
        return self._inline

    @property
    def group(self) -> Group:
        """The group that its memory, and that of large messages, is charged to."""
        return look(self._link_of(), self._group_id)

    # ---- putting

    _KIND: ClassVar[str]

    def _read_once(self) -> bool:
        """Whether a message is for one reader, once: then things may be in flight for it."""
        raise NotImplementedError

    def _package(self, item: Any, done: _Pickled | None) -> _Package:
        """What an item becomes, of which `done` is the pickle, if there is one."""
        what = self._pickled(item, done)
        if not isinstance(what, Dumped):
            return what
        return what.place(self._alloc), b"", _kind_of(what), what.tickets

    async def _aletter(self, item: Any, keep: bool) -> _Letter:
        """A letter, for a coroutine: the loop goes on while it waits for memory."""
        letter = self._letter(item, keep)
        if letter is not None:
            return letter
        if type(item) is bytes:
            block = await self._aalloc(len(item))
            block.array[...] = memoryview(item)
            return self._letter_of_bytes(block)
        what = self._pickled(item, None if self._carries else pickled(item, self._inline))
        if not isinstance(what, Dumped):
            return self._letter_of(what)
        block = await what.aplace(self._aalloc)
        return self._letter_of((block, b"", _kind_of(what), what.tickets))

    def _alloc(self, nbytes: int) -> Block:
        return alloc_bytes(self._attachment(), nbytes, None, None, self._group_id)

    async def _aalloc(self, nbytes: int) -> Block:
        return await aalloc_bytes(self._attachment(), nbytes, None, None, self._group_id)

    def _pickled(self, item: Any, done: _Pickled | None) -> _Package | Dumped:
        """The package of an item, or what needs a Block to become one."""
        if done is None:  # the last item had a Block, and so may this one
            return self._carrying(item)
        body, buffers, tickets = done
        if tickets is not None:
            take_back(tickets)
            return self._carrying(item)
        if buffers is None and len(body) <= self._inline:
            return None, body, _PICKLE, None
        return _bare(Dumped(body, buffers, None))

    def _carrying(self, item: Any) -> _Package | Dumped:
        """The same of an item that has something in flight, unless it is the message's own."""
        once = self._read_once()
        pickler = _Pickler(self._attachment(), self._inline)
        try:
            tickets = with_tickets(pickler.dump, item)
        except _Several as error:
            if once:
                return self._flying(item)
            raise self._too_much(str(error)) from None
        block, body = pickler.block, pickler.body()
        what = Dumped(body, pickler.beside.buffers, tickets)
        if tickets is not None and not once:
            what.discard()
            raise self._too_much("a group, channel or topic")
        if what.alone and len(body) <= self._inline:
            return block, body, _PICKLE if block is None else _CARRIES, tickets
        if block is None:
            return _bare(what)
        what.discard()
        if not once:
            raise self._too_much(f"{format_size(what.nbytes)} beside its Block")
        return self._flying(item)

    def _flying(self, item: Any) -> _Package | Dumped:
        """The same, its Blocks as messages in flight."""
        what = dumped(item, self._inline)
        if what.alone and len(what.body) <= self._inline:
            return None, what.body, _PICKLE, what.tickets
        return _bare(what)

    def _too_much(self, what: str) -> TypeError:
        called = named(self._KIND, self._name, self._attachment().path)
        return TypeError(
            f"an item that is read more than once, as those of {called} are, can have one Block of"
            f" that arena, and {format_size(self._inline)} beside it (inline=, when it is made)."
            f" This one has {what}: put each Block alone, or block.weak() while you keep the Block"
        )

    def _put_large(self, data: bytes) -> Block:
        block = self._alloc(len(data))
        block.array[...] = memoryview(data)
        return block

    # ---- getting

    @staticmethod
    def _unpickle(body: bytes, block: Block | None) -> Any:
        if block is None:
            return pickle.loads(body)
        with _arriving(block):
            return pickle.loads(body)

    def _load(self, block: Block) -> Any:
        """What was dumped into the Block of a message."""
        raise NotImplementedError


class _Arriving(threading.local):
    block: Block | None = None


_message = _Arriving()


@contextlib.contextmanager
def _arriving(block: Block | None) -> Iterator[None]:
    """Around the loading of a message that has this Block."""
    before = _message.block
    _message.block = block
    try:
        yield
    finally:
        _message.block = before


def _carried() -> Block:
    """Unpickle the Block of the message that is being loaded."""
    block = _message.block
    if block is None:
        raise FlagstoneError("this pickle is a part of a message, which has its Block")
    return block


def check_sizes(capacity: int, inline: int) -> None:
    """Check what a channel or topic is opened with, as far as Python has to.

    Raises:
        TypeError: one of them is no int.
        ValueError: one of them is negative, or more than 31 bits.
    """
    for value, what in ((capacity, "capacity"), (inline, "inline")):
        if type(value) is not int:
            raise TypeError(f"{what} must be an int, not {type(value).__name__}")
        if not 0 <= value < 1 << 31:
            raise ValueError(f"{what} must be from 0 to {(1 << 31) - 1}, not {value}")
