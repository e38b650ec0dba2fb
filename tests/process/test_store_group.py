"""Stores of groups that nobody has open any more: they end, and what they hold with them."""

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import kept


def fill_stores(arena_name, limit):
    """In a `Worker` that is killed: a job with its results."""
    arena = kept["arena"] = flagstone.open(arena_name, create=False)
    group = kept["group"] = arena.group("job")
    store = arena.store("results", group=group, limit=limit)
    store["a"] = np.ones(100_000)


@pytest.mark.parametrize("limit", [None, "8MiB"])
def test_ends_with_a_group_that_nobody_has_open(arena, worker, limit):
    """What a job kept goes with it, and who begins it again finds its names free."""
    used = arena.used
    worker(fill_stores, arena.name, limit)
    assert [info.name for info in arena.stores] == ["results"]
    worker.kill()
    arena.barrier()
    assert (arena.stores, arena.groups, arena.used) == ([], [], used)
    with arena.group("job") as group:
        store = arena.store("results", group=group, limit=limit)
        assert dict(store) == {}
        store["a"] = b"new"
    assert arena.check() == []


@pytest.mark.parametrize("limit", [None, "8MiB"])
def test_who_has_the_store_open_has_its_group_open(arena, worker, limit):
    worker(fill_stores, arena.name, limit)
    store = arena.store("results", create=False)
    worker.kill()
    wait_until(lambda: len(arena.processes) == 1)
    arena.barrier()
    assert store["a"].sum() == 100_000
    store["b"] = b"more"
    assert len(store) == 2
    store.leave()
    wait_until(lambda: not arena.stores and not arena.groups)
    arena.barrier()
    assert arena.check() == []


def test_a_closed_group_keeps_its_store_while_it_is_open(arena):
    group = arena.group("job")
    store = arena.store("results", group=group)
    store["a"] = b"abc"
    group.close()
    arena.barrier()
    assert bytes(store["a"]) == b"abc"
    with pytest.raises(flagstone.Closed):
        store["b"] = b"more"
    store.leave()
    del group
    wait_until(lambda: not arena.stores)
