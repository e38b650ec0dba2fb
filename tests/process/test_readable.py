"""The descriptors of channels and subscriptions, for `select` and its like."""

import asyncio
import os
import select
import threading
import weakref

import pytest

import flagstone
from flagstone._core import Waiter
from flagstone.testing import wait_until
from tests.process.support import WAITS, forked, open_files, waiting_threads


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
    assert arena.snapshot().channels == ()


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
