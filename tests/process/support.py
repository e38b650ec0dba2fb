"""What tests with several processes share: processes that do as they are told, and what is promised
of an arena that everybody has let go of.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import hashlib
import math
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import resource_tracker

import flagstone
from flagstone.testing import assert_sound

METHODS = ["fork", "spawn", "forkserver"]

# Nothing here takes that long, unless it hangs.
PATIENCE = 60.0

MIB = 1 << 20

kept = {}
"""What a function that runs in a `Worker` leaves there for the next one."""


WAITS = "flagstone waits"
"""The name of the threads that wait for coroutines and descriptors."""


def waiting_threads():
    return [thread for thread in threading.enumerate() if thread.name == WAITS]


def pattern(number, nbytes):
    """Bytes by which an object can be told from every other one."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return (seed * (nbytes // len(seed) + 1))[:nbytes]


class Things:
    """Objects of one size, each with a pattern of its own: `fill` makes them, `check` knows
    them.
    """

    def __init__(self, nbytes):
        self.nbytes = nbytes

    def fill(self, cache, count, first=0, group=None):
        """Allocate so many, numbered from `first`."""
        blocks = cache.alloc_many(count, group)
        for number, block in enumerate(blocks, first):
            memoryview(block)[:] = pattern(number, self.nbytes)
        return blocks

    def check(self, blocks, first=0, step=1):
        """They are those that `fill` made: from `first`, each `step`-th."""
        for number, block in enumerate(blocks):
            assert bytes(block) == pattern(first + step * number, self.nbytes)


def fill_with(allocate):
    """Allocate until there is no room: what there was, and the exception."""
    blocks = []
    while True:
        try:
            block = allocate()
        except MemoryError as error:
            return blocks, str(error)
        memoryview(block).cast("B")[:] = pattern(len(blocks), block.nbytes)
        blocks.append(block)


def assert_all_given_back(arena, used=0):
    """Everybody has let go: nothing is in flight, nothing allocated, and nothing contradicts. What
    has ended is given back by batches: a process may still be dying at the first.
    """
    gc.collect()  # a caught exception's frames keep Blocks
    assert_sound(arena)
    deadline = time.monotonic() + 10
    while arena.used != used and time.monotonic() < deadline:
        time.sleep(0.002)
        assert_sound(arena)
    assert arena.in_flight() == []
    assert arena.used == used
    assert sum(one.references for one in arena.processes) == 0


@contextlib.contextmanager
def running(*processes):
    """Start processes of multiprocessing; at the end each must have ended by itself, well."""
    try:
        for process in processes:
            process.start()
        yield processes[0]
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()
                process.close()


class Worker:
    """A process that calls functions for this one: `worker(function, *arguments)` gives what the
    function returned there, or raises what it raised.

    With "fork" it has everything that its parent has; start it before anything is opened for one
    that has nothing. As a context manager it is made to end well.
    """

    def __init__(self, method="fork"):
        context = multiprocessing.get_context(method)
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        self.pid = self.process.pid
        theirs.close()

    def __call__(self, function, *arguments):
        self.send(function, *arguments)
        return self.result()

    def send(self, function, *arguments):
        self._pipe.send((function, arguments))

    def result(self):
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError(f"process {self.pid} does not answer")
        good, answer = self._pipe.recv()
        if good:
            return answer
        raise answer

    def answered(self):
        """Whether `result` has something already."""
        return self._pipe.poll(0)

    def lives(self):
        """Whether it was neither killed nor ended."""
        return not self._pipe.closed

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join()
        self.close()

    def end(self):
        """Let it end by itself."""
        self.signal(signal.SIGCONT)  # a test that failed may have stopped it
        self._pipe.send_bytes(b"")
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0
        self.close()

    def close(self):
        if not self._pipe.closed:
            self._pipe.close()
            self.process.kill()
            self.process.join()
            self.process.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is None and not self._pipe.closed:
            self.end()
        self.close()


class Hog:
    """A file of somebody else on the same file system, as large as it can get."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "foreign")
        self.file = os.open(self.path, os.O_CREAT | os.O_RDWR)
        self.size = 0

    def grow(self, nbytes=math.inf):
        """Take so much, or all there is."""
        step = 4096 if nbytes < MIB else MIB
        end = self.size + nbytes
        while self.size < end:
            try:
                os.posix_fallocate(self.file, self.size, step)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if step == 4096:
                    return
                step = 4096
                continue
            self.size += step

    def shrink(self, nbytes=None):
        self.size = 0 if nbytes is None else max(0, self.size - nbytes)
        os.ftruncate(self.file, self.size)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        os.close(self.file)
        os.unlink(self.path)


# What a `Worker` is told to do.


def attach(name):
    """Open an arena that is there, and keep it."""
    if "arena" not in kept:
        kept["arena"] = flagstone.open(name, create=False)
    kept["blocks"] = []


def keep(*blocks):
    """Keep what came as an argument, and with it the references that travelled."""
    kept["blocks"].extend(blocks)


def load_and_keep(message, key="block"):
    """Keep what a message brings; the bytes of it."""
    kept[key] = pickle.loads(message)
    return bytes(kept[key])


def resolve(name, handle):
    """The bytes that a handle leads to, in a process that opens the arena for it alone."""
    with flagstone.open(name, create=False) as arena:
        return bytes(arena.get(flagstone.Handle(handle)))


def dump_kept():
    """A message with the block that was kept as "block"."""
    return pickle.dumps(kept["block"])


def begin_reading():
    """Enter a read-side section, and stay there."""
    kept["section"] = kept["arena"].read()
    kept["section"].__enter__()


def end_reading():
    """Leave it."""
    kept.pop("section").__exit__(None, None, None)


def forget():
    """Let go of everything."""
    kept.clear()
    gc.collect()


def kill(process):
    """SIGKILL a process of multiprocessing, which must not have ended before."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def state_of(pid):
    """A process's state in /proc: "S" when it sleeps."""
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        return file.read().rpartition(")")[2].split()[0]


def _serve(pipe):
    kept.clear()
    parent = os.getppid()
    with pipe:
        while True:
            while not pipe.poll(1.0):
                if os.getppid() != parent:
                    return
            try:
                task = pipe.recv_bytes()
            except EOFError:
                return
            if not task:
                kept.clear()
                return
            _run(pipe, task)


def _run(pipe, task):
    try:
        function, arguments = pickle.loads(task)
        answer = True, function(*arguments)
    except BaseException as error:
        error.__traceback__ = None  # or its frames keep Blocks alive
        answer = False, error
    pipe.send(answer)


@contextlib.contextmanager
def forked(function):
    """Run a function in a child made by `os.fork`, which ends by `os._exit` with 0, or 1 if it
    raised; gives its pid. At the end it must have ended well, unless it was waited for.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            if status:
                with contextlib.suppress(Exception):
                    sys.excepthook(*sys.exc_info())
            os._exit(status)
    try:
        with watchdog(pid):
            yield pid
            with contextlib.suppress(ChildProcessError):
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


async def beat(beats):
    """What else an event loop does."""
    while True:
        beats.append(1)
        await asyncio.sleep(0)


@contextlib.contextmanager
def watchdog(pid):
    """Kill a process that hangs."""
    timer = threading.Timer(PATIENCE, functools.partial(os.kill, pid, signal.SIGKILL))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def open_files():
    """What this process has open, by number. What a reaper reads at any moment, in /proc and /sys,
    is left out, and multiprocessing's own pipe, which Python closes in a forked child.
    """
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith(("/proc/", "/sys/")):
                found[int(name)] = target
    found.pop(resource_tracker._resource_tracker._fd, None)
    return found


def program(source, *arguments, stdin=None, status=0):
    """Run a Python program; what it prints. It prints no error, and ends with `status`."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        input=stdin,
    )
    assert result.stderr == ""
    assert result.returncode == status
    return result.stdout


class Line:
    """A pipe for a word between a process and those forked from it."""

    def __init__(self):
        self._reader, self._writer = os.pipe()

    def say(self, word=b"."):
        """Words are single bytes."""
        os.write(self._writer, word)

    def hear(self):
        """The next word; empty when all who could say one are gone."""
        return os.read(self._reader, 1)

    def only_hear(self):
        os.close(self._writer)
        self._writer = -1

    def close(self):
        for end in {self._reader, self._writer} - {-1}:
            os.close(end)
        self._reader = self._writer = -1

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()
