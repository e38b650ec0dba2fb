"""The Block of the message that a thread is loading: the message's pickle does not name it."""

from __future__ import annotations

import pickle
import threading
from typing import TYPE_CHECKING, Any

from flagstone.errors import FlagstoneError

if TYPE_CHECKING:
    from flagstone._core import Block

__all__ = ["carried", "load_with"]


class _Arriving(threading.local):
    block: Block | None = None


_message = _Arriving()


def load_with(body: bytes, block: Block) -> Any:
    """Unpickle a message's item, whose Block this is."""
    before, _message.block = _message.block, block
    try:
        return pickle.loads(body)
    finally:
        _message.block = before


def carried() -> Block:
    """Unpickle the Block of the message that is being loaded."""
    block = _message.block
    if block is None:
        raise FlagstoneError("this pickle is a part of a message, which has its Block")
    return block
