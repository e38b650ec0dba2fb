"""Producers, consumers, publishers and subscribers killed by the hundred: no node of a channel or
topic, no place of a subscriber, and no byte of the arena stays theirs.
"""

import contextlib
import gc
import itertools
import os
import random
import signal
import time
import traceback

import numpy as np
import pytest

import flagstone
from tests.process import support

CAPACITY = 32
AT_ONCE = 3  # that live at a time
KILLS = 120  # for each of the roles: many more than nodes, so that those that are lost are missed
NAPS = 0.002  # seconds between two kills, at most


def produce(channel, arena):
    for number in itertools.count():
        item = arena.put(np.full(100, number)) if number % 2 else b"x" * 50
        with contextlib.suppress(flagstone.ChannelFull):
            channel.put_nowait(item)


def consume(channel, arena):
    while True:
        # Something has to be there to be taken: all producers may be dead.
        with contextlib.suppress(flagstone.ChannelFull):
            channel.put_nowait(arena.put(np.zeros(100)))
        with contextlib.suppress(flagstone.ChannelEmpty):
            channel.get_nowait()


def publish(topic, arena):
    for number in itertools.count():
        item = arena.put(np.full(100, number)) if number % 2 else b"x" * 50
        with contextlib.suppress(flagstone.ChannelFull):  # others are just at all of its nodes
            topic.publish(item)


def subscribe(topic, arena):
    while True:
        with topic.subscribe(slow="drop") as subscription:
            with contextlib.suppress(flagstone.ChannelFull):
                topic.publish(arena.put(np.zeros(100)))
            with contextlib.suppress(flagstone.ChannelEmpty):
                subscription.get(wait=0)


def kill_many(role, *arguments):
    """Kill this many, each at some moment of its work."""
    chance, alive = random.Random(1), []
    try:
        for _ in range(KILLS):
            pid = os.fork()
            if pid == 0:
                try:
                    role(*arguments)
                except BaseException:
                    traceback.print_exc()
                os._exit(1)  # none of them ends by itself
            alive.append(pid)
            if len(alive) == AT_ONCE:
                time.sleep(chance.random() * NAPS)
                kill(alive.pop(0))
    finally:
        while alive:
            kill(alive.pop())


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def settled(arena):
    """All of the dead are buried, and what they held is released."""
    gc.collect()
    for _ in range(3):  # what a batch releases may hold more
        arena.barrier()
    assert len(arena.processes) == 1
    assert arena.check() == []


@pytest.mark.parametrize("role", [produce, consume])
@pytest.mark.parametrize("ack", [False, True])
def test_no_node_of_a_channel_stays_with_the_dead(arena_name, role, ack):
    with flagstone.open(arena_name, capacity="64MiB", create=True) as arena:
        channel = arena.channel(capacity=CAPACITY, ack=ack)
        settled(arena)
        before = arena.used
        kill_many(role, channel, arena)
        settled(arena)
        assert channel.info.taken == 0
        assert channel.info.waiting == channel.qsize()
        empty(channel, ack)
        for number in range(CAPACITY):  # as many as ever
            channel.put_nowait(number)
        with pytest.raises(flagstone.ChannelFull):
            channel.put_nowait(b"one more")
        empty(channel, ack)
        settled(arena)
        assert arena.used == before
        channel.leave()
        support.assert_all_given_back(arena)


def empty(channel, ack):
    with contextlib.suppress(flagstone.ChannelEmpty):
        while True:
            item = channel.get_nowait()
            if ack:
                item.done()


@pytest.mark.parametrize("role", [publish, subscribe])
def test_no_node_or_subscriber_of_a_topic_stays_with_the_dead(arena_name, role):
    with flagstone.open(arena_name, capacity="64MiB", create=True) as arena:
        topic = arena.topic("topic", capacity=CAPACITY)
        kill_many(role, topic, arena)
        settled(arena)
        assert topic.info.subscribers == ()
        with topic.subscribe(slow="block") as subscription:
            for number in range(3 * CAPACITY):
                assert topic.publish(number) == 1
                assert subscription.get() == number
        settled(arena)
        assert topic.info.messages <= CAPACITY
        topic.leave()
        for _ in range(2):
            arena.barrier()
        support.assert_all_given_back(arena)
