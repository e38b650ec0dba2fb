"""`multiprocessing.managers.SharedMemoryManager` on an arena.

from flagstone.managers import SharedMemoryManager  # instead of multiprocessing.managers
"""

from __future__ import annotations

from multiprocessing import managers as _standard
from typing import Any, Final

from flagstone import shm

__all__ = ["SharedMemoryManager"]

StandardManager: Final[Any] = _standard.SharedMemoryManager
StandardServer: Final[Any] = _standard.SharedMemoryServer


class _Held:
    """The segments that a manager's process holds: those made through it, until it ends."""

    def __init__(self) -> None:
        self.segments: dict[str, shm.SharedMemory] = {}

    def unlink(self) -> None:
        while self.segments:
            self.destroy_segment(next(iter(self.segments)))

    def register_segment(self, name: str) -> None:
        # Open from now on: whoever made it may be killed.
        self.segments[name] = shm.SharedMemory(name)

    def destroy_segment(self, name: str) -> None:
        segment = self.segments.pop(name)
        segment.close()
        segment.unlink()

    @property
    def segment_names(self) -> list[str]:
        return list(self.segments)


class SharedMemoryServer(StandardServer):  # type: ignore[misc]
    """What runs in the manager's process, and holds the segments that were made through it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared_memory_context = _Held()


class SharedMemoryManager(StandardManager):  # type: ignore[misc]
    """A manager of segments: as `multiprocessing.managers.SharedMemoryManager`.

    What was made by `SharedMemory()` and `ShareableList()` of it lives until `shutdown()`, the end
    of its `with` block, or the end of the manager's process, whoever else is killed.
    """

    _Server = SharedMemoryServer

    def SharedMemory(self, size: int) -> shm.SharedMemory:  # noqa: N802
        """Make a segment of so many bytes, which the manager holds.

        Raises:
            SegmentFull, ValueError: as `flagstone.shared_memory.SharedMemory`.
        """
        made = shm.SharedMemory(create=True, size=size)
        self._give(made)
        return made

    def ShareableList(self, sequence: Any) -> shm.ShareableList:  # noqa: N802
        """Make a list of these items, in a segment that the manager holds.

        Raises:
            SegmentFull, KeyError, ValueError: as `flagstone.shared_memory.ShareableList`.
        """
        made = shm.ShareableList(sequence)
        self._give(made.shm)
        return made

    def _give(self, made: shm.SharedMemory) -> None:
        try:
            with self._Client(self._address, authkey=self._authkey) as connection:
                _standard.dispatch(connection, None, "track_segment", (made.name,))  # type: ignore[attr-defined]
        except BaseException:
            made.unlink()
            raise
