"""Sizes in bytes and times in seconds, as people write them, checked before anything happens."""

from __future__ import annotations

import math
import operator
import re
import time
from fractions import Fraction
from typing import Final, SupportsIndex, TypeAlias

Size: TypeAlias = SupportsIndex | str
"""Bytes: an integer, or text with a unit ("512MiB", "4G"). Every unit is binary: K, KB and KiB are
all 1024.
"""

MAX_SIZE: Final = 2**62
FOREVER: Final = 2**64 - 1
"""FST_FOREVER and FST_NO_LIMIT of the core."""

_UNITS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_TEXT: Final = re.compile(
    r"\s*([0-9]+(?:\.[0-9]+)?)\s*(?:([KMGTPE])I?)?B?\s*", re.IGNORECASE | re.ASCII
)


def parse_size(value: Size, what: str = "size", minimum: int = 1) -> int:
    """Bytes as an `int`.

    Args:
        value: an integer (NumPy's too), or text such as "4096", "512MiB", "1.5G".
        what: the argument's name, for the error.
        minimum: the smallest value that makes sense.

    Raises:
        TypeError: neither an integer nor text (a bool is neither: `True` bytes is a mistake).
        ValueError: unreadable text, not whole bytes, below `minimum`, above 4 EiB.
    """
    if type(value) is int and minimum <= value <= MAX_SIZE:
        return value  # what allocations ask for, without a detour
    if isinstance(value, str):
        size = _parse_text(value, what)
    elif isinstance(value, bool):
        raise TypeError(f"{what} must be a number of bytes or text such as '512MiB', not {value!r}")
    else:
        try:
            size = operator.index(value)
        except TypeError:
            raise TypeError(
                f"{what} must be an int or text such as '512MiB', not {type(value).__name__}"
            ) from None
    if size < minimum:
        raise ValueError(f"{what} must be at least {minimum}, not {size}")
    if size > MAX_SIZE:
        raise ValueError(f"{what} of {format_size(size)} is more than any memory (4 EiB)")
    return size


def _parse_text(text: str, what: str) -> int:
    # Bounded before the conversion, so that a megabyte of digits is an error and not a long
    # calculation.
    match = _TEXT.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError(
            f"{what} {text[:64]!r} is not a size: write bytes, or a number with K, M, G or T"
            " (KiB, MiB, ...; 1K is 1024)"
        )
    number, unit = match.groups()
    scale: int = 1024 ** _UNITS[(unit or "").upper()]
    size = Fraction(number) * scale
    if size.denominator != 1:
        raise ValueError(f"{what} {text!r} is not a whole number of bytes")
    return size.numerator


def format_size(size: int) -> str:
    """Bytes for people, in binary units with at most one decimal: "512 B", "1.5 KiB", "4 GiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1024:
            break
        value /= 1024
    else:
        unit = "EiB"
    text = f"{value:.1f}".removesuffix(".0")
    return f"{text} {unit}"


def exact_size(size: int) -> str:
    """Bytes for people, where one more or less matters: "4 KiB", but "4 KiB (4097 bytes)"."""
    text = format_size(size)
    number, unit = text.split()
    whole = Fraction(number) * 1024 ** _UNITS[unit.removesuffix("iB").removesuffix("B")] == size
    return text if whole else f"{text} ({size} bytes)"  # more than 1 KiB, always


def many(value: int, noun: str, plural: str = "") -> str:
    """How many of what: "1 file", "2,000 files". What has no s in the plural is given its own."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def parse_seconds(value: float | None, what: str, *, default: float = math.inf) -> float:
    """Seconds as a `float`, `math.inf` for ever; None is `default`.

    Raises:
        TypeError: not a number.
        ValueError: negative, or not a number in the other sense (NaN).
    """
    if value is None:
        return default
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{what} must be a number of seconds, not {value!r}")
    try:
        seconds = float(value)
    except TypeError:
        raise TypeError(f"{what} must be a number of seconds, not {type(value).__name__}") from None
    except OverflowError:
        return math.inf
    if not seconds >= 0:
        raise ValueError(f"{what} must be at least 0 seconds, not {value!r}")
    return seconds


def until(seconds: float | None, what: str) -> float | None:
    """When so many seconds are over, by `time.monotonic()`; None: never. `what` is the argument."""
    if seconds is None:
        return None
    given = parse_seconds(seconds, what)
    return None if given == math.inf else time.monotonic() + given


def to_nanoseconds(seconds: float) -> int:
    """Nanoseconds for the core; more than it can count is for ever."""
    return FOREVER if seconds >= FOREVER / 1e9 else int(seconds * 1e9)
