"""Waiting for memory: what happens between an allocation that found none and the exception.

`wait=None` reclaims what can be reclaimed now and tries again; a number goes on until so many
seconds are over. Either has Python's garbage collected once before it gives up, or waits: a cycle
may hold what is missing. Inside the caller's own read-side section nothing can be reclaimed, so the
exception comes at once and says so.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flagstone import _core, garbage
from flagstone.errors import FULL, LIMIT, ArenaFull, FlagstoneError, GroupLimitExceeded
from flagstone.names import text
from flagstone.notices import tell, tell_of_waiting
from flagstone.rcu import SLICE
from flagstone.sizes import FOREVER, parse_seconds, to_nanoseconds

if TYPE_CHECKING:
    from flagstone._core import Attachment

_Got = TypeVar("_Got")

# Each reclaim waits for a grace period and gives something back; this many are for rivals who take
# it first.
_TRIES: Final = 8
# Nanoseconds: a grace period takes microseconds, unless a reader is stopped, which "now" does not
# wait for.
_RECLAIM: Final = to_nanoseconds(SLICE)
# Seconds: who waits looks for garbage again, which other threads may have made.
_COLLECT_AGAIN: Final = 1.0


def allocate(
    attachment: Attachment, attempt: Callable[[], _Got | int], wait: float | None, group: int
) -> _Got:
    """Call `attempt` until it returns something other than a status.

    Args:
        attachment: of the arena.
        attempt: allocates, or returns the core's negative status.
        wait: seconds to wait for memory; None reclaims and does not wait.
        group: id of the group that is charged.

    Raises:
        ArenaFull: no memory in time.
        GroupLimitExceeded: a group's limit, in time.
        Closed, ReadOnly, ...: what the core said otherwise.
    """
    deadline = 0.0 if wait is None else time.monotonic() + parse_seconds(wait, "wait")
    tries = 0
    began = since = garbage.finished()
    collect_at = 0.0
    collected = False  # just now, and memory was not given back to the system since
    while True:
        got = attempt()
        if not isinstance(got, int):
            if since != began:
                garbage.helped()
            return got
        error = _core.last_error(got)
        if got not in (FULL, LIMIT):
            raise error
        if attachment.in_section:
            if not collected and garbage.collect(began):
                collected = True
                continue
            why = "inside read() nothing can be reclaimed"
            raise _explained(attachment, error, group, why, garbage.in_vain(began))
        tries += 1
        reclaimed = attachment.reclaim(group, _RECLAIM) == 0
        tell(attachment)
        if reclaimed and tries <= _TRIES:
            continue
        now = time.monotonic()
        if now >= collect_at:
            collect_at = now + _COLLECT_AGAIN
            if garbage.collect(since):
                since = garbage.finished()
                collected = True
                tries = 0
                continue
        if collected and got == FULL:
            give_back(attachment)
            collected = False
            continue
        collected = False
        if not reclaimed:
            tell_of_waiting(attachment)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            waited = f"after waiting {wait} s" if wait else ""
            raise _explained(attachment, error, group, waited, garbage.in_vain(began))
        attachment.wait_for_memory(to_nanoseconds(min(SLICE, remaining)))


def once_more(
    attachment: Attachment, error: Exception, call: Callable[..., _Got], *args: Any
) -> _Got:
    """What else may find no memory: a message, a reference, a group, a cache. Garbage is collected,
    what can be reclaimed is, and then the call is made once more.

    Args:
        attachment: of the arena.
        error: of the call that failed; raised again where nothing was collected.
        call: what to call again, with `args`.

    Raises:
        ArenaFull, GroupLimitExceeded: there is still none.
    """
    if getattr(_again, "here", False):
        raise error
    began = garbage.finished()
    if not garbage.collect(began):
        raise _with(error, garbage.in_vain(began))
    give_back(attachment)
    _again.here = True
    try:
        got = call(*args)
    except type(error) as still:
        raise _with(still, garbage.in_vain(began)) from None
    finally:
        _again.here = False
    garbage.helped()
    return got


_again = threading.local()


def give_back(attachment: Attachment) -> None:
    """Let the file system have what nothing uses: tables grow by its pages, too."""
    if not attachment.in_section and not attachment.readonly:
        attachment.reclaim(attachment.root_group, _RECLAIM)
        with contextlib.suppress(FlagstoneError):
            attachment.shrink()


def _with(error: Exception, sentence: str) -> Exception:
    if sentence:
        error.args = (f"{error}; {sentence}", *error.args[1:])
    return error


def _explained(
    attachment: Attachment, error: Exception, group: int, why: str, collected: str
) -> Exception:
    attachment.note_failed(group)
    parts = (str(error), why, collected, attachment.describe_usage())
    sentence = "; ".join(part for part in parts if part)
    if isinstance(error, GroupLimitExceeded):
        name, limit, usage = _tightest(attachment, group)
        return GroupLimitExceeded(sentence, name, limit, usage)
    return ArenaFull(sentence)


def _tightest(attachment: Attachment, group: int) -> tuple[str, int, int]:
    """Name, limit and usage of that group, of this one and its ancestors, which has the least
    room.
    """
    tightest = ("", 0, 0)
    room = FOREVER
    seen: set[int] = set()
    while group not in seen:  # the parent of the root is the root, or nothing
        seen.add(group)
        try:
            info = attachment.group_info(group)
        except ValueError:  # Closed: destroyed meanwhile
            break
        if info["limit"] != FOREVER and info["limit"] - info["usage"] < room:
            room = info["limit"] - info["usage"]
            name = text(info["name"]) or f"#{info['id'] & 0xFFFFFFFF}"
            tightest = (name, info["limit"], info["usage"])
        group = info["parent"]
    return tightest
