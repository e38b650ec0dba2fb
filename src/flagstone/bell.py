"""Bell: a descriptor for `select` and its like, which is readable while the bell is rung."""

from __future__ import annotations

import contextlib
import os
from typing import TypeAlias

__all__ = ["Bell"]

_Inode: TypeAlias = tuple[int, int]


class Bell:
    """A pipe that has a byte in it while it is rung.

    Who becomes a daemon closes descriptors that it does not know, and their numbers may be those of
    its own files afterwards. So it is a pipe, which its inode tells from everything else (all
    eventfds share one), and each use looks first. One thread at a time.

    Args:
        rung: how it begins.

    Raises:
        OSError: this process has no room for two more descriptors.
    """

    __slots__ = ("_inode", "_reader", "_writer")

    def __init__(self, rung: bool = False) -> None:
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._inode = _inode_of(self._reader)
        if rung:
            self.ring()

    def fileno(self) -> int:
        """The descriptor that is readable while it is rung."""
        return self._reader

    def whole(self) -> bool:
        """Whether both descriptors are its own still."""
        return _inode_of(self._reader) == self._inode == _inode_of(self._writer)

    def ring(self) -> None:
        """Ring it. It is not rung; nothing happens to one that is not whole."""
        if self.whole():
            os.write(self._writer, b"\0")

    def hush(self) -> None:
        """Stop it, if it is rung; nothing happens to one that is not whole."""
        if self.whole():
            with contextlib.suppress(BlockingIOError):
                os.read(self._reader, 1)

    def inherit(self) -> Bell | None:
        """In a forked child: another one, rung, whose descriptor has the same number. The parent
        has no part in it. This one is closed. None: there is no room for it.
        """
        try:
            new = Bell(rung=True)
        except OSError:
            self.close()
            return None
        if _inode_of(self._reader) == self._inode:
            os.dup2(new._reader, self._reader, inheritable=False)
            os.close(new._reader)
            new._reader = self._reader
        self.close()
        return new

    def close(self) -> None:
        """Close what is its own of the descriptors. Again is fine."""
        for number in (self._reader, self._writer):
            if _inode_of(number) == self._inode:
                os.close(number)


def _inode_of(number: int) -> _Inode | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    return found.st_dev, found.st_ino
