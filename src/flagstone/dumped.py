"""Any object in one Block: its pickle, and its buffers beside that, where loading finds them.

The Block's bytes, in the order of this machine:

    0       8       16      24                      64-aligned, each
    | MAGIC | parts | at, nbytes of each part ...   | the pickle | a buffer | ...
"""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import numpy as np

from flagstone._core import Block, Ticket, pickled, take_back
from flagstone.errors import ArenaCorrupted, ReadOnly

__all__ = ["Dumped", "dumped", "load", "load_copy"]

_MAGIC: Final = b"FSTDUMP\x01"
_ALIGN: Final = 64
_HEAD: Final = 16
_SPAN: Final = 16
_FIRST: Final = struct.Struct("=3Q")  # how many parts, and where the first one lies
_BYTE: Final = np.dtype(np.uint8)


class Dumped:
    """An object that is pickled already, as it will lie in a Block.

    Attributes:
        body: its pickle.
        alone: whether there is nothing beside the pickle.
        bare: whether it lies there as its pickle alone, for who knows that; else as above.
        tickets: of what went into the pickle and is in flight; None of nothing.
    """

    __slots__ = ("_end", "_parts", "_spans", "alone", "bare", "body", "tickets")

    def __init__(
        self, body: bytes, buffers: list[memoryview] | None, tickets: list[Ticket] | None
    ) -> None:
        self.body = body
        self.alone = not buffers
        self.bare = False
        self.tickets = tickets
        self._parts: list[Any] = [body, *(buffers or ())]
        self._spans: list[int] = []
        at = _HEAD + _SPAN * len(self._parts)
        for part in self._parts:
            at = -(-at // _ALIGN) * _ALIGN
            self._spans += [at, len(part)]
            at += len(part)
        self._end = at

    @property
    def nbytes(self) -> int:
        """The bytes of the Block that it needs."""
        return len(self.body) if self.bare else self._end

    def write(self, block: Block) -> None:
        """Write it into a Block of so many bytes."""
        view = block.array.data
        if self.bare:
            view[:] = self.body
            return
        spans = self._spans
        struct.pack_into(f"=8sQ{len(spans)}Q", view, 0, _MAGIC, len(self._parts), *spans)
        starts = zip(self._parts, spans[::2], spans[1::2], strict=True)
        for part, at, nbytes in starts:
            view[at : at + nbytes] = part

    def place(self, alloc: Callable[[int], Block]) -> Block:
        """Write it into a Block that `alloc` makes of so many bytes. Where that fails, it is
        discarded.
        """
        with self._or_discarded():
            block = alloc(self.nbytes)
            self.write(block)
        return block

    async def aplace(self, alloc: Callable[[int], Awaitable[Block]]) -> Block:
        """`place` for a coroutine: the loop goes on while `alloc` waits."""
        with self._or_discarded():
            block = await alloc(self.nbytes)
            self.write(block)
        return block

    @contextlib.contextmanager
    def _or_discarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Take back what is in flight: nobody will load this. (What the object's own code has
        pickled meanwhile stays: that pickle may be kept anywhere.)
        """
        take_back(self.tickets)


def dumped(value: Any, least: int = 0) -> Dumped:
    """Pickle an object by protocol 5; what it hands over as buffers stays where it is.

    Args:
        value: the object. Blocks in it are in flight.
        least: bytes below which a buffer goes into the pickle.

    Raises:
        Exception: it cannot be pickled.
    """
    return Dumped(*pickled(value, least))


def load(block: Block, writable: bool | None = False) -> Any:
    """`Block.load`; `writable` None: as the Block is."""
    raw = block.array
    if raw.dtype != _BYTE or raw.ndim != 1 or len(raw) < 8 or raw[:8].tobytes() != _MAGIC:
        raise TypeError(
            f"nothing was dumped into this Block, which is an array of {block.dtype} and shape"
            f" {block.shape}: use .array (arena.dump(object) makes a Block to load)"
        )
    if writable is False:
        raw.flags.writeable = False
    elif writable and not raw.flags.writeable:
        raise ReadOnly("the arena is attached read-only: load(writable=True) cannot be had of it")
    return _load(raw)


def load_copy(block: Block) -> Any:
    """What was dumped into a Block, from a copy of its bytes: nothing that is done to it is seen by
    others.
    """
    return _load(block.array.copy())


def _load(raw: np.ndarray[Any, Any]) -> Any:
    body, *buffers = _parts(raw.data)
    return pickle.loads(body, buffers=buffers)


def _parts(view: memoryview) -> list[memoryview]:
    """The parts as views of a Block's bytes."""
    if len(view) < _HEAD + _SPAN:
        raise _overwritten()
    count, at, n = _FIRST.unpack_from(view, 8)
    if count == 1:  # no buffers beside the pickle
        if at > len(view) or n > len(view) - at:
            raise _overwritten()
        return [view[at : at + n]]
    if not 0 < count <= (len(view) - _HEAD) // _SPAN:
        raise _overwritten()
    spans = struct.unpack_from(f"={2 * count}Q", view, _HEAD)
    starts = list(zip(spans[::2], spans[1::2], strict=True))
    if any(at > len(view) or n > len(view) - at for at, n in starts):
        raise _overwritten()
    return [view[at : at + n] for at, n in starts]


def _overwritten() -> ArenaCorrupted:
    return ArenaCorrupted("where the parts of a dumped object lie was overwritten in its Block")
