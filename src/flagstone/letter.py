"""Letters: what is in a message of a channel or a topic, beside bytes and Blocks."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, Final

from flagstone.block import alloc_bytes
from flagstone.format import make_format

if TYPE_CHECKING:
    from flagstone._core import Attachment, Block, Format, Link

__all__ = ["NO_FORMATS", "Formats", "Letters"]

Formats = tuple[tuple[Any, bytes], tuple[bytes, Any]]
NO_FORMATS: Final[Formats] = ((None, b""), (b"", None))


class Letters:
    """How items are pickled. The last Format that was sent, and the last that was got, are kept."""

    if TYPE_CHECKING:
        __slots__ = ("_formats",)  # of the class that has it: two bases cannot both have slots
        _formats: Formats
        _group_id: int

        def _link_of(self) -> Link: ...
    else:
        __slots__ = ()

    @staticmethod
    def _pickle(item: Any) -> bytes:
        return pickle.dumps(item, pickle.HIGHEST_PROTOCOL)

    @staticmethod
    def _unpickle(data: bytes) -> Any:
        return pickle.loads(data)

    def _pickle_format(self, form: Format) -> bytes:
        sent, got = self._formats
        if sent[0] is not form:
            sent = (form, pickle.dumps((form.dtype, form.shape), pickle.HIGHEST_PROTOCOL))
            self._formats = (sent, got)
        return sent[1]

    def _unpickle_format(self, data: bytes) -> Any:
        sent, got = self._formats
        if got[0] != data:
            dtype, shape = pickle.loads(data)
            got = (data, make_format(dtype, shape, travels=True))
            self._formats = (sent, got)
        return got[1]

    def _put_large(self, data: bytes) -> Block:
        attachment = self._attachment()
        block = alloc_bytes(attachment, len(data), None, None, self._group_id)
        block.array[...] = memoryview(data)
        return block

    def _attachment(self) -> Attachment:
        return self._link_of().attachment
