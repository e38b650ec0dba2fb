"""Lessons (test_lessons.py) of what is refused, and of waiting for memory."""

import asyncio
import contextlib
import pickle
import signal

import pytest

import flagstone
from flagstone.testing import has_fault_points, wait_until
from tests.conftest import missing
from tests.process.lessons import (
    assert_empty,
    forget,
    share_and_drop,
    working,
)
from tests.process.support import (
    PATIENCE,
    Hog,
    fill_with,
    kept,
    state_of,
)

SIZE = 512


@pytest.fixture
def arena(empty_in_the_end):
    return empty_in_the_end


class TestRefusals:
    @pytest.mark.root
    def test_11_no_memory_at_all(self, small_tmpfs):
        """Given a file system without a free byte, when each operation is tried, then it works with
        what there is or says that there is none; nothing is lost, and all of it works when there is
        room again. (the fix of a missing css_put)
        """
        with flagstone.open(small_tmpfs / "arena", capacity="48MiB") as arena:
            cache = arena.cache("thing", size=SIZE)
            group = arena.group("job")
            blocks = cache.alloc_many(100, group)
            before = arena.used
            with Hog(small_tmpfs) as hog:
                hog.grow()
                groups, caches, failed = [], [], 0
                for number in range(2000):
                    try:
                        groups.append(arena.group(f"job-{number}"))
                        caches.append(arena.cache(f"c-{number}", size=SIZE, merge=False))
                        cache.alloc(groups[-1])
                        caches[-1].alloc()
                    except flagstone.ArenaFull:
                        failed += 1
                assert failed > 0
                assert arena.check() == []
                # Ending, freeing and sending need no memory, or say so.
                with contextlib.suppress(flagstone.ArenaFull):
                    share_and_drop(blocks[0])
                for one in caches + groups:
                    one.destroy()
                arena.barrier(PATIENCE)
                assert arena.used == before
                assert len(arena.caches) == len(arena.groups) == 1
            groups = [arena.group() for _ in range(2000)]
            assert len([cache.alloc(one) for one in groups]) == 2000
            for one in groups:
                one.destroy()
            del blocks, one, groups
            group.destroy()
            cache.destroy()
            assert_empty(arena)

    @pytest.mark.parametrize("where", ["here", "in a group", "elsewhere", "in flight", "a view"])
    def test_13_busy_in_a_release_build(self, arena, worker, where):
        """Given a cache with an object in use, when it is destroyed by the release build, which is
        the one that is installed, then it says that it is busy, and by whom. (2018: the count that
        "empty" was decided by had been compiled out)
        """
        if has_fault_points():
            missing("this is no release build: it has fault points")
        cache = arena.cache("thing", size=SIZE)
        group = arena.group("job")
        block = cache.alloc(group if where == "in a group" else None)
        message = view = None
        if where == "in flight":
            message = pickle.dumps(block)
        elif where == "elsewhere":
            worker(take, pickle.dumps(block))
        elif where == "a view":
            view = memoryview(block)[10:20]
        if where in ("in flight", "elsewhere", "a view"):
            del block
        who = {"elsewhere": f"pid {worker.pid} ", "in flight": "1 in flight"}
        with pytest.raises(flagstone.CacheBusy, match=who.get(where, "by this process itself")):
            cache.destroy()
        assert view is None or len(view) == 10
        block = view = None
        worker(forget)
        arena.drop_in_flight()
        del message
        cache.destroy()
        group.destroy()

    def test_18_waiting_for_oneself(self, arena):
        """Given a thread in a read-side section, when it asks for what would wait for that section,
        then it is refused at once; ending things does not wait, and works. (dfd3df31c9db) The
        thread that runs batches runs nothing of the user's, so nothing of his can wait there.
        """
        cache = arena.cache("thing", size=SIZE, typesafe_by_rcu=True)
        group = arena.group("job")
        cache.alloc(group)

        async def wait_for(ticket):
            await ticket

        refused = []

        class Late:
            def __del__(self):
                try:
                    arena.barrier()
                except RuntimeError as error:
                    refused.append(str(error))

        with arena.read():
            ticket = group.destroy()
            for wait in (
                arena.barrier,
                arena.synchronize,
                cache.shrink,
                ticket.wait,
                lambda: asyncio.run(wait_for(ticket)),
            ):
                with pytest.raises(RuntimeError, match="read"):
                    wait()
            late = Late()
            del late
            last = cache.destroy()
        assert len(refused) == 1
        ticket.wait(PATIENCE)
        last.wait(PATIENCE)

    @pytest.mark.parametrize("killed", [False, True])
    def test_20_the_last_object_ends_everything(self, arena, worker, killed):
        """Given an arena without a free page, with caches whose initial content lies in it as
        objects do, when the last object goes whose group and whose process have ended, then slab,
        child, group and cache go with it, and nothing of that needs memory or comes back to itself.
        (10befea91b61)
        """
        names = [f"thing-{number}" for number in range(10)]
        messages = []
        for name in names:
            cache = arena.cache(name, size=SIZE, init=name.encode())
            group = arena.group(name)
            messages.append(pickle.dumps(cache.alloc(group)))
            group.close()
        del group
        filler = arena.cache("filler", size=4096)
        blocks, _ = fill_with(filler.alloc)
        worker(take_all, messages)
        for name in names:
            with pytest.raises(flagstone.CacheBusy):
                arena.cache(name, size=SIZE, init=name.encode()).destroy()
        if killed:
            worker.kill()
        else:
            worker(forget)
        arena.barrier(PATIENCE)
        assert arena.groups == []
        for name in names:
            arena.cache(name, size=SIZE, init=name.encode()).destroy()
        arena.barrier(PATIENCE)
        assert [cache.name for cache in arena.caches] == ["filler"]
        assert arena.used == filler.stats.bytes
        del blocks
        filler.destroy()

    def test_21_a_refused_destroy_changes_nothing(self, arena, worker):
        """Given a cache in use, with empty children and empty slabs, when it is destroyed again and
        again and each time refused, then it is as it was: nothing of it is gone, bound caches go
        on, and nobody who allocates meanwhile notices. (4.11: after -EBUSY neither usable nor
        destroyable, its empty children gone)
        """
        cache = arena.cache("thing", size=SIZE)
        groups = [arena.group(f"job-{number}") for number in range(5)]
        bound = [cache.bind(group) for group in (None, *groups)]
        keep = cache.alloc_many(200, groups[0])
        for group in groups[1:]:
            cache.alloc_many(100, group)
        arena.barrier(PATIENCE)
        before = arena.snapshot()
        for _ in range(100):
            with pytest.raises(flagstone.CacheBusy):
                cache.destroy()
        after = arena.snapshot()
        assert (after.caches, after.groups, after.used) == (
            before.caches,
            before.groups,
            before.used,
        )
        assert after.children == before.children
        worker.send(allocate_often, 3000)
        for _ in working([worker]):
            with pytest.raises(flagstone.CacheBusy):
                cache.destroy()
        assert worker.result() == 3000
        for one in bound:
            assert one.alloc().nbytes == SIZE
        assert arena.cache("thing", size=SIZE) == cache
        del keep
        cache.destroy()
        for one in bound:
            with pytest.raises(flagstone.Closed):
                one.alloc()
        for group in groups:
            group.destroy()

    def test_25_who_is_a_user(self, arena, worker, other_worker):
        """Given a stopped process and a killed one that nobody has waited for, with an object each,
        when the cache is destroyed, then the stopped one is a user, and the zombie is none.
        (LMDB, iceoryx2) Reused pids, pid namespaces, tracers, frozen cgroups: test_liveness.py.
        """
        cache = arena.cache("thing", size=SIZE)
        worker(take, pickle.dumps(cache.alloc()))
        other_worker(take, pickle.dumps(cache.alloc()))
        worker.signal(signal.SIGSTOP)
        other_worker.signal(signal.SIGKILL)
        wait_until(lambda: other_worker.pid not in [one.pid for one in arena.processes])
        assert state_of(other_worker.pid) == "Z"
        with pytest.raises(flagstone.CacheBusy, match=f"pid {worker.pid} ") as busy:
            cache.destroy()
        assert f"pid {other_worker.pid} " not in str(busy.value)
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 1
        worker.signal(signal.SIGCONT)
        other_worker.kill()
        worker(forget)
        cache.destroy().wait(PATIENCE)


def take(message):
    kept["taken"] = pickle.loads(message)


def take_all(messages):
    kept["taken"] = [pickle.loads(message) for message in messages]


def allocate_often(count):
    cache = kept["arena"].cache("thing", size=SIZE)
    group = kept["arena"].group("another")
    for number in range(count):
        block = cache.alloc(group if number % 2 else None)
        memoryview(block)[:8] = b"12345678"
        assert bytes(block)[:8] == b"12345678"
        del block
    group.destroy()
    return count
