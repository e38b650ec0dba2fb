"""Looking at an arena again and again, at a bounded cost to those who use it.

A look takes no lock that others need, and changes nothing; it reads each reference and each message
once. So what it costs grows with what is there, and the pause between two looks grows with what the
last one cost: a hundredth of the processors at most is spent on looking, however large the arena.

Whoever looks is attached (read-only, in a slot of its own). The last process to leave an arena
removes it, so an observer that finds nobody but others who only read leaves at once: nothing lives
on because somebody watched it. It attaches again at the next look.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final, NamedTuple

import flagstone
from flagstone import _core
from flagstone._core import Attachment
from flagstone.arena import Arena
from flagstone.closing import Closing
from flagstone.names import arena_path, no_arena
from flagstone.snapshot import ArenaSnapshot

__all__ = ["Look", "Observer", "Use", "listed", "share"]

_SHARE: Final = 0.01
_MOST_USES: Final = 4096


class Use(NamedTuple):
    """Objects of one cache and one group that one process refers to.

    Attributes:
        slot: of the process in the arena's table; None: all that there was no row for.
        pid: of the process, in its own pid namespace; None as for `slot`.
        command: short name; "" as for `slot`.
        cache: id of the objects' cache; 0 as for `slot`.
        group: id of their group; 0 as for `slot`.
        objects: how many.
        bytes: of these objects.
    """

    slot: int | None
    pid: int | None
    command: str
    cache: int
    group: int
    objects: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found.

    Attributes:
        snapshot: of the arena.
        uses: who uses what; () unless asked for.
        at: seconds since the epoch.
        now: the same moment in seconds since boot, which is how the snapshot has times.
        seconds: that it took, of this thread's CPU time.
    """

    snapshot: ArenaSnapshot
    uses: tuple[Use, ...]
    at: float
    now: float
    seconds: float


def share() -> float:
    """How much of one processor looking may cost at most, as a fraction: a hundredth of all that
    this process may use. So whoever uses all of them is a hundredth slower.
    """
    return _SHARE * len(os.sched_getaffinity(0))


def listed(path: str) -> flagstone.ArenaInfo | None:
    """What a listing of its folder says of an arena, without attaching; None: no arena."""
    try:
        found = flagstone.arenas(os.path.dirname(path))
    except OSError:
        return None
    return next((info for info in found if info.path == path), None)


class Observer(Closing):
    """Looks at one arena (context manager; leaving it detaches). For one thread at a time.

    Args:
        arena: its name or path, which is attached to read-only; or an Arena of this process, which
            stays open.
    """

    def __init__(self, arena: str | Arena) -> None:
        self._given = arena if isinstance(arena, Arena) else None
        self._arena = self._given
        self.name = arena if isinstance(arena, str) else arena.name or f"#{arena.uuid[:8]}"
        self.last: Look | None = None

    def close(self) -> None:
        """Detach. A later look attaches again."""
        arena, self._arena = self._arena, self._given
        if arena is not None and arena is not self._given:
            arena.close()

    def look(self, *, uses: bool = False) -> Look:
        """Look now, whatever it costs.

        Args:
            uses: ask also who uses what, by cache and group: half as much again.

        Raises:
            FileNotFoundError: there is no such arena, or no more, or its processes were all killed.
            FlagstoneError: as `flagstone.open`, and Closed for an Arena that was closed.
        """
        began = time.thread_time()
        arena = self._attached()
        snapshot = arena.snapshot()
        found = _uses(arena, snapshot) if uses else ()
        spent = time.thread_time() - began
        self.last = Look(snapshot, found, time.time(), _core.now() / 1e9, spent)
        # Other observers are read-only, too: two of them would keep each other here.
        if all(one.is_self or one.readonly or not one.alive for one in snapshot.processes):
            self.close()
        return self.last

    def pause(self, wanted: float) -> float:
        """Seconds to wait before the next look: `wanted`, or longer where looking is dear."""
        return max(wanted, self.last.seconds / share()) if self.last is not None else wanted

    def _attached(self) -> Arena:
        if self._arena is None:
            path = arena_path(self.name)
            info = listed(path)
            if info is None and not os.path.exists(path):
                raise FileNotFoundError(no_arena(self.name, path))
            if info is not None and info.orphan:  # attaching would remove it
                raise FileNotFoundError(f"{self.name} is an orphan: its processes were all killed")
            # A program that has the arena and watches itself has one attachment for both.
            mine = info is not None and Attachment.find(bytes.fromhex(info.uuid))
            readonly = mine.readonly if mine else True
            try:
                self._arena = flagstone.open(self.name, create=False, readonly=readonly)
            except FileNotFoundError:
                raise FileNotFoundError(no_arena(self.name, path)) from None
        return self._arena


def _uses(arena: Arena, snapshot: ArenaSnapshot) -> tuple[Use, ...]:
    processes = {one.slot: one for one in snapshot.processes}
    found = []
    for row in _core.uses(arena._link.attachment, _MOST_USES):
        process = processes.get(row["slot"])
        found.append(
            Use(
                slot=process.slot if process else None,
                pid=process.pid if process else None,
                command=process.command if process else "",
                cache=row["cache"],
                group=row["group"],
                objects=row["objects"],
                bytes=row["bytes"],
            )
        )
    return tuple(sorted(found, key=lambda one: -one.bytes))
