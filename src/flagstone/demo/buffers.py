"""Types of what has bytes; `collections.abc.Buffer` is newer than the oldest supported Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    WritableBuffer: TypeAlias = WriteableBuffer
    Buffer: TypeAlias = ReadableBuffer
else:
    WritableBuffer = Buffer = Any
