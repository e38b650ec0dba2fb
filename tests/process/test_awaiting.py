"""Waiting in coroutines for what other processes do: the event loop goes on, also where they are
stopped, and cancelling leaves nothing. (Waiting for memory: test_coroutines.py.)
"""

import asyncio
import contextlib
import functools
import math
import os
import signal
import threading

import numpy as np
import pytest

import flagstone
from flagstone.testing import assert_sound
from flagstone.watch import Changes, Watch
from tests.process import support
from tests.process.support import attach, beat, kept
from tests.process.test_stopped import Stopped

FRAME = 1 << 19  # bytes of what needs memory of its own


class Publishing:
    """A subscription of another process has yet to read what fills a topic."""

    late = flagstone.ChannelFull

    def __init__(self, arena, other):
        self.topic = arena.topic("news", capacity=2)
        self.other = other
        other(self.subscribe)
        self.topic.publish([np.zeros(FRAME)])
        self.topic.publish(b"second")

    @staticmethod
    def subscribe():
        kept["subscription"] = kept["arena"].topic("news", capacity=2).subscribe()

    def ask(self, **options):
        return self.topic.apublish([np.ones(FRAME)], **options)

    @staticmethod
    def let_go():
        kept["first"] = kept["subscription"].get()[0].sum()

    def check(self, answer):
        assert answer == 1
        assert self.other(self.read) == [b"second", FRAME]

    @staticmethod
    def read():
        found = []
        with contextlib.suppress(flagstone.ChannelEmpty):
            while True:
                item = kept["subscription"].get(wait=0)
                found.append(item if isinstance(item, bytes) else item[0].sum())
        return found

    def check_nothing(self):
        assert self.other(self.read) == [b"second"]


class Making:
    """Another process makes the value of a key."""

    late = TimeoutError

    def __init__(self, arena, other):
        self.store = arena.store("made")
        self.other = other
        other(self.claim)

    @staticmethod
    def claim():
        store = kept["store"] = kept["arena"].store("made")
        kept["claim"] = store._claim("key")

    def ask(self, **options):
        return self.store.aget_or_put("key", list, **options)

    @staticmethod
    def let_go():
        del kept["claim"]

    def check(self, answer):
        assert answer == []

    def check_nothing(self):
        assert "key" not in self.store
        assert self.other(self.make) == "made elsewhere"

    @staticmethod
    def make():
        return kept["store"].get_or_put("key", lambda: "made elsewhere", wait=0)


class Waiting:
    """No process has put a key."""

    late = False

    def __init__(self, arena, other):
        self.store = arena.store("awaited")
        other(self.open)

    @staticmethod
    def open():
        kept["store"] = kept["arena"].store("awaited")

    def ask(self, wait=None):
        return self.store.await_key("key", wait)

    @staticmethod
    def let_go():
        kept["store"]["key"] = 1

    def check(self, answer):
        assert answer is True

    def check_nothing(self):
        assert self.store["key"] == 1


class Watching(Waiting):
    """No process has changed a store."""

    late = 0

    def ask(self, wait=None):
        return self.store.achanges(wait)

    def check(self, answer):
        assert answer > 0

    def check_nothing(self):
        assert self.store.changes(support.PATIENCE) > 0


class PuttingMany:
    """A channel is full of what other processes are to take."""

    late = flagstone.ChannelFull

    def __init__(self, arena, other):
        self.channel = arena.channel("jobs", capacity=2)
        self.other = other
        other(self.open)
        self.channel.put_many([b"1", b"2"])

    @staticmethod
    def open():
        kept["channel"] = kept["arena"].channel("jobs", capacity=2)

    def ask(self, **options):
        return self.channel.aput_many([[np.ones(FRAME)], b"4"], **options)

    @staticmethod
    def let_go():
        kept["first"] = kept["channel"].get_many(2)

    def check(self, answer):
        assert answer == 2
        assert self.other(self.read) == [FRAME, b"4"]

    @staticmethod
    def read():
        taken = kept["channel"].get_many(10, wait=0) if kept["channel"].qsize() else []
        return [one if isinstance(one, bytes) else one[0].sum() for one in taken]

    def check_nothing(self):
        assert self.other(self.read) == []


class GettingMany:
    """No process has put anything into a channel."""

    late = flagstone.ChannelEmpty

    def __init__(self, arena, other):
        self.channel = arena.channel("results")
        other(self.open)

    @staticmethod
    def open():
        kept["channel"] = kept["arena"].channel("results")

    def ask(self, **options):
        return self.channel.aget_many(10, **options)

    @staticmethod
    def let_go():
        kept["channel"].put_many([b"1", [2], b"3"])

    def check(self, answer):
        if len(answer) < 3:  # it came between two of them
            answer += self.channel.get_many(10)
        assert answer[:2] == [b"1", [2]]

    def check_nothing(self):
        assert self.channel.get_many(10) == [b"1", [2], b"3"]


class Owning:
    """Another process owns a lock."""

    late = False

    def __init__(self, arena, other):
        self.lock = arena.lock("one")
        other(self.acquire)

    @staticmethod
    def acquire():
        kept["lock"] = kept["arena"].lock("one")
        assert kept["lock"].acquire(0)

    def ask(self, **options):
        return self.lock.aacquire(**options)

    @staticmethod
    def let_go():
        kept["lock"].release()

    def check(self, answer):
        assert answer is True
        assert self.lock.info.pid == os.getpid()
        assert not self.lock.inherited
        self.lock.release()

    def check_nothing(self):
        assert not self.lock.locked()


WAITS = {
    "Lock.aacquire": Owning,
    "Channel.aput_many": PuttingMany,
    "Channel.aget_many": GettingMany,
    "Topic.apublish": Publishing,
    "Store.aget_or_put": Making,
    "Store.await_key": Waiting,
    "Store.achanges": Watching,
}
each_wait = pytest.mark.parametrize("wait", list(WAITS))


@pytest.fixture
def other(arena_name):
    """Another process, which can be stopped and killed."""
    arena = flagstone.open(arena_name, capacity="64MiB")
    other = Stopped(arena_name)
    other.arena = arena
    yield other
    if other.lives():
        other(support.forget)
        other.end()
    arena.barrier(support.PATIENCE)
    assert arena.in_flight() == []
    assert_sound(arena)
    arena.close()


async def loop_goes_on():
    """The loop does other things for a while."""
    beats = []
    other = asyncio.create_task(beat(beats))
    while len(beats) < 1000:
        await asyncio.sleep(0.001)
    other.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await other


async def in_time(case, **options):
    """The answer, or the exception if that is what is said of one who is too late."""
    try:
        return await case.ask(**options)
    except (flagstone.ChannelFull, flagstone.ChannelEmpty, TimeoutError) as error:
        return type(error)


@each_wait
@pytest.mark.parametrize("time", [None, 60, math.inf])
def test_another_process_is_waited_for(other, wait, time):
    case = WAITS[wait](other.arena, other)

    async def main():
        task = asyncio.create_task(case.ask(wait=time))
        await loop_goes_on()
        assert not task.done()
        other(case.let_go)
        case.check(await task)

    asyncio.run(main())


@each_wait
def test_beside_a_stopped_process(other, wait):
    """The loop goes on, and the time is kept; when the process goes on, so does who waits."""
    case = WAITS[wait](other.arena, other)

    async def main():
        other.signal(signal.SIGSTOP)
        task = asyncio.create_task(case.ask(wait=None))
        await loop_goes_on()
        assert await in_time(case, wait=0.05) == case.late
        assert await in_time(case, wait=0) == case.late
        assert not task.done()
        other.signal(signal.SIGCONT)
        other(case.let_go)
        case.check(await task)

    asyncio.run(main())


@each_wait
def test_cancelling_leaves_nothing(other, wait):
    case = WAITS[wait](other.arena, other)

    async def main():
        tasks = [asyncio.create_task(case.ask(wait=None)) for _ in range(3)]
        await asyncio.sleep(0.02)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with pytest.raises(asyncio.CancelledError):
                await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await case.ask(wait=math.inf)
        other(case.let_go)

    asyncio.run(main())
    case.check_nothing()


@each_wait
def test_a_program_ends_while_somebody_waits(other, wait):
    case = WAITS[wait](other.arena, other)

    async def main():
        waits = asyncio.create_task(case.ask(wait=None))
        await asyncio.sleep(0.02)
        assert not waits.done()

    asyncio.run(main())
    other(case.let_go)
    case.check_nothing()


@each_wait
@pytest.mark.parametrize("time", [-1, math.nan, "1"])
def test_a_time_to_wait_that_is_none(other, wait, time):
    case = WAITS[wait](other.arena, other)
    with pytest.raises((ValueError, TypeError), match="seconds"):
        asyncio.run(case.ask(wait=time))
    other(case.let_go)
    case.check_nothing()


@each_wait
def test_an_arena_that_is_closed_while_somebody_waits(worker, wait, arena_name):
    arena = flagstone.open(arena_name, capacity="64MiB")
    worker(attach, arena_name)
    case = WAITS[wait](arena, worker)

    async def main():
        task = asyncio.create_task(case.ask(wait=None))
        await asyncio.sleep(0.02)
        arena.close()
        with pytest.raises(flagstone.Closed):
            await task

    asyncio.run(main())
    worker(support.forget)


def test_who_makes_a_value_is_killed(other):
    case = Making(other.arena, other)

    async def main():
        task = asyncio.create_task(case.ask())
        await asyncio.sleep(0.02)
        other.kill()
        case.check(await task)

    asyncio.run(main())


def test_what_makes_a_value(other):
    """A function or a coroutine function, once for all who ask; whoever raises leaves the key."""
    store, made = other.arena.store("made"), []

    async def make():
        made.append(1)
        await asyncio.sleep(0.01)
        return {"array": np.arange(1000)}

    async def fail():
        raise KeyError("no value")

    async def main():
        found = await asyncio.gather(*(store.aget_or_put("a", make) for _ in range(5)))
        assert [one["array"].sum() for one in found] == [499500] * 5
        assert made == [1]
        assert await store.aget_or_put("a", fail) is not None
        for fails in (fail, lambda: 1 // 0):
            with pytest.raises((KeyError, ZeroDivisionError)):
                await store.aget_or_put("b", fails)
        assert (await store.aget_or_put("b", lambda: np.ones(3), ttl=60)).sum() == 3
        assert bytes(await store.aget_or_put("c", lambda: b"bytes")) == b"bytes"
        block = other.arena.zeros(7)
        assert (await store.aget_or_put("d", lambda: block)).shape == (7,)

    asyncio.run(main())


def test_cancelling_who_makes_a_value(other):
    """While it is made, or waits for memory's lock: nothing is put, and nobody has the key."""
    store = other.arena.store("made")

    async def main():
        task = asyncio.create_task(store.aget_or_put("a", lambda: asyncio.sleep(3600)))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with other.stopped("pages"):
            task = asyncio.create_task(store.aget_or_put("a", lambda: np.zeros(FRAME)))
            await loop_goes_on()
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert "a" not in store
        assert await store.aget_or_put("a", lambda: 1, wait=0) == 1

    asyncio.run(main())


def test_a_store_that_makes_room(other):
    store = other.arena.store("small", limit=4 * FRAME, evict="lru")

    async def main():
        for key in range(20):
            await store.aget_or_put(str(key), lambda: np.zeros(FRAME, "u1"))

    asyncio.run(main())
    assert 0 < len(store) < 5
    store.destroy()


def test_a_store_that_ends_while_somebody_waits(other):
    store = other.arena.store("ends")

    async def main():
        tasks = [asyncio.create_task(one) for one in (store.achanges(), store.await_key("a"))]
        await asyncio.sleep(0.02)
        store.destroy()
        for task in tasks:
            with contextlib.suppress(flagstone.Closed):
                assert await task == 1  # its end is a change
        for ask in (store.achanges, functools.partial(store.await_key, "a")):
            with pytest.raises(flagstone.Closed):
                await ask()
        store.leave()
        with pytest.raises(flagstone.Closed):
            await store.achanges()

    asyncio.run(main())
    with pytest.raises(flagstone.Closed):
        store.changes()


@pytest.mark.parametrize("way", ["apublish", "aput"])
def test_a_message_beside_a_stopped_process(other, way):
    """What is large needs memory, whose lock somebody has: the loop goes on."""
    topic, channel = other.arena.topic("news"), other.arena.channel("jobs")
    subscription = topic.subscribe()
    send = {"apublish": topic.apublish, "aput": channel.aput}[way]
    take = {"apublish": subscription.get, "aput": channel.get}[way]

    async def main():
        with other.stopped("pages"):
            tasks = [asyncio.create_task(send(item)) for item in ([np.ones(FRAME)], bytes(FRAME))]
            await loop_goes_on()
            assert not any(task.done() for task in tasks)
            tasks.pop().cancel()
        await tasks[0]

    asyncio.run(main())
    assert take()[0].sum() == FRAME
    with pytest.raises(flagstone.ChannelEmpty):
        take(wait=0)
    subscription.close()


def test_a_block_moves_when_it_is_put(other):
    channel, block = other.arena.channel(capacity=1), other.arena.put(np.arange(3))
    channel.put(b"first")

    async def main():
        with pytest.raises(flagstone.ChannelFull):
            await channel.aput(block, wait=0.02)
        assert block.array.sum() == 3
        channel.get()
        await channel.aput(block, wait=0)
        with pytest.raises(flagstone.Closed):
            block.array.sum()
        assert (await channel.aget()).array.sum() == 3

    asyncio.run(main())


def test_what_a_refused_message_had_in_flight(other):
    """Blocks inside an item, when its message is published or put in vain."""
    topic, channel = other.arena.topic("news", capacity=1), other.arena.channel(capacity=1)
    subscription = topic.subscribe()
    blocks = [other.arena.put(np.arange(3)) for _ in range(2)]
    channel.put(b"first")
    topic.publish(b"first")

    async def main():
        with pytest.raises(flagstone.ChannelFull):
            await channel.aput(blocks, wait=0.02)
        with pytest.raises(flagstone.ChannelFull):
            await topic.apublish((blocks[0], 1), wait=0.02)
        with pytest.raises(TypeError, match="several"):
            await topic.apublish(blocks)

    asyncio.run(main())
    assert other.arena.in_flight() == []
    subscription.close()


def test_many_that_are_put_and_taken(other):
    """More than a channel holds, by one coroutine and another one."""
    channel = other.arena.channel(capacity=16)
    items = [b"x" if number % 3 else [number] for number in range(1000)]

    async def main():
        with pytest.raises(ValueError, match="at least one"):
            await channel.aget_many(0)
        assert await channel.aput_many([]) == 0
        putting = asyncio.create_task(channel.aput_many(iter(items)))
        taken = []
        while len(taken) < len(items):
            taken += await channel.aget_many(10)
        assert taken == items
        assert await putting == len(items)
        assert await channel.aput_many(items, wait=0.02) == 16
        channel.close()
        with pytest.raises(flagstone.ChannelClosed):
            await channel.aput_many(items)
        assert await channel.aget_many(100) == items[:16]
        with pytest.raises(flagstone.ChannelClosed):
            await channel.aget_many(100)

    asyncio.run(main())


def test_cancelling_in_the_middle_of_many(other):
    """What was put stays, and the rest is the program's still."""
    channel = other.arena.channel(capacity=2)
    blocks = [other.arena.put(np.full(3, number)) for number in range(4)]

    async def main():
        task = asyncio.create_task(channel.aput_many(blocks))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [one.array.sum() for one in channel.get_many(10)] == [0, 3]
    assert [one.array.sum() for one in blocks[2:]] == [6, 9]


def test_many_do_not_hold_the_loop_up(other):
    channel, seen = other.arena.channel(capacity=4096), []

    async def look():
        while len(seen) < 3:
            seen.append(channel.qsize())
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(channel.aput_many([b"x"] * 4096), look())

    asyncio.run(main())
    assert seen[0] < seen[1] < seen[2] < 4096


def test_tasks_exclude_each_other(other):
    """By one object and by two, of one loop and of two, and whoever is cancelled inside."""
    lock, again, inside = other.arena.lock("one"), other.arena.lock("one"), []
    wrong = []

    async def use(lock):
        async with lock as same:
            assert same is lock
            assert not lock.inherited
            inside.append(1)
            assert len(inside) == 1
            with pytest.raises(RuntimeError, match="already"):
                lock.acquire(0)
            try:
                await asyncio.sleep(0.001)
            finally:
                inside.pop()

    async def main():
        tasks = [asyncio.create_task(use(one)) for one in (lock, again) * 10]
        await asyncio.sleep(0.005)
        for task in tasks[::3]:
            task.cancel()
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        wrong.extend(one for one in errors if one and not isinstance(one, asyncio.CancelledError))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lock.locked()
    assert not inside
    assert not wrong


def test_a_lock_is_inherited_by_a_coroutine(other):
    case = Owning(other.arena, other)

    async def main():
        task = asyncio.create_task(case.ask())
        await asyncio.sleep(0.02)
        other.kill()
        assert await task
        assert case.lock.inherited
        assert not await case.lock.aacquire(wait=0.02)  # its own
        case.lock.release()
        assert not case.lock.inherited
        async with case.lock:
            assert not case.lock.inherited
        assert not case.lock.locked()
        case.lock.leave()
        with pytest.raises(flagstone.Closed):
            await case.lock.aacquire()

    asyncio.run(main())


def test_a_lock_that_is_destroyed_while_somebody_waits(other):
    case = Owning(other.arena, other)

    async def main():
        task = asyncio.create_task(case.ask())
        await asyncio.sleep(0.02)
        case.lock.destroy()
        with pytest.raises(flagstone.Closed):
            await task

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["channel", "topic", "store", "lock"])
def test_who_begins_to_wait_for_what_was_left_does_not(arena, kind):
    thing = getattr(arena, kind)("thing")
    watch = Changes(thing) if kind == "store" else Watch(thing, True)

    async def wait():
        watch.stop()
        return await watch.ready(None)

    assert asyncio.run(wait())
