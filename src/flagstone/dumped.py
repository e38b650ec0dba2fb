"""Any object in one Block: its pickle, and its buffers beside that, where loading finds them.

The Block's bytes, in the order of this machine:

    0       8       16      24                      64-aligned, each
    | MAGIC | parts | at, nbytes of each part ...   | the pickle | a buffer | ...
"""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flagstone._core import Block, Ticket, fail_pickler, reduce_block, refuse_ticket
from flagstone.errors import ArenaCorrupted, ReadOnly

if TYPE_CHECKING:
    from typing import TypeAlias

    OnBlock: TypeAlias = Callable[[Block], tuple[Any, ...]]
    OnMessage: TypeAlias = Callable[[], Exception]

__all__ = ["Dumped", "discard", "discard_dump", "dumped", "load", "load_copy", "packed"]

_MAGIC: Final = b"FSTDUMP\x01"
_ALIGN: Final = 64
_HEAD: Final = 16
_SPAN: Final = 16


class Dumped:
    """An object that is pickled already, as it will lie in a Block.

    Attributes:
        body: its pickle.
        alone: whether there is nothing beside the pickle.
    """

    __slots__ = ("_parts", "alone", "body")

    def __init__(self, body: bytes, buffers: list[memoryview]) -> None:
        self.body = body
        self.alone = not buffers
        self._parts: list[Any] = [body, *buffers]

    def _spans(self) -> tuple[list[int], int]:
        """Where each part begins and its bytes, one after the other; the bytes of all."""
        spans: list[int] = []
        at = _HEAD + _SPAN * len(self._parts)
        for part in self._parts:
            at = -(-at // _ALIGN) * _ALIGN
            spans += [at, len(part)]
            at += len(part)
        return spans, at

    @property
    def nbytes(self) -> int:
        """The bytes of the Block that it needs."""
        return self._spans()[1]

    def write(self, block: Block) -> None:
        """Write it into a Block of so many bytes."""
        raw = block.array
        spans, _ = self._spans()
        head = struct.pack(f"=8sQ{len(spans)}Q", _MAGIC, len(self._parts), *spans)
        raw[: len(head)] = np.frombuffer(head, np.uint8)
        starts = zip(self._parts, spans[::2], spans[1::2], strict=True)
        for part, at, nbytes in starts:
            raw[at : at + nbytes] = np.frombuffer(part, np.uint8)

    @contextlib.contextmanager
    def or_discarded(self) -> Iterator[None]:
        """Around its allocation: where that fails, it is discarded."""
        try:
            yield
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Nobody will load it: what of this package went into the pickle is in flight, and taking
        it gives it up.
        """
        discard(self._parts)


def discard(parts: Sequence[Any]) -> None:
    """Give up what is in flight in a pickle with its buffers that nobody will load."""
    if b"flagstone" in bytes(parts[0]):
        with contextlib.suppress(Exception):
            pickle.loads(parts[0], buffers=parts[1:])


def dumped(
    value: Any,
    on_block: OnBlock = reduce_block,
    on_message: OnMessage | None = None,
    least: int = 0,
) -> Dumped:
    """Pickle an object by protocol 5; what it hands over as buffers stays where it is.

    Args:
        value: the object.
        on_block: how a Block in it is pickled, as `__reduce__` says it. By default it is in flight.
        on_message: makes the error for what else would be in flight: groups, channels and
            topics. None: they may be.
        least: bytes below which a buffer goes into the pickle.

    Raises:
        Exception: it cannot be pickled.
    """
    return Dumped(*packed(value, on_block, on_message, least))


def packed(
    value: Any, on_block: OnBlock, on_message: OnMessage | None, least: int
) -> tuple[bytes, list[memoryview]]:
    """The same, as the pickle and the buffers."""
    try:
        pickler = _idle.pop()
    except IndexError:
        pickler = _Pickler()
    pickler.on_block, pickler.on_message, pickler.least = on_block, on_message, least
    pieces, buffers = pickler.pieces, pickler.buffers
    try:
        pickler.dump(value)
        return (pieces.pop() if len(pieces) == 1 else b"".join(pieces)), buffers
    except BaseException:
        fail_pickler(pickler)
        raise
    finally:
        # It is as new, and has nothing of the program's.
        pickler.clear_memo()
        pickler.on_block, pickler.on_message = reduce_block, None
        if pieces:
            pieces.clear()
        if buffers:
            pickler.buffers = []
        _idle.append(pickler)


class _Pickler(pickle.Pickler):
    """A pickler that is used again: to make one takes as long as to pickle something small."""

    __slots__ = ("buffers", "least", "on_block", "on_message", "pieces")

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        super().__init__(SimpleNamespace(write=self.pieces.append), 5, buffer_callback=self.beside)
        self.buffers: list[memoryview] = []
        self.least = 0
        self.on_block: OnBlock = reduce_block
        self.on_message: OnMessage | None = None

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if kind is Block:
            return self.on_block(value)
        if kind is Ticket and self.on_message is not None:
            refuse_ticket(value)
            raise self.on_message()
        return NotImplemented

    def beside(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # its bytes lie apart
            return True
        if raw.nbytes < self.least:
            return True
        self.buffers.append(raw)
        return False


_idle: list[_Pickler] = []


def load(block: Block, writable: bool | None = False) -> Any:
    """`Block.load`; `writable` None: as the Block is."""
    raw = block.array
    if raw.dtype != np.uint8 or raw.ndim != 1 or raw[:8].tobytes() != _MAGIC:
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


def discard_dump(block: Block) -> None:
    """Give up what is in flight in a Block that nobody will load."""
    discard(_parts(block.array))


def _load(raw: np.ndarray[Any, Any]) -> Any:
    body, *buffers = _parts(raw)
    return pickle.loads(body.data, buffers=buffers)


def _parts(raw: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """The parts as views of a Block's bytes."""
    if len(raw) < _HEAD:
        raise _overwritten()
    (count,) = struct.unpack_from("=Q", raw.data, 8)
    if not 0 < count <= (len(raw) - _HEAD) // _SPAN:
        raise _overwritten()
    spans = struct.unpack_from(f"={2 * count}Q", raw.data, _HEAD)
    starts = list(zip(spans[::2], spans[1::2], strict=True))
    if any(at > len(raw) or n > len(raw) - at for at, n in starts):
        raise _overwritten()
    return [raw[at : at + n] for at, n in starts]


def _overwritten() -> ArenaCorrupted:
    return ArenaCorrupted("where the parts of a dumped object lie was overwritten in its Block")
