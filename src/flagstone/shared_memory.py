"""`multiprocessing.shared_memory` on an arena: `SharedMemory`, `ShareableList`, `install()`.

    from flagstone.shared_memory import SharedMemory  # instead of multiprocessing.shared_memory

A segment lives as long as the process that made it, its family (see `flagstone.segment`), or
anybody who has it open; with `track=False` until `unlink()`. No resource tracker has a part in it:
the kernel says who is alive.

Where segments lie is said by two environment variables, which processes being started inherit:
`FLAGSTONE_SHARED_MEMORY`, an arena's name or path (`shared_memory-UID`), and
`FLAGSTONE_SHARED_MEMORY_CAPACITY`, a size, of which the first process of an arena makes it (all
that its file system has room for).
"""

from __future__ import annotations

import multiprocessing.shared_memory as _standard
import os
import threading
from collections.abc import Callable
from multiprocessing import current_process, process
from typing import Any, Final

from flagstone import segment
from flagstone.segment import SegmentFull
from flagstone.shm import ShareableList, SharedMemory
from flagstone.sizes import Size, parse_size

__all__ = ["SegmentFull", "ShareableList", "SharedMemory", "install"]

_CONFIG: Final = "flagstone.shared_memory"
_PRELOAD: Final = "flagstone.installed"

_lock = threading.RLock()
_installed = False


class _Kin:
    """What a process being started by `multiprocessing` learns of the one that starts it.

    It is pickled with the process object, and with what prepares it, before the main module is
    imported there: that may import the standard modules.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            family = segment.family()
        except Exception:  # no arena: no reason for a process not to start
            family = None
        return _come, (segment.place(), family, _installed)


def _come(where: str, family: tuple[Any, ...] | None, installed: bool) -> _Kin:
    if family is not None:
        segment.join(where, *family)
    if installed:
        install()
    return _kin


_kin: Final = _Kin()


def _tell_children() -> None:
    config = getattr(current_process(), "_config", None)
    if isinstance(config, dict):
        config[_CONFIG] = _kin


def _adopt_before_terminate() -> None:
    """What a process has made that is ended by `terminate()`, as those of a pool are, is its
    family's.
    """
    terminate = process.BaseProcess.terminate

    def adopt_and_terminate(self: Any) -> None:
        if self.pid is not None:
            segment.adopt(self.pid)
        terminate(self)

    setattr(process.BaseProcess, "terminate", adopt_and_terminate)  # noqa: B010


_tell_children()
_adopt_before_terminate()


# ---- in the place of the standard one


def install(arena: str | os.PathLike[str] | None = None, *, capacity: Size | None = None) -> None:
    """Put all this in the place of the standard library's, for this process and those that it
    starts by `multiprocessing`.

    `SharedMemory`, `ShareableList` and `SharedMemoryManager` of the standard modules are these from
    now on; what was imported from there before by `from ... import` stays what it was. So it
    comes first in a program; `python -m flagstone.run PROGRAM` does it for one that is not to be
    touched. Again is fine.

    Args:
        arena: name or path of the arena that segments lie in; None leaves what the environment
            says.
        capacity: of the arena, if it is to be made.

    Raises:
        ValueError, TypeError: no such size.

    Safe to call from any thread.
    """
    if arena is not None:
        os.environ[segment.ARENA] = os.fspath(arena)
    if capacity is not None:
        os.environ[segment.CAPACITY] = str(parse_size(capacity, "capacity"))
    _put_in_place()


def _put_in_place() -> None:
    global _installed
    from multiprocessing import forkserver, resource_tracker, spawn
    from multiprocessing import managers as standard_managers

    from flagstone import descriptor, managers

    posix: Any = getattr(_standard, "_posixshmem")  # noqa: B009
    with _lock:
        if _installed:
            return
        _installed = True
        places: list[tuple[Any, str, Any]] = [
            (_standard, "SharedMemory", SharedMemory),
            (_standard, "ShareableList", ShareableList),
            (posix, "shm_open", _open(posix.shm_open)),
            (posix, "shm_unlink", _unlink(posix.shm_unlink)),
            (os, "posix_fallocate", descriptor.reserving(os.posix_fallocate)),
            (os, "close", descriptor.closing(os.close)),
            (standard_managers, "SharedMemoryManager", managers.SharedMemoryManager),
            (standard_managers, "SharedMemoryServer", managers.SharedMemoryServer),
            (resource_tracker, "register", _register(resource_tracker.register)),
            (resource_tracker, "unregister", _unregister(resource_tracker.unregister)),
            (spawn, "get_preparation_data", _with_kin(spawn.get_preparation_data)),
            (
                forkserver.ForkServer,
                "ensure_running",
                _preloaded(forkserver.ForkServer.ensure_running),
            ),
        ]
        for place, name, value in places:
            setattr(place, name, value)


def _open(others: Callable[..., int]) -> Callable[..., int]:
    """For the system's call, by which programs look whether there is a name yet, and its size."""
    from flagstone import descriptor

    def shm_open(path: str, flags: int, mode: int = 0o777) -> int:
        """Open a file of shared memory; who only looks finds an arena's segments, too."""
        # Nothing else: who writes maps it next, and unlinks it where that fails, as the standard
        # SharedMemory does.
        if flags & (os.O_ACCMODE | os.O_CREAT) == os.O_RDONLY:
            try:
                return descriptor.looking(segment.find(path).block.nbytes)
            except FileNotFoundError:
                pass
        return others(path, flags, mode)

    return shm_open


def _unlink(others: Callable[[str], None]) -> Callable[[str], None]:
    """For the system's call, by which programs unlink by name."""

    def shm_unlink(path: str) -> None:
        """Remove the name of an arena's segment, or, if there is none, that of a file."""
        if not segment.remove_named(path):
            others(path)

    return shm_unlink


_tracked: Final[set[str]] = set()
"""What the standard library's own segments told the resource tracker of."""


def _register(tell: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """For what the resource tracker is told: it knows nothing of segments of an arena, and would
    remove, or complain of, what is none of its business.
    """

    def register(name: str, rtype: str) -> None:
        if rtype == "shared_memory":
            if not os.path.exists("/dev/shm/" + name.lstrip("/")):
                return
            _tracked.add(name)
        tell(name, rtype)

    return register


def _unregister(tell: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """For what is taken away from the resource tracker. Programs do that because it removes what
    others use (cpython#82300), also of segments that it was never told of.
    """

    def unregister(name: str, rtype: str) -> None:
        if rtype == "shared_memory":
            if name not in _tracked:
                return
            _tracked.discard(name)
        tell(name, rtype)

    return unregister


def _with_kin(prepare: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    def prepared(name: str) -> dict[str, Any]:
        data = prepare(name)
        if name == "ignore":  # for the fork server, of which only some is used, and as text
            data.pop("init_main_from_path", None)
            return data
        return {_CONFIG: _kin, **data}

    return prepared


def _preloaded(run: Callable[[Any], None]) -> Callable[[Any], None]:
    """For a fork server: what it imports for its children finds all this in place."""

    def ensure_running(self: Any) -> None:
        modules = [one for one in self._preload_modules if one not in ("__main__", _PRELOAD)]
        self._preload_modules = [_PRELOAD, *modules]
        run(self)

    return ensure_running
