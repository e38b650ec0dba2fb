"""Lock: a lock that processes find by name, and take over when its owner dies."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from flagstone._core import Link, LockBase
from flagstone.attach import Locator, attach, locate
from flagstone.errors import ChannelMismatch, Closed
from flagstone.facts import LockInfo
from flagstone.group import Group, group_id, insist
from flagstone.names import named, object_name
from flagstone.observe import lock_info
from flagstone.opened import Opened
from flagstone.sizes import until
from flagstone.states import CHANNEL_LOCK
from flagstone.watch import Watch

__all__ = ["Lock"]


class Lock(Opened, LockBase):
    """A lock that any process finds by its name, owned by one thread at a time.

    Made by `Arena.lock()`, or by unpickling; a pickle holds nothing. When its owner is killed, or
    leaves the arena, the next one gets it, and `inherited` says so. A stopped owner keeps it. A
    forked child does not own what its parent owns. As a context manager it is acquired, however
    long that takes, and released; `async with` does that for a coroutine. Safe to use from any
    thread and, after a fork, in the child.
    """

    __slots__ = ("__weakref__", "_name", "_pid", "_watch")

    _name: str
    _pid: int
    _watch: Watch | None

    @property
    def name(self) -> str:
        """The name that it was opened by."""
        return self._name

    @property
    def info(self) -> LockInfo:
        """A `LockInfo` of how it is now. Asks the kernel whether its owner lives."""
        return lock_info(self._name, self._owner())

    def locked(self) -> bool:
        """Whether somebody owns it, dead or alive."""
        return bool(self._owner()["owned"])

    def _called(self) -> str:
        return named("lock", self._name, self._attachment().path)

    def leave(self) -> None:
        """Let go of the lock here, at once. Who owns it goes on to own it, and can open it again to
        release it; one that nobody owns ends when the last process lets go of it. Again is fine.
        Going out of scope does the same.
        """
        if self._watch is not None:
            self._watch.stop()
        super().leave()

    async def aacquire(self, wait: float | None = None) -> bool:
        """`acquire()` for a coroutine: the event loop goes on while others own the lock. Cancelling
        it owns nothing.

        It is the loop's thread that owns the lock then, and not the task. The tasks of a loop
        exclude each other all the same, as with `asyncio.Lock`; one that owns the lock and asks
        again waits for itself, where `acquire()` raises `RuntimeError`. Any task or thread of this
        process may `release()`. A task that ends without that leaves the lock owned: `async with`
        releases it also where the task is cancelled inside.

        Args:
            wait: seconds to wait while others own it; None is for ever, as is `math.inf`; 0 only
                looks.

        Returns:
            Whether it is owned now; if not, the time was over.

        Raises:
            Closed: it was destroyed, or left here.
            ValueError, TypeError: a time to wait that makes no sense.
        """
        ends = until(wait, "wait")
        while not self._try():
            if self._watch is None:
                self._watch = Watch(self, True)
            if not await self._watch.ready(ends):
                return False
        return True

    async def __aenter__(self) -> Lock:
        await self.aacquire()
        self._pid = os.getpid()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(kind, value, traceback)

    def __enter__(self) -> Lock:
        self.acquire()
        self._pid = os.getpid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid == os.getpid():  # a forked child leaves the block without owning it
            self.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_lock, (locate(self._attachment()), self._name, self._group_id)

    def __repr__(self) -> str:
        try:
            info = self.info
        except Closed:
            return f"<Lock {self._name!r}, left>"
        owner = "inherited" if info.inherited else f"owned by {info.pid}"
        return f"<Lock {self._name!r}, {owner if info.owned else 'free'}>"


def _open(link: Link, name: str, group: int) -> Lock:
    lock = Lock.__new__(Lock)
    lock._name = name
    lock._pid = 0
    lock._watch = None
    lock._open(link, object_name(name, "lock"), 1, 0, CHANNEL_LOCK, group, 0, ChannelMismatch)
    return lock


def open_lock(link: Link, name: str, group: Group | None) -> Lock:
    """What `Arena.lock` does."""
    lock = _open(link, name, group_id(link, link.attachment, group))
    insist(lock, "lock", name, group, lock._group_id, ChannelMismatch)
    return lock


def _load_lock(locator: Locator, name: str, group: int) -> Lock:
    return _open(Link(attach(locator)), name, group)
