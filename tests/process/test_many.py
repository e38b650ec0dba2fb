"""Many arenas, many threads, and every order in which an interpreter can end."""

import gc
import os
import pickle
import queue
import random
import sys
import threading
from pathlib import Path

import pytest

import flagstone
from tests.process.support import PATIENCE, assert_all_given_back, forked, pattern, program


def resources():
    """Open files, threads, mappings of arenas of this process."""
    maps = Path("/proc/self/maps").read_text()
    return (
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        maps.count("flagstone"),
    )


class TestArenas:
    @pytest.mark.parametrize("kind", ["one name", "fresh names", "anonymous"])
    def test_a_thousand_in_a_row(self, arena_name, kind):
        gc.collect()
        before = resources()
        for number in range(1000):
            name = {"one name": arena_name, "fresh names": f"{arena_name}-{number}"}.get(kind)
            with flagstone.open(name, capacity="16MiB") as arena:
                block = arena.put(pattern(number, 100))
                if number % 10 == 0:
                    arena.cache("thing", shape=(3, 4), dtype="f8").alloc()
                    with arena.group("job", limit="1MiB") as group:
                        arena.alloc(1000, group=group)
                    # Shared objects need a batch, which somebody has to run.
                    copy = pickle.loads(pickle.dumps(block))
                    assert bytes(copy) == pattern(number, 100)
                    del copy
                assert bytes(block) == pattern(number, 100)
                del block
            assert arena.closed
        gc.collect()
        assert resources() == before
        assert not list(Path("/dev/shm").glob(f"flagstone.{arena_name}*"))

    def test_a_thousand_times_another_process(self, arena_name):
        """Attach and leave, again and again, of an arena that others have."""
        with flagstone.open(arena_name) as outer:
            block = outer.put(b"still here")

            def child():
                outer.close()
                before = resources()
                for _ in range(300):
                    with flagstone.open(arena_name, create=False) as arena:
                        assert bytes(arena.get(handle)) == b"still here"
                assert resources() == before

            handle = block.handle
            block = [block]  # the child lets go of it with the arena

            def child_without():
                block.clear()
                child()

            with forked(child_without):
                pass
            assert bytes(outer.get(handle)) == b"still here"
            assert len(outer.processes) == 1
            block.clear()
            assert_all_given_back(outer)

    def test_two_hundred_at_once(self, arena_name):
        gc.collect()
        before = resources()
        arenas = [flagstone.open(f"{arena_name}-{number}") for number in range(100)]
        arenas += [flagstone.open() for _ in range(100)]
        blocks = [arena.put(pattern(number, 5000)) for number, arena in enumerate(arenas)]
        messages = [pickle.dumps(block) for block in blocks]

        def child():
            for number, message in enumerate(messages):
                assert bytes(pickle.loads(message)) == pattern(number, 5000)

        with forked(child):
            pass
        for number, (arena, block) in enumerate(zip(arenas, blocks, strict=True)):
            assert bytes(block) == pattern(number, 5000)
            assert arena.get(block.handle).handle == block.handle
            assert arena.in_flight() == []
        # Closed in any order, some with their Blocks alive.
        random.Random(1).shuffle(arenas)
        for arena in arenas[:150]:
            arena.close()
        for number, block in enumerate(blocks):
            assert bytes(block) == pattern(number, 5000)
        del block, blocks
        for arena in arenas[150:]:
            assert_all_given_back(arena)
            arena.close()
        del arena, arenas
        gc.collect()
        assert resources() == before

    def test_one_arena_opened_many_times(self, arena_name):
        arenas = [flagstone.open(arena_name) for _ in range(100)]
        block = arenas[0].put(b"x")
        assert len(arenas[50].processes) == 1
        for arena in arenas[:-1]:
            arena.close()
        assert bytes(arenas[-1].get(block.handle)) == b"x"
        with pytest.raises(flagstone.Closed):
            arenas[0].put(b"y")
        del block
        assert_all_given_back(arenas[-1])
        arenas[-1].close()
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")

    def test_threads_open_and_close_the_same_one(self, arena_name):
        errors = []

        def work(number):
            try:
                for turn in range(50):
                    with flagstone.open(arena_name, capacity="16MiB") as arena:
                        block = arena.put(pattern(number + turn, 300))
                        assert bytes(arena.get(block.handle)) == pattern(number + turn, 300)
                        del block
            except BaseException as error:
                errors.append(error)

        run_threads(8, work)
        assert errors == []
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def run_threads(count, work):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestThreads:
    @pytest.mark.timeout(600)  # each of them collects garbage, of all that was imported before
    def test_sixteen_do_everything_at_once(self, arena_name):
        """Garbage is collected in the middle of anything, in any thread."""
        errors = []
        mail = queue.SimpleQueue()
        interval = sys.getswitchinterval()

        def work(number):
            choose = random.Random(number)
            blocks = []
            try:
                for turn in range(100):
                    ident = 1000 * number + turn
                    block = choose.choice(caches).alloc(choose.choice([None, *groups]))
                    memoryview(block).cast("B")[:] = pattern(ident, block.nbytes)
                    cycle = [(ident, block)]
                    cycle.append(cycle)
                    match choose.randrange(6):
                        case 0:
                            mail.put((ident, pickle.dumps(block)))
                        case 1:
                            blocks.append((ident, memoryview(block)))
                        case 2:
                            blocks.append((ident, arena.get(block.handle)))
                        case 3:
                            blocks.append((ident, block.array))
                        case 4:
                            gc.collect()
                        case 5 if not mail.empty():
                            try:
                                other, message = mail.get_nowait()
                                blocks.append((other, pickle.loads(message)))
                            except queue.Empty:
                                pass
                    del block, cycle
                    if len(blocks) > 20:
                        choose.shuffle(blocks)
                        for ident, view in blocks[10:]:
                            assert bytes(view) == pattern(ident, memoryview(view).nbytes)
                        del blocks[10:], view
            except BaseException as error:
                errors.append(error)
                raise

        with flagstone.open(arena_name, capacity="256MiB") as arena:
            caches = [arena.cache(f"size-{n}", size=n) for n in (10, 1000, 30_000)]
            groups = [arena.group(f"job-{n}") for n in range(3)]
            sys.setswitchinterval(1e-5)
            try:
                run_threads(16, work)
            finally:
                sys.setswitchinterval(interval)
            assert errors == []
            arena.drop_in_flight()
            gc.collect()
            arena.barrier(PATIENCE)
            assert [cache.stats.allocated for cache in caches] == [0, 0, 0]
            assert [group.usage for group in groups] == [0, 0, 0]
            for group in groups:
                group.destroy()
            assert_all_given_back(arena)

    def test_two_drop_one_block(self, arena_name):
        with flagstone.open(arena_name) as arena:
            cache = arena.cache("thing", size=100)
            for turn in range(300):
                block = cache.alloc()
                if turn % 2:
                    pickle.loads(pickle.dumps(block))
                both = threading.Barrier(2)
                boxes = [[block], [arena.get(block.handle) if turn % 3 else block]]
                del block

                def drop(number, boxes=boxes, both=both):
                    both.wait()
                    boxes[number].clear()

                run_threads(2, drop)
            assert_all_given_back(arena)

    def test_two_free_one_object(self, arena_name):
        with flagstone.open(arena_name) as arena:
            outcomes = []
            for _ in range(200):
                block = arena.put(b"x")
                blocks = [block, arena.get(block.handle)]
                both = threading.Barrier(2)
                del block

                def free(number, blocks=blocks, both=both):
                    both.wait()
                    try:
                        blocks[number].free()
                    except flagstone.StaleHandle:
                        outcomes.append("late")
                    else:
                        outcomes.append("first")

                run_threads(2, free)
                del blocks, free
            assert outcomes.count("first") == outcomes.count("late") == 200
            assert_all_given_back(arena)

    def test_dropped_in_another_thread_than_made(self, arena_name):
        with flagstone.open(arena_name) as arena:
            cache = arena.cache("thing", size=1000)
            handed = queue.SimpleQueue()

            def drop(number):
                while (block := handed.get(timeout=PATIENCE)) is not None:
                    ident, block = block
                    assert bytes(block) == pattern(ident, 1000)
                    del block

            threads = [threading.Thread(target=drop, args=(n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for ident in range(2000):
                block = cache.alloc()
                memoryview(block)[:] = pattern(ident, 1000)
                handed.put((ident, block))
                del block
            for _ in threads:
                handed.put(None)
            for thread in threads:
                thread.join()
            assert_all_given_back(arena)

    def test_a_thousand_threads_one_after_the_other(self, arena_name):
        """What a thread that is gone has cached is used again."""
        with flagstone.open(arena_name) as arena:
            cache = arena.cache("thing", size=1000)
            for number in range(1000):
                run_threads(1, lambda _: cache.alloc())
                if number == 100:
                    arena.barrier(PATIENCE)
                    before = arena.committed
            arena.barrier(PATIENCE)
            assert arena.committed <= before + 256 * 1024
            assert_all_given_back(arena)

    def test_a_finaliser_that_uses_the_arena(self, arena_name):
        """It runs wherever the collector happens to run."""
        with flagstone.open(arena_name) as arena:
            cache = arena.cache("thing", size=100)
            seen = []

            class Node:
                def __init__(self, number):
                    self.me = self
                    self.number = number
                    self.block = cache.alloc()
                    memoryview(self.block)[:] = pattern(number, 100)

                def __del__(self):
                    fresh = cache.alloc()
                    memoryview(fresh)[:] = bytes(self.block)
                    seen.append(bytes(fresh) == pattern(self.number, 100))

            thresholds = gc.get_threshold()
            gc.set_threshold(5)
            try:
                run_threads(
                    4, lambda number: [Node(1000 * number + n) for n in range(200)] and None
                )
                gc.collect()
            finally:
                gc.set_threshold(*thresholds)
            assert seen == [True] * 800
            assert_all_given_back(arena)


# What is alive when the interpreter ends, and in which order it was made.
ENDINGS = {
    "a block": "block = arena.put(b'x')",
    "a block before the arena": "import builtins; builtins.block = arena.put(b'x')",
    "a memoryview": "view = memoryview(arena.put(b'x' * 100))[10:]",
    "an array": "array = arena.put(np.arange(10)).array[3:]",
    "a dlpack view": "array = np.from_dlpack(arena.put(np.arange(10)))",
    "a cycle": "cycle = [arena, arena.put(b'x')]; cycle.append(cycle)",
    "a closed arena with a block": "block = arena.put(b'x'); arena.close()",
    "a closed arena with a view": "view = memoryview(arena.put(b'x')); arena.close()",
    "a group": "group = arena.group('job'); block = arena.alloc(10, group=group)",
    "an entered group": "g = arena.group('job').__enter__(); block = arena.alloc(1, group=g)",
    "a destroyed group": "g = arena.group(); block = arena.alloc(10, group=g); t = g.destroy()",
    "a section": "section = arena.read(); section.__enter__()",
    "messages": "messages = [pickle.dumps(arena.put(b'x')) for _ in range(10)]",
    "a shared block": "block = pickle.loads(pickle.dumps(arena.put(b'x')))",
    "a freed block": "block = arena.put(b'x'); view = memoryview(block); block.free()",
    "an anonymous arena": "other = flagstone.open(); block = other.put(b'x')",
    "ten arenas": "more = [flagstone.open() for _ in range(10)]; b = [a.put(b'x') for a in more]",
    "a bound cache": "bound = arena.cache('a', size=8).bind(); blocks = bound.alloc_many(1000)",
    "a module attribute": "sys.block = arena.put(b'x'); threading.block = arena.put(b'y')",
    "a thread-local": "local = threading.local(); local.block = arena.put(b'x')",
    "a finaliser": """
class Late:
    def __del__(self):
        try:
            self.block = arena.alloc(10)
        except Exception:  # modules are half gone by now
            pass
late = Late(); late.me = late; late.block = arena.put(b'y')""",
    "an exit handler": "b = arena.put(b'x'); atexit.register(lambda: bytes(arena.get(b.handle)))",
    "an exit handler that closes": "block = arena.put(b'x'); atexit.register(arena.close)",
    "a weak finaliser": "block = arena.put(b'x'); weakref.finalize(arena, print, end='')",
    "a daemon thread that holds": """
def hold():
    mine = arena.put(b'x')
    ready.set()
    time.sleep(3600)
threading.Thread(target=hold, daemon=True).start(); ready.wait()""",
    "daemon threads at work": """
def work():
    while True:
        blocks = [arena.put(b'x' * 100) for _ in range(10)]
        ready.set()
        pickle.loads(pickle.dumps(blocks[0]))
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
ready.wait()""",
    "daemon threads in sections": """
def work():
    while True:
        with arena.read():
            ready.set()
        arena.synchronize()
for _ in range(2):
    threading.Thread(target=work, daemon=True).start()
ready.wait()""",
    "a daemon thread that waits": """
def wait():
    ready.set()
    arena.alloc("900MiB", wait=3600)
block = arena.alloc("500MiB")
threading.Thread(target=wait, daemon=True).start(); ready.wait()""",
    "a thread that ends later": """
def work():
    mine = arena.put(b'x')
    time.sleep(0.2)
    assert bytes(mine) == b'x'
    arena.barrier()
threading.Thread(target=work).start()""",
    "a forked child": """
block = arena.put(b'x')
if os.fork() == 0:
    assert bytes(block) == b'x'
else:
    os.wait()""",
    "a queue that still has to send": """
import multiprocessing
queue = multiprocessing.Queue()
queue.put(arena.put(b'x' * 1000))""",
    "a pool": """
import multiprocessing
pool = multiprocessing.get_context('fork').Pool(2)
block, = pool.map(bytes, [arena.put(b'x')])
pool.terminate()""",
    "a reaper at work": """
for _ in range(3000):
    block = pickle.loads(pickle.dumps(arena.put(b'x')))""",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_interpreter_ends(arena_name, ending):
    source = (
        "import atexit, flagstone, os, pickle, sys, threading, time, weakref\n"
        "import numpy as np\n"
        "ready = threading.Event()\n"
        "arena = flagstone.open(sys.argv[1])\n" + ENDINGS[ending]
    )
    assert program(source, arena_name) == ""
    assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")
