"""Caches of records with many columns: a description of any length."""

import pickle

import numpy as np
import pytest

import flagstone


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena
        arena.barrier(30)
        assert arena.check() == []


def catalogue(columns, name="column"):
    return np.dtype([(f"{name}_{number:05d}_mag", "f4") for number in range(columns)])


@pytest.mark.parametrize("columns", [1, 36, 37, 38, 39, 40, 41, 42, 43, 44, 60, 300, 3000])
def test_any_number_of_columns(arena, columns):
    dtype = catalogue(columns)
    rows = arena.cache("rows", shape=3, dtype=dtype)
    assert (rows.dtype, rows.shape) == (dtype, (3,))
    block = rows.alloc(zero=True)
    block.array[dtype.names[-1]] = [1, 2, 3]
    # What arrives is looked up in the arena.
    arena.caches[0]._link.attachment.formats.clear()
    for again in (pickle.loads(pickle.dumps(block)), arena.get(block.handle)):
        assert again.array.dtype == dtype
        assert again.array[dtype.names[-1]].tolist() == [1, 2, 3]
    assert arena.cache("rows", shape=3, dtype=dtype) == rows
    assert [cache.dtype for cache in arena.caches] == [dtype]
    assert any(str(dtype) == str(cache.dtype) for cache in arena.snapshot().caches)


def test_what_differs_at_the_end_only(arena):
    one, other = catalogue(300), catalogue(300)
    other = np.dtype([*one.descr[:-1], ("another", "f4")])
    rows = arena.cache("rows", shape=3, dtype=one)
    with pytest.raises(flagstone.CacheMismatch):
        arena.cache("rows", shape=3, dtype=other)
    same = arena.cache("same", shape=3, dtype=one)
    unlike = arena.cache("unlike", shape=3, dtype=other)
    assert same.merged_into == "rows"
    assert unlike.merged_into is None
    rows.destroy()
    assert same.dtype == one
    assert same.alloc().array.dtype == one
    assert arena.cache("same", shape=3, dtype=one) == same


def test_with_initial_content(arena):
    dtype = catalogue(300)
    rows = arena.cache("rows", shape=2, dtype=dtype, init=np.ones(2, dtype))
    assert (rows.alloc().array == np.ones(2, dtype)).all()
    with pytest.raises(flagstone.CacheMismatch):
        arena.cache("rows", shape=2, dtype=dtype)


def test_its_memory_is_given_back(arena):
    for _ in range(20):
        arena.cache("rows", shape=2, dtype=catalogue(3000)).destroy().wait(30)
    assert arena.used == 0


def test_no_room_for_it(arena_name):
    with flagstone.open(arena_name, capacity="64KiB") as arena:
        with pytest.raises(flagstone.ArenaFull):
            arena.cache("rows", shape=1, dtype=catalogue(10_000))
        assert arena.used == 0
