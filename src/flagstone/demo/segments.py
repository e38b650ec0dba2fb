"""The standard library's transport: a `multiprocessing.shared_memory` segment for each file."""

from __future__ import annotations

import hashlib
import os
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from flagstone.demo.files import Source
from flagstone.demo.transport import SHARED_MEMORY_FOLDER, Endpoint, Transport, files_named


class SharedMemorySegments(Transport):
    """The reader creates a segment, the hasher attaches to it by name and unlinks it, as is usual.

    Args:
        tag: text in every segment's name, by which what is left over can be found.
    """

    label = "multiprocessing.shared_memory"

    def __init__(self, tag: str) -> None:
        self._tag = tag

    def endpoint(self, role: str) -> Endpoint:
        """The half of a reader, and of a hasher."""
        return _Endpoint()

    def begin(self, index: int) -> str:
        """The segment's name."""
        return f"{self._tag}-{index}"

    def lost(self, index: int) -> None:
        """Unlink the segment, if it came to be."""
        _unlink(self.begin(index))

    def left_over(self) -> list[str]:
        """Segments that nobody unlinked."""
        return files_named(self._tag)

    def clean_up(self) -> None:
        """Unlink them all."""
        for path in self.left_over():
            _unlink(os.path.basename(path))


def _unlink(name: str) -> None:
    try:
        # Not os.unlink alone: the standard library keeps a list of segments, and would warn of this
        # one at exit.
        segment = SharedMemory(name)
        segment.close()
        segment.unlink()
    except FileNotFoundError:
        pass
    except ValueError:
        # Its reader came no further than to create it: it is empty, and on no list.
        os.unlink(os.path.join(SHARED_MEMORY_FOLDER, name))


def _bytes_of(segment: SharedMemory, size: int) -> memoryview:
    """The first bytes of a segment, which has whole pages."""
    assert segment.buf is not None
    return segment.buf[:size]


class _Endpoint(Endpoint):
    def store(self, source: Source, place: str) -> tuple[str, int]:
        # A segment cannot be empty.
        segment = SharedMemory(place, create=True, size=max(source.size, 1))
        try:
            with _bytes_of(segment, source.size) as view:
                source.read_into(view)
        except BaseException:
            segment.close()
            segment.unlink()
            raise
        segment.close()
        return place, source.size

    def digest(self, stored: Any) -> bytes:
        name, size = stored
        segment = SharedMemory(name)
        try:
            with _bytes_of(segment, size) as view:
                return hashlib.sha256(view).digest()
        finally:
            segment.close()
            segment.unlink()
