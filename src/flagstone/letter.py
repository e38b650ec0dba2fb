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
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from flagstone._core import Block
from flagstone.block import aalloc_bytes, alloc_bytes
from flagstone.dumped import Dumped, discard, discard_dump, dumped, packed
from flagstone.errors import FlagstoneError
from flagstone.group import Group, look
from flagstone.names import named
from flagstone.opened import Opened

if TYPE_CHECKING:
    from flagstone._core import _Letter

__all__ = ["Letters", "check_sizes"]

Package: TypeAlias = "tuple[Block | None, bytes, bool]"
"""A message's Block, its bytes, and whether the Block is one of the item's."""


class _Several(Exception):
    """An item has more Blocks than a message can carry."""


class Letters(Opened):
    """What Channel and Topic objects have in common: how items are pickled, and where they lie when
    they are large.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _group_id: int
        _inline: int
        _name: str | None

        def _letter(self, item: Any, keep: bool) -> _Letter | None: ...
        def _letter_of_bytes(self, block: Block) -> _Letter: ...
        def _letter_of(self, package: Package) -> _Letter: ...

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

    def _package(self, item: Any) -> Package:
        """The message's Block, its bytes, and whether the Block is one of the item's."""
        what = self._pickled(item)
        if not isinstance(what, Dumped):
            return what
        with what.or_discarded():
            block = alloc_bytes(self._attachment(), what.nbytes, None, None, self._group_id)
        what.write(block)
        return block, b"", False

    async def _aletter(self, item: Any, keep: bool) -> _Letter:
        """A letter, for a coroutine: the loop goes on while it waits for memory."""
        letter = self._letter(item, keep)
        if letter is not None:
            return letter
        if type(item) is bytes:
            block = await self._aalloc(len(item))
            block.array[...] = memoryview(item)
            return self._letter_of_bytes(block)
        what = self._pickled(item)
        if not isinstance(what, Dumped):
            return self._letter_of(what)
        with what.or_discarded():
            block = await self._aalloc(what.nbytes)
        what.write(block)
        return self._letter_of((block, b"", False))

    async def _aalloc(self, nbytes: int) -> Block:
        return await aalloc_bytes(self._attachment(), nbytes, None, None, self._group_id)

    def _pickled(self, item: Any) -> Package | Dumped:
        """The package of an item, or what needs a Block to become one."""
        carried: Block | None = None
        once = self._read_once()

        def on_block(block: Block) -> tuple[Any, ...]:
            nonlocal carried
            if block._parts[0] is not self._attachment():
                raise _Several if once else self._too_much("a Block of another arena")
            if carried is None:
                carried = block
            elif block is not carried and block.handle != carried.handle:
                raise _Several if once else self._too_much("several Blocks")
            return _carried, ()

        try:
            body, buffers = packed(item, on_block, None if once else self._too_much, self._inline)
        except _Several:
            return self._pickled_as_any(item)
        if not buffers and len(body) <= self._inline:
            return carried, body, carried is not None
        what = Dumped(body, buffers)
        if carried is None:
            return what
        with _arriving(carried):
            what.discard()
        if not once:
            raise self._too_much(f"{what.nbytes:,} bytes beside its Block")
        return self._pickled_as_any(item)

    def _pickled_as_any(self, item: Any) -> Package | Dumped:
        """The same, its Blocks as messages in flight."""
        what = dumped(item, least=self._inline)
        return (None, what.body, False) if what.alone and len(what.body) <= self._inline else what

    def _too_much(self, what: str = "a group, channel or topic") -> TypeError:
        called = named(self._KIND, self._name, self._attachment().path)
        return TypeError(
            f"an item that is read more than once, as those of {called} are, can have one Block of"
            f" that arena, and {self._inline} bytes beside it (inline=, when it is made). This one"
            f" has {what}: put each Block alone, or block.weak() while you keep the Block"
        )

    def _put_large(self, data: bytes) -> Block:
        block = alloc_bytes(self._attachment(), len(data), None, None, self._group_id)
        block.array[...] = memoryview(data)
        return block

    @staticmethod
    def _take_back(block: Block | None, body: bytes, carries: bool) -> None:
        """Give up what is in flight in a message that was refused."""
        if carries:
            with _arriving(block):
                discard([body])
        elif block is not None:
            discard_dump(block)
        else:
            discard([body])

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
