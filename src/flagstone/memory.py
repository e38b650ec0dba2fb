"""Waiting for memory: what happens between an allocation that found none and the exception.

`wait=None` reclaims what can be reclaimed now and tries again; a number goes on until so many
seconds are over. Inside the caller's own read-side section nothing can be reclaimed, so the
exception comes at once and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

from flagstone import _core
from flagstone.errors import FULL, LIMIT, ArenaFull, GroupLimitExceeded
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
    while True:
        got = attempt()
        if not isinstance(got, int):
            return got
        error = _core.last_error(got)
        if got not in (FULL, LIMIT):
            raise error
        if attachment.in_section:
            raise _explained(attachment, error, group, "inside read() nothing can be reclaimed")
        tries += 1
        reclaimed = attachment.reclaim(group, _RECLAIM) == 0
        tell(attachment)
        if reclaimed and tries <= _TRIES:
            continue
        if not reclaimed:
            tell_of_waiting(attachment)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            waited = f"after waiting {wait} s" if wait else ""
            raise _explained(attachment, error, group, waited)
        attachment.wait_for_memory(to_nanoseconds(min(SLICE, remaining)))


def _explained(attachment: Attachment, error: Exception, group: int, why: str) -> Exception:
    attachment.note_failed(group)
    sentence = "; ".join(part for part in (str(error), why, attachment.describe_usage()) if part)
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
