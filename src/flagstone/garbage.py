"""Cyclic garbage: objects in an arena that nothing but unreachable cycles holds.

A traceback refers to the frame whose variable refers to its exception: a failed task keeps its
buffers until Python's collector comes by, and that goes by the number of Python objects, not by
bytes in an arena. So whoever finds no memory has it collected once, before giving up, also where
the program has disabled the automatic collections.

A Python without a GIL has more of it. What one thread made and another drops is let go by the first
when it comes by, or by a collection; and that lets go of one object, whose own references are then
the first thread's to let go of, too (PEP 703, biased reference counting: a queue for each thread).
So where the first waits for something, a chain of five objects takes five collections.

A collection stops the program for as long as its heap is large. Those that help cost nothing here;
those that help nobody get a tenth of the time, and a second in advance.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from typing import Final

__all__ = ["begun", "collect", "helped", "in_vain"]

_SHARE: Final = 0.1  # of the time may be spent on collections that do not help,
_MOST: Final = 1.0  # and this many seconds in advance
# Seconds to wait for a collection that another thread runs: it may be in somebody's destructor,
# which may wait for us.
_PATIENCE: Final = 0.5
_POLL: Final = 0.001  # seconds between two attempts to collect
# Collections in a row: a view of an array of a Block in a container is a chain of five.
_ROUNDS: Final = 8 if "t" in sys.abiflags else 1


class _State:
    """What the process knows; a new one after a fork."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.owner: int | None = None  # the thread that collects
        self.begun = 0
        self.finished = 0  # the number of the last one; they come one after the other
        self.credit = _MOST
        self.counted_at = time.monotonic()
        self.in_vain_at: float | None = None


_state = _State()


def begun() -> int:
    """How many collections have begun: they may have missed what is dropped from now on. Whoever
    may call `collect` asks for it at its beginning.
    """
    return _state.begun


def collect(since: int) -> bool:
    """Collect garbage, or wait while another thread does it for the same reason.

    Safe to call from any thread, and from destructors that a collection runs (where it does
    nothing, because that is under way); also in processes whose automatic collections are disabled.

    Args:
        since: what `begun()` said when the caller began.

    Returns:
        Whether a whole one came after that: it is worth another try.
    """
    state = _state
    me = threading.get_ident()
    if state.owner == me or sys.is_finalizing():
        return False
    if not state.lock.acquire(timeout=_PATIENCE):
        return False
    try:
        if state.finished > since:
            return True
        now = time.monotonic()
        state.credit = min(_MOST, state.credit + (now - state.counted_at) * _SHARE)
        state.counted_at = now
        if state.credit <= 0:
            return False
        state.owner = me
        state.begun += 1
        for _ in range(_ROUNDS):
            _run(now + _PATIENCE)
        state.finished = state.begun
        state.in_vain_at = time.monotonic()
        state.credit -= state.in_vain_at - now
        return True
    finally:
        state.owner = None
        state.lock.release()


def helped() -> None:
    """Note that there was memory after the last collection: the next one costs no credit."""
    _state.credit = _MOST
    _state.in_vain_at = None


def in_vain(since: int) -> str:
    """The sentence of an error that says that a collection did not help; "" if there was none.

    Args:
        since: as in `collect`.
    """
    at = _state.in_vain_at
    if at is None:
        return ""
    if _state.finished > since:
        return "garbage collection let go of nothing that helped"
    return f"garbage collection let go of nothing that helped {time.monotonic() - at:.1f} s ago"


def _run(deadline: float) -> None:
    # While another collection is under way (started by an allocation in another thread, say),
    # gc.collect() returns at once. Then it is tried again: the other one may be of the youngest
    # objects only.
    while True:
        before = _collections()
        if gc.collect() or _collections() != before or time.monotonic() >= deadline:
            return
        time.sleep(_POLL)


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def begin_anew() -> None:
    """Know of no collection, as a process that has just begun: a child of fork does."""
    global _state
    _state = _State()


os.register_at_fork(after_in_child=begin_anew)
