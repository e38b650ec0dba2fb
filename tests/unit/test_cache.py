"""Cache: parameters, allocation, merging, ending."""

import pickle
from itertools import pairwise

import numpy as np
import pytest

import flagstone


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena
        assert arena.check() == []


def test_parameters(arena):
    cache = arena.cache("frame", shape=(4, 3), dtype="<f8")
    assert (cache.name, cache.size, cache.shape) == ("frame", 96, (4, 3))
    assert cache.dtype == np.dtype("<f8")
    assert cache.align == 32
    assert cache.flags == frozenset()
    assert (cache.merged_into, cache.aliases) == (None, [])
    assert cache.stats.allocated == 0
    assert repr(cache) == "<Cache 'frame' of float64 (4, 3), 96 B>"
    plain = arena.cache("plain", size="1KiB", merge=False)
    assert (plain.size, plain.shape, plain.dtype) == (1024, None, None)
    assert plain.align == 64
    assert plain.flags == {"no_merge"}
    assert arena.cache("rcu", size=8, typesafe_by_rcu=True).flags >= {"typesafe_by_rcu"}


def test_opening_again_is_the_same(arena):
    first = arena.cache("a", shape=(2,), dtype="i4")
    assert arena.cache("a", shape=2, dtype=np.int32) == first
    assert hash(arena.cache("a", shape=[2], dtype=int) if np.dtype(int) == "i4" else first) == hash(
        first
    )
    assert arena.caches == [first]
    assert first != arena.cache("b", shape=(2,), dtype="i4", merge=False)


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (3,), "dtype": "i4"},
        {"shape": (2,), "dtype": "u4"},
        {"shape": (2, 1), "dtype": "i4"},
        {"size": 8},
        {"shape": (2,), "dtype": "i4", "align": 64},
        {"shape": (2,), "dtype": "i4", "typesafe_by_rcu": True},
        {"shape": (2,), "dtype": "i4", "init": b"x"},
    ],
)
def test_other_parameters_are_a_mismatch(arena, other):
    cache = arena.cache("a", shape=(2,), dtype="i4")
    with pytest.raises(flagstone.CacheMismatch):
        arena.cache("a", **other)
    assert arena.caches == [cache]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"size": 8, "shape": (8,), "dtype": "u1"}, ValueError),
        ({"shape": (8,)}, ValueError),
        ({"dtype": "u1"}, ValueError),
        ({"size": 8, "dtype": "u1"}, ValueError),
        ({"size": 0}, ValueError),
        ({"size": -1}, ValueError),
        ({"size": True}, TypeError),
        ({"size": 1.5}, TypeError),
        ({"size": "1 GiB"}, ValueError),
        ({"size": 2**62}, ValueError),
        ({"shape": (0,), "dtype": "u1"}, ValueError),
        ({"shape": (2,), "dtype": "S0"}, ValueError),
        ({"shape": (-1,), "dtype": "u1"}, ValueError),
        ({"shape": (2,), "dtype": "O"}, TypeError),
        ({"shape": (2,), "dtype": "nonsense"}, TypeError),
        ({"size": 8, "align": 3}, ValueError),
        ({"size": 8, "align": 0}, ValueError),
        ({"size": 8, "align": -8}, ValueError),
        ({"size": 8, "align": 2**40}, ValueError),
        ({"size": 8, "align": 8.0}, TypeError),
        ({"size": 8, "init": b"123456789"}, ValueError),
        ({"size": 8, "init": "text"}, TypeError),
    ],
)
def test_parameters_that_make_no_sense(arena, arguments, error):
    with pytest.raises(error):
        arena.cache("a", **arguments)
    assert arena.caches == []


@pytest.mark.parametrize("size", [1, 7, 8, 24, 100, 4096, 5000, 65536, 100_000, 10_000_000])
def test_objects_are_apart_and_aligned(arena, size):
    cache = arena.cache("a", size=size)
    blocks = cache.alloc_many(5)
    starts = sorted(block.array.ctypes.data for block in blocks)
    assert all(second - first >= size for first, second in pairwise(starts))
    assert all(start % cache.align == 0 for start in starts)
    for number, block in enumerate(blocks):
        block.array[:] = number
    assert (
        [set(block.array.tolist()) for block in blocks[:2]] == [{0}, {1}] if size < 9999 else True
    )
    assert cache.stats.allocated == 5
    del blocks, block
    assert cache.stats.allocated == 0


@pytest.mark.parametrize("align", [1, 8, 64, 4096, 65536])
def test_alignment(arena, align):
    cache = arena.cache("a", size=10, align=align)
    assert cache.align == max(align, 8)
    for block in cache.alloc_many(20):
        assert block.array.ctypes.data % align == 0


def test_init(arena):
    cache = arena.cache("a", size=10, init=b"abc")
    for block in cache.alloc_many(2000):
        assert bytes(block) == b"abc\0\0\0\0\0\0\0"
    typed = arena.cache("b", shape=3, dtype="i4", init=np.arange(3, dtype="i4"))
    assert typed.alloc().array.tolist() == [0, 1, 2]


def test_zero(arena):
    for size in (10, 1_000_000):
        cache = arena.cache(f"c{size}", size=size)
        block = cache.alloc()
        block.array[:] = 255
        del block
        assert not cache.alloc(zero=True).array.any()


def test_alloc_many(arena):
    cache = arena.cache("a", size=1000, merge=False)
    assert cache.alloc_many(0) == []
    blocks = cache.alloc_many(np.int64(1000))
    assert len({block.handle for block in blocks}) == 1000
    assert cache.stats.allocated == 1000
    del blocks
    with pytest.raises(flagstone.ArenaFull):
        cache.alloc_many(60_000_000)
    with pytest.raises(flagstone.ArenaFull):
        cache.alloc_many(arena.capacity // 1000)
    assert cache.stats.allocated == 0
    with pytest.raises(ValueError, match="at least 0"):
        cache.alloc_many(-1)
    with pytest.raises(TypeError):
        cache.alloc_many(1.5)
    with arena.group() as group:
        blocks = cache.bind(group).alloc_many(3)
        assert {block.group for block in blocks} == {group}
        del blocks


def test_bind(arena):
    cache = arena.cache("a", shape=2, dtype="u1")
    with arena.group("g") as group:
        bound = cache.bind(group)
        assert bound is cache.bind(group)
        assert (bound.cache, bound.group) == (cache, group)
        block = bound.alloc(zero=True)
        assert (block.cache, block.group) == (cache, group)
        assert block.array.tolist() == [0, 0]
        del block
        assert "'a'" in repr(bound)
        assert "'g'" in repr(bound)
    with pytest.raises(flagstone.Closed):
        bound.alloc()
    assert cache.bind().group == arena.root_group
    for wrong in ("g", 1, arena):
        with pytest.raises(TypeError, match="Group"):
            cache.bind(wrong)


def test_a_bound_cache_holds_the_group_open(arena):
    cache = arena.cache("a", size=8)
    bound = cache.bind(arena.group("g"))
    arena.barrier()
    bound.alloc()
    assert arena.groups[0].state == "live"


def test_a_group_of_another_arena(arena, arena_name):
    cache = arena.cache("a", size=8)
    with flagstone.open(arena_name + "-b") as other, other.group("g") as group:
        for call in (
            lambda: cache.alloc(group),
            lambda: arena.alloc(1, group=group),
            lambda: arena.put(b"x", group=group),
            lambda: arena.group("h", parent=group),
            lambda: arena.drop_in_flight(group=group),
        ):
            with pytest.raises(ValueError, match="another arena"):
                call()


def test_merging(arena):
    first = arena.cache("first", size=48)
    second = arena.cache("second", size=48)
    assert (first.merged_into, first.aliases) == (None, ["second"])
    assert (second.merged_into, second.aliases) == ("first", [])
    block = second.alloc()
    assert block.cache == first
    assert sorted(cache.name for cache in arena.caches) == ["first", "second"]
    assert first.stats == second.stats
    ticket = second.destroy()
    assert ticket.done
    assert ticket.wait(0)
    assert ticket.released_bytes == 0
    for call in (second.alloc, second.destroy, second.bind, lambda: second.stats):
        with pytest.raises(flagstone.Closed):
            call()
    assert first.aliases == []
    assert block.cache == first
    first.alloc()
    with pytest.raises(flagstone.CacheBusy):
        first.destroy()


def test_an_alias_outlives_the_name_it_was_merged_into(arena):
    first = arena.cache("first", size=48)
    second = arena.cache("second", size=48)
    third = arena.cache("third", size=48)
    block = first.alloc()
    assert first.destroy().done
    assert (second.merged_into, second.aliases) == (None, ["third"])
    assert third.merged_into == "second"
    assert block.cache == second
    assert arena.get(block.handle).cache == second
    assert {one.name: one.state for one in arena.snapshot().caches} == {
        "second": "live",
        "third": "alias",
    }
    again = arena.cache("first", size=48, merge=False)
    assert (again.merged_into, again.stats.allocated) == (None, 0)
    second.destroy()
    assert third.merged_into is None
    with pytest.raises(flagstone.CacheBusy):
        third.destroy()
    del block
    third.destroy().wait(10)
    assert [cache.name for cache in arena.caches] == ["first"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"merge": False},
        {"typesafe_by_rcu": True},
        {"init": b"x"},
        {"align": 4096},
        {"size": 49},
    ],
)
def test_what_is_never_merged(arena, parameters):
    plain = arena.cache("plain", size=48)
    other = arena.cache("other", **{"size": 48, **parameters})
    last = arena.cache("last", **{"size": 48, **parameters})
    assert other.merged_into is None
    # Those that are only of another size or alignment are merged among themselves.
    assert last.merged_into == ("other" if parameters.keys() & {"align", "size"} else None)
    assert plain.aliases == []


def test_caches_of_different_dtypes_are_not_merged(arena):
    first = arena.cache("first", shape=4, dtype="u1")
    second = arena.cache("second", shape=1, dtype="f4")
    assert second.merged_into is None
    block = second.alloc(zero=True)
    assert arena.get(block.handle).array.dtype == "f4"
    del block
    assert first.aliases == []


def test_destroy(arena):
    cache = arena.cache("a", size=1000)
    block = cache.alloc()
    with pytest.raises(flagstone.CacheBusy):
        cache.destroy()
    assert block.array.shape == (1000,)
    cache.alloc()
    del block
    ticket = cache.destroy()
    # The name is free at once.
    again = arena.cache("a", size=8)
    assert again != cache
    for call in (cache.alloc, cache.destroy, lambda: cache.stats, cache.bind().alloc):
        with pytest.raises(flagstone.Closed):
            call()
    assert ticket.wait(10)
    assert ticket.done
    assert ticket.batch >= 0
    assert ticket.released_bytes >= 4096
    assert "'a'" in repr(ticket)
    again.alloc()


def test_shrink(arena):
    cache = arena.cache("a", size=4096, merge=False)
    blocks = cache.alloc_many(1000)
    used = arena.used
    del blocks
    arena.barrier()
    assert cache.shrink() >= 0
    assert arena.used < used
    cache.alloc()


def test_many_caches(arena):
    used = arena.used
    for number in range(2000):
        cache = arena.cache("transient", size=64 + 8 * (number % 5), merge=False)
        cache.alloc().array[:] = 1
        cache.destroy()
    arena.barrier()
    assert arena.used == used
    assert arena.caches == []


# ---- another cache under the same name


def test_a_mismatch_says_what_there_is_and_what_to_do(arena):
    arena.cache("frame", shape=(576, 1024), dtype="u1")
    with pytest.raises(flagstone.CacheMismatch) as caught:
        arena.cache("frame", shape=(720, 1280), dtype="u1")
    for word in (
        "'frame'",
        "(576, 1024)",
        "(720, 1280)",
        "uint8",
        "576 KiB",
        "900 KiB",
        "replace=True",
    ):
        assert word in str(caught.value)
    arena.cache("raw", size=5000, align=8)
    for other, words in {
        "size": ({"size": 5001}, ["4.9 KiB (5000 bytes)", "4.9 KiB (5001 bytes)"]),
        "align": ({"size": 5000, "align": 128}, ["aligned to 8", "128"]),
        "rcu": ({"size": 5000, "align": 8, "typesafe_by_rcu": True}, ["TYPESAFE_BY_RCU"]),
        "init": ({"size": 5000, "align": 8, "init": b"x"}, ["initial content"]),
    }.values():
        with pytest.raises(flagstone.CacheMismatch) as caught:
            arena.cache("raw", **other)
        for word in [*words, "replace=True"]:
            assert word in str(caught.value)


def test_replace(arena):
    old = arena.cache("frame", shape=(4, 4), dtype="u1")
    bound = old.bind(arena.group("g"))
    assert arena.cache("frame", shape=(4, 4), dtype="u1", replace=True) == old
    block = bound.alloc()
    block.array[:] = 7
    message, handle = pickle.dumps(block), block.handle
    new = arena.cache("frame", shape=(8, 8), dtype="u1", init=b"new", replace=True)
    assert new != old
    assert [cache for cache in arena.caches if cache.name == "frame"] == [new]
    for call in (old.alloc, bound.alloc, old.bind, lambda: bound.alloc_many(2)):
        with pytest.raises(flagstone.Closed, match="open it again"):
            call()
    assert bytes(new.alloc())[:3] == b"new"
    # What lives goes on, with the shape that it has.
    assert pickle.loads(message).array.shape == (4, 4)
    assert arena.get(handle).array.sum() == 7 * 16
    assert block.cache == old
    assert old.stats.allocated == 1
    assert old.shrink() == 0
    states = {info.size: info.state for info in arena.snapshot().caches if info.name == "frame"}
    assert states == {16: "retired", 64: "live"}
    with pytest.raises(flagstone.CacheBusy, match="frame"):
        old.destroy()
    assert arena.check() == []
    del block
    arena.barrier()
    # It has gone by itself, and so did what destroy() is for.
    assert old.destroy().wait(10)
    with pytest.raises(flagstone.Closed):
        old.stats
    arena.cache("frame", size=5, replace=True)


def test_replace_a_merged_name(arena):
    one, two = (arena.cache(name, size=64) for name in ("one", "two"))
    block = one.alloc()
    arena.cache("one", size=128, replace=True)
    arena.cache("three", size=64)
    assert block.cache == two
    assert one.destroy().done
    two.alloc()
    with pytest.raises(flagstone.Closed):
        one.alloc(arena.group("new"))


# ---- pickles


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(arena, protocol):
    cache = arena.cache("a", shape=(2, 3), dtype=[("x", "<f4"), ("y", "u1")], align=16)
    message = pickle.dumps(cache, protocol)
    for _ in range(3):
        again = pickle.loads(message)
        assert again == cache
        assert (again.shape, again.dtype, again.align) == (cache.shape, cache.dtype, cache.align)
        assert again.alloc().array.shape == (2, 3)
    assert arena.in_flight() == []


def test_a_pickle_of_one_that_has_gone_is_the_one_of_its_name(arena):
    cache = arena.cache("a", size=64, init=b"content", merge=False)
    message = pickle.dumps(cache)
    cache.destroy().wait(10)
    again = pickle.loads(message)
    assert again != cache
    assert again.flags == {"no_merge"}
    assert bytes(again.alloc())[:7] == b"content"
    again.destroy().wait(10)
    arena.cache("a", size=65)
    with pytest.raises(flagstone.CacheMismatch):
        pickle.loads(message)


def test_a_pickle_that_cannot_make_it_anew_says_so(arena):
    for cache in (
        arena.cache("long", size=100_000, init=bytes(70_000)),
        pickle.loads(pickle.dumps(arena.cache("looked", size=64))),
    ):
        looked = next(one for one in arena.caches if one == cache)
        message = pickle.dumps(looked)
        cache.destroy().wait(10)
        with pytest.raises(flagstone.Closed, match="was destroyed"):
            pickle.loads(message)


def test_bound_caches_pickle(arena):
    cache = arena.cache("a", size=64)
    root = pickle.loads(pickle.dumps(cache.bind()))
    assert root.alloc().group == arena.root_group
    with arena.group("job", limit="1MiB") as group:
        message = pickle.dumps(cache.bind(group))
        assert [one.is_group for one in arena.in_flight()] == [True]
        bound = pickle.loads(message)
        assert (bound.cache, bound.group) == (cache, group)
        assert bound.alloc().group == group
        assert arena.in_flight() == []


def test_more_objects_than_can_be_counted_in_bytes(arena):
    bound = arena.cache("thing", size=64).bind()
    with pytest.raises(MemoryError):
        bound._attempt_many(1 << 61, 0)
