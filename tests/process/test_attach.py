"""How an arena reaches another process, and what is left when processes end."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import flagstone
from flagstone.testing import assert_sound, wait_until
from tests.process.support import Worker, attach

METHODS = ["fork", "spawn", "forkserver"]


@contextlib.contextmanager
def running(process):
    process.start()
    try:
        yield process
    finally:
        process.join(30)
        if process.exitcode is None:
            process.kill()
            process.join()
        process.close()


def run(method, target, *arguments):
    with running(multiprocessing.get_context(method).Process(target=target, args=arguments)) as one:
        one.join(30)
        assert one.exitcode == 0


def put_42(arena, pipe):
    block = arena.put(np.full(10, 42))
    pipe.send(block)
    assert pipe.recv() == "read"


@pytest.mark.parametrize("name", ["named", "anonymous"])
@pytest.mark.parametrize("method", METHODS)
def test_an_arena_as_an_argument(arena_name, method, name):
    mine, theirs = multiprocessing.get_context(method).Pipe()
    with flagstone.open(arena_name if name == "named" else None) as arena, mine, theirs:
        process = multiprocessing.get_context(method).Process(target=put_42, args=(arena, theirs))
        with running(process):
            block = mine.recv()
            assert (block.array == 42).all()
            assert len(block.holders) == 2
            mine.send("read")
        assert (block.array == 42).all()
        del block
        assert_sound(arena)
        assert len(arena.processes) == 1


def check_arguments(blocks, group, arena):
    assert [block.array[0] for block in blocks] == [0, 1, 2]
    assert {block.group for block in blocks} == {group}
    assert {block.cache.name for block in blocks} == {"numbers"}
    assert group.name == "job"
    assert len(arena.processes) == 2
    blocks[0].array[0] = 9


@pytest.mark.parametrize("method", METHODS)
def test_blocks_and_groups_of_an_anonymous_arena_as_arguments(method):
    with flagstone.open() as arena, arena.group("job") as group:
        cache = arena.cache("numbers", shape=5, dtype="i8")
        blocks = cache.alloc_many(3, group)
        for number, block in enumerate(blocks):
            block.array[:] = number
        run(method, check_arguments, blocks, group, arena)
        assert blocks[0].array[0] == 9
        assert arena.in_flight() == []
        # And without the arena itself: each Block brings it along.
        blocks[0].array[0] = 0
        run(method, only_blocks, blocks)
        del block, blocks
        assert_sound(arena)


def only_blocks(blocks):
    assert [block.array[0] for block in blocks] == [0, 1, 2]
    assert len(os.listdir("/proc/self/fd")) < 30


def sum_up(incoming, outgoing):
    while (block := incoming.get()) is not None:
        outgoing.put(int(block.array.sum()))
        del block


@pytest.mark.parametrize("method", METHODS)
def test_a_consumer_attaches_by_itself(arena_name, method):
    context = multiprocessing.get_context(method)
    incoming, outgoing = context.Queue(), context.Queue()
    with (
        running(context.Process(target=sum_up, args=(incoming, outgoing))),
        flagstone.open(arena_name) as arena,
    ):
        frames = arena.cache("frame", shape=(100, 100), dtype="i4")
        for number in range(50):
            block = frames.alloc(wait=10)
            block.array[:] = number
            incoming.put(block)
            del block
        incoming.put(None)
        assert [outgoing.get(timeout=30) for _ in range(50)] == [n * 10_000 for n in range(50)]
        wait_until(lambda: len(arena.processes) == 1)
        arena.barrier(30)
        assert frames.stats.allocated == 0
        assert_sound(arena)
    for queue in (incoming, outgoing):
        queue.close()
        queue.join_thread()


def double(block):
    return block.cache.bind(block.group).alloc() if block.nbytes < 0 else _doubled(block)


def _doubled(block):
    copy = pickle.loads(pickle.dumps(block))
    copy.array[:] *= 2
    return copy


@pytest.mark.parametrize("method", METHODS)
def test_pools(arena_name, method):
    context = multiprocessing.get_context(method)
    with flagstone.open(arena_name) as arena:
        blocks = [arena.put(np.full(100, number)) for number in range(20)]
        with context.Pool(2) as pool:
            results = pool.map(double, blocks)
            pool.close()
            pool.join()
        assert [block.array[0] for block in results] == [2 * number for number in range(20)]
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            results = list(executor.map(double, blocks))
        assert [block.array[0] for block in results] == [4 * number for number in range(20)]
        assert [block.handle for block in results] == [block.handle for block in blocks]
        del blocks, results
        assert_sound(arena)
        assert arena.in_flight() == []


def has_it(pid, path):
    """Whether the process has the file mapped, by whatever name. One that has gone has not."""
    number = str(os.stat(path).st_ino)
    with contextlib.suppress(OSError):
        maps = [line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        return any(line[4] == number and "/dev/shm/" in line[5] for line in maps if len(line) > 5)
    return False


def test_nobody_serves_it(arena_name):
    """No server, no broker and no keeper: the processes that use an arena are all that have it."""
    with Worker() as worker, flagstone.open(arena_name) as arena:
        worker(attach, arena_name)
        users = {os.getpid(), worker.pid}
        assert {one.pid for one in arena.processes} == users
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        assert {pid for pid in pids if has_it(pid, arena.path)} == users


def test_fork_with_live_blocks(arena_name):
    with flagstone.open(arena_name) as arena:
        cache = arena.cache("a", size=64)
        blocks = cache.alloc_many(100)
        for number, block in enumerate(blocks):
            block.array[:] = number
        ready, done = os.pipe(), os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                del block
                del blocks[::2]
                os.write(ready[1], b"x")
                os.read(done[0], 1)
                own = cache.alloc_many(100)
                for one in own:
                    one.array[:] = 255
                good = all(set(bytes(one)) == {2 * n + 1} for n, one in enumerate(blocks))
                status = 0 if good else 2
            finally:
                os._exit(status)
        os.read(ready[0], 1)
        handles = [block.handle for block in blocks]
        del blocks, block
        arena.barrier(30)
        # What the child still uses is there; what nobody uses is not.
        assert [bytes(arena.get(handle))[0] for handle in handles[1::2]] == list(range(1, 100, 2))
        with pytest.raises(flagstone.StaleHandle):
            arena.get(handles[0])
        os.write(done[1], b"x")
        assert os.waitpid(pid, 0)[1] == 0
        for end in (*ready, *done):
            os.close(end)
        arena.barrier(30)
        assert cache.stats.allocated == 0
        assert_sound(arena)


def test_a_forked_child_only_lets_go(arena_name):
    with flagstone.open(arena_name) as arena:
        with arena.group("job") as group:
            pid = os.fork()
            if pid != 0:
                assert os.waitpid(pid, 0)[1] == 0
                assert group.state == "live"
                assert os.path.exists(arena.path)
        if pid == 0:
            arena.close()
            os._exit(0)


def program(source):
    """Run it; what it prints, and nothing else may be printed."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60
    )
    assert result.stderr == ""
    assert result.returncode == 0
    return result.stdout


def test_a_process_that_just_ends_removes_its_arena(arena_name):
    program(
        f"""
        import flagstone
        arena = flagstone.open({arena_name!r})
        block = arena.put(b"x" * 100_000)
        view, array = memoryview(block), block.array
        cycle = [block]
        cycle.append(cycle)
        group = arena.group("job")
        bound = arena.cache("a", size=8).bind(group)
        blocks = bound.alloc_many(10)
        section = arena.read()
        """
    )
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_children_that_end_last_remove_the_arena(arena_name, method, early):
    first, second = ("multiprocessing", "flagstone") if early else ("flagstone", "multiprocessing")
    program(
        f"""
        import {first}, {second}, sys, time, types
        arena = flagstone.open({arena_name!r})
        queue = multiprocessing.get_context({method!r}).Queue()
        queue.put(arena.put(b"x"))
        """
        if method != "fork"
        else f"""
        import {first}, {second}, os, time
        arena = flagstone.open({arena_name!r})
        def child():
            while os.getppid() != 1 and time.monotonic() < end:
                time.sleep(0.01)
        end = time.monotonic() + 0.3
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        arena.close()
        """
    )
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def test_what_a_killed_process_left_is_removed_by_the_next_open(shm_folder):
    path = f"{shm_folder}/left"
    source = f"""
        import flagstone, os, signal
        arena = flagstone.open({path!r})
        block = arena.put(b"x" * 1_000_000)
        print("ready", flush=True)
        signal.pause()
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
    (info,) = flagstone.arenas(shm_folder)
    assert (info.path, info.processes, info.orphan) == (path, 0, True)
    with flagstone.open(shm_folder / "next"):
        assert not os.path.exists(path)


def test_what_a_killed_process_held_is_given_back(arena_name):
    with flagstone.open(arena_name) as arena:
        shared = arena.put(b"shared")
        source = f"""
            import flagstone, pickle, signal, sys
            arena = flagstone.open({arena_name!r})
            group = arena.group("job")
            blocks = arena.cache("a", size=1000).alloc_many(1000, group)
            shared = arena.get(flagstone.Handle({bytes(shared.handle)!r}))
            print("ready", flush=True)
            signal.pause()
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "ready\n"
            assert {holder.pid for holder in shared.holders} == {os.getpid(), process.pid}
            assert len(arena.processes) == 2
            process.send_signal(signal.SIGKILL)
        arena.barrier(30)
        assert [holder.pid for holder in shared.holders] == [os.getpid()]
        wait_until(lambda: arena.groups == [])
        assert arena.cache("a", size=1000).stats.allocated == 0
        assert bytes(shared) == b"shared"
        del shared
        assert_sound(arena)


def test_a_readonly_consumer(arena_name):
    with flagstone.open(arena_name) as arena:
        block = arena.put(np.arange(5))
        source = f"""
            import flagstone, numpy as np
            with flagstone.open({arena_name!r}, readonly=True) as arena:
                block = arena.get(flagstone.Handle({bytes(block.handle)!r}))
                assert block.readonly and not block.array.flags.writeable
                assert memoryview(block).readonly
                for call in (block.free, lambda: arena.alloc(1)):
                    try:
                        call()
                    except flagstone.ReadOnly:
                        continue
                    raise AssertionError(call)
                try:
                    block.array[0] = 1
                except ValueError:
                    print(np.frombuffer(block, "i8").tolist())
                try:
                    block.array.flags.writeable = True
                except ValueError:
                    print("no")
                del block
        """
        assert program(source) == "[0, 1, 2, 3, 4]\nno\n"
        del block
        assert_sound(arena)


def test_ctrl_c_ends_a_wait(arena_name):
    source = f"""
        import flagstone, math, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
        arena = flagstone.open({arena_name!r}, capacity="1MiB")
        block = arena.alloc("768KiB")
        print("ready", flush=True)
        try:
            arena.alloc("768KiB", wait=math.inf)
        except KeyboardInterrupt:
            print("interrupted")
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (out, err) == ("interrupted\n", "")


POOL = """
import concurrent.futures, multiprocessing, sys
import flagstone

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with flagstone.open() as arena, concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        try:
            pool.submit(len, arena.put(b"x")).result()
        except concurrent.futures.process.BrokenProcessPool:
            print("broken")
"""


def test_a_pool_that_breaks_because_the_arena_is_anonymous(tmp_path):
    """The executor does not say why; the worker that ended of it does."""
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.stdout == "broken\n"
    for words in ("anonymous arena", "BrokenProcessPool", "a name", "initargs"):
        assert words in ran.stderr
