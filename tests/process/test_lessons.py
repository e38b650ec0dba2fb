"""What the kernel's slab caches learned after they stopped waiting for grace periods, as tests. The
numbers are those of docs/design/lessons.md, which also says which ones are tested elsewhere. In
parentheses: the kernel's commit, or where else it was learned.

Where something happens "again and again", it does so a fixed number of times here, and for longer
under the marker `soak`.
"""

import contextlib
import ctypes
import os
import pickle
import random

import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.lessons import (
    again_and_again,
    all_at_once,
    children,
    end_everything,
    forget,
    share_and_drop,
    working,
)
from tests.process.support import (
    MIB,
    PATIENCE,
    begin_reading,
    end_reading,
    kept,
    open_files,
    pattern,
)

SIZE = 512


@pytest.fixture
def arena(empty_in_the_end):
    return empty_in_the_end


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
        there is nothing to write to. (3b7b314053d0) Where it lands: test_group_lives.c,
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
        # The reaper's thread may open what it keeps while the first ones are taken.
        assert seen[3:] == seen[2:-1]
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
        end_everything(arena)

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
        len(open_files()),
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
        while True:
            with contextlib.suppress(flagstone.CacheBusy):  # by a reader that has just looked
                cache.destroy()
                break
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


class TestAtOnce:
    @again_and_again(150, 15_000)
    def test_08_destroyed_while_children_are_made(self, arena, four, rounds):
        """Given processes that make children of a cache (a group's first allocation) and end them
        (its close), when another one destroys the cache in between, then each is finished or
        refused, no child is born to what has ended, and who got an object keeps the cache.
        (92ee383f6daa)
        """
        destroyed = 0
        for worker in four:
            worker.send(make_and_end_children, rounds)
        for _ in working(four):
            destroyed += destroy_if_unused(arena)
        counts = [worker.result() for worker in four]
        assert sum(made for made, _ in counts) > 0
        assert sum(count for _, count in counts) + destroyed > 0
        with contextlib.suppress(flagstone.Closed):
            arena.cache("thing", size=SIZE, merge=False).destroy()

    @again_and_again(60, 6000)
    def test_09_ended_by_several_at_once(self, arena, four, rounds):
        """Given a group, when four processes close and destroy it and let go of it at once, then
        each of them finds it alive or gone, and whatever came first, a batch releases it: between
        "has it ended?" and "queue it" there is room for nobody. (the series of 2019) That a batch
        under way queues it again: test_ending.c; mutant NOT_AGAIN.
        """
        cache = arena.cache("thing", size=SIZE)
        for number in range(rounds):
            group = arena.group("job")
            message = pickle.dumps(cache.alloc(group))
            all_at_once(four, open_group, "job")
            ends = ["close", "destroy", "destroy" if number % 2 else "close", "nothing"]
            for worker, end in zip(four, ends, strict=True):
                worker.send(end_group, end)
            del group
            outcomes = [worker.result() for worker in four]
            assert outcomes[1] == "done" or "done" in outcomes[2]
            arena.barrier(PATIENCE)
            assert [one.parent for one in arena.snapshot().groups] == [None]
            assert arena.in_flight() == []
            assert arena.used == 0
            with pytest.raises(flagstone.StaleHandle):
                pickle.loads(message)
        cache.destroy()

    @again_and_again(60, 6000)
    def test_10_group_and_cache_at_once(self, arena, worker, other_worker, rounds):
        """Given a cache with objects in a group, when one process destroys the group and another
        one the cache at the same time, then the cache's release waits for what either of them
        began.
        (f0a3a24b532d)
        """
        for _ in range(rounds):
            cache = arena.cache("thing", size=SIZE)
            above = arena.group("above")
            group = arena.group("job", parent=above)
            for where in (group, above, None):
                share_and_drop(cache.alloc(where))
                cache.alloc_many(20, where)
            worker.send(destroy_groups, "above")
            other_worker.send(destroy_cache, "thing")
            assert worker.result() == other_worker.result() == "done"
            del above, group
            assert cache not in arena.caches
            arena.barrier(PATIENCE)
            assert children(arena) == (0, 0, 0)
            assert arena.used == 0

    @again_and_again(150, 15_000)
    def test_14_no_cycle_of_locks(self, arena, four, rounds):
        """Given writers of attributes, readers of everything, batches and destroyers in loops, one
        of these in the synchronous way with its lock over all, then all of them get to their end.
        (0495e337b703)
        """
        for worker, work in zip(four, (come_and_go, come_and_go_slowly, run_batches), strict=False):
            worker.send(work, rounds)
        four[3].send(write_often, rounds)
        for _ in working(four):
            write_attributes(arena)
            assert arena.check() == []
        assert [worker.result() for worker in four] == [rounds] * 4
        end_everything(arena)

    def test_24_whoever_releases_is_killed(self, arena, worker, other_worker):
        """Given a batch that has taken what ended and waits for a reader, when its process is
        killed, and so is the next one's, then whoever comes after begins again over everything, and
        nothing is lost or released twice. (a kernel's stack is not killed; shared memory's is)
        After each write to shared memory: test_kill.c, test_kill_twice.c, test_steps.c.
        """
        cache = arena.cache("thing", size=SIZE)
        keep = cache.alloc_many(50)
        groups = [arena.group(f"job-{number}") for number in range(20)]
        for group in groups:
            for block in cache.alloc_many(20, group):
                share_and_drop(block)
        del block
        for number, block in enumerate(keep):
            memoryview(block)[:] = pattern(number, SIZE)
            share_and_drop(block)
        del block
        with arena.read():
            for group in groups:
                group.destroy()
            for victim in (worker, other_worker):
                victim.send(run_batches, 1)
                wait_until(lambda pid=victim.pid: (arena.snapshot().batch or [0])[0] == pid)
                victim.kill()
            assert len(arena.snapshot().groups) > 1
        arena.barrier(PATIENCE)
        assert [one.parent for one in arena.snapshot().groups] == [None]
        assert cache.stats.allocated == 50
        for number, block in enumerate(keep):
            assert bytes(block) == pattern(number, SIZE)
        del keep, block, group, groups
        cache.destroy()


def make_and_end_children(rounds):
    arena = kept["arena"]
    made = destroyed = 0
    for number in range(rounds):
        group = arena.group(None if number % 2 else f"job-{os.getpid()}")
        cache = arena.cache("thing", size=SIZE, merge=False)
        try:
            block = cache.alloc(group)
        except flagstone.Closed:
            group.destroy()
            continue
        made += 1
        memoryview(block)[:] = pattern(number, SIZE)
        assert block.cache == cache
        assert cache in arena.caches
        with pytest.raises(flagstone.CacheBusy):
            cache.destroy()
        group.close()
        assert bytes(block) == pattern(number, SIZE)
        del block
        destroyed += destroy_if_unused(arena)
        group.destroy()
    return made, destroyed


def destroy_if_unused(arena):
    with contextlib.suppress(flagstone.CacheBusy, flagstone.Closed):
        arena.cache("thing", size=SIZE, merge=False).destroy()
        return True
    return False


def open_group(name):
    kept["group"] = kept["arena"].group(name)


def end_group(how):
    group = kept.pop("group")
    try:
        if how != "nothing":
            getattr(group, how)()
    except flagstone.Closed:
        return "late"
    return "done"


def destroy_groups(name):
    kept["arena"].group(name).destroy()
    return "done"


def destroy_cache(name):
    kept["arena"].cache(name, size=SIZE).destroy()
    return "done"


def come_and_go_slowly(rounds):
    """The same for names of its own, in the synchronous way."""
    arena = kept["arena"]
    arena._link.attachment.destroy_synchronously(True)
    try:
        for number in range(rounds // 10):
            cache = arena.cache("slow", size=SIZE, merge=False)
            group = arena.group("slow")
            cache.alloc_many(5, group)
            group.destroy()
            cache.destroy()
            assert arena.group("slow").usage == 0
    finally:
        arena._link.attachment.destroy_synchronously(False)
    return rounds
