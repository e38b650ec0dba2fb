"""What may be put into an arena: values that are their elements, and nothing else.

An object in an arena has bytes, a dtype, a shape and an order. A mask, a unit, an index, names of
categories, a palette, gradients would be lost without a word, and the receiver would compute with
what is left. So a value of a type that is not known to be no more than its elements is refused,
with what to do: to store the elements alone is a decision, and `np.asarray(value)` says it.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flagstone._core import Block
from flagstone.modules import imported
from flagstone.part import Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_of"]

# Types of arrays that mean no more than their elements. (A memmap is read when it is put.)
_PLAIN: Final = (np.ndarray, np.memmap, Part)


def array_of(value: Any, what: str = "put()") -> NDArray[Any]:
    """A plain array with the elements of a value: a view of them, where that is possible.

    Args:
        value: an array or a buffer.
        what: takes it, for the error.

    Raises:
        TypeError: it is neither, cannot be read, or may mean more than its elements.
    """
    if type(value) in _PLAIN:
        return np.asarray(value) if type(value) is np.ndarray else value.view(np.ndarray)
    if type(value) is bytes and value:  # the usual buffer, which needs no questions
        return np.frombuffer(value, np.uint8)
    if isinstance(value, Block):
        return value.array
    if isinstance(value, np.ndarray):
        raise TypeError(f"{what} would lose {_meaning(value)}")
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, type):
        raise TypeError(f"{what} takes an array or a buffer, not the class {_name(value)}")
    for name, read in (("__dlpack__", _from_tensor), ("__array_interface__", _from_memory)):
        if _has(value, name):
            return read(value, what)
    if _has(value, "__array__") or _has(value, "__array_struct__"):
        raise TypeError(
            f"{what} cannot know what a {_name(type(value))} means beyond its elements (labels,"
            " units, categories, what is missing), and that would be lost:"
            " np.asarray(value) gives the elements alone, .to_frame() of a Series a table"
        )
    return _from_buffer(value, what)


def _from_tensor(value: Any, what: str) -> NDArray[Any]:
    # Nothing but elements goes through DLPack: who has more to say (gradients, conjugation, what is
    # missing, another device) refuses.
    torch = imported("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        known = type(value) in (torch.Tensor, torch.nn.Parameter)
        if not known or (value.has_names() if hasattr(value, "has_names") else False):
            raise TypeError(
                f"{what} would lose what a {_name(type(value))} means beyond its elements:"
                " tensor.detach().numpy() gives these"
            )
    try:
        return np.from_dlpack(value)
    except Exception as error:
        raise TypeError(
            f"{what} cannot read this {_name(type(value))}: {error} (a tensor of the CPU without"
            " gradients can be read: .detach().cpu(); else what np.asarray(value) makes of it)"
        ) from error


def _from_memory(value: Any, what: str) -> NDArray[Any]:
    if getattr(value, "palette", None) is not None:
        raise TypeError(
            f"{what} would lose the palette of this {_name(type(value))}: image.convert('RGB') has"
            " colours, np.asarray(image) indices"
        )
    interface = value.__array_interface__
    if isinstance(interface, dict) and interface.get("mask") is not None:
        raise TypeError(
            f"{what} would lose the mask of this {_name(type(value))}: store np.asarray(value) and"
            " the mask, one beside the other"
        )
    found = _read(value, what)
    if type(found) is not np.ndarray:
        raise TypeError(f"{what} would lose {_meaning(found)}")
    return found


def _from_buffer(value: Any, what: str) -> NDArray[Any]:
    try:
        view = memoryview(value)
    except TypeError:
        other = ": arena.dump() stores any object, with its arrays" if what == "put()" else ""
        raise TypeError(
            f"{what} takes an array or a buffer (bytes, memoryview, ...), not"
            f" {_name(type(value))}{other}"
        ) from None
    except (ValueError, BufferError) as error:
        raise TypeError(f"{what} cannot read this {_name(type(value))}: {error}") from error
    return _read(view, what)


def _read(value: Any, what: str) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            # ctypes describes its structures wrongly; NumPy says so, and then reads the type.
            warnings.filterwarnings("ignore", "A builtin ctypes object", RuntimeWarning)
            return np.asanyarray(value)
    except (ValueError, TypeError, RuntimeError, NotImplementedError, BufferError) as error:
        source = value.obj if isinstance(value, memoryview) else value
        raise TypeError(
            f"{what} cannot read the elements of this {_name(type(source))}: {error} (its bytes,"
            " memoryview(value).cast('B'), can be stored)"
        ) from error


def _meaning(value: NDArray[Any]) -> str:
    """What a subclass of ndarray means, and what to do."""
    if isinstance(value, np.ma.MaskedArray):
        return (
            "the mask of this masked array: store value.filled(), or value.data and"
            " np.ma.getmaskarray(value) beside it"
        )
    if isinstance(value, np.matrix):
        return "that this is a matrix, whose * and ** differ: store np.asarray(value)"
    if isinstance(value, np.recarray):
        return (
            "the attributes of this recarray: store value.view(value.dtype.fields, np.ndarray), and"
            " take .array.view(np.recarray) where it arrives"
        )
    return (
        f"what a {_name(type(value))} means beyond its elements (a unit, say): store"
        " np.asarray(value), and the rest beside it"
    )


def _has(value: Any, name: str) -> bool:
    return hasattr(value, name)


def _name(kind: type) -> str:
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
