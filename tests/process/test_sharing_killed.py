"""`flagstone.share()` where processes are killed at random instants, under each start method:
others go on, and in the end nothing is left.
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import METHODS, PATIENCE, assert_all_given_back

LARGE = 1 << 18  # bytes


def large(value=1.0):
    return np.full(LARGE // 8, float(value))


def in_arena(value):
    with contextlib.suppress(LookupError):
        return bool(flagstone.block_of(value))
    return False


def answer(pipe):
    """Send back what comes, one more, until there is nobody."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            array = pipe.recv()
            array += 1
            pipe.send([array, large(array[0])])
            del array


class Peer:
    """A process of a start method that answers, until it is killed at some instant."""

    def __init__(self, context):
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=answer, args=(theirs,))
        self.process.start()
        theirs.close()

    def ask(self, value):
        """Whether it answered, and then rightly: it may have been killed."""
        try:
            self.pipe.send(large(value))
            return self.take(value)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return False

    def take(self, value):
        if not self.pipe.poll(PATIENCE):
            raise TimeoutError
        for array in self.pipe.recv():
            assert in_arena(array)
            assert (array == value + 1).all()
        return True

    def kill(self):
        self.process.kill()
        self.process.join()

    def close(self):
        self.kill()
        self.pipe.close()
        self.process.close()


def storm(context, kills, seed):
    """Kill one of two peers so many times, while it starts, takes, sends or waits."""
    choose = random.Random(seed)
    peers = [Peer(context), Peer(context)]
    asked = 0
    try:
        for _ in range(kills):
            which = choose.randrange(2)
            peer, other = peers[which], peers[1 - which]
            # Some are killed while they start, for which any of them takes a while.
            ready = choose.random() < 0.7 and peer.ask(asked)
            later = choose.random() ** 3 * (0.01 if ready else 1.0)
            timer = threading.Timer(later, peer.process.kill)
            timer.start()
            while peer.ask(asked):
                asked += 1
            timer.join()
            peer.close()
            peers[which] = Peer(context)
            assert other.ask(asked)  # nothing was taken from the others
        assert all(peer.ask(0) for peer in peers)
    finally:
        for peer in peers:
            peer.close()
    return asked


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kills", [5, pytest.param(300, marks=pytest.mark.soak)])
def test_a_storm(arena, method, kills):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    group = arena.group("all")
    with flagstone.share(arena, group=group):
        storm(multiprocessing.get_context(method), kills, seed)
        arena.barrier(PATIENCE)
        # What was under way when somebody was killed, and nothing else.
        lost = arena.in_flight()
        assert len(lost) <= 2 * kills + 2
        assert not any(one.is_group for one in lost)
    group.destroy().wait(PATIENCE)
    wait_until(lambda: not arena.groups)
    assert_all_given_back(arena)


@pytest.mark.parametrize("method", METHODS)
def test_pools_that_break(arena, method):
    """As multiprocessing's own does: everybody hears of it, and the next pool works."""
    context = multiprocessing.get_context(method)
    group = arena.group("all")
    with flagstone.share(arena, group=group):
        executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
        with executor:
            futures = [executor.submit(die_at, n, 3) for n in map(large, range(6))]
            with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                futures[3].result(PATIENCE)
        del futures
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            array = executor.submit(die_at, large(1), 3).result(PATIENCE)
            assert in_arena(array)
            assert (array == 2).all()
        del array
    group.destroy().wait(PATIENCE)
    wait_until(lambda: not arena.groups)
    assert_all_given_back(arena)


def die_at(array, value):
    if array[0] == value:
        os.kill(os.getpid(), signal.SIGKILL)
    return array + 1


def total(array):
    return float(array.sum())


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_replaces_the_killed(arena, method):
    """multiprocessing's own loses the task of a killed worker, and goes on; so does this."""
    context = multiprocessing.get_context(method)
    group = arena.group("all")
    with flagstone.share(arena, group=group), context.Pool(2) as pool:
        lost = pool.apply_async(die_at, (large(3), 3))
        assert pool.map(total, [large(1)] * 4, chunksize=1) == [LARGE / 8] * 4
        assert not lost.ready()
        pool.terminate()
        pool.join()
    del lost
    group.destroy().wait(PATIENCE)
    wait_until(lambda: not arena.groups)
    assert_all_given_back(arena)


PROGRAM = """
import multiprocessing, os, sys
import flagstone
from tests.process.test_sharing_killed import Peer

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    sharing = flagstone.share()
    peers = [Peer(multiprocessing), Peer(multiprocessing)]
    assert all(peer.ask(1) for peer in peers)
    print(sharing.arena.path, *(peer.process.pid for peer in peers), flush=True)
    while all(peer.ask(1) for peer in peers):
        pass
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.soak)])
def test_the_program_is_killed(method, times, tmp_path):
    """Its processes end, as multiprocessing's own would, and with the last of them the arena."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for _ in range(times):
        argv = [sys.executable, program, method]
        env = os.environ | {"PYTHONPATH": os.getcwd()}
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as ran:
            path, *pids = ran.stdout.readline().split()
            assert os.path.exists(path)
            time.sleep(random.random() / 20)
            ran.kill()
        for pid in pids:
            wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), PATIENCE)
        wait_until(lambda path=path: not os.path.exists(path), PATIENCE)
