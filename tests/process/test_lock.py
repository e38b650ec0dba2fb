"""Lock: found by name, taken over from the dead, and never waited for beyond what was asked."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

import flagstone
from tests.process.support import Worker, forked, kept


def own(path, name):
    arena = flagstone.open(path, create=False)
    kept["lock"] = arena.lock(name)
    assert kept["lock"].acquire(0)


@pytest.fixture
def arena(arena_name):
    arena = flagstone.open(arena_name, capacity="16MiB")
    yield arena
    arena.close()


def test_one_at_a_time(arena):
    lock = arena.lock("one")
    assert lock.name == "one"
    assert not lock.locked()
    assert not lock.inherited
    with lock as same:
        assert same is lock
        assert lock.locked()
        assert arena.lock("one").info.pid == os.getpid()
        assert [one.command for one in arena.locks] == [arena.processes[0].command]
        with pytest.raises(RuntimeError, match=r"'one' of arena .* already"):
            arena.lock("one").acquire(0)
        found = []
        thread = threading.Thread(target=lambda: found.append(arena.lock("one").acquire(0.01)))
        thread.start()
        thread.join()
        assert found == [False]
    assert lock.acquire(wait=0)
    lock.release()
    with pytest.raises(RuntimeError, match="not owned"):
        lock.release()


def test_kinds_have_names_of_their_own(arena):
    lock, channel = arena.lock("same"), arena.channel("same")
    with lock:
        channel.put(b"x")
    assert [info.name for info in arena.locks] == ["same"]
    assert [info.name for info in arena.channels] == ["same"]
    assert channel.get() == b"x"


def test_the_next_one_inherits(arena):
    worker = Worker("spawn")
    worker(own, arena.path, "left")
    lock = arena.lock("left")
    assert lock.info.pid == worker.pid
    assert not lock.acquire(0.01)
    worker.kill()
    assert lock.info.inherited
    assert lock.info.pid is None
    assert lock.acquire(wait=30)
    assert lock.inherited
    lock.release()
    with lock:
        assert not lock.inherited


def test_it_is_kept_for_who_opens_it_later(arena):
    """Who died with it was the only one that had it open."""
    worker = Worker("spawn")
    worker(own, arena.path, "lonely")
    worker.kill()
    for _ in range(3):
        arena.barrier()
    with arena.lock("lonely") as lock:
        assert lock.inherited
    del lock
    for _ in range(3):
        arena.barrier()
    assert arena.locks == []


def test_a_stopped_owner_keeps_it(arena):
    worker = Worker("spawn")
    worker(own, arena.path, "stopped")
    worker.signal(signal.SIGSTOP)
    lock = arena.lock("stopped")
    assert not lock.acquire(0.05)

    class Heard(Exception):
        pass

    def heard(*_):
        raise Heard

    before = signal.signal(signal.SIGALRM, heard)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(Heard):
            lock.acquire()
    finally:
        signal.signal(signal.SIGALRM, before)
    worker.signal(signal.SIGCONT)
    worker.kill()
    with lock:
        assert lock.inherited


def test_other_threads_go_on_while_one_waits(arena):
    lock = arena.lock("gil")
    began = threading.Event()

    def wait():
        began.set()
        with arena.lock("gil"):
            pass

    with lock:
        thread = threading.Thread(target=wait)
        thread.start()
        assert began.wait(30)
        time.sleep(0.02)
        assert sum(range(1000)) == 499500
        assert thread.is_alive()
    thread.join()


def test_a_forked_child_owns_nothing(arena):
    lock = arena.lock("fork")

    def child():
        with pytest.raises(RuntimeError, match="not owned"):
            lock.release()
        assert not lock.acquire(0.01)

    with lock:
        with forked(child):
            pass
        lock.release()
        assert lock.acquire(0)
    copy = pickle.loads(pickle.dumps(lock))
    assert copy == lock
    assert hash(copy) == hash(lock)


def test_left_and_destroyed(arena):
    lock, other = arena.lock("end"), arena.lock("end")
    other.leave()
    with pytest.raises(flagstone.Closed):
        other.acquire()
    lock.destroy()
    with pytest.raises(flagstone.Closed):
        lock.acquire()
    with arena.lock("end") as new:
        assert new != lock
    with pytest.raises(TypeError):
        arena.lock(7)


def read(path):
    with flagstone.open(path, readonly=True) as reader:
        with pytest.raises(flagstone.ReadOnly):
            reader.lock("none")
        with reader.lock("there"):
            pass


def test_a_reader_may_have_one(arena):
    with arena.lock("there") as lock:
        pass
    with Worker("spawn") as worker:
        worker(read, arena.path)
    assert lock.acquire(0)
    assert not lock.inherited
    lock.release()


_STORM = """
import sys, flagstone
arena = flagstone.open(sys.argv[1], create=False)
counter, lock = arena.get(flagstone.Handle(bytes.fromhex(sys.argv[2]))), arena.lock("storm")
while True:
    with lock:
        inside, total = counter.array[:16].view("u8")
        if lock.inherited:
            inside = 0
        assert inside == 0, inside
        counter.array[:16].view("u8")[0] = 1
        counter.array[:16].view("u8")[1] = total + 1
        counter.array[:16].view("u8")[0] = 0
"""


def test_a_storm_of_kills(arena, tmp_path):
    counter = arena.alloc(16)
    counter.array[:] = 0
    command = [sys.executable, "-c", _STORM, arena.path, bytes(counter.handle).hex()]
    chance = random.Random(3)
    total = 0
    for _ in range(6):
        with (tmp_path / "said").open("w+b") as said:
            workers = [subprocess.Popen(command, stderr=said) for _ in range(3)]
            words = counter.array.view("u8")
            until = time.monotonic() + 60
            while words[1] < total + 100 and time.monotonic() < until:
                time.sleep(0.01)
            chance.shuffle(workers)
            for worker in workers:
                assert worker.poll() is None
                worker.kill()
                worker.wait()
                time.sleep(chance.random() * 0.01)
            said.seek(0)
            assert said.read() == b""
        assert words[1] > total
        total = int(words[1])
    with arena.lock("storm"):
        pass
