"""Tables that processes share: from pyarrow, polars, pandas, DuckDB, and back, without a copy.

    block = arena.put(frame)      # whatever has __arrow_c_stream__
    queue.put(block)
    ...
    frame = pl.DataFrame(queue.get())

`Arena.put` and `Block.table` do all of it; here they are as functions. Needs pyarrow
(`pip install "flagstone[arrow]"`), which is imported when the first table comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flagstone.tables import is_table, table_of

if TYPE_CHECKING:
    from flagstone._core import Block
    from flagstone.arena import Arena
    from flagstone.group import Group

__all__ = ["put", "table"]


def put(
    arena: Arena,
    table: Any,
    *,
    strings: str | None = None,
    group: Group | None = None,
    wait: float | None = None,
) -> Block:
    """`arena.put(table)`, for tables only.

    Args:
        arena: where it is to lie.
        table: has `__arrow_c_stream__`.
        strings: "view" (as polars has them), "large" (as pandas has them), None: as they are.
        group: what it is charged to; None is the arena itself.
        wait: seconds to wait for memory.

    Raises:
        TypeError: it is no table, or holds what Arrow has no type for.
        ValueError: no such `strings`.
        ModuleNotFoundError: pyarrow is not installed.
        ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Arena.alloc`.
    """
    if not is_table(table):
        raise TypeError(
            f"a {type(table).__qualname__} has no __arrow_c_stream__, so it is no table:"
            " arena.put() takes arrays and buffers"
        )
    return arena.put(table, strings=strings, group=group, wait=wait)


def table(block: Block) -> Any:
    """`block.table`: a `pyarrow.Table` over the Block's bytes, which it keeps.

    Raises:
        TypeError: the Block holds no table.
        Closed: the Block was freed.
        ModuleNotFoundError: pyarrow is not installed.
    """
    return table_of(block)
