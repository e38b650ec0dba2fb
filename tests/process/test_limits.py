"""Limits of the process that are in the way: an error that names them, and never a signal.

What an arena needs of address space and of a file's length is in proportion to its capacity and to
what is used, so that a small one fits into limits that are a little larger.
"""

import pytest

from tests.process.support import program

SOURCE = """
import resource, sys, flagstone
with open("/proc/self/status") as lines:
    used = next(int(l.split()[1]) * 1024 for l in lines if l.startswith("VmSize"))
most = {room} + (used if "{limit}" == "AS" else 0)
resource.setrlimit(resource.RLIMIT_{limit}, (most, most))
for name in sys.argv[1], None:
    try:
        flagstone.open(name, capacity="16MiB").close()
    except OSError as error:
        print(error)
"""

# To leave the program so many MiB of address space, and no more.
ROOM = """
import os, resource, signal, sys, threading, time
import numpy as np
import flagstone
MIB = 1 << 20
def used():
    with open("/proc/self/status") as lines:
        return next(int(l.split()[1]) * 1024 for l in lines if l.startswith("VmSize"))
def limit(room):
    most = used() + room * MIB
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
def unlimited():
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
"""


@pytest.mark.parametrize(
    ("limit", "room", "named"), [("AS", 48 << 20, "ulimit -v"), ("FSIZE", 1 << 20, "ulimit -f")]
)
def test_the_limit_is_named(arena_name, limit, room, named):
    lines = program(SOURCE.format(limit=limit, room=room), arena_name).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert named in line
        assert "MiB" in line


@pytest.mark.parametrize(("capacity", "room"), [("1MiB", 100), ("16MiB", 180), ("64MiB", 480)])
def test_a_small_arena_needs_little_address_space(arena_name, capacity, room):
    lines = program(
        ROOM
        + f"""
limit({room})
for name in sys.argv[1], None:
    arena = flagstone.open(name, capacity="{capacity}")
    blocks = [arena.put(np.full(1000, i, np.uint8)) for i in range(200)]
    assert all((block.array == i).all() for i, block in enumerate(blocks))
    del blocks
    arena.barrier()
    assert arena.snapshot().used == 0
    assert not arena.check()
    arena.close()
print("fine")
""",
        arena_name,
    )
    assert lines == "fine\n"


@pytest.mark.parametrize(("capacity", "length"), [("1MiB", 28), ("16MiB", 100), ("64MiB", 364)])
def test_a_small_arena_makes_a_small_file(arena_name, capacity, length):
    """Sparse or not: `ulimit -f` counts how long a file is."""
    lines = program(
        f"""
import resource, sys, flagstone, numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, ({length} << 20, {length} << 20))
for name in sys.argv[1], None:
    arena = flagstone.open(name, capacity="{capacity}")
    block = arena.put(np.arange(1000))
    assert block.array.sum() == 499500
    del block
    arena.close()
print("fine")
""",
        arena_name,
    )
    assert lines == "fine\n"


def test_the_file_grows_with_the_processes_that_come(arena_name):
    """A process that may not make the file longer gets an error, and a forked child says why."""
    lines = program(
        ROOM
        + """
import signal, warnings
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
# The reaper begins to ask at once whether a child without a place is gone, and Python 3.13 counts
# threads after that.
warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
arena = flagstone.open(sys.argv[1], capacity="16MiB")
block = arena.put(np.arange(1000))
path = "/dev/shm/flagstone." + sys.argv[1]
before = os.stat(path).st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (before, resource.RLIM_INFINITY))
for _ in range(2):
    pid = os.fork()
    if not pid:
        try:
            arena.put(np.arange(3))
        except flagstone.Closed as error:
            os._exit(0 if "ulimit -f" in str(error) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
assert os.stat(path).st_size == before
arena.put(np.zeros(1 << 20, np.uint8)), arena.barrier()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
pid = os.fork()
if not pid:
    os._exit(0 if block.array.sum() == 499500 and arena.put(np.arange(3)).array[2] == 2 else 1)
assert os.waitpid(pid, 0)[1] == 0
grown = os.stat(path).st_size
assert grown > before
for _ in range(5):  # the place is used again
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    arena.barrier()
assert os.stat(path).st_size == grown
print("fine")
""",
        arena_name,
    )
    assert lines == "fine\n"


def test_what_cannot_be_looked_at_is_not_released(arena_name):
    """A table of references that cannot be mapped may hold anything."""
    lines = program(
        ROOM
        + """
arena = flagstone.open(sys.argv[1], capacity="16MiB")
cache = arena.cache("c", dtype="u1", shape=(4096,))
blocks = [cache.alloc() for _ in range(20)]
for i, block in enumerate(blocks):
    block.array[:] = i
ends = [os.pipe(), os.pipe()]
pid = os.fork()
if not pid:
    os.write(ends[0][1], b"!")
    os.read(ends[1][0], 1)
    good = all((block.array == i).all() for i, block in enumerate(blocks))
    os._exit(0 if good else 1)
os.read(ends[0][0], 1)
limit(0)
del block, blocks
messages = []
for call in arena.barrier, cache.destroy:
    try:
        call()
        messages.append("passed")
    except (OSError, flagstone.FlagstoneError) as error:
        messages.append(str(error))
fresh = [cache.alloc() for _ in range(30)]
for block in fresh:
    block.array[:] = 255
unlimited()
os.write(ends[1][1], b"!")
assert os.waitpid(pid, 0)[1] == 0, "the child's objects were recycled"
del block, fresh
arena.barrier()
assert arena.snapshot().used == 0
assert all("ulimit -v" in message for message in messages), messages
print("fine")
""",
        arena_name,
    )
    assert lines == "fine\n"
