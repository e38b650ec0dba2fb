"""Stores that make room by themselves: what goes, and what does not."""

import numpy as np
import pytest

import flagstone
from tests.process.support import Worker, kept


@pytest.fixture
def arena():
    with flagstone.open(None, capacity="64MiB") as arena:
        yield arena


def test_a_limit_with_eviction(arena):
    store = arena.store("cache", limit="1MiB", evict="lru")
    for number in range(100):
        store["kept"] if number else store.put("kept", np.zeros(1000, "u1"))
        store[str(number)] = np.full(50_000, number, "u1")
    assert "kept" in store
    assert 5 < len(store) < 25
    assert store.group.usage <= 1 << 20
    assert (store["99"] == 99).all()
    with pytest.raises(flagstone.GroupLimitExceeded):
        store["large"] = np.zeros(2 << 20, "u1")
    store.destroy()
    assert arena.stores == []


def test_room_is_made_for_many_at_a_time(arena):
    """A batch, and a look at who has what, for each of them would take a hundred times as long."""
    store = arena.store("cache", limit="1MiB", evict="lru")
    value = np.zeros(1000, "u1")
    for number in range(1000):
        store[str(number)] = value
    evicted, batches = 0, arena.snapshot().batches
    for number in range(1000, 5000):
        before = len(store)
        store[str(number)] = value
        evicted += before + 1 - len(store)
    assert evicted > 3500
    assert arena.snapshot().batches - batches < 2000
    assert store.group.usage <= 1 << 20


def test_a_reader_in_the_way_costs_no_keys(arena):
    store = arena.store("cache", limit="1MiB", evict="lru")
    for number in range(1000):
        store[str(number)] = np.zeros(1000, "u1")
    keys = len(store)
    more = {f"more {number}": np.zeros(1000, "u1") for number in range(1000)}
    with arena.read(), pytest.raises(flagstone.GroupLimitExceeded, match="inside read"):
        store.update(more)
    assert len(store) >= keys
    store["more"] = np.zeros(1000, "u1")


def begin_reading(path):
    kept["section"] = flagstone.open(path, create=False).read()
    kept["section"].__enter__()


def end_reading():
    kept.pop("section").__exit__(None, None, None)


def test_another_reader_in_the_way_costs_a_few(arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena, Worker() as worker:
        store = arena.store("cache", limit="1MiB", evict="lru")
        value = np.zeros(1000, "u1")
        for number in range(1000):
            store[str(number)] = value
        worker(begin_reading, arena_name)
        more = {f"more {number}": value for number in range(1000)}
        with pytest.raises(flagstone.GroupLimitExceeded, match="behind the read-side section"):
            store.update(more)
        assert len(store) > 900
        worker(end_reading)
        store.update(more)
        assert "more 999" in store


@pytest.mark.parametrize("full", ["limit", "parent", "capacity"])
def test_what_never_fits_evicts_nothing(shm_folder, full):
    with flagstone.open(f"{shm_folder}/evicting", capacity="16MiB") as arena:
        parent = arena.group("parent", limit="2MiB" if full == "parent" else None)
        limit = "1MiB" if full == "limit" else "64MiB"
        store = arena.store("s", limit=limit, evict="lru", group=parent)
        for i in range(8):
            store[str(i)] = bytes(1000)
        most = {"limit": 2**20, "parent": 2**21, "capacity": 2**24}[full]
        large = np.zeros(most + 1, "u1")
        with pytest.raises((flagstone.GroupLimitExceeded, flagstone.ArenaFull)):
            store["large"] = large
        assert len(store) == 8
        store["fits"] = large[: 2**19]
        assert "fits" in store


def test_what_others_have_of_the_group_is_not_evicted(shm_folder):
    with flagstone.open(f"{shm_folder}/shared", capacity="16MiB") as arena:
        group = arena.group("g", limit="1MiB")
        store = arena.store("s", evict="lru", group=group)
        other = arena.alloc(600_000, group=group)
        for i in range(8):
            store[str(i)] = bytes(1000)
        with pytest.raises(flagstone.GroupLimitExceeded):
            store["large"] = np.zeros(600_000, "u1")
        assert len(store) == 8
        del other
        store["large"] = np.zeros(600_000, "u1")
        assert "large" in store
