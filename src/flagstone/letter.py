"""Letters: how items that are neither bytes nor Blocks go into a message of a channel or topic."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flagstone.block import alloc_bytes
from flagstone.group import Group, look
from flagstone.opened import Opened

if TYPE_CHECKING:
    from flagstone._core import Block

__all__ = ["Letters", "check_sizes"]


class Letters(Opened):
    """What Channel and Topic objects have in common: how items are pickled, and where they lie when
    they are large.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        _group_id: int
        _inline: int
        _name: str | None

    @property
    def name(self) -> str | None:
        """The name that it was opened by; None if it has none."""
        return self._name

    @property
    def inline(self) -> int:
        """The bytes of a message that can lie in its own memory; a larger one needs a Block."""
        return self._inline

    @property
    def group(self) -> Group:
        """The group that its memory, and that of large messages, is charged to."""
        return look(self._link_of(), self._group_id)

    @staticmethod
    def _pickle(item: Any) -> bytes:
        return pickle.dumps(item, pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def _unpickle(data: bytes) -> Any:
        return pickle.loads(data)

    def _put_large(self, data: bytes) -> Block:
        attachment = self._attachment()
        block = alloc_bytes(attachment, len(data), None, None, self._group_id)
        block.array[...] = memoryview(data)
        return block


def check_sizes(capacity: int, inline: int) -> None:
    """Check what a channel or topic is opened with, as far as Python has to.

    Raises:
        TypeError: one of them is no int.
        ValueError: one of them is negative, or more than 31 bits.
    """
    for value, what in ((capacity, "capacity"), (inline, "inline")):
        if type(value) is not int:
            raise TypeError(f"{what} must be an int, not {type(value).__name__}")
        if not 0 <= value < 1 << 31:
            raise ValueError(f"{what} must be from 0 to {(1 << 31) - 1}, not {value}")
