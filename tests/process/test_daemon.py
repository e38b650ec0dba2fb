"""Programs that close every descriptor they do not know, as those do that become daemons, and give
the numbers to files of their own: nothing of theirs is touched, and what they have in an arena is
theirs while they live.
"""

import contextlib
import os
import subprocess
import sys
import textwrap

import pytest

import flagstone
from flagstone.testing import assert_sound, wait_until
from tests.process.support import PATIENCE, Worker, forked, kept, open_files, program

SIZE = 65536

# In a program: close all but the standard ones, each in its own way.
WAYS = {
    "closerange": "os.closerange(3, 1024)",
    "close_range": """
import ctypes
assert ctypes.CDLL(None, use_errno=True).syscall(436, 3, 0xffffffff, 0) == 0
""",
    "one by one": """
for name in os.listdir("/proc/self/fd"):
    if int(name) > 2:
        try: os.close(int(name))
        except OSError: pass
""",
    "dup2": """
null = os.open(os.devnull, os.O_RDWR)
for name in os.listdir("/proc/self/fd"):
    if int(name) not in (0, 1, 2, null):
        try: os.fstat(int(name))
        except OSError: continue
        os.dup2(null, int(name), inheritable=False)
""",
}

PROGRAM = """
import os, sys, flagstone
name = sys.argv[1] or None
arena = flagstone.open(name, capacity="64MiB")
block = arena.alloc(8 << 20)
block.array[:] = 1
{close}
mine = [open(path, "w+b", buffering=0) for path in sys.argv[2:]]
for file in mine:
    file.write(b"A" * 4096)
    os.pwrite(file.fileno(), b"A" * (1 << 20), 12 << 20)
more = arena.alloc(8 << 20)
more.array[:] = 2
assert block.array.min() == 1 and more.array.min() == 2
del block, more
arena.barrier()
assert arena.shrink() >= 16 << 20
assert arena.check() == []
pid = os.fork()
if pid == 0:
    arena.alloc(100)
    arena.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
arena.close()
for file in mine:
    os.fstat(file.fileno())
    assert os.pread(file.fileno(), 4096, 0) == b"A" * 4096
    assert os.pread(file.fileno(), 1 << 20, 12 << 20) == b"A" * (1 << 20)
    assert os.fstat(file.fileno()).st_blocks * 512 <= (1 << 20) + 8192
"""


@pytest.mark.parametrize("kind", ["named", pytest.param("anonymous", marks=pytest.mark.root)])
@pytest.mark.parametrize("way", WAYS)
def test_files_at_the_numbers_are_left_alone(arena_name, tmp_path, way, kind):
    source = PROGRAM.format(close=WAYS[way])
    files = [tmp_path / str(number) for number in range(6)]
    program(source, arena_name if kind == "named" else "", *files)
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def lose(name):
    arena = flagstone.open(name, create=False)
    frame = arena.alloc(SIZE)
    frame.array[:] = 1
    kept["frame"] = frame
    kept["view"] = frame.array
    handle = frame.handle
    del frame
    keep = {int(n) for n in os.listdir("/proc/self/fd") if is_pipe(int(n))} | {0, 1, 2}
    for number in range(3, 256):
        if number not in keep:
            os.closerange(number, number + 1)
    kept["files"] = [os.open(os.devnull, os.O_RDONLY) for _ in range(16)]
    return handle


def is_pipe(number):
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith(("socket:", "pipe:"))
    except OSError:
        return False


def look():
    return set(kept["view"].tolist()) | set(kept["frame"].array.tolist())


class TestLivesOn:
    @pytest.fixture
    def worker(self):
        with Worker("spawn") as worker:
            yield worker

    def test_its_memory_is_not_recycled(self, arena_name, worker):
        with flagstone.open(arena_name, capacity="64MiB") as arena:
            handle = worker(lose, arena_name)
            arena.barrier(PATIENCE)
            assert sum(one.alive for one in arena.processes) == 2
            others = []
            with contextlib.suppress(flagstone.ArenaFull):
                while True:
                    others.append(arena.alloc(SIZE))
                    others[-1].array[:] = 2
            assert worker(look) == {1}
            del others
            block = arena.get(handle)
            assert block.array.max() == 1
            assert worker.pid in {one.pid for one in block.holders}
            del block
            assert_sound(arena)

    def test_its_death_shows(self, arena_name, worker):
        with flagstone.open(arena_name, capacity="64MiB") as arena:
            handle = worker(lose, arena_name)
            worker.kill()
            arena.barrier(PATIENCE)
            assert sum(one.alive for one in arena.processes) == 1
            with pytest.raises(flagstone.StaleHandle):
                arena.get(handle)


READABLE = """
import os, select, sys, flagstone
arena = flagstone.open(sys.argv[1])
channel, topic = arena.channel("c"), arena.topic("t")
subscription = topic.subscribe()
numbers = [one.fileno() for one in (channel, subscription)]
assert select.select(numbers, [], [], 0)[0] == []
{close}
mine = [open(path, "w+b", buffering=0) for path in sys.argv[2:]]
assert set(numbers) & {{file.fileno() for file in mine}} or "dup2" in {close!r}
channel.put(b"a")
topic.publish(b"a")
for one in channel, subscription:
    assert one.get(wait=60) == b"a"
    try: one.get(wait=0)
    except flagstone.ChannelEmpty: pass
    one.fileno()
channel.put(b"b")
topic.publish(b"b")
for one in channel, subscription:
    assert select.select([one], [], [], 60)[0]
    assert one.get(wait=0) == b"b"
channel.leave()
subscription.close()
for file in mine:
    assert os.fstat(file.fileno()).st_size == 0
"""


@pytest.mark.parametrize("way", WAYS)
def test_what_says_that_there_is_a_message(arena_name, tmp_path, way):
    files = [tmp_path / str(number) for number in range(8)]
    program(READABLE.format(close=WAYS[way]), arena_name, *files)


def test_exit_without_descriptors(arena_name):
    program(
        """
        import os, sys, flagstone
        arena = flagstone.open(sys.argv[1])
        block = arena.alloc(100)
        os.closerange(3, 256)
        """,
        arena_name,
    )
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def test_reopening_after_it(arena_name):
    program(
        """
        import os, sys, flagstone
        arena = flagstone.open(sys.argv[1])
        block = arena.put(b"abc")
        os.closerange(3, 256)
        again = flagstone.open(sys.argv[1])
        assert bytes(again.get(block.handle)) == b"abc"
        """,
        arena_name,
    )


def test_subprocess_closes_nothing_of_ours(arena_name):
    with flagstone.open(arena_name) as arena:
        block = arena.put(b"abc")
        for close in True, False:
            subprocess.run([sys.executable, "-c", ""], close_fds=close, check=True)
        assert bytes(block) == b"abc"
        assert_sound(arena)


def test_descriptors_of_an_arena(arena_name):
    before = open_files()
    with flagstone.open(arena_name):
        assert len(open_files()) == len(before) + 1
    assert open_files() == before


@pytest.mark.root
def test_anonymous_and_no_privilege_says_so():
    out = program(
        """
        import os, flagstone
        arena = flagstone.open(capacity="64MiB")
        block = arena.put(b"abc")
        os.closerange(3, 256)
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        try:
            arena.barrier()
        except flagstone.Closed as error:
            print(error)
        assert bytes(block) == b"abc"
        arena.close()
        """
    )
    assert "become daemons" in out
    assert "name" in out


def test_python_daemon(arena_name, tmp_path):
    pytest.importorskip("daemon")
    log = tmp_path / "log"
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        program(
            """
            import os, sys, daemon, flagstone
            arena = flagstone.open(sys.argv[1], create=False)
            frame = arena.put(b"1" * 1000)
            with daemon.DaemonContext():
                with open(sys.argv[2], "w", buffering=1) as log:
                    try:
                        large = arena.put(bytes(1 << 20))
                        assert arena.check() == []
                        assert bytes(frame) == b"1" * 1000
                        log.write(bytes(frame.handle).hex() + " good\\n")
                        while os.path.exists(sys.argv[2]):
                            pass
                    except BaseException as error:
                        log.write(f"- {error!r}\\n")
            """,
            arena_name,
            log,
        )
        wait_until(lambda: log.exists() and log.read_text().endswith("\n"), PATIENCE)
        handle, said = log.read_text().split()[:2]
        assert said == "good", log.read_text()
        arena.barrier(PATIENCE)
        assert bytes(arena.get(flagstone.Handle(bytes.fromhex(handle)))) == b"1" * 1000
        log.unlink()
        wait_until(lambda: sum(one.alive for one in arena.processes) == 1, PATIENCE)


def test_a_fork_after_it(arena_name):
    def child():
        os.closerange(3, 256)
        with forked(lambda: arena.put(b"from a grandchild").free()):
            pass
        assert bytes(block) == b"abc"
        arena.put(b"x")

    with flagstone.open(arena_name) as arena:
        block = arena.put(b"abc")
        with forked(child):
            pass
        assert_sound(arena)


@pytest.mark.root
def test_attaching_without_proc(arena_name):
    source = """
        import os, sys, flagstone
        assert not os.path.exists("/proc/self")
        arena = flagstone.open(sys.argv[1], create=False)
        block = arena.put(b"abc")
        if (pid := os.fork()) == 0:
            assert bytes(block) == b"abc"
            arena.put(b"more")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        arena.close()
        try:
            flagstone.open()
        except OSError as error:
            print(error)
    """
    hidden = "mount -t tmpfs none /proc && exec "
    with flagstone.open(arena_name) as arena:
        done = subprocess.run(
            [
                *("unshare", "-m", "sh", "-c", hidden + '"$@"', "sh"),
                *(sys.executable, "-c", textwrap.dedent(source), arena_name),
            ],
            capture_output=True,
            text=True,
        )
        assert (done.stderr, done.returncode) == ("", 0)
        assert "/proc" in done.stdout
        assert_sound(arena)
