"""Letters: how items that are neither bytes nor Blocks go into a message of a channel or topic.

An item is pickled. One Block of the same arena in it travels as the message's own, which the
channel holds: no kill and no refusal leaves it in flight, and of a topic everybody can have it.
What is large goes into a Block with its buffers beside the pickle (`flagstone.dumped`), and then
that is the message's own, and Blocks in the item are in flight, as in any pickle.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flagstone._core import LETTER_KINDS
from flagstone.arriving import load_with
from flagstone.block import aalloc_bytes, alloc_bytes
from flagstone.dumped import Dumped, dumped
from flagstone.group import Group, look
from flagstone.names import named
from flagstone.opened import Opened
from flagstone.sizes import format_size
from flagstone.states import CHANNEL_ANY_CAPACITY, CHANNEL_ANY_INLINE

if TYPE_CHECKING:
    from flagstone._core import Block, Ticket, _Letter, _Pickled

    _Package = tuple[Block | None, bytes, int, list[Ticket] | None]

__all__ = ["Letters", "sizes_of"]

_INLINE: Final = 200
_PICKLE, _CARRIES = LETTER_KINDS


def _filled(block: Block, data: bytes) -> Block:
    block.array[...] = memoryview(data)
    return block


def _bare(what: Dumped) -> Dumped:
    what.bare = what.alone  # the message's kind says it
    return what


class Letters(Opened):
    """What Channel and Topic objects have in common: how items are pickled, and where they lie when
    they are large.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _group_id: int
        _inline: int
        _name: str | None

        def _begun(self, item: Any, keep: bool) -> _Letter | bytes | Dumped: ...
        def _placed(self, block: Block, what: bytes | Dumped) -> _Letter: ...

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

    def _place(self, what: bytes | Dumped) -> Block:
        """A Block with what needs one to become a letter."""
        if isinstance(what, Dumped):
            return what.place(self._alloc)
        return _filled(self._alloc(len(what)), what)

    async def _aletter(self, item: Any, keep: bool) -> _Letter:
        """A letter, for a coroutine: the loop goes on while it waits for memory."""
        what = self._begun(item, keep)
        if isinstance(what, tuple):
            return what
        if isinstance(what, Dumped):
            return self._placed(await what.aplace(self._aalloc), what)
        return self._placed(_filled(await self._aalloc(len(what)), what), what)

    def _alloc(self, nbytes: int) -> Block:
        return alloc_bytes(self._attachment(), nbytes, None, None, self._group_id)

    async def _aalloc(self, nbytes: int) -> Block:
        return await aalloc_bytes(self._attachment(), nbytes, None, None, self._group_id)

    def _packed(self, item: Any, done: _Pickled, block: Block | None) -> _Package | Dumped:
        """The package of an item, or what needs a Block to become one."""
        body, _, tickets = done
        what = Dumped(*done)
        once = self._read_once()
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

    def _several(self, item: Any, why: str) -> _Package | Dumped:
        """The same of an item that has several Blocks, or one of another arena."""
        if not self._read_once():
            raise self._too_much(why)
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

    # ---- getting

    @staticmethod
    def _unpickle(body: bytes, block: Block | None) -> Any:
        return pickle.loads(body) if block is None else load_with(body, block)

    def _load(self, block: Block) -> Any:
        """What was dumped into the Block of a message."""
        raise NotImplementedError


def sizes_of(capacity: int | None, inline: int | None, usual: int) -> tuple[int, int, int]:
    """Check what a channel or topic is opened with, as far as Python has to.

    Args:
        capacity, inline: None is what there is, or the usual.
        usual: capacity of one that is created.

    Returns:
        Capacity and inline bytes of one that is created, and the flags that say what of it one that
        is there may have otherwise.

    Raises:
        TypeError: one of them is no int.
        ValueError: one of them is negative, or more than 31 bits.
    """
    flags = 0
    if capacity is None:
        capacity, flags = usual, CHANNEL_ANY_CAPACITY
    if inline is None:
        inline, flags = _INLINE, flags | CHANNEL_ANY_INLINE
    for value, what in ((capacity, "capacity"), (inline, "inline")):
        if type(value) is not int:
            raise TypeError(f"{what} must be an int, not {type(value).__name__}")
        if not 0 <= value < 1 << 31:
            raise ValueError(f"{what} must be from 0 to {(1 << 31) - 1}, not {value}")
    return capacity, inline, flags
