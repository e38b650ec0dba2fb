"""What stands for a `mmap.mmap` where a program wants one and there is a Block.

Programs reach for `SharedMemory._mmap`, to read and write it as a file, or to hand it on as a
buffer. This is a view of a Block with the methods of `mmap`; the Block's memory is neither mapped
nor unmapped by it.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flagstone.sizes import exact_size

if TYPE_CHECKING:
    from flagstone._core import Block

__all__ = ["Mapping"]

_ENDS: Final = {
    getattr(mmap, name) for name in ("MADV_REMOVE", "MADV_DONTNEED") if hasattr(mmap, name)
}


class Mapping(np.ndarray[Any, np.dtype[np.uint8]]):
    """The bytes of a Block, with the methods of `mmap.mmap`. Has its buffer, too.

    Not safe to read or write as a file from several threads at once, as `mmap` is not.
    """

    _at: int = 0
    _closed: bool = False

    @staticmethod
    def of(block: Block) -> Mapping:
        """The Mapping of a Block without a dtype."""
        return block.array.view(Mapping)

    def __getitem__(self, index: Any) -> Any:
        found = np.asarray(self)[index]
        return found.tobytes() if isinstance(found, np.ndarray) else int(found)

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, (bytes, bytearray, memoryview)):
            value = np.frombuffer(value, np.uint8)
        np.asarray(self)[index] = value

    def __repr__(self) -> str:
        return f"<Mapping of {exact_size(len(self))} of a Block>"

    def __enter__(self) -> Mapping:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- as a file

    def size(self) -> int:  # type: ignore[override]
        """How many bytes there are."""
        return len(self)

    def tell(self) -> int:
        """Where the next `read` or `write` begins."""
        return self._at

    def seek(self, pos: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next `read` or `write` begins, and return it.

        Raises:
            ValueError: outside of the bytes, or no such `whence`.
        """
        starts = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}
        if whence not in starts:
            raise ValueError("unknown seek type")
        start = starts[whence]
        if not 0 <= start + pos <= len(self):
            raise ValueError("seek out of range")
        self._at = start + pos
        return self._at

    def read(self, n: int | None = None) -> bytes:
        """The next `n` bytes; without a number, all that follow."""
        end = len(self) if n is None or n < 0 else min(self._at + n, len(self))
        found: bytes = self[self._at : end]
        self._at = end
        return found

    def read_byte(self) -> int:
        """The next byte; `ValueError` at the end."""
        if self._at >= len(self):
            raise ValueError("read byte out of range")
        return self.read(1)[0]

    def readline(self) -> bytes:
        """The bytes to the end of the line, with it."""
        end = self.find(b"\n", self._at)
        return self.read(None if end < 0 else end + 1 - self._at)

    def write(self, data: Any) -> int:
        """Write at the place, and return how many bytes; `ValueError` where they have no room."""
        raw = memoryview(data).cast("B")
        if self._at + raw.nbytes > len(self):
            raise ValueError("data out of range")
        self[self._at : self._at + raw.nbytes] = raw
        self._at += raw.nbytes
        return raw.nbytes

    def write_byte(self, byte: int) -> None:
        """Write one byte at the place."""
        self.write(bytes((byte,)))

    def find(self, sub: Any, start: int | None = None, end: int | None = None) -> int:
        """Where a subsequence first begins, from the place on; -1 if nowhere."""
        return self._found(bytes.find, sub, start, end)

    def rfind(self, sub: Any, start: int | None = None, end: int | None = None) -> int:
        """Where a subsequence last begins, from the place on; -1 if nowhere."""
        return self._found(bytes.rfind, sub, start, end)

    def _found(self, how: Any, sub: Any, start: int | None, end: int | None) -> int:
        first, last, _ = slice(self._at if start is None else start, end).indices(len(self))
        at: int = how(self[first:last], bytes(sub))
        return at if at < 0 else at + first

    def move(self, dest: int, src: int, count: int) -> None:
        """Copy `count` bytes from `src` to `dest`; `ValueError` where one of them lies outside."""
        if min(dest, src, count) < 0 or max(dest, src) + count > len(self):
            raise ValueError("source, destination, or count out of range")
        raw = np.asarray(self)
        raw[dest : dest + count] = raw[src : src + count].copy()

    # ---- as a mapping

    @property
    def closed(self) -> bool:
        """Whether `close()` was called. Its bytes stay."""
        return self._closed

    def close(self) -> None:
        """Remember that it was called, and nothing else: views of the Block keep its memory."""
        self._closed = True

    def flush(self, *_: int) -> None:
        """Does nothing: there is no file to write to."""

    def madvise(self, option: int, start: int = 0, length: int | None = None) -> None:
        """Make bytes zero where the advice is to drop their pages. No other advice does anything.

        Raises:
            ValueError: it begins outside of the bytes, or the length is negative.
        """
        if not 0 <= start < len(self):
            raise ValueError("madvise start out of bounds")
        if length is not None and length < 0:
            raise ValueError("madvise length invalid")
        if option in _ENDS:
            end = len(self) if length is None else start + length
            np.asarray(self)[start:end] = 0

    def resize(self, *_: Any, **__: Any) -> Any:
        """Refused.

        Raises:
            SystemError: always, as of a mapping that cannot grow.
        """
        raise SystemError("a segment of Flagstone's keeps its size: make another one, and copy")
