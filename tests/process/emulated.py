"""What a program does with an arena, in few steps, for a machine that is emulated: no pytest is
there, and no fork of a process with threads (the emulator does not survive it). FST_TEST_PYTHON is
the command that runs a second program there.

`tools/aarch64-python` runs it.
"""

import os
import pickle
import platform
import signal
import subprocess
import sys

import numpy as np

import flagstone
from flagstone.testing import assert_sound, wait_until

NAME = f"flagstone-emulated-{os.getpid()}"

READER = """
import pickle, sys
block = pickle.loads(bytes.fromhex(sys.argv[1]))
print(int(block.array.sum()))
"""

HOLDER = """
import sys, flagstone
with flagstone.open(sys.argv[1], create=False) as arena:
    kept = [arena.store("things").block("one"), arena.alloc(300_000)]
    group = arena.group("theirs")
    kept.append(arena.cache("thing", size=96).alloc(group))
    kept.append(arena.alloc(100))
    print("holds", flush=True)
    sys.stdin.read()
"""


def started(source, *arguments, **options):
    """A second program, emulated like this one."""
    python = os.environ.get("FST_TEST_PYTHON", sys.executable).split()
    return subprocess.Popen(
        [*python, "-W", "error", "-c", source, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def main():
    with flagstone.open(NAME, capacity="32MiB") as arena:
        block = arena.put(np.arange(1000))
        assert arena.get(block.handle).array[999] == 999
        reader = started(READER, pickle.dumps(block).hex())
        assert reader.communicate(timeout=100)[0] == "499500\n"
        assert reader.returncode == 0
        print("put, and read by a second process")

        cache = arena.cache("thing", size=96)
        group = arena.group("job", limit="4MiB")
        kept = [cache.alloc(group) for _ in range(2000)]
        handle = kept[0].handle
        used = arena.used
        ticket = group.destroy()
        del kept
        ticket.wait(timeout=100)
        try:
            arena.get(handle)
        except (flagstone.StaleHandle, flagstone.Closed):
            pass
        else:
            raise AssertionError("an object of a destroyed group was found")
        arena.shrink()
        assert arena.used < used
        print("a group was destroyed with what was in it")

        arena.store("things")["one"] = np.ones(50_000)
        before = arena.used
        holder = started(HOLDER, arena.path, stdin=subprocess.PIPE)
        assert holder.stdout.readline() == "holds\n"
        assert len(arena.processes) == 2
        assert arena.used > before
        holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=100)
        wait_until(lambda: len(arena.processes) == 1, 100, "the killed one was buried")
        arena.barrier(timeout=100)
        arena.shrink()
        assert arena.used <= before
        assert arena.store("things")["one"].sum() == 50_000
        print("what a killed process held was given back")

        del block
        assert_sound(arena)
    left = [name for name in os.listdir("/dev/shm") if NAME in name]
    assert left == [], left
    print(f"all fine on {platform.machine()}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
