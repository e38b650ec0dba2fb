"""Waiting for memory: what happens between an allocation that found none and the exception.

`wait=None` reclaims what can be reclaimed now and tries again; a number goes on until so many
seconds are over. Either has Python's garbage collected once before it gives up, or waits: a cycle
may hold what is missing. Inside the caller's own read-side section nothing can be reclaimed, so the
exception comes at once and says so.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from flagstone import _core, garbage
from flagstone.errors import FULL, HELD, LIMIT, ArenaFull, FlagstoneError, GroupLimitExceeded
from flagstone.modules import imported
from flagstone.names import shown, text
from flagstone.notices import tell, tell_of_lock, tell_of_waiting
from flagstone.rcu import SLICE
from flagstone.sizes import FOREVER, parse_seconds, to_nanoseconds

if TYPE_CHECKING:
    from flagstone._core import Attachment, Link

_Got = TypeVar("_Got")

# How often memory is reclaimed before it counts as used up. Each time gives something back, which
# rivals may allocate first.
_TRIES: Final = 8
# Nanoseconds that reclaiming waits for readers. A grace period takes microseconds, unless a reader
# is stopped, for which `wait=None` does not wait.
RECLAIM: Final = to_nanoseconds(SLICE)
# Seconds after which whoever still waits collects garbage again, which other threads may have made.
_COLLECT_AGAIN: Final = 1.0
# Seconds for which a lock is waited for at least, also where nothing is left of `wait`: mostly its
# holder runs, and gives it back.
_LEAST: Final = 0.002


def allocate(
    attachment: Attachment,
    attempt: Callable[[int], _Got | int],
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> _Got:
    """Call `attempt` until it returns something other than a status.

    Args:
        attachment: of the arena.
        attempt: allocates, waiting at most so many nanoseconds for each lock, or returns the core's
            negative status.
        wait: seconds to wait for memory; None reclaims and does not wait.
        group: id of the group that is charged.
        link: whose `close()` in another thread ends the wait, where `attempt` does not see it.

    Raises:
        ArenaFull: no memory in time.
        GroupLimitExceeded: a group's limit, in time.
        Closed, ReadOnly, ...: what the core said otherwise.
    """
    started = time.monotonic()
    deadline = 0.0 if wait is None else started + parse_seconds(wait, "wait")
    tries = 0
    began = since = garbage.begun()
    collect_at = 0.0
    asked = False  # whether a collection was asked for
    collected = False  # whether there was one, since which no memory was given back to the system
    while True:
        got = attempt(_patience(wait, deadline))
        if not isinstance(got, int):
            if since != began:
                garbage.helped()
            return got
        error = _core.last_error(got)
        _look(link)
        if got == HELD:
            _wait_on(attachment, error, wait, started, deadline, group)
            continue
        if got not in (FULL, LIMIT):
            raise error
        if attachment.in_section:
            if not collected and garbage.collect(began):
                collected = True
                continue
            why = "inside read() nothing can be reclaimed"
            raise _explained(attachment, error, group, why, garbage.in_vain(began))
        tries += 1
        reclaimed = attachment.reclaim(group, RECLAIM) == 0
        tell(attachment)
        if reclaimed and tries <= _TRIES:
            continue
        now = time.monotonic()
        # Where no time is left a collection is asked for once, and then never again: it and what
        # follows take time, in which the next one would become due.
        if now >= collect_at and (now < deadline or not asked):
            collect_at = now + _COLLECT_AGAIN
            asked = True
            if garbage.collect(since):
                since = garbage.begun()
                collected = True
                tries = 0
                continue
        if collected and got == FULL:
            give_back(attachment)
            collected = False
            continue
        collected = False
        if not reclaimed:
            tell_of_waiting(attachment, now - started)
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _explained(attachment, error, group, _waited(wait), garbage.in_vain(began))
        attachment.wait_for_memory(to_nanoseconds(min(SLICE, remaining)))


def _look(link: Link | None) -> None:
    """`Closed` where `Arena.close()` was called meanwhile."""
    if link is not None and link.closed:
        link.attachment  # noqa: B018 - it raises


async def aallocate(
    attachment: Attachment,
    attempt: Callable[[int], _Got | int],
    wait: float | None,
    group: int,
    link: Link | None = None,
) -> _Got:
    """`allocate` for a coroutine: a thread of the event loop's executor does what may wait.

    It does so in steps of a fraction of a second, each of which allocates or leaves nothing behind.
    So whoever cancels the wait takes everything back (what a step under way gets is dropped with
    it), and an executor that is shut down, at the end of `asyncio.run`, waits for no longer than a
    step. The loop's own thread only makes attempts that wait for nothing. (It could poll alone, but
    reclaiming needs somebody who waits for a grace period.)

    A read-side section of the loop's thread is not the helper thread's: what it holds up is waited
    for, as if it were another thread's.
    """
    from asyncio import get_running_loop

    began = time.monotonic()
    deadline = 0.0 if wait is None else began + parse_seconds(wait, "wait")
    got = attempt(0)
    tries = 0
    collections = garbage.begun()
    collected = False
    while isinstance(got, int):
        _look(link)
        if got not in (FULL, LIMIT, HELD):
            raise _core.last_error(got)
        remaining = deadline - time.monotonic()
        step = functools.partial(
            _step, attachment, attempt, group, _patience(wait, deadline), began, remaining
        )
        got, error = await get_running_loop().run_in_executor(None, step)
        if error is None:
            continue
        tries += 1
        if got == HELD:
            _wait_on(attachment, error, wait, began, deadline, group)
        elif tries > _TRIES if wait is None else time.monotonic() >= deadline:
            if not collected and garbage.collect(collections):
                collected = True
                continue
            vain = garbage.in_vain(collections)
            raise _explained(attachment, error, group, _waited(wait), vain)
    return got


async def in_steps(attachment: Attachment, call: Callable[[int], _Got]) -> _Got:
    """For a coroutine, make a call that may wait for a lock: at once, waiting for nothing, and then
    in the loop's executor, in steps of a fraction of a second.

    Args:
        attachment: of the arena.
        call: takes the nanoseconds that it may wait, and raises `TimeoutError` with nothing done.
            Where the coroutine is cancelled, the result of a step under way is dropped: that has to
            take it back.
    """
    from asyncio import get_running_loop

    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        return call(0)
    while True:
        try:
            return await get_running_loop().run_in_executor(None, call, to_nanoseconds(SLICE))
        except TimeoutError as error:
            tell_of_lock(attachment, str(error), time.monotonic() - began)


def _step(
    attachment: Attachment,
    attempt: Callable[[int], _Got | int],
    group: int,
    patience: int,
    began: float,
    remaining: float,
) -> tuple[_Got | int, Exception | None]:
    """A step of `aallocate`, in a thread of an executor: what was allocated, or a status and its
    exception.
    """
    got = attempt(patience)
    if isinstance(got, int) and got in (FULL, LIMIT):
        reclaimed = attachment.reclaim(group, RECLAIM) == 0
        tell(attachment)
        if not reclaimed:
            tell_of_waiting(attachment, time.monotonic() - began)
        got = attempt(patience)
    if not isinstance(got, int):
        return got, None
    error = _core.last_error(got)
    if got in (FULL, LIMIT) and remaining > 0:
        attachment.wait_for_memory(to_nanoseconds(min(SLICE, remaining)))
    return got, error


def _patience(wait: float | None, deadline: float) -> int:
    """Nanoseconds to wait for a lock before looking at the clock, and for signals, again."""
    if wait is None:
        return to_nanoseconds(SLICE)
    return to_nanoseconds(min(SLICE, max(_LEAST, deadline - time.monotonic())))


def _wait_on(
    attachment: Attachment,
    error: Exception,
    wait: float | None,
    began: float,
    deadline: float,
    group: int,
) -> None:
    """Somebody holds a lock: log who, or raise `ArenaFull` when the time is over."""
    now = time.monotonic()
    if wait is not None and now >= deadline:
        raise _explained(attachment, ArenaFull(str(error.args[-1])), group, _waited(wait), "")
    tell_of_lock(attachment, str(error.args[-1]), now - began)


def _waited(wait: float | None) -> str:
    if not wait:
        return ""
    # A coroutine cannot drop anything while its loop stands still.
    asyncio = imported("asyncio.events")
    loop = asyncio is not None and asyncio._get_running_loop() is not None
    stood = ", for which this thread's event loop stood still (await aalloc() lets it go on)"
    return f"after waiting {wait} s{stood if loop else ''}"


def once_more(
    attachment: Attachment, error: Exception, call: Callable[..., _Got], *args: Any
) -> _Got:
    """Make a call again that found no memory: for a message, a reference, a group or a cache.
    Garbage is collected, and memory reclaimed, before.

    Args:
        attachment: of the arena.
        error: of the call that failed; raised again where nothing was collected.
        call: what to call again, with `args`.

    Raises:
        ArenaFull, GroupLimitExceeded: there is still none.
    """
    if getattr(_again, "here", False):
        raise error
    began = garbage.begun()
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
    """Give memory that nothing uses back to the file system, whose pages the arena's tables need to
    grow, too. Waits for readers no longer than reclaiming does.
    """
    if not attachment.in_section and not attachment.readonly:
        with contextlib.suppress(FlagstoneError):
            attachment.shrink(RECLAIM)


def _with(error: Exception, sentence: str) -> Exception:
    if sentence:
        error.args = (f"{error}; {sentence}", *error.args[1:])
    return error


def _explained(
    attachment: Attachment, error: Exception, group: int, why: str, collected: str
) -> Exception:
    attachment.note_failed(group)
    behind = attachment.held_up  # a batch, maybe
    if behind is None or behind in str(error):
        behind = ""
    held = attachment.describe_usage()
    where = shown(attachment.path) if attachment.path else "(anonymous)"
    if where in str(error):
        held = held.removeprefix(f"arena {where}: ")
    parts = (str(error), why, collected, behind, held)
    sentence = "; ".join(part for part in parts if part)
    if isinstance(error, GroupLimitExceeded):
        name, limit, usage = tightest(attachment, group)
        return GroupLimitExceeded(sentence, name, limit, usage)
    return ArenaFull(sentence)


def tightest(attachment: Attachment, group: int) -> tuple[str, int, int]:
    """Name, limit and usage of the group with the least room, among this one and its ancestors."""
    found = ("", 0, 0)
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
            found = (name, info["limit"], info["usage"])
        group = info["parent"]
    return found
