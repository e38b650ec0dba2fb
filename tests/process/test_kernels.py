"""Kernels and sandboxes that lack something: an arena works all the same, or is refused at open
with what is missing.
"""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.process.support import PATIENCE

FILTERED = Path(__file__).with_name("filtered.py")
O_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
ANY = 0xFFFFFFFF
ADVICE = {"REMOVE": 9, "DONTFORK": 10, "HUGEPAGE": 14, "DONTDUMP": 16, "POPULATE_WRITE": 23}

# Everything that asks the kernel for something, once.
LIFE = """
import gc, os, pickle, signal, sys
import numpy as np
import flagstone

name = sys.argv[1] or None
try:
    arena = flagstone.open(name, capacity="64MiB", huge_pages=True)
except (flagstone.FlagstoneError, OSError) as error:
    print(f"refused: {type(error).__name__}: {error}")
    sys.exit(0)
with arena:
    job = arena.group("job", limit="32MiB")
    kept = arena.put(np.arange(1000))
    large = arena.alloc(8 << 20, group=job)
    memoryview(large)[:] = bytes(8 << 20)
    child = os.fork()
    if not child:  # buried by the others
        mine = [arena.put(np.full(1000, i)) for i in range(100)]
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        block = pickle.loads(os.read(read, 4096))
        os._exit(int(block.array.sum() != 499500))
    os.write(write, pickle.dumps(kept))
    assert os.waitpid(child, 0)[1] == 0
    del large
    for _ in range(100):
        group = arena.group()
        arena.put(np.zeros(1000), group=group)
        group.destroy()
    arena.barrier()
    arena.shrink()
    job.destroy().wait(30)
    assert kept.array[999] == 999
    assert arena.check() == []
    del kept
    gc.collect()
    arena.barrier()
print("worked")
"""


# Coroutines and select() at many things, of which another process has all that is waited for.
WAITS = """
import asyncio, os, select, sys, threading
import flagstone
from flagstone._core import Waiter
from tests.process.filtered import refuse

late = sys.argv[2:]
with flagstone.open(sys.argv[1], capacity="64MiB") as arena:
    channels = [arena.channel(str(number), capacity=1) for number in range(20)]
    full = arena.channel("full", capacity=1)
    full.put(b"")
    topic, store, lock = arena.topic("news"), arena.store("store"), arena.lock("lock")
    subscription = topic.subscribe()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        assert lock.acquire(0)
        os.write(write, b"x")
        for channel in channels:
            channel.put(b"x")
        full.get()
        topic.publish(b"x")
        store["key"] = 1
        lock.release()
        os._exit(0)

    async def main():
        os.read(read, 1)
        tasks = [asyncio.create_task(one.aget()) for one in (*channels[10:], subscription)]
        tasks.append(asyncio.create_task(full.aput(b"")))
        tasks.append(asyncio.create_task(store.achanges()))
        tasks.append(asyncio.create_task(lock.aacquire()))
        poll = select.poll()
        for channel in channels[:10]:
            poll.register(channel, select.POLLIN)
        if late:
            refuse(("futex_waitv", late[0]))
        for task in tasks:
            await task
        lock.release()
        while len(poll.poll()) < 10:
            pass

    asyncio.run(main())
    if not late:
        assert Waiter().most() == 1
    os.waitpid(child, 0)
    subscription.close()
    for channel in channels:
        channel.leave()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
print("worked")
"""


def lives(name, *refusals, program=LIFE, more=()):
    """What the life of an arena comes to under these refusals."""
    return subprocess.run(
        [
            sys.executable,
            FILTERED,
            json.dumps(refusals),
            "-W",
            "error",
            "-c",
            textwrap.dedent(program),
            name,
            *more,
        ],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def works(name, *refusals):
    done = lives(name, *refusals)
    assert (done.stdout, done.stderr) == ("worked\n", "")


def refused(name, *refusals):
    done = lives(name, *refusals)
    assert done.stdout.startswith("refused: "), done
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(params=["named", "anonymous"])
def name(request, arena_name):
    return arena_name if request.param == "named" else ""


def test_nothing_is_missing(name):
    works(name)


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("late", [False, True])
def test_waiting_for_many(arena_name, error, late):
    """Refused from the beginning, or from when somebody waits: each has a thread then."""
    refusals, more = ((), [error]) if late else ([("futex_waitv", error)], [])
    done = lives(arena_name, *refusals, program=WAITS, more=more)
    assert (done.stdout, done.stderr) == ("worked\n", "")


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_membarrier(arena_name, error):
    works(arena_name, ("membarrier", error))


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "EOPNOTSUPP"])
def test_fallocate(name, error):
    assert "(fallocate)" in refused(name, ("fallocate", error))


@pytest.mark.parametrize("error", ["EOPNOTSUPP", "EPERM"])
def test_holes(arena_name, error):
    """Memory is committed, but a range of the file is not given back."""
    works(arena_name, ("fallocate", error, 1, 2, 2))


@pytest.mark.parametrize("error", ["EINVAL", "EPERM", "ENOSYS"])
def test_locks_of_open_files(name, error):
    assert "F_OFD_SETLK" in refused(name, ("fcntl", error, 1, ANY & ~3, 36))


@pytest.mark.parametrize("advice", ["REMOVE", "HUGEPAGE", "DONTDUMP", "POPULATE_WRITE"])
def test_advice(arena_name, advice):
    works(arena_name, ("madvise", "EINVAL", 2, ANY, ADVICE[advice]))


def test_no_advice(name):
    works(name, *(("madvise", "EPERM", 2, ANY, ADVICE[one]) for one in ADVICE if one != "DONTFORK"))


@pytest.mark.parametrize("refusal", [("madvise", "ENOSYS"), ("madvise", "EINVAL", 2, ANY, 10)])
def test_pages_that_children_do_not_get(name, refusal):
    assert "MADV_DONTFORK" in refused(name, refusal)


@pytest.mark.parametrize("error", ["EOPNOTSUPP", "EISDIR", "EPERM", "ENOSYS"])
def test_files_without_a_name(arena_name, error):
    refusal = ("openat", error, 2, O_TMPFILE, O_TMPFILE)
    if error == "EPERM":
        works("", refusal)
    said = refused(arena_name, refusal)
    assert "O_TMPFILE" in said
    assert "anonymous" in said


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_files_in_memory(arena_name, error):
    if error == "EPERM":
        works(arena_name, ("memfd_create", error))
    said = refused("", ("memfd_create", error))
    assert "memfd_create" in said
    assert "with a name" in said


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", ["linkat", "statfs"])
def test_names_of_files(arena_name, call, error):
    """What only an arena with a name needs, and is told to do without."""
    said = refused(arena_name, (call, error))
    assert f"({call}" in said
    assert "anonymous" in said
    works("", (call, error))


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_identities(name, error):
    assert "(getrandom)" in refused(name, ("getrandom", error))


def test_old_kernel(name):
    """All that came after Linux 4.3, and is not needed."""
    works(
        name,
        ("membarrier", "ENOSYS"),
        ("madvise", "EINVAL", 2, ANY, ADVICE["POPULATE_WRITE"]),
        ("madvise", "EINVAL", 2, ANY, 25),
    )


@pytest.mark.root
def test_no_folder():
    """Without /dev/shm an anonymous arena is suggested, and works."""
    bare = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh"]
    done = subprocess.run(
        [*bare, sys.executable, "-W", "error", "-c", textwrap.dedent(LIFE), "elsewhere"],
        capture_output=True,
        text=True,
    )
    assert "/dev/shm" in done.stdout
    assert "anonymous" in done.stdout
    done = subprocess.run(
        [*bare, sys.executable, "-W", "error", "-c", textwrap.dedent(LIFE), ""],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("worked\n", "")
