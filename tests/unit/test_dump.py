"""Any object in one Block."""

import asyncio
import gc
import pickle
import subprocess
import sys

import numpy as np
import pytest

import flagstone


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena
        assert arena.check() == []


def address(array):
    return array.__array_interface__["data"][0]


def test_buffers_are_not_copied_and_cannot_be_written(arena):
    value = {"small": np.arange(3), "large": np.ones((300, 400), "f4", order="F"), "text": "x"}
    block = arena.dump(value)
    back = block.load()
    assert back["text"] == "x"
    for name in ("small", "large"):
        assert (back[name] == value[name]).all()
        assert not back[name].flags.writeable
        assert address(back[name]) % 64 == 0
        assert flagstone.block_of(back[name])[0].handle == block.handle
    assert back["large"].flags.f_contiguous
    again = block.load()
    assert address(again["large"]) == address(back["large"])


def test_writable(arena):
    block = arena.dump([np.zeros(1000)])
    (one,), (two,) = block.load(writable=True), block.load()
    one[7] = 3
    assert two[7] == 3


def test_what_was_read_only_stays_so(arena):
    source = np.zeros(1000)
    source.flags.writeable = False
    (back,) = arena.dump([source]).load(writable=True)
    assert not back.flags.writeable


def test_buffers_outlive_the_block(arena):
    block = arena.dump([np.arange(1000)])
    (back,) = block.load()
    block.free()
    del block
    assert (back == np.arange(1000)).all()
    del back
    gc.collect()
    arena.barrier()
    assert arena.used == 0


@pytest.mark.parametrize("value", [None, 7, "text", b"", [], np.zeros((0, 3)), {"a": [1, {2}]}])
def test_any_object(arena, value):
    back = pickle.loads(pickle.dumps(arena.dump(value))).load()
    assert repr(back) == repr(value)


def test_by_handle_in_another_process(arena, arena_name):
    block = arena.dump({"a": np.arange(5), "b": (1, 2)})
    program = (
        "import flagstone\n"
        f"arena = flagstone.open({arena_name!r}, create=False, readonly=True)\n"
        f"block = arena.get(flagstone.Handle(bytes.fromhex({bytes(block.handle).hex()!r})))\n"
        "print(block.load())\n"
        "try:\n"
        "    block.load(writable=True)\n"
        "except flagstone.ReadOnly:\n"
        "    print('read-only')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{block.load()}\nread-only\n", "")


def test_of_what_cannot_be_pickled_nothing_is_left(arena):
    inner = arena.put(np.zeros(10))
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        arena.dump([inner, lambda: None])
    assert arena.in_flight() == []
    del inner
    arena.barrier()
    assert arena.used == 0


def test_without_room_what_went_along_is_given_up(arena):
    with arena.group("g", limit="1MiB") as group:
        inner = arena.put(np.zeros(10))
        with pytest.raises(flagstone.GroupLimitExceeded):
            arena.dump([inner, np.zeros(2**18)], group=group)
    assert arena.in_flight() == []


def test_a_block_in_it(arena):
    inner = arena.put(np.arange(10))
    (back,) = arena.dump([inner]).load()
    assert back.handle == inner.handle


def test_in_a_coroutine(arena):
    async def main():
        return (await arena.adump([1, 2])).load()

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(3, "u1"), np.zeros(300, "u1"), b""])
def test_what_was_not_dumped_is_refused(arena, value):
    with pytest.raises(TypeError, match="nothing was dumped"):
        arena.put(value).load()


def test_damage(arena):
    for where in range(8, 48):
        block = arena.dump([np.zeros(1000)])
        block.array[where] = 255
        try:
            block.load()
        except (flagstone.ArenaCorrupted, pickle.UnpicklingError, EOFError, ValueError):
            pass
    block.array[8:16] = 255
    with pytest.raises(flagstone.ArenaCorrupted, match="overwritten"):
        block.load()


def test_a_store_does_the_same(arena):
    store = arena.store("s")
    store["k"] = {"a": np.arange(1000)}
    assert (store["k"]["a"] == np.arange(1000)).all()
    assert (store.block("k").load()["a"] == np.arange(1000)).all()
    store.destroy()
