"""Allocation sites: where what lives was allocated, by whom, and who holds it."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

import flagstone

SIZE = 64


@pytest.fixture
def arena():
    with flagstone.open(capacity="64MiB") as opened:
        yield opened


def test_sites(arena):
    cache = arena.cache("c", size=1000, debug="U")

    def leaky():
        return [cache.alloc() for _ in range(30)]

    def tidy():
        return cache.alloc()

    kept, one = leaky(), tidy()
    first, second = arena.snapshot().sites
    assert (first.objects, first.nbytes, first.pids) == (30, 30_000, (os.getpid(),))
    assert "leaky" in first.where.split("\n")[0]
    assert first.caches == ("c",)
    assert first.holders == ((os.getpid(), 30),)
    assert "tidy" in second.where
    assert second.nbytes == 1000
    assert "allocated at" in str(arena.snapshot())
    del kept, one
    assert arena.snapshot().sites == ()


HOLDS = """
import sys, flagstone
arena = flagstone.open(sys.argv[1])
channel = arena.channel("frames", capacity=8)
kept = [channel.get() for _ in range(4)]
print("holds", flush=True)
sys.stdin.read()
"""


def test_sites_say_who_holds(arena_name):
    """Who keeps it is another process than who allocated it; what nobody holds is in a channel."""
    with flagstone.open(arena_name, capacity="64MiB", debug="U") as arena:
        cache = arena.cache("frame", size=1000)
        channel = arena.channel("frames", capacity=8)
        mine = [cache.alloc() for _ in range(7)]
        for block in mine[:6]:
            channel.put(block)  # which leaves this process
        with subprocess.Popen(
            [sys.executable, "-c", HOLDS, arena_name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as other:
            assert other.stdout.readline() == "holds\n"
            (site,) = arena.snapshot().sites
            assert (site.objects, site.pids) == (7, (os.getpid(),))
            assert site.holders == ((other.pid, 4), (os.getpid(), 1))
            del block, mine
            arena.barrier()
            (site,) = arena.snapshot().sites
            assert (site.objects, site.holders) == (6, ((other.pid, 4),))
            command = [sys.executable, "-m", "flagstone", "sites", arena_name]
            listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            assert f"  {os.getpid()}  {other.pid} (4)  frame  " in listed
            other.communicate("")


def test_sites_of_a_process_elsewhere(tmp_path):
    # Started with the variable alone; asked from outside, by the command.
    name = f"flagstone-debug-{os.getpid()}"
    script = tmp_path / "leaks.py"
    script.write_text(
        textwrap.dedent("""
        import sys, flagstone
        arena = flagstone.open(sys.argv[1], capacity="64MiB")
        cache = arena.cache("frame", size=10_000)
        def grab():
            return cache.alloc()
        kept = [grab() for _ in range(100)] + [arena.alloc(100) for _ in range(10)]
        print("ready", flush=True)
        sys.stdin.read()
        """)
    )
    environment = {**os.environ, "FLAGSTONE_DEBUG": "U"}
    with subprocess.Popen(
        [sys.executable, script, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    ) as leaking:
        assert leaking.stdout.readline() == "ready\n"
        command = [sys.executable, "-m", "flagstone", "sites", name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert f"{script}:6 in grab" in listed
        assert "976.6 KiB" in listed
        command.append("--json")
        found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert [(site["objects"], site["nbytes"]) for site in found["sites"]] == [
            (100, 1_000_000),
            (10, 1000),
        ]
        leaking.stdin.close()
        assert leaking.wait() == 0


def test_sites_are_those_of_the_arena():
    """An arena that lies where one lay that was left has sites of its own, in its own order."""

    def first(cache):
        return cache.alloc()

    def second(cache):
        return cache.alloc()

    for number in range(4):
        one, other = (first, second) if number % 2 else (second, first)
        with flagstone.open(capacity="16MiB", debug="U") as arena:
            cache = arena.cache("c", size=100)
            kept = [one(cache), one(cache), other(cache)]
            found = {
                site.where.split("\n")[0].split(".")[-1]: site for site in arena.snapshot().sites
            }
            assert found[one.__name__].objects == 2
            assert found[other.__name__].objects == 1
            del kept


def test_more_places_than_an_arena_has_room_for(arena_name):
    """Later ones are not known; they are counted all the same, and types are known as ever."""
    with flagstone.open(arena_name, capacity="64MiB", debug="U") as arena:
        names = {"alloc": arena.cache("c", size=SIZE).alloc, "kept": []}
        for number in range(4500):
            exec(compile("kept.append(alloc())", f"made-{number}", "exec"), names)
        found = arena.snapshot().sites
        assert len(found) <= 4096
        assert sum(site.objects for site in found) == 4500
        assert found[0].where == ""
        block = arena.cache("typed", shape=(3,), dtype=[("x", "f4"), ("y", "i8")]).alloc()
        assert block.array.dtype.names == ("x", "y")
        command = [sys.executable, "-m", "flagstone", "sites", arena_name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert listed.splitlines()[2].endswith("(not known)")
        names.clear()


def test_nothing_is_debugged(arena_name):
    with flagstone.open(arena_name, capacity="16MiB"):
        command = [sys.executable, "-m", "flagstone", "sites", arena_name]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "FLAGSTONE_DEBUG=U" in listed


def test_sites_are_bounded_and_quick(arena):
    cache = arena.cache("c", size=SIZE, debug="U")
    for number in range(200):
        exec(compile("cache.alloc()", f"made-{number}", "exec"), {"cache": cache})
    blocks = []
    began = time.perf_counter()
    for _ in range(2000):
        blocks.append(cache.alloc())
    print(f"{(time.perf_counter() - began) / 2000 * 1e6:.2f} us an allocation")
    (site,) = arena.snapshot().sites
    assert site.objects == 2000
