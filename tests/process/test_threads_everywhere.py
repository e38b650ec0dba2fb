"""Every public method, from eight threads at once on the same object: made from the list of
methods in calls.py. Where Python has no GIL they do run at once.
"""

import contextlib
import functools
import re
import threading

import pytest

import flagstone
from flagstone.testing import assert_sound
from tests.process import calls
from tests.process.support import program

THREADS = 8

# What may be said to a thread that came too late, or beside another one: the object is closed,
# used up, taken, or in use.
LATE = (
    flagstone.FlagstoneError,
    BufferError,
    IndexError,
    KeyError,
    RuntimeError,
    StopAsyncIteration,
    StopIteration,
    TimeoutError,
    ValueError,
)


def at_once(way, feed=lambda: None):
    """Call it in eight threads that begin together; what they raised. `feed` is called as long as
    some of them have not come back.
    """
    gate = threading.Barrier(THREADS)
    raised = []

    def one():
        gate.wait()
        try:
            way()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=one) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            feed()
            thread.join(0.01)
    return raised


def fed(world):
    """There is for one of the eight what it waits for. The others get it from here: messages, room
    for messages, a change.
    """
    for channel in world.channels:
        with contextlib.suppress(*LATE):
            if channel.qsize() > 8:
                channel.get_nowait()
            elif channel.empty():
                channel.put_nowait(b"more")
    for store in world.stores:
        with contextlib.suppress(*LATE):
            store["fed"] = b"more"


def forks(way):
    """Whether the call is made in a child."""
    return "in_child" in getattr(way, "__qualname__", "")


CLASSES = sorted({key.rpartition(".")[0] for key in calls.public_names()})


@pytest.mark.parametrize("name", CLASSES, ids=lambda name: name or "functions")
def test_eight_threads(arena_name, name):
    with flagstone.open(arena_name, capacity="256MiB") as arena:
        world = calls.World(arena)
        keys = [key for key in calls.public_names() if key.rpartition(".")[0] == name]
        wrong = []
        for key in keys:
            way = world.prepare(key)
            if forks(way):
                continue
            raised = at_once(way, functools.partial(fed, world))
            wrong += [(key, error) for error in raised if not isinstance(error, LATE)]
            del way
            world.clean()
        assert wrong == []
        arena.barrier()
        assert_sound(arena)
        del world


def test_an_arena_is_closed_by_eight_threads(arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    assert [error for error in at_once(arena.close) if not isinstance(error, LATE)] == []
    assert arena.closed


INTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
    def run(number, code):
        failed = interpreters.exec(number, code)
        return failed and f"{failed.type.__name__}: {failed.msg}"
except ImportError:
    import _xxsubinterpreters as interpreters
    def run(number, code):
        try:
            interpreters.run_string(number, code)
        except interpreters.RunFailedError as error:
            return str(error)
import flagstone
with flagstone.open(None, capacity="8MiB") as arena:
    block = arena.alloc(100)
    other = interpreters.create()
    print(run(other, f"import sys; sys.path[:] = {sys.path!r}; import flagstone"))
    interpreters.destroy(other)
    del block
print("goes on")
"""


def test_a_second_interpreter_is_refused():
    """Clearly, by ImportError, and the first one is as it was."""
    said = program(INTERPRETERS)
    assert re.search("ImportError.*(interpreter|subinterpreter)", said), said
    assert said.endswith("goes on\n")
