"""Stores between processes: what is found, what a kill leaves, who makes a value."""

import multiprocessing
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

import flagstone
from tests.process.support import Worker, kill

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def arena():
    with flagstone.open(None, capacity="64MiB") as arena:
        yield arena


# ---- a mapping


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.zeros(0, "f4"),
        np.array(5, "i2"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.arange(10)[::3],
    ],
    ids=lambda value: f"{value.dtype}-{value.shape}",
)
def test_an_array_comes_out_as_it_was(arena, value):
    store = arena.store("things")
    store["a"] = value
    got = store["a"]
    assert got.dtype == value.dtype
    assert got.shape == value.shape
    assert np.array_equal(got, value)
    assert store.block("a").shape == value.shape
    assert got.flags.f_contiguous == value.flags.f_contiguous or value.ndim < 2


def test_a_buffer_comes_out_as_bytes_of_an_array(arena):
    store = arena.store("things")
    store["a"] = b"some bytes"
    store["b"] = bytearray(b"others")
    assert bytes(store["a"]) == b"some bytes"
    assert bytes(store["b"]) == b"others"


@pytest.mark.parametrize("value", [None, "text", 5, {"a": [1, 2.5]}, {1, 2}, ("x", b"y")])
def test_any_object_comes_out(arena, value):
    store = arena.store("things")
    store["a"] = value
    assert store["a"] == value
    assert type(store["a"]) is type(value)


def test_arrays_in_an_object_are_not_copied(arena):
    store = arena.store("things")
    store["model"] = {"w": np.ones((300, 300)), "small": np.arange(3), "name": "m"}
    first, second = store["model"], store["model"]
    first["w"][5, 5] = 7
    assert second["w"][5, 5] == 7
    assert flagstone.block_of(first["w"])[0].handle == store.block("model").handle
    assert first["small"].tolist() == [0, 1, 2]


def test_a_masked_array_keeps_its_mask(arena):
    store = arena.store("things")
    store["a"] = np.ma.masked_array([1, 2, 3], [0, 1, 0])
    assert store["a"].mask.tolist() == [False, True, False]


def test_a_block_of_a_cache_is_held_as_it_is(arena):
    store = arena.store("things")
    cache = arena.cache("frame", shape=(2, 3), dtype="f4")
    block = cache.alloc()
    block.array[:] = 5
    store["frame"] = block
    handle = block.handle
    del block
    arena.barrier()
    assert store.block("frame").handle == handle
    assert store["frame"].shape == (2, 3)
    with pytest.raises(flagstone.CacheBusy):
        cache.destroy()
    del store["frame"]
    cache.destroy()


def test_it_is_a_mapping(arena):
    store = arena.store("things")
    for number in range(10):
        store[str(number)] = np.full(3, number)
    assert len(store) == 10
    assert set(store) == {str(number) for number in range(10)}
    assert "3" in store
    assert "30" not in store
    assert 3 not in store
    assert store.get("30") is None
    assert {key: value[0] for key, value in store.items()} == {str(n): n for n in range(10)}
    assert sorted(value[0] for value in store.values()) == list(range(10))
    del store["3"]
    with pytest.raises(KeyError, match="3"):
        store["3"]
    with pytest.raises(KeyError):
        del store["3"]
    with pytest.raises(KeyError):
        store.block("3")
    assert store.pop("4")[0] == 4
    assert store.pop("4", None) is None
    with pytest.raises(KeyError):
        store.pop("4")
    assert store.setdefault("5", 0)[0] == 5
    assert store.setdefault("new", "x") == "x"
    store.update(a=1, b=2)
    assert store["b"] == 2
    key, _ = store.popitem()
    assert key not in store
    store.clear()
    assert len(store) == 0
    assert list(store) == []


def test_popitem_takes_each_key_once(arena):
    store = arena.store("things")
    keys = [str(number) for number in range(500)]
    store.update(dict.fromkeys(keys, b"x"))
    taken = [store.popitem()[0] for _ in range(200)]
    more = [f"more {number}" for number in range(3000)]  # the index is made anew
    store.update(dict.fromkeys(more, b"y"))
    while store:
        taken.append(store.popitem()[0])
    assert sorted(taken) == sorted(keys + more)
    with pytest.raises(KeyError, match="empty"):
        store.popitem()


def test_hostile_keys(arena):
    store = arena.store("things")
    keys = [
        "",
        b"",
        "a",
        b"a",
        "\0",
        b"\0",
        "x" * 255,
        b"\xff" * 255,
        "\u00e9",
        "e\u0301",
        "\U0001f600",
    ]
    for number, key in enumerate(keys):
        store[key] = number
    assert [store[key] for key in keys] == list(range(len(keys)))
    assert sorted(map(repr, store)) == sorted(map(repr, keys))
    for key in ("x" * 256, b"x" * 256, "\u00e9" * 128):
        with pytest.raises(ValueError, match="255"):
            store[key] = 1
        assert key not in store
        assert store.get(key, 5) == 5
    with pytest.raises(TypeError, match="str or bytes"):
        store[3] = 1


@pytest.mark.parametrize("key", ["\ud800", os.fsdecode(b"caf\xe9.txt")])
def test_text_that_is_no_utf8_is_no_key(arena, key):
    """As with any other key that a store cannot have, looking it up finds nothing."""
    store = arena.store("things")
    for refused in (
        lambda: store.put(key, 1),
        lambda: store.setdefault(key, 1),
        lambda: store.get_or_put(key, int),
    ):
        with pytest.raises(ValueError, match=r"os\.fsencode"):
            refused()
    assert key not in store
    assert store.get(key, 5) == 5
    assert store.pop(key, 6) == 6
    for missing in (
        lambda: store[key],
        lambda: store.pop(key),
        lambda: store.version(key),
        lambda: store.block(key),
        lambda: store.__delitem__(key),
    ):
        with pytest.raises(KeyError):
            missing()
    assert len(store) == 0


@pytest.mark.parametrize("key", [np.str_("key"), np.bytes_(b"key")])
def test_keys_of_subclasses_are_those_of_the_same_text(arena, key):
    store = arena.store("things")
    assert key not in store
    store[key] = 1
    assert key in store
    assert list(store) == [key]
    del store[key]
    assert len(store) == 0


def test_versions(arena):
    store = arena.store("things")
    before = store.version
    store["a"] = 1
    first = store.version("a")
    assert first > before
    assert store.replace("a", 2, if_version=before) is None
    second = store.replace("a", 2, if_version=first)
    assert second > first
    assert second == store.version("a") == store.version
    assert store.replace("new", 1, if_version=0)
    assert store.replace("new", 1, if_version=0) is None
    with pytest.raises(KeyError):
        store.replace("missing", 1)
    with pytest.raises(KeyError):
        store.version("missing")
    assert store.replace("a", 3) > second
    assert store["a"] == 3


def test_a_key_goes_when_its_time_has_come(arena):
    store = arena.store("things")
    store.put("a", b"x" * 5000, ttl=0.05)
    store["b"] = b"y"
    used = arena.used
    deadline = time.monotonic() + 30
    while "a" in store and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "a" not in store
    assert store.get("a") is None
    while (arena.used >= used or len(store) > 1) and time.monotonic() < deadline:
        arena.barrier()
        arena.shrink()
    assert len(store) == 1
    assert bytes(store["b"]) == b"y"


def test_a_limit_without_eviction(arena):
    store = arena.store("full", limit="1MiB")
    fill = {str(number): np.zeros(50_000, "u1") for number in range(100)}
    with pytest.raises(flagstone.GroupLimitExceeded):
        store.update(fill)
    assert 5 < len(store) < 25


def test_its_ends(arena):
    store = arena.store("things")
    store["a"] = b"abc"
    kept = store["a"]
    again = arena.store("things")
    assert again == store
    store.destroy()
    for call in (lambda: store["a"], lambda: again.put("a", 1), lambda: list(again)):
        with pytest.raises(flagstone.Closed):
            call()
    arena.barrier()
    assert bytes(kept) == b"abc"
    group = arena.group("job")
    store = arena.store("of a group", group=group)
    store["a"] = 1
    group.destroy()
    arena.barrier()
    with pytest.raises(flagstone.Closed):
        store["a"]
    assert arena.check() == []


def test_opening(arena):
    with pytest.raises(FileNotFoundError):
        arena.store("things", create=False)
    store = arena.store("things", create=True)
    with pytest.raises(FileExistsError):
        arena.store("things", create=True)
    for name in ("", "x" * 64):
        with pytest.raises(ValueError, match="name"):
            arena.store(name)
    with pytest.raises(ValueError, match="evict"):
        arena.store("other", evict="fifo")
    with pytest.raises(ValueError, match="lasting"):
        arena.store("other", lasting=True)
    store.leave()
    with pytest.raises(flagstone.Closed):
        store["a"]
    assert [info.name for info in arena.stores] == ["things"]


def test_one_that_is_there_is_what_was_asked_for(arena):
    """Who asks for nothing gets what there is; what has been left is nobody's."""
    group, other = arena.group("one"), arena.group("other")
    plain = arena.store("plain", group=group)
    full = arena.store("full", group=group, limit="1MiB", evict="lru")
    for store in (plain, full):
        assert arena.store(store.name) == store
        assert arena.store(store.name, group=group) == store
        assert arena.store(store.name, group=store.group) == store
        with pytest.raises(flagstone.StoreMismatch, match=r"'one', not of group 'other'"):
            arena.store(store.name, group=other)
        with pytest.raises(flagstone.StoreMismatch, match="not of the arena itself"):
            arena.store(store.name, group=arena.root_group)
    assert arena.store("full").evict == "lru"
    with pytest.raises(flagstone.StoreMismatch, match=r"store 'plain' of arena .* evicts nothing"):
        arena.store("plain", evict="lru")
    with pytest.raises(flagstone.GroupMismatch, match="limit"):
        arena.store("full", limit="2MiB")
    with pytest.raises(flagstone.StoreMismatch, match="no limit of its own"):
        arena.store("plain", limit="1MiB")
    with pytest.raises(FileNotFoundError):
        arena.store("none", limit="1MiB", create=False)
    with pytest.raises(FileExistsError):
        arena.store("plain", limit="1MiB", create=True)
    assert {one.name for one in arena.groups} == {"one", "other", "store full"}
    assert pickle.loads(pickle.dumps(full)) == full


def test_a_small_arena_has_room_for_few(arena_name):
    with flagstone.open(arena_name, capacity="1MiB") as arena:
        stores = [arena.store(f"s{number}") for number in range(512)]
        with pytest.raises(flagstone.ArenaFull, match="all 512 "):
            arena.store("one too many")
        stores.pop().destroy()
        arena.barrier()
        assert arena.store("again").name == "again"
        assert not arena.check()


# ---- between processes


def test_another_process_finds_it(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        store = arena.store("things")
        store["a"] = np.arange(5)

        def child():
            assert store["a"].tolist() == list(range(5))
            store["b"] = {"from": "child"}

        process = FORK.Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        assert store["b"] == {"from": "child"}
        spawned = multiprocessing.get_context("spawn").Process(target=_use, args=(store,))
        spawned.start()
        spawned.join()
        assert spawned.exitcode == 0
        assert store["c"] == 10


def _use(store):
    store["c"] = int(store["a"].sum())


@pytest.mark.keeps_arena
def test_tomorrow_finds_it(arena_name):
    def today():
        with flagstone.open(arena_name, capacity="64MiB", lasting=True) as arena:
            arena.store("things", lasting=True)["a"] = np.arange(5)

    process = FORK.Process(target=today)
    process.start()
    process.join()
    assert process.exitcode == 0
    with flagstone.open(arena_name) as arena:
        assert arena.store("things", create=False)["a"].tolist() == list(range(5))
        assert arena.check() == []
    flagstone.unlink(arena_name)


def test_readonly(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        arena.store("things")["a"] = np.arange(5)

        process = multiprocessing.get_context("spawn").Process(target=_readonly, args=(arena_name,))
        process.start()
        process.join()
        assert process.exitcode == 0


def _readonly(name):
    with flagstone.open(name, readonly=True) as other:
        store = other.store("things")
        assert store["a"].sum() == 10
        for change in (lambda: store.put("b", 1), lambda: store.pop("a"), store.destroy):
            with pytest.raises(flagstone.ReadOnly):
                change()


def test_nothing_torn_and_nothing_stale(arena):
    store = arena.store("things")
    stop = FORK.Event()
    store["key"] = np.zeros(500, "i8")

    def replace(me):
        number = 0
        while not stop.is_set():
            number += 1
            store["key"] = np.full(500, number * 2 + me, "i8")

    def read():
        last = [0, 0]
        reads = 0
        while not stop.is_set() or not reads:
            value = store["key"]
            first = int(value[0])
            assert (value == first).all()
            assert first >= last[first % 2]
            last[first % 2] = first
            reads += 1
        seen.put(reads)

    seen = arena.channel()
    processes = [FORK.Process(target=replace, args=(me,)) for me in range(2)]
    processes += [FORK.Process(target=read) for _ in range(8)]
    for process in processes:
        process.start()
    before = store.version
    while store.version < before + 2000:
        time.sleep(0.01)
    stop.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert all(seen.get() for _ in range(8))
    assert arena.check() == []
    arena.barrier()
    assert len(store) == 1


def test_writers_killed_while_others_read(arena):
    store = arena.store("things")
    store["key"] = np.zeros(300, "i8")

    def replace():
        number = 0
        while True:
            number += 1
            store["key"] = np.full(300, number, "i8")
            store[f"{number % 7}"] = number
            store.pop(f"{(number + 3) % 7}", None)

    for _ in range(10):
        process = FORK.Process(target=replace)
        process.start()
        before = store.version
        while store.version < before + 100:
            value = store["key"]
            assert (value == value[0]).all()
        kill(process)
        value = store["key"]
        assert (value == value[0]).all()
        store["key"] = np.zeros(300, "i8")
    del value
    arena.barrier()
    arena.barrier()
    assert arena.check() == []
    assert len(store) == len(list(store))
    store.clear()
    arena.barrier()
    arena.shrink()
    assert arena.used == 0


# ---- one makes it


def test_one_of_sixteen_makes_it(arena):
    store = arena.store("things")
    made = arena.channel()

    def make():
        made.put(b"")
        time.sleep(0.2)
        return np.full(1000, 5)

    def child():
        assert store.get_or_put("a", make).sum() == 5000

    processes = [FORK.Process(target=child) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert made.qsize() == 1


def test_who_makes_it_is_killed(arena):
    store = arena.store("things")
    begun = FORK.Semaphore(0)

    def make_for_ever():
        begun.release()
        time.sleep(1000)

    def make():
        return "made"

    first = FORK.Process(target=lambda: store.get_or_put("a", make_for_ever))
    first.start()
    begun.acquire()
    with pytest.raises(TimeoutError, match="'a'"):
        store.get_or_put("a", make, wait=0.05)
    assert "a" not in store

    def child():
        assert store.get_or_put("a", make) == "made"

    others = [FORK.Process(target=child) for _ in range(3)]
    for process in others:
        process.start()
    kill(first)
    for process in others:
        process.join()
        assert process.exitcode == 0
    assert store["a"] == "made"
    assert arena.check() == []


def test_makers_killed_one_after_the_other(arena):
    store = arena.store("things")
    numbers = arena.channel()
    numbers.put_many(range(1, 17))

    def make():
        number = numbers.get()
        if number < 6:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def child():
        store.get_or_put("a", make)

    processes = [FORK.Process(target=child) for _ in range(16)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sum(process.exitcode == -signal.SIGKILL for process in processes) == 5
    assert store["a"] == 6
    assert numbers.qsize() == 10


def test_making_fails(arena):
    store = arena.store("things")

    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.get_or_put("a", fail)
    assert store.get_or_put("a", lambda: 5) == 5
    assert store.get_or_put("a", fail) == 5


def test_making_that_asks_for_itself(arena):
    store = arena.store("things")
    again = arena.store("things")
    for wait in (None, 1e6):
        with pytest.raises(RuntimeError, match="wait for itself"):
            store.get_or_put("key", lambda: again.get_or_put("key", int), wait=wait)
    nested = store.get_or_put("key", lambda: [store.get_or_put("other", lambda: 7)])
    assert (nested, store["other"]) == ([7], 7)

    def fork():
        """A child makes nothing of what its parent is making, and may wait for it."""
        child = FORK.Process(target=waits_for_itself)
        child.start()
        child.join()
        return child.exitcode

    def waits_for_itself():
        with pytest.raises(TimeoutError, match="still making 'forked' of store 'things'"):
            store.get_or_put("forked", int, wait=0.01)

    assert store.get_or_put("forked", fork) == 0


def test_a_put_wins_over_who_makes_it(arena):
    store = arena.store("things")

    def make():
        store["a"] = "put"
        return "made"

    assert store.get_or_put("a", make) == "put"


# ---- waiting


def test_waiting_for_a_key_and_for_changes(arena):
    store = arena.store("things")
    assert store.wait("a", 0.01) is False
    assert store.changes(0.01) == 0

    def later():
        time.sleep(0.05)
        store["a"] = 1

    thread = threading.Thread(target=later)
    thread.start()
    assert store.wait("a", 30) is True
    thread.join()
    assert store.changes(30) == 1
    assert store.changes(0) == 0
    process = FORK.Process(target=store.put, args=("b", 2))
    process.start()
    assert store.wait("b")
    process.join()
    assert store.changes() == 1
    with pytest.raises(ValueError, match="timeout must be at least 0"):
        store.wait("c", -1)
    with pytest.raises(ValueError, match="wait must be at least 0"):
        store.get_or_put("c", list, wait=-1)


def test_it_pickles(arena):
    store = arena.store("things")
    store["a"] = 1
    again = pickle.loads(pickle.dumps(store))
    assert again == store
    assert again["a"] == 1
    assert "things" in repr(again)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_million_keys(arena_name):
    with flagstone.open(arena_name, capacity="1GiB") as arena:
        store = arena.store("many")
        value = b"12345678"
        for number in range(1_000_000):
            store[f"key {number}"] = value
        assert len(store) == 1_000_000
        for number in range(0, 1_000_000, 997):
            assert f"key {number}" in store
            assert f"key {number + 1_000_000}" not in store
        assert len(set(store)) == 1_000_000
        assert arena.check() == []
        store.destroy()
        arena.barrier()


def test_who_waits_for_changes_hears_that_it_ended(shm_folder):
    with flagstone.open(f"{shm_folder}/ending", capacity="16MiB") as arena:
        store = arena.store("s")
        with Worker() as worker:
            worker(open_things, arena.path)
            worker.send(wait_for_changes)
            store.destroy()
            with pytest.raises(flagstone.Closed, match="ended"):
                worker.result()
        for asks in (store.changes, lambda: store.changes(0), lambda: store.version, store.__len__):
            with pytest.raises(flagstone.Closed, match="ended"):
                asks()


def open_things(path):
    global things
    things = flagstone.open(path, create=False).store("s")


def wait_for_changes():
    return things.changes()


@pytest.mark.parametrize("version", [-1, 1.5, 2**64, "1"])
def test_what_is_no_version(shm_folder, version):
    with flagstone.open(f"{shm_folder}/versions", capacity="16MiB") as arena:
        store = arena.store("s")
        store["a"] = 1
        with pytest.raises((ValueError, TypeError)):
            store.replace("a", 2, if_version=version)
        assert store["a"] == 1
        with pytest.raises(ValueError, match="255"):
            store.wait("x" * 256, timeout=0)
