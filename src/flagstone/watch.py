"""Watch: coroutines and `select` wait at channels, topics, stores and locks, by threads.

A wait in the core blocks its thread, so an event loop needs another one that waits for it. One
thread waits for everything that this process awaits: for 127 things, then there is another one. On
a kernel that cannot wait for several at once (`Waiter.most`) each thing has its own. A thread is
started at the first await, and ends soon after nobody waits; before a fork all are stopped, and
started again in the parent. A child inherits nothing of them, and starts its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, TypeAlias

from flagstone._core import Waiter
from flagstone.bell import Bell
from flagstone.errors import Closed

if TYPE_CHECKING:
    import asyncio

    from flagstone._core import ChannelBase, LockBase, StoreBase, SubscriptionBase, TopicBase

    Awaited: TypeAlias = ChannelBase | TopicBase | SubscriptionBase | StoreBase | LockBase

__all__ = ["Changes", "Watch"]

_SLICE = 10_000_000  # ns that a thread waits before it looks whether all of it is wanted still
_FORK_WAIT = 1.0  # s that a fork waits for the threads, which may need a lock that its thread has

_most = Waiter().most  # things that a thread waits for

_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """Those of this process who wait at one end of a channel. Safe to use from any thread.

    Args:
        channel: a Channel, Topic, Subscription or Lock; it is referred to weakly.
        taker: whether they wait for a message, or a lock, and not for room.
    """

    # When the interpreter ends, its other threads have stopped where they were: one may have the
    # lock. Globals may be gone by then.
    _ends = staticmethod(sys.is_finalizing)

    def __init__(self, channel: Awaited, taker: bool) -> None:
        self._channel = weakref.ref(channel)
        self._sought = int(taker)  # what `Waiter.wait` is told
        # All below is changed under `_lock`.
        self._futures: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None], int]] = []
        self._bell: Bell | None = None
        # Whether the bell is not rung now, and is to be when there is something.
        self._armed = False
        self._lot: _Lot | None = None  # whose thread waits for it
        self._over = False
        _watches.add(self)

    # ---- those who wait

    async def ready(self, until: float | None, seen: int = 0) -> bool:
        """Wait until there may be something to take, or room. False: the time is over. `seen` is
        for `Changes`.
        """
        import asyncio  # for who awaits; a program without it imports none

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return False
        try:
            with _lock:
                if self._over:
                    return True  # the call that follows says what has ended
                self._futures.append((loop, future, seen))
                self._seek()
                _enter(self)
            async with asyncio.timeout(left):
                await future
        except TimeoutError:
            return False
        finally:
            if not self._ends():
                with _lock, contextlib.suppress(ValueError):
                    self._futures.remove((loop, future, seen))
        return True

    def fileno(self) -> int:
        """The descriptor, made at the first call. Raises `Closed` once it was stopped."""
        with _lock:
            if self._over:
                raise Closed("this was left or closed, and has no descriptor any more")
            if self._bell is None or not self._bell.whole():
                if self._bell is not None:
                    self._bell.close()  # what the program left of it
                self._bell = Bell()
                self._arm()
            return self._bell.fileno()

    def rearm(self) -> None:
        """Let the descriptor not be readable until there is something to take: nothing is there."""
        with _lock:
            if self._bell is None or self._armed:
                return
            self._bell.hush()
            self._arm()

    def _arm(self) -> None:
        self._armed = True
        try:
            _enter(self)
        except BaseException:
            self._tell()  # nobody watches, so the program has to look by itself
            raise

    # ---- the thread's part

    def _tell(self) -> None:
        futures, self._futures = self._futures, []
        for loop, future, _ in futures:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, future)
        if self._armed:
            self._armed = False
            if self._bell is not None:
                self._bell.ring()

    def _seek(self) -> None:
        """Find out what is waited for."""

    def stop(self) -> None:
        """Wake those who wait, and close the descriptor: the channel is used no more."""
        if self._ends():
            self._over = True  # what a thread waits for it keeps
            return
        with _lock:
            self._over = True
            if self._lot is not None:
                self._lot.remove(self)
            self._tell()
            if self._bell is not None:
                self._bell.close()
                self._bell = None

    def __del__(self) -> None:
        if self._bell is not None and not self._ends():
            self._bell.close()

    # ---- fork

    def _forget(self) -> None:
        self._futures = []
        self._lot = None
        self._armed = False
        if self._bell is not None:
            self._bell = self._bell.inherit()


class Changes(Watch):
    """The same for those who wait until a store has changed: `ready(until, version)` waits for
    another version than this one.
    """

    def __init__(self, store: StoreBase) -> None:
        super().__init__(store, True)

    def _seek(self) -> None:
        # Versions grow: where several are waited for, the store has left the oldest behind.
        self._sought = min(seen for _, _, seen in self._futures)


class _Lot:
    """Some watches, and the thread that waits for all of them. Under `_lock`, but for the wait."""

    def __init__(self) -> None:
        self.watches: dict[Watch, None] = {}
        self.waited: dict[Watch, None] = {}  # for which the thread waits just now
        self.waiter = Waiter()
        self.thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        """Have the thread wait for this one, too, from now on."""
        if self.thread is None:
            # It is there before it runs: a signal may have this very thread add another watch
            # meanwhile, and two threads must not use one Waiter.
            self.thread = threading.Thread(target=self._run, name="flagstone waits", daemon=True)
            try:
                self.thread.start()
            except (RuntimeError, MemoryError):  # no more threads are to be had
                self.thread = None
                raise
        if self not in _lots:
            _lots.append(self)
        self.watches[watch] = None
        watch._lot = self
        # Of one that it waits for already it tells whoever there is, but for another version.
        if watch not in self.waited or isinstance(watch, Changes):
            self.waiter.ring()

    def remove(self, watch: Watch) -> None:
        """The thread does not use it any more, when this returns."""
        self.watches.pop(watch, None)
        watch._lot = None
        if self.thread is not threading.current_thread():
            while watch in self.waited:
                self.waiter.ring()
                _passed.wait()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:
            # Nobody waits for them any more, so let them look, and come back.
            with _lock:
                self._pass()
                self._end()
                for watch in list(self.watches):
                    watch._lot = None
                    watch._tell()
            raise

    def _work(self) -> None:
        again = True  # it waits once more for nothing: a coroutine that was told comes back soon
        while True:
            with _lock:
                self._pass()
                gone = self._sort_out()
                if _forking or not (self.watches or again):
                    self._end()
                    return
                again = bool(self.watches)
                self.waiter.ring(False)
                self.waited = dict(self.watches)
            del gone  # with coroutines, whose ends may do anything
            ready = self._wait(list(self.waited))
            if ready:
                with _lock:
                    for watch in ready:
                        watch._tell()
            del ready

    def _pass(self) -> None:
        self.waited = {}
        _passed.notify_all()

    def _end(self) -> None:
        self.thread = None
        if self in _lots:
            _lots.remove(self)

    def _sort_out(self) -> list[object]:
        """Let go of those for whom nobody waits; what is to be dropped outside the lock."""
        gone: list[object] = []
        for watch in list(self.watches):
            # Who waited in a loop that was closed is told nothing any more, and would be kept.
            left = [one for one in watch._futures if not one[0].is_closed()]
            if len(left) < len(watch._futures):
                gone.append(watch._futures)
                watch._futures = left
            if not (left or watch._armed):
                del self.watches[watch]
                watch._lot = None
        most = _most()  # it may have become less
        while len(self.watches) > most:
            watch, _ = self.watches.popitem()
            watch._lot = None
            _enter_or_tell(watch)
        return gone

    def _wait(self, watches: list[Watch]) -> list[Watch]:
        """Wait for a slice at most; those of whom somebody is to be told."""
        things = [watch._channel() for watch in watches]
        sought = [watch._sought for watch in watches]
        return [watches[number] for number in self.waiter.wait(things, sought, _SLICE)]


def _enter(watch: Watch) -> None:
    """Have a thread wait for it. Under `_lock`."""
    if _forking:
        return  # then it does afterwards
    lot = watch._lot
    if lot is None:
        most = _most()
        lot = next((one for one in _lots if len(one.watches) < most), None)
        if lot is None:
            lot = _Lot()
    lot.add(watch)


def _enter_or_tell(watch: Watch) -> None:
    """The same for those who wait already: where no thread is to be had they come back, and get the
    error themselves.
    """
    try:
        _enter(watch)
    except (RuntimeError, MemoryError):
        watch._tell()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_lots: list[_Lot] = []
_forking = False


# Whoever has it may take it again: a collection, or a signal, may leave a channel anywhere.
_lock = threading.RLock()
_passed = threading.Condition(_lock)  # a thread has stopped waiting, or begins anew


def _before_fork() -> None:
    global _forking
    with _lock:
        _forking = True
        threads = [lot.thread for lot in _lots]
        # All are asked before any is joined, so it takes one slice at most, and not one for each.
        for lot in _lots:
            lot.waiter.ring()
    until = time.monotonic() + _FORK_WAIT
    for thread in threads:
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.0, until - time.monotonic()))


def _in_parent() -> None:
    global _forking
    with _lock:
        _forking = False
        for watch in list(_watches):
            if watch._lot in _lots:
                continue  # its thread has not ended in time, and goes on
            watch._lot = None
            if watch._futures or watch._armed:
                _enter_or_tell(watch)


def _in_child() -> None:
    global _forking, _lock, _passed
    _lock = threading.RLock()
    _passed = threading.Condition(_lock)
    _forking = False
    _lots.clear()
    for watch in list(_watches):
        watch._forget()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
