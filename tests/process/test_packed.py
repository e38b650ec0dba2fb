"""`flagstone.pack()`, `pack_arrays()`: sequences of many small things over two Blocks."""

import multiprocessing
import pickle
import time
from collections.abc import Sequence

import numpy as np
import pytest

import flagstone
from tests.process.support import PATIENCE, assert_all_given_back

RECORDS = [{"id": n, "text": "x" * (n % 50), "label": n % 7} for n in range(1000)]


def total(packed):
    return sum(one["id"] for one in packed)


def sum_of(arrays):
    return int(sum(one.sum() for one in arrays))


class TestPack:
    def test_a_sequence_of_equal_things(self, arena):
        packed = flagstone.pack(arena, iter(RECORDS))
        assert isinstance(packed, Sequence)
        assert len(packed) == 1000
        assert list(packed) == RECORDS
        assert packed[-1] == RECORDS[-1]
        assert packed[np.int64(5)] == RECORDS[5]
        assert RECORDS[500] in packed
        assert packed.index(RECORDS[7]) == 7
        assert next(reversed(packed)) == RECORDS[-1]
        assert "1,000 items" in repr(packed)
        assert packed.nbytes == sum(block.nbytes for block in packed.blocks)

    @pytest.mark.parametrize("part", [np.s_[10:20], np.s_[::-3], np.s_[990:2000], np.s_[5:5]])
    def test_slices(self, arena, part):
        packed = flagstone.pack(arena, RECORDS)
        assert list(packed[part]) == RECORDS[part]
        assert list(packed[part][::2]) == RECORDS[part][::2]
        assert list(pickle.loads(pickle.dumps(packed[part]))) == RECORDS[part]

    def test_wrong_indexes(self, arena):
        packed = flagstone.pack(arena, RECORDS[:10])
        for index in (10, -11, 1 << 70):
            with pytest.raises(IndexError, match="none of 10"):
                packed[index]
        for index in ("a", None, 1.0, [1]):
            with pytest.raises(TypeError, match="integer or a slice"):
                packed[index]

    @pytest.mark.parametrize("pack", [flagstone.pack, flagstone.pack_arrays])
    def test_one_wait_for_both_blocks(self, arena, pack):
        waits = []

        class Slow:
            def put(self, value, *, group, wait):
                waits.append(wait)
                time.sleep(0.25)
                return arena.put(value, group=group)

            def alloc(self, nbytes, *, group, wait):
                waits.append(wait)
                return arena.alloc(nbytes, group=group)

        assert len(pack(Slow(), [np.zeros(3)], wait=10)) == 1
        assert waits[0] == 10
        assert 0 <= waits[1] <= 9.75
        pack(Slow(), [np.zeros(3)], wait=0.1)
        assert waits[3] == 0
        pack(Slow(), [np.zeros(3)])
        assert waits[5] is None

    @pytest.mark.parametrize("items", [[], [None], [b""], ["", "é", "x" * 100_000]])
    def test_odd_items(self, arena, items):
        assert list(flagstone.pack(arena, items)) == items

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_other_processes_read_it(self, arena, method):
        packed = flagstone.pack(arena, RECORDS)
        with multiprocessing.get_context(method).Pool(2) as pool:
            halves = [packed[:500], packed[500:]]
            assert sum(pool.map_async(total, halves).get(PATIENCE)) == total(RECORDS)
            pool.close()
            pool.join()
        del packed, halves
        assert_all_given_back(arena)

    def test_nothing_is_allocated_for_what_cannot_be_packed(self, arena):
        block = arena.put(b"x")
        group, channel = arena.group("g"), arena.channel("c")
        used = arena.used
        with pytest.raises(Exception, match=r"pickle|local object"):
            flagstone.pack(arena, [1, 2, lambda: None])
        deep = [{"deep": [block]}, ("x", block[:1]), [group], {1: channel}]
        for one in (block, block[:1], *deep):
            with pytest.raises(TypeError, match="weak"):
                flagstone.pack(arena, [1, one])
        assert arena.in_flight() == []
        with pytest.raises(TypeError):
            flagstone.pack(arena, 5)
        arena.barrier(PATIENCE)
        assert arena.used == used

    def test_charged_to_a_group(self, arena):
        with arena.group("g", limit="1MiB") as group:
            packed = flagstone.pack(arena, RECORDS[:100], group=group)
            assert group.usage >= packed.nbytes
            with pytest.raises(flagstone.GroupLimitExceeded):
                flagstone.pack(arena, ["x" * 1000] * 2000, group=group)
            assert group.usage < 1 << 20
            del packed

    def test_views_outlive_the_sequence_and_the_arena(self, arena):
        first = flagstone.pack_arrays(arena, [np.arange(10)])[0]
        arena.close()
        assert first.sum() == 45


class TestPackArrays:
    @pytest.mark.parametrize(
        "arrays",
        [
            [np.arange(n, dtype="u2") for n in (3, 0, 7)],
            [np.ones((n, 4)) for n in (1, 5)],
            [np.float32(1), np.float32(2)],
            [np.zeros(2, [("a", "i4"), ("b", "U5")])],
            [np.asfortranarray(np.arange(12).reshape(3, 4))],
            [np.arange("2000-01-01", "2000-02-01", dtype="M8[D]")],
        ],
        ids=["lengths", "rows", "scalars", "records", "F", "dates"],
    )
    def test_equal_arrays(self, arena, arrays):
        packed = flagstone.pack_arrays(arena, arrays)
        assert packed.dtype == arrays[0].dtype
        for sequence in (packed, pickle.loads(pickle.dumps(packed))):
            for one, other in zip(sequence, arrays, strict=True):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype

    def test_views(self, arena):
        packed = flagstone.pack_arrays(arena, [np.arange(5), np.arange(3)])
        packed[1][:] = -1
        assert packed[-1].tolist() == [-1] * 3
        part = pickle.loads(pickle.dumps(packed[0]))
        part[0] = 9
        assert packed[0][0] == 9
        assert packed[0].block.handle == packed.blocks[1].handle

    @pytest.mark.parametrize(
        ("arrays", "why"),
        [
            ([], "no dtype"),
            ([np.zeros(2), np.zeros(2, "i4")], "number 1 is int32"),
            ([np.zeros(2), np.zeros((2, 2))], "with 2"),
        ],
    )
    def test_differing_ones(self, arena, arrays, why):
        used = arena.used
        with pytest.raises(ValueError, match=why):
            flagstone.pack_arrays(arena, arrays)
        assert arena.used == used

    def test_what_has_no_bytes(self, arena):
        with pytest.raises(TypeError):
            flagstone.pack_arrays(arena, [np.array([None])])
        with pytest.raises(TypeError, match="mask"):
            flagstone.pack_arrays(arena, [np.ma.masked_array([1], [True])])

    def test_another_process(self, arena):
        packed = flagstone.pack_arrays(arena, [np.full(n, n) for n in range(100)])
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(sum_of, (packed,)) == sum(n * n for n in range(100))
            pool.close()
            pool.join()
        del packed
        assert_all_given_back(arena)
