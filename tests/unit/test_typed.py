"""Objects with a dtype and a shape of their own, and without a cache."""

import asyncio
import ctypes
import pickle
import subprocess
import sys

import numpy as np
import pytest

import flagstone


@pytest.fixture
def arena():
    with flagstone.open(capacity="64MiB") as arena:
        yield arena
        assert arena.check() == []


WIDE = np.dtype([(f"a field with a long name {i}", "<i4") for i in range(40)])
ARRAYS = {
    "C": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "Fortran": np.asfortranarray(np.arange(24, dtype=">i2").reshape(4, 6)),
    "of no dimension": np.array(7, "u8"),
    "empty": np.zeros((3, 0, 2)),
    "bytes": np.arange(100, dtype="u1"),
    "bytes in two dimensions": np.zeros((10, 10), "u1"),
    "dates": np.arange("2020-01", "2020-09", dtype="M8[D]"),
    "fields": np.zeros(5, [("x", "<f8"), ("y", "S3")]),
    "wide": np.zeros(3, WIDE),
    "large": np.ones((300, 400)),
    "large and wide": np.ones(3000, "<i4").reshape(75, 40).view(WIDE),
}


def same(block, array):
    assert block.shape == array.shape
    assert block.dtype == array.dtype
    assert block.ndim == array.ndim
    assert block.nbytes == array.nbytes
    assert block.array.flags.f_contiguous == array.flags.f_contiguous
    assert (block.array == array).all()


@pytest.mark.parametrize("name", ARRAYS)
def test_every_way_gives_back_what_was_put(arena, name):
    array = ARRAYS[name]
    block = arena.put(array)
    same(block, array)
    same(arena.get(block.handle), array)
    same(pickle.loads(pickle.dumps(block)), array)
    same(block.weak().get(), array)
    same(pickle.loads(pickle.dumps(block.weak())).get(), array)
    channel = arena.channel()
    channel.put(block)
    same(channel.get(), array)


def test_a_handle_is_enough_in_another_process(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        for array in ARRAYS.values():
            block = arena.put(array)
            program = (
                "import flagstone, sys\n"
                f"arena = flagstone.open({arena_name!r}, create=False)\n"
                f"handle = bytes.fromhex({bytes(block.handle).hex()!r})\n"
                "block = arena.get(flagstone.Handle(handle))\n"
                "print(block.shape, block.dtype.descr, block.array.flags.f_contiguous)\n"
                "print(block.array.tobytes('A').hex())\n"
            )
            out = subprocess.run(
                [sys.executable, "-c", program], capture_output=True, text=True, check=True
            ).stdout.splitlines()
            assert out[0] == f"{array.shape} {array.dtype.descr} {array.flags.f_contiguous}"
            assert out[1] == array.tobytes("A").hex()


def test_empty(arena):
    block = arena.empty((3, 4))
    assert (block.shape, block.dtype, block.array.flags.c_contiguous) == ((3, 4), np.float64, True)
    block = arena.empty(5, "u2", order="F")
    assert (block.shape, block.dtype, len(block)) == ((5,), np.uint16, 5)
    block = arena.empty((2, 3), "i4", order="F")
    assert block.array.flags.f_contiguous
    assert arena.get(block.handle).array.flags.f_contiguous
    block = arena.empty(7, ("<f4", (2, 2)))
    assert (block.shape, block.dtype) == ((7, 2, 2), np.float32)
    block = arena.empty([np.int64(2), 3], np.dtype("u1"))
    assert block.shape == (2, 3)
    block[1] = 9
    assert (block[1] == 9).all()


def test_zeros(arena):
    for shape in (16, (300, 400)):
        arena.put(np.full(shape, 7.0))  # dropped at once
        block = arena.zeros(shape)
        assert block.shape == np.zeros(shape).shape
        assert not block.array.any()
    assert arena.zeros(3, WIDE).array.tobytes() == bytes(3 * WIDE.itemsize)


def test_empty_like(arena):
    for array in ARRAYS.values():
        block = arena.empty_like(array)
        assert (block.shape, block.dtype) == (array.shape, array.dtype)
        assert block.array.flags.f_contiguous == array.flags.f_contiguous
    block = arena.empty_like(ARRAYS["Fortran"], "f8", order="C")
    assert (block.shape, block.dtype) == (ARRAYS["Fortran"].shape, np.float64)
    assert block.array.flags.c_contiguous
    assert arena.empty_like(block).shape == block.shape


@pytest.mark.parametrize(
    ("shape", "dtype", "order", "error"),
    [
        ((2, -1), "f8", "C", ValueError),
        ("2", "f8", "C", TypeError),
        (2.0, "f8", "C", TypeError),
        ((1,) * 33, "f8", "C", ValueError),
        (2**62, "f8", "C", ValueError),
        (2, "O", "C", TypeError),
        (2, np.dtype("f8", metadata={"unit": "m"}), "C", TypeError),
        (2, "f8", "K", ValueError),
    ],
)
def test_what_makes_no_sense(arena, shape, dtype, order, error):
    with pytest.raises(error):
        arena.empty(shape, dtype, order=order)
    assert arena.used == 0


def test_a_masked_array_is_refused(arena):
    with pytest.raises(TypeError, match="mask"):
        arena.empty_like(np.ma.zeros(3))


def test_charged_to_a_group(arena):
    with arena.group("g", limit="1MiB") as group:
        block = arena.zeros((1000, 10), group=group)
        assert block.group == group
        with pytest.raises(flagstone.GroupLimitExceeded):
            arena.empty(2**20, group=group)
    with pytest.raises(flagstone.Closed):
        arena.empty(3, group=group)


def test_in_a_coroutine(arena):
    async def main():
        block = await arena.aempty((3, 4), "i4", zero=True)
        assert not block.array.any()
        return block.shape

    assert asyncio.run(main()) == (3, 4)


def test_more_formats_than_there_is_room_for(arena):
    """Shapes that come once each: all are found again, by their handles."""
    handles, kept = [], []
    for n in range(9000):  # there is room for 8,190
        kept.append(arena.put(np.full(n % 7 + 1, n, np.int32).reshape((1,) * (n % 5) + (-1,))))
        kept[-1] = arena.empty((n + 1, 0), "i4") if n % 3 else kept[-1]
        handles.append((kept[-1].handle, kept[-1].shape))
    for handle, shape in handles:
        assert arena.get(handle).shape == shape
    again = arena.empty((9001, 0), "i4")
    assert arena.get(again.handle).shape == (9001, 0)


def test_damage_behind_the_bytes(arena):
    block = arena.put(ARRAYS["wide"])  # whose description is too long for the arena's table
    ctypes.memset(block._address + block.nbytes, 255, 1000)
    with pytest.raises(flagstone.ArenaCorrupted, match="overwritten"):
        arena.get(block.handle)
    assert arena.put(ARRAYS["C"]).shape == ARRAYS["C"].shape
