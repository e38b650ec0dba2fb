"""Arenas as files of a folder, seen without attaching to them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from flagstone import _core
from flagstone.errors import FlagstoneError
from flagstone.names import FOLDER, PREFIX, Name, arena_name

__all__ = ["ArenaInfo", "arenas", "gc"]


@dataclass(frozen=True, slots=True)
class ArenaInfo:
    """A named arena, seen without attaching to it.

    Attributes:
        name: as `flagstone.open()` takes it.
        path: of its file.
        uuid: hexadecimal.
        capacity: bytes of data at most.
        used: bytes of the pages that slabs and large objects hold.
        committed: bytes taken from the system, metadata included.
        created_at: seconds since the epoch.
        processes: how many are attached and alive.
        lasting: outlives its processes.
        orphan: no process has it and it is not lasting: the next `open` in its folder, or `gc`,
            removes it.
    """

    name: str
    path: str
    uuid: str
    capacity: int
    used: int
    committed: int
    created_at: int
    processes: int
    lasting: bool
    orphan: bool


def arenas(folder: Name = FOLDER) -> list[ArenaInfo]:
    """The arenas in a folder, sorted by name: in `/dev/shm` those with bare names, elsewhere every
    file that is one.

    Files of other users, of other versions and of other programs are left out. Attaches to nothing
    and changes nothing.

    Args:
        folder: where to look.

    Raises:
        OSError: there is no such folder, or it cannot be listed.
    """
    where = os.path.abspath(os.fsdecode(folder))
    found = []
    for entry in sorted(os.listdir(where)):
        if where == FOLDER and not entry.startswith(PREFIX):
            continue
        path = os.path.join(where, entry)
        try:
            info = _core.peek(os.fsencode(path))
        except (FlagstoneError, OSError, ValueError):
            continue
        found.append(
            ArenaInfo(
                name=arena_name(path) or path,
                path=path,
                uuid=info["uuid"].hex(),
                capacity=info["capacity"],
                used=info["used"],
                committed=info["committed"],
                created_at=info["created_at"],
                processes=info["processes"],
                lasting=info["lasting"],
                orphan=info["orphan"],
            )
        )
    return found


def gc(folder: Name = FOLDER) -> list[str]:
    """Remove this user's arenas in a folder that no live process has and that are not lasting.

    Args:
        folder: where to look.

    Returns:
        The paths that were removed.

    Raises:
        OSError: there is no such folder, or it cannot be listed.
    """
    return _core.gc(os.fsencode(os.path.abspath(os.fsdecode(folder))))
