"""Opened: what stores, channels, topics and locks have in common as Python objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from flagstone._core import Attachment, Link

__all__ = ["Opened"]


class Opened:
    """What Store, Channel, Topic and Lock objects have in common: each is this process's own way to
    something of an arena that any process may open.

    Two of them are equal when they stand for the same thing of the same arena. As a context manager
    it is left at the end.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def _id(self) -> int: ...
        def _link_of(self) -> Link: ...
        def leave(self) -> None:
            """Let go of it in this process."""

    def _attachment(self) -> Attachment:
        return self._link_of().attachment

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return self._id == other._id and self._link_of().uuid == other._link_of().uuid

    def __hash__(self) -> int:
        return hash((self._id, self._link_of().uuid))
