"""Exceptions, and the one table that turns the core's answers into them.

    FlagstoneError
    ├── ArenaFull (MemoryError)            file system, capacity or a table used up
    ├── GroupLimitExceeded (MemoryError)   a group's limit: group, limit, usage
    ├── CacheBusy                          objects of the cache are in use; nothing changed
    ├── CacheMismatch (ValueError)         the cache exists with other parameters
    ├── GroupMismatch (ValueError)         the live group exists with other parameters
    ├── ChannelMismatch (ValueError)       the channel or topic exists with other parameters
    ├── StoreMismatch (ValueError)         the store exists with other parameters
    ├── ChannelFull (Full)                 no room for a message in time
    ├── ChannelEmpty (Empty)               no message in time
    ├── Disconnected                       a subscription to a topic has fallen too far behind
    ├── ChannelClosed (EOFError)           nothing is put any more, or everything was taken
    ├── ReadOnly (TypeError)               attached with readonly=True
    ├── Closed (ValueError)                arena, cache, group or Block has ended
    ├── StaleHandle (LookupError)          the object that a handle names is gone
    ├── LayoutMismatch                     another version's arena, or no arena
    └── ArenaCorrupted                     the arena's structures contradict each other

Beside these: `ValueError` and `TypeError` for arguments that make no sense, `FileExistsError`,
`FileNotFoundError` and `PermissionError` from opening, `OSError` where a system call failed,
`TimeoutError` when the time given is over, `RuntimeError` for a call that would wait for the
caller's own read-side section.

Every exception here can be pickled, because executors send them between processes.
"""

from __future__ import annotations

import errno as _errno
import queue
from collections.abc import Callable
from typing import Any, Final, Self

__all__ = [
    "ArenaCorrupted",
    "ArenaFull",
    "CacheBusy",
    "CacheMismatch",
    "ChannelClosed",
    "ChannelEmpty",
    "ChannelFull",
    "ChannelMismatch",
    "Closed",
    "Disconnected",
    "FlagstoneError",
    "GroupLimitExceeded",
    "GroupMismatch",
    "LayoutMismatch",
    "ReadOnly",
    "StaleHandle",
    "StoreMismatch",
]


class FlagstoneError(Exception):
    """What every exception of this package's own has in common."""

    __module__ = "flagstone"


class ArenaFull(FlagstoneError, MemoryError):
    """The file system, the arena's capacity or one of its tables is used up.

    The text says who holds the memory: bytes by process, in flight, awaiting a batch, stalled
    behind which reader.
    """

    __module__ = "flagstone"

    def __new__(cls, *args: Any, **named: Any) -> Self:
        """Make one without `__init__`, as tblib does, by which Dask pickles errors. Without this
        method `MemoryError.__new__` would be found, which refuses classes that do not begin with
        MemoryError.
        """
        return Exception.__new__(cls, *args, **named)


class GroupLimitExceeded(FlagstoneError, MemoryError):
    """An allocation would take a group over its limit, also after reclaiming what could be
    reclaimed.

    Attributes:
        group: name of the group whose limit was hit, which may be an ancestor of the one asked for
            ("#7" if it has no name).
        limit: its limit in bytes.
        usage: bytes charged to it when the allocation failed.
    """

    __module__ = "flagstone"

    def __new__(cls, *args: Any, **named: Any) -> Self:
        """Make one without `__init__`; see `ArenaFull.__new__`."""
        return Exception.__new__(cls, *args, **named)

    def __init__(self, text: str, group: str = "", limit: int = 0, usage: int = 0) -> None:
        super().__init__(text, group, limit, usage)
        self.group = group
        self.limit = limit
        self.usage = usage

    def __str__(self) -> str:
        return str(self.args[0])


class CacheBusy(FlagstoneError):
    """A live process or an in-flight reference uses objects of the cache: how many and whose. May
    be retried.
    """

    __module__ = "flagstone"


class CacheMismatch(FlagstoneError, ValueError):
    """A cache of this name exists with other parameters."""

    __module__ = "flagstone"


class GroupMismatch(FlagstoneError, ValueError):
    """A live group of this name exists with another limit, cgroup or `messages_expire`."""

    __module__ = "flagstone"


class ChannelMismatch(FlagstoneError, ValueError):
    """A channel, topic or lock of this name exists with other parameters."""

    __module__ = "flagstone"


class StoreMismatch(FlagstoneError, ValueError):
    """A store of this name exists with other parameters."""

    __module__ = "flagstone"


class ChannelFull(FlagstoneError, queue.Full):
    """There was no room in a channel in time; or a topic's subscription held a publisher back. The
    text says how many messages wait, and for whom.
    """

    __module__ = "flagstone"


class ChannelEmpty(FlagstoneError, queue.Empty):
    """There was no message in a channel, or for a subscription, in time."""

    __module__ = "flagstone"


class Disconnected(FlagstoneError):
    """A subscription with `slow="disconnect"` has fallen too far behind, and has ended."""

    __module__ = "flagstone"


class ChannelClosed(FlagstoneError, EOFError):
    """The channel or topic was closed: nothing can be put any more, and everything was taken."""

    __module__ = "flagstone"


class ReadOnly(FlagstoneError, TypeError):
    """This process attached to the arena with `readonly=True`."""

    __module__ = "flagstone"


class Closed(FlagstoneError, ValueError):
    """The arena, cache, group or Block has been closed, freed or destroyed."""

    __module__ = "flagstone"


class StaleHandle(FlagstoneError, LookupError):
    """The object that a handle or a pickle names is gone."""

    __module__ = "flagstone"


class LayoutMismatch(FlagstoneError):
    """The file was laid out by another version of Flagstone, or is no arena: the text says which,
    and what to do.
    """

    __module__ = "flagstone"


class ArenaCorrupted(FlagstoneError):
    """The arena's structures contradict each other; the text is what was found."""

    __module__ = "flagstone"


# The values of enum fst_status that anyone above the binding has to tell apart.
FULL: Final = -1
LIMIT: Final = -2
CLOSED: Final = -7
TIMEOUT: Final = -15
HELD: Final = -20
"""A lock that all processes share was held for longer than the call could wait."""
_OS: Final = -13

_EXCEPTIONS: Final[dict[int, type[Exception]]] = {
    FULL: ArenaFull,
    LIMIT: GroupLimitExceeded,
    -3: CacheBusy,
    -4: ValueError,  # what mismatches depends on the call: `mismatch` below
    -5: StaleHandle,
    -6: ReadOnly,
    CLOSED: Closed,
    -8: LayoutMismatch,
    -9: ArenaCorrupted,
    -10: FileExistsError,
    -11: FileNotFoundError,
    -12: ValueError,
    _OS: OSError,
    -14: RuntimeError,
    TIMEOUT: TimeoutError,
    HELD: TimeoutError,
    -16: PermissionError,
    -17: StaleHandle,
    -18: TimeoutError,  # the binding says which: ChannelFull, ChannelEmpty
    -19: ChannelClosed,
    -21: Disconnected,
}

_ERRNOS: Final[dict[type[Exception], int]] = {
    FileExistsError: _errno.EEXIST,
    FileNotFoundError: _errno.ENOENT,
    PermissionError: _errno.EACCES,
    TimeoutError: _errno.ETIMEDOUT,
}


def exception_of(
    status: int, text: str, errno: int = 0, mismatch: Callable[[str], Exception] = ValueError
) -> Exception:
    """The exception for a negative status of the core.

    Args:
        status: a negative `enum fst_status`.
        text: the core's sentence for people.
        errno: of the system call that failed, where one did.
        mismatch: what FST_MISMATCH means to the caller.
    """
    cls = _EXCEPTIONS.get(status, FlagstoneError)
    text = text or f"the core answered {status}"
    if status == -4:
        return mismatch(text)
    if status == _OS:
        return OSError(errno or _errno.EIO, text)
    if cls in _ERRNOS:
        return cls(_ERRNOS[cls], text)
    return cls(text)
