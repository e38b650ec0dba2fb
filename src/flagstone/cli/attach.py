"""Attaching to look, for the commands that do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import flagstone
from flagstone.names import arena_path, no_arena
from flagstone.observer import listed


def find(name: str) -> flagstone.ArenaInfo | None:
    """What `ls` knows about an arena, without attaching; None if there is none of this name."""
    return listed(arena_path(name))


@contextmanager
def attached(name: str, *, readonly: bool = True) -> Iterator[flagstone.Arena]:
    """The arena, attached (read-only, mostly) while the block runs.

    Raises:
        FileNotFoundError: there is no arena of this name.
    """
    try:
        arena = flagstone.open(name, create=False, readonly=readonly)
    except FileNotFoundError:
        raise FileNotFoundError(no_arena(name, arena_path(name))) from None
    with arena:
        yield arena
