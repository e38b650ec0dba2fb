"""NumPy's data in a group of an arena, and what becomes of it."""

import contextlib
import contextvars
import gc
import os
import threading

import numpy as np
import pytest

import flagstone
from flagstone._core import Allocator

LEAST = 1 << 16
N = 50_000  # of float64: six times as much


@pytest.fixture
def group(arena):
    group = arena.group("data", create=True)
    yield group
    group.destroy()


def allocator_of(group):
    """It keeps the attachment, so it is no fixture, which pytest would keep."""
    return Allocator(group._link.attachment, group._id, LEAST)


@contextlib.contextmanager
def allocating(allocator):
    before = allocator.begin()
    try:
        yield
    finally:
        allocator.end(before)


def address(array):
    return array.__array_interface__["data"][0]


def test_large_data_is_a_block_of_the_group(arena, group):
    allocator = allocator_of(group)
    with allocating(allocator):
        made = {
            "ones": np.ones(N),
            "sum": np.ones(N) + 1,
            "copy": np.arange(N).copy(),
            "bytes": np.frombuffer(b"x" * N * 8, np.uint8).copy(),
            "sorted": np.sort(np.arange(N)[::-1]),
            "items": np.fromiter(iter(range(N)), np.int64),  # which grows by realloc
        }
        small = np.ones(10)
        elsewhere = {"zeros": np.zeros(N), "objects": np.array([[]] * N, dtype=object)}
    outside = np.ones(N)
    for name, array in elsewhere.items():
        assert allocator.find(address(array)) is None, name
    for name, array in made.items():
        block = allocator.find(address(array))
        assert block is not None, name
        assert block.group == group
        assert block.nbytes >= array.nbytes
        assert bytes(memoryview(block)[:64]) == array.tobytes()[:64], name
    assert made["ones"].sum() == N
    assert made["sum"].sum() == 2 * N
    assert (made["items"] == np.arange(N)).all()
    assert (made["sorted"] == np.arange(N)).all()
    assert allocator.find(address(small)) is None
    assert allocator.find(address(outside)) is None
    assert group.usage >= sum(one.nbytes for one in made.values())
    with flagstone.open(arena.name) as other:
        got = other.get(allocator.find(address(made["ones"])).handle)
        assert got.array.view(float)[:N].sum() == N
        del got
    del made, array, block
    arena.barrier(30)
    assert group.usage == 0


def test_a_block_outlives_its_array_and_an_array_its_arena(arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    allocator = allocator_of(arena.root_group)
    with allocating(allocator):
        one, other = np.ones(N), np.full(N, 2.0)
    block = allocator.find(address(one))
    view = block.array
    where = address(one)
    del one
    assert allocator.find(where) is None
    with allocating(allocator):  # must not get the memory that is looked at
        again = [np.full(N, 0.0) for _ in range(10)]
    assert view.view(float)[:N].sum() == N
    del allocator, view, block
    arena.close()
    assert other.sum() == 2 * N
    assert not any(one.any() for one in again)
    assert os.path.exists(f"/dev/shm/flagstone.{arena_name}")
    del other, again
    gc.collect()
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def test_what_grows_and_shrinks(group):
    allocator = allocator_of(group)
    with allocating(allocator):
        array = np.arange(N)
    for n in (N - 100, N + 5, 4 * N, 10, 2 * N):
        kept = min(n, array.size)
        expected = array[:kept].copy()
        array.resize(n, refcheck=False)
        assert (array[:kept] == expected).all()
        assert not array[kept:].any()
    # Outside, what is larger goes elsewhere; what it was in is free again.
    assert allocator.find(address(array)) is None


def test_no_room_is_no_error(arena):
    limited = arena.group("small", limit="1MiB", create=True)
    allocator = allocator_of(limited)
    with allocating(allocator):
        many = [np.full(N, n) for n in range(10)]
        huge = np.full(100 << 20, 0, np.uint8)  # more than the arena has
    assert [int(one[-1]) for one in many] == list(range(10))
    assert not huge.any()
    inside = [allocator.find(address(one)) is not None for one in many]
    assert any(inside)
    assert not all(inside)
    limited.destroy()
    with allocating(allocator):
        late = np.ones(N)
    assert allocator.find(address(late)) is None
    assert [int(one[-1]) for one in many] == list(range(10))


def test_only_the_thread_that_asked(group):
    """A context is inherited by what a thread has others do, which may go on for ever."""
    allocator = allocator_of(group)
    found = []

    def there():
        array = np.ones(N)
        found.append(allocator.find(address(array)) is not None)

    with allocating(allocator):
        there()
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(there,))
        thread.start()
        thread.join()
        thread = threading.Thread(target=there)
        thread.start()
        thread.join()
    context.run(there)
    assert found == [True, False, False, False]


def test_one_inside_another(arena, group):
    allocator = allocator_of(group)
    other = allocator_of(arena.root_group)
    with allocating(allocator):
        with allocating(other):
            inner = np.ones(N)
        outer = np.ones(N)
    assert other.find(address(inner))
    assert not allocator.find(address(inner))
    assert allocator.find(address(outer))
    assert not other.find(address(outer))


def test_an_array_that_ends_in_an_exception(arena, group):
    allocator = allocator_of(group)

    def fail():
        with allocating(allocator):
            array = np.ones(N)
        raise LookupError(array.size)

    with pytest.raises(LookupError, match=str(N)):
        fail()
    gc.collect()
    arena.barrier(30)
    assert group.usage == 0


def test_a_child_has_arrays_of_its_parent(arena, group):
    allocator = allocator_of(group)
    with allocating(allocator):
        array = np.arange(N)
    child = os.fork()
    if not child:
        status = 1
        try:
            assert array.sum() == N * (N - 1) // 2
            with allocating(allocator):
                mine = np.ones(N)
            assert allocator.find(address(mine)) is not None
            del array, mine
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert array.sum() == N * (N - 1) // 2
    del array
    arena.barrier(30)
    assert group.usage == 0


def test_python_objects_stay_in_the_process(group):
    """A child that lets go of its array would let go of its parent's objects."""
    allocator = allocator_of(group)
    with allocating(allocator):
        made = [np.empty(N, object), np.zeros(N, [("one", object), ("number", "i8")])]
        made[0][:] = [str(n) for n in range(N)]
        made[1]["one"] = made[0]
        made += [made[0].copy(), made[0][::-1].astype(object), np.concatenate(made[:1] * 2)]
        made.append(np.fromiter(map(str, range(N)), object))
    assert [allocator.find(address(one)) for one in made] == [None] * len(made)
    child = os.fork()
    if not child:
        made[0][0] = object()
        del made
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    expected = [str(n) for n in range(N)]
    assert made[0].tolist() == made[2].tolist() == made[5].tolist() == expected
    assert made[1]["one"].tolist() == expected


def test_threads_make_and_end_arrays_of_each_other(arena, group):
    """Each ends what its neighbour made, also grown; no byte is another's."""
    allocator = allocator_of(group)
    count, rounds = 8, 60
    boxes = [[] for _ in range(count)]
    gate = threading.Barrier(count)
    wrong = []

    def work(me):
        try:
            gate.wait()
            for n in range(rounds):
                with allocating(allocator):
                    array = np.full(N + n * 100, me * rounds + n)
                boxes[(me + 1) % count].append((me * rounds + n, array))
                del array
                while boxes[me]:
                    expected, array = boxes[me].pop()
                    assert (array == expected).all()
                    if n % 3 == 0:
                        array.resize(2 * N + n * 200, refcheck=False)
                        assert (array[:N] == expected).all()
                    del array
        except BaseException as error:
            wrong.append(error)
            raise

    threads = [threading.Thread(target=work, args=(me,)) for me in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    boxes.clear()
    arena.barrier(30)
    assert group.usage == 0
