"""What an arena's users should hear of, through the logger "flagstone", as warnings:

- a process died, and what was reclaimed from it (at level INFO where that is nothing, at level
  DEBUG where it was a daemon of multiprocessing, as pools' workers are: they are ended by a
  signal in good order);
- memory waits behind a read-side section that does not end, or behind a batch that does not;
- a call waits for a lock whose owner does not give it back, stopped maybe.

There is no thread for that. The calls that may take long anyway look when they are made: opening,
`barrier`, `synchronize`, waiting for memory, waiting for a teardown, `shrink`, `check`, `snapshot`,
`processes`. Looking costs one load when nobody has died. So each process that makes such calls
tells of each death once, whoever ran the batch; deaths from before it attached are not told of.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from flagstone import _core
from flagstone.names import shown, text
from flagstone.sizes import format_size, many

if TYPE_CHECKING:
    from collections.abc import Callable

    from flagstone._core import Attachment

__all__ = ["LONG", "tell", "tell_of_lock", "tell_of_waiting"]

LONG: Final = 1.0
"""Seconds that a batch may take before somebody who waits hears of it."""

_logger: Final = logging.getLogger("flagstone")
# A program that has set up no logging hears nothing, as from any library.
_logger.addHandler(logging.NullHandler())
others: Final[list[Callable[[], None]]] = []
"""Called by `tell`: what modules above have to tell of."""
_AGAIN: Final = 10.0
"""Seconds between two warnings of the same reader or batch."""


def tell(attachment: Attachment) -> None:
    """Warn of those who died since the last call, and of whatever `others` know."""
    for other in others:
        other()
    count = attachment.burial_count
    told = attachment.told
    if count == told:
        return
    fresh = [one for one in reversed(_core.burials(attachment)) if one["number"] > told]
    finished = []
    for one in fresh:
        if not one["finished_at"]:
            break
        finished.append(one)
    if len(finished) == len(fresh):
        attachment.told = count  # also where a record is missing: its writer was killed
    elif finished:
        attachment.told = finished[-1]["number"]
    else:
        return
    unseen = fresh[0]["number"] - told - 1 if fresh else count - told
    if unseen > 0:
        _warn("%s: %s died", _name(attachment), many(unseen, "more process", "more processes"))
    for one in finished:
        level = logging.WARNING
        if not (one["objects"] or one["groups"]):
            # Nobody has lost anything. Pools end their workers by a signal, in good order.
            level = logging.DEBUG if one["tended"] else logging.INFO
        _logger.log(
            level,
            "%s: process %d (%s) died without leaving; reclaimed: %s, %s, %s",
            _name(attachment),
            one["pid"],
            text(one["command"]),
            many(one["objects"], "object"),
            format_size(one["bytes"]),
            many(one["groups"], "group"),
        )


def tell_of_waiting(attachment: Attachment, seconds: float = 0.0) -> None:
    """Warn of whom memory waits for: a lock, a reader or a batch. `seconds` is for how long the
    caller has been waiting. The same warning comes at most every ten seconds.
    """
    held_up = attachment.held_up
    info = attachment.info()
    if held_up is not None:
        tell_of_lock(attachment, held_up, seconds)
    elif info["stalled_pid"]:
        who = (info["stalled_pid"], info["stalled_tid"])
        if _due(attachment, who):
            _warn(
                "%s: memory waits behind a read-side section of process %d thread %d that has"
                " been in the way for %.1f s",
                _name(attachment),
                *who,
                info["stalled_ns"] / 1e9,
            )
    elif info["batch_pid"]:
        seconds = max(seconds, info["batch_ns"] / 1e9)
        if seconds > LONG and _due(attachment, (info["batch_pid"],)):
            _warn(
                "%s: memory waits for a batch that process %d has run for %.1f s: is it stopped?",
                _name(attachment),
                info["batch_pid"],
                seconds,
            )


def tell_of_lock(attachment: Attachment, why: str, seconds: float) -> None:
    """Warn of who holds a lock (`why` says it) that a call has been waiting for, once that took
    more than a second.
    """
    if seconds > LONG and _due(attachment, (why,)):
        _warn("%s: waiting for %.1f s: %s", _name(attachment), seconds, why)


def _due(attachment: Attachment, who: tuple[int | str, ...]) -> bool:
    now = time.monotonic()
    last = attachment.noticed[0]
    if last is not None and last[0] == who and now - last[1] < _AGAIN:
        return False
    attachment.noticed[0] = (who, now)
    return True


def _name(attachment: Attachment) -> str:
    return f"arena {shown(attachment.path) if attachment.path else '(anonymous)'}"


def _warn(sentence: str, *arguments: Any) -> None:
    _logger.warning(sentence, *arguments)
