"""What happens to objects on their way: handles that are kept, messages that are late, lost, read
twice or read by somebody who may only look.
"""

import copy
import gc
import operator
import os
import pickle

import numpy as np
import pytest

import flagstone
from tests.process.support import (
    assert_all_given_back,
    dump_kept,
    forget,
    forked,
    kept,
    load_and_keep,
    pattern,
    resolve,
)

SIZE = 5000


@pytest.fixture
def cache(arena):
    return arena.cache("message", size=SIZE)


def filled(cache, number=1, group=None):
    block = cache.alloc(group)
    memoryview(block)[:] = pattern(number, SIZE)
    return block


def keep(block):
    kept["block"] = block


def look_at_kept():
    return bytes(kept["block"])


def load(message):
    return bytes(pickle.loads(message))


def load_from(path):
    with open(path, "rb") as file:
        return load_and_keep(file.read())


def resolve_and_keep(name, handle):
    kept["arena"] = flagstone.open(name, create=False)
    kept["block"] = kept["arena"].get(flagstone.Handle(handle))


class TestHandles:
    def test_stored_in_a_file_and_resolved_later(self, arena, cache, worker, tmp_path):
        blocks = [filled(cache, number) for number in range(50)]
        index = tmp_path / "index"
        index.write_bytes(b"".join(bytes(block.handle) for block in blocks))
        raw = index.read_bytes()
        handles = [raw[at : at + 16] for at in range(0, len(raw), 16)]
        assert len(set(handles)) == 50
        for number, handle in enumerate(handles):
            assert worker(resolve, arena.name, handle) == pattern(number, SIZE)
        del blocks
        arena.barrier()
        for handle in handles:
            with pytest.raises(flagstone.StaleHandle):
                worker(resolve, arena.name, handle)
        assert_all_given_back(arena)

    def test_guarantees_nothing_but_never_names_another_object(self, arena, cache, worker):
        first = filled(cache)
        handle = bytes(first.handle)
        del first
        # Whoever comes next may get the same memory; the handle stays stale for ever.
        for number in range(200):
            block = filled(cache, number)
            assert bytes(block.handle) != handle
            with pytest.raises(flagstone.StaleHandle):
                arena.get(flagstone.Handle(handle))
            del block
        with pytest.raises(flagstone.StaleHandle):
            worker(resolve, arena.name, handle)
        assert_all_given_back(arena)

    def test_of_another_arena(self, arena, cache, worker):
        block = filled(cache)
        with flagstone.open(arena.name + "-b") as other:
            mine = other.cache("message", size=SIZE).alloc()
            with pytest.raises(flagstone.StaleHandle):
                other.get(block.handle)
            with pytest.raises(flagstone.StaleHandle):
                worker(resolve, other.name, bytes(block.handle))
            del mine
            assert_all_given_back(other)
        del block
        assert_all_given_back(arena)

    def test_the_same_object_for_everybody(self, arena, cache, worker):
        block = filled(cache)
        again = arena.get(block.handle)
        assert again.handle == block.handle
        worker(resolve_and_keep, arena.name, bytes(block.handle))
        assert {one.pid for one in block.holders} == {os.getpid(), worker.pid}
        memoryview(block)[:5] = b"hello"
        assert worker(look_at_kept)[:5] == b"hello" == bytes(again)[:5]
        del block, again
        arena.barrier()
        assert worker(look_at_kept)[:5] == b"hello"
        worker(forget)
        assert_all_given_back(arena)

    def test_of_a_dead_arena_of_the_same_name(self, worker, arena_name):
        with flagstone.open(arena_name) as arena:
            block = arena.put(b"first")
            handle, message = bytes(block.handle), pickle.dumps(block)
            del block
        assert not os.path.exists(arena.path)
        with flagstone.open(arena_name) as arena:
            block = arena.put(b"second")
            for function, arguments in ((resolve, (arena_name, handle)), (load, (message,))):
                with pytest.raises(flagstone.StaleHandle):
                    worker(function, *arguments)
                with pytest.raises(flagstone.StaleHandle):
                    function(*arguments)
            assert bytes(block) == b"second"
            del block
            assert_all_given_back(arena)


class TestMessages:
    def test_pickled_once_and_read_twice(self, arena, cache, worker):
        block = filled(cache)
        message = pickle.dumps(block)
        assert len(arena.in_flight()) == 1
        assert worker(load, message) == pattern(1, SIZE)
        assert arena.in_flight() == []
        # The reference is taken; from now on it is no more than a handle.
        assert worker(load, message) == pattern(1, SIZE)
        assert load(message) == pattern(1, SIZE)
        del block
        arena.barrier()
        for function in (load, lambda message: worker(load, message)):
            with pytest.raises(flagstone.StaleHandle):
                function(message)
        assert_all_given_back(arena)

    def test_second_reader_while_the_first_holds(self, arena, cache, worker):
        message = pickle.dumps(filled(cache))
        assert worker(load_and_keep, message) == pattern(1, SIZE)
        arena.barrier()
        assert load(message) == pattern(1, SIZE)
        worker(forget)
        arena.barrier()
        with pytest.raises(flagstone.StaleHandle):
            load(message)
        assert_all_given_back(arena)

    def test_an_old_pickle_read_after_a_newer_one_was_made(self, arena, cache, worker):
        block = filled(cache)
        old = pickle.dumps(block)
        assert worker(load, old) == pattern(1, SIZE)
        new = pickle.dumps(block)
        # It does not take the newer one's reference, neither there nor here.
        assert worker(load, old) == pattern(1, SIZE)
        assert load(old) == pattern(1, SIZE)
        assert len(arena.in_flight()) == 1
        del block
        arena.barrier()
        assert worker(load, new) == pattern(1, SIZE)
        arena.barrier()
        for message in (old, new):
            with pytest.raises(flagstone.StaleHandle):
                load(message)
        assert_all_given_back(arena)

    def test_an_old_pickle_of_an_object_that_is_gone(self, arena, cache, worker):
        olds = []
        for number in range(20):
            block = filled(cache, number)
            olds.append(pickle.dumps(block))
            assert worker(load, olds[-1]) == pattern(number, SIZE)
            del block
            arena.barrier()
        # These may well use the same memory, and the same places in flight.
        blocks = [filled(cache, number) for number in range(20, 40)]
        news = [pickle.dumps(block) for block in blocks]
        for old in olds:
            with pytest.raises(flagstone.StaleHandle):
                worker(load, old)
        assert len(arena.in_flight()) == 20
        del blocks
        arena.barrier()
        for number, new in enumerate(news, 20):
            assert worker(load, new) == pattern(number, SIZE)
        assert_all_given_back(arena)

    def test_many_messages_of_one_object(self, arena, cache, worker):
        block = filled(cache)
        messages = [pickle.dumps(block) for _ in range(100)]
        assert len(arena.in_flight()) == 100
        del block
        for number, message in enumerate(messages):
            assert worker(load_and_keep, message, number) == pattern(1, SIZE)
        assert arena.in_flight() == []
        arena.barrier()
        assert cache.stats.allocated == 1
        worker(forget)
        assert_all_given_back(arena)

    def test_a_sender_that_ends_before_anybody_reads(self, arena, cache, worker, tmp_path):
        def send():
            path.write_bytes(pickle.dumps([filled(cache, 7), filled(cache, 8)]))

        path = tmp_path / "message"
        with forked(send) as pid:
            pass
        arena.barrier()
        assert [one.pid for one in arena.in_flight()] == [pid, pid]
        assert worker(load_list, path.read_bytes()) == [pattern(7, SIZE), pattern(8, SIZE)]
        assert arena.in_flight() == []
        assert_all_given_back(arena)

    def test_through_a_file(self, arena, cache, worker, tmp_path):
        path = tmp_path / "message"
        with path.open("wb") as file:
            pickle.dump(filled(cache), file)
        arena.barrier()
        assert worker(load_from, path) == pattern(1, SIZE)
        # A file can be read again and again, for as long as somebody has the object.
        block = pickle.loads(path.read_bytes())
        worker(forget)
        assert worker(load_from, path) == pattern(1, SIZE)
        worker(forget)
        del block
        arena.barrier()
        with pytest.raises(flagstone.StaleHandle):
            worker(load_from, path)
        assert_all_given_back(arena)

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_every_protocol(self, arena, cache, worker, protocol):
        with arena.group("job") as group:
            block = filled(cache, 3, group)
            handle = pickle.loads(pickle.dumps(block.handle, protocol))
            assert handle == block.handle
            assert worker(load, pickle.dumps(block, protocol)) == pattern(3, SIZE)
            assert pickle.loads(pickle.dumps(group, protocol)) == group
            shaped = arena.put(np.arange(12, dtype="<f4").reshape(3, 4))
            dtype, shape, total = worker(facts_of, pickle.dumps(shaped, protocol))
            assert (dtype, shape, total) == (np.dtype("<f4"), (3, 4), 66.0)
        del block, shaped
        assert_all_given_back(arena)

    def test_dtypes_and_shapes_travel(self, arena, worker):
        arrays = [
            np.arange(7),
            np.array(3.5),
            np.zeros((0, 4)),
            np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8")]),
            np.array(["2020-01-01", "NaT"], dtype="M8[D]"),
            np.array(["text", "täxt"]),
            np.array([True, False]),
            np.arange(6, dtype=">i2").reshape(2, 3).T,
        ]
        for array in arrays:
            dtype, shape, total = worker(facts_of, pickle.dumps(arena.put(array)))
            assert (dtype, shape) == (array.dtype, array.shape)
            assert total == (array.sum() if array.dtype.kind in "if" else None)
        assert_all_given_back(arena)


def load_list(message):
    return [bytes(block) for block in pickle.loads(message)]


def facts_of(message):
    array = pickle.loads(message).array
    return array.dtype, array.shape, array.sum() if array.dtype.kind in "if" else None


class TestInFlight:
    def test_what_nobody_reads_is_visible_and_can_be_dropped(self, arena, cache):
        with arena.group("job") as group:
            first = filled(cache, 1, group)
            second = arena.put(b"second")
            handles = [first.handle, second.handle]
            messages = [pickle.dumps(first), pickle.dumps(second), pickle.dumps(group)]
            del first, second
            arena.barrier()
            one, two, three = arena.in_flight()
            assert [one.object, two.object] == handles
            assert (one.nbytes, one.cache, one.group, one.pid) == (
                SIZE,
                "message",
                "job",
                os.getpid(),
            )
            assert (two.nbytes, two.group) == (6, "root")
            assert (one.is_group, two.is_group, three.is_group) == (False, False, True)
            assert one.command
            assert one.age >= two.age >= three.age >= 0
            assert arena.in_flight(older_than=1000) == []
            assert arena.snapshot().in_flight[0].object == handles[0]
            # Only what is old enough, and only of that group: its object, and itself.
            assert arena.drop_in_flight(older_than=1000) == 0
            assert arena.drop_in_flight(group=group) == 2
            assert [rest.object for rest in arena.in_flight()] == [two.object]
            arena.barrier()
            with pytest.raises(flagstone.StaleHandle):
                pickle.loads(messages[0])
            assert arena.drop_in_flight() == 1
            arena.barrier()
            with pytest.raises(flagstone.StaleHandle):
                pickle.loads(messages[1])
            # Of a group, too, the message is a bare handle now, and the group is alive.
            assert pickle.loads(messages[2]) == group
        assert_all_given_back(arena)

    def test_dropping_leaves_what_is_held(self, arena, cache, worker):
        block = filled(cache)
        message = pickle.dumps(block)
        assert arena.drop_in_flight() == 1
        assert arena.drop_in_flight() == 0
        assert worker(load_and_keep, message) == pattern(1, SIZE)
        del block
        arena.barrier()
        assert worker(look_at_kept) == pattern(1, SIZE)
        worker(forget)
        assert_all_given_back(arena)

    def test_the_end_of_the_group_ends_it(self, arena, cache, worker):
        with arena.group("job") as group:
            messages = [pickle.dumps(filled(cache, number, group)) for number in range(10)]
            assert worker(load_and_keep, messages[0]) == pattern(0, SIZE)
        arena.barrier()
        assert arena.in_flight() == []
        for message in messages:
            with pytest.raises(flagstone.StaleHandle):
                worker(load, message)
        # What was taken in time is whole for as long as it is looked at.
        assert worker(look_at_kept) == pattern(0, SIZE)
        worker(forget)
        assert_all_given_back(arena)

    def test_a_busy_cache_says_so(self, arena, cache):
        message = pickle.dumps(filled(cache))
        with pytest.raises(flagstone.CacheBusy, match="flight"):
            cache.destroy()
        assert load(message) == pattern(1, SIZE)
        cache.destroy().wait(60)
        assert_all_given_back(arena)


class TestFree:
    def test_while_others_hold(self, arena, cache, worker):
        block = filled(cache)
        handle = block.handle
        worker(keep, block)
        view = memoryview(block)
        block.free()
        for use in (memoryview, copy.deepcopy, pickle.dumps, operator.attrgetter("array")):
            with pytest.raises(flagstone.Closed):
                use(block)
        with pytest.raises(flagstone.StaleHandle):
            arena.get(handle)
        with pytest.raises(flagstone.StaleHandle):
            worker(resolve, arena.name, bytes(handle))
        arena.barrier()
        rivals = [filled(cache, number) for number in range(2, 100)]
        assert worker(look_at_kept) == pattern(1, SIZE) == bytes(view)
        del rivals, view
        arena.barrier()
        assert cache.stats.allocated == 1
        worker(forget)
        del block
        assert_all_given_back(arena)

    def test_by_a_receiver(self, arena, cache, worker):
        block = filled(cache)
        worker(keep, block)
        worker(free_kept)
        with pytest.raises(flagstone.StaleHandle):
            arena.get(block.handle)
        with pytest.raises(flagstone.StaleHandle):
            worker(resolve, arena.name, bytes(block.handle))
        # This Block is not the one that was freed: it keeps its bytes.
        assert bytes(block) == pattern(1, SIZE)
        del block
        arena.barrier()
        worker(forget)
        assert_all_given_back(arena)

    def test_while_in_flight(self, arena, cache, worker):
        block = filled(cache)
        message = pickle.dumps(block)
        block.free()
        arena.barrier()
        rivals = [filled(cache, number) for number in range(2, 100)]
        # "Messages in flight keep the bytes": whoever takes this one gets them.
        assert worker(load_and_keep, message) == pattern(1, SIZE)
        with pytest.raises(flagstone.StaleHandle):
            worker(load, message)
        assert worker(look_at_kept) == pattern(1, SIZE)
        worker(forget)
        del block, rivals
        assert_all_given_back(arena)

    def test_in_flight_and_never_taken(self, arena, cache):
        block = filled(cache)
        message = pickle.dumps(block)
        block.free()
        del block
        assert arena.drop_in_flight() == 1
        arena.barrier()
        assert cache.stats.allocated == 0
        with pytest.raises(flagstone.StaleHandle):
            pickle.loads(message)
        assert_all_given_back(arena)

    def test_twice(self, arena, cache, worker):
        block = filled(cache)
        again = arena.get(block.handle)
        worker(keep, block)
        block.free()
        with pytest.raises(flagstone.Closed):
            block.free()
        # Blocks that others have, also in the same process, keep the bytes.
        for _ in range(2):
            assert bytes(again) == worker(look_at_kept) == pattern(1, SIZE)
            with pytest.raises(flagstone.StaleHandle, match="freed before"):
                again.free()
            with pytest.raises(flagstone.StaleHandle, match="freed before"):
                worker(free_kept)
        worker(forget)
        del block, again
        assert_all_given_back(arena)


def free_kept():
    kept["block"].free()


class TestReadOnly:
    def test_consumers(self, arena, cache, worker):
        block = filled(cache)
        worker(open_readonly, arena.name)
        assert worker(try_to_write, block) == {
            "free": "ReadOnly",
            "destroy": "ReadOnly",
            "alloc": "ReadOnly",
            "alloc_many": "ReadOnly",
            "put": "ReadOnly",
            "arena.alloc": "ReadOnly",
            "deepcopy": "ReadOnly",
            "memoryview": "TypeError",
            "array": "ValueError",
            "flags": "ValueError",
            "readinto": "TypeError",
            "from_buffer": "TypeError",
        }
        assert bytes(block) == pattern(1, SIZE)
        memoryview(block)[:] = pattern(2, SIZE)
        assert worker(look_at_kept) == pattern(2, SIZE)
        worker(forget)
        del block
        assert_all_given_back(arena)

    def test_hold_what_they_read(self, arena, cache, worker):
        worker(open_readonly, arena.name)
        block = filled(cache)
        worker(keep, block)
        del block
        arena.barrier()
        rivals = [filled(cache, number) for number in range(2, 50)]
        assert worker(look_at_kept) == pattern(1, SIZE)
        del rivals
        # And they can pass it on.
        message = worker(dump_kept)
        worker(forget)
        arena.barrier()
        assert load(message) == pattern(1, SIZE)
        assert_all_given_back(arena)


def open_readonly(name):
    kept["arena"] = flagstone.open(name, readonly=True)


def try_to_write(block):
    import ctypes
    import io

    kept["block"] = block
    arena = kept["arena"]
    cache = arena.cache("message", size=SIZE)
    array = block.array
    attempts = {
        "free": block.free,
        "destroy": cache.destroy,
        "alloc": cache.alloc,
        "alloc_many": lambda: cache.alloc_many(2),
        "put": lambda: arena.put(b"x"),
        "arena.alloc": lambda: arena.alloc(10),
        "deepcopy": lambda: copy.deepcopy(block),
        "memoryview": lambda: memoryview(block).__setitem__(0, 1),
        "array": lambda: array.__setitem__(0, 1),
        "flags": lambda: setattr(array.flags, "writeable", True),
        "readinto": lambda: io.BytesIO(b"x").readinto(block),
        "from_buffer": lambda: (ctypes.c_char * SIZE).from_buffer(block),
    }
    assert block.readonly
    assert memoryview(block).readonly
    return {name: _kind_of_error(attempt) for name, attempt in attempts.items()}


def _kind_of_error(attempt):
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return None


class TestCopies:
    def test_copy_is_the_same_object(self, arena, cache):
        block = filled(cache)
        same = copy.copy(block)
        assert same.handle == block.handle
        del block
        arena.barrier()
        assert bytes(same) == pattern(1, SIZE)
        del same
        assert_all_given_back(arena)

    def test_deepcopy_is_a_new_one(self, arena, cache, worker):
        with arena.group("job") as group:
            for block in (filled(cache, 1, group), arena.put(np.arange(10), group=group)):
                new = copy.deepcopy(block)
                assert new.handle != block.handle
                assert (new.group, new.cache) == (group, block.cache)
                assert (new.array == block.array).all()
                assert new.array.dtype == block.array.dtype
                before = bytes(block)
                memoryview(new).cast("B")[:8] = b"\xff" * 8
                assert bytes(block) == before
                worker(keep, new)
                assert worker(look_at_kept) == bytes(new)
        worker(forget)
        del block, new
        assert_all_given_back(arena)


VIEWS = {
    "memoryview": memoryview,
    "slice": lambda block: memoryview(block)[100:],
    "array": lambda block: block.array,
    "slice of array": lambda block: block.array[10:20],
    "frombuffer": lambda block: np.frombuffer(block, "u1"),
    "dlpack": lambda block: np.from_dlpack(block),
    "view of view": lambda block: memoryview(block.array.view("u1")),
}


@pytest.mark.parametrize("kind", VIEWS)
class TestViews:
    def test_keep_the_bytes_whatever_ends(self, arena, cache, worker, kind):
        """Across drop, free, the end of the group, and of the arena object."""
        group = arena.group("job")
        endings = {
            "drop": lambda block: None,
            "free": lambda block: block.free(),
            "group": lambda block: group.destroy(),
        }
        views, expected = {}, {}
        for number, (ending, end) in enumerate(endings.items()):
            block = filled(cache, number, group)
            views[ending] = VIEWS[kind](block)
            expected[ending] = bytes(views[ending])
            end(block)
            del block
        arena.barrier()
        rivals = [filled(cache, number) for number in range(10, 100)]
        assert {ending: bytes(view) for ending, view in views.items()} == expected
        del rivals
        assert arena.used > 0
        name = arena.name
        arena.close()
        # They hold this process's attachment: the arena is still there, and their bytes.
        with flagstone.open(name, create=False) as again:
            rivals = [filled(again.cache("message", size=SIZE), n) for n in range(10, 100)]
            assert {ending: bytes(view) for ending, view in views.items()} == expected
            del rivals, views
            assert_all_given_back(again)
        assert not os.path.exists(f"/dev/shm/flagstone.{name}")

    def test_are_enough_to_keep_an_arena(self, arena_name, kind):
        with flagstone.open(arena_name) as arena:
            view = VIEWS[kind](filled(arena.cache("message", size=SIZE)))
        gc.collect()
        expected = bytes(view)
        assert expected in pattern(1, SIZE)
        assert os.path.exists(f"/dev/shm/flagstone.{arena_name}")
        del view
        gc.collect()
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")
