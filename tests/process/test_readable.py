"""The descriptors of channels and subscriptions, for `select` and its like."""

import contextlib
import os
import select
import threading

import pytest

import flagstone
from tests.process.support import forked


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


def number_of_pipes():
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            count += os.readlink(f"/proc/self/fd/{number}").startswith("pipe:")
    return count


def test_select_in_a_child(arena):
    """The number stays good in a child, which has a descriptor of its own: what either does with
    it does not show in the other.
    """
    channel = arena.channel()
    number = channel.fileno()
    pipes = number_of_pipes()

    def child():
        assert number_of_pipes() == pipes
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
    with forked(child):
        pass
    os.close(lower)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    assert poll.poll(60_000)
    assert channel.get_nowait() == b"x"


def test_what_was_left_has_no_descriptor(arena):
    before = len(os.listdir("/proc/self/fd"))
    channel, topic = arena.channel(), arena.topic("t")
    subscription = topic.subscribe()
    channel.leave()
    subscription.close()
    for one in (channel, subscription):
        with pytest.raises(flagstone.Closed):
            one.fileno()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fork_waits_for_all_at_once(arena, monkeypatch):
    """Their threads are asked to end before any is waited for."""
    channels = [arena.channel() for _ in range(3)]
    threads = [channel._watch(True) for channel in channels if channel.fileno() >= 0]
    asked = []
    join = threading.Thread.join

    def joined(thread, timeout=None):
        if thread.name.startswith("flagstone channel"):
            asked.append([one._stop for one in threads])
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", joined)
    with forked(lambda: None):
        pass
    assert asked
    assert all(map(all, asked))
