"""Looped: what `for` and `async for` go through, message by message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from flagstone.errors import ChannelClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Looped"]


class _Gives(Protocol):
    def get(self) -> Any: ...
    def aget(self) -> Awaitable[Any]: ...


class Looped:
    """What Channel and Subscription objects have in common: a loop over one takes messages, waiting
    for each, until the channel or topic was closed and everything was taken.
    """

    __slots__ = ()

    # `x in channel` would take messages, and wait for ever.
    __contains__ = None

    def __iter__(self) -> Self:
        return self

    def __next__(self: _Gives) -> Any:
        try:
            return self.get()
        except ChannelClosed:
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self: _Gives) -> Any:
        try:
            return await self.aget()
        except ChannelClosed:
            raise StopAsyncIteration from None
