"""Arena: opening, names, closing, looking; one process."""

import gc
import os
import pickle
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

import flagstone
from flagstone.folder import gc as collect


def test_a_named_arena_is_a_file_until_it_is_closed(arena_name):
    arena = flagstone.open(arena_name)
    assert arena.name == arena_name
    assert arena.path == f"/dev/shm/flagstone.{arena_name}"
    assert os.path.exists(arena.path)
    assert arena.capacity == 2**30
    assert not arena.closed
    arena.close()
    assert arena.closed
    assert not os.path.exists(arena.path)


def test_an_anonymous_arena_is_no_file():
    with flagstone.open() as arena:
        assert (arena.name, arena.path) == (None, None)
        assert "anonymous" in repr(arena)
        assert arena.put(b"x").nbytes == 1


def test_create(arena_name):
    with pytest.raises(FileNotFoundError):
        flagstone.open(arena_name, create=False)
    with flagstone.open(arena_name, create=True):
        with pytest.raises(FileExistsError):
            flagstone.open(arena_name, create=True)
        with flagstone.open(arena_name, create=False) as again:
            assert not again.closed
    with pytest.raises(FileNotFoundError):
        flagstone.open(arena_name, create=False)
    with pytest.raises(ValueError, match="anonymous"):
        flagstone.open(create=False)


def test_capacity(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        assert arena.capacity == 64 * 2**20
        with flagstone.open(arena_name) as again:
            assert again.capacity == arena.capacity
        with flagstone.open(arena_name, capacity="1MiB") as again:
            assert again.capacity == arena.capacity
        with pytest.raises(ValueError, match="apacity"):
            flagstone.open(arena_name, capacity="65MiB")
    with pytest.raises(ValueError, match="capacity"):
        flagstone.open(arena_name, capacity=0)


def test_capacity_is_no_cost(arena_name):
    with flagstone.open(arena_name, capacity="1TiB") as arena:
        assert arena.capacity == 2**40
        assert arena.committed < 64 * 2**20
        assert os.stat(arena.path).st_blocks * 512 < 64 * 2**20


def test_two_objects_of_one_arena(arena_name):
    first = flagstone.open(arena_name)
    second = flagstone.open(arena_name)
    handle = (block := first.put(b"abc")).handle
    assert bytes(second.get(handle)) == b"abc"
    assert len(second.processes) == 1
    first.close()
    assert os.path.exists(second.path)
    assert bytes(second.get(handle)) == b"abc"
    del block
    second.close()
    assert not os.path.exists(second.path)


def test_a_path_of_ones_own(tmp_path_factory, arena_name):
    path = f"/dev/shm/flagstone.{arena_name}/x"
    os.mkdir(os.path.dirname(path))
    try:
        with flagstone.open(path) as arena:
            assert arena.name == arena.path == path
            assert [one.path for one in flagstone.arenas(os.path.dirname(path))] == [path]
        assert not os.path.exists(path)
    finally:
        os.rmdir(os.path.dirname(path))


def test_closing_is_idempotent_and_quiet(arena_name):
    arena = flagstone.open(arena_name)
    cache = arena.cache("a", size=8)
    bound = cache.bind()
    group = arena.group("g")
    section = arena.read()
    arena.close()
    arena.close()
    with arena:
        pass
    assert "closed" in repr(arena)
    for call in (
        lambda: arena.cache("a", size=8),
        lambda: arena.group("g"),
        lambda: arena.alloc(1),
        lambda: arena.put(b""),
        lambda: arena.read(),
        lambda: arena.used,
        lambda: arena.check(),
        lambda: arena.snapshot(),
        lambda: arena.caches,
        lambda: arena.root_group,
        lambda: pickle.dumps(arena),
        lambda: cache.alloc(),
        lambda: cache.stats,
        lambda: bound.alloc(),
        lambda: group.usage,
        lambda: cache.alloc(group),
    ):
        with pytest.raises(flagstone.Closed):
            call()
    assert repr(cache)
    assert repr(bound)
    assert repr(group)
    del section
    gc.collect()


def test_blocks_outlive_the_arena_object(arena_name):
    arena = flagstone.open(arena_name)
    path = arena.path
    block = arena.put(b"abc")
    view = memoryview(arena.put(b"def"))
    array = arena.put(np.arange(3)).array
    arena.close()
    assert bytes(block) == b"abc"
    assert bytes(view) == b"def"
    assert array.tolist() == [0, 1, 2]
    assert os.path.exists(path)
    del block, array
    assert os.path.exists(path)
    view.release()
    assert not os.path.exists(path)


def test_a_group_does_not_keep_the_arena(arena_name):
    arena = flagstone.open(arena_name)
    group = arena.group("g")
    cache = arena.cache("a", size=8)
    cache.alloc(group)
    arena.close()
    assert not os.path.exists(arena.path)
    del group, cache


def test_lasting_from_now_on(arena_name):
    """Who asks for a lasting arena has one, also where this process has it open already."""
    with flagstone.open(arena_name) as arena:
        assert not arena.snapshot().lasting
        with flagstone.open(arena_name, lasting=True):
            assert arena.snapshot().lasting
        with flagstone.open(arena_name):
            assert arena.snapshot().lasting
    (info,) = [info for info in flagstone.arenas() if info.path == arena.path]
    assert (info.lasting, info.processes) == (True, 0)
    flagstone.unlink(arena_name)


def test_lasting(arena_name):
    with flagstone.open(arena_name, lasting=True) as arena:
        keep = arena.cache("a", size=8)
        assert keep.name == "a"
        assert arena.snapshot().lasting
    assert os.path.exists(arena.path)
    (info,) = (one for one in flagstone.arenas() if one.name == arena_name)
    assert (info.lasting, info.orphan, info.processes) == (True, False, 0)
    assert arena.path not in collect()
    with flagstone.open(arena_name, create=False) as again:
        assert [cache.name for cache in again.caches] == ["a"]
    flagstone.unlink(arena_name)
    assert not os.path.exists(arena.path)


def test_unlink(arena_name):
    with pytest.raises(FileNotFoundError):
        flagstone.unlink(arena_name, missing_ok=False)
    flagstone.unlink(arena_name)
    with flagstone.open(arena_name) as arena:
        block = arena.put(b"abc")
        flagstone.unlink(arena_name)
        assert not os.path.exists(arena.path)
        assert arena.snapshot().unlinked
        assert bytes(block) == b"abc"
        with flagstone.open(arena_name) as other:
            assert other.in_flight() == []
            with pytest.raises(flagstone.StaleHandle):
                other.get(block.handle)
        del block


def test_arenas(arena_name):
    assert arena_name not in [info.name for info in flagstone.arenas()]
    with flagstone.open(arena_name, capacity="8MiB") as arena:
        block = arena.put(bytes(5000))
        (info,) = (one for one in flagstone.arenas() if one.name == arena_name)
        assert (info.path, info.capacity) == (arena.path, 8 * 2**20)
        assert info.processes == 1
        assert not info.lasting
        assert not info.orphan
        assert info.used == arena.used > 0
        assert info.committed == arena.committed
        assert info.uuid == arena.snapshot().uuid == arena.uuid
        del block


def test_a_uuid_with_a_zero_in_it(arena_name):
    seen = ""
    while "00" not in [seen[i : i + 2] for i in range(0, len(seen), 2)]:  # one in 16
        with flagstone.open(arena_name, capacity="1MiB") as arena:
            (info,) = (one for one in flagstone.arenas() if one.name == arena_name)
            seen = arena.snapshot().uuid
            assert info.uuid == seen
            assert len(seen) == 32


@pytest.mark.parametrize("content", [b"", b"x", bytes(4096), os.urandom(100_000)])
def test_a_file_that_is_no_arena_is_refused(arena_name, content):
    path = f"/dev/shm/flagstone.{arena_name}"
    with open(path, "wb") as file:
        file.write(content)
    for call in (
        lambda: flagstone.open(arena_name),
        lambda: flagstone.open(arena_name, create=False),
        lambda: flagstone.unlink(arena_name),
    ):
        with pytest.raises((flagstone.LayoutMismatch, flagstone.ArenaCorrupted)):
            call()
    assert arena_name not in [info.name for info in flagstone.arenas()]
    with open(path, "rb") as file:
        assert file.read() == content
    os.unlink(path)


@pytest.mark.parametrize("kind", ["folder", "link", "fifo", "socket"])
def test_what_is_no_regular_file_is_refused(arena_name, kind):
    path = f"/dev/shm/flagstone.{arena_name}"
    other = None
    match kind:
        case "folder":
            os.mkdir(path)
        case "link":
            other = flagstone.open(arena_name + "-b")
            os.symlink(other.path, path)
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
    try:
        for create in (None, False):
            with pytest.raises(PermissionError):
                flagstone.open(arena_name, create=create)
        with pytest.raises(PermissionError):
            flagstone.unlink(arena_name)
        assert arena_name not in [info.name for info in flagstone.arenas()]
    finally:
        os.rmdir(path) if kind == "folder" else os.unlink(path)
        if other is not None:
            other.close()


@pytest.mark.parametrize("mode", ["rw", 0.5, None, True])
def test_a_mode_is_permissions(arena_name, mode):
    with pytest.raises(TypeError, match="mode must be an int"):
        flagstone.open(arena_name, mode=mode)
    assert arena_name not in [info.name for info in flagstone.arenas()]


def test_readonly(arena_name):
    # A process has one attachment, so the data comes from the write side before.
    with flagstone.open(arena_name, lasting=True) as arena:
        cache = arena.cache("a", shape=3, dtype="i4", merge=False)
        cache.alloc(zero=True)
        with pytest.raises(ValueError, match=f"{arena_name} attached for writing.*readonly=False"):
            flagstone.open(arena_name, readonly=True)
    with flagstone.open(arena_name, readonly=True) as arena:
        assert arena.readonly
        assert "read-only" in repr(arena)
        (cache,) = arena.caches
        group = arena.root_group
        for call in (
            lambda: arena.alloc(1),
            lambda: arena.put(b"x"),
            lambda: cache.alloc(),
            lambda: cache.destroy(),
            lambda: group.destroy(),
        ):
            with pytest.raises(flagstone.ReadOnly):
                call()
        assert arena.check() == []
    flagstone.unlink(arena_name)


def test_pickle_in_the_same_process(arena_name):
    with flagstone.open(arena_name) as arena, pickle.loads(pickle.dumps(arena)) as again:
        assert again.path == arena.path
        block = arena.put(b"abc")
        assert bytes(again.get(block.handle)) == b"abc"
        del block
    with flagstone.open() as arena, pickle.loads(pickle.dumps(arena)) as again:
        block = arena.put(b"abc")
        assert bytes(again.get(block.handle)) == b"abc"
        del block


def test_the_pickle_of_an_arena_that_is_gone(arena_name):
    with flagstone.open(arena_name) as arena:
        named = pickle.dumps(arena)
    with pytest.raises(flagstone.StaleHandle, match="no longer exists"):
        pickle.loads(named)
    with flagstone.open(arena_name), pytest.raises(flagstone.StaleHandle, match="another"):
        pickle.loads(named)
    with flagstone.open() as arena:
        anonymous = pickle.dumps(arena)
    with pytest.raises(flagstone.FlagstoneError, match="give the arena a name"):
        pickle.loads(anonymous)


def test_a_pickle_attaches_by_itself(arena_name):
    with flagstone.open(arena_name, lasting=True) as arena:
        message = pickle.dumps(arena.put(np.arange(3)))
    block = pickle.loads(message)
    assert block.array.tolist() == [0, 1, 2]
    del block
    # Adopted: kept until an Arena object of it is closed here.
    with flagstone.open(arena_name) as arena:
        assert arena.in_flight() == []
    flagstone.unlink(arena_name)


def test_snapshot(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        cache = arena.cache("frame", shape=(4, 4), dtype="f4", align=64)
        with arena.group("job", limit="1MiB") as group:
            block = cache.alloc(group)
            message = pickle.dumps(block)
            picture = arena.snapshot()
            assert picture.name == arena_name
            assert picture.path == arena.path
            assert (picture.used, picture.capacity) == (arena.used, arena.capacity)
            assert picture.control <= picture.committed == arena.committed
            (process,) = picture.processes
            assert (process.pid, process.alive, process.is_self) == (os.getpid(), True, True)
            assert process.references >= 1
            (info,) = (one for one in picture.caches if one.name == "frame")
            assert (info.dtype, info.shape, info.size) == ("float32", (4, 4), 64)
            assert info.align == 64
            assert info.state == "live"
            assert info.stats.allocated == 1
            root, job = picture.groups
            assert (root.parent, job.parent) == (None, root.id)
            assert (job.name, job.state, job.limit) == ("job", "live", 2**20)
            assert 0 < job.usage <= job.peak <= root.usage
            (flying,) = picture.in_flight
            assert (flying.object, flying.cache, flying.group) == (block.handle, "frame", "job")
            assert (flying.pid, flying.nbytes, flying.is_group) == (os.getpid(), 64, False)
            assert flying.age >= 0
            del block
        del message
        assert picture.groups[1].name == "job"


def test_slabinfo(arena_name):
    with flagstone.open(arena_name) as arena:
        cache = arena.cache("two words", size=100)
        blocks = cache.alloc_many(3)
        version, header, *lines = arena.slabinfo().splitlines()
        assert version == "slabinfo - version: 2.1"
        assert header.startswith("# name")
        (line,) = (line for line in lines if line.startswith("two_words "))
        columns = line.split()
        assert columns[1] == "3"
        assert int(columns[2]) >= 3
        assert columns[3] == "100"
        assert [columns[6], columns[11]] == [":", ":"]
        assert len(columns) == 16
        del blocks


def test_used_and_committed_come_back(arena_name):
    with flagstone.open(arena_name) as arena:
        before = arena.used
        block = arena.alloc("32MiB")
        assert arena.used == before + 32 * 2**20
        assert arena.committed >= arena.used
        committed = arena.committed
        del block
        arena.barrier()
        assert arena.used == before
        assert arena.shrink() >= 0
        assert arena.committed < committed
        assert arena.check() == []


def test_full(arena_name):
    with flagstone.open(arena_name, capacity="4MiB") as arena:
        blocks = []

        def fill():
            while True:
                blocks.append(arena.alloc("100KiB"))

        with pytest.raises(flagstone.ArenaFull, match=str(os.getpid())):
            fill()
        assert len(blocks) >= 30
        with pytest.raises(MemoryError):
            arena.alloc("100KiB", wait=0.1)
        with pytest.raises(flagstone.ArenaFull), arena.read():
            arena.alloc("100KiB")
        blocks.clear()
        arena.alloc("100KiB")
        assert arena.check() == []


@pytest.mark.parametrize(
    ("wait", "error"),
    [(-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)],
)
def test_a_bad_wait_changes_nothing(arena_name, wait, error):
    with flagstone.open(arena_name) as arena:
        cache = arena.cache("a", size=8)
        used = arena.used
        for call in (
            lambda: cache.alloc(wait=wait),
            lambda: cache.bind().alloc(wait=wait),
            lambda: arena.alloc(1, wait=wait),
            lambda: arena.put(b"x", wait=wait),
        ):
            with pytest.raises(error, match="wait"):
                call()
        for call in (arena.barrier, arena.synchronize):
            with pytest.raises(error, match="timeout"):
                call(wait)
        assert arena.used == used


def test_waiting_for_memory(arena_name):
    with flagstone.open(arena_name, capacity="4MiB") as arena:
        blocks = [arena.alloc("3MiB")]
        timer = threading.Timer(0.2, blocks.clear)
        timer.start()
        try:
            assert arena.alloc("3MiB", wait=30).nbytes == 3 * 2**20
        finally:
            timer.join()


def test_sections(arena_name):
    with flagstone.open(arena_name) as arena:
        with arena.read(), arena.read():
            for call in (arena.synchronize, arena.barrier):
                with pytest.raises(RuntimeError, match="inside"):
                    call()
        arena.synchronize()
        arena.barrier()
        arena.synchronize(timeout=10)
        arena.barrier(timeout=10)


def test_waiting_for_a_reader(arena_name):
    with flagstone.open(arena_name) as arena:
        inside, leave = threading.Event(), threading.Event()

        def read():
            with arena.read():
                inside.set()
                leave.wait(30)

        thread = threading.Thread(target=read)
        thread.start()
        try:
            assert inside.wait(30)
            with pytest.raises(TimeoutError, match=f"{os.getpid()}.*{thread.native_id}"):
                arena.synchronize(timeout=0.2)
        finally:
            leave.set()
        arena.synchronize(timeout=30)
        thread.join()


def test_a_section_ends_where_it_began(arena_name):
    with flagstone.open(arena_name) as arena:
        section = arena.read()
        section.__enter__()
        errors = []

        def leave():
            try:
                section.__exit__(None, None, None)
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=leave)
        thread.start()
        thread.join()
        assert errors
        section.__exit__(None, None, None)
        arena.synchronize(timeout=10)


def test_a_thousand_arenas_in_a_row(arena_name):
    for number in range(1000):
        with flagstone.open(arena_name, capacity="1MiB") as arena:
            assert arena.put(number.to_bytes(4, "big")).nbytes == 4


def test_in_flight(arena_name):
    with flagstone.open(arena_name) as arena, arena.group("g") as group:
        block = arena.put(b"abc", group=group)
        message = pickle.dumps(block)
        handle = block.handle
        del block
        arena.barrier()
        (flying,) = arena.in_flight()
        assert flying.object == handle
        assert arena.in_flight(older_than=60) == []
        assert arena.drop_in_flight(older_than=60) == 0
        assert arena.drop_in_flight(group=arena.root_group) == 0
        assert bytes(arena.get(handle)) == b"abc"
        assert arena.drop_in_flight(group=group) == 1
        assert arena.in_flight() == []
        arena.barrier()
        with pytest.raises(flagstone.StaleHandle):
            arena.get(handle)
        with pytest.raises(flagstone.StaleHandle):
            pickle.loads(message)


@pytest.mark.parametrize("handle", [None, b"x" * 16, "handle", 1])
def test_get_wants_a_handle(arena_name, handle):
    with flagstone.open(arena_name) as arena, pytest.raises(TypeError, match="Handle"):
        arena.get(handle)


def test_hostile_handles(arena_name):
    with flagstone.open(arena_name) as arena:
        cache = arena.cache("a", size=64)
        block = cache.alloc()
        good = bytes(block.handle)
        for position in range(16):
            for bit in range(8):
                raw = bytearray(good)
                raw[position] ^= 1 << bit
                with pytest.raises(flagstone.StaleHandle):
                    arena.get(flagstone.Handle(raw))
        random = np.random.default_rng(1)
        for _ in range(2000):
            with pytest.raises(flagstone.StaleHandle):
                arena.get(flagstone.Handle(random.bytes(16)))
        assert arena.get(flagstone.Handle(good)).handle == block.handle
        assert arena.check() == []
        del block


# ---- errors that say what to do


def test_after_close_the_error_says_what_keeps_the_process_attached(arena_name):
    with flagstone.open(arena_name) as other:
        with flagstone.open(arena_name) as arena:
            cache = arena.cache("a", size=8)
        with pytest.raises(flagstone.Closed, match="another Arena object"):
            arena.put(b"x")
        with pytest.raises(flagstone.Closed, match="close\\(\\) was called"):
            cache.alloc(zero=True)
        array = other.put(bytes(3 << 20)).array
    for call in (lambda: other.put(b"x"), lambda: other.used, lambda: other.cache("b", size=8)):
        with pytest.raises(flagstone.Closed, match=r"1 object .*3 MiB.*open the arena again"):
            call()
    del array
    with pytest.raises(flagstone.Closed) as caught:
        other.put(b"x")
    assert str(caught.value) == (
        f"the arena {arena_name} is closed: close() was called; to go on, open it again"
    )


@pytest.mark.parametrize("create", [None, True, False])
def test_a_name_that_begins_with_a_slash(create):
    # As shm_open() and multiprocessing.shared_memory have it.
    with pytest.raises((PermissionError, FileNotFoundError), match="write 'no-such-arena'"):
        flagstone.open("/no-such-arena", create=create)
    with pytest.raises(FileNotFoundError, match="write 'no-such-arena'"):
        flagstone.unlink("/no-such-arena", missing_ok=False)
    flagstone.unlink("/no-such-arena")


def test_a_stale_pickle_thinks_of_other_machines(arena_name):
    with flagstone.open(arena_name) as arena:
        block = arena.put(b"x")
        message, handle = pickle.dumps(block), block.handle
        del block
    with pytest.raises(
        flagstone.StaleHandle, match=r"no longer exists.*machine.*container.*/dev/shm"
    ):
        pickle.loads(message)
    with flagstone.open(arena_name) as other:
        with pytest.raises(
            flagstone.StaleHandle, match=r"no longer exists.*machine.*another one has"
        ):
            pickle.loads(message)
        with pytest.raises(flagstone.StaleHandle, match=r"another arena.*machine or container"):
            other.get(handle)


def test_a_program_without_logging_prints_nothing(arena_name):
    program = """
import os, signal, sys
import flagstone
with flagstone.open(sys.argv[1]) as arena:
    pid = os.fork()
    if not pid:
        block = arena.put(b"x")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    arena.barrier()
    assert arena.snapshot().burials
"""
    command = [sys.executable, "-c", program, arena_name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_a_snapshot_as_text_is_what_info_prints(arena_name):
    with (
        flagstone.open(arena_name, capacity="8MiB") as arena,
        arena.group("job", limit="1MiB") as job,
    ):
        block = arena.cache("frame", shape=(8, 8), dtype="f4").alloc(job)
        message = pickle.dumps(block)
        text = str(arena.snapshot())
        command = [sys.executable, "-m", "flagstone", "info", arena_name]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=100).stdout
        # Ages, and what looking itself has done, differ.
        assert {line.split()[0] for line in text.splitlines() if line} == {
            line.split()[0] for line in printed.splitlines() if line
        }
        for words in (
            f"arena {arena_name}",
            "8 MiB",
            str(os.getpid()),
            "float32 8x8",
            "in flight: 1",
        ):
            assert words in text
            assert words in printed
        assert "ArenaSnapshot(" in repr(arena.snapshot())
        pickle.loads(message)
