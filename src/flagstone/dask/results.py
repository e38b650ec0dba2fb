"""A worker's results: in the arena from the moment they are stored.

`Results` stands before the mapping that the worker would have, Dask's own `SpillBuffer` mostly,
which goes on to decide what goes to disk. While a task runs, NumPy allocates the data of large
arrays in the worker's group; such a result is stored as a view of its Block. Another large array is
copied into a Block of the group. One that lies in an arena otherwise (it came from a neighbour) is
stored as it is. What finds no room stays where it is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from dask.sizeof import sizeof
from distributed.sizeof import safe_sizeof
from distributed.spill import SpillBuffer

from flagstone._core import Allocator, Block
from flagstone.dask.wire import TABLES, by_value
from flagstone.dumped import load
from flagstone.errors import FlagstoneError
from flagstone.part import address_of, base_of, block_of, view_of

if TYPE_CHECKING:
    from flagstone.arena import Arena
    from flagstone.group import Group

__all__ = ["EarlySettler", "Results", "Settler"]

_DEEP: Final = 3
_WIDE: Final = 10_000
_SMALL: Final = 4096
# A smaller result is copied: that takes microseconds, and what a task makes on the way to it lies
# in memory that it has just used, and that is in the processor's cache still.
_BORN: Final = 1 << 20


class Settler:
    """Puts values into a worker's group. Safe to use from any thread.

    Attributes:
        allocator: lets NumPy allocate what it will store.
        refused: values that stayed outside, by the name of the error.
    """

    def __init__(self, arena: Arena, group: Group, threshold: int) -> None:
        self._arena = arena
        self._group = group
        self._threshold = max(1, threshold)
        least = max(self._threshold, _BORN)
        self.allocator = Allocator(arena._link.attachment, group._id, least)
        self._lock = threading.Lock()
        self._stored = [0]
        self.refused: dict[str, int] = {}

    @property
    def stored(self) -> int:
        """The bytes of results that were copied into the arena, or made there."""
        return self._stored[0]

    def settle(self, value: Any, deep: int = _DEEP) -> Any:
        """The value, its large arrays and tables in the arena; itself if there are none."""
        kind = type(value)
        if kind is np.ndarray:
            return self._array(value)
        if kind in (list, tuple, dict):
            return self._container(value, deep) if deep and 0 < len(value) <= _WIDE else value
        if kind.__module__.partition(".")[0] in TABLES:
            return self._table(value)
        return value

    def empty(self, shape: Any, dtype: Any, order: str) -> Any:
        """An array in the group, its elements what was there before; None: there is no room."""
        try:
            return self._arena.empty(shape, dtype, order=order, group=self._group).array
        except (FlagstoneError, OSError, TypeError):
            return None

    def copied(self, array: Any) -> Any:
        """A copy in the group; None if it would not be there: as `settle` of one elsewhere."""
        found = self._put(array) if self._belongs(array) else array
        return None if found is array else found

    def _container(self, value: Any, deep: int) -> Any:
        items = list(value.values()) if type(value) is dict else value
        found = [self.settle(one, deep - 1) for one in items]
        if all(new is old for new, old in zip(found, items, strict=True)):
            return value
        if type(value) is dict:
            return dict(zip(value, found, strict=True))
        return type(value)(found)

    def _array(self, array: Any) -> Any:
        if not self._belongs(array) or base_of(array) is not None:
            return array
        owner = _owner(array)
        if owner is None:
            return array
        found = self._kept(array, owner)
        return self._put(array) if found is None else found

    def _kept(self, array: Any, owner: Any) -> Any:
        """The array as a view of the Block that NumPy allocated for it; None: there is none, or it
        is so much larger that a copy takes less memory.
        """
        block = self.allocator.find(address_of(owner)) if owner.flags.owndata else None
        if block is None or array.nbytes < block.nbytes // 2:
            return None
        offset = address_of(array) - block._address
        view = view_of(block, offset, array.dtype, array.shape, array.strides)
        if not array.flags.writeable:
            view.flags.writeable = False
        self._count(array.nbytes)
        return view

    def _belongs(self, array: Any) -> bool:
        return not (
            array.nbytes < self._threshold
            or array.dtype.kind not in "biufcmMSUV"
            or array.dtype.hasobject
            or 0 in array.strides
        )

    def _put(self, array: Any) -> Any:
        try:
            settled = self._arena.put(array, group=self._group).array
        except (FlagstoneError, OSError, TypeError) as error:
            return self._refuse(array, error)
        self._count(array.nbytes)
        if not array.flags.writeable:
            settled.flags.writeable = False
        return settled

    def _table(self, value: Any) -> Any:
        kind = type(value).__name__
        if kind not in ("DataFrame", "Series", "Table", "RecordBatch"):
            return value
        if safe_sizeof(value) < self._threshold or _has_objects(value):
            return value
        if self._settled(value):
            return value
        try:
            block = self._arena.dump(value, group=self._group)
            settled = load(block, writable=None)
        except Exception as error:  # whatever pickling it raises
            return self._refuse(value, error)
        self._count(block.nbytes)
        return settled

    def _settled(self, table: Any) -> bool:
        """Whether all large buffers of a table are in Blocks already: it came from a neighbour, or
        NumPy allocated them there. Not if it looks at less than half of such an array, as its first
        rows do: a copy takes less memory.
        """
        found = False
        unused: dict[int, int] = {}
        for buffer in _buffers(table):
            try:
                block, _ = block_of(buffer)
            except (LookupError, TypeError):
                return False
            found = True
            if self.allocator.find(block._address) is not None:
                left = unused.get(block._address, block.nbytes - block.nbytes // 2)
                unused[block._address] = left - buffer.nbytes
        return found and all(left <= 0 for left in unused.values())

    def _count(self, nbytes: int) -> None:
        with self._lock:
            self._stored[0] += nbytes

    def _refuse(self, value: Any, error: Exception) -> Any:
        name = type(error).__name__
        with self._lock:
            self.refused[name] = self.refused.get(name, 0) + 1
        return value


class EarlySettler(Settler):
    """Puts what `settler` will have a look at in a moment, and leaves it to that one to count what
    is refused.
    """

    def __init__(self, settler: Settler) -> None:
        vars(self).update(vars(settler))  # what it counts and how it allocates, too

    def _refuse(self, value: Any, error: Exception) -> Any:
        return value


def _owner(array: Any) -> Any:
    """The array that has the memory which this one looks at; None: a mapped file has it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
        if isinstance(array, np.memmap):
            return None
    return array


def _has_objects(value: Any) -> bool:
    """Whether Python objects are in it, which would be pickled one by one."""
    dtypes = getattr(value, "dtypes", None)
    if dtypes is None:
        return False
    if isinstance(dtypes, np.dtype):
        return bool(dtypes.hasobject)
    return any(getattr(one, "kind", "") == "O" for one in getattr(dtypes, "values", (dtypes,)))


def _buffers(value: Any) -> Iterator[Any]:
    for block in getattr(getattr(value, "_mgr", None), "blocks", ()):  # of pandas
        array = block.values
        if isinstance(array, np.ndarray) and array.nbytes:
            yield array
    for column in getattr(value, "columns", ()) if _is_arrow(value) else ():
        for chunk in getattr(column, "chunks", (column,)):
            for buffer in chunk.buffers():
                if buffer is not None and buffer.size >= _SMALL:
                    yield memoryview(buffer)


def _is_arrow(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "pyarrow"


@sizeof.register(Block)  # type: ignore[untyped-decorator]
def _sizeof_block(block: Block) -> int:
    return block.nbytes


class Results(MutableMapping[Any, Any]):
    """What a worker has as `data`.

    Args:
        inner: what it had, or would have.
        settler: puts what is stored into the arena.
    """

    def __init__(self, inner: Any, settler: Settler) -> None:
        self.inner = inner
        self.settler = settler
        if isinstance(inner, SpillBuffer):
            slow = inner._slow_uncached
            dump, load = slow.dump, slow.load

            def to_disk(value: Any) -> Any:
                token = by_value.set(True)
                try:
                    return dump(value)
                finally:
                    by_value.reset(token)

            slow.dump = to_disk
            slow.load = lambda data: settler.settle(load(data))

    def __setitem__(self, key: Any, value: Any) -> None:
        self.inner[key] = self.settler.settle(value)

    def __getitem__(self, key: Any) -> Any:
        return self.inner[key]

    def __delitem__(self, key: Any) -> None:
        del self.inner[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)

    def __len__(self) -> int:
        return len(self.inner)

    def __contains__(self, key: object) -> bool:
        return key in self.inner

    def __getattr__(self, name: str) -> Any:
        # `fast`, `evict`, `spilled_total` and the like: what Dask looks for tells it what it can do
        if name == "inner":  # a copy that is being made
            raise AttributeError(name)
        return getattr(self.inner, name)
