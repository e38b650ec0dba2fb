"""Closing: what is a context manager because it has `close()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Closing"]


class Closing:
    """A context manager that gives itself, and is closed when its block is left, however."""

    __slots__ = ()

    if TYPE_CHECKING:

        def close(self) -> None:
            """End it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
