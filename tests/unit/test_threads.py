"""Threads that use the same things at once: in a build of Python without a GIL, too."""

import os
import pickle
import queue
import signal
import sys
import sysconfig
import threading
import time

import pytest

import flagstone

THREADS = 4
ROUNDS = 500


@pytest.fixture
def arena(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena


def run(*bodies):
    """Run these in threads that begin together; raises what they raise."""
    gate = threading.Barrier(len(bodies))
    raised = []

    def one(body):
        gate.wait()
        try:
            body()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


if sysconfig.get_config_var("Py_GIL_DISABLED"):

    def test_the_extension_does_not_ask_for_the_gil():
        assert not sys._is_gil_enabled()


def test_what_one_allocates_another_drops(arena):
    alloc = arena.cache("thing", size=64).bind().alloc
    handed = queue.SimpleQueue()

    def make():
        for number in range(ROUNDS):
            block = alloc()
            block.array[:8] = number % 251
            handed.put((number % 251, block))
        handed.put(None)

    def take():
        while (one := handed.get()) is not None:
            assert (one[1].array[:8] == one[0]).all()
            one = None

    run(*[make] * THREADS, *[take] * THREADS)
    assert sum(one.references for one in arena.processes) == 0


def test_one_block_is_looked_at_and_freed(arena):
    cache = arena.cache("thing", shape=8, dtype="u8")
    for _ in range(200):
        block = cache.alloc()
        block.array[:] = 7
        freed = []

        def look(block=block):
            try:
                while True:
                    assert (block.array == 7).all()
            except flagstone.Closed:
                pass

        def free(block=block, freed=freed):
            try:
                block.free()
                freed.append(1)
            except flagstone.Closed:
                pass

        run(look, look, free, free)
        assert freed == [1]


def test_one_block_is_put_into_a_channel_and_freed(arena):
    channel = arena.channel("c", capacity=4)
    for number in range(200):
        block = arena.alloc(8)
        block.array[:] = number % 251

        def put(block=block):
            try:
                channel.put(block)
            except (flagstone.Closed, flagstone.StaleHandle):
                pass

        def free(block=block):
            try:
                block.free()
            except (flagstone.Closed, flagstone.StaleHandle):
                pass

        run(put, put, free)
        del block, put, free
        # What was put keeps its bytes, whoever has freed the object.
        others = [arena.alloc(8) for _ in range(3)]
        for other in others:
            other.array[:] = 255
        while channel.qsize():
            assert (channel.get_nowait().array == number % 251).all()
        del other, others
    assert sum(one.references for one in arena.processes) == 1  # the channel's
    arena.barrier(30)
    assert arena.check() == []


def test_an_arena_is_closed_while_all_allocate():
    for _ in range(30):
        arena = flagstone.open(capacity="32MiB")
        alloc = arena.cache("thing", size=64).bind().alloc
        kept = [alloc() for _ in range(10)]

        def use(arena=arena, alloc=alloc):
            try:
                while True:
                    alloc()
                    arena.group("g").close()
            except flagstone.Closed:
                pass

        run(use, use, use, arena.close)
        assert [len(block) for block in kept] == [64] * 10


def test_a_channel_has_many_of_both_sides(arena):
    channel = arena.channel("c", capacity=16)
    cache = arena.cache("thing", shape=1, dtype="u8")
    got = []

    def put():
        for number in range(ROUNDS):
            if number % 2:
                channel.put(number)
            else:
                block = cache.alloc()
                block.array[0] = number
                channel.put(block)

    def get():
        for _ in range(ROUNDS):
            item = channel.get()
            got.append(item if isinstance(item, int) else int(item.array[0]))

    run(*[put] * THREADS, *[get] * THREADS)
    assert sorted(got) == sorted(list(range(ROUNDS)) * THREADS)


def test_one_handle_is_resolved_by_all(arena):
    block = arena.cache("thing", size=64).alloc()
    block.array[:] = 5
    handle = block.handle

    def resolve():
        for _ in range(ROUNDS):
            assert arena.get(handle).array[3] == 5

    run(*[resolve] * THREADS)
    assert [one.references for one in arena.processes] == [1]


def test_a_fork_beside_threads_that_send(arena):
    """Without a GIL, threads that meet at a lock of Python's hand it on, and a child forked at that
    moment waits for it for ever. What the package does at a fork takes none; what the child would
    call of Python's next (pickle imports, say) is not asked.
    """
    anonymous = flagstone.open(capacity="64MiB")
    over = threading.Event()

    def ended(pid):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return True
            time.sleep(0.001)
        return False

    def send():
        while not over.is_set():
            for one in (arena, anonymous):
                assert pickle.loads(pickle.dumps(one.put(b"sent"))).array[0] == ord("s")

    def fork():
        try:
            for _ in range(20):
                pid = os.fork()
                if not pid:
                    os._exit(0)
                if not ended(pid):
                    os.kill(pid, signal.SIGKILL)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            over.set()

    run(*[send] * THREADS, fork)
    anonymous.close()
