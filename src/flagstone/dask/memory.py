"""How much memory a worker has: its own, and what its group has in the arena.

The system counts a shared page for each process that looks at it, so a worker that reads what its
neighbours made would be paused, and then killed, for memory that is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flagstone.errors import FlagstoneError

if TYPE_CHECKING:
    from flagstone.arena import Arena
    from flagstone.group import Group

__all__ = ["group_name", "of_worker", "watch"]

_LONGEST: Final = 63


def group_name(address: str, number: int = 0) -> str:
    """The name of a worker's group; a later one of the same address has a number."""
    end = f" #{number}" if number else ""
    return f"dask {address}"[: _LONGEST - len(end)] + end


def of_worker(measure: Callable[[], int], arena: Arena, group: Group) -> int:
    """The bytes that a worker counts as its own: what Dask measures (`measure`), with what it uses
    of its group in the place of all shared pages that it looks at. What only a neighbour still uses
    of its group is not in it: waiting would not give that back.
    """
    memory = measure()
    shared = _shared("self")
    if shared is None:
        return memory
    try:
        return max(0, memory - shared) + min(group.usage, _held(arena) or 0)
    except FlagstoneError:
        return memory


def watch(nanny: Any, arena: Arena, terminate: Callable[[], Any]) -> Any:
    """Let a nanny terminate its worker only for memory that is the worker's."""
    limit = nanny.memory_manager.memory_limit
    fraction = nanny.memory_manager.memory_terminate_fraction
    process = getattr(nanny.process, "process", None)
    pid = getattr(process, "pid", None)
    if limit and fraction and pid is not None:
        private = _private(pid)
        if private is not None:
            most = fraction * limit
            charged = _charged(arena, nanny.worker_address)
            if private + charged > most:  # by what it has dropped, perhaps, and neighbours have not
                held = _held(arena, pid)
                charged = charged if held is None else min(charged, held)
            if private + charged <= most:
                return None
    return terminate()


def _charged(arena: Arena, address: str | None) -> int:
    """The bytes charged to the groups of a worker; 0 where that is not known."""
    if address is None:
        return 0
    name = group_name(address)
    try:
        return sum(
            one.usage
            for one in arena.root_group.children
            if one.name is not None and (one.name == name or one.name.startswith(name + " #"))
        )
    except FlagstoneError:
        return 0


def _held(arena: Arena, pid: int | None = None) -> int | None:
    """The bytes of all that a process, or this one, has references to; None: not known."""
    try:
        for one in arena.processes:
            if one.is_self if pid is None else one.alive and one.pid == pid:
                return one.bytes
    except FlagstoneError:
        pass
    return None


def _status(pid: int | str) -> dict[str, int]:
    """The sizes in /proc/PID/status, in bytes."""
    found = {}
    with open(f"/proc/{pid}/status", errors="replace") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name.startswith("Rss"):
                found[name] = int(rest.split()[0]) << 10
    return found


def _shared(pid: int | str) -> int | None:
    try:
        return _status(pid).get("RssShmem")
    except (OSError, ValueError):
        return None


def _private(pid: int) -> int | None:
    try:
        status = _status(pid)
        return status["RssAnon"] + status["RssFile"]
    except (OSError, ValueError, KeyError):
        return None
