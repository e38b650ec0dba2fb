"""Allocating and making in coroutines: `aalloc` and `aput` let the event loop go on while they
wait, and cancelling them takes back everything. (Waiting for other processes: test_awaiting.py.)
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import math
import threading

import numpy as np
import pytest

import flagstone
from flagstone.testing import assert_sound
from tests.process import support
from tests.process.support import attach, beat, kept, program

FRAME = 1 << 19  # bytes; two of them fill the group
ROOM = 2


class Setting:
    """An arena with a group that has room for two frames, and the ways to ask for one."""

    def __init__(self, name):
        self.arena = flagstone.open(name, capacity="64MiB")
        self.group = self.arena.group("frames", limit=ROOM * FRAME)
        self.cache = self.arena.cache("frame", shape=(FRAME,), dtype="u1")
        self.bound = self.cache.bind(self.group)
        self.references = self._count()
        self.value = np.full(FRAME, 7, "u1")
        self.ways = {
            "Arena.aalloc": lambda **options: self.arena.aalloc(FRAME, group=self.group, **options),
            "Arena.aput": lambda **options: self.arena.aput(
                self.value, group=self.group, **options
            ),
            "Arena.azeros": lambda **options: self.arena.azeros(
                FRAME, "u1", group=self.group, **options
            ),
            "Arena.aempty_like": lambda **options: self.arena.aempty_like(
                self.value, group=self.group, **options
            ),
            "Cache.aalloc": lambda **options: self.cache.aalloc(self.group, **options),
            "GroupCache.aalloc": self.bound.aalloc,
        }

    def _count(self):
        return sum(one.references for one in self.arena.processes)

    def fill(self):
        """All that the group has room for."""
        return [self.bound.alloc() for _ in range(ROOM)]

    def assert_all_is_back(self):
        """Nothing of the group is allocated, and both frames can be had at once."""
        gc.collect()
        self.arena.barrier(support.PATIENCE)
        assert self._count() == self.references
        assert len(self.fill()) == ROOM
        self.group.destroy().wait(support.PATIENCE)
        assert_sound(self.arena)
        assert self.arena.used == 0


WAYS = ["Arena.aalloc", "Arena.aput", "Cache.aalloc", "GroupCache.aalloc"]
way_of_each = pytest.mark.parametrize("way", WAYS)
every_way = pytest.mark.parametrize("way", [*WAYS, "Arena.azeros", "Arena.aempty_like"])


@pytest.fixture
def setting(arena_name):
    setting = Setting(arena_name)
    yield setting
    setting.arena.close()


@way_of_each
def test_memory_that_is_there(setting, way):
    async def main():
        block = await setting.ways[way]()
        assert isinstance(block, flagstone.Block)
        assert block.nbytes == FRAME
        assert block.group == setting.group
        if way == "Arena.aput":
            assert (block.array == 7).all()
            assert block.dtype == "u1"

    asyncio.run(main())
    setting.assert_all_is_back()


def test_what_is_put_and_zeroed(setting):
    async def main():
        value = np.asfortranarray(np.arange(12.0).reshape(3, 4))
        block = await setting.arena.aput(value)
        assert (block.array == value).all()
        assert block.array.flags.f_contiguous
        blocks = setting.fill()
        for one in blocks:
            one.array[:] = 9
        del one, blocks
        for way in (setting.bound.aalloc, setting.ways["Cache.aalloc"]):
            assert not (await way(zero=True)).array.any()
        assert not (await setting.ways["Arena.azeros"]()).array.any()
        like = await setting.arena.aempty_like(value, "f4")
        assert (like.shape, like.dtype) == ((3, 4), "f4")
        assert like.array.flags.f_contiguous
        with pytest.raises(ValueError, match="order"):
            await setting.arena.azeros(3, order="X")
        with pytest.raises(TypeError):
            await setting.arena.aput(np.ma.masked_array([1, 2], [0, 1]))
        with pytest.raises(ValueError, match="many"):
            await setting.arena.aalloc("many")

    asyncio.run(main())
    setting.assert_all_is_back()


@way_of_each
@pytest.mark.parametrize("wait", [60, math.inf])
def test_it_waits_until_memory_comes(setting, way, wait):
    """The loop itself goes on: another coroutine runs, and lets go of what is waited for."""

    async def main():
        held, beats = setting.fill(), []
        other = asyncio.create_task(beat(beats))
        task = asyncio.create_task(setting.ways[way](wait=wait))
        while len(beats) < 1000:
            await asyncio.sleep(0.001)
        assert not task.done()
        held.pop()
        assert (await task).nbytes == FRAME
        other.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await other

    asyncio.run(main())
    setting.assert_all_is_back()


@every_way
def test_another_process_lets_go(worker, setting, way, arena_name):
    worker(attach, arena_name)
    worker(keep_frames, ROOM)

    async def main():
        task = asyncio.create_task(setting.ways[way](wait=60))
        await asyncio.sleep(0.02)
        assert not task.done()
        worker.send(support.forget)
        return (await task).nbytes

    assert asyncio.run(main()) == FRAME
    worker.result()
    setting.assert_all_is_back()


def keep_frames(count):
    """In a `Worker` that has attached."""
    arena = kept["arena"]
    cache = arena.cache("frame", shape=(FRAME,), dtype="u1")
    kept["frames"] = cache.alloc_many(count, arena.group("frames"))


@every_way
@pytest.mark.parametrize("wait", [None, 0, 0.05])
def test_no_memory_comes(setting, way, wait):
    async def main():
        held = setting.fill()
        with pytest.raises(flagstone.GroupLimitExceeded, match="frames") as raised:
            await setting.ways[way](wait=wait)
        if wait:
            assert f"after waiting {wait} s" in str(raised.value)
        return len(held)

    assert asyncio.run(main()) == ROOM
    setting.assert_all_is_back()


def test_no_memory_in_the_arena(setting):
    async def main():
        held = await setting.arena.aalloc("40MiB", wait=0.05)
        with pytest.raises(flagstone.ArenaFull):
            await setting.arena.aalloc(held.nbytes, wait=0.05)

    asyncio.run(main())
    setting.assert_all_is_back()


@way_of_each
@pytest.mark.parametrize("wait", [-1, math.nan, "1"])
def test_a_time_that_is_none(setting, way, wait):
    async def main():
        with pytest.raises((ValueError, TypeError)):
            await setting.ways[way](wait=wait)

    asyncio.run(main())


@every_way
def test_cancelling_takes_everything_back(setting, way):
    async def main():
        held = setting.fill()
        tasks = [asyncio.create_task(setting.ways[way](wait=math.inf)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await setting.ways[way](wait=math.inf)
        held.clear()

    asyncio.run(main())
    setting.assert_all_is_back()


@way_of_each
def test_cancelling_while_memory_comes(setting, way):
    """At any moment between the drop and the answer: either there is a Block, or nothing."""

    async def main():
        for turn in range(60):
            # What the step of the last turn got may be on its way still, and the loop drops it.
            held = [await setting.bound.aalloc(wait=support.PATIENCE) for _ in range(ROOM)]
            task = asyncio.create_task(setting.ways[way](wait=math.inf))
            await asyncio.sleep(0.002)
            held.clear()
            await asyncio.sleep(turn * 0.0001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                assert (await task).nbytes == FRAME
            del task

    asyncio.run(main())
    setting.assert_all_is_back()


@way_of_each
def test_many_wait_in_few_threads(setting, way):
    async def one(got):
        block = await setting.ways[way](wait=60)
        await asyncio.sleep(0)
        got.append(block.nbytes)

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
        got = []
        await asyncio.gather(*(one(got) for _ in range(30)))
        return got

    assert asyncio.run(main()) == [FRAME] * 30
    setting.assert_all_is_back()


@way_of_each
def test_a_loop_in_a_thread(setting, way):
    found = []

    async def main():
        found.append((await setting.ways[way](wait=1)).nbytes)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join()
    assert found == [FRAME]
    setting.assert_all_is_back()


@way_of_each
def test_an_arena_that_is_closed_meanwhile(setting, way):
    async def main():
        held = setting.fill()
        task = asyncio.create_task(setting.ways[way](wait=math.inf))
        await asyncio.sleep(0.02)
        held.clear()
        setting.arena.close()
        with contextlib.suppress(flagstone.Closed):
            await task
        with pytest.raises(flagstone.Closed):
            await setting.ways[way]()

    asyncio.run(main())


def test_a_group_that_ends_meanwhile(setting):
    async def main():
        held = setting.fill()
        task = asyncio.create_task(setting.bound.aalloc(wait=math.inf))
        await asyncio.sleep(0.02)
        setting.group.destroy()
        with pytest.raises(flagstone.Closed):
            await task
        return len(held)

    assert asyncio.run(main()) == ROOM
    assert_sound(setting.arena)


def test_inside_a_section(setting):
    """The section of the loop's thread holds up what was dropped, and is not the helper's own."""

    async def main():
        held = setting.fill()
        with setting.arena.read():
            held.clear()
            with contextlib.suppress(MemoryError):
                await setting.bound.aalloc(wait=0.05)
        return (await setting.bound.aalloc(wait=60)).nbytes

    assert asyncio.run(main()) == FRAME
    setting.assert_all_is_back()


def test_read_only(worker, setting, arena_name):
    assert worker(ask_read_only, arena_name) == ["ReadOnly"] * 2


def ask_read_only(name):
    """In a `Worker`."""
    arena = flagstone.open(name, create=False, readonly=True)

    async def main():
        said = []
        for ask in (arena.aalloc(100), arena.aput(b"x")):
            try:
                await ask
            except flagstone.FlagstoneError as error:
                said.append(type(error).__name__)
        return said

    return asyncio.run(main())


@way_of_each
def test_a_program_ends_while_it_waits(way):
    """At the end of `asyncio.run` the loop's executor waits for its threads, which are at work on a
    wait that has no end.
    """
    said = program(
        f"""
        import asyncio, math
        from tests.process.test_coroutines import Setting

        setting = Setting(None)
        held = setting.fill()
        ask = setting.ways[{way!r}]

        async def main():
            waiting = asyncio.create_task(ask(wait=math.inf))
            try:
                async with asyncio.timeout(0.1):
                    await ask(wait=math.inf)
            except TimeoutError:
                print("timed out, as asked")

        asyncio.run(main())
        del held
        setting.assert_all_is_back()
        print("ended")
        """
    )
    assert said == "timed out, as asked\nended\n"


def test_making_that_asks_for_itself(arena_name):
    """By this coroutine or a call that holds its loop up; another task may wait."""
    arena = flagstone.open(arena_name, capacity="64MiB")
    store = arena.store("made")

    async def waits():
        return await store.aget_or_put("a", int)

    async def holds_up():
        return store.get_or_put("a", int)

    async def main():
        for make in waits, holds_up:
            with pytest.raises(RuntimeError, match="asks for 'a', and would wait for itself"):
                await store.aget_or_put("a", make)
        task = None

        async def starts_another():
            nonlocal task
            task = asyncio.create_task(waits())
            await asyncio.sleep(0.02)
            return [await store.aget_or_put("b", lambda: 7)]

        assert await store.aget_or_put("a", starts_another) == [7]
        assert await task == [7]

    asyncio.run(main())
    arena.close()
