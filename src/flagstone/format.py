"""What the bytes of an object mean: a dtype, a shape and an order; and the text of them that is
kept with a cache, as NumPy's own file format writes it.

`('|u1', (1080, 1920, 3))` for example, with `'F'` behind it for Fortran order; empty for plain
bytes; `('|u1', (800,), 'sealed')` for bytes that nobody writes again, as a table's. It lies in
shared memory, so reading it trusts nothing. A dtype that means more than such a text says is
refused, and never made a poorer one.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import math
import operator
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.lib import format as npy

from flagstone._core import Format
from flagstone.errors import ArenaCorrupted
from flagstone.sizes import MAX_SIZE

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    Order = Literal["C", "F"]

__all__ = [
    "descr_of",
    "dtype_text",
    "form_for",
    "form_of",
    "format_text",
    "make_format",
    "order_of",
    "parse_format",
    "sealed_form",
    "shape_of",
]

# Bytes of a text, which is enough for a dtype of a hundred thousand fields: the core's own limit.
_MAX_TEXT: Final = 2**24 - 1
_SEALED: Final = "sealed"
_SHORT: Final = 1000  # characters of a text that is worth remembering


def make_format(
    dtype: DTypeLike,
    shape: int | Iterable[int],
    *,
    order: str = "C",
) -> Format:
    """A checked Format.

    Args:
        dtype: of the elements; one with a shape of its own adds that to `shape`.
        shape: of the array.
        order: "C" or "F"; where both are the same, it becomes "C".

    Raises:
        TypeError: no dtype, or one that means more, or nothing, in another process.
        ValueError: a shape or an order that makes no sense.
    """
    real = np.dtype(dtype)
    dims = shape_of(shape)
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', not {order!r}")
    if real.subdtype is not None:
        _check(real, real)
        real, inner = real.subdtype
        dims += inner
    # Also where there are no elements: NumPy counts its strides without the zeros, too.
    if real.itemsize * math.prod(dim for dim in dims if dim) > MAX_SIZE:
        raise ValueError(f"{real!r} of shape {dims} is more than any memory")
    _, code = _describe(real)
    if order == "F" and (0 in dims or sum(dim != 1 for dim in dims) < 2):
        order = "C"
    return Format(real, dims, code, order == "F")


def form_for(dtype: DTypeLike, shape: int | Iterable[int], order: str) -> Format:
    """The Format of an array that is to be made; of one whose dtype is given by name it is known
    after the first time.

    Raises:
        TypeError, ValueError: as `make_format`.
    """
    dims = shape_of(shape)
    if type(dtype) is str:
        return _form_named(dtype, dims, order)
    return form_of(np.dtype(dtype), dims, order)


@functools.lru_cache(maxsize=1024)
def _form_named(dtype: str, dims: tuple[int, ...], order: str) -> Format:
    return form_of(np.dtype(dtype), dims, order)


def form_of(dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> Format:
    """The Format of an array that has no cache; equal arguments mostly give the same object.

    Raises:
        TypeError, ValueError: as `make_format`.
    """
    if dtype.names is not None or dtype.metadata is not None:
        return make_format(dtype, shape, order=order)
    return _simple_form(dtype, shape, order)


# Cached by equality, which is enough for dtypes without fields and metadata: see _describe_simple.
@functools.lru_cache(maxsize=1024)
def _simple_form(dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> Format:
    return make_format(dtype, shape, order=order)


@functools.lru_cache(maxsize=64)
def sealed_form(nbytes: int) -> Format:
    """The Format of bytes that are written once and cannot be written through a Block."""
    return Format(np.dtype(np.uint8), (nbytes,), b"B", sealed=True)


def order_of(array: np.ndarray[Any, Any], order: str) -> Order:
    """The order of a copy of an array, as NumPy's `order=` says it.

    Raises:
        ValueError: it is none of "C", "F", "A" and "K".
    """
    if order not in ("C", "F", "A", "K"):
        raise ValueError(f"order must be 'C', 'F', 'A' or 'K', not {order!r}")
    if order == "F":
        return "F"
    if order == "C" or array.flags.c_contiguous:
        return "C"
    if array.flags.f_contiguous:
        return "F"
    if order == "A":
        return "C"
    # In neither order (every second column of an array, say): the order in which the dimensions are
    # nested in memory.
    steps = [abs(step) for step, dim in zip(array.strides, array.shape, strict=True) if dim > 1]
    nested = len(steps) > 1 and 0 not in steps and steps == sorted(steps) != steps[::-1]
    return "F" if nested else "C"


def descr_of(dtype: np.dtype[Any]) -> Any:
    """What of a dtype goes into a pickle or a format text: plain tuples, lists and strings.

    Raises:
        TypeError: the dtype cannot be described so.
    """
    return _describe(dtype)[0]


@functools.lru_cache(maxsize=256)
def dtype_text(dtype: np.dtype[Any]) -> str:
    """The dtype as NumPy prints it, which takes a while."""
    return str(dtype)


def _describe(dtype: np.dtype[Any]) -> tuple[Any, bytes | None]:
    """The dtype's description (`descr_of`), and its code in a buffer, if there is one that says
    the same.
    """
    if dtype.names is None and dtype.metadata is None:
        return _describe_simple(dtype)
    return _described(dtype)


def _described(dtype: np.dtype[Any]) -> tuple[Any, bytes | None]:
    descr: Any = None
    back = None
    if not dtype.hasobject:
        with warnings.catch_warnings(), contextlib.suppress(TypeError, ValueError):
            warnings.simplefilter("ignore")  # of what is lost, which _check() looks for
            descr = npy.dtype_to_descr(dtype)
            back = npy.descr_to_dtype(descr)
    _check(dtype, back)
    return descr, _buffer_code(dtype)


# Cached by equality: without fields and metadata, dtypes that are equal mean the same.
@functools.lru_cache(maxsize=256)
def _describe_simple(dtype: np.dtype[Any]) -> tuple[Any, bytes | None]:
    return _described(dtype)


def _check(dtype: np.dtype[Any], back: np.dtype[Any] | None) -> None:
    """Refuse a dtype that does not come back from its description as what it was."""
    if dtype.hasobject:
        if dtype.kind == "T":
            raise TypeError(
                "the strings of a StringDType lie outside of the array: .astype('U') gives ones"
                " that lie in it"
            )
        raise TypeError(f"{dtype!r} holds Python objects, which mean nothing in another process")
    if (lost := _lost(dtype, back if back == dtype else None)) is not None:
        raise TypeError(f"{dtype!r} has {lost}")
    if back != dtype:
        size = dtype.itemsize
        kind = "u" if size in (1, 2, 4, 8) and dtype.names is None else "V"
        raise TypeError(
            f"{dtype!r} is no dtype that NumPy's own file format has: store a view of it, such as"
            f" .view('{kind}{size}'), and view that as this dtype where it arrives"
        )


def _lost(dtype: np.dtype[Any], back: np.dtype[Any] | None) -> str | None:
    """What a dtype means that its description does not say, itself or in a field, and what to do
    about it; None: nothing.
    """
    if dtype.metadata:
        return (
            f"metadata ({dict(dtype.metadata)!r:.80}), which would be lost: use the dtype without"
            f" it (as in .view({dtype.str!r})), and send the metadata beside it"
        )
    if dtype.subdtype is not None:
        return _lost(dtype.subdtype[0], None)
    if dtype.names is not None:
        if dtype.type is not np.void:
            return (
                f"elements of type {dtype.type.__name__}, which would be lost: store"
                " array.view(array.dtype.fields or array.dtype, np.ndarray), and view that as"
                " np.recarray where it arrives"
            )
        for name in dtype.names:
            if (lost := _lost(dtype[name], None)) is not None:
                return f"in field {name!r} {lost}"
    elif back is not None and dtype.type is not back.type:
        return f"elements of type {dtype.type.__name__}, which would be lost: store a view"
    return None


def _buffer_code(dtype: np.dtype[Any]) -> bytes | None:
    """The dtype's code in a buffer (PEP 3118), if NumPy reads the same dtype from it; None for
    dates, and for many dtypes with fields.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy says so when it guesses
            view = np.empty(1, dtype).data
            back = np.asarray(view).dtype
    except (ValueError, TypeError, BufferError, RuntimeError, RuntimeWarning, SystemError):
        return None
    return view.format.encode() if _same(dtype, back) else None


def _same(dtype: np.dtype[Any], back: np.dtype[Any]) -> bool:
    return dtype == back and dtype.itemsize == back.itemsize


def format_text(form: Format | None) -> str:
    """The text to keep with a cache.

    Raises:
        ValueError: it would be longer than the arena has room for.
    """
    if form is None:
        return ""
    what: tuple[Any, ...] = (descr_of(form.dtype), form.shape)
    if form.sealed:
        what += (_SEALED,)
    elif form.order == "F":
        what += ("F",)
    text = repr(what)
    if len(text.encode()) > _MAX_TEXT:
        raise ValueError(
            f"describing this dtype takes {len(text.encode())} bytes and there is room for"
            f" {_MAX_TEXT}: give the fields shorter names, or use size= and view the bytes"
        )
    return text


def parse_format(text: str | bytes) -> Format | None:
    """The Format of a cache's or an object's text; None for plain bytes.

    Raises:
        ArenaCorrupted: the text is none that `format_text` writes.
    """
    if not text:
        return None
    return _parsed(text) if len(text) <= _SHORT else _read(text)


def _read(text: str | bytes) -> Format:
    try:
        text = text if isinstance(text, str) else text.decode()
        descr, shape, *order = ast.literal_eval(text)
        if order == [_SEALED]:
            return _sealed(descr, shape)
        return make_format(npy.descr_to_dtype(descr), shape, order=_order(order))
    except Exception as error:  # whatever a text makes of it that was overwritten
        raise ArenaCorrupted(f"the format of an object is unreadable: {text!r:.200}") from error


_parsed = functools.lru_cache(maxsize=256)(_read)


def _sealed(descr: Any, shape: Any) -> Format:
    if descr != "|u1" or len(dims := shape_of(shape)) != 1:
        raise ValueError("that is not sealed")
    if dims[0] > MAX_SIZE:
        raise ValueError("that is more than any memory")
    return sealed_form(dims[0])


def _order(rest: list[Any]) -> str:
    if rest not in ([], ["F"]):
        raise ValueError("that is no order")
    return "F" if rest else "C"


def shape_of(shape: int | Iterable[int]) -> tuple[int, ...]:
    """A checked shape, as a tuple.

    Raises:
        TypeError: it is no integer and no integers.
        ValueError: a dimension is negative, or there are more than 32.
    """
    if type(shape) is int and shape >= 0:
        return (shape,)
    if type(shape) is tuple and len(shape) <= 32:
        for dim in shape:
            if type(dim) is not int or dim < 0:
                break
        else:
            return shape
    if isinstance(shape, (str, bytes)):
        raise TypeError(f"shape must be integers, not {shape!r}")
    try:
        dims = (
            tuple(map(operator.index, shape))
            if isinstance(shape, Iterable)
            else (operator.index(shape),)
        )
    except TypeError:
        raise TypeError(f"shape must be an integer or integers, not {shape!r}") from None
    if any(dim < 0 for dim in dims):
        raise ValueError(f"shape {dims} has a negative dimension")
    if len(dims) > 32:
        raise ValueError(f"a shape has at most 32 dimensions, not {len(dims)}")
    return dims
