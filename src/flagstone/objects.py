"""Objects in an arena that have no cache of their own: bytes, arrays, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flagstone._core import ObjectsBase
from flagstone.block import aalloc_bytes, adump, alloc_bytes, aput, dump, put
from flagstone.format import form_for, form_of, order_of
from flagstone.group import group_id
from flagstone.sizes import parse_size
from flagstone.values import array_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import DTypeLike

    from flagstone._core import Block, Format, Link
    from flagstone.group import Group
    from flagstone.sizes import Size

__all__ = ["Objects"]


class Objects(ObjectsBase):
    """The part of an `Arena` that makes objects without a cache, and finds any."""

    __slots__ = ()

    def _alloc(self, nbytes: Size, group: Group | None, wait: float | None) -> Block:
        attachment = self._link.attachment
        size = parse_size(nbytes, "nbytes", 0)
        owner = group_id(self._link, attachment, group)
        return alloc_bytes(attachment, size, None, wait, owner, self._link)

    async def aalloc(
        self, nbytes: Size, *, group: Group | None = None, wait: float | None = None
    ) -> Block:
        """`alloc` for a coroutine: the event loop goes on while it waits. As `Cache.aalloc`."""
        attachment = self._link.attachment
        size = parse_size(nbytes, "nbytes", 0)
        owner = group_id(self._link, attachment, group)
        return await aalloc_bytes(attachment, size, None, wait, owner, self._link)

    async def aput(
        self,
        value: Any,
        *,
        order: str = "K",
        strings: str | None = None,
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`put` for a coroutine: the event loop goes on while it waits for memory, and not while
        the bytes are copied. As `Cache.aalloc`.
        """
        attachment = self._link.attachment
        owner = group_id(self._link, attachment, group)
        return await aput(attachment, value, order, strings, wait, owner, self._link)

    def _put(
        self, value: Any, order: str, strings: str | None, group: Group | None, wait: float | None
    ) -> Block:
        attachment = self._link.attachment
        owner = group_id(self._link, attachment, group)
        return put(attachment, value, order, strings, wait, owner, self._link)

    def dump(self, value: Any, *, group: Group | None = None, wait: float | None = None) -> Block:
        """A Block with any object that can be pickled; `Block.load()` gives it back, in every
        process. What it hands over as buffers (pickle protocol 5: arrays, DataFrames of them) lies
        beside the pickle, aligned to 64 bytes, and is not copied by loading. Nothing is allocated
        before the pickle has succeeded.

        Blocks and groups in it go along as in a message: held until the first who loads it.

        Args:
            value: any object.
            group: what it is charged to; None is the arena itself.
            wait: as in `Cache.alloc`.

        Raises:
            Exception: whatever pickling it raises.
            ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Cache.alloc`.
        """
        attachment = self._link.attachment
        owner = group_id(self._link, attachment, group)
        return dump(attachment, value, wait, owner, self._link)

    async def adump(
        self, value: Any, *, group: Group | None = None, wait: float | None = None
    ) -> Block:
        """`dump` for a coroutine. As `aput`."""
        attachment = self._link.attachment
        owner = group_id(self._link, attachment, group)
        return await adump(attachment, value, wait, owner, self._link)

    def empty(
        self,
        shape: int | Iterable[int],
        dtype: DTypeLike = "f8",
        *,
        order: str = "C",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """A Block of an array's shape and dtype, without a cache: they lie beside the object in the
        arena, and every process finds them there. Its bytes are whatever was there before.

        Args:
            shape: of its array.
            dtype: of its elements, as for a cache.
            order: "C" or "F".
            group: what it is charged to; None is the arena itself.
            wait: as in `Cache.alloc`.

        Raises:
            TypeError, ValueError: shape, dtype or order make no sense, or the dtype means more than
                its bytes (Python objects, metadata).
            ArenaFull, GroupLimitExceeded, Closed, ReadOnly: as `Cache.alloc`.
        """
        form = form_for(dtype, shape, order)
        return _empty(self._link, form, False, wait, group)

    def zeros(
        self,
        shape: int | Iterable[int],
        dtype: DTypeLike = "f8",
        *,
        order: str = "C",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`empty`, with all bytes zero."""
        form = form_for(dtype, shape, order)
        return _empty(self._link, form, True, wait, group)

    def empty_like(
        self,
        array: Any,
        dtype: DTypeLike | None = None,
        *,
        order: str = "K",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`empty` with the shape of an array (whatever `put` takes), and its dtype and order
        unless others are given.
        """
        form = _form_like(array, dtype, order)
        return _empty(self._link, form, False, wait, group)

    async def aempty(
        self,
        shape: int | Iterable[int],
        dtype: DTypeLike = "f8",
        *,
        order: str = "C",
        zero: bool = False,
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`empty`, or with `zero` `zeros`, for a coroutine. As `Cache.aalloc`."""
        form = form_for(dtype, shape, order)
        return await _aempty(self._link, form, zero, wait, group)

    async def azeros(
        self,
        shape: int | Iterable[int],
        dtype: DTypeLike = "f8",
        *,
        order: str = "C",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`zeros` for a coroutine: the event loop goes on while it waits for memory, and not while
        the bytes are cleared. As `Cache.aalloc`.
        """
        return await self.aempty(shape, dtype, order=order, zero=True, group=group, wait=wait)

    async def aempty_like(
        self,
        array: Any,
        dtype: DTypeLike | None = None,
        *,
        order: str = "K",
        group: Group | None = None,
        wait: float | None = None,
    ) -> Block:
        """`empty_like` for a coroutine. As `Cache.aalloc`."""
        form = _form_like(array, dtype, order)
        return await _aempty(self._link, form, False, wait, group)


def _form_like(value: Any, dtype: DTypeLike | None, order: str) -> Format:
    """The Format of an array like this one; `dtype` None is its own."""
    array = array_of(value, "empty_like()")
    real = array.dtype if dtype is None else np.dtype(dtype)
    return form_of(real, array.shape, order_of(array, order))


def _empty(link: Link, form: Format, zero: bool, wait: float | None, group: Group | None) -> Block:
    """An object of the Format, of zeros or of whatever was there before."""
    attachment = link.attachment
    owner = group_id(link, attachment, group)
    block = alloc_bytes(attachment, form.nbytes, form, wait, owner, link)
    if zero:
        block._clear()
    return block


async def _aempty(
    link: Link, form: Format, zero: bool, wait: float | None, group: Group | None
) -> Block:
    """`_empty` for a coroutine."""
    attachment = link.attachment
    owner = group_id(link, attachment, group)
    block = await aalloc_bytes(attachment, form.nbytes, form, wait, owner, link)
    if zero:
        block._clear()
    return block
