"""No room: the file system, the capacity, a group's limit. Always an exception that says who has
it, never a SIGBUS, and everything works again when there is room.
"""

import contextlib
import functools
import math
import os
import pickle
import random
import sys
import threading

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import (
    MIB,
    PATIENCE,
    Hog,
    Line,
    Worker,
    assert_all_given_back,
    attach,
    fill_with,
    forget,
    forked,
    keep,
    kept,
    pattern,
)


def check(blocks):
    for number, block in enumerate(blocks):
        assert bytes(block) == pattern(number, block.nbytes)


@pytest.mark.root
class TestFileSystem:
    def test_filled_by_the_arena(self, small_tmpfs):
        with flagstone.open(small_tmpfs / "arena") as arena:
            cache = arena.cache("thing", size=10_000)
            for _ in range(3):
                blocks, why = fill_with(cache.alloc)
                assert 50 * MIB < len(blocks) * 10_000 <= 64 * MIB
                assert str(os.getpid()) in why
                check(blocks)
                # What there is goes on working.
                with pytest.raises(flagstone.ArenaFull):
                    arena.alloc(MIB)
                messages = [pickle.dumps(block) for block in blocks[:10]]
                again = [pickle.loads(message) for message in messages]
                check(again)
                assert cache.stats.allocated == len(blocks)
                assert arena.check() == []
                last = blocks.pop()
                del last
                cache.alloc()
                del blocks, again
                arena.barrier(PATIENCE)
                assert arena.used == 0
            assert arena.shrink() > 50 * MIB
            assert arena.committed < 4 * MIB
            assert_all_given_back(arena)

    @pytest.mark.parametrize("nbytes", [0, 8, 100, 4096, 5000, 70_000, MIB, 10 * MIB, 40 * MIB])
    def test_objects_of_any_size(self, small_tmpfs, nbytes):
        with flagstone.open(small_tmpfs / "arena") as arena, Hog(small_tmpfs) as hog:
            hog.grow(56 * MIB if nbytes < 5000 else 10 * MIB)
            blocks, why = fill_with(lambda: arena.alloc(nbytes))
            assert blocks or nbytes > 50 * MIB
            assert str(os.getpid()) in why
            assert "file system" in why or "tmpfs" in why
            check(blocks)
            count = len(blocks)
            del blocks
            arena.barrier(PATIENCE)
            blocks, _ = fill_with(lambda: arena.alloc(nbytes))
            assert len(blocks) == pytest.approx(count, rel=0.1)
            del blocks
            assert_all_given_back(arena)

    def test_filled_by_others_at_any_moment(self, small_tmpfs):
        """A foreign file takes all the room again and again, between any two steps."""
        choose = random.Random(20)
        with flagstone.open(small_tmpfs / "arena") as arena, Hog(small_tmpfs) as hog:
            caches = [arena.cache(f"size-{n}", size=n) for n in (64, 3000, 100_000, 5 * MIB)]
            blocks = {}
            full = 0
            for number in range(600):
                if number % 7 == 0:
                    hog.grow()
                if number % 7 == 4:
                    hog.shrink(choose.randrange(20 * MIB))
                try:
                    match choose.randrange(9):
                        case 0 | 1 | 2 | 3:
                            block = choose.choice(caches).alloc()
                        case 4:
                            block = arena.alloc(choose.randrange(2 * MIB))
                        case 5:
                            block = pickle.loads(pickle.dumps(choose.choice(list(blocks.values()))))
                            continue
                        case 6:
                            with arena.group() as group:
                                choose.choice(caches).alloc(group)
                            continue
                        case 7:
                            arena.cache(f"new-{number}", size=choose.randrange(1, 10_000))
                            continue
                        case 8:
                            with forked(lambda: caches[0].alloc()):
                                pass
                            continue
                    memoryview(block).cast("B")[:] = pattern(number, block.nbytes)
                    blocks[number] = block
                except (flagstone.ArenaFull, IndexError, AssertionError):
                    full += 1
                    hog.shrink(256 * 1024)
                finally:
                    block = None
                while len(blocks) > 30 or (blocks and choose.random() < 0.2):
                    key = choose.choice(list(blocks))
                    gone = blocks.pop(key)
                    assert bytes(gone) == pattern(key, gone.nbytes)
                    del gone
            assert full > 20
            hog.shrink()
            for key, block in blocks.items():
                assert bytes(block) == pattern(key, block.nbytes)
            del block
            blocks.clear()
            arena.drop_in_flight()
            large, _ = fill_with(lambda: arena.alloc(MIB))
            assert len(large) > 50
            check(large)
            del large
            assert_all_given_back(arena)

    def test_no_room_for_an_arena(self, small_tmpfs):
        with Hog(small_tmpfs) as hog:
            hog.grow()
            for _ in range(3):
                with pytest.raises(flagstone.ArenaFull):
                    flagstone.open(small_tmpfs / "arena")
                assert os.listdir(small_tmpfs) == ["foreign"], "no half of an arena is left"
            # With a little more room each time, until it is enough.
            for pages in range(200):
                hog.shrink(4096)
                try:
                    arena = flagstone.open(small_tmpfs / "arena")
                except flagstone.ArenaFull:
                    continue
                with arena:
                    blocks, why = fill_with(functools.partial(arena.alloc, 100))
                    assert str(os.getpid()) in why
                    check(blocks)
                    hog.shrink()
                    more = [arena.alloc(MIB) for _ in range(40)]
                    del blocks, more
                    assert_all_given_back(arena)
                break
            else:
                pytest.fail(f"{pages} pages are not enough")

    def test_attaching_when_it_is_full(self, small_tmpfs):
        with Worker() as worker, flagstone.open(small_tmpfs / "arena") as arena:
            blocks, _ = fill_with(lambda: arena.alloc(100_000))
            with Hog(small_tmpfs) as hog:
                hog.grow()
                # It may succeed or not; either way nothing is harmed.
                with contextlib.suppress(flagstone.ArenaFull):
                    worker(attach, str(small_tmpfs / "arena"))
                    assert worker(resolve, blocks[7].handle) == pattern(7, 100_000)
                    with pytest.raises(flagstone.ArenaFull):
                        worker(alloc, 10 * MIB)
                check(blocks)
            worker(attach, str(small_tmpfs / "arena"))
            assert worker(resolve, blocks[7].handle) == pattern(7, 100_000)
            blocks.clear()
            assert worker(alloc, 10 * MIB) == 10 * MIB
            worker(forget)
            assert_all_given_back(arena)

    def test_another_arena_has_it_all(self, small_tmpfs):
        with (
            flagstone.open(small_tmpfs / "first") as first,
            flagstone.open(small_tmpfs / "second") as second,
        ):
            mine = second.alloc(100)
            blocks, _ = fill_with(lambda: first.alloc(MIB))
            with pytest.raises(flagstone.ArenaFull):
                second.alloc(10 * MIB)
            del blocks
            first.barrier(PATIENCE)
            first.shrink()
            assert second.alloc(50 * MIB).nbytes == 50 * MIB
            del mine
            for arena in (first, second):
                assert_all_given_back(arena)

    def test_waiting_until_others_make_room(self, small_tmpfs):
        with flagstone.open(small_tmpfs / "arena") as arena, Hog(small_tmpfs) as hog:
            arena.alloc(100)
            hog.grow()
            began = threading.Event()

            def make_room():
                began.wait(PATIENCE)
                hog.shrink()

            thread = threading.Thread(target=make_room)
            thread.start()
            began.set()
            assert arena.alloc(20 * MIB, wait=PATIENCE).nbytes == 20 * MIB
            thread.join()
            assert_all_given_back(arena)


def resolve(handle):
    return bytes(kept["arena"].get(handle))


def alloc(nbytes, wait=None):
    block = kept["arena"].alloc(nbytes, wait=wait)
    kept["blocks"].append(block)
    return block.nbytes


def drop_one():
    kept["blocks"].pop(0)


@pytest.fixture
def arena(worker, arena_name):
    with flagstone.open(arena_name, capacity="32MiB") as arena:
        yield arena


class TestCapacity:
    def test_is_exact(self, arena):
        for nbytes in (100, 4096, 10_000, MIB):
            for _ in range(2):
                blocks, why = fill_with(lambda n=nbytes: arena.alloc(n))
                assert 28 * MIB <= arena.used <= 32 * MIB
                assert "capacity" in why
                assert str(os.getpid()) in why
                check(blocks)
                del blocks
                arena.barrier(PATIENCE)
                assert arena.used == 0
        with pytest.raises(flagstone.ArenaFull):
            arena.alloc(32 * MIB + 1)
        assert arena.alloc(32 * MIB).nbytes == 32 * MIB
        assert_all_given_back(arena)

    def test_the_last_object_of_the_last_slab(self, arena):
        """Full means that no slab, anyone's, has a free object."""
        cache = arena.cache("thing", size=100)
        blocks, _ = fill_with(cache.alloc)
        assert cache.stats.allocated == len(blocks) == cache.stats.objects
        for _ in range(100):
            index = random.randrange(len(blocks))
            blocks[index] = None
            blocks[index] = cache.alloc()
            memoryview(blocks[index])[:] = pattern(index, 100)
        # Also one that another process or thread has just let go of.
        pool = [threading.Thread(target=drop_some, args=(blocks, n, cache)) for n in range(4)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        check(blocks)
        del blocks
        assert_all_given_back(arena)

    def test_who_has_it(self, arena, worker):
        """By process, in flight, and awaiting a batch."""
        worker(attach, arena.name)
        for _ in range(3):
            worker(alloc, 4 * MIB)
        block = arena.alloc(4 * MIB)
        message = pickle.dumps(arena.alloc(4 * MIB))
        with pytest.raises(flagstone.ArenaFull, match="flight") as caught:
            arena.alloc(20 * MIB)
        text = str(caught.value)
        assert str(os.getpid()) in text
        assert str(worker.pid) in text
        assert "12 MiB in 3 objects" in text
        with pytest.raises(MemoryError):
            worker(alloc, 20 * MIB)
        worker.kill()
        arena.drop_in_flight()
        assert arena.alloc(12 * MIB).nbytes == 12 * MIB
        del block, message, caught
        assert_all_given_back(arena)

    def test_wait_is_served_by_a_consumer(self, arena, worker):
        worker(attach, arena.name)
        for _ in range(8):
            worker(keep, arena.alloc(4 * MIB))
        with pytest.raises(flagstone.ArenaFull, match=str(worker.pid)):
            arena.alloc(4 * MIB)
        with pytest.raises(flagstone.ArenaFull, match=str(worker.pid)):
            arena.alloc(4 * MIB, wait=0.05)
        for _ in range(20):
            worker.send(drop_one)
            block = arena.alloc(4 * MIB, wait=PATIENCE)
            worker.result()
            worker(keep, block)
            del block
        worker(forget)
        assert_all_given_back(arena)

    def test_a_pipeline_that_always_waits(self, arena, worker):
        """A slow consumer, a fast producer, and room for five."""
        mine, theirs = os.pipe()
        cache = arena.cache("frame", shape=(1000, 1000), dtype="<u4")

        def consumer():
            os.close(theirs)
            with os.fdopen(mine, "rb") as pipe:
                for number in range(100):
                    block = pickle.load(pipe)
                    assert (block.array == number).all()

        with forked(consumer):
            os.close(mine)
            with os.fdopen(theirs, "wb") as pipe:
                for number in range(100):
                    block = cache.alloc(wait=PATIENCE)
                    block.array[:] = number
                    pickle.dump(block, pipe)
                    pipe.flush()
                    del block
        assert_all_given_back(arena)

    def test_wait_for_ever_is_served_by_a_death(self, arena, worker):
        worker(attach, arena.name)
        worker(alloc, 30 * MIB)
        timer = threading.Timer(0.05, worker.kill)
        timer.start()
        assert arena.alloc(30 * MIB, wait=math.inf).nbytes == 30 * MIB
        timer.join()
        assert_all_given_back(arena)

    def test_inside_a_section_it_fails_at_once_and_says_so(self, arena):
        cache = arena.cache("thing", size=MIB)
        messages = [pickle.dumps(cache.alloc()) for _ in range(20)]
        arena.drop_in_flight()
        with arena.read():
            with pytest.raises(flagstone.ArenaFull, match=r"read\(\)"):
                arena.alloc(30 * MIB, wait=math.inf)
        assert arena.alloc(30 * MIB).nbytes == 30 * MIB
        assert len(messages) == 20
        assert_all_given_back(arena)

    def test_all_or_none_of_many(self, arena):
        cache = arena.cache("thing", size=MIB)
        with pytest.raises(flagstone.ArenaFull):
            cache.alloc_many(33)
        assert cache.stats.allocated == 0
        blocks = cache.alloc_many(20)
        with pytest.raises(flagstone.ArenaFull):
            cache.alloc_many(20)
        assert cache.stats.allocated == 20
        del blocks
        assert_all_given_back(arena)

    def test_many_processes_at_the_brim(self, arena_name):
        """Everybody allocates what is left; nobody gets what another one has."""

        def child(number):
            go.hear()
            blocks, _ = fill_with(lambda: arena.alloc(20_000 + 100 * number))
            check(blocks)
            for _ in range(200):
                with contextlib.suppress(flagstone.ArenaFull):
                    block = arena.put(np.full(30_000, number, "u1"))
                    assert (block.array == number).all()
                    block = None
                if blocks and random.random() < 0.5:
                    blocks.pop()
            check(blocks)

        with flagstone.open(arena_name, capacity="8MiB") as arena, Line() as go:
            with contextlib.ExitStack() as stack:
                for number in range(4):
                    stack.enter_context(forked(lambda n=number: child(n)))
                for number in range(4):
                    go.say()
            assert_all_given_back(arena)


def drop_some(blocks, first, cache):
    # Without a GIL, what the main thread made is let go of by a collection, and then a rival may be
    # the first to have it.
    wait = PATIENCE if "t" in sys.abiflags else None
    for index in range(first, min(len(blocks), 20_000), 400):
        blocks[index] = None
        block = cache.alloc(wait=wait)
        memoryview(block)[:] = pattern(index, 100)
        blocks[index] = block


class TestLimits:
    def test_attributes(self, arena):
        with arena.group("tenant", limit="1MiB") as group:
            cache = arena.cache("thing", size=10_000)
            blocks, why = fill_with(lambda: cache.alloc(group))
            with pytest.raises(flagstone.GroupLimitExceeded) as caught:
                cache.alloc(group)
            error = caught.value
            assert (error.group, error.limit) == ("tenant", MIB)
            assert MIB - 64 * 1024 < error.usage <= MIB
            assert error.usage == group.usage
            assert isinstance(error, MemoryError)
            assert isinstance(error, flagstone.FlagstoneError)
            assert "tenant" in why
            assert str(os.getpid()) in why
            again = pickle.loads(pickle.dumps(error))
            assert (again.group, again.limit, str(again)) == ("tenant", MIB, str(error))
            assert group.events.limit_hits >= 2
            assert group.events.failed >= 2
            check(blocks)
            # Others are not concerned.
            assert cache.alloc().nbytes == 10_000
            del blocks
            assert cache.alloc(group).nbytes == 10_000
        del caught, error, again
        assert_all_given_back(arena)

    def test_of_an_ancestor(self, arena):
        with arena.group("company", limit="1MiB") as company:
            first = arena.group("first", parent=company, limit="4MiB")
            second = arena.group("second", parent=company)
            with pytest.raises(flagstone.GroupLimitExceeded) as caught:
                [arena.alloc(100_000, group=first) for _ in range(20)]
            assert (caught.value.group, caught.value.limit) == ("company", MIB)
            del caught
            blocks, _ = fill_with(functools.partial(arena.alloc, 100_000, group=second))
            with pytest.raises(flagstone.GroupLimitExceeded) as caught:
                arena.alloc(100_000, group=first)
            assert caught.value.group == "company"
            assert company.usage == second.usage + first.usage <= MIB
            assert company.peak <= MIB
            del blocks, caught
            arena.alloc(500_000, group=first)
        del first, second
        assert_all_given_back(arena)

    def test_set_while_in_use(self, arena):
        with arena.group("tenant") as group:
            blocks = [arena.alloc(100_000, group=group) for _ in range(20)]
            group.limit = MIB
            with pytest.raises(flagstone.GroupLimitExceeded) as caught:
                arena.alloc(100_000, group=group)
            assert caught.value.usage > MIB
            del blocks[4:], caught
            blocks.append(arena.alloc(100_000, group=group))
            group.limit = None
            blocks += [arena.alloc(100_000, group=group) for _ in range(20)]
            blocks.clear()
        assert_all_given_back(arena)

    def test_zero(self, arena):
        with arena.group("nothing", limit=0) as group:
            with pytest.raises(flagstone.GroupLimitExceeded) as caught:
                arena.alloc(1, group=group)
            assert (caught.value.limit, caught.value.usage, group.usage) == (0, 0, 0)
        del caught
        assert_all_given_back(arena)

    def test_waiting_inside_a_limit(self, arena, worker):
        worker(attach, arena.name)
        with arena.group("tenant", limit="8MiB") as group:
            for _ in range(2):
                worker(keep, arena.alloc(4 * MIB - 4096, group=group))
            with pytest.raises(flagstone.GroupLimitExceeded, match=str(worker.pid)):
                arena.alloc(4 * MIB - 4096, group=group, wait=0.05)
            for _ in range(20):
                worker.send(drop_one)
                block = arena.alloc(4 * MIB - 4096, group=group, wait=PATIENCE)
                worker.result()
                worker(keep, block)
                assert group.usage <= 8 * MIB
                del block
            worker(forget)
            assert group.peak <= 8 * MIB
        assert_all_given_back(arena)

    def test_the_group_ends_while_somebody_waits(self, arena, worker):
        worker(attach, arena.name)
        group = arena.group("tenant", limit="1MiB")
        block = arena.alloc(900_000, group=group)
        worker.send(alloc_in, group, 900_000)
        wait_until(lambda: group.events.limit_hits > 0, PATIENCE)
        group.destroy()
        with pytest.raises(flagstone.Closed):
            worker.result()
        del block
        worker(forget)
        assert_all_given_back(arena)

    def test_never_over_it_whatever_races(self, arena):
        """Eight threads and processes hit one limit from below."""
        group = arena.group("tenant", limit="1MiB")
        watched = []
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                watched.append(group.usage)

        def child(number):
            for turn in range(200):
                with contextlib.suppress(flagstone.GroupLimitExceeded):
                    blocks = [arena.alloc(5000 * number, group=group) for _ in range(number)]
                    memoryview(blocks[0])[:] = pattern(turn, 5000 * number)
                    if turn % 3 == 0:
                        pickle.loads(pickle.dumps(blocks[-1]))
                    assert bytes(blocks[0]) == pattern(turn, 5000 * number)
                blocks = None

        def threads():
            pool = [threading.Thread(target=child, args=(n,)) for n in range(1, 5)]
            for thread in pool:
                thread.start()
            for thread in pool:
                thread.join()

        thread = threading.Thread(target=watch)
        with contextlib.ExitStack() as stack:
            for number in range(2, 6):
                stack.enter_context(forked(lambda n=number: child(n)))
            stack.enter_context(forked(threads))
            thread.start()
        stop.set()
        thread.join()
        assert max(watched) <= MIB
        assert group.peak <= MIB
        assert group.events.limit_hits > 0
        arena.drop_in_flight()
        arena.barrier(PATIENCE)
        assert group.usage == 0
        group.destroy()
        assert_all_given_back(arena)


def alloc_in(group, nbytes):
    return kept["arena"].alloc(nbytes, group=group, wait=PATIENCE).nbytes
