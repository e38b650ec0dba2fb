"""Channel: a bounded queue of messages between processes, which no kill and no stop holds up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flagstone._core import Block, ChannelBase, Delivery, Link
from flagstone.attach import Locator, attach, locate
from flagstone.dumped import load, load_copy
from flagstone.errors import ChannelEmpty, ChannelFull, ChannelMismatch, Closed
from flagstone.facts import ChannelInfo
from flagstone.group import Group, group_id, insist
from flagstone.letter import Letters, sizes_of
from flagstone.looped import Looped
from flagstone.names import named, object_name
from flagstone.observe import channel_info
from flagstone.sizes import many, until
from flagstone.states import CHANNEL_ACK, CHANNEL_LASTING
from flagstone.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Channel", "Delivery"]

_CAPACITY: Final = 1024
_TURN: Final = 256
"""Messages that a coroutine puts before it lets others run."""


class Channel(Looped, Letters, ChannelBase):
    """A bounded queue of messages, each for one taker; many may put, many may take.

    Made by `Arena.channel()`, or by unpickling. No process that is stopped or killed, anywhere,
    holds up another one or loses it a message; what a killed one had taken goes with it, or, with
    `ack=True`, comes again. Has the methods of `queue.Queue` that programs use, so that it drops in
    for `multiprocessing.Queue`. A loop over it, `for` or `async for`, takes what comes until it is
    closed. Safe to use from any thread and, after a fork, in the child. As a context manager it is
    left at the end.
    """

    __slots__ = ("__weakref__", "_name", "_watches")

    _KIND = "channel"

    _watches: dict[bool, Watch]

    # ---- what it is

    @property
    def capacity(self) -> int:
        """How many messages may wait in it."""
        return self._capacity

    @property
    def ack(self) -> bool:
        """Whether what was taken has to be acknowledged."""
        return bool(self._flags & CHANNEL_ACK)

    @property
    def info(self) -> ChannelInfo:
        """A `ChannelInfo` of how it is now."""
        return channel_info(self._info())

    def full(self) -> bool:
        """Whether `capacity` messages wait, more or less: others put and take meanwhile."""
        return self.qsize() >= self._capacity

    def empty(self) -> bool:
        """Whether none waits, more or less: others put and take meanwhile."""
        return self.qsize() == 0

    def _waits(self, taker: bool) -> str:
        what = named("channel", self._name, self._attachment().path)
        if taker:
            return f"{what} is empty"
        return f"{what} is full: {many(self._capacity, 'message waits', 'messages wait')}"

    def _read_once(self) -> bool:
        return not self._flags & CHANNEL_ACK

    def _load(self, block: Block) -> Any:
        # Nobody else has this Block, but who gets the message again after a death.
        return load_copy(block) if self._flags & CHANNEL_ACK else load(block, None)

    # ---- asyncio and select

    def _watch(self, taker: bool) -> Watch:
        watch = self._watches.get(taker)
        if watch is None:
            watch = self._watches.setdefault(taker, Watch(self, taker))
        return watch

    async def aget(self, *, wait: float | None = None) -> Any:
        """`get()` for a coroutine. Cancelling it takes nothing.

        Args:
            wait: seconds to wait for a message; None is for ever.

        Raises:
            ChannelEmpty, ChannelClosed, Closed: as `get`.
        """
        ends = until(wait, "wait")
        while True:
            try:
                return self.get_nowait()
            except ChannelEmpty:
                if not await self._watch(True).ready(ends):
                    raise

    async def aput(self, item: Any, *, wait: float | None = None, keep: bool = False) -> None:
        """`put()` for a coroutine. Cancelling it puts nothing.

        The item is pickled before it waits, and its bytes are copied in the loop's thread; what it
        has to wait for, room or another process's lock, lets the loop go on.

        Args:
            item, keep: as in `put`.
            wait: seconds to wait for room; None is for ever.

        Raises:
            ChannelFull, ChannelClosed, Closed, ArenaFull, GroupLimitExceeded: as `put`.
            ValueError, TypeError: a time to wait that makes no sense.
            Exception: whatever pickling the item raises.
        """
        ends = until(wait, "wait")
        if not self._try_small(item) and not await self._aput(item, keep, ends):
            raise ChannelFull(self._waits(False))

    async def aget_many(self, n: int, *, wait: float | None = None) -> list[Any]:
        """`get_many()` for a coroutine. Cancelling it takes nothing.

        Args:
            n: how many at most, 1 or more.
            wait: seconds to wait for the first; None is for ever.

        Returns:
            A list of what `get` would have returned, one at least.

        Raises:
            ChannelEmpty, ChannelClosed, Closed: as `get`.
            ValueError, TypeError: n is less than 1; or a time to wait that makes no sense.
            Exception: whatever unpickling raises, as `get_many`.
        """
        ends = until(wait, "wait")
        while True:
            try:
                return self.get_many(n, wait=0)
            except ChannelEmpty:
                if not await self._watch(True).ready(ends):
                    raise

    async def aput_many(self, items: Iterable[Any], *, wait: float | None = None) -> int:
        """`put_many()` for a coroutine: the event loop goes on while it waits, and between so many
        messages. Another coroutine's, and another process's, may come between them.

        Cancelling it puts no more; what was put before stays, as others may have taken it. With
        `wait` instead the result says how many that were.

        Args:
            items: as `put` takes them; Blocks are moved.
            wait: seconds to wait for room, for all of them together; None is for ever.

        Returns:
            How many were put, which is all unless the time was over after the first.

        Raises:
            ChannelFull: there was no room for the first in time.
            ValueError, TypeError: a time to wait that makes no sense.
            Others: as `put`; those before the one that failed were put.
        """
        from asyncio import sleep

        ends = until(wait, "wait")
        count = 0
        for item in items:
            if not self._try_small(item) and not await self._aput(item, False, ends):
                if not count:
                    raise ChannelFull(self._waits(False))
                break
            count += 1
            if not count % _TURN:
                await sleep(0)
        return count

    async def _aput(self, item: Any, keep: bool, ends: float | None) -> bool:
        """Put an item; False: there was no room in time."""
        letter = await self._aletter(item, keep)
        try:
            while not self._try(letter):
                if not await self._watch(False).ready(ends):
                    self._give_up(letter)
                    return False
        except BaseException:
            self._give_up(letter)
            raise
        return True

    def fileno(self) -> int:
        """A descriptor that is readable while there may be something to take, for `select` and its
        like. A thread of this process sees to it from the first call on. After it was readable,
        take with `get_nowait()` until `ChannelEmpty`. It is this object's: `leave()` closes it.

        Raises:
            OSError: this process has no room for two more descriptors.
            Closed: the channel was left here.
        """
        self._signal()
        return self._watch(True).fileno()

    def _rearm(self) -> None:
        self._watch(True).rearm()

    # ---- ending

    def leave(self) -> None:
        """Let go of the channel here, at once; what another thread is in ends by `Closed`. The last
        process to do so ends it, unless it is lasting. Again is fine. Going out of scope does the
        same.
        """
        for watch in list(self._watches.values()):  # another thread may begin to wait
            watch.stop()
        super().leave()

    def __reduce__(self) -> tuple[Any, ...]:
        attachment = self._attachment()
        locator = locate(attachment)
        message = self._share()
        return _load_channel, (attachment.ticket(message), locator, message, self._name)

    def __repr__(self) -> str:
        try:
            return f"<Channel {self._name!r}, {self.qsize()} of {many(self._capacity, 'message')}>"
        except Closed:
            return f"<Channel {self._name!r}, left>"


def _made(name: str | None) -> Channel:
    channel = Channel.__new__(Channel)
    channel._name = name
    channel._watches = {}
    return channel


def open_channel(
    link: Link,
    name: str | None,
    capacity: int | None,
    inline: int | None,
    ack: bool,
    group: Group | None,
    lasting: bool,
    create: int,
) -> Channel:
    """What `Arena.channel` does."""
    attachment = link.attachment
    raw = None if name is None else object_name(name, "channel")
    room, own, flags = sizes_of(capacity, inline, _CAPACITY)
    flags |= (CHANNEL_ACK if ack else 0) | (CHANNEL_LASTING if lasting else 0)
    channel = _made(name)
    channel._open(
        link,
        raw,
        room,
        own,
        flags,
        group_id(link, attachment, group),
        create,
        ChannelMismatch,
    )
    insist(channel, "channel", name, group, channel._group_id, ChannelMismatch)
    return channel


def _load_channel(ticket: None, locator: Locator, message: bytes, name: str | None) -> Channel:
    """Unpickle: takes the reference in flight."""
    channel = _made(name)
    channel._join(Link(attach(locator)), message)
    return channel
