"""Letters: what is in a message of a channel or a topic, beside bytes and Blocks."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from flagstone.block import alloc_bytes
from flagstone.opened import Opened

if TYPE_CHECKING:
    from flagstone._core import Block

__all__ = ["Letters"]


class Letters(Opened):
    """How items are pickled, and where they lie when they are large."""

    __slots__ = ()

    if TYPE_CHECKING:
        _group_id: int

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
