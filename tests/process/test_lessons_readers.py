"""Lessons (test_lessons.py) of who looks on while things end."""

import contextlib
import os
import pickle
import random

import pytest

import flagstone
from tests.process.lessons import (
    again_and_again,
    children,
    end_everything,
    working,
)
from tests.process.support import (
    PATIENCE,
    begin_reading,
    end_reading,
    kept,
    pattern,
)

SIZE = 512


@pytest.fixture
def arena(empty_in_the_end):
    return empty_in_the_end


class TestReaders:
    @again_and_again(60, 6000)
    def test_07_every_statistic_under_churn(self, arena, worker, other_worker, rounds):
        """Given caches, aliases and groups that come and go in two processes, when a third one
        reads every statistic there is in a loop, then it may see old numbers, and never hangs or
        fails.
        (e4f8e513c3d3)
        """
        looks = 0
        for one in (worker, other_worker):
            one.send(churn, rounds)
        for _ in working([worker, other_worker]):
            look_at_everything(arena)
            looks += 1
        assert worker.result() == other_worker.result() == rounds
        assert looks > 0
        end_everything(arena)

    def test_12_every_reader_sees_every_kind(self, arena, worker):
        """Given one of each kind - a cache with and without objects, in the root group, in a group,
        in a closed and in a destroyed one that is kept, merged ones whose first name is gone, one
        that has ended and waits for a reader -, when all readers run, then none of them walks a
        list that only some of these are on. (fcf88917dd43)
        """
        plain = arena.cache("plain", size=SIZE)
        first, alias, last = (arena.cache(name, size=2 * SIZE) for name in ("first", "alias", "c"))
        empty = arena.cache("empty", size=3 * SIZE)
        ended = arena.cache("ended", size=4 * SIZE, typesafe_by_rcu=True)
        live, nested = arena.group("live"), arena.group("nested", parent=arena.group("live"))
        closed, destroyed, unnamed = arena.group("closed"), arena.group("destroyed"), arena.group()
        groups = [None, live, nested, closed, destroyed, unnamed]
        blocks = [cache.alloc(group) for cache in (plain, first) for group in groups]
        sent = pickle.dumps(plain.alloc(live))
        sized = arena.alloc(100, group=nested)
        ended.alloc_many(3, live)
        first.destroy()
        closed.close()
        gone = destroyed.destroy()
        worker(begin_reading)
        ending = ended.destroy()

        assert [cache.name for cache in arena.caches] == ["plain", "alias", "c", "empty"]
        assert {group.name for group in arena.groups} == {"live", "nested", "closed", None}
        shot = arena.snapshot()
        stats = {one.name: one.stats for one in shot.caches}
        states = {one.name: one.state for one in shot.caches if "size_class" not in one.flags}
        assert states == {
            "plain": "live",
            "alias": "live",
            "c": "alias",
            "empty": "live",
            "ended": "ended",
        }
        assert (stats["plain"].allocated, stats["plain"].children) == (7, 6)
        assert stats["alias"] == stats["c"] == last.stats
        assert (stats["alias"].allocated, stats["alias"].children) == (6, 6)
        assert (stats["empty"].children, stats["empty"].bytes, empty.stats.slabs) == (0, 0, 0)
        assert stats["ended"].bytes > 0
        assert sum(one.stats.bytes for one in shot.caches if one.state != "alias") == arena.used
        assert {one.name: one.state for one in shot.groups if one.parent} == {
            "live": "live",
            "nested": "live",
            "closed": "closed",
            "destroyed": "destroyed",
            "": "live",
        }
        assert children(arena)[1] == 2
        assert children(arena)[2] >= 2
        assert {one.group for one in shot.keepers} == {"closed", "destroyed"}
        assert [one.group for one in shot.in_flight] == ["live"]
        assert sorted(cache.name for cache in live.caches) == ["alias", "ended", "plain"]
        assert len(nested.caches) == 3
        assert {block.cache.name for block in blocks} == {"plain", "alias"}
        lines = [line.split()[0] for line in arena.slabinfo().splitlines()[2:]]
        assert {"plain", "alias", "empty", "ended"} <= set(lines)
        assert "c" not in lines
        look_at_everything(arena)

        worker(end_reading)
        ending.wait(PATIENCE)
        del blocks, sized, sent
        arena.drop_in_flight()
        gone.wait(PATIENCE)
        for group in (nested, live, closed, unnamed):
            group.destroy()
        for cache in (plain, alias, last, empty):
            cache.destroy()


def churn(rounds):
    """Everything that can come and go, in any order."""
    arena = kept["arena"]
    choose = random.Random(os.getpid())
    blocks = []
    for number in range(rounds):
        with contextlib.suppress(flagstone.Closed, flagstone.CacheBusy):
            names = [f"thing-{choose.randrange(4)}" for _ in range(3)]
            caches = [arena.cache(name, size=SIZE) for name in names]
            groups = [arena.group(f"job-{choose.randrange(4)}"), arena.group()]
            groups.append(arena.group(f"below-{choose.randrange(2)}", parent=groups[0]))
            for cache in caches:
                blocks.append(cache.alloc(choose.choice([None, *groups])))
                pickle.dumps(blocks[-1])
            blocks.append(arena.put(pattern(number, 1000), group=choose.choice(groups)))
            choose.choice(groups).close()
            choose.choice(groups).destroy()
            choose.choice(caches).destroy()
        choose.shuffle(blocks)
        del blocks[5:]
        if number % 5 == 0:
            arena.drop_in_flight()
            blocks.clear()
            for name in names:
                with contextlib.suppress(flagstone.Closed, flagstone.CacheBusy):
                    arena.cache(name, size=SIZE).destroy()
    blocks.clear()
    arena.drop_in_flight()
    return rounds


CACHE = ["stats", "merged_into", "aliases", "name", "size", "shape", "dtype", "align", "flags"]
GROUP = ["usage", "peak", "events", "limit", "name", "parent", "children", "caches", "cgroup"]


def look_at_everything(arena):
    """What looks at the whole arena never fails; of one thing, only that it is gone itself."""
    shot = arena.snapshot()
    assert shot.capacity == arena.capacity
    assert arena.slabinfo().startswith("slabinfo - version: 2.1")
    assert arena.check() == []
    assert arena.processes
    assert arena.used <= arena.capacity
    arena.committed
    repr(arena)
    for one in arena.in_flight():
        with contextlib.suppress(flagstone.StaleHandle, flagstone.Closed):
            block = arena.get(one.object)
            assert block.holders
            assert block.cache.name
            repr(block.group)
            del block
    for one in arena.caches:
        repr(one)
        for attribute in CACHE:
            try:
                getattr(one, attribute)
            except flagstone.Closed:
                assert one not in arena.caches
    for one in arena.groups:
        repr(one)
        assert one.state in {"live", "closed", "destroyed"}
        for attribute in GROUP:
            try:
                getattr(one, attribute)
            except flagstone.Closed:
                assert one not in arena.groups
    root = arena.root_group
    for attribute in GROUP:
        getattr(root, attribute)
