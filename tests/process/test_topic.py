"""Topics between processes: who sees what, who is held up by whom, what a kill leaves."""

import asyncio
import math
import os
import pickle
import select
import signal
import threading

import numpy as np
import pytest

import flagstone
from tests.process.support import Worker, forked, kept


@pytest.fixture
def arena(shm_folder):
    with flagstone.open(f"{shm_folder}/topics", capacity="64MiB") as arena:
        yield arena


def all_of(subscription):
    found = []
    while True:
        try:
            found.append(subscription.get(wait=0))
        except flagstone.ChannelEmpty:
            return found


ITEMS = [b"", b"small", b"x" * 100_000, "text", None, {"a": [1, 2.5]}, list(range(10_000))]


def test_everybody_sees_everything(arena):
    topic = arena.topic("all", capacity=16)
    with topic.subscribe() as one, topic.subscribe(slow="drop") as other:
        for item in ITEMS:
            assert topic.publish(item) == 2
        assert all_of(one) == ITEMS
        assert all_of(other) == ITEMS
        assert one.lost == other.lost == 0
        assert topic.latest() == one.latest() == ITEMS[-1]
    assert topic.publish(b"to nobody") == 0


def test_a_block_lies_there_until_others_take_its_place(arena):
    frames = arena.cache("frame", shape=(4, 5), dtype="i4")
    topic = arena.topic("frames", capacity=2)
    with topic.subscribe() as one, topic.subscribe() as other:
        frame = frames.alloc()
        frame.array[:] = 7
        topic.publish(frame)
        frame.array[0, 0] = 8  # it stays the publisher's, too
        got, same = one.get(), other.get()
        assert got.handle == same.handle == frame.handle
        assert np.array_equal(got.array, frame.array)
        del frame, got
        arena.barrier()
        assert same.array[0, 0] == 8
        del same
        arena.barrier()
        assert topic.latest().array[3, 4] == 7
        assert frames.stats.allocated == 1
        for _ in range(2):
            topic.publish(b"")
        assert all_of(one) == [b"", b""]
        arena.barrier()
        arena.barrier()
        assert frames.stats.allocated == 0


def test_each_has_a_policy_of_its_own(arena):
    topic = arena.topic(capacity=4)
    drops = topic.subscribe(slow="drop")
    ends = topic.subscribe(slow="disconnect")
    newest = topic.subscribe(latest=True)
    for number in range(6):
        topic.publish(number)
    assert topic.publish(6) == 2
    assert all_of(drops) == [3, 4, 5, 6]
    assert drops.lost == 3
    for _ in range(2):
        with pytest.raises(flagstone.Disconnected, match="more than 4 messages"):
            ends.get()
    assert all_of(newest) == [6]
    blocks = topic.subscribe(history=2)
    assert blocks.get() == 5
    for number in range(7, 10):
        topic.publish(number)
    with pytest.raises(flagstone.ChannelFull, match=f"process {os.getpid()} .*, 4 behind"):
        topic.publish(10)
    with pytest.raises(flagstone.ChannelFull):
        topic.publish(10, wait=0.02)
    info = {one.slow: one for one in topic.info.subscribers}
    assert info["block"].holds
    assert info["drop"].lost == 3
    assert info["drop"].lag == 3
    blocks.close()
    assert topic.publish(10) == 2
    with pytest.raises(flagstone.Closed):
        blocks.get()


def test_history(arena):
    topic = arena.topic("past", capacity=4, history=2)
    assert all_of(topic.subscribe()) == []
    for number in range(6):
        topic.publish(number)
    assert all_of(topic.subscribe()) == [4, 5]
    assert all_of(topic.subscribe(history=3)) == [3, 4, 5]
    assert all_of(topic.subscribe(history=0)) == []
    for bad in (4, -1):
        with pytest.raises(ValueError, match="from 0 to 3"):
            topic.subscribe(history=bad)
    with pytest.raises(ValueError, match="slow"):
        topic.subscribe(slow="forget")


def subscribe(path, name, slow):
    arena = flagstone.open(path, create=False)
    kept["topic"] = arena.topic(name, capacity=4)
    kept["one"] = kept["topic"].subscribe(slow=slow)


def read_all():
    return all_of(kept["one"])


@pytest.mark.parametrize("slow", ["block", "drop", "disconnect"])
def test_a_stopped_one_harms_only_itself(arena, slow):
    topic = arena.topic("stopped", capacity=4)
    with Worker("spawn") as worker, topic.subscribe() as mine:
        worker(subscribe, arena.path, "stopped", slow)
        worker.signal(signal.SIGSTOP)
        for number in range(4):
            topic.publish(number)
        if slow == "block":
            with pytest.raises(flagstone.ChannelFull, match=f"process {worker.pid} "):
                topic.publish(4)
            worker.kill()
        assert all_of(mine) == [0, 1, 2, 3]
        for number in range(4, 40):
            topic.publish(number)  # dead is not in the way, stopped only who blocks
            assert mine.get() == number
        if slow == "block":
            return
        worker.signal(signal.SIGCONT)
        if slow == "drop":
            assert worker(read_all) == [36, 37, 38, 39]
        else:
            with pytest.raises(flagstone.Disconnected):
                worker(read_all)


def test_a_waiting_publisher_goes_on(arena):
    topic = arena.topic(capacity=2)
    one = topic.subscribe()
    topic.publish(0)
    topic.publish(1)
    thread = threading.Thread(target=lambda: topic.publish(2, wait=math.inf))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert one.get() == 0
    thread.join()
    assert all_of(one) == [1, 2]


def test_a_waiting_subscription_is_woken_and_closed(arena):
    topic = arena.topic()
    found = []

    def wait():
        with topic.subscribe() as one:
            ready.wait()
            found.extend((one.get(), one.get()))
            with pytest.raises(flagstone.ChannelClosed):
                one.get()

    ready = threading.Barrier(4)
    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait()
    topic.publish(1)
    topic.publish(2)
    topic.close()
    for thread in threads:
        thread.join()
    assert sorted(found) == [1, 1, 1, 2, 2, 2]
    with pytest.raises(flagstone.ChannelClosed):
        topic.publish(3)


def test_processes_subscribe_for_themselves(arena):
    topic = arena.topic("fork", capacity=4)
    one = topic.subscribe()

    def child():
        with pytest.raises(flagstone.Closed, match="another process"):
            one.get(wait=0)
        one.close()
        with topic.subscribe(history=1) as own:
            assert own.get() == "before"

    topic.publish("before")
    with forked(child):
        pass
    assert all_of(one) == ["before"]
    with pytest.raises(TypeError, match="subscribe there"):
        pickle.dumps(one)
    copy = pickle.loads(pickle.dumps(topic))
    assert copy == topic
    copy.publish("after")
    assert all_of(one) == ["after"]


def test_coroutines_and_select(arena):
    topic = arena.topic()

    async def read(subscription):
        return [item async for item in subscription]

    async def main():
        with topic.subscribe() as one, topic.subscribe() as other:
            readers = [asyncio.create_task(read(one)), asyncio.create_task(read(other))]
            for number in range(20):
                await asyncio.sleep(0)
                topic.publish(number)
            topic.close()
            return await asyncio.gather(*readers)

    assert asyncio.run(main()) == [list(range(20))] * 2
    topic = arena.topic()
    with topic.subscribe() as one:
        assert not select.select([one], [], [], 0)[0]
        topic.publish(b"now")
        assert select.select([one], [], [], 60)[0]
        assert all_of(one) == [b"now"]


def test_names_and_mismatch(arena):
    topic, channel = arena.topic("same", capacity=5), arena.channel("same")
    with pytest.raises(flagstone.ChannelMismatch, match=r"topic 'same' of arena .* 5 messages"):
        arena.topic("same", capacity=6)
    assert arena.topic("same", capacity=5) == topic
    assert arena.topic("same", history=4).capacity == 5
    with pytest.raises(ValueError, match="history must be from 0 to 4, not 5"):
        arena.topic("same", history=5)
    assert arena.topic("usual", history=63).capacity == 64
    large = arena.topic("large", capacity=100)
    assert arena.topic("large", history=99).capacity == large.capacity
    assert "same" in [info.name for info in arena.topics]
    assert [info.capacity for info in arena.channels] == [channel.capacity]
    topic.destroy()
    with pytest.raises(flagstone.Closed):
        topic.publish(b"")


def test_more_history_than_a_new_one_has(arena):
    """It is refused before anything is made."""
    for name, create in (None, None), ("new", None), ("new", True):
        with pytest.raises(ValueError, match="history must be from 0 to 63, not 64"):
            arena.topic(name, history=64, lasting=True, create=create)
    assert arena.topics == []
    with pytest.raises(FileNotFoundError):
        arena.topic("new", history=64, create=False)


def test_a_loop(arena):
    topic = arena.topic("numbers")
    with topic.subscribe() as subscription:
        for number in range(3):
            topic.publish(number)
        topic.close()
        assert list(subscription) == [0, 1, 2]
        with pytest.raises(TypeError):
            5 in subscription  # noqa: B015


def test_what_a_subscription_says_of_itself(arena):
    topic = arena.topic("news", capacity=2)
    subscription = topic.subscribe(slow="drop")
    assert repr(subscription) == "<Subscription to topic 'news', 0 messages lost>"
    for _ in range(3):
        topic.publish(b"x")
    assert subscription.get() == b"x"
    assert repr(subscription) == "<Subscription to topic 'news', 1 message lost>"
    subscription.close()
    assert repr(subscription) == "<Subscription to topic 'news', closed>"
    topic.close()
    with pytest.raises(flagstone.ChannelClosed, match=r"^topic 'news' of arena"):
        topic.publish(b"x")


def publish_for_ever(path):
    topic = flagstone.open(path, create=False).topic("killed", capacity=4)
    number = 0
    while True:
        topic.publish(("x" * 1000, number), wait=math.inf)
        number += 1


def read_for_ever(path, slow):
    topic = flagstone.open(path, create=False).topic("killed", capacity=4)
    with topic.subscribe(slow=slow) as one:
        while True:
            assert one.get()[0] == "x" * 1000


def test_kills_leave_nothing(arena):
    """Publishers and subscribers of each kind are killed while all go on."""
    topic = arena.topic("killed", capacity=4)
    with topic.subscribe(slow="drop") as mine:
        for number in range(12):
            workers = [Worker("spawn" if number == 0 else "forkserver") for _ in range(3)]
            workers[0].send(publish_for_ever, arena.path)
            workers[1].send(read_for_ever, arena.path, "block")
            workers[2].send(read_for_ever, arena.path, ("drop", "disconnect")[number % 2])
            for _ in range(20):
                assert mine.get(wait=60)[0] == "x" * 1000
            for worker in workers[number % 3 :] + workers[: number % 3]:
                worker.kill()
        all_of(mine)
        arena.barrier()
        assert len(topic.info.subscribers) == 1
        for number in range(20):
            topic.publish(number)
        assert all_of(mine) == [16, 17, 18, 19]
        arena.barrier()
        arena.barrier()
        assert arena.check() == []
        assert arena.in_flight() == []
        assert arena.channels == []
