"""Attaching to look, for the commands that do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import flagstone
from flagstone.names import arena_path, no_arena


def find(name: str) -> flagstone.ArenaInfo | None:
    """What `ls` knows about an arena, without attaching; None if there is none of this name."""
    path = arena_path(name)
    try:
        listed = flagstone.arenas(os.path.dirname(path))
    except OSError:
        return None
    return next((info for info in listed if info.path == path), None)


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
