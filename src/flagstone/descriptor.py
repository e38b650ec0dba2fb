"""What stands for the file descriptor of a segment where there is no file.

Programs hand `SharedMemory._fd` to the system: to have all memory taken (`os.posix_fallocate`),
to be rid of it (`os.close`), to lock it, or to map it again. A segment is a Block in an arena's
file, which none of these may be done to. What a segment does by itself can be served by functions
that know a `Descriptor`; everything else asks it for its number, and is refused. Those that look
up a name by the system's call get a number, which is good for being asked and closed.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from typing import Final, NoReturn

from flagstone.sizes import many

__all__ = ["Descriptor", "closing", "looking", "reserving"]

_REFUSED: Final = (
    "SharedMemory._fd: a segment of Flagstone's has no file of its own. Its memory is there"
    " already (instead of posix_fallocate), buf.toreadonly() is a read-only view (instead of"
    " mmap), flagstone.open(...).lock(name) locks (instead of flock), size is its size (instead"
    " of fstat)"
)


class Descriptor:
    """A descriptor without a number: as open ones, it is larger than -1, and equal to itself.

    Args:
        size: bytes of the segment.

    Raises:
        io.UnsupportedOperation: where its number is asked for (an `OSError` and a `ValueError`).
    """

    __slots__ = ("size",)

    def __init__(self, size: int) -> None:
        self.size: Final = size

    def __index__(self) -> NoReturn:
        raise io.UnsupportedOperation(_REFUSED)

    fileno = __index__

    def __gt__(self, other: object) -> bool:
        return True

    def __lt__(self, other: object) -> bool:
        return False

    __ge__ = __gt__
    __le__ = __lt__

    def __repr__(self) -> str:
        return f"<Descriptor of a segment of {many(self.size, 'byte')}>"


def reserving(others: Callable[[int, int, int], None]) -> Callable[..., None]:
    """For `os.posix_fallocate`: all memory of a segment is taken when it is made."""

    def posix_fallocate(fd: int | Descriptor, offset: int, length: int, /) -> None:
        """Ensure that a file has room; of a segment, nothing is to be done."""
        if not isinstance(fd, Descriptor):
            return others(fd, offset, length)
        if offset < 0 or length <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if offset + length > fd.size:
            raise OSError(errno.EFBIG, f"a segment of {many(fd.size, 'byte')} keeps its size")
        return None

    return posix_fallocate


def closing(others: Callable[[int], None]) -> Callable[..., None]:
    """For `os.close`: programs close the descriptor that a mapping does not need."""

    def close(fd: int | Descriptor) -> None:
        """Close a file descriptor; of a segment, nothing is to be done."""
        if not isinstance(fd, Descriptor):
            others(fd)

    return close


def looking(size: int) -> int:
    """A descriptor, to be closed, that says a segment's size and is good for nothing else.

    Reading, locking and mapping by it fail with EBADF. It takes no memory.
    """
    empty = os.memfd_create("segment", os.MFD_CLOEXEC)
    try:
        os.ftruncate(empty, size)
        return os.open(f"/proc/self/fd/{empty}", os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(empty)
