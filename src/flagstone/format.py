"""The text that says what the bytes of a cache's objects mean: a dtype and a shape, as NumPy's own
file format writes them.

`('|u1', (1080, 1920, 3))` for example; empty for plain bytes. It lies in shared memory, so reading
it trusts nothing.
"""

from __future__ import annotations

import ast
import contextlib
import math
import operator
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib import format as npy

from flagstone._core import Format
from flagstone.errors import ArenaCorrupted
from flagstone.sizes import MAX_SIZE

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["descr_of", "format_text", "make_format", "parse_format"]

# Of a text, with the dtype of some hundred thousand fields. The core says it for itself.
MAX_TEXT: Final = 2**24 - 1


def make_format(dtype: DTypeLike, shape: int | Iterable[int], *, travels: bool = False) -> Format:
    """A checked Format.

    Raises:
        TypeError: no dtype, or one whose values mean nothing in another process.
        ValueError: a shape that makes no sense.
    """
    real = np.dtype(dtype)
    dims = _shape(shape)
    if real.subdtype is not None:
        real, inner = real.subdtype
        dims += inner
    if real.hasobject:
        raise TypeError(f"{real!r} holds Python objects, which mean nothing in another process")
    if real.itemsize * math.prod(dims) > MAX_SIZE:
        raise ValueError(f"{real!r} of shape {dims} is more than any memory")
    descr_of(real)
    return Format(real, dims, travels)


def descr_of(dtype: np.dtype[Any]) -> Any:
    """What of a dtype goes into a pickle or a format text: plain tuples, lists and strings.

    Raises:
        TypeError: the dtype cannot be described so.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # metadata of a dtype is not kept, and says so
        descr: Any = None
        back = None
        with contextlib.suppress(TypeError, ValueError):
            descr = npy.dtype_to_descr(dtype)
            back = npy.descr_to_dtype(descr)
    if back != dtype:
        raise TypeError(
            f"{dtype!r} is no dtype that NumPy's own file format has: store a view of it, such as"
            " .view('u2')"
        )
    return descr


def format_text(form: Format | None) -> str:
    """The text to keep with a cache.

    Raises:
        ValueError: it would be longer than the arena has room for.
    """
    if form is None:
        return ""
    text = repr((descr_of(form.dtype), form.shape))
    if len(text.encode()) > MAX_TEXT:
        raise ValueError(
            f"describing this dtype takes {len(text.encode())} bytes and there is room for"
            f" {MAX_TEXT}: give the fields shorter names, or use size= and view the bytes"
        )
    return text


def parse_format(text: str) -> Format | None:
    """The Format of a cache's text; None for plain bytes.

    Raises:
        ArenaCorrupted: the text is none that `format_text` writes.
    """
    if not text:
        return None
    try:
        descr, shape = ast.literal_eval(text)
        return make_format(npy.descr_to_dtype(descr), shape)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, KeyError) as error:
        raise ArenaCorrupted(f"the format of a cache is unreadable: {text!r:.200}") from error


def _shape(shape: int | Iterable[int]) -> tuple[int, ...]:
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
