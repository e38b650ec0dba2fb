"""Small helpers for tests of programs that use Flagstone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flagstone._core import fault_arm, fault_passed, has_fault_points
from flagstone.names import FOLDER, PREFIX

if TYPE_CHECKING:
    from flagstone.arena import Arena

__all__ = [
    "assert_sound",
    "fault_arm",
    "fault_passed",
    "has_fault_points",
    "leftovers",
    "wait_until",
]


def wait_until(condition: Callable[[], bool], timeout: float = 10.0, what: str = "") -> None:
    """Look every few milliseconds until `condition()` is true; `AssertionError` after `timeout`
    seconds.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(0.002)


def assert_sound(arena: Arena) -> None:
    """Release what can be released and validate every structure; `AssertionError` with what was
    found.
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
