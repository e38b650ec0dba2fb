"""Memory that only cyclic garbage holds is found before an allocation gives up."""

import contextlib
import copy
import gc
import math
import os
import pickle
import threading
import time

import numpy as np
import pytest

import flagstone
from flagstone import garbage

SIZE = 1 << 20
MANY = 8  # of them fill an arena


@pytest.fixture
def arena(arena_name):
    garbage.begin_anew()  # with a second in advance, whatever others have spent
    with flagstone.open(arena_name, capacity=MANY * SIZE) as arena:
        yield arena
        gc.collect()
        arena.barrier(30)
        assert arena.check() == []
        assert sum(one.references for one in arena.processes) == 0


@pytest.fixture
def by_hand():
    """No automatic collection comes to the rescue; and it is a program that has disabled them."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def collections():
    """A list that grows with each full collection that somebody asks for."""
    seen = []

    def note(phase, info):
        if phase == "start" and info["generation"] == 2:
            seen.append(info)

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


class Cycle:
    def __init__(self, *held):
        self.held, self.me = held, self


def fill(arena, group=None):
    """All of it, as a failed task leaves it."""
    cache = arena.cache("thing", size=SIZE)

    def work():
        block = cache.alloc(group)
        view = block.array  # noqa: F841
        try:
            raise ValueError("broken")
        except ValueError as error:
            failure = error  # noqa: F841

    for _ in range(MANY):
        work()
    return cache


def _put_and_get(arena, value):
    with arena.channel("small", capacity=4, inline=64) as channel:
        channel.put(value)
        return channel.get()


def _share(arena, value):
    with flagstone.share(arena) as sharing:
        return sharing.dumps(value)


WAYS = {
    "cache": lambda arena, cache: cache.alloc(),
    "cache, zeroed": lambda arena, cache: cache.alloc(zero=True),
    "cache, waiting": lambda arena, cache: cache.alloc(wait=60),
    "cache, for ever": lambda arena, cache: cache.alloc(wait=math.inf),
    "cache, waiting no time": lambda arena, cache: cache.alloc(wait=0),
    "group cache": lambda arena, cache: cache.bind().alloc(),
    "group cache, waiting": lambda arena, cache: cache.bind().alloc(wait=60),
    "many": lambda arena, cache: cache.alloc_many(MANY - 1),
    "many of a group": lambda arena, cache: cache.bind(arena.group("g")).alloc_many(MANY - 1),
    "another cache": lambda arena, cache: arena.cache("other", size=3 * SIZE).alloc(),
    "bytes": lambda arena, cache: arena.alloc(SIZE // 2),
    "many bytes": lambda arena, cache: arena.alloc(6 * SIZE),
    "bytes, waiting": lambda arena, cache: arena.alloc(SIZE, wait=60),
    "few bytes": lambda arena, cache: arena.alloc(10),
    "put": lambda arena, cache: arena.put(np.zeros(SIZE // 2, "u1")),
    "put, waiting": lambda arena, cache: arena.put(bytes(SIZE), wait=60),
    "init": lambda arena, cache: arena.cache("new", size=SIZE, init=b"x" * SIZE),
    "many columns": lambda arena, cache: arena.cache(
        "wide", shape=1, dtype=[(f"column number {n}", "f4") for n in range(2000)]
    ),
    "channel": lambda arena, cache: arena.channel("new", capacity=1024),
    "topic": lambda arena, cache: arena.topic("new", capacity=1024),
    "lock": lambda arena, cache: arena.lock("new"),
    "limited store": lambda arena, cache: arena.store("new", limit="1MiB").put("key", bytes(4096)),
    "store": lambda arena, cache: arena.store("new").put("key", bytes(SIZE)),
    "message": lambda arena, cache: _put_and_get(arena, bytes(SIZE)),
    "pack": lambda arena, cache: flagstone.pack(arena, [bytes(SIZE)]),
    "dump": lambda arena, cache: arena.dump([np.zeros(SIZE, "u1")]),
    "share": lambda arena, cache: _share(arena, np.zeros(SIZE, "u1")),
}


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("way", WAYS)
def test_any_way_to_get_memory(arena, way):
    cache = fill(arena)
    got = WAYS[way](arena, cache)
    assert got
    arena.group("g").destroy()


@pytest.mark.usefixtures("by_hand")
def test_a_copy(arena):
    cache = arena.cache("thing", size=SIZE)
    block = cache.alloc()
    for _ in range(MANY - 1):
        Cycle(cache.alloc())
    assert bytes(copy.deepcopy(block)[:8]) == bytes(block[:8])


@pytest.mark.usefixtures("by_hand")
def test_the_limit_of_a_group(arena):
    group = arena.group("job", limit=4 * SIZE)
    cache = arena.cache("thing", size=SIZE)
    for _ in range(20):
        Cycle(cache.alloc(group))
        Cycle(arena.put(bytes(SIZE), group=group))
    group.destroy()


@pytest.mark.usefixtures("by_hand")
def test_frame_after_frame(arena):
    for _ in range(10):
        fill(arena)


@pytest.mark.usefixtures("by_hand")
def test_inside_a_section(arena):
    """Nothing can be reclaimed there, but what nobody was given is free at once."""
    cache = fill(arena)
    with arena.read():
        cache.alloc()


@pytest.mark.usefixtures("by_hand")
def test_shared_ones(arena):
    """What others were given needs a batch on top."""
    cache = arena.cache("thing", size=SIZE)
    for _ in range(3 * MANY):
        block = cache.alloc()
        Cycle(pickle.loads(pickle.dumps(block)), block)


@pytest.mark.usefixtures("by_hand")
def test_groups_in_cycles(arena):
    """And the caches that are bound to them."""
    cache = arena.cache("thing", size=SIZE)
    for number in range(3 * MANY):
        group = arena.group(f"job {number}")
        Cycle(group, cache.alloc(group), cache.bind(group))


# ---- when nothing helps


@pytest.mark.parametrize("wait", [None, 0, 0.05])
def test_the_error_says_so(arena, collections, wait):
    cache = arena.cache("thing", size=SIZE)
    kept = cache.alloc_many(MANY)
    with pytest.raises(flagstone.ArenaFull, match="garbage collection let go of nothing"):
        cache.alloc(wait=wait)
    assert len(collections) == garbage._ROUNDS
    with arena.read(), pytest.raises(flagstone.ArenaFull, match=r"inside read.*garbage coll"):
        cache.alloc()
    group = arena.group("job", limit=SIZE)
    kept.pop()
    kept.append(cache.alloc(group))
    with pytest.raises(flagstone.GroupLimitExceeded, match="garbage collection") as caught:
        cache.alloc(group, wait=wait)
    assert (caught.value.group, caught.value.limit) == ("job", SIZE)
    group.destroy()


def test_no_collection_where_there_is_memory(arena, collections):
    cache = arena.cache("thing", size=SIZE)
    for _ in range(3 * MANY):
        block = cache.alloc()
        pickle.loads(pickle.dumps(block))
        del block
    assert collections == []


def test_collections_that_help_nobody_are_rare(arena, monkeypatch):
    """A tenth of the time, and a second in advance: here each is said to take 0.3 s."""
    clock = [1000.0]
    ran = []

    def collect():
        ran.append(clock[0])
        clock[0] += 0.3
        return 0

    cache = arena.cache("thing", size=SIZE)
    kept = cache.alloc_many(MANY)
    monkeypatch.setattr(garbage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(garbage.gc, "collect", collect)
    monkeypatch.setattr(garbage, "_collections", lambda: len(ran))
    monkeypatch.setattr(garbage, "_ROUNDS", 1)
    garbage.begin_anew()
    for _ in range(100):
        with pytest.raises(flagstone.ArenaFull) as caught:
            cache.alloc()
    assert len(ran) == 4
    assert "nothing that helped 0.0 s ago" in str(caught.value)
    # What has helped is not counted.
    kept.pop()
    garbage.helped()
    kept.append(cache.alloc())
    for _ in range(100):
        clock[0] += 1
        with pytest.raises(flagstone.ArenaFull):
            cache.alloc()
    assert 30 <= len(ran) <= 60
    monkeypatch.undo()
    garbage.begin_anew()


# ---- threads, destructors, forks


@pytest.mark.usefixtures("by_hand")
def test_many_threads_at_once(arena):
    cache = arena.cache("thing", size=SIZE)
    errors, start = [], threading.Barrier(4)

    def work():
        start.wait()
        try:
            for _ in range(10):
                Cycle(cache.alloc(wait=60))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.usefixtures("by_hand")
def test_garbage_that_comes_up_while_somebody_waits(arena):
    cache = arena.cache("thing", size=SIZE)
    kept = [cache.alloc_many(MANY)]
    waits = threading.Event()

    def later():
        waits.wait()
        time.sleep(0.1)  # the first collection of who waits has found nothing
        Cycle(*kept.pop())

    thread = threading.Thread(target=later)
    thread.start()
    waits.set()
    block = cache.alloc(wait=60)
    thread.join()
    del block


@pytest.mark.usefixtures("by_hand")
def test_destructors_that_allocate(arena, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    cache = arena.cache("thing", size=SIZE)
    said = []

    class Last:
        def __init__(self, block):
            self.block, self.me = block, self

        def __del__(self):
            # Within the collection that is to make room: it cannot be asked for another one.
            try:
                said.append(cache.alloc().nbytes)
            except flagstone.ArenaFull as full:
                said.append(str(full))

    for _ in range(MANY):
        Last(cache.alloc())
    block = cache.alloc()
    assert len(said) == MANY
    assert told == []
    del block


@pytest.mark.usefixtures("by_hand")
def test_a_destructor_that_waits_for_who_collects(arena):
    """It would be a dead end, if collecting were waited for without end."""
    cache = arena.cache("thing", size=SIZE)
    mine = threading.Lock()
    inside, answers = threading.Event(), []

    class Waits:
        def __init__(self):
            self.me = self

        def __del__(self):
            inside.set()
            with mine:
                pass

    kept = cache.alloc_many(MANY)
    Waits()
    mine.acquire()
    collector = threading.Thread(target=lambda: answers.append(full(cache)))
    collector.start()
    inside.wait()
    answers.append(full(cache))  # while the other thread's collection waits for us
    mine.release()
    collector.join()
    assert answers == [True, True]
    kept.clear()


def full(cache):
    try:
        cache.alloc()
    except flagstone.ArenaFull:
        return True
    return False


@contextlib.contextmanager
def under_way(collect, *arguments):
    """Another thread's collection, which a destructor holds up; gives what lets it go on soon."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self):
            self.me = self

        def __del__(self):
            inside.set()
            go_on.wait(60)

    Slow()
    other = threading.Thread(target=collect, args=arguments)
    other.start()
    inside.wait()
    release = threading.Timer(0.05, go_on.set)
    yield release.start
    other.join()
    release.join()


@pytest.mark.usefixtures("by_hand")
def test_a_collection_that_is_under_way(arena):
    """Ours would return at once, and have collected nothing."""
    cache = fill(arena)
    with under_way(gc.collect, 0) as release:
        release()
        block = cache.alloc()
    del block


@pytest.mark.usefixtures("by_hand")
def test_what_comes_up_while_another_thread_collects(arena):
    """Its collection has looked already, and does not count for us."""
    cache = arena.cache("thing", size=SIZE)
    kept = cache.alloc_many(MANY)
    with under_way(full, cache) as release:
        Cycle(kept.pop(), kept.pop())
        release()
        block = cache.alloc()
    kept.clear()
    del block


@pytest.mark.usefixtures("by_hand")
def test_what_a_thread_made_that_waits_now(arena):
    """Without a GIL it would be let go of when that thread goes on."""
    cache = arena.cache("thing", size=SIZE)
    made, go_on = [], threading.Event()

    def work():
        for _ in range(MANY):
            made.append({"value": [cache.alloc().array[1:]]})
        ready.set()
        go_on.wait(60)

    ready = threading.Event()
    maker = threading.Thread(target=work)
    maker.start()
    ready.wait()
    made.clear()
    blocks = [cache.alloc() for _ in range(MANY)]
    go_on.set()
    maker.join()
    assert len(blocks) == MANY


@pytest.mark.usefixtures("by_hand")
def test_in_a_forked_child(arena):
    cache = arena.cache("thing", size=SIZE)
    garbage._state.lock.acquire()  # as if another thread collected during the fork
    try:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                fill(arena)
                cache.alloc()
                status = 0
            finally:
                os._exit(status)
    finally:
        garbage._state.lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- what is no allocation, on a file system that garbage has filled


@pytest.mark.root
@pytest.mark.usefixtures("by_hand")
def test_what_needs_a_page_of_a_table(small_tmpfs):
    garbage.begin_anew()
    with flagstone.open(f"{small_tmpfs}/arena", capacity="1GiB") as arena:
        keep = arena.put(b"kept")
        message = pickle.dumps(keep)
        handle = keep.handle

        def crowd():
            """Fill the folder up to the last page."""
            gc.collect()
            for size in (4 << 20, 64 << 10, 4096):
                blocks = []
                try:
                    while True:
                        blocks.append(arena.alloc(size))
                except flagstone.ArenaFull:
                    Cycle(*blocks)
                    blocks.clear()

        calls = {
            "pickle": lambda: [pickle.dumps(keep) for _ in range(10_000)],
            "unpickle": lambda: pickle.loads(message),
            "get": lambda: [arena.get(handle) for _ in range(5_000)],
            "group": lambda: [arena.group() for _ in range(500)],
            "cache": lambda: [arena.cache(f"c{n}", size=8 + n, merge=False) for n in range(200)],
            "bind": lambda: [
                arena.cache(f"c{n}", size=8 + n, merge=False).alloc() for n in range(200)
            ],
            "attach": lambda: flagstone.open(f"{small_tmpfs}/other", capacity="1MiB").close(),
        }
        for name, call in calls.items():
            crowd()
            # Or a slow machine has used up what collections may take.
            garbage.begin_anew()
            try:
                got = call()
            except flagstone.ArenaFull as error:
                pytest.fail(f"{name}: {error}")
            del got
            arena.drop_in_flight()
        gc.collect()
        arena.barrier(30)
        assert arena.check() == []
