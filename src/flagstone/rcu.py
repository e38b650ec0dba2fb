"""Read-side sections and grace periods, seen from Python: waiting in slices, so that Ctrl-C
works.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from flagstone._core import ReadSection, last_error
from flagstone.errors import TIMEOUT
from flagstone.notices import LONG, tell, tell_of_waiting
from flagstone.sizes import parse_seconds, to_nanoseconds

if TYPE_CHECKING:
    from flagstone._core import Attachment

__all__ = ["ReadSection", "barrier", "refuse_in_section", "synchronize"]

SLICE: Final = 0.05
"""Seconds for which a call waits before it lets Python handle signals."""


def refuse_in_section(attachment: Attachment, what: str) -> None:
    """Raise `RuntimeError` if the calling thread stands in a read-side section of this arena."""
    if attachment.in_section:
        raise RuntimeError(f"{what} inside read() would wait for its own section")


def synchronize(attachment: Attachment, timeout: float | None) -> None:
    """Wait until every section that was open at the call has ended.

    Raises:
        RuntimeError: called inside a section.
        TimeoutError: `timeout` seconds were not enough; says which reader it waits for.
    """
    refuse_in_section(attachment, "synchronize()")
    cookie = attachment.gp_cookie()

    def step(nanoseconds: int) -> bool:
        return attachment.synchronize(nanoseconds) or attachment.gp_done(cookie)

    _in_slices(attachment, step, timeout, "synchronize()")


def barrier(attachment: Attachment, timeout: float | None) -> None:
    """Wait until everything that was dropped or ended before the call, by anyone, is released.

    Raises:
        RuntimeError: called inside a section.
        TimeoutError: `timeout` seconds were not enough; says which reader it waits for.
    """
    refuse_in_section(attachment, "barrier()")
    cookie = attachment.barrier_begin()

    def step(nanoseconds: int) -> bool:
        return attachment.barrier_wait(cookie, nanoseconds)

    _in_slices(attachment, step, timeout, "barrier()")


def _in_slices(
    attachment: Attachment, step: Callable[[int], bool], timeout: float | None, what: str
) -> None:
    began = time.monotonic()
    deadline = began + parse_seconds(timeout, "timeout")
    while True:
        remaining = max(0.0, deadline - time.monotonic())
        if step(to_nanoseconds(min(SLICE, remaining))):
            tell(attachment)
            return
        waited = time.monotonic() - began
        if waited > LONG:
            tell_of_waiting(attachment, waited)
        if not remaining:
            why = last_error(TIMEOUT).args[-1]
            raise TimeoutError(f"{what}: not done in {timeout} s: {why}{_behind(attachment, why)}")


def _behind(attachment: Attachment, known: str) -> str:
    """Which reader it is, or whose batch, where it is another thread's batch that is waited for."""
    reader = attachment.section_in_the_way
    batch = attachment.info()["batch_pid"]
    if "thread" in known or "process" in known:
        return ""
    if reader is not None:
        return f", waiting for a read-side section of process {reader[0]} thread {reader[1]}"
    return f", waiting for the batch that process {batch} runs" if batch else ""
