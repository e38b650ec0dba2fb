"""SharedMemory: segments that end with who made them, and views that keep their bytes."""

import errno
import fcntl
import gc
import io
import mmap
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from multiprocessing import shared_memory as standard

import numpy as np
import pytest

import flagstone
from flagstone import segment
from flagstone.managers import SharedMemoryManager
from flagstone.shared_memory import SegmentFull, ShareableList, SharedMemory

from .support import METHODS, PATIENCE, program

if multiprocessing.current_process().name == "MainProcess":
    segment.forget(imported=False)  # no fork of another test's is to make a family

MAKER = """
import os, sys, time
from flagstone.shared_memory import SharedMemory
segment = SharedMemory(sys.argv[1], create=True, size=int(sys.argv[2]))
segment.buf[:5] = b"bytes"
print(segment.name, os.getpid(), flush=True)
sys.stdin.readline()
"""


@pytest.fixture(autouse=True)
def place(arena_name, monkeypatch):
    """An arena of the test's own, which this process leaves at its end."""
    segment.forget()
    monkeypatch.setenv(segment.ARENA, arena_name)
    monkeypatch.setenv(segment.CAPACITY, "64MiB")
    yield arena_name
    gc.collect()
    segment.forget(imported=False)


def started(source, *arguments):
    """A program, and the words of the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().split()


def ended(process, text="\n"):
    """Let a program end; it has printed no error."""
    _, error = process.communicate(text, timeout=PATIENCE)
    assert error == ""
    return process.returncode


def killed(process):
    process.kill()
    _, error = process.communicate(timeout=PATIENCE)
    assert error == ""


def is_gone(name):
    try:
        SharedMemory(name)
    except FileNotFoundError:
        return True
    return False


# ---- one process


def test_sizes_are_exact_and_bytes_are_zero():
    for size in (1, 7, 4096, 4097, 1_000_003):
        made = SharedMemory(create=True, size=size)
        made.buf[:] = b"x" * size
        made.close()
        made.unlink()
        again = SharedMemory(create=True, size=size)
        assert again.size == len(again.buf) == again.buf.nbytes == size
        assert SharedMemory(again.name).size == size
        assert not np.frombuffer(again.buf, np.uint8).any()
        again.unlink()


def test_close_with_live_views_is_fine_and_they_keep_their_bytes():
    made = SharedMemory(create=True, size=1 << 20)
    array = np.ndarray((1 << 20,), np.uint8, buffer=made.buf)
    part = made.buf[10:20]
    array[:] = 7
    made.close()
    made.close()
    made.unlink()
    others = [SharedMemory(create=True, size=1 << 20) for _ in range(20)]
    for other in others:
        other.buf[:8] = b"\xff" * 8
    assert (array == 7).all()
    assert bytes(part) == b"\7" * 10
    assert made.buf is None
    for other in others:
        other.unlink()


def test_memory_comes_back_when_the_last_view_goes():
    for _ in range(100):
        made = SharedMemory(create=True, size=32 << 20)
        view = made.buf
        made.close()
        made.unlink()
        del view


def test_too_large_is_arena_full_and_an_os_error():
    for size in (65 << 20, 1 << 40, 1 << 70):
        with pytest.raises(SegmentFull, match="FLAGSTONE_SHARED_MEMORY_CAPACITY") as caught:
            SharedMemory(create=True, size=size)
        error = pickle.loads(pickle.dumps(caught.value))
        assert isinstance(error, OSError)
        assert isinstance(error, flagstone.ArenaFull)
        assert error.errno == errno.ENOSPC
    held = [SharedMemory(create=True, size=10 << 20) for _ in range(5)]
    with pytest.raises(OSError, match="held by") as caught:
        SharedMemory(create=True, size=20 << 20)
    assert isinstance(caught.value, flagstone.ArenaFull)
    for one in held:
        one.unlink()


def test_a_file_system_that_is_full_is_an_exception(small_tmpfs, monkeypatch):
    segment.forget()
    monkeypatch.setenv(segment.ARENA, str(small_tmpfs / "arena"))
    monkeypatch.setenv(segment.CAPACITY, "1GiB")
    made = []
    with pytest.raises(SegmentFull):
        made.extend(SharedMemory(create=True, size=5 << 20) for _ in range(1000))
    for one in made:  # each byte is there
        one.buf[:] = b"\1" * one.size
        one.unlink()
    assert made


def test_names():
    for name in ("a", "n" * 100, "n" * 255, "späße", "with space", "a.b-c"):
        made = SharedMemory(name, create=True, size=10)
        made.buf[0] = 1
        assert made.name == name
        assert SharedMemory("/" + name).buf[0] == 1
        with pytest.raises(FileExistsError):
            SharedMemory(name, create=True, size=10)
        made.unlink()
        assert is_gone(name)
    with pytest.raises(OSError, match="too long"):
        SharedMemory("n" * 256, create=True, size=10)
    for name in ("", "a/b", "/"):
        with pytest.raises(OSError, match="Invalid"):
            SharedMemory(name, create=True, size=10)
    with pytest.raises(ValueError, match="null"):
        SharedMemory("a\0b", create=True, size=10)


def test_unlink_ends_its_own_segment_only():
    first = SharedMemory("name", create=True, size=10)
    first.unlink()
    second = SharedMemory("name", create=True, size=10)
    with pytest.raises(FileNotFoundError):
        first.unlink()
    assert SharedMemory("name").size == 10
    second.close()
    second.unlink()


def test_what_others_use_of_it():
    """As found in programs: see the page."""
    made = SharedMemory(create=True, size=64)
    mapping = made._mmap
    assert mapping.write(b"one\ntwo\n") == 8
    assert mapping.seek(0) == 0
    assert mapping.readline() == b"one\n"
    assert mapping.read(3) == b"two"
    assert mapping.tell() == 7
    assert mapping.find(b"two", 0) == 4
    assert mapping[0:3] == b"one"
    assert mapping[0] == ord("o")
    mapping[1:3] = b"NE"
    assert bytes(made.buf[:3]) == b"oNE"
    assert len(mapping) == mapping.size() == 64
    assert np.frombuffer(mapping, np.uint8).nbytes == memoryview(mapping).nbytes == 64
    mapping.flush()
    mapping.madvise(0)
    for start, length in ((-1, 1), (64, 1), (0, -1)):
        with pytest.raises(ValueError, match="madvise"):
            mapping.madvise(mmap.MADV_DONTNEED, start, length)
    assert bytes(made.buf[:3]) == b"oNE"
    with pytest.raises(ValueError, match="seek type"):
        mapping.seek(0, 7)
    with pytest.raises(SystemError, match="make another one"):
        mapping.resize(128)
    assert made._fd >= 0
    assert made._fd != -1
    for use in (
        os.fstat,
        lambda fd: os.posix_fallocate(fd, 0, 64),
        lambda fd: mmap.mmap(fd, 64, prot=mmap.PROT_READ),
        lambda fd: fcntl.flock(fd, fcntl.LOCK_EX),
    ):
        with pytest.raises(io.UnsupportedOperation, match=r"toreadonly.*lock"):
            use(made._fd)
    assert made._name == "/" + made.name
    made._buf[0] = 1
    made._buf = made._mmap = None  # what disarms a standard one, so that close() does not raise
    made.close()
    assert made._fd == -1
    made.unlink()


def test_an_object_that_was_never_made_is_harmless():
    made = SharedMemory.__new__(SharedMemory)
    made._fd = -1
    made._mmap = made._buf = None
    made.close()
    made.__init__(create=True, size=10)
    made.unlink()
    assert isinstance(made, standard.SharedMemory)


def test_optional_creation():
    class Optional(SharedMemory):
        _flags = os.O_CREAT | os.O_RDWR

    first = Optional("optional", size=100)
    assert Optional("optional", size=10).size == 100
    first.unlink()
    with pytest.raises(ValueError, match="empty"):
        Optional("optional")


def test_threads_make_one_of_a_name():
    made, refused = [], []
    start = threading.Barrier(8)

    def make():
        start.wait()
        for number in range(50):
            try:
                made.append(SharedMemory(f"n{number}", create=True, size=100))
            except FileExistsError:
                refused.append(number)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.name for one in made) == sorted(f"n{number}" for number in range(50))
    assert len(refused) == 7 * 50
    for one in made:
        assert SharedMemory(one.name).size == 100
        one.unlink()


# ---- lists


def test_a_list_keeps_text_and_bytes_whole():
    """cpython#145261: room by characters, and zero bytes at the end lost."""
    items = [
        "0\U00010000\U00010000",
        b"\0",
        "a\0",
        "💥" * 5,
        b"",
        "",
        1,
        None,
        True,
        2.5,
        b"x" * 30,
    ]
    made = ShareableList(items, name="list")
    assert list(made) == items
    assert list(ShareableList(name="list")) == items
    assert list(pickle.loads(pickle.dumps(made))) == items
    copied = ShareableList(made)
    assert list(copied) == items
    made[1] = b"\0\0\0"
    made[0] = "ä\0"
    made[6] = "💥💥"
    assert list(ShareableList(name="list"))[:7] == [
        "ä\0", b"\0\0\0", "a\0", "💥" * 5, b"", "", "💥💥",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="exceeds available storage"):
        made[6] = "💥💥💥"
    for position in (11, -12):
        with pytest.raises(IndexError):
            made[position] = 1
    made.shm.unlink()
    copied.shm.unlink()


# ---- processes


def test_a_stranger_that_looks_and_ends_harms_nobody():
    """cpython#82300."""
    made = SharedMemory(create=True, size=100)
    for how in ("pass", "segment.close()", "os.kill(os.getpid(), 9)"):
        source = f"""
        import os, sys
        from flagstone.shared_memory import SharedMemory
        segment = SharedMemory(sys.argv[1])
        segment.buf[0] += 1
        {how}
        """
        program(source, made.name, status=-signal.SIGKILL if "kill" in how else 0)
    assert SharedMemory(made.name).buf[0] == 3
    made.unlink()


@pytest.mark.parametrize("end", ["killed", "ended"])
def test_what_a_dead_process_made_is_gone_at_once(end):
    SharedMemory("mine", create=True, size=10).unlink()
    process, (name, _) = started(MAKER, "segment", 1 << 20)
    assert bytes(SharedMemory(name).buf[:5]) == b"bytes"
    (killed if end == "killed" else ended)(process)
    assert is_gone(name)
    assert segment._place.arena.used == 0 or segment._place.keys() == []
    again = SharedMemory(name, create=True, size=10)
    again.unlink()


def test_who_has_it_open_keeps_it():
    process, (name, _) = started(MAKER, "segment", 1 << 20)
    mine = SharedMemory(name)
    killed(process)
    assert bytes(mine.buf[:5]) == b"bytes"
    assert SharedMemory(name).size == 1 << 20
    gc.collect()
    mine.close()
    assert is_gone(name)


def test_hundreds_of_killed_makers_leave_nothing():
    """sglang#40723: 852 segments, 18 GiB."""
    first = SharedMemory(create=True, size=10)
    for _ in range(10):
        process, _ = started(
            """
            import sys
            from flagstone.shared_memory import SharedMemory
            all = [SharedMemory(create=True, size=1 << 20) for _ in range(40)]
            print(all[-1].name, flush=True)
            sys.stdin.readline()
            """
        )
        killed(process)
    big = SharedMemory(create=True, size=60 << 20)
    big.unlink()
    del big
    segment._place.look_through()
    assert segment._place.keys() == [first.name.encode()]
    first.unlink()


def _make(queue):
    made = SharedMemory(create=True, size=100)
    made.buf[0] = 7
    queue.put(made.name)


def _make_and_wait(queue):
    made = SharedMemory(create=True, size=100)
    made.buf[0] = 7
    queue.put(made.name)
    signal.pause()


def _made(number):
    made = SharedMemory(create=True, size=100)
    made.buf[0] = number
    made.close()
    return made.name


def _write(made):
    made.buf[0] = 9


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_may_make_one_and_end(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_make, args=(queue,))
    process.start()
    name = queue.get()
    process.join()
    made = SharedMemory(name)
    assert made.buf[0] == 7
    made.unlink()
    with context.Pool(2) as pool:  # which ends its workers by SIGTERM
        names = pool.map(_made, range(1, 7))
    assert [SharedMemory(name).buf[0] for name in names] == [1, 2, 3, 4, 5, 6]
    for name in names:
        SharedMemory(name).unlink()
    process.close()
    queue.close()


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_workers_are_gone(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    process = context.Process(target=_make_and_wait, args=(queue,))
    process.start()
    name = queue.get()
    assert not is_gone(name)
    process.kill()
    process.join()
    assert is_gone(name)
    process.close()
    queue.close()


@pytest.mark.parametrize("method", METHODS)
def test_it_travels_to_processes_that_are_started(method):
    context = multiprocessing.get_context(method)
    made = SharedMemory(create=True, size=100)
    process = context.Process(target=_write, args=(made,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert made.buf[0] == 9
    process.close()
    made.unlink()


def test_a_forked_child_that_execs_or_ends_harms_nobody():
    made = SharedMemory(create=True, size=100)
    for child in range(2):
        pid = os.fork()
        if pid == 0:
            if child:
                os.execv("/bin/true", ["true"])
            os._exit(0)
        os.waitpid(pid, 0)
    assert SharedMemory(made.name).size == 100
    made.unlink()


# ---- until unlink


def test_without_a_tracker_it_stays_until_unlink(place):
    source = MAKER.replace("size=int(sys.argv[2])", "size=int(sys.argv[2]), track=False")
    process, (name, _) = started(source, "segment", 1000)
    killed(process)
    assert os.path.exists(f"/dev/shm/flagstone.{place}-lasting")
    found = SharedMemory(name)
    assert bytes(found.buf[:5]) == b"bytes"
    for track in (True, False):
        with pytest.raises(FileExistsError):
            SharedMemory(name, create=True, size=10, track=track)
    other = SharedMemory(create=True, size=10, track=False)
    found.close()
    found.unlink()
    assert is_gone(name)
    assert SharedMemory(other.name).size == 10
    other.unlink()
    with pytest.raises(FileNotFoundError):
        other.unlink()
    assert not os.path.exists(f"/dev/shm/flagstone.{place}-lasting")


# ---- managers


@pytest.mark.parametrize("method", METHODS)
def test_a_managers_segments_end_with_it(method):
    context = multiprocessing.get_context(method)
    manager = SharedMemoryManager(ctx=context)
    with manager:
        made = manager.SharedMemory(100)
        numbers = manager.ShareableList(range(5))
        names = made.name, numbers.shm.name
        assert list(ShareableList(name=names[1])) == [0, 1, 2, 3, 4]
        made.close()
        assert SharedMemory(names[0]).size == 100
    gc.collect()
    assert all(is_gone(name) for name in names)


def test_a_killed_managers_segments_are_its_clients():
    manager = SharedMemoryManager(ctx=multiprocessing.get_context("fork"))
    manager.start()
    made = manager.SharedMemory(100)
    manager._process.kill()
    manager._process.join()
    assert SharedMemory(made.name).size == 100
    made.unlink()


# ---- storms

CHURN = """
import random, sys
from flagstone.shared_memory import SharedMemory
chosen = random.Random(sys.argv[1])
print("ready", flush=True)
kept = []
while True:
    name = f"n{chosen.randrange(6)}"
    try:
        if chosen.random() < 0.6:
            one = SharedMemory(name, create=True, size=chosen.choice((10, 5000, 300_000)))
            one.buf[0] = 1
        else:
            one = SharedMemory(name)
            assert one.size in (10, 5000, 300_000)
            if chosen.random() < 0.5:
                one.unlink()
        kept.append(one)
    except (FileExistsError, FileNotFoundError):
        pass
    if len(kept) > 3:
        kept.pop(0).close()
"""


def test_killed_in_the_middle_of_everything():
    first = SharedMemory("first", create=True, size=10)
    chosen = random.Random(int(os.environ.get("FLAGSTONE_TEST_SEED", "1")))
    churning = [started(CHURN, number)[0] for number in range(3)]
    try:
        for number in range(3, 9):
            time.sleep(chosen.random() * 0.1)
            victim = churning.pop(chosen.randrange(len(churning)))
            killed(victim)
            churning.append(started(CHURN, number)[0])
    finally:
        for one in churning:
            killed(one)
    for name in [f"n{number}" for number in range(6)]:
        assert is_gone(name)
        made = SharedMemory(name, create=True, size=10)  # and free
        made.unlink()
        del made
    first.unlink()
    first.close()
    gc.collect()
    arena = segment._place.arena
    arena.barrier(PATIENCE)
    arena.barrier(PATIENCE)
    assert segment._place.keys() == []
    assert arena.check() == []
    assert arena.used == 0
