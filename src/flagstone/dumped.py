"""Any object in one Block: its pickle, and its buffers beside that, where loading finds them.

The Block's bytes, in the order of this machine:

    0       8       16      24                      64-aligned, each
    | MAGIC | parts | at, nbytes of each part ...   | the pickle | a buffer | ...
"""

from __future__ import annotations

import contextlib
import pickle
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flagstone.errors import ArenaCorrupted, ReadOnly

if TYPE_CHECKING:
    from flagstone._core import Block

__all__ = ["Dumped", "dumped", "load"]

_MAGIC: Final = b"FSTDUMP\x01"
_ALIGN: Final = 64
_HEAD: Final = 16
_SPAN: Final = 16


class Dumped:
    """An object that is pickled already, as it will lie in a Block."""

    __slots__ = ("_parts", "_spans", "nbytes")

    def __init__(self, body: bytes, buffers: list[memoryview]) -> None:
        self._parts: list[Any] = [body, *buffers]
        self._spans: list[int] = []
        at = _HEAD + _SPAN * len(self._parts)
        for part in self._parts:
            at = -(-at // _ALIGN) * _ALIGN
            self._spans += [at, len(part)]
            at += len(part)
        self.nbytes: int = at

    def write(self, block: Block) -> None:
        """Write it into a Block of so many bytes."""
        raw = block.array
        head = struct.pack(f"=8sQ{len(self._spans)}Q", _MAGIC, len(self._parts), *self._spans)
        raw[: len(head)] = np.frombuffer(head, np.uint8)
        starts = zip(self._parts, self._spans[::2], self._spans[1::2], strict=True)
        for part, at, nbytes in starts:
            raw[at : at + nbytes] = np.frombuffer(part, np.uint8)

    @contextlib.contextmanager
    def or_discarded(self) -> Iterator[None]:
        """Around its allocation. Where that fails, what of this package went into the pickle is in
        flight, and taking it gives it up.
        """
        try:
            yield
        except BaseException:
            if b"flagstone" in self._parts[0]:
                with contextlib.suppress(Exception):
                    pickle.loads(self._parts[0], buffers=self._parts[1:])
            raise


def dumped(value: Any) -> Dumped:
    """Pickle an object by protocol 5; what it hands over as buffers stays where it is.

    Raises:
        Exception: it cannot be pickled.
    """
    buffers: list[memoryview] = []

    def beside(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffers.append(buffer.raw())
        except BufferError:  # its bytes lie apart
            return True
        return False

    return Dumped(pickle.dumps(value, protocol=5, buffer_callback=beside), buffers)


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
