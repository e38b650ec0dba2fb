"""What Dask's configuration says about the arena: the keys below `flagstone`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.config
from distributed.system import MEMORY_LIMIT

from flagstone.host import open_shared, room
from flagstone.sizes import Size, parse_size

if TYPE_CHECKING:
    from flagstone.arena import Arena

__all__ = ["Settings", "read"]


@dataclass(frozen=True)
class Settings:
    """How a process of a cluster uses an arena.

    Attributes:
        arena: its name, the same for all processes of a host that are to share.
        capacity: bytes, for who creates it; an upper bound, and no cost.
        threshold: bytes from which on a value is put into the arena, and sent as a handle.
        limit: bytes of a worker's group; None is the worker's `memory_limit`.
        writable: whether arrays that came as handles may be written; everybody sees it.
    """

    arena: str
    capacity: int
    threshold: int
    limit: int | None
    writable: bool

    def open(self) -> Arena:
        """The arena, as it is or new."""
        return open_shared(self.arena, self.capacity)


def read(**given: Any) -> Settings:
    """The configuration of this process, and what was given instead of it.

    Raises:
        ValueError, TypeError: what is said there makes no sense.
    """

    def value(key: str) -> Any:
        found = given.get(key)
        return dask.config.get(f"flagstone.{key}", None) if found is None else found

    arena = value("arena") or f"dask-{os.getuid()}"
    capacity: Size | None = value("capacity")
    limit: Size | None = value("limit")
    threshold = value("threshold")
    return Settings(
        arena,
        room(arena, int(MEMORY_LIMIT))
        if capacity is None
        else parse_size(capacity, "flagstone.capacity"),
        parse_size("64KiB" if threshold is None else threshold, "flagstone.threshold", 0),
        None if limit is None else parse_size(limit, "flagstone.limit"),
        bool(value("writable")),
    )
