"""The descriptors of channels and subscriptions, for `select` and its like."""

import asyncio
import contextlib
import gc
import os
import select
import threading
import weakref

import pytest

import flagstone
from flagstone._core import Waiter
from flagstone.testing import wait_until
from tests.process.support import WAITS, forked, open_files, program, waiting_threads


@pytest.fixture
def arena():
    with flagstone.open(None, capacity="64MiB") as arena:
        yield arena


def test_select(arena):
    channel = arena.channel()
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    assert poll.poll(0) == []
    for _ in range(3):
        channel.put(b"x")
        assert poll.poll(10_000)
        assert channel.get_nowait() == b"x"
        with pytest.raises(flagstone.ChannelEmpty):
            channel.get_nowait()
        assert poll.poll(0) == []


def test_select_in_a_child(arena):
    """The number stays good in a child, which has a descriptor of its own: what either does with
    it does not show in the other.
    """
    channel = arena.channel()
    number = channel.fileno()

    def child():
        assert len(open_files()) == before
        poll = select.poll()
        poll.register(number, select.POLLIN)
        assert channel.fileno() == number
        assert poll.poll(60_000)  # it may have missed something
        with pytest.raises(flagstone.ChannelEmpty):
            channel.get_nowait()
        assert poll.poll(0) == []
        channel.put(b"x")
        assert poll.poll(60_000)

    spare = os.open(os.devnull, os.O_RDONLY)
    lower = os.dup(spare)
    os.close(spare)  # a number below is free
    before = len(open_files())
    with forked(child):
        pass
    os.close(lower)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    assert poll.poll(60_000)
    assert channel.get_nowait() == b"x"


def test_what_was_left_has_no_descriptor(arena):
    before = open_files()
    channel, topic = arena.channel(), arena.topic("t")
    subscription = topic.subscribe()
    channel.leave()
    subscription.close()
    for one in (channel, subscription):
        with pytest.raises(flagstone.Closed):
            one.fileno()
    assert open_files() == before


def test_a_fork_waits_for_all_at_once(arena, monkeypatch):
    """Their threads are asked to end before any is waited for."""
    monkeypatch.setattr(flagstone.watch, "_most", lambda: 1)
    channels = [arena.channel() for _ in range(3)]
    for channel in channels:
        channel.fileno()
    assert len(waiting_threads()) == 3
    rung = [channel._watch(True)._lot.waiter for channel in channels]
    asked = []
    join = threading.Thread.join

    def joined(thread, timeout=None):
        if thread.name == WAITS:
            # Who has been rung waits for nothing.
            asked.append([one.wait([], [], 60_000_000_000) for one in rung])
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", joined)
    with forked(lambda: None):
        pass
    assert asked
    assert len(waiting_threads()) == 3
    for channel in channels:
        channel.put(b"x")
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        assert poll.poll(60_000)


def test_one_thread_waits_for_all(arena):
    """A thread for 127 of them, whatever they are; each is told of its own messages alone."""
    topic = arena.topic("news")
    things = [arena.channel(capacity=2) for _ in range(100)]
    things += [topic.subscribe() for _ in range(100)]
    poll = select.poll()
    numbers = {}
    for thing in things:
        poll.register(thing, select.POLLIN)
        numbers[thing.fileno()] = thing
    lots = -(-len(things) // Waiter().most())
    assert len(waiting_threads()) == lots
    for channel in things[:100:7]:
        channel.put(b"x")
        assert [numbers[number] for number, _ in poll.poll(60_000)] == [channel]
        assert channel.get_nowait() == b"x"
        with pytest.raises(flagstone.ChannelEmpty):
            channel.get_nowait()
        assert poll.poll(0) == []
    topic.publish(b"to all")
    found = set()
    while len(found) < 100:
        found |= {number for number, _ in poll.poll(60_000)}
    assert {numbers[number] for number in found} == set(things[100:])
    for thing in things:
        (thing.leave if thing in things[:100] else thing.close)()
    wait_until(lambda: not waiting_threads())


def test_who_comes_and_goes_wakes_the_thread(arena, monkeypatch):
    """It does not find out by itself: here it would wait for a minute."""
    monkeypatch.setattr(flagstone.watch, "_SLICE", 60_000_000_000)
    first, second = arena.channel(), arena.channel()
    store = arena.store("watched")
    first.fileno()

    async def main():
        getting = asyncio.create_task(second.aget())
        changes = asyncio.create_task(store.achanges())
        await asyncio.sleep(0.02)
        second.put(b"x")
        assert await getting == b"x"
        store["key"] = 1
        assert await changes

    asyncio.run(main())
    second.leave()
    first.leave()
    store.leave()
    with forked(lambda: None):
        pass
    wait_until(lambda: not waiting_threads())


def test_what_nobody_refers_to_any_more(arena):
    channel = arena.channel("dropped")
    assert channel.fileno() >= 0
    del channel
    wait_until(lambda: not waiting_threads())
    wait_until(lambda: arena.snapshot().channels == ())


def test_what_is_left_by_the_thread_that_waits(arena):
    """A destructor may run there, and may leave another channel that it waits for."""
    first, second = arena.channel(), arena.channel()
    first.fileno()
    second.fileno()
    left = []

    def leave(_):
        second.leave()
        left.append(threading.current_thread().name)

    gone = weakref.ref(first, leave)
    del first
    wait_until(lambda: left)
    assert gone() is None
    with pytest.raises(flagstone.Closed):
        second.fileno()
    wait_until(lambda: not waiting_threads())


def test_what_a_loop_that_was_closed_waited_for(arena):
    """A coroutine that never ends keeps its channel no longer than its loop is open."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(arena.channel("dropped").aget())
    task._log_destroy_pending = False  # asyncio would say so
    loop.run_until_complete(asyncio.sleep(0.02))
    assert waiting_threads()
    loop.close()
    del task, loop
    wait_until(lambda: not waiting_threads())
    gc.collect()  # the task and its coroutine refer to each other
    wait_until(lambda: arena.snapshot().channels == ())


@contextlib.contextmanager
def no_thread_is_to_be_had():
    start = threading.Thread.start

    def refuse(thread):
        if thread.name == WAITS:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield


def test_no_thread_is_to_be_had(arena):
    first, second = arena.channel(), arena.channel()
    number = first.fileno()
    poll = select.poll()
    poll.register(number, select.POLLIN)

    async def main():
        getting = asyncio.create_task(second.aget())
        await asyncio.sleep(0.02)
        with no_thread_is_to_be_had():
            with forked(lambda: None):
                pass  # whose end lets the thread go on
            with pytest.raises(RuntimeError, match="new thread"):
                await getting
        assert second._watch(True)._futures == []

    asyncio.run(main())
    wait_until(lambda: not waiting_threads())
    # The program is asked to look by itself, and to come back.
    for _ in range(3):
        assert poll.poll(60_000)
        with no_thread_is_to_be_had(), pytest.raises(RuntimeError, match="new thread"):
            first.get_nowait()
    with pytest.raises(flagstone.ChannelEmpty):
        first.get_nowait()
    assert poll.poll(0) == []
    first.put(b"x")
    assert poll.poll(60_000)
    assert first.get_nowait() == b"x"


def test_a_thread_that_fails(arena, monkeypatch):
    """Those for whom it waited go on with another one."""
    channel = arena.channel()
    failed = []
    monkeypatch.setattr(threading, "excepthook", lambda said: failed.append(said.exc_value))
    wait = flagstone.watch._Lot._wait

    def fail(lot, watches):
        if watches and not failed:
            raise MemoryError
        return wait(lot, watches)

    monkeypatch.setattr(flagstone.watch._Lot, "_wait", fail)

    async def main():
        getting = asyncio.create_task(channel.aget())
        while not failed:
            await asyncio.sleep(0)
        channel.put(b"x")
        async with asyncio.timeout(60):
            assert await getting == b"x"

    asyncio.run(main())
    assert [type(one) for one in failed] == [MemoryError]
    channel.leave()
    wait_until(lambda: not waiting_threads())


def test_a_fork_while_its_thread_has_the_lock(arena, monkeypatch):
    """As in the handler of a signal, or a destructor, that comes while it begins to wait."""
    monkeypatch.setattr(flagstone.watch, "_FORK_WAIT", 0.05)
    channel = arena.channel()
    poll = select.poll()
    poll.register(channel, select.POLLIN)

    def child():
        number = channel.fileno()
        poll = select.poll()
        poll.register(number, select.POLLIN)
        assert poll.poll(60_000)
        with pytest.raises(flagstone.ChannelEmpty):
            channel.get_nowait()
        assert len(waiting_threads()) == 1
        channel.put(b"x")

    with contextlib.ExitStack() as stack:
        with flagstone.watch._lock:
            stack.enter_context(forked(child))
        assert poll.poll(60_000)
        assert channel.get_nowait() == b"x"
    channel.leave()
    wait_until(lambda: not waiting_threads())


def test_leaving_while_another_thread_begins_to_wait(arena):
    channel = arena.channel()
    channel.fileno()
    stop = channel._watch(True).stop

    def stop_slowly():
        channel._watch(False)
        stop()

    channel._watches[True].stop = stop_slowly
    channel.leave()
    with pytest.raises(flagstone.Closed):
        channel.put(b"x")


@pytest.mark.parametrize("held", [False, True])
def test_what_is_left_when_the_interpreter_ends(held):
    """The thread has stopped where it was then: it waits, or has the lock."""
    said = program(
        f"""
        import threading
        import flagstone
        from flagstone.testing import wait_until

        class Consumer:
            def __init__(self):
                self.arena = flagstone.open(capacity="16MiB")
                self.channel = self.arena.channel()
                self.channel.fileno()

            def __del__(self):
                self.channel.leave()
                print("left", flush=True)

        consumer = Consumer()
        wait_until(lambda: consumer.channel._watch(True)._lot.waited)
        if {held}:
            holder = threading.Thread(target=flagstone.watch._lock.acquire)
            holder.start()
            holder.join()
        """
    )
    assert said == "left\n"
