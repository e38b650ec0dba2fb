"""Watch: a thread that waits at a channel, topic, store or lock for coroutines and `select`.

A wait in the core blocks its thread, so an event loop needs another one that waits for it. The
thread is started at the first await, and ends when nobody waits; before a fork it is stopped, and
started again in the parent. A child inherits nothing of it, and starts its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

from flagstone.bell import Bell
from flagstone.errors import Closed, FlagstoneError

if TYPE_CHECKING:
    import asyncio

    from flagstone._core import ChannelBase, LockBase, StoreBase, SubscriptionBase, TopicBase

    Awaited: TypeAlias = ChannelBase | TopicBase | SubscriptionBase | StoreBase | LockBase

__all__ = ["Changes", "Watch"]

_SLICE = 10_000_000  # ns that the thread waits before it looks whether it is wanted still

_watches: weakref.WeakSet[Watch] = weakref.WeakSet()


class Watch:
    """Those of this process who wait at one end of a channel, and the thread that waits for them.
    Safe to use from any thread.

    Args:
        channel: a Channel, Topic, Subscription or Lock; it is referred to weakly.
        taker: whether they wait for a message, or a lock, and not for room.
    """

    def __init__(self, channel: Awaited, taker: bool) -> None:
        self._channel = weakref.ref(channel)
        self._taker = taker
        self._lock = threading.Lock()
        self._futures: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None], int]] = []
        self._bell: Bell | None = None
        # Whether the bell is not rung now, and is to be when there is something.
        self._armed = False
        self._thread: threading.Thread | None = None
        self._stop = False
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
        with self._lock:
            if self._over:
                return True  # the call that follows says what has ended
            self._futures.append((loop, future, seen))
            self._start()
        try:
            async with asyncio.timeout(left):
                await future
        except TimeoutError:
            return False
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._futures.remove((loop, future, seen))
        return True

    def fileno(self) -> int:
        """The descriptor, made at the first call. Raises `Closed` once it was stopped."""
        with self._lock:
            if self._over:
                raise Closed("this was left or closed, and has no descriptor any more")
            if self._bell is None or not self._bell.whole():
                if self._bell is not None:
                    self._bell.close()  # what the program left of it
                self._bell = Bell()
                self._armed = True
                self._start()
            return self._bell.fileno()

    def rearm(self) -> None:
        """Let the descriptor not be readable until there is something to take: nothing is there."""
        with self._lock:
            if self._bell is None or self._armed:
                return
            self._bell.hush()
            self._armed = True
            self._start()

    # ---- the thread

    def _start(self) -> None:
        if self._thread is None and not self._stop:
            self._thread = threading.Thread(target=self._run, name="flagstone channel", daemon=True)
            self._thread.start()

    def _wanted(self) -> bool:
        return bool(self._futures) or self._armed

    def _tell(self) -> None:
        futures, self._futures = self._futures, []
        for loop, future, _ in futures:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(_resolve, future)
        if self._armed:
            self._armed = False
            if self._bell is not None:
                self._bell.ring()

    def _wait(self, channel: Any) -> bool:
        ready: bool = channel._sleep(self._taker, _SLICE)
        return ready

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stop or not self._wanted():
                    self._thread = None
                    return
            channel = self._channel()
            try:
                ready = channel is None or self._wait(channel)
            except FlagstoneError:
                ready = True  # those who wait try again, and get the error themselves
            del channel
            if ready:
                with self._lock:
                    self._tell()

    def _halt(self) -> threading.Thread | None:
        """Ask the thread to end, which it does within a slice; the thread, to be joined."""
        with self._lock:
            self._stop = True
            return self._thread

    def stop(self) -> None:
        """Wake those who wait, and close the descriptor: the channel is used no more."""
        _join(self._halt())
        with self._lock:
            self._over = True
            self._tell()
            if self._bell is not None:
                self._bell.close()
                self._bell = None

    def __del__(self) -> None:
        if self._bell is not None:
            self._bell.close()

    # ---- fork

    def _resume(self) -> None:
        with self._lock:
            self._stop = False
            if self._wanted():
                self._start()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._futures = []
        self._thread = None
        self._stop = False
        self._armed = False
        if self._bell is not None:
            self._bell = self._bell.inherit()


class Changes(Watch):
    """The same for those who wait until a store has changed: `ready(until, version)` waits for
    another version than this one.
    """

    def __init__(self, store: StoreBase) -> None:
        super().__init__(store, True)

    def _wait(self, channel: Any) -> bool:
        now: int = channel._changes()
        with self._lock:
            changed = any(seen != now for _, _, seen in self._futures)
        return changed or bool(channel._sleep(now, _SLICE))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _join(thread: threading.Thread | None) -> None:
    if thread is not None and thread is not threading.current_thread():
        thread.join()


def _before_fork() -> None:
    # All are asked before any is joined, so it takes one slice, and not one for each.
    for thread in [watch._halt() for watch in list(_watches)]:
        _join(thread)


def _in_parent() -> None:
    for watch in list(_watches):
        watch._resume()


def _in_child() -> None:
    for watch in list(_watches):
        watch._forget()


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
