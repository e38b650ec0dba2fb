"""Host: the one arena by name that all processes of an engine on a machine share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from flagstone.arena import open as open_arena
from flagstone.names import arena_path

if TYPE_CHECKING:
    from flagstone.arena import Arena

__all__ = ["open_shared", "room"]

_LEAST: Final = 1 << 20


def open_shared(arena: str, capacity: int) -> Arena:
    """The arena of this name, as it is or new."""
    try:
        return open_arena(arena, capacity=capacity)
    except ValueError:  # it is there already, and smaller
        return open_arena(arena, create=False)


def room(arena: str, memory: int) -> int:
    """A capacity for an arena on a machine with so much memory, as far as the file system has it:
    all who ask get the same.
    """
    found = os.statvfs(os.path.dirname(arena_path(arena)))
    return max(_LEAST, min(memory, found.f_blocks * found.f_frsize))
