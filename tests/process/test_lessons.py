"""What the kernel's slab caches learned after they stopped waiting for grace periods, as tests. The
numbers are those of docs/design/lessons.md, which also says which ones are tested elsewhere. In
parentheses: the kernel's commit, or where else it was learned.

Where something happens "again and again", it does so a fixed number of times here, and for longer
under the marker `soak`.
"""

import contextlib
import ctypes
import gc
import os
import pickle
import random

import pytest

import flagstone
from tests.conftest import _passed
from tests.process.support import PATIENCE, Worker, assert_all_given_back, kept, pattern

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SIZE = 512
MIB = 1 << 20


def again_and_again(short, long):
    """So many rounds, and more of them under `soak`."""
    marks = [pytest.mark.soak, pytest.mark.timeout(3000)]
    return pytest.mark.parametrize("rounds", [short, pytest.param(long, marks=marks)])


@contextlib.contextmanager
def crew(count):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Worker()) for _ in range(count)]


@pytest.fixture
def four():
    """Processes that have nothing of the arena yet."""
    with crew(4) as workers:
        yield workers


@pytest.fixture
def eight():
    with crew(8) as workers:
        yield workers


@pytest.fixture
def arena(arena_name, request):
    """An arena that everything has to be given back to: caches, groups, children, memory."""
    workers = []
    for name in ("worker", "other_worker", "four", "eight"):
        if name in request.fixturenames:
            given = request.getfixturevalue(name)
            workers += given if isinstance(given, list) else [given]
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        for worker in workers:
            worker(attach, arena_name)
        yield arena
        if request.node.stash.get(_passed, False):
            for worker in workers:
                if worker.lives():
                    worker(forget)
            assert_empty(arena)


def assert_empty(arena):
    assert_all_given_back(arena)
    shot = arena.snapshot()
    assert [one.name for one in shot.caches if "size_class" not in one.flags] == []
    assert [one.parent for one in shot.groups] == [None]
    live = sum(one.stats.children for one in shot.caches)
    assert children(arena) == (live, 0, 0)
    assert (shot.groups_waiting, shot.keepers) == (0, ())


def children(arena):
    """Children that live, that are deactivated, that have ended."""
    counts = arena.snapshot().children
    return counts.live, counts.deactivated, counts.queued + counts.releasing


def attach(name):
    kept["arena"] = flagstone.open(name, create=False)


def forget():
    arena = kept["arena"]
    kept.clear()
    gc.collect()
    kept["arena"] = arena


def begin_reading():
    kept["section"] = kept["arena"].read()
    kept["section"].__enter__()


def end_reading():
    kept.pop("section").__exit__(None, None, None)


def share_and_drop(block):
    """It has been seen by others: only a batch releases it."""
    return bytes(pickle.loads(pickle.dumps(block)))[:0]


def all_at_once(workers, function, *arguments):
    """The function in all of them; what they returned."""
    for worker in workers:
        worker.send(function, *arguments)
    return [worker.result() for worker in workers]


def working(workers):
    """Go on as long as one of them has not answered."""
    while not all(worker.answered() for worker in workers):
        yield


class TestOrder:
    @pytest.mark.parametrize("first", ["cache", "group"])
    def test_01_released_in_any_order(self, arena, worker, first):
        """Given slabs of a cache that wait for a reader, when the cache and its group are destroyed
        in either order and others take their places, then no slab's release meets a descriptor
        that is not its own any more. (v1 of the patch: two callbacks have no order; the mutant
        CHILD_BY_ITSELF is that version.)
        """
        cache = arena.cache("thing", size=4096, typesafe_by_rcu=True)
        group = arena.group("job")
        for where in (None, group):
            cache.alloc_many(50, where)
        assert group.usage > 0
        worker(begin_reading)
        ends = [cache.destroy, group.destroy]
        tickets = [end() for end in (ends if first == "cache" else reversed(ends))]
        cache = arena.cache("thing", size=4096)
        group = arena.group("job")
        blocks = cache.alloc_many(50, group) + cache.alloc_many(50)
        for number, block in enumerate(blocks):
            memoryview(block)[:] = pattern(number, 4096)
        usage, stats = group.usage, cache.stats
        assert not any(ticket.done for ticket in tickets)
        assert arena.check() == []
        worker(end_reading)
        for ticket in tickets:
            ticket.wait(PATIENCE)
        assert (group.usage, cache.stats) == (usage, stats)
        assert arena.used == sum(one.stats.bytes for one in arena.snapshot().caches)
        for number, block in enumerate(blocks):
            assert bytes(block) == pattern(number, 4096)
        del blocks, block
        group.destroy()
        cache.destroy()

    @pytest.mark.parametrize("typesafe", [False, True])
    def test_02_a_barrier_is_no_grace_period(self, arena, worker, typesafe):
        """Given a reader in a section with an object that it has just looked up and holds no
        reference to, and nothing that a batch could be waiting for, when the cache is destroyed,
        then the reader never faults, and sees what it saw. (rcubarrier.rst)
        """
        cache = arena.cache("thing", size=4096, typesafe_by_rcu=typesafe)
        block = cache.alloc()
        memoryview(block)[:] = pattern(1, 4096)
        arena.barrier(PATIENCE)
        worker(begin_reading)
        worker(look_up, block.handle)
        arena.drop_in_flight()
        del block
        ticket = cache.destroy()
        rival = arena.cache("rival", size=4096)
        blocks = rival.alloc_many(500)
        for block in blocks:
            memoryview(block)[:] = b"\xff" * 4096
        del blocks, block
        with pytest.raises(TimeoutError):
            ticket.wait(0.2)
        arena.shrink()
        assert worker(what_was_seen) == pattern(1, 4096)
        worker(end_reading)
        ticket.wait(PATIENCE)
        rival.destroy()

    def test_16_what_was_dropped_is_no_user(self, arena, worker):
        """Given thousands of references that were dropped, here and elsewhere, and that no batch
        has taken yet, when the cache is destroyed, then nobody has to flush them first: the cache
        is not busy, and its ticket waits for all of them. (6c6c47b063b5)
        """
        for _ in range(20):
            cache = arena.cache("thing", size=SIZE)
            worker(take_and_drop, [pickle.dumps(block) for block in cache.alloc_many(300)])
            for block in cache.alloc_many(300):
                share_and_drop(block)
            del block
            cache.destroy().wait(PATIENCE)
            assert arena.used == 0


def look_up(handle):
    block = kept["arena"].get(handle)
    kept["address"] = ctypes.addressof(ctypes.c_char.from_buffer(block))


def what_was_seen():
    return ctypes.string_at(kept["address"], 4096)


def take_and_drop(messages):
    for message in messages:
        pickle.loads(message)


class TestNames:
    @again_and_again(300, 30_000)
    def test_03_attributes_of_what_goes(self, arena, worker, other_worker, rounds):
        """Given one process that writes attributes of caches and groups (a limit, a shrink), when
        another one destroys them, then both go on, and each write either succeeds or says that
        there is nothing to write to. (3b7b314053d0) Where it lands: test_group.c,
        limit_of_a_group_that_goes.
        """
        worker.send(come_and_go, rounds)
        written = 0
        for _ in working([worker]):
            written += write_attributes(arena)
        assert worker.result() == rounds
        assert written > 0

    @again_and_again(10_000, 200_000)
    def test_04_slope_zero(self, arena, rounds):
        """Given groups whose objects are freed at once, and which are released later, when so many
        of them have come and gone, then memory, metadata, names, descriptors and references are
        what they were after the first ones. (August 2017: a reference too many for each)
        """
        cache = arena.cache("thing", size=SIZE)
        crowd = [arena.group() for _ in range(256)]
        for group in crowd:
            cache.alloc(group)
        for group in crowd:
            group.destroy()
        del crowd, group
        seen = []
        for number in range(rounds + 1):
            if number % (rounds // 10) == 0:
                arena.barrier(PATIENCE)
                seen.append(what_there_is(arena))
            group = arena.group(f"job-{number % 5}" if number % 2 else None)
            cache.alloc(group)
            if number % 3:
                group.close()
            if number % 3 != 1:
                group.destroy()
            del group
            if number % 100 == 0:
                arena.barrier(PATIENCE)
        assert seen[1:] == seen[:-1]
        cache.destroy()

    @pytest.mark.parametrize("typesafe", [False, True])
    def test_05_a_name_is_free_at_once(self, arena, worker, typesafe):
        """Given a cache and a group that were destroyed and whose release a reader holds up, when
        the names are used again at once, then both are there, start from nothing, and the end of
        the old ones touches nothing of the new. (d50d82faa0c9)
        """
        worker(begin_reading)
        handles, tickets, blocks = [], [], []
        for turn in range(5):
            cache = arena.cache("thing", size=SIZE + 8 * turn, typesafe_by_rcu=typesafe)
            group = arena.group("job", limit=(turn + 1) * MIB)
            assert (cache.stats.allocated, cache.stats.slabs, group.usage) == (0, 0, 0)
            assert (cache.size, group.limit) == (SIZE + 8 * turn, (turn + 1) * MIB)
            for handle in handles:
                with pytest.raises(flagstone.StaleHandle):
                    arena.get(handle)
            blocks = cache.alloc_many(20, group) + cache.alloc_many(20)
            handles = [block.handle for block in blocks]
            for block in blocks:
                share_and_drop(block)
            if turn < 4:
                del blocks, block
                tickets += [cache.destroy(), group.destroy()]
        for number, block in enumerate(blocks):
            memoryview(block)[:] = pattern(number, cache.size)
        stats, usage = cache.stats, group.usage
        assert not all(ticket.done for ticket in tickets)
        worker(end_reading)
        for ticket in tickets:
            ticket.wait(PATIENCE)
        assert (cache.stats, group.usage, group.limit) == (stats, usage, 5 * MIB)
        for number, block in enumerate(blocks):
            assert bytes(block) == pattern(number, cache.size)
        del blocks, block
        group.destroy()
        cache.destroy()

    @again_and_again(200, 20_000)
    def test_06_attributes_and_names_together(self, arena, four, rounds):
        """Given readers that hold up releases, and others that write attributes, when names are
        destroyed and used again with other parameters, then nothing waits for ever, and no name
        ever "exists". (reports of 5.2: the name went away under the registry's lock, or later)
        """
        reuse, *others = four
        reuse.send(reuse_names, rounds)
        for worker in others[:2]:
            worker.send(read_now_and_then, rounds)
        others[2].send(write_often, rounds)
        for _ in working(four):
            write_attributes(arena)
        assert [worker.result() for worker in four] == [rounds] * 4
        all_at_once(four, forget)

    @again_and_again(150, 15_000)
    def test_15_eight_remove_the_same(self, arena, eight, arena_name, rounds):
        """Given eight processes that create, use and remove caches, groups and arenas of the same
        few names, when they also meet what another one is just releasing, then everything is
        removed once. (4abc99652812)
        """
        counts = all_at_once(eight, create_and_remove, rounds, f"{arena_name}-also")
        assert all(sum(count.values()) > 0 for count in counts)
        assert sum(count["removed"] for count in counts) > 0
        for cache in arena.caches:
            cache.destroy()
        for group in arena.groups:
            group.destroy()

    @again_and_again(300, 10_000)
    def test_17_done_is_done(self, arena, worker, other_worker, rounds):
        """Given tickets of caches and groups, while others run batches, when `wait()` returns, then
        the descriptor is released, the name is free, and nothing of the library comes back to it:
        whoever has it next is not touched. (2eb14c1c2717)
        """
        worker.send(run_batches, rounds)
        other_worker.send(run_batches, rounds)
        for number in range(rounds):
            cache = arena.cache("thing", size=SIZE, init=b"begin")
            group = arena.group("job")
            blocks = cache.alloc_many(3, group)
            share_and_drop(blocks[0])
            assert [bytes(block)[:5] for block in blocks] == [b"begin"] * 3
            del blocks
            tickets = [cache.destroy(), group.destroy()]
            for ticket in tickets if number % 2 else reversed(tickets):
                assert ticket.wait(PATIENCE)
                assert ticket.done
            assert arena.used == 0
            shot = arena.snapshot()
            assert [one.name for one in shot.caches] == []
            assert [one.parent for one in shot.groups] == [None]
        assert worker.result() == other_worker.result() == rounds


def come_and_go(rounds):
    arena = kept["arena"]
    for number in range(rounds):
        cache = arena.cache(f"thing-{number % 2}", size=SIZE, merge=False)
        group = arena.group(f"job-{number % 3}")
        cache.alloc_many(5, group)
        cache.alloc_many(5)
        if number % 2:
            group.close()
        cache.destroy()
        group.destroy()
    return rounds


def write_attributes(arena):
    """How many could be written."""
    written = 0
    for cache in arena.caches:
        with contextlib.suppress(flagstone.Closed):
            cache.shrink()
            written += 1
    for group in arena.groups:
        with contextlib.suppress(flagstone.Closed):
            group.limit = 8 * MIB
            group.limit = None
            written += 1
    return written


def write_often(rounds):
    for _ in range(rounds):
        write_attributes(kept["arena"])
    return rounds


def what_there_is(arena):
    shot = arena.snapshot()
    return (
        shot.used,
        shot.control,
        [one.name for one in shot.caches],
        [one.name for one in shot.groups],
        shot.children.queued + shot.children.releasing + shot.children.deactivated,
        shot.in_flight,
        sum(one.references + one.dropped for one in shot.processes),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
    )


def reuse_names(rounds):
    """Only this process creates: a name of before that is still there has other parameters."""
    arena = kept["arena"]
    for number in range(rounds):
        cache = arena.cache("thing", size=SIZE + 8 * (number % 50), init=bytes([number % 256]))
        group = arena.group("job")
        blocks = cache.alloc_many(3, group)
        assert [bytes(block)[0] for block in blocks] == [number % 256] * 3
        share_and_drop(blocks[0])
        kept["last"] = blocks[1].handle
        del blocks
        cache.destroy()
        group.destroy()
    return rounds


def read_now_and_then(rounds):
    arena = kept["arena"]
    for _ in range(rounds):
        with arena.read():
            for group in arena.groups:
                with contextlib.suppress(flagstone.Closed):
                    group.usage
            for one in arena.in_flight():
                with contextlib.suppress(flagstone.StaleHandle, flagstone.Closed):
                    arena.get(one.object)
    return rounds


def create_and_remove(rounds, also):
    arena = kept["arena"]
    choose = random.Random(os.getpid())
    count = {"removed": 0, "late": 0, "busy": 0}
    for _ in range(rounds):
        number = choose.randrange(3)
        with contextlib.suppress(flagstone.Closed):
            cache = arena.cache(f"thing-{number}", size=SIZE, init=b"begin")
            group = arena.group(f"job-{choose.randrange(3)}")
            block = cache.alloc(group if number else None)
            assert bytes(block)[:5] == b"begin"
            if choose.random() < 0.5:
                with contextlib.suppress(flagstone.StaleHandle):  # its group has been destroyed
                    share_and_drop(block)
            del block
        for end in (cache.destroy, group.destroy):
            try:
                end()
                count["removed"] += 1
            except flagstone.Closed:
                count["late"] += 1
            except flagstone.CacheBusy:
                count["busy"] += 1
        with flagstone.open(f"{also}-{choose.randrange(2)}", capacity="1MiB") as other:
            assert bytes(other.put(b"x")) == b"x"
    return count


def run_batches(rounds):
    for _ in range(rounds):
        kept["arena"].barrier(PATIENCE)
    return rounds


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
        for cache in arena.caches:
            cache.destroy()
        for group in arena.groups:
            group.destroy()

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
