"""Which files the demo moves, and reading them without being fooled by what happens to them."""

from __future__ import annotations

import enum
import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from flagstone.demo.buffers import WritableBuffer
from flagstone.sizes import many

_CHUNK = 1 << 20
"""Bytes the parent reads at a time; its own reading needs no more memory than this."""


class Skip(enum.StrEnum):
    """Why a file is not part of the comparison. The values are shown to people."""

    SYMLINK = "symbolic links"
    SPECIAL = "not regular files"
    FOLDER = "folders that cannot be listed"
    UNREADABLE = "files that cannot be read"
    VANISHED = "files that vanished"
    CHANGING = "files that kept changing while they were read"
    TOO_LARGE = "files larger than the arena can take"


class FileChanged(Exception):
    """The file was not the same at the end of reading as at its beginning."""


class Signature(NamedTuple):
    """What changes when a file does; while it stays equal, so does the content."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> Signature:
        """The signature of an open file, which has to be a regular one."""
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise FileChanged("it is no regular file any more")
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class Source:
    """One open file, read once from its beginning to its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.signature = Signature.of(fd)

    @property
    def size(self) -> int:
        """Bytes the file has by its own account."""
        return self.signature.size

    def read_into(self, buffer: WritableBuffer) -> None:
        """Fill the buffer, which has the file's size, with the file.

        Raises:
            FileChanged: it is shorter or longer than it said, or was written to meanwhile.
            OSError: reading failed.
        """
        view = memoryview(buffer)
        filled = 0
        while filled < len(view):
            got = os.readv(self._fd, [view[filled:]])
            if got == 0:
                raise FileChanged(f"it ended after {filled} of {many(len(view), 'byte')}")
            filled += got
        self._finish()

    def digest(self) -> bytes:
        """The SHA-256 of the file, read in small pieces. Raises as `read_into` does."""
        hasher = hashlib.sha256()
        buffer = memoryview(bytearray(min(_CHUNK, max(self.size, 1))))
        left = self.size
        while left:
            got = os.readv(self._fd, [buffer[: min(left, len(buffer))]])
            if got == 0:
                raise FileChanged(f"it ended {many(left, 'byte')} early")
            hasher.update(buffer[:got])
            left -= got
        self._finish()
        return hasher.digest()

    def _finish(self) -> None:
        # Files of /proc say that they have no bytes and then have some: those count as changing
        # too.
        if os.read(self._fd, 1):
            raise FileChanged(f"it has more than {many(self.size, 'byte')}")
        if Signature.of(self._fd) != self.signature:
            raise FileChanged("it was written to meanwhile")


@contextmanager
def opened(path: str) -> Iterator[Source]:
    """Open a file for one reading. No link is followed, and a FIFO in its place does not block."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield Source(fd)
    finally:
        os.close(fd)


@dataclass(slots=True)
class Reference:
    """The parent's own reading of a file, which every digest is compared with."""

    path: str
    signature: Signature
    digest: bytes

    @property
    def size(self) -> int:
        """Bytes of the file when it was read."""
        return self.signature.size


@dataclass(slots=True)
class Skipped:
    """Files left out, counted by reason, with a few names for each."""

    counts: Counter[Skip] = field(default_factory=Counter)
    examples: dict[Skip, list[str]] = field(default_factory=dict)

    def add(self, reason: Skip, path: str) -> None:
        """Leave out one more."""
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < 3:
            examples.append(path)


def find_files(folder: str, leave_out: frozenset[str], skipped: Skipped) -> list[str]:
    """Paths of the regular files below a folder, sorted; the rest is added to `skipped`.

    Args:
        folder: where to look; links below it are not followed.
        leave_out: names of folders directly in it that are not looked at.
        skipped: receives links, special files and folders that cannot be listed.
    """
    found: list[str] = []

    def unreadable(error: OSError) -> None:
        skipped.add(Skip.FOLDER, str(error.filename))

    for where, folders, names in os.walk(folder, onerror=unreadable):
        if where == folder:
            folders[:] = [name for name in folders if name not in leave_out]
        for name in folders:
            # os.walk lists links to folders here, and does not follow them.
            if os.path.islink(os.path.join(where, name)):
                skipped.add(Skip.SYMLINK, os.path.join(where, name))
        for name in names:
            path = os.path.join(where, name)
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                skipped.add(Skip.VANISHED, path)
                continue
            if stat.S_ISREG(mode):
                found.append(path)
            else:
                skipped.add(Skip.SYMLINK if stat.S_ISLNK(mode) else Skip.SPECIAL, path)
    found.sort()
    return found


def read_reference(path: str, largest: int, tries: int = 3) -> Reference | Skip:
    """The parent's own reading of a file, or why there is none.

    Args:
        path: of the file.
        largest: bytes; a larger file is not read.
        tries: how often to read a file again that changes under the reading.
    """
    for _ in range(tries):
        try:
            with opened(path) as source:
                if source.size > largest:
                    return Skip.TOO_LARGE
                return Reference(path, source.signature, source.digest())
        except FileChanged:
            continue
        except FileNotFoundError:
            return Skip.VANISHED
        except OSError:
            return Skip.UNREADABLE
    return Skip.CHANGING
