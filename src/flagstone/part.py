"""Part: an array that looks at a part of a Block, and travels with it; and the way from any array
back to its Block.

An array is pickled by value, also one that looks into an arena. A Part is an array, too, whose
pickle is the Block's and where in it the array lies: the receiver looks at the same bytes.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from flagstone._core import Attachment, Block, View
from flagstone.attach import known
from flagstone.format import descr_of

__all__ = ["Part", "address_of", "base_of", "block_of", "bytes_of", "item", "make_part", "view_of"]


class Part(np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array that looks at a part of a Block: `block[10:20]`, `block.part(index)`.

    Pickling it pickles the Block (one message, good for one load, as with any Block) and which part
    of it this is: nothing is copied, and what the receiver writes is seen here. Views of a Part are
    Parts. What is computed from it is a plain array, and a copy of it is pickled by value. It keeps
    the Block's bytes as any view does. Safe to use from any thread; what is written into the bytes
    is the users' to coordinate.
    """

    __module__ = "flagstone"

    @property
    def array(self) -> np.ndarray[Any, np.dtype[Any]]:
        """A plain array of the same bytes, whose pickle is a copy."""
        return self.view(np.ndarray)

    @property
    def block(self) -> Block:
        """The Block. `LookupError` for a copy, which has bytes of its own."""
        return block_of(self)[0]

    @property
    def offset(self) -> int:
        """The bytes from the beginning of the Block to the first element (index 0 in each
        dimension). `LookupError` for a copy.
        """
        return block_of(self)[1]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        out = options.get("out")
        if out is not None:
            options["out"] = tuple(map(_plain, out))
        result = getattr(ufunc, method)(*map(_plain, inputs), **options)
        # `part += 1` binds what is returned here: it has to go on being the Part.
        return out[0] if out is not None and len(out) == 1 else result

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __deepcopy__(self, memo: dict[int, Any] | None, /) -> Any:
        return np.array(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        try:
            block, offset = block_of(self)
        except LookupError:
            return self.array.__reduce_ex__(protocol)
        return _load, (block, offset, descr_of(self.dtype), self.shape, self.strides)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, Part) else value


def bytes_of(block: Block) -> np.ndarray[Any, np.dtype[Any]]:
    """All bytes of a Block, in the order in which they lie there."""
    array = block.array
    if not array.nbytes:
        return np.empty(0, np.uint8)
    return array.reshape(-1, order="A").view(np.uint8)


def view_of(
    block: Block,
    offset: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
) -> np.ndarray[Any, np.dtype[Any]]:
    """An array that looks at a part of a Block. NumPy refuses what would reach beyond it:
    `ValueError`.
    """
    return np.ndarray(shape, dtype, bytes_of(block), offset, strides)


def _load(
    block: Block, offset: int, descr: Any, shape: tuple[int, ...], strides: tuple[int, ...]
) -> Part:
    """Unpickle. NumPy refuses what would reach beyond the Block: `ValueError`."""
    dtype = np.lib.format.descr_to_dtype(descr)
    return view_of(block, offset, dtype, shape, strides).view(Part)


def make_part(block: Block, index: Any) -> Part:
    """`Block.part`."""
    whole = block.array
    found = whole[index]
    if not isinstance(found, np.ndarray):  # all integers: a view of no dimension, not the element
        found = whole[(*index, Ellipsis) if isinstance(index, tuple) else (index, Ellipsis)]
    if not _views(found):
        raise TypeError(
            "part() takes integers, slices, ..., None and names of fields: what a list, an array"
            f" or a mask picks is a copy (this was {index!r:.80})"
        )
    part: Part = found.view(Part)
    return part


def item(block: Block, index: Any) -> Any:
    """`block[index]`: what `block.array[index]` is, as a Part where that is a view."""
    found = block.array[index]
    return found.view(Part) if isinstance(found, np.ndarray) and _views(found) else found


def _views(array: np.ndarray[Any, np.dtype[Any]]) -> bool:
    return base_of(array) is not None


def base_of(value: Any) -> Block | None:
    """The Block that a chain of arrays and memoryviews ends at; None: it ends elsewhere."""
    while True:
        kind = type(value)
        if kind is memoryview:
            value = value.obj
            continue
        if kind is np.ndarray:
            value = value.base
            continue
        if value is None:
            return None
        if isinstance(value, Block):
            return value
        if isinstance(value, View):
            return value.block
        if isinstance(value, memoryview):
            value = value.obj
        elif isinstance(value, np.ndarray):
            value = value.base
        else:
            return None


def block_of(array: Any) -> tuple[Block, int]:
    """The Block that an array, tensor or memoryview looks into, and where in it.

    Args:
        array: a NumPy array (or `Part`), a memoryview, a Block, a tensor in the CPU's memory, or
            anything else with the buffer protocol or `__dlpack__`.

    Returns:
        The Block, and the bytes from its beginning to the first element of the array. It is the
        same Block object where the array itself leads to it; otherwise another one of the same
        object, whose dtype and shape are those of its cache.

    Raises:
        LookupError: it lies in none that this process uses; a copy, for example.
        TypeError: it has no memory that could be looked up.

    Safe to call from any thread. It changes nothing, but that it may make one more reference of
    this process, which the Block gives back.
    """
    block = base_of(array)
    address = address_of(array)
    if block is not None:
        return block, address - block._address
    for attachment in known():
        found = _held_at(attachment, address)
        if found is not None:
            return found, address - found._address
    raise LookupError(
        "this lies in no Block that this process uses: a copy, or made without one"
        " (arena.put() copies it into one)"
    )


def _held_at(attachment: Attachment, address: int) -> Block | None:
    return attachment.hold_at(address) if attachment.usable else None


def address_of(value: Any) -> int:
    """Where the first element (index 0 in each dimension) of what `block_of` takes lies."""
    if isinstance(value, Block):
        return value._address
    if not isinstance(value, np.ndarray):
        if hasattr(value, "data_ptr"):  # a tensor of torch, also one that wants gradients
            return int(value.data_ptr())
        value = _array_over(value)
    address: int = value.__array_interface__["data"][0]
    return address


def _array_over(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    # First as bytes, for which a buffer needs no name of what they mean; then, a memoryview whose
    # bytes lie apart, as it is; then as a tensor.
    for read in (_as_bytes, np.asarray, np.from_dlpack):
        if read is np.asarray and not isinstance(value, memoryview):
            continue  # it would copy whatever has a length
        with contextlib.suppress(TypeError, ValueError, AttributeError, RuntimeError, BufferError):
            return read(value)
    raise TypeError(
        f"block_of() takes an array, a tensor or a memoryview, not {type(value).__name__}"
    )


def _as_bytes(value: Any) -> np.ndarray[Any, np.dtype[Any]]:
    return np.frombuffer(value, np.uint8)
