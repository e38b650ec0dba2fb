"""Flagstone's transport: an object for each file's content, in a group for each file."""

from __future__ import annotations

import hashlib
from typing import Any

import flagstone
from flagstone.demo.files import Source
from flagstone.demo.transport import Endpoint, Transport

_WAIT = 30.0
"""Seconds a reader waits for memory while hashers are behind."""


class FlagstoneArena(Transport):
    """The reader fills an object, the hasher reads it there; ending the file's group releases it.

    Nothing here deals with workers that were killed, except that a file that one of them had in
    hand ends its group and starts again in a new one. The group's end also ends references that
    were on their way in a message.

    Args:
        arena: this process's attachment; a named one: workers attach by its path.
    """

    label = "flagstone"

    def __init__(self, arena: flagstone.Arena) -> None:
        self._arena = arena
        self._groups: dict[int, flagstone.Group] = {}
        self.ended = 0
        """Groups that were ended."""

    def endpoint(self, role: str) -> Endpoint:
        """Readers write; hashers map the data read-only."""
        assert self._arena.path is not None
        return _Endpoint(self._arena.path, readonly=role == "hasher")

    def begin(self, index: int) -> flagstone.Group:
        """A new group for this file. A name is free again as soon as `destroy()` has returned."""
        group = self._arena.group(f"file-{index}")
        self._groups[index] = group
        return group

    def end(self, index: int) -> None:
        """End the file's group; this does not wait."""
        group = self._groups.pop(index, None)
        if group is not None:
            group.destroy()
            self.ended += 1

    def lost(self, index: int) -> None:
        """End the file's group: it does not matter what the killed worker had done."""
        self.end(index)


class _Endpoint(Endpoint):
    def __init__(self, path: str, *, readonly: bool) -> None:
        self._path = path
        self._readonly = readonly

    def attach(self) -> None:
        self._arena = flagstone.open(self._path, create=False, readonly=self._readonly)

    def detach(self) -> None:
        self._arena.close()

    def store(self, source: Source, place: flagstone.Group) -> flagstone.Block:
        block = self._arena.alloc(source.size, group=place, wait=_WAIT)
        source.read_into(block)
        return block

    def digest(self, stored: Any) -> bytes:
        # The hash reads the object's own memory: no byte is copied.
        return hashlib.sha256(stored).digest()
