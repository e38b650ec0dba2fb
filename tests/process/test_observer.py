"""Looking at an arena again and again: who uses what, and what a look leaves."""

import os
import subprocess
import sys

import pytest

import flagstone
from flagstone import _core
from flagstone.observer import Observer, share
from tests.process.support import Worker, attach, keep


def test_who_uses_what(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        cache = arena.cache("frame", size=1000)
        with arena.group("a") as one, arena.group("b") as two:
            mine = [cache.alloc(group=one) for _ in range(3)] + [cache.alloc(group=two)]
            with Worker("spawn") as worker:
                worker(attach, arena_name)
                worker(keep, *mine[:2])
                look = Observer(arena).look(uses=True)
                found = {(use.pid, use.cache, use.group): use for use in look.uses}
                ids = {info.name: info.id for info in look.snapshot.groups}
                (frame,) = [info.id for info in look.snapshot.caches if info.name == "frame"]
                for process in look.snapshot.processes:
                    uses = [use for use in look.uses if use.pid == process.pid]
                    assert sum(use.bytes for use in uses) == process.bytes
                    own = [3, 1] if process.is_self else [2]
                    for group, count in zip("ab", own, strict=False):
                        use = found[process.pid, frame, ids[group]]
                        assert (use.objects, use.bytes) == (count, count * 1000)
                        assert use.command == process.command
            del mine


def test_many_uses_are_summed(arena_name):
    with flagstone.open(arena_name, capacity="256MiB") as arena:
        cache = arena.cache("c", size=64)
        groups = [arena.group() for _ in range(300)]
        blocks = [cache.alloc(group=group) for group in groups]
        rows = _core.uses(arena._link.attachment, 50)
        assert len(rows) <= 51
        assert rows[-1]["slot"] == 2**32 - 1
        assert sum(row["objects"] for row in rows) == 300
        assert sum(row["bytes"] for row in rows) == 300 * 64
        assert len(_core.uses(arena._link.attachment, 4096)) >= 295
        del blocks, groups


def test_an_observer_is_nobody(arena_name):
    """It holds no arena that the others have left, and it removes no orphan."""
    program = "import flagstone, sys; a = flagstone.open(sys.argv[1]); print(flush=True); input()"
    path = f"/dev/shm/flagstone.{arena_name}"
    with Observer(arena_name) as observer, Observer(arena_name):
        with pytest.raises(FileNotFoundError, match=arena_name):
            observer.look()
        process = subprocess.Popen(
            [sys.executable, "-c", program, arena_name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        process.stdout.readline()
        look = observer.look()
        assert {one.readonly for one in look.snapshot.processes if one.is_self} == {True}
        process.kill()
        process.communicate()
        look = observer.look()  # the last of it: nobody has it any more
        assert not any(one.alive and not one.is_self for one in look.snapshot.processes)
        with pytest.raises(FileNotFoundError):
            observer.look()
    assert not os.path.exists(path)


def test_a_program_watches_itself(arena_name):
    with flagstone.open(arena_name, capacity="4MiB") as arena:
        with Observer(arena_name) as observer:
            block = arena.put(b"x" * 1000)
            assert observer.look().snapshot.processes[0].references == 1
        assert not arena.closed
        assert arena.get(block.handle).nbytes == 1000
        del block


def test_dear_looks_come_rarely(arena_name):
    with flagstone.open(arena_name, capacity="4MiB") as arena:
        observer = Observer(arena)
        assert observer.pause(1.0) == 1.0
        look = observer.look()
        assert observer.pause(0.0) == look.seconds / share()
        assert observer.pause(1e6) == 1e6


def test_a_long_command_line(arena_name):
    """Its middle is left out: both ends say more."""
    code = "import flagstone, sys; arena = flagstone.open(sys.argv[1]); print(); sys.stdin.read()"
    command = [sys.executable, "-u", "-c", code, arena_name, "--rank", "7"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with flagstone.open(arena_name) as arena:
            picture = arena.snapshot()
        process.stdin.close()
    (whole,) = (one.arguments for one in picture.processes if one.pid == process.pid)
    assert whole.endswith("--rank 7")
    assert whole not in str(picture)
    (line,) = (line for line in str(picture).splitlines() if "--rank 7" in line)
    assert f"{whole[:24]}..." in line
