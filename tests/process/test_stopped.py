"""A process that is stopped inside a section of a lock which all processes share: every public
method beside it lets other threads and signals in, keeps its time, and says whom it waits for;
what does not need the lock goes on; and when the process goes on, or is killed, all is as before.
"""

import contextlib
import faulthandler
import functools
import inspect
import logging
import os
import pathlib
import pickle
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import flagstone
from flagstone import notices, rcu
from flagstone.testing import assert_sound, holding, wait_until
from tests.process import calls, support
from tests.process.support import PATIENCE, Worker, attach, kept

ROOT = pathlib.Path(__file__).parents[2]

# For each lock, the methods that may have to wait for it. That no other may is the promise: nobody
# has to wait to use, drop, send, take, look up or free what is there, nor for a lock of a batch.
NAMES = {
    "Arena.cache",
    "Arena.channel",
    "Arena.group",
    "Arena.lock",
    "Arena.topic",
    "Cache.bind",
    "Cache.destroy",
    "Channel.destroy",
    "Lock.__reduce__",
    "Lock.destroy",
    "Store.__reduce__",
    "Topic.destroy",
    "Group.__exit__",
    "Group.close",
    "Group.destroy",
    "Group.limit=",
    "Arena.store",
    "Store.destroy",
    "Sharing.__exit__",
    "Sharing.close",
    "Sharing.dumps",
    "Sharing.group",
    "share",
}
SIZES = {
    "Arena.aalloc",
    "Arena.adump",
    "Arena.aempty",
    "Arena.aempty_like",
    "Arena.alloc",
    "Arena.aput",
    "Arena.azeros",
    "Arena.dump",
    "Arena.empty",
    "Arena.empty_like",
    "Arena.put",
    "Arena.zeros",
    "Block.__deepcopy__",
    "Store.__setitem__",
    "Store.aget_or_put",
    "Store.get_or_put",
    "Store.put",
    "Store.replace",
    "Store.setdefault",
    "Store.update",
    "pack",
    "pack_arrays",
}
OBJECTS = {
    "Cache.aalloc",
    "Cache.alloc",
    "Cache.alloc_many",
    "GroupCache.aalloc",
    "GroupCache.alloc",
    "GroupCache.alloc_many",
}
BATCHES = {"Arena.barrier", "Arena.shrink", "Cache.shrink", "Teardown.__await__", "Teardown.wait"}
LOOKING = {
    "Arena.caches",
    "Arena.check",
    "Arena.slabinfo",
    "Arena.snapshot",
    "Cache.aliases",
    "Cache.merged_into",
    "Cache.stats",
    "Group.caches",
}
MAY_WAIT = {
    "names": NAMES | SIZES | BATCHES | LOOKING,
    "pages": NAMES | SIZES | OBJECTS | BATCHES | LOOKING,
    "slabs": OBJECTS | BATCHES | LOOKING,
    "ending": {"Cache.destroy"},
    "reaper": BATCHES,
    "destroying": set(),
}

# Waits that nobody is told of: a coroutine's, which looks now and then.
SILENT = {"Teardown.__await__"}


def stop_holding(lock):
    """In a `Worker` that has attached: hold the lock, stopped; and let go."""
    arena = kept["arena"]
    cache = calls.ended_cache(arena) if lock == "ending" else calls.used_cache(arena)
    bound = cache.bind()
    with holding(arena, lock, bound):
        os.kill(os.getpid(), signal.SIGSTOP)


class Stopped(Worker):
    """A process that can be stopped while it holds a lock."""

    def __init__(self, name):
        super().__init__()
        self(attach, name)

    def stop(self, lock):
        self.send(stop_holding, lock)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def go_on(self):
        self.signal(signal.SIGCONT)
        self.result()

    @contextlib.contextmanager
    def stopped(self, lock):
        self.stop(lock)
        try:
            yield self
        finally:
            if self.lives():
                self.go_on()


class Interrupter:
    """A thread that presses Ctrl-C when a call does not end, once somebody has been told whom it
    waits for. That it runs at all shows that the call does not hold the GIL.
    """

    def __init__(self):
        self.told = []
        self._told = threading.Event()
        handler = logging.Handler()
        handler.emit = self._tell
        logging.getLogger("flagstone").addHandler(handler)
        self._inside = False
        self.on_told = lambda: None
        signal.signal(signal.SIGINT, self._handle)

    def _tell(self, record):
        self.told.append(record.getMessage())
        self.on_told()
        self._told.set()

    def _handle(self, number, frame):
        if self._inside:
            raise KeyboardInterrupt

    def __call__(self, function, silent=False, patience=0.1):
        """The exception of the call, or None: KeyboardInterrupt where it had to be ended."""
        ended = threading.Event()
        self.told.clear()
        self._told.clear()
        thread = threading.Thread(target=self._watch, args=(ended, silent, patience))
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        self._inside = True
        try:
            thread.start()
            function()
            return None
        except (Exception, KeyboardInterrupt) as error:
            return error.with_traceback(None)
        finally:
            self._inside = False
            ended.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()

    def _watch(self, ended, silent, patience):
        if ended.wait(patience):
            return
        if not silent:
            self._told.wait(5)
        while not ended.wait(0.01):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            ended.wait(5)


def call_everything(name, lock):
    """In a `Worker`: each method beside a process that has the lock. What is wrong, and which of
    them had to wait.
    """
    notices.LONG = rcu.LONG = 0.03
    arena = flagstone.open(name, capacity="256MiB")
    interrupter = Interrupter()
    wrong, waited = [], set()
    with Stopped(arena.path) as holder:
        world = calls.World(arena)
        for key in calls.public_names():
            call = world.prepare(key)
            arena._link.attachment.noticed[0] = None
            with holder.stopped(lock):
                error = interrupter(call, key in SILENT)
                if isinstance(error, KeyboardInterrupt):
                    waited.add(key)
                    if key not in SILENT and not _named(holder, " ".join(interrupter.told)):
                        wrong.append(f"{key}: told {interrupter.told}")
                elif error is not None:
                    wrong.append(f"{key}: {error!r}")
                elif interrupter.told:
                    wrong.append(f"{key}: it ended by itself, and told {interrupter.told}")
            if key in waited:
                error = interrupter(call)
                if error is not None:
                    wrong.append(f"{key}: afterwards {error!r}")
            del call
            world.clean()
        for key in sorted(waited):
            argument = calls.time_of(key)
            if argument is None:
                continue
            call = functools.partial(world.prepare(key), **{argument: 0.1})
            with holder.stopped(lock):
                error = interrupter(call, silent=True, patience=5)
            # Some batches end in time: they do not come to that lock, or wait for it last.
            late = isinstance(error, (MemoryError, TimeoutError)) and _named(holder, str(error))
            if error is not None and not late:
                wrong.append(f"{key}({argument}=0.1): {error!r}")
            del call
            world.clean()
        error = None  # its traceback has what the last call was about
        assert_sound(arena)
        for cache in (world.cache, calls.ended_cache(arena)):
            cache.destroy().wait(PATIENCE)
    assert_sound(arena)
    if arena.used:
        wrong.append(f"{arena.used} bytes are left")
    return wrong, waited


def test_a_channel_is_not_taken_for_one_whose_ring_it_has(arena_name):
    """A batch releases a ring and cannot say so, because the lock is held; the next channel gets
    the same object for its ring.
    """
    with flagstone.open(arena_name, capacity="64MiB") as arena, Stopped(arena.path) as holder:
        for _ in range(20):
            one = arena.channel("one", capacity=64)
            one.destroy()
            with holder.stopped("names"):
                one.leave()
                with contextlib.suppress(TimeoutError):
                    arena.barrier(timeout=0.1)
            two = arena.channel("two", capacity=64)
            two.put(b"x")
            assert pickle.loads(pickle.dumps(two)).get(wait=0) == b"x"
            two.destroy()
        assert_sound(arena)


def _named(holder, text):
    return f"process {holder.pid}" in text


def test_every_public_method_is_known():
    """A new one has an entry in calls.py, or is missed here."""
    missing = [key for key in calls.public_names() if not calls.has_entry(key)]
    assert missing == [], "say in calls.py how it is called"


@pytest.mark.parametrize("lock", list(MAY_WAIT))
def test_every_method_beside_a_stopped_process(lock, worker, arena_name):
    wrong, waited = worker(call_everything, arena_name, lock)
    assert not wrong, "\n".join(wrong)
    assert not waited - MAY_WAIT[lock], " ".join(sorted(waited))
    assert waited or not MAY_WAIT[lock]


def texts():
    """What is said of each function and method: docstrings, and the comments of the C headers."""
    for key in calls.public_names():
        cls, _, name = key.partition(".")
        value = getattr(flagstone, cls)
        if name:
            value = inspect.getattr_static(value, name.rstrip("="))
        yield key, inspect.getdoc(value) or ""
    for path in sorted((ROOT / "core" / "include").glob("*.h")):
        for text, name in re.findall(
            r"/\*((?:(?!\*/).)*)\*/\n[\w ]+?[ *](fst_\w+)\(", path.read_text(), re.S
        ):
            yield name, text.replace("\n *", " ")


def test_never_waits_is_said_of_nothing_that_may():
    """Where it is said, the test above has to know that it is so; of the C functions, none says
    it: fst_drop and its like have bounds (tests/core/test_held.c), and say which.
    """
    said = {
        name
        for name, text in texts()
        if re.search(r"never\s+waits?\b|waits?\s+for\s+nobody", text, re.I)
    }
    assert said == {"Block.free"}
    assert not said & set().union(*MAY_WAIT.values())


def wait_for_pages(name):
    """In a `Worker`: allocate, until Ctrl-C after somebody was told. What was said, and when."""
    arena = kept["arena"] = flagstone.open(name)
    interrupter = Interrupter()
    started = time.monotonic()
    said = []
    interrupter.on_told = lambda: said.append(time.monotonic() - started)
    error = interrupter(functools.partial(arena.alloc, calls.LARGE))
    return repr(error), interrupter.told, said


@pytest.mark.parametrize("wait", [0, 0.1])
def test_a_group_is_waited_for_as_long_as_one_says(wait, arena_name):
    """`group(wait=)`; without it, the test above hears the log and Ctrl-C."""
    with flagstone.open(arena_name, capacity="16MiB") as arena, Stopped(arena_name) as holder:
        with arena.group("there"):
            with holder.stopped("names"):
                for name in ("there", "other", None):
                    with pytest.raises(TimeoutError, match=f"held by process {holder.pid} ") as no:
                        arena.group(name, wait=wait)
                    assert "the lock of the names" in str(no.value)
            with arena.group("there", wait=wait) as there:
                assert there.name == "there"
        holder(support.forget)
        assert_sound(arena)


def test_whoever_waits_says_so_after_a_second(worker, arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    with Stopped(arena_name) as holder, holder.stopped("pages"):
        error, told, seconds = worker(wait_for_pages, arena_name)
    assert error == "KeyboardInterrupt()"
    assert len(told) == 1
    assert f"the lock of the pages is held by process {holder.pid}" in told[0]
    assert seconds[0] >= 1
    worker(support.forget)
    assert_sound(arena)


def use_sizes(arena, group):
    """Objects without a cache, each of a size that the thread has used in that group."""
    for owner in (None, group):
        arena.alloc(100, group=owner)
        arena.put(bytes(16), group=owner)
        arena.put(np.zeros((3, 4)), group=owner)
        arena.put(np.zeros((3, 4), order="F"), group=owner)
        arena.zeros((5, 5), "i4", group=owner)
        arena.dump({"a": 1}, group=owner)


def use_sizes_beside_a_holder(name):
    """In a `Worker`: the error, and what was told."""
    interrupter = Interrupter()
    with flagstone.open(name) as arena, arena.group() as group:
        use_sizes(arena, group)
        with Stopped(name) as holder, holder.stopped("names"):
            error = interrupter(functools.partial(use_sizes, arena, group))
    return repr(error), interrupter.told


def test_a_size_that_was_used_takes_no_lock_of_names(worker, arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    assert worker(use_sizes_beside_a_holder, arena_name) == ("None", [])
    assert_sound(arena)


@pytest.mark.parametrize("lock", ["names", "pages", "slabs"])
def test_a_killed_owner_holds_up_nobody(lock, worker, arena_name):
    """Who waits goes on by itself when the stopped process is killed."""
    arena = flagstone.open(arena_name, capacity="64MiB")
    holder = Stopped(arena_name)
    cache = calls.used_cache(arena)
    worker(attach, arena_name)
    holder.stop(lock)
    worker.send(use_everything)
    with contextlib.suppress(AssertionError):
        wait_until(worker.answered, 0.2)
    holder.kill()
    assert worker.result() == 60
    cache.destroy().wait(PATIENCE)
    assert_sound(arena)


def use_everything():
    """In a `Worker` that has attached: how many objects it got."""
    arena = kept["arena"]
    with arena.group("mine") as group:
        arena.alloc(calls.LARGE, group=group)
        return len(calls.used_cache(arena).alloc_many(60, group))


PROGRAM = """
import os, pickle, signal, sys, threading
import flagstone

arena = flagstone.open(sys.argv[1], create=False)
cache = arena.cache("objects", size=5000, merge=False)
blocks = cache.alloc_many(60) + [arena.alloc(300_000)]
groups = [arena.group() for _ in range(3)]
blocks += [cache.alloc(group) for group in groups]
stopped = threading.Event()
def thread_with_slabs():
    cache.alloc()
    ready.set()
    stopped.wait()
ready = threading.Event()
thread = threading.Thread(target=thread_with_slabs)
thread.start()
ready.wait()
print("ready", flush=True)
sys.stdin.readline()
messages = [pickle.dumps(block) for block in blocks[::2]]
del blocks[10:], groups  # a batch has something to do, and a group's last reference went
stopped.set()
thread.join()
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        assert arena.used and bytes(blocks[0])
        {child}
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
{end}
"""

ENDS = {
    "exit": ("os._exit(0)", ""),
    "close": ("arena.close(); os._exit(0)", "arena.close()"),
    "del": ("sys.exit(0)", "del arena, cache, blocks"),
    "view": ("sys.exit(0)", "view = blocks[0].array; arena.close()"),
}


@pytest.mark.parametrize("lock", list(MAY_WAIT))
@pytest.mark.parametrize("end", list(ENDS))
def test_forks_closes_and_exits_wait_for_nobody(end, lock, arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    child, close = ENDS[end]
    source = PROGRAM.format(child=child, end=close)
    with Stopped(arena_name) as holder:
        with subprocess.Popen(
            [sys.executable, "-c", source, arena_name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            with support.watchdog(running.pid):
                assert running.stdout.readline() == "ready\n"
                holder.stop(lock)
                _, errors = running.communicate("go on\n")
            holder.go_on()
        assert errors == ""
        assert running.returncode == 0
    arena.drop_in_flight()
    calls.used_cache(arena).destroy().wait(PATIENCE)
    assert_sound(arena)
    assert arena.used == 0
