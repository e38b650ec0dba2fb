"""joblib's backend "flagstone", in programs of their own: joblib keeps its workers for the next
call.
"""

import pickle
import signal
import subprocess
import sys

import joblib
import numpy as np
import pytest

import flagstone
import flagstone.joblib
from flagstone.testing import wait_until
from tests.process.support import PATIENCE, program

BEGIN = """
import gc, glob, os, signal, sys, time
import joblib, numpy as np
from joblib import delayed
from joblib.externals.loky import get_reusable_executor
import flagstone, flagstone.joblib

arena = flagstone.open(sys.argv[1], capacity="256MiB")
MIB = 1 << 20

def parallel(**options):
    return joblib.Parallel(n_jobs=2, **options)

def inside(array):
    try:
        flagstone.block_of(array)
    except LookupError:
        return False
    return True

def look(array):
    return inside(array), array.flags.writeable, float(array.sum())

def make(value, count=200_000):
    return np.full(count, float(value))

def nothing_left():
    # joblib's exceptions and calls keep each other, and results. Without a GIL its thread, which
    # made the results and waits, has to let go of each, of its base, and so on.
    for _ in range(8 if "t" in sys.abiflags else 1):
        gc.collect()
    arena.barrier()
    arena.shrink()
    assert arena.in_flight() == [], arena.in_flight()
    assert arena.used == 0, arena.groups
    assert arena.check() == []

"""

END = """
nothing_left()
executor = get_reusable_executor()
executor.shutdown(wait=True)
print("done")
"""


def run(arena_name, body, config="arena=arena"):
    source = BEGIN + f"with joblib.parallel_config('flagstone', {config}):\n"
    source += "".join(f"    {line}\n" for line in body.strip().splitlines()) + END
    assert program(source, arena_name).endswith("done\n")


def test_arguments_and_results(arena_name):
    run(
        arena_name,
        """
small, middle, large = np.ones(100), np.ones(50_000), np.ones(500_000)
for array, expected in (
    (small, (False, True, 100.0)),
    (middle, (True, True, 50_000.0)),     # each call has its own
    (large, (True, False, 500_000.0)),    # all have the same, as joblib's memmap
):
    assert set(parallel()(delayed(look)(array) for _ in range(4))) == {expected}
results = parallel()(delayed(make)(n) for n in range(4))
for n, result in enumerate(results):
    assert inside(result) and result.flags.writeable
    assert (result == n).all()
    result += 1
sums = parallel()(delayed(np.sum)(one) for one in results)
assert sums == [200_000.0 * (n + 1) for n in range(4)]
assert not glob.glob(f"/dev/shm/joblib_memmapping_folder_{os.getpid()}_*")
del results, result
""",
    )


def test_a_large_argument_is_copied_once(arena_name):
    run(
        arena_name,
        """
def handle(array):
    return bytes(flagstone.block_of(array)[0].handle)

large = np.ones(500_000)
assert len(set(parallel()(delayed(handle)(large) for _ in range(8)))) == 1
fortran = np.asfortranarray(np.arange(400_000.0).reshape(800, 500))
def same(array):
    return array.flags.f_contiguous and (array == np.arange(400_000.0).reshape(800, 500)).all()
assert all(parallel()(delayed(same)(fortran) for _ in range(2)))
# As joblib: "c" is a copy of one's own, "r+" is everybody's.
def write(array):
    array[0] += 1
    return array[0]
large[0] = 0
assert parallel(mmap_mode="c")(delayed(write)(large) for _ in range(4)) == [1.0] * 4
assert sorted(parallel(mmap_mode="r+", batch_size=1, pre_dispatch=1)(
    delayed(write)(large) for _ in range(4))) == [1.0, 2.0, 3.0, 4.0]
assert large[0] == 0
# What is gone is given back while the call goes on.
def one(n):
    return np.full(1_000_000, float(n))
most = []
def noting():
    for n in range(60):
        yield delayed(np.sum)(one(n))
        most.append(arena.used)
assert parallel(pre_dispatch=2, batch_size=1)(noting()) == [1e6 * n for n in range(60)]
assert max(most) < 150 * MIB
""",
    )


def test_blocks_and_their_views(arena_name):
    run(
        arena_name,
        """
def fill(view, number):
    view[...] = number
def fill_block(block, number):
    block.array[number] = number
    return block.handle == handle
volume = arena.put(np.zeros((4, 200_000)))
handle = volume.handle
before = arena.used
parallel()(delayed(fill)(volume.array[n], n + 1) for n in range(4))
assert [row[0] for row in volume.array] == [1.0, 2.0, 3.0, 4.0]
parallel()(delayed(fill)(volume[n], n + 5) for n in range(4))
parallel()(delayed(fill)(volume.array[:, ::2], 9) for n in range(1))
assert (volume.array[:, 0] == 9).all() and volume.array[2, 1] == 7
assert all(parallel()(delayed(fill_block)(volume, n) for n in range(4)))
assert arena.used == before   # not one copy
def give():
    return arena_of().put(np.arange(5))
def arena_of():
    return flagstone.open(name, create=False)
name = sys.argv[1]
block, = parallel()(delayed(give)() for n in range(1))
assert block.array.tolist() == [0, 1, 2, 3, 4]
del block, volume
get_reusable_executor().shutdown(wait=True)
""",
    )


def test_memmaps_and_what_cannot_go_through_an_arena(arena_name):
    run(
        arena_name,
        """
import tempfile
with tempfile.NamedTemporaryFile() as file:
    np.arange(500_000.0).tofile(file.name)
    mapped = np.memmap(file.name, "f8", "r+")
    def of_file(array):
        array[3] = 9
        return isinstance(array, np.memmap), inside(array)
    assert parallel()(delayed(of_file)(mapped) for _ in range(2)) == [(True, False)] * 2
    assert mapped[3] == 9
    del mapped
objects = np.array([object, None] * 100_000)
assert parallel()(delayed(len)(objects) for _ in range(2)) == [200_000] * 2
when = np.arange("2000", "2600", dtype="M8[h]")
assert parallel()(delayed(look_at)(when) for look_at in [lambda a: a[-1] == when[-1]]) == [True]
tagged = np.zeros(300_000, np.dtype("f8", metadata={"a": 1}))
assert parallel()(delayed(np.sum)(tagged) for _ in range(2)) == [0.0, 0.0]
try:
    parallel()(delayed(len)([(x for x in ()), large]) for large in [np.ones(500_000)])
except Exception as error:
    assert "pickle" in str(error).lower()
else:
    raise AssertionError
""",
    )


def test_a_full_arena_is_no_error(arena_name):
    run(
        arena_name,
        """
large, middle = np.ones(500_000), np.ones(50_000)
assert parallel()(delayed(look)(large) for _ in range(2)) == [(False, True, 500_000.0)] * 2
assert parallel()(delayed(look)(middle) for _ in range(2)) == [(False, True, 50_000.0)] * 2
assert [one.sum() for one in parallel()(delayed(make)(n) for n in range(2))] == [0.0, 200_000.0]
assert flagstone.share.stats.reasons["GroupLimitExceeded"] >= 2
""",
        "arena=arena, group=arena.group('none', limit='64KiB')",
    )


def test_an_arena_of_its_own(arena_name):
    run(
        arena_name,
        """
large = np.ones(500_000)
assert parallel()(delayed(look)(large) for _ in range(2)) == [(True, False, 500_000.0)] * 2
assert inside(*parallel()(delayed(make)(n) for n in range(1)))
""",
        "",
    )
    assert not [one for one in flagstone.arenas() if (one.name or "").startswith("joblib-")]


KILLED = """
def die(array, number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return array + number
middle = np.ones(200_000)
block = arena.put(np.ones(300_000))
for what in (middle, block.array, block[1:]):
    try:
        parallel(batch_size=1)(delayed(die)(what, n) for n in range(6))
    except Exception as error:
        assert "terminated" in str(error).lower() or "Terminated" in type(error).__name__, error
    else:
        raise AssertionError
    assert arena.in_flight() == [], arena.in_flight()
    assert len(block.holders) <= 2
assert parallel()(delayed(np.sum)(middle) for _ in range(2)) == [200_000.0] * 2
del block, what
"""


def test_a_worker_is_killed(arena_name):
    run(arena_name, KILLED)


def test_an_exception_in_a_worker(arena_name):
    run(
        arena_name,
        """
def fail(array, number):
    if number == 3:
        raise ZeroDivisionError(number)
    return array + number
middle = np.ones(200_000)
for batch_size in (1, 2, "auto"):
    try:
        parallel(batch_size=batch_size)(delayed(fail)(middle, n) for n in range(8))
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError
    assert arena.in_flight() == []
""",
    )


def test_a_generator_that_is_left(arena_name):
    run(
        arena_name,
        """
import warnings
warnings.simplefilter("ignore")    # joblib says that tasks were cancelled
for result in parallel(return_as="generator")(delayed(make)(n) for n in range(20)):
    assert (result == 0).all()
    break
del result
total = sum(one[0] for one in parallel(return_as="generator")(delayed(make)(n) for n in range(9)))
assert total == 36
assert sum(one[0] for one in
           parallel(return_as="generator_unordered")(delayed(make)(n) for n in range(9))) == 36
""",
    )


def test_the_caller_is_killed(arena_name):
    """Its workers end when they have been idle, and what they hold goes with them."""
    source = (
        BEGIN
        + """
def slow(array, number):
    if number == 1:
        os.kill(os.getppid(), signal.SIGKILL)
    return array + number
middle = np.ones(200_000)
with joblib.parallel_config("flagstone", arena=arena, idle_worker_timeout=1):
    parallel(batch_size=1)(delayed(slow)(middle, n) for n in range(4))
"""
    )
    with flagstone.open(arena_name, capacity="256MiB") as arena:
        # joblib's tracker says on stderr what it removes, and its workers keep that open.
        command = [sys.executable, "-c", source, arena_name]
        ran = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=PATIENCE)
        assert ran.returncode == -signal.SIGKILL
        wait_until(lambda: len(arena.processes) == 1, PATIENCE)
        # A result that was on its way to the one who was killed.
        assert all(one.group.startswith("joblib-") for one in arena.in_flight())

        def nothing_left():
            arena.drop_in_flight(sender="dead")
            arena.barrier()
            arena.shrink()
            return arena.used == 0

        wait_until(nothing_left, PATIENCE)


def test_an_anonymous_arena_is_refused():
    with flagstone.open() as arena, pytest.raises(ValueError, match="anonymous"):
        joblib.parallel_config("flagstone", arena=arena)


def test_hash(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        block = arena.put(np.arange(1000.0))
        same = arena.put(np.arange(1000.0))
        other = arena.put(np.arange(1001.0))
        table = {"a": [block, same], "b": block}
        assert joblib.hash(block) == joblib.hash(block) == joblib.hash(same)
        assert joblib.hash(block) != joblib.hash(other)
        assert joblib.hash(table) == joblib.hash(table)
        before = joblib.hash(block)
        block.array[3] = 5
        assert joblib.hash(block) != before
        assert joblib.hash(block.weak()) == joblib.hash(block.weak())
        assert joblib.hash(block[:5]) == joblib.hash(block[:5])
        assert arena.in_flight() == []
        block.free()
        with pytest.raises(flagstone.Closed):
            joblib.hash(block)


@pytest.mark.parametrize("first", ["flagstone", "joblib"])
def test_hash_whichever_comes_first(arena_name, first):
    last = {"flagstone": "joblib", "joblib": "flagstone"}[first]
    program(
        f"""
        import sys
        import {first}
        import {last}
        with flagstone.open(sys.argv[1], capacity="16MiB") as arena:
            block = arena.put(b"abc")
            assert joblib.hash(block) == joblib.hash(block)
            assert arena.in_flight() == []
        """,
        arena_name,
    )


def test_picklers_in_python_go_on_as_ever(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        block = arena.put(np.arange(3))
        assert pickle.loads(pickle._dumps([block, block]))[1].array.tolist() == [0, 1, 2]
        assert arena.in_flight() == []


def test_a_memory_knows_the_content(arena_name, tmp_path):
    calls = []

    def total(block):
        calls.append(block)
        return float(block.array.sum())

    memory = joblib.Memory(tmp_path, verbose=0)
    cached = memory.cache(total)
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        assert cached(arena.put(np.ones(3))) == cached(arena.put(np.ones(3))) == 3
        assert len(calls) == 1
        assert cached(arena.put(np.zeros(3))) == 0
        calls.clear()
        assert arena.in_flight() == []
