"""Who counts as alive, in every state that the kernel has for a process: the living lose nothing,
the dead keep nothing. (Zombies, ended first threads, fork and exec: test_death.py, test_fork.py.)
"""

import contextlib
import ctypes
import faulthandler
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest

import flagstone
from flagstone.testing import wait_until
from tests.conftest import missing
from tests.process.support import PATIENCE, assert_all_given_back, attach, kept, pattern

SIZE = 2000
HELD = 30

PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4206, 0x4207
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def arena(worker, arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        worker(attach, arena_name)
        assert worker(hold) == HELD
        yield arena


@pytest.fixture
def cache(arena):
    return arena.cache("thing", size=SIZE)


def hold():
    cache = kept["arena"].cache("thing", size=SIZE)
    kept["blocks"] = [cache.alloc() for _ in range(HELD)]
    for number, block in enumerate(kept["blocks"]):
        block.array[:] = bytearray(pattern(number, SIZE))
    return len(kept["blocks"])


def still_there():
    return sum(
        bytes(block.array) == pattern(number, SIZE) for number, block in enumerate(kept["blocks"])
    )


def let_go():
    kept.clear()


def assert_alive(arena, cache, pid):
    """Whatever others do, it is there, and so is what it holds."""
    for _ in range(3):
        rivals = [cache.alloc() for _ in range(100)]
        for block in rivals:
            block.array[:] = 255
        del rivals, block
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == HELD
    assert pid in [one.pid for one in arena.processes]
    assert arena.snapshot().deaths == 0


def assert_buried(arena, cache):
    arena.barrier(PATIENCE)
    assert cache.stats.allocated == 0
    assert [one.pid for one in arena.processes] == [os.getpid()]
    assert_all_given_back(arena)


def ptrace(request, pid):
    _libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    _libc.ptrace.restype = ctypes.c_long
    if _libc.ptrace(request, pid, None, None):
        missing(f"ptrace: {os.strerror(ctypes.get_errno())}")


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_stopped_by_a_tracer(arena, cache, worker):
    ptrace(PTRACE_SEIZE, worker.pid)
    ptrace(PTRACE_INTERRUPT, worker.pid)
    pid, status = os.waitpid(worker.pid, os.WUNTRACED)
    assert pid == worker.pid
    assert os.WIFSTOPPED(status)
    assert state(worker.pid) == "t"
    assert_alive(arena, cache, worker.pid)
    ptrace(PTRACE_DETACH, worker.pid)
    assert worker(still_there) == HELD
    worker(let_go)


def test_killed_while_traced(arena, cache, worker):
    ptrace(PTRACE_SEIZE, worker.pid)
    ptrace(PTRACE_INTERRUPT, worker.pid)
    os.waitpid(worker.pid, os.WUNTRACED)
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: state(worker.pid) == "Z")
    assert_buried(arena, cache)
    worker.kill()


def is_empty(file):
    return not file.read_text().split()


@contextlib.contextmanager
def freezer():
    """A cgroup whose processes can be frozen: its folder, the file, and the words."""
    name = f"flagstone-test-{uuid.uuid4().hex[:8]}"
    for root, file, words in (
        ("/sys/fs/cgroup/freezer", "freezer.state", ("FROZEN", "THAWED")),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", ("1", "0")),
        ("/sys/fs/cgroup", "cgroup.freeze", ("1", "0")),
    ):
        if not Path(root, "cgroup.procs").exists():
            continue
        folder = Path(root, name)
        try:
            folder.mkdir()
        except OSError:
            continue
        if not (folder / file).exists():
            folder.rmdir()
            continue
        home = Path(root, "cgroup.procs")
        try:
            yield folder / "cgroup.procs", folder / file, words
        finally:
            with contextlib.suppress(OSError):
                (folder / file).write_text(words[1])
            for pid in (folder / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    home.write_text(pid)
            wait_until(functools.partial(is_empty, folder / "cgroup.procs"))
            folder.rmdir()
        return
    missing("no cgroup freezer that can be written")


@pytest.mark.root
def test_frozen_by_its_cgroup(arena, cache, worker):
    with freezer() as (procs, file, (frozen, thawed)):
        procs.write_text(str(worker.pid))
        file.write_text(frozen)
        if frozen == "FROZEN":
            wait_until(lambda: file.read_text().strip() == frozen)
        else:
            events = file.with_name("cgroup.events")
            wait_until(lambda: "frozen 1" in events.read_text())
        assert_alive(arena, cache, worker.pid)
        file.write_text(thawed)
        assert worker(still_there) == HELD
    worker(let_go)


def dump_core(folder):
    os.chdir(folder)
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kept["ballast"] = bytearray(os.urandom(1 << 20) * 200)
    faulthandler.disable()
    os.abort()


def test_while_it_dumps_core(arena, cache, worker, tmp_path):
    """Until the dump is over its memory is still its own, and afterwards everybody's."""
    try:
        worker.send(dump_core, tmp_path)
        seen_dumping = 0
        while state(worker.pid) != "Z":
            allocated = cache.stats.allocated
            arena.barrier(PATIENCE)
            status = Path(f"/proc/{worker.pid}/status").read_text()
            if "CoreDumping:\t1" in status:
                seen_dumping += 1
                assert allocated == HELD
        assert_buried(arena, cache)
        assert seen_dumping or not list(tmp_path.glob("core*"))
    finally:
        worker.kill()


def test_idle(arena, cache, worker):
    """No time is long enough to count as dead: only the kernel says who is."""
    began = time.monotonic()
    batches = arena.snapshot().batches
    while arena.snapshot().batches < batches + 200 or time.monotonic() < began + 2:
        arena.barrier(PATIENCE)
    assert_alive(arena, cache, worker.pid)
    assert worker(still_there) == HELD
    worker(let_go)


NAMESPACE = """
    import os, signal, sys
    import flagstone
    arena = flagstone.open(sys.argv[1], create=False)
    cache = arena.cache("thing", size=2000)
    blocks = [cache.alloc() for _ in range(int(sys.argv[2]))]
    for block in blocks:
        block.array[:] = int(sys.argv[2])
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    print(sum(bool((block.array == int(sys.argv[2])).all()) for block in blocks), flush=True)
    del blocks, block
"""


@contextlib.contextmanager
def in_a_pid_namespace(*arguments, source=NAMESPACE):
    """A program that is process 1 of its own pid namespace."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    process = subprocess.Popen(
        [*command, sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        if not line:
            error = process.stderr.read()
            if "unshare" in error:
                missing(f"no pid namespaces: {error.strip()}")
            pytest.fail(error)
        yield process, line.strip()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.root
def test_equal_pids_in_two_namespaces(arena, cache, worker):
    """Both are process 1. One dies: the other one, with the same pid, is not it."""
    worker(let_go)
    with (
        in_a_pid_namespace(arena.name, 10) as (first, pid),
        in_a_pid_namespace(arena.name, 20) as (second, same),
    ):
        assert (pid, same) == ("1", "1")
        assert [one.pid for one in arena.processes].count(1) == 2
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 30
        first.kill()  # and with it, by --kill-child, the namespace
        wait_until(lambda: [one.pid for one in arena.processes].count(1) == 1)
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 20
        rivals = [cache.alloc(zero=True) for _ in range(100)]
        print(file=second.stdin, flush=True)
        assert second.stdout.readline().strip() == "20"
        assert second.wait(PATIENCE) == 0
        del rivals
    arena.barrier(PATIENCE)
    assert cache.stats.allocated == 0


REUSED = """
    import os, signal, sys
    import flagstone

    def child(number):
        pid = os.fork()
        if pid == 0:
            arena = flagstone.open(sys.argv[1], create=False)
            cache = arena.cache("thing", size=2000)
            blocks = [cache.alloc() for _ in range(number)]
            os.write(ready, b"x")
            signal.pause()
        os.read(heard, 1)
        return pid

    heard, ready = os.pipe()
    first = child(10)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(first - 1))
    second = child(20)
    print(first, second, flush=True)
    sys.stdin.readline()
    os.kill(second, signal.SIGKILL)
"""


@pytest.mark.root
def test_a_pid_that_is_used_again(arena, cache, worker):
    """A process with the pid of a dead one does not keep the dead one's objects, nor lose its."""
    worker(let_go)
    with in_a_pid_namespace(arena.name, source=REUSED) as (process, pids):
        first, second = pids.split()
        assert first == second
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 20
        assert [one.pid for one in arena.processes].count(int(second)) == 1
        print(file=process.stdin, flush=True)
        process.wait(PATIENCE)
        wait_until(lambda: int(second) not in [one.pid for one in arena.processes])
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 0


def send_descriptors(path):
    """All that it has of the arena, and the arena's own."""
    found = []
    data = kept["arena"]._link.attachment.fd()
    arena_file = os.stat(path)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            one = os.stat(f"/proc/self/fd/{name}")
            if (one.st_dev, one.st_ino) == (arena_file.st_dev, arena_file.st_ino):
                found.append(int(name))
    assert data in found
    assert len(found) == 2, "the descriptor to be passed on, and that of the locks"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(b"\0" + os.path.basename(path).encode())
        socket.send_fds(line, [b"x"], [data])


def test_a_passed_descriptor_keeps_nobody_alive(arena, cache, worker):
    """The arena's descriptor is in another process (SCM_RIGHTS), which outlives its owner."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(b"\0" + os.path.basename(arena.path).encode())
        listener.listen()
        worker.send(send_descriptors, arena.path)
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        worker.result()
    assert len(descriptors) == 1
    try:
        worker.kill()
        assert os.fstat(descriptors[0]).st_ino == os.stat(arena.path).st_ino
        assert_buried(arena, cache)
    finally:
        for one in descriptors:
            os.close(one)
