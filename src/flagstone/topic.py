"""Topic: messages for all who subscribe, none of whom can harm another one."""

from __future__ import annotations

import weakref
from typing import Any, Final, Literal, cast

from flagstone._core import Block, Link, SubscriptionBase, TopicBase
from flagstone.attach import CREATE_NEW, OPEN_EXISTING, Locator, attach, locate
from flagstone.closing import Closing
from flagstone.dumped import load
from flagstone.errors import ChannelEmpty, ChannelFull, ChannelMismatch, Closed
from flagstone.facts import TopicInfo
from flagstone.group import Group, group_id, insist
from flagstone.letter import Letters, sizes_of
from flagstone.looped import Looped
from flagstone.names import named, object_name
from flagstone.observe import SLOW, topic_info
from flagstone.sizes import many, until
from flagstone.states import CHANNEL_LASTING, CHANNEL_TOPIC
from flagstone.watch import Watch

__all__ = ["Subscription", "Topic"]

Slow = Literal["block", "drop", "disconnect"]

_CAPACITY: Final = 64
_MOST: Final = 1 << 20


class Topic(Letters, TopicBase):
    """Messages for all who subscribe: each subscription gets every one of them.

    Made by `Arena.topic()`, or by unpickling. The last `capacity` messages lie in it, with their
    Blocks, until others take their places. A subscription that is slow, stopped or killed harms
    nobody else, but for `slow="block"`, which holds publishers back for as long as it lives. Safe
    to use from any thread and, after a fork, in the child. As a context manager it is left at the
    end.
    """

    __slots__ = ("__weakref__", "_history", "_name", "_subscriptions", "_watch")

    _KIND = "topic"

    _history: int
    _subscriptions: weakref.WeakSet[Subscription]  # of this process, through this object
    _watch: Watch | None

    @property
    def capacity(self) -> int:
        """How many messages lie in it at most."""
        return self._capacity

    @property
    def info(self) -> TopicInfo:
        """A `TopicInfo` of how it is now, with who subscribes."""
        return topic_info(self._attachment(), self._info())

    def _read_once(self) -> bool:
        return False

    def _load(self, block: Block) -> Any:
        return load(block)  # others look at the same bytes

    async def apublish(self, item: Any, *, wait: float | None = 0) -> int:
        """`publish()` for a coroutine: the event loop goes on while it waits for subscriptions that
        block, and for memory. Cancelling it publishes nothing.

        The item is pickled before it waits, and its bytes are copied in the loop's thread.

        Args:
            item: as in `publish`.
            wait: seconds to wait for subscriptions that block; None is for ever, as is `math.inf`.

        Returns:
            How many subscriptions will find it.

        Raises:
            ChannelFull, ChannelClosed, Closed, ArenaFull, GroupLimitExceeded: as `publish`.
            ValueError, TypeError: a time to wait that makes no sense, or an item that only one
                reader could have, as `publish`.
            Exception: whatever pickling the item raises.
        """
        ends = until(wait, "wait")
        letter = await self._aletter(item, True)
        try:
            while (reached := self._try(letter)) is None:
                if self._watch is None:
                    self._watch = Watch(self, False)
                if not await self._watch.ready(ends):
                    raise ChannelFull(self._held())
        except BaseException:
            self._give_up(letter)
            raise
        return reached

    def subscribe(
        self, *, slow: Slow = "block", latest: bool = False, history: int | None = None
    ) -> Subscription:
        """Get every message from now on.

        Args:
            slow: what happens when `capacity` messages wait for it: "block" holds publishers back,
                "drop" loses the oldest, "disconnect" ends the subscription.
            latest: `get()` gives the newest message only, and what came before is passed over;
                `slow` says nothing then.
            history: how many of the messages that lie there it begins with, less than `capacity`;
                None is what the topic was opened with.

        Returns:
            A `Subscription`, for this process alone.

        Raises:
            ArenaFull: the topic has 256 subscriptions.
            ValueError, TypeError: no such `slow` or `history`.
            Closed: the topic was destroyed, or left here.
        """
        if slow not in SLOW[:3]:
            raise ValueError(f'slow is "block", "drop" or "disconnect", not {slow!r}')
        past = self._history if history is None else _checked(history, self._capacity)
        subscription = Subscription.__new__(Subscription)
        subscription._watch = None
        subscription._begin(self, SLOW.index("latest" if latest else slow), past)
        self._subscriptions.add(subscription)
        if self._left():  # by another thread, which may have missed this one
            subscription.close()
        return subscription

    def leave(self) -> None:
        """Let go of the topic here, and end the subscriptions that were made by this object. The
        last process to do so ends the topic, unless it is lasting. Again is fine. Going out of
        scope does the same, once its subscriptions have, too.
        """
        if self._watch is not None:
            self._watch.stop()
        super().leave()
        for subscription in list(self._subscriptions):
            subscription.close()

    def _called(self) -> str:
        return named("topic", self._name, self._attachment().path)

    def _held(self) -> str:
        slow = {f"{one.pid} ({one.command})": one.lag for one in self.info.subscribers if one.holds}
        who = ", ".join(f"process {who}, {lag} behind" for who, lag in slow.items())
        if not who:
            return (
                f"{self._called()} was full for a moment: a subscription has gone on since, or a"
                " batch has yet to bring back what killed publishers had begun: publish again, or"
                " give wait="
            )
        waiting = many(self._capacity, "message waits", "messages wait")
        return f"{self._called()} is full: {waiting} for {who}"

    def __reduce__(self) -> tuple[Any, ...]:
        attachment = self._attachment()
        locator = locate(attachment)
        message = self._share()
        ticket = attachment.ticket(message)
        return _load_topic, (ticket, locator, message, self._name, self._history)

    def __repr__(self) -> str:
        try:
            return f"<Topic {self._name!r}, {many(len(self.info.subscribers), 'subscriber')}>"
        except Closed:
            return f"<Topic {self._name!r}, left>"


class Subscription(Looped, Closing, SubscriptionBase):
    """Every message of a topic from some moment on, for one process.

    Made by `Topic.subscribe()`; it does not travel: another process, a forked one too, subscribes
    itself. A loop over it, `for` or `async for`, gets what comes until the topic is closed. Safe to
    use from any thread: each message is for one of them. As a context manager it is closed at the
    end.
    """

    __slots__ = ("__weakref__", "_watch")

    _watch: Watch | None

    def _watched(self) -> Watch:
        if self._watch is None:
            self._watch = Watch(self, True)
        return self._watch

    async def aget(self, *, wait: float | None = None) -> Any:
        """`get()` for a coroutine. Cancelling it takes nothing.

        Args:
            wait: seconds to wait for a message; None is for ever.

        Raises:
            ChannelEmpty, ChannelClosed, Disconnected, Closed: as `get`.
        """
        ends = until(wait, "wait")
        while True:
            try:
                return self.get(wait=0)
            except ChannelEmpty:
                if not await self._watched().ready(ends):
                    raise

    def fileno(self) -> int:
        """A descriptor that is readable while there may be a message, for `select` and its like. A
        thread of this process sees to it from the first call on. After it was readable, take with
        `get(wait=0)` until `ChannelEmpty`. It is this object's: `close()` closes it.

        Raises:
            OSError: this process has no room for two more descriptors.
            Closed: the subscription was closed.
        """
        self._signal()
        return self._watched().fileno()

    def _rearm(self) -> None:
        self._watched().rearm()

    def close(self) -> None:
        """End the subscription: nobody is held back by it any more. Again is fine. Going out of
        scope does the same.
        """
        if self._watch is not None:
            self._watch.stop()
        super().close()

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Subscription is one process's: send the Topic, and subscribe there")

    def __repr__(self) -> str:
        called = f"Subscription to topic {cast('Topic', self.topic).name!r}"
        try:
            return f"<{called}, {many(self.lost, 'message')} lost>"
        except Closed:
            return f"<{called}, closed>"


def _checked(history: int, capacity: int) -> int:
    if type(history) is not int:
        raise TypeError(f"history must be an int, not {type(history).__name__}")
    if not 0 <= history < capacity:
        raise ValueError(f"history must be from 0 to {capacity - 1}, not {history}")
    return history


def _made(name: str | None, history: int) -> Topic:
    topic = Topic.__new__(Topic)
    topic._name = name
    topic._history = history
    topic._watch = None
    topic._subscriptions = weakref.WeakSet()
    return topic


def open_topic(
    link: Link,
    name: str | None,
    capacity: int | None,
    history: int,
    inline: int | None,
    group: Group | None,
    lasting: bool,
    create: int,
) -> Topic:
    """What `Arena.topic` does."""
    raw = None if name is None else object_name(name, "topic")
    room, own, flags = sizes_of(capacity, inline, _CAPACITY)
    topic = _made(name, _checked(history, _MOST if capacity is None else max(capacity, 1)))
    flags |= CHANNEL_TOPIC | (CHANNEL_LASTING if lasting else 0)
    ident = group_id(link, link.attachment, group)
    how = create
    if history >= room and create != OPEN_EXISTING:
        # One that is made now would be too small for it: only one that is there may do.
        if raw is None or create == CREATE_NEW:
            _checked(history, room)
        how = OPEN_EXISTING
    try:
        topic._open(link, raw, room, own, flags, ident, how, ChannelMismatch)
    except FileNotFoundError:
        if how != create:
            _checked(history, room)
        raise
    _checked(history, topic._capacity)
    insist(topic, "topic", name, group, topic._group_id, ChannelMismatch)
    return topic


def _load_topic(
    ticket: None, locator: Locator, message: bytes, name: str | None, history: int
) -> Topic:
    """Unpickle: takes the reference in flight."""
    topic = _made(name, history)
    topic._join(Link(attach(locator)), message)
    return topic
