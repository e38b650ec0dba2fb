"""The bytes that every object has to have, and what is held of it."""

import functools
import struct

import numpy as np

import flagstone


@functools.cache
def _ramp(words):
    return np.arange(words, dtype="u8") * np.uint64(0x9E3779B97F4A7C15)


def pattern(handle, nbytes):
    """The bytes that an object of this handle must have."""
    low, high = struct.unpack("<QQ", handle)
    words = _ramp(max(2, -(-nbytes // 8))) ^ np.uint64(low ^ (high << 1) & (2**64 - 1))
    words[:2] = low, high
    return words.view("u1")[:nbytes]


class Wrong(AssertionError):
    """A promise was broken."""


def verify(found, handle, nbytes, when):
    wanted = pattern(handle, nbytes)
    if len(found) != nbytes or not np.array_equal(found, wanted):
        different = np.flatnonzero(found[:nbytes] != wanted[: len(found)])
        raise Wrong(
            f"{when}: object {handle.hex()} of {nbytes} bytes has {len(found)} bytes,"
            f" {len(different)} of them wrong from byte {different[0] if len(different) else '-'}"
            f" on; it begins with {bytes(found[:16]).hex()}"
        )


def verify_typed(found, handle):
    """An object of the cache "typed" that may have been reused meanwhile, by another one there.

    It may be half written: then it has words of two patterns. Words of another cache's objects, or
    the same words elsewhere in an object, do not fit any.
    """
    words = found.view("u8")[2:]
    keys = set((words ^ _ramp(len(words) + 2)[2:])[words != 0].tolist())
    if len(keys) > 3:
        raise Wrong(
            f"object {handle.hex()} of a typesafe cache holds something else inside a section:"
            f" it begins with {bytes(found[:32]).hex()}"
        )


class Held:
    """A Block or a view, and what its bytes have to be."""

    __slots__ = ("handle", "history", "nbytes", "thing")

    def __init__(self, thing, handle, nbytes, how):
        self.thing = thing
        self.handle = handle
        self.nbytes = nbytes
        self.history = [how]

    def verify(self, when):
        thing = self.thing
        if isinstance(thing, flagstone.Block):
            thing = thing.array
        found = np.frombuffer(thing, "u1") if self.nbytes else np.empty(0, "u1")
        verify(found, self.handle, self.nbytes, f"{when} ({', '.join(self.history)})")
