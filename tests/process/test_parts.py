"""Parts of Blocks, and the way back from arrays; weak names, which may be pickled at will."""

import copy
import gc
import pickle

import numpy as np
import pytest

import flagstone
from tests.process.support import assert_all_given_back, kept


def matrix(arena):
    return arena.put(np.arange(1200, dtype="i4").reshape(40, 30))


def fill(part, value):
    part[...] = value
    return type(part).__name__, part.shape, part.strides, part.offset


def loaded(message):
    return pickle.loads(message).copy().tolist()


def keep(value):
    kept["value"] = value


def look_at_kept():
    return np.array(kept["value"])


INDEXES = [
    np.s_[10:20],
    np.s_[::-1, ::3],
    np.s_[5],
    np.s_[5, 6],
    np.s_[..., 2:4],
    np.s_[None, 3:5],
    np.s_[0:0],
]


class TestParts:
    @pytest.mark.parametrize("index", INDEXES, ids=repr)
    def test_the_receiver_looks_at_the_same_bytes(self, arena, worker, index):
        block = matrix(arena)
        part = block.part(index)
        expected = block.array[index]
        np.testing.assert_array_equal(part, expected)
        assert part.block is block
        assert worker(fill, part, -7) == ("Part", part.shape, part.strides, part.offset)
        assert (block.array[index] == -7).all()
        assert np.count_nonzero(block.array == -7) == expected.size
        assert arena.in_flight() == []

    def test_subscript_is_what_the_array_has(self, arena):
        block = matrix(arena)
        assert isinstance(block[10:20], flagstone.Part)
        assert isinstance(block[10:20], np.ndarray)
        assert np.shares_memory(block[10:20], block.array)
        assert block[3, 4] == block.array[3, 4]
        assert not isinstance(block[3, 4], np.ndarray)
        assert type(block[[1, 2]]) is np.ndarray
        block[0, :2] = 5
        assert block.array[0, :2].tolist() == [5, 5]
        with pytest.raises(IndexError):
            block[40]

    def test_what_would_copy_is_no_part(self, arena):
        block = matrix(arena)
        for index in ([1, 2], np.array([1, 2]), block.array > 3, (slice(3), [1])):
            with pytest.raises(TypeError, match="copy"):
                block.part(index)

    def test_a_field_of_a_structured_array(self, arena, worker):
        block = arena.put(np.zeros(10, [("a", "u1"), ("b", "f8")]))
        worker(fill, block.part("b"), 2.5)
        assert block.array["b"].tolist() == [2.5] * 10
        assert block.array["a"].tolist() == [0] * 10
        del block
        assert_all_given_back(arena)

    def test_views_of_parts_are_parts_and_results_are_not(self, arena):
        block = matrix(arena)
        part = block[10:20]
        assert part[2:4].block is block
        assert part.T[1:].offset == part.offset + 4
        for result in (part + 1, part == part, np.sqrt(part), part.array):
            assert type(result) is np.ndarray
        assert isinstance(part.sum(), np.integer)
        part += 1
        assert isinstance(part, flagstone.Part)
        np.add(part, 1, out=part)
        assert part.block is block

    def test_a_copy_of_a_part_travels_by_value(self, arena, worker):
        block = matrix(arena)
        part = block[10:20]
        for duplicate in (part.copy(), copy.deepcopy(part), part.astype("f8"), np.sort(part)):
            message = pickle.dumps(duplicate)
            assert arena.in_flight() == []
            assert worker(loaded, message) == duplicate.tolist()
        with pytest.raises(LookupError):
            _ = part.copy().block

    def test_several_in_one_pickle_are_one_message(self, arena):
        block = matrix(arena)
        message = pickle.dumps((block, block[1:3], block[5:], [block[7]]))
        assert len(arena.in_flight()) == 1
        again, first, second, (third,) = pickle.loads(message)
        assert {id(one.block) for one in (first, second, third)} == {id(again)}
        assert arena.in_flight() == []

    def test_a_part_keeps_the_object(self, arena, worker):
        block = arena.put(np.arange(100))
        worker(keep, block[50:60])
        del block
        arena.barrier()
        assert worker(look_at_kept).tolist() == list(range(50, 60))
        worker(kept_cleared)
        assert_all_given_back(arena)

    def test_freed_and_sent(self, arena):
        block = arena.put(np.arange(100))
        part = block[50:60]
        block.free()
        with pytest.raises(flagstone.Closed):
            pickle.dumps(part)
        assert part.tolist() == list(range(50, 60))

    def test_nothing_reaches_beyond_the_block(self, arena):
        block = matrix(arena)
        load, arguments = block[10:20].__reduce_ex__(5)
        for offset, shape, strides in (
            (4796, (2,), (4,)),
            (-4, (1,), (4,)),
            (0, (2,), (-4,)),
            (0, (40, 31), (120, 4)),
            (1 << 60, (1,), (4,)),
        ):
            with pytest.raises((ValueError, OverflowError)):
                load(block, offset, arguments[2], shape, strides)

    def test_read_only(self, arena, reader):
        block = matrix(arena)
        assert reader(writable, block[1:2]) is False


def writable(part):
    return part.flags.writeable


def kept_cleared():
    kept.clear()
    gc.collect()


@pytest.fixture
def reader(arena, worker):
    worker(keep_open, arena.name)
    yield worker
    worker(kept_cleared)


def keep_open(name):
    kept["arena"] = flagstone.open(name, create=False, readonly=True)


class TestBlockOf:
    def test_every_way_to_look(self, arena):
        block = matrix(arena)
        array = block.array
        for view, offset in (
            (block, 0),
            (array, 0),
            (array[3:], 360),
            (array[::-1], 39 * 120),
            (array.view("u1")[2:, 5:], 245),
            (memoryview(block), 0),
            (memoryview(block)[2:], 240),
            (np.asarray(memoryview(block))[1:], 120),
            (np.frombuffer(block, "u1")[7:], 7),
            (block[4:5], 480),
        ):
            found, at = flagstone.block_of(view)
            assert found is block
            assert at == offset

    def test_by_address_where_nothing_leads_back(self, arena):
        block = matrix(arena)
        import ctypes

        for offset in (0, 8, 4799):
            window = (ctypes.c_char * 1).from_address(block.array.ctypes.data + offset)
            found, at = flagstone.block_of(window)
            assert found.handle == block.handle
            assert at == offset

    def test_the_other_block_holds_the_object(self, arena, worker):
        import ctypes

        block = arena.put(np.arange(100, dtype="u1"))
        window = (ctypes.c_char * 1).from_address(block.array.ctypes.data)
        found, _ = flagstone.block_of(window)
        del block
        arena.barrier()
        assert worker(bytes, found) == bytes(range(100))
        del found
        assert_all_given_back(arena)

    def test_what_lies_in_none(self, arena):
        block = matrix(arena)
        for other in (np.zeros(3), b"bytes", memoryview(b"bytes"), block.array.copy()):
            with pytest.raises(LookupError):
                flagstone.block_of(other)
        for other in (None, 5, "text", [1, 2], object()):
            with pytest.raises(TypeError):
                flagstone.block_of(other)

    def test_a_tensor(self, arena):
        block = matrix(arena)
        torch = pytest.importorskip("torch")
        found, at = flagstone.block_of(torch.from_numpy(block.array)[2:])
        assert found.handle == block.handle
        assert at == 240


def got(weak):
    block = weak.get()
    return block.array.tolist(), str(block.array.dtype), weak.shape


class TestWeak:
    def test_any_number_of_loads_and_nothing_in_flight(self, arena, worker):
        block = matrix(arena)
        weak = block.weak()
        message = pickle.dumps(weak)
        for _ in range(3):
            assert worker(got, weak) == (block.array.tolist(), "int32", (40, 30))
            assert pickle.loads(message) == weak
            assert pickle.dumps(pickle.loads(message)) == message
        assert pickle.dumps(block.weak()) == message
        assert arena.in_flight() == []

    def test_of_every_kind_of_block(self, arena, worker):
        cache = arena.cache("point", shape=(4, 3), dtype="f4")
        typed = cache.alloc()
        typed.array[:] = 2
        for block in (typed, arena.put(np.zeros((0, 3), "i2")), arena.alloc(5), arena.put(b"abc")):
            weak = block.weak()
            assert (weak.dtype, weak.shape) == (block.array.dtype, block.array.shape)
            assert weak.nbytes == block.nbytes
            assert weak.handle == block.handle
            values, dtype, shape = worker(got, weak)
            assert (values, dtype, shape) == (
                block.array.tolist(),
                str(block.array.dtype),
                block.array.shape,
            )

    def test_holds_nothing_and_says_so(self, arena, worker):
        block = arena.put(np.arange(10))
        weak = block.weak()
        del block
        arena.barrier()
        for call in (weak.get, lambda: worker(got, weak)):
            with pytest.raises(flagstone.StaleHandle, match="keep the Block"):
                call()
        assert_all_given_back(arena)

    def test_a_name_for_dictionaries(self, arena):
        block = matrix(arena)
        other = arena.put(b"other")
        names = {block.weak(): 1, other.weak(): 2}
        assert names[arena.get(block.handle).weak()] == 1
        assert copy.deepcopy(block.weak()) == copy.copy(block.weak()) == block.weak()
        assert block.weak() != other.weak()
        assert block.weak() != "other"
        with pytest.raises(TypeError):
            flagstone.WeakBlock()

    def test_of_an_anonymous_arena_that_travels_by_fork(self, make_worker):
        with flagstone.open(capacity="16MiB") as arena:
            block = arena.put(np.arange(10))
            with make_worker("fork") as worker:
                assert worker(got, block.weak())[0] == list(range(10))

    def test_of_an_arena_that_is_gone(self, arena_name, worker):
        with flagstone.open(arena_name + "-b") as arena:
            block = arena.put(b"x")
            message = pickle.dumps(block.weak())
            del block
        with pytest.raises(flagstone.StaleHandle, match="no longer exists"):
            worker(load_and_get, message)


def load_and_get(message):
    return pickle.loads(message).get()


@pytest.fixture
def make_worker():
    from tests.process.support import Worker

    return Worker
