"""Programs of others' process pools, as their pages show them: as they are, by `flagstone.run`, and
under `flagstone.share()` with everything through an arena. They say the same, and nothing is left.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.soak

WORK = """
import os, sys, time
import numpy as np

said = []

def total(array):
    return float(array.sum())

def filled(number):
    return np.full(50_000, float(number))

def bad(number):
    if number == 7:
        raise ValueError("seven")
    return number

def slow(number):
    time.sleep(60 if number == 3 else 0)
    return number
"""

LOKY = """
from loky import get_reusable_executor

def main(method):
    executor = get_reusable_executor(max_workers=2)
    said.append([total(one) for one in executor.map(filled, range(6))])
    said.append(list(executor.map(total, map(filled, range(6)))))
    try:
        list(executor.map(bad, range(12)))
    except ValueError as error:
        said.append(str(error))
    executor.shutdown(kill_workers=True)
    said.append(get_reusable_executor(max_workers=1).submit(total, filled(3)).result())
    get_reusable_executor().shutdown()
"""

MPIRE = """
from mpire import WorkerPool

def with_shared(shared, number):
    return float(shared["a"][number] * 2)

def begin(worker_state):
    worker_state["n"] = 0

def count(worker_state, number):
    worker_state["n"] += 1
    return number + 1

def main(method):
    with WorkerPool(n_jobs=2, start_method=method) as pool:
        squares = pool.map(np.square, np.arange(50_000.0), concatenate_numpy_output=True)
        said.append(total(squares))
        said.append([total(one) for one in pool.imap(filled, range(6))])
    shared = {"a": np.arange(10.0)}
    with WorkerPool(n_jobs=2, start_method=method, shared_objects=shared) as pool:
        said.append(pool.map(with_shared, range(10)))
    with WorkerPool(n_jobs=2, start_method=method, use_worker_state=True) as pool:
        said.append(pool.map(count, range(10), worker_init=begin, worker_lifespan=2))
    with WorkerPool(n_jobs=2, start_method=method, keep_alive=True) as pool:
        for _ in range(2):
            try:
                pool.map(bad, range(12))
            except ValueError as error:
                said.append(str(error)[:5])
        answers = [pool.apply_async(filled, args=(number,)) for number in range(4)]
        said.append([total(one.get()) for one in answers])
"""

PEBBLE = """
import multiprocessing
from concurrent.futures import TimeoutError
from pebble import ProcessExpired, ProcessPool

def die(number):
    if number == 3:
        os._exit(1)
    return number

def main(method):
    context = multiprocessing.get_context(method)
    with ProcessPool(2, max_tasks=3, context=context) as pool:
        said.append([total(one) for one in pool.map(filled, range(6)).result()])
        said.append(list(pool.map(total, [filled(number) for number in range(6)]).result()))
        for function, argument, timeout in ((bad, 7, None), (slow, 3, 1), (die, 3, None)):
            try:
                pool.schedule(function, args=[argument], timeout=timeout).result()
            except (ValueError, TimeoutError, ProcessExpired) as error:
                said.append(type(error).__name__)
        cancelled = pool.schedule(slow, args=[3])
        cancelled.cancel()
        said.append(cancelled.cancelled())
        said.append(total(pool.schedule(filled, args=[5]).result()))
"""

END = """
if __name__ == "__main__":
    method, name = sys.argv[1:]
    if name == "-":
        main(method)
    else:
        import gc
        import flagstone
        with flagstone.open(name, capacity="256MiB") as arena:
            group = arena.group("all")
            with flagstone.share(arena, threshold=16, group=group):
                main(method)
            assert flagstone.share.stats.plain == 0
            gc.collect()
            group.destroy().wait(60)
            assert arena.in_flight() == []
            assert arena.check() == []
    print(said)
"""

PROGRAMS = {"loky": LOKY, "mpire": MPIRE, "pebble": PEBBLE}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("package", PROGRAMS)
def test_others_say_the_same(package, method, arena_name, tmp_path):
    if package == "loky" and method != "fork":
        pytest.skip("loky has a start method of its own")
    pytest.importorskip(package)
    program = tmp_path / "program.py"
    program.write_text(WORK + PROGRAMS[package] + END)
    before = set(os.listdir("/dev/shm"))

    def say(*how, name="-"):
        argv = [sys.executable, *how, program, method, name]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    plain = say()
    assert say("-m", "flagstone.run", "--arena", f"{arena_name}-run") == plain
    assert say(name=arena_name) == plain
    left = set(os.listdir("/dev/shm")) - before
    assert not [one for one in left if arena_name in one]
