"""Small helpers for tests of programs that use Flagstone. Times are seconds."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from flagstone._core import (
    fault_arm,
    fault_passed,
    has_fault_points,
    lock_hold,
    lock_let_go,
)
from flagstone.names import FOLDER, PREFIX

if TYPE_CHECKING:
    from flagstone._core import GroupCache
    from flagstone.arena import Arena

__all__ = [
    "assert_sound",
    "fault_arm",
    "fault_passed",
    "has_fault_points",
    "holding",
    "leftovers",
    "wait_until",
]


def wait_until(condition: Callable[[], bool], timeout: float = 10.0, what: str = "") -> None:
    """Look every few milliseconds until `condition()` is true.

    Args:
        condition: called again and again; what it raises is passed on.
        timeout: seconds.
        what: is waited for, for the error.

    Raises:
        AssertionError: the time was over.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.002)


@contextlib.contextmanager
def holding(arena: Arena, lock: str, bound: GroupCache | None = None) -> Iterator[None]:
    """Hold a lock that all processes of the arena share, as one does that is stopped inside its
    section: `os.kill(os.getpid(), signal.SIGSTOP)` in there shows what a program does beside it.

    The thread does nothing else with the arena until it leaves.

    Args:
        arena: which one.
        lock: "names" (of caches and groups), "pages" (which are free), "slabs" (those of `bound`),
            "ending" (of the cache of `bound`), "reaper" (a batch), "destroying" (synchronously).
        bound: a cache for a group, where the lock is one of theirs.

    Raises:
        ValueError: there is no such lock.
        FlagstoneError: another process has it, and did not give it back within 50 ms.
    """
    attachment = arena._link.attachment
    cache, group = (bound._cache_id, bound._group_id) if bound else (0, 0)
    held = lock_hold(attachment, lock.encode(), cache, group)
    try:
        yield
    finally:
        lock_let_go(attachment, held)


def assert_sound(arena: Arena) -> None:
    """Release what can be released, and validate every structure of the arena.

    Raises:
        AssertionError: something was found; says what.
        TimeoutError: releasing took 30 seconds.
    """
    arena.barrier(timeout=30.0)
    findings = arena.check()
    if findings:
        raise AssertionError("\n".join(map(str, findings)))


def leftovers(prefix: str = "") -> list[str]:
    """Paths of the arenas in `/dev/shm` whose names begin with `prefix`, whoever has them.

    Other programs have theirs there, too: a test gives its arenas names with a prefix of its own.
    """
    return sorted(
        os.path.join(FOLDER, name)
        for name in os.listdir(FOLDER)
        if name.startswith(PREFIX + prefix)
    )
