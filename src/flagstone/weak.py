"""WeakBlock: names an object, and holds nothing.

A pickle of a Block is a message: it holds the object until somebody takes it, once. What is pickled
to be hashed, measured, stored, sent to many or sent again wants a name instead, and somebody who
keeps the Block meanwhile.
"""

from __future__ import annotations

import ast
import functools
import os
from typing import Any, Final, final

import numpy as np

from flagstone._core import Block, Format, Handle
from flagstone.attach import attach, locate
from flagstone.errors import StaleHandle
from flagstone.format import descr_of, dtype_text, form_for
from flagstone.names import shown

__all__ = ["WeakBlock", "make_weak"]

_HANDLE: Final = 16
_UUID: Final = 16


@final
class WeakBlock:
    """The name of an object: `block.weak()`. Immutable.

    May be pickled any number of times, always to the same bytes (of a named arena), and loaded any
    number of times, in any process of this machine; nothing is in flight, and nothing is held:
    whoever made it keeps the Block until the answer has come. Hashable and comparable: equal where
    it names the same object, for ever. Safe to use from any thread.
    """

    __module__ = "flagstone"
    __slots__ = ("_descr", "_handle", "_order", "_path", "_shape", "_uuid")

    _descr: Any
    _handle: bytes
    _order: str
    _path: bytes | None
    _shape: tuple[int, ...]
    _uuid: bytes

    def __init__(self) -> None:
        raise TypeError("a WeakBlock is made by Block.weak()")

    def get(self) -> Block:
        """The Block, with its dtype and shape: a reference of this process.

        Attaches by itself, as unpickling does.

        Raises:
            StaleHandle: nobody held the object any more, it was freed, or its arena is gone.
            ArenaFull: no room for one more reference.
            FlagstoneError: its arena is anonymous and has not come to this process.
        """
        attachment = attach((self._uuid, self._path, None))
        try:
            return attachment.resolve(Handle(self._handle))
        except StaleHandle as error:
            where = "an anonymous arena" if self._path is None else _shown(self._path)
            raise StaleHandle(
                f"{error}. A WeakBlock holds nothing: keep the Block it was made of (in {where})"
                " for as long as others may ask for it"
            ) from None

    @property
    def handle(self) -> Handle:
        """The object's `Handle`."""
        return Handle(self._handle)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the Block's array."""
        return np.lib.format.descr_to_dtype(self._descr)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the Block's array, a tuple."""
        return self._shape

    @property
    def nbytes(self) -> int:
        """The bytes of the Block."""
        return self._form().nbytes

    def _form(self) -> Format:
        return form_for(self.dtype, self._shape, self._order)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WeakBlock):
            return NotImplemented
        return self._handle == other._handle and self._uuid == other._uuid

    def __hash__(self) -> int:
        return hash((self._handle, self._uuid))

    def __reduce__(self) -> tuple[Any, ...]:
        # One text, so that no pickler can tell equal ones apart by what parts they share.
        text = repr((self._path, self._descr, self._shape, self._order))
        packed = self._handle + self._uuid + text.encode()
        descriptor = _descriptor_for(self)
        return (_load, (packed,)) if descriptor is None else (_load, (packed, descriptor))

    def __copy__(self) -> WeakBlock:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> WeakBlock:
        return self

    def __repr__(self) -> str:
        return f"<WeakBlock {self._handle.hex()}, {dtype_text(self.dtype)} {self._shape}>"


def _shown(path: bytes) -> str:
    return shown(os.fsdecode(path))


def _make(
    handle: bytes,
    uuid: bytes,
    path: bytes | None,
    descr: Any,
    shape: tuple[int, ...],
    order: str,
) -> WeakBlock:
    weak = object.__new__(WeakBlock)
    weak._handle, weak._uuid, weak._path = handle, uuid, path
    weak._descr, weak._shape, weak._order = descr, shape, order
    return weak


def _descriptor_for(weak: WeakBlock) -> Any:
    """The descriptor of an anonymous arena's file, for a process that is being started; else
    None.
    """
    return None if weak._path is not None else locate(attach((weak._uuid, None, None)))[2]


@functools.lru_cache(maxsize=256)
def _read(text: bytes) -> Any:
    """Path, dtype, shape and order: of most of a program's names the same few."""
    return ast.literal_eval(text.decode())


def _load(packed: bytes, descriptor: Any = None) -> WeakBlock:
    handle, uuid = packed[:_HANDLE], packed[_HANDLE : _HANDLE + _UUID]
    path, descr, shape, order = _read(packed[_HANDLE + _UUID :])
    if descriptor is not None:
        attach((uuid, path, descriptor))
    return _make(handle, uuid, path, descr, shape, order)


def make_weak(block: Block) -> WeakBlock:
    """`Block.weak`."""
    attachment, form = block._parts
    path = None if attachment.path is None else os.fsencode(attachment.path)
    handle = bytes(block.handle)
    if form is None:
        return _make(handle, attachment.uuid, path, "|u1", (block.nbytes,), "C")
    what = (descr_of(form.dtype), form.shape, form.order)
    return _make(handle, attachment.uuid, path, *what)
