"""What a driver and the environment of a node say about the arena: `FLAGSTONE_RAY_...`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flagstone.host import open_shared, room
from flagstone.sizes import parse_size

if TYPE_CHECKING:
    from flagstone.arena import Arena
    from flagstone.sizes import Size

__all__ = ["Settings", "read"]


@dataclass(frozen=True)
class Settings:
    """How the processes of a job use the arena of a node.

    Attributes:
        arena: its name, the same for all jobs of a host that are to share.
        capacity: bytes, for who creates it; an upper bound, and no cost.
        limit: bytes of the job's group on this node; None is no limit.
    """

    arena: str
    capacity: int
    limit: int | None

    def open(self) -> Arena:
        """The arena, as it is or new."""
        return open_shared(self.arena, self.capacity)


def read(
    arena: str | None = None, capacity: Size | None = None, limit: Size | None = None
) -> Settings:
    """What was given, and for the rest the environment of this process.

    Raises:
        ValueError, TypeError: what is said there makes no sense.
    """
    environment = os.environ.get
    name = arena or environment("FLAGSTONE_RAY_ARENA") or f"ray-{os.getuid()}"
    if capacity is None:
        capacity = environment("FLAGSTONE_RAY_CAPACITY")
    if limit is None:
        limit = environment("FLAGSTONE_RAY_LIMIT")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Settings(
        name,
        room(name, memory) if capacity is None else parse_size(capacity, "capacity"),
        None if limit is None else parse_size(limit, "limit"),
    )
