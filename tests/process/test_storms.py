"""Processes that are killed at random moments, by the hundred: the others go on."""

import contextlib
import os
import pickle
import random
import select
import signal
import socket
import sys
import time
import traceback

import pytest

import flagstone
from flagstone.testing import assert_sound
from tests.process.support import (
    PATIENCE,
    Line,
    assert_all_given_back,
    pattern,
)

SIZE = 2000


@pytest.fixture
def cache(arena):
    return arena.cache("thing", size=SIZE)


class Storm:
    """A process of a crowd that does everything at random, and checks each byte that it sees."""

    def __init__(self, name, seed, mail, stop):
        self.random = random.Random(seed)
        self.arena = flagstone.open(name, create=False)
        self.caches = [self.arena.cache(f"size-{n}", size=n) for n in (100, 3000, 70_000)]
        self.blocks = {}
        self.groups = []
        self.mail = mail
        self.stop = stop

    def run(self):
        actions = [
            self.allocate,
            self.allocate,
            self.allocate_bytes,
            self.drop,
            self.look,
            self.send,
            self.receive,
            self.resolve,
            self.free,
            self.group,
            self.end_group,
            self.section,
            self.many,
            self.barrier,
        ]
        while not select.select([self.stop], [], [], 0)[0]:
            self.random.choice(actions)()
            if len(self.blocks) > 40:
                self.drop()
        self.look()

    def add(self, block, number=None):
        if number is None:
            number = self.random.getrandbits(48)
            memoryview(block).cast("B")[:] = pattern(number, block.nbytes)
        self.blocks[self.random.getrandbits(60)] = number, block

    def some(self):
        return self.random.choice(list(self.blocks)) if self.blocks else None

    def some_group(self):
        return self.random.choice([None, *self.groups])

    def allocate(self):
        with contextlib.suppress(flagstone.Closed):
            self.add(self.random.choice(self.caches).alloc(self.some_group()))

    def allocate_bytes(self):
        self.add(self.arena.alloc(self.random.randint(0, 50_000)))

    def many(self):
        for block in self.caches[0].alloc_many(self.random.randint(0, 10)):
            self.add(block)

    def drop(self):
        self.blocks.pop(self.some(), None)

    def look(self):
        for number, block in self.blocks.values():
            assert bytes(block) == pattern(number, block.nbytes)

    def send(self):
        if (key := self.some()) is not None:
            with contextlib.suppress(BlockingIOError):
                self.mail[0].send(pickle.dumps(self.blocks[key]))

    def receive(self):
        with contextlib.suppress(BlockingIOError, flagstone.StaleHandle):
            number, block = pickle.loads(self.mail[1].recv(100_000))
            assert bytes(block) == pattern(number, block.nbytes)
            self.add(block, number)

    def resolve(self):
        if (key := self.some()) is not None:
            number, block = self.blocks[key]
            with contextlib.suppress(flagstone.StaleHandle):
                self.add(self.arena.get(block.handle), number)

    def free(self):
        with contextlib.suppress(flagstone.StaleHandle):
            if (key := self.some()) is not None:
                self.blocks.pop(key)[1].free()

    def group(self):
        if len(self.groups) < 3:
            name = self.random.choice(["red", "green", "blue", None])
            self.groups.append(self.arena.group(name))

    def end_group(self):
        if self.groups:
            group = self.groups.pop()
            with contextlib.suppress(flagstone.Closed):
                self.random.choice([group.close, group.destroy, lambda: None])()

    def section(self):
        with self.arena.read():
            self.look()

    def barrier(self):
        if self.random.random() < 0.2:
            self.arena.barrier(PATIENCE)


def test_random_kills(arena_name):
    """200 times one of four is killed, anywhere, and replaced. The others never notice."""
    seed = int(os.environ.get("FLAGSTONE_TEST_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print("seed", seed)
    choose = random.Random(seed)
    mail = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in mail:
        end.setblocking(False)
    crowd = []

    def start(number):
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            if number % 2:  # half of them attach, the others go on with what they inherited
                held.clear()
                arena.close()
            Storm(arena_name, seed + number, mail, stop._reader).run()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)

    with flagstone.open(arena_name, capacity="256MiB") as arena, Line() as stop:
        held = [(number, arena.put(pattern(number, SIZE))) for number in range(20)]
        try:
            for number in range(4):
                crowd.append(start(number))
            for number in range(4, 204):
                time.sleep(choose.random() * 0.02)
                victim = choose.choice(crowd)
                assert os.waitpid(victim, os.WNOHANG) == (0, 0), "it ended by itself"
                os.kill(victim, signal.SIGKILL)
                os.waitpid(victim, 0)
                crowd.remove(victim)
                for value, block in held:
                    assert bytes(block) == pattern(value, SIZE)
                if number % 50 == 0:
                    arena.barrier(PATIENCE)
                    assert arena.check() == []
                crowd.append(start(number))
            stop.say()
            while crowd:
                pid = crowd.pop()
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            for pid in crowd:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            for end in mail:
                end.close()
        arena.drop_in_flight()
        assert_sound(arena)
        for value, block in held:
            assert bytes(block) == pattern(value, SIZE)
        assert sum(cache.stats.allocated for cache in arena.caches) == 0
        assert arena.groups == []
        assert len(arena.processes) == 1
        # One that is killed before it attaches is none; the last four end without leaving.
        assert 150 <= arena.snapshot().deaths <= 204
        del block
        held.clear()
        assert_all_given_back(arena)


CRASHES = 1100  # more than an arena has slots for processes


def test_crash_loop_beside_an_idle_process(arena_name):
    """Whoever attaches finds room, though nobody who lives runs a reaper."""
    ready, done = os.pipe(), os.pipe()
    with contextlib.ExitStack() as stack:
        for end in (*ready, *done):
            stack.callback(os.close, end)
        idle = os.fork()
        if idle == 0:
            with kept_from_pytest():
                arena = flagstone.open(arena_name, create=True)
                os.write(ready[1], b"x")
                os.read(done[0], 1)
                arena.close()
        os.read(ready[0], 1)
        for _ in range(CRASHES):
            pid = os.fork()
            if pid == 0:
                with kept_from_pytest():
                    block = flagstone.open(arena_name, create=False).alloc(100)
                    os.kill(os.getpid(), signal.SIGKILL)
                    del block
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        with flagstone.open(arena_name, create=False) as arena:
            assert len(arena.processes) == 2
            assert_all_given_back(arena)
        os.write(done[1], b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(idle, 0)[1]) == 0


def test_forks_that_crash(arena, cache):
    """Whoever forks buries those it has forked before."""
    held = cache.alloc()
    for _ in range(CRASHES):
        pid = os.fork()
        if pid == 0:
            with kept_from_pytest():
                block = cache.alloc()
                os.kill(os.getpid(), signal.SIGKILL)
                del block
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert len(arena.processes) < 100
    del held
    arena.barrier()
    assert_all_given_back(arena)


@contextlib.contextmanager
def kept_from_pytest():
    """In a forked child: whatever happens, it ends here."""
    try:
        yield
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
