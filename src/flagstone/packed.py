"""Many small things in two Blocks: records of a data set, token ids, strings.

A list of small objects costs every process that reads it a copy: under fork the reference counts
are written, page by page, and under spawn all of it is pickled for each worker. Packed, the things
lie in an arena as bytes, one after the other, beside where each of them begins: a worker has 16
bytes of address for all of them, and makes the one that it is asked for.
(PyTorch's issue 13246 is the long story of this.)
"""

from __future__ import annotations

import io
import operator
import pickle
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, overload

import numpy as np

from flagstone._core import Block
from flagstone.channel import Channel
from flagstone.group import Group
from flagstone.part import Part
from flagstone.sizes import format_size, many, parse_seconds
from flagstone.topic import Topic
from flagstone.values import array_of

if TYPE_CHECKING:
    from flagstone.arena import Arena

__all__ = ["Packed", "PackedArrays", "pack", "pack_arrays"]

_ALIGN: Final = 8


class _Sequence(Sequence[Any]):
    """What `Packed` and `PackedArrays` have in common: positions in what two Blocks hold."""

    __slots__ = ("_blocks", "_range")

    def __init__(self, blocks: tuple[Any, ...], positions: range) -> None:
        self._blocks = blocks
        self._range = positions
        self._look()

    def _look(self) -> None:
        """Make what the items are read from."""
        raise NotImplementedError

    def _item(self, position: int) -> Any:
        raise NotImplementedError

    @property
    def blocks(self) -> tuple[Block, Block]:
        """The two Blocks: of where each item begins, and of the items' bytes."""
        index, data = self._blocks[:2]
        return index, data

    @property
    def nbytes(self) -> int:
        """The bytes of both Blocks, whatever part of them this is."""
        index, data = self.blocks
        return index.nbytes + data.nbytes

    def __len__(self) -> int:
        return len(self._range)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(self._blocks, self._range[index])
        try:
            position = self._range[index]
        except TypeError:
            raise TypeError(
                f"{type(self).__name__} takes an integer or a slice, not {type(index).__name__}"
            ) from None
        except IndexError:
            raise IndexError(
                f"{operator.index(index)} is none of {many(len(self._range), 'item')}"
            ) from None
        return self._item(position)

    def __iter__(self) -> Iterator[Any]:
        return map(self._item, self._range)

    def __reduce__(self) -> Any:
        return type(self), (self._blocks, self._range)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {many(len(self), 'item')}, {format_size(self.nbytes)}>"


class Packed(_Sequence):
    """A read-only sequence of what was packed by `pack()`.

    Indexing makes the item anew each time; a slice is another sequence over the same Blocks. It
    pickles as its two Blocks, as a message (good for one load); whoever has one keeps the Blocks.
    Safe to use from any thread and any process; a data set as PyTorch's DataLoader wants it.
    """

    __slots__ = ("_bytes", "_starts")
    __module__ = "flagstone"

    def _look(self) -> None:
        index, data = self._blocks
        self._starts = memoryview(index).cast("B").cast("q")
        self._bytes = memoryview(data).cast("B")

    def _item(self, position: int) -> Any:
        starts = self._starts
        return pickle.loads(self._bytes[starts[position] : starts[position + 1]])


class PackedArrays(_Sequence):
    """A sequence of the arrays that were packed by `pack_arrays()`.

    Indexing gives a `flagstone.Part` that looks into the Block: nothing is copied, and what is
    written is seen by all. A slice is another sequence over the same Blocks; it pickles, and may be
    used by threads and processes, as `Packed`.
    """

    __slots__ = ("_data", "_shapes", "_width")
    __module__ = "flagstone"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of each array."""
        dtype: np.dtype[Any] = self._data.dtype
        return dtype

    def _look(self) -> None:
        index, data, dtype, ndim = self._blocks
        self._width = ndim + 1
        self._shapes = memoryview(index).cast("B").cast("q")
        raw = data.array.reshape(-1).view(np.uint8)
        whole = raw[: raw.size // dtype.itemsize * dtype.itemsize]
        self._data = whole.view(dtype).view(Part)

    def _item(self, position: int) -> Any:
        at = position * self._width
        start, *shape = self._shapes[at : at + self._width].tolist()
        if len(shape) == 1:
            return self._data[start : start + shape[0]]
        count = 1
        for n in shape:
            count *= n
        return self._data[start : start + count].reshape(shape)


def pack(
    arena: Arena, items: Iterable[Any], *, group: Group | None = None, wait: float | None = None
) -> Packed:
    """Put many small objects into two Blocks, as a sequence that processes share.

    Args:
        arena: where they are to lie.
        items: anything that can be pickled. They are pickled one by one, before anything is
            allocated. Blocks are refused, and what holds one: their pickle is good for one load.
        group: who is charged.
        wait: seconds to wait for memory, for all of it together.

    Returns:
        A sequence of equal objects, which keeps the memory for as long as anybody has it.

    Raises:
        TypeError: `items` is no iterable, or there is a Block, Part, group, channel or topic in an
            item; and whatever pickling raises.
        ArenaFull, GroupLimitExceeded, ReadOnly, Closed: as `Arena.alloc`.
    """
    file = io.BytesIO()
    pickler = _Pickler(file, pickle.HIGHEST_PROTOCOL)
    ends = [0]
    for item in items:
        pickler.dump(item)
        pickler.clear_memo()
        ends.append(file.tell())
    index, data = _two(arena, np.array(ends, "i8"), ends[-1], group, wait)
    memoryview(data).cast("B")[: ends[-1]] = file.getbuffer()
    return Packed((index, data), range(len(ends) - 1))


def pack_arrays(
    arena: Arena, arrays: Iterable[Any], *, group: Group | None = None, wait: float | None = None
) -> PackedArrays:
    """Put many small arrays of one dtype into two Blocks, as a sequence that processes share.

    Args:
        arena: where they are to lie.
        arrays: arrays or buffers of the same dtype and number of dimensions, each of its own shape.
        group: who is charged.
        wait: seconds to wait for memory, for all of it together.

    Returns:
        A sequence of views of them, in C order.

    Raises:
        ValueError: there is none, or they differ in dtype or number of dimensions.
        TypeError: as `Arena.put`.
        ArenaFull, GroupLimitExceeded, ReadOnly, Closed: as `Arena.alloc`.
    """
    found = [array_of(one, "pack_arrays()") for one in arrays]
    if not found:
        raise ValueError("pack_arrays() of no arrays has no dtype: pack() takes none")
    dtype, ndim = found[0].dtype, found[0].ndim
    for number, one in enumerate(found):
        if one.dtype != dtype or one.ndim != ndim:
            raise ValueError(
                f"pack_arrays() takes arrays of one dtype and number of dimensions: number {number}"
                f" is {one.dtype} with {one.ndim}, the first is {dtype} with {ndim}"
            )
    if dtype.hasobject or not dtype.itemsize:
        raise TypeError(f"{dtype!r} holds no bytes that would mean something in another process")
    shapes = np.zeros((len(found), ndim + 1), "i8")
    shapes[:, 1:] = [one.shape for one in found]
    sizes = [one.size for one in found]
    np.cumsum(sizes[:-1], out=shapes[1:, 0])
    index, data = _two(arena, shapes, sum(sizes) * dtype.itemsize, group, wait)
    packed = PackedArrays((index, data, dtype, ndim), range(len(found)))
    for number, one in enumerate(found):
        packed[number][...] = one
    return packed


def _two(
    arena: Arena, index: np.ndarray[Any, Any], nbytes: int, group: Group | None, wait: float | None
) -> tuple[Block, Block]:
    """The Block of where each begins, and one for their bytes, with one `wait` for both."""
    deadline = None if wait is None else time.monotonic() + parse_seconds(wait, "wait")
    first = arena.put(index, group=group, wait=wait)
    left = None if deadline is None else max(0.0, deadline - time.monotonic())
    return first, arena.alloc(max(1, nbytes), group=group, wait=left)


class _Pickler(pickle.Pickler):
    """Pickles what may be loaded again and again."""

    def reducer_override(self, obj: Any) -> Any:
        """Refuse whatever is a message, good for one load, when it is pickled."""
        if isinstance(obj, (Block, Part, Group, Channel, Topic)):
            raise TypeError(
                f"pack() takes no {type(obj).__name__}s, nor what holds one: their pickle is good"
                " for one load; pack their weak() and keep them, or their arrays (pack_arrays)"
            )
        return NotImplemented
