"""Tables in an arena: a Block whose bytes are an Arrow stream, and its way in and out.

The bytes are what Arrow calls the IPC streaming format, so any Arrow library reads them where they
lie. pyarrow writes and reads them here; it is imported when the first table comes, and never
before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flagstone._core import Block
from flagstone.extra import Extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Encoded", "encode", "is_table", "table_of"]

_STREAM: Final = "__arrow_c_stream__"
_BEGIN: Final = b"\xff\xff\xff\xff"
"""What every message of a stream begins with; the stream's first is its schema."""


def is_table(value: Any) -> bool:
    """Whether it gives itself as an Arrow stream of a table.

    Blocks are put as what they hold, and a Series, whose stream has no columns, is no table.
    """
    if not hasattr(value, _STREAM) or isinstance(value, (Block, type)):
        return False
    return not hasattr(value, "to_frame")


class Encoded:
    """A table that is ready to be written: its size is known, and nothing can fail any more."""

    __slots__ = ("_table", "nbytes")

    def __init__(self, table: Any) -> None:
        arrow = _pyarrow()
        counter = arrow.MockOutputStream()  # counts, and copies nothing
        _write(arrow, counter, table)
        self._table = table
        self.nbytes: int = counter.size()

    def write(self, raw: NDArray[Any]) -> None:
        """Write it into so many bytes."""
        arrow = _pyarrow()
        with arrow.FixedSizeBufferWriter(arrow.py_buffer(raw)) as out:
            _write(arrow, out, self._table)


def encode(value: Any, strings: str | None) -> Encoded:
    """A table as it will lie in an arena.

    Args:
        value: has `__arrow_c_stream__`.
        strings: "view", "large", or None: as they are.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        TypeError: it gives no table, or one that cannot be written.
        ValueError: no such `strings`.
    """
    if strings not in (None, "view", "large"):
        raise ValueError(f"strings must be 'view', 'large' or None, not {strings!r}")
    arrow = _pyarrow()
    try:
        table = arrow.RecordBatchReader.from_stream(value).read_all()
        if strings is not None:
            table = _with_strings(arrow, table, strings)
        return Encoded(table)
    except (TypeError, ValueError, NotImplementedError, KeyError) as error:
        kind = type(value)
        raise TypeError(
            f"put() cannot make an Arrow table of this {kind.__module__}.{kind.__qualname__}:"
            f" {error} (a table has columns, each of a type that Arrow has: of a Series .to_frame()"
            " is one, and Python objects have to become something else first)"
        ) from error


def table_of(block: Block) -> Any:
    """The `pyarrow.Table` that lies in a Block: `Block.table`.

    Raises:
        TypeError: it is none.
        Closed: after `free()`.
        ModuleNotFoundError: pyarrow is not installed.
    """
    array = block.array
    if array.dtype != np.uint8 or array.ndim != 1 or array[:4].tobytes() != _BEGIN:
        raise _no_table(block)
    arrow = _pyarrow()
    # The array keeps the Block's bytes, and the table keeps the array.
    buffer = arrow.py_buffer(array.data.toreadonly())
    try:
        table = arrow.ipc.open_stream(buffer).read_all()
        table.validate()
    except (ValueError, TypeError, OSError, NotImplementedError, KeyError) as error:
        raise _no_table(block) from error
    return table


def _no_table(block: Block) -> TypeError:
    return TypeError(
        f"this Block holds no table, but an array of {block.dtype} and shape {block.shape}: use"
        " .array (arena.put(table) makes a Block with a table)"
    )


def _write(arrow: Any, out: Any, table: Any) -> None:
    with arrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def _with_strings(arrow: Any, table: Any, strings: str) -> Any:
    fields = [field.with_type(_converted(arrow, field.type, strings)) for field in table.schema]
    schema = arrow.schema(fields, metadata=table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def _converted(arrow: Any, kind: Any, strings: str) -> Any:
    """The type with its strings, and bytes, of the other layout, also in lists and structs."""

    def inner(field: Any) -> Any:
        return field.with_type(_converted(arrow, field.type, strings))

    types = arrow.types
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return arrow.string_view() if strings == "view" else arrow.large_string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return arrow.binary_view() if strings == "view" else arrow.large_binary()
    if types.is_list(kind):
        return arrow.list_(inner(kind.value_field))
    if types.is_large_list(kind):
        return arrow.large_list(inner(kind.value_field))
    if types.is_fixed_size_list(kind):
        return arrow.list_(inner(kind.value_field), kind.list_size)
    if types.is_dictionary(kind):
        values = _converted(arrow, kind.value_type, strings)
        return arrow.dictionary(kind.index_type, values, kind.ordered)
    if types.is_struct(kind):
        return arrow.struct([inner(kind.field(number)) for number in range(kind.num_fields)])
    return kind


def _pyarrow() -> Any:
    with Extra("a table", "pyarrow", "arrow"):
        arrow = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.ipc")
    return arrow
