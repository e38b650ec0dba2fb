"""Channels between processes: what comes out, who is held up by whom, what a kill leaves."""

import asyncio
import contextlib
import copy
import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import kill, waiting_threads

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def arena():
    with flagstone.open(None, capacity="64MiB") as arena:
        yield arena


# ---- what comes out


@pytest.mark.parametrize(
    "item",
    [
        b"",
        b"small",
        b"x" * 200,
        b"x" * 100_000,
        "text",
        None,
        {"a": [1, 2.5]},
        list(range(10_000)),
        bytearray(b"not bytes"),
    ],
    ids=lambda item: f"{type(item).__name__}-{len(pickle.dumps(item))}",
)
def test_whatever_is_put_comes_out(arena, item):
    channel = arena.channel()
    channel.put(item)
    got = channel.get()
    assert type(got) is type(item)
    assert got == item


def test_an_array_comes_out(arena):
    channel = arena.channel()
    channel.put(np.arange(100_000, dtype="f4"))
    assert np.array_equal(channel.get(), np.arange(100_000, dtype="f4"))


def test_a_block_moves(arena):
    channel = arena.channel()
    block = arena.cache("points", shape=(3,), dtype="f8").alloc()
    block.array[:] = 1, 2, 3
    handle = bytes(block.handle)
    channel.put(block)
    with pytest.raises(flagstone.Closed):
        block.array
    got = channel.get()
    assert bytes(got.handle) == handle
    assert got.array.tolist() == [1, 2, 3]
    assert arena.in_flight() == []


def test_a_block_that_has_no_cache_keeps_dtype_and_shape(arena):
    channel = arena.channel()
    for shape in ((2, 3), (6,), (2, 3)):
        channel.put(arena.put(np.arange(6, dtype="i2").reshape(shape)))
    assert [channel.get().array.shape for _ in range(3)] == [(2, 3), (6,), (2, 3)]


def test_a_block_is_kept(arena):
    channel = arena.channel()
    block = arena.put(np.zeros(4))
    channel.put(block, keep=True)
    got = channel.get()
    got.array[:] = 7
    assert block.array.tolist() == [7, 7, 7, 7]


def test_a_block_that_moved_speaks_of_no_cache_that_an_earlier_one_had(arena):
    earlier = arena.cache("of-the-earlier", size=96).alloc()
    earlier.free()
    del earlier
    block = arena.alloc(100)
    arena.channel().put(block)
    with pytest.raises(flagstone.Closed, match="moved") as refused:
        block.nbytes
    assert "of-the-earlier" not in str(refused.value)


def test_views_of_a_block_that_moved_keep_its_bytes(arena):
    channel = arena.channel()
    block = arena.put(np.zeros(4))
    view = block.array
    channel.put(block)
    with pytest.raises(flagstone.Closed):
        block.array
    got = channel.get()
    got.array[:] = 3
    del got, block
    arena.barrier()
    assert view.tolist() == [3, 3, 3, 3]


def test_a_block_that_could_not_be_put_stays(arena):
    channel = arena.channel(capacity=1)
    channel.put(b"first")
    block = arena.put(np.ones(3))
    with pytest.raises(flagstone.ChannelFull):
        channel.put(block, wait=0)
    with pytest.raises(flagstone.ChannelFull):
        channel.put(block, timeout=0.03)
    assert block.array.tolist() == [1, 1, 1]
    channel.get()
    channel.put(block)


def test_a_block_of_another_arena(arena):
    with flagstone.open(None, capacity="16MiB") as other:
        channel = arena.channel()
        channel.put(other.put(np.arange(3)), keep=True)
        assert channel.get().array.tolist() == [0, 1, 2]


def test_what_cannot_be_pickled_leaves_nothing(arena):
    channel = arena.channel()
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        channel.put(lambda: None)
    assert channel.qsize() == 0
    assert arena.check() == []


# ---- as a queue.Queue


def test_drops_in_for_a_queue(arena):
    channel = arena.channel(capacity=2)
    channel.put_nowait(1)
    channel.put(2, True, 1.0)
    assert channel.full()
    assert channel.qsize() == 2
    with pytest.raises(queue.Full):
        channel.put_nowait(3)
    with pytest.raises(queue.Full, match="2 messages wait"):
        channel.put(3, timeout=0.01)
    assert channel.get() == 1
    assert channel.get(block=False) == 2
    assert channel.empty()
    with pytest.raises(queue.Empty):
        channel.get_nowait()
    with pytest.raises(queue.Empty):
        channel.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        channel.get(wait=0)


def test_many_at_once(arena):
    channel = arena.channel(capacity=10)
    assert channel.put_many(range(10)) == 10
    assert channel.get_many(4) == [0, 1, 2, 3]
    assert channel.get_many(100) == [4, 5, 6, 7, 8, 9]
    assert channel.put_many(range(20), wait=0) == 10
    with pytest.raises(flagstone.ChannelFull):
        channel.put_many([1], wait=0)
    with pytest.raises(ValueError, match="at least one"):
        channel.get_many(0)


def fail_to_load():
    raise LookupError("not here")


class Unloadable:
    def __reduce__(self):
        return fail_to_load, ()


def test_one_of_many_that_cannot_be_loaded(arena):
    """The others come out as by as many calls of get()."""
    channel = arena.channel(capacity=10)
    channel.put_many([0, 1, Unloadable(), 3, Unloadable(), 5])
    assert channel.get_many(6) == [0, 1]
    with pytest.raises(LookupError, match="not here"):
        channel.get_many(6)
    assert channel.get_many(6) == [3]
    with pytest.raises(LookupError, match="not here"):
        channel.get_nowait()
    assert channel.get() == 5
    channel.put(Unloadable())
    with pytest.raises(LookupError, match="not here"):
        channel.get_many(6)
    with pytest.raises(flagstone.ChannelEmpty):
        channel.get_nowait()


@pytest.mark.parametrize(
    "call",
    [
        lambda channel: channel.get(timeout=-1),
        lambda channel: channel.get(timeout=float("nan")),
        lambda channel: channel.get(timeout=1, wait=1),
        lambda channel: channel.put(1, timeout=-1) or channel.put(1, timeout=-1),
    ],
)
def test_senseless_times(arena, call):
    with pytest.raises(ValueError, match=r"seconds|mean the same"):
        call(arena.channel(capacity=1))


def test_a_truth_value_is_no_time(arena):
    """`threading.Lock.acquire(True)` waits for ever, which one second is not."""
    channel, topic, lock = arena.channel(), arena.topic("t"), arena.lock("l")
    with topic.subscribe() as subscription:
        for call in (channel.get, channel.get_many, subscription.get, lock.acquire):
            arguments = (2,) if call == channel.get_many else ()
            with pytest.raises(TypeError, match="number of seconds, not True: leave it away"):
                call(*arguments, wait=True)
            with pytest.raises(TypeError, match="number of seconds, not '1'"):
                call(*arguments, wait="1")
    with pytest.raises(TypeError, match="not False: leave it away"):
        lock.acquire(False)
    assert not lock.locked()


def test_closed_and_drained(arena):
    channel = arena.channel()
    channel.put(1)
    channel.close()
    with pytest.raises(flagstone.ChannelClosed):
        channel.put(2)
    assert channel.get() == 1
    with pytest.raises(EOFError):
        channel.get()


def test_opened_and_refused(arena):
    first = arena.channel("jobs", capacity=5)
    assert arena.channel("jobs", capacity=5) == first
    with pytest.raises(flagstone.ChannelMismatch, match="5 messages"):
        arena.channel("jobs", capacity=6)
    with pytest.raises(flagstone.ChannelMismatch, match="ack=False, lasting=False: open it"):
        arena.channel("jobs", capacity=5, ack=True)
    with pytest.raises(FileExistsError):
        arena.channel("jobs", capacity=5, create=True)
    with pytest.raises(FileNotFoundError):
        arena.channel("others", create=False)
    for arguments in ({"capacity": 0}, {"capacity": -1}, {"inline": 100_000}):
        with pytest.raises(ValueError):
            arena.channel("x", **arguments)
    with pytest.raises(TypeError):
        arena.channel("x", capacity=2.5)
    assert [one.name for one in arena.channels] == ["jobs"]


def test_opened_by_its_name_alone(arena):
    """What is not said is what the channel has, whoever created it."""
    first = arena.channel("jobs", capacity=5, inline=50)
    again = arena.channel("jobs", create=False)
    assert (again, again.capacity, again.inline) == (first, 5, 50)
    assert arena.channel("jobs", capacity=5) == first
    assert arena.channel("jobs", inline=50) == first
    again.put(b"x" * 51)
    assert first.get() == b"x" * 51
    for other in ({"inline": 200}, {"capacity": 1024}, {"ack": True}, {"lasting": True}):
        with pytest.raises(flagstone.ChannelMismatch, match="5 messages of 50 bytes"):
            arena.channel("jobs", **other)
    usual = arena.channel("usual")
    assert (usual.capacity, usual.inline) == (1024, 200)
    assert usual.info.nbytes == arena.channel(capacity=1024, inline=200).info.nbytes


def test_a_delivery_does_not_travel(arena):
    jobs = arena.channel("jobs", ack=True)
    jobs.put(b"job")
    job = jobs.get()
    for travels in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Delivery is one process's"):
            travels(job)
    job.done()


def test_destroyed_and_left(arena):
    channel, other = arena.channel("x"), arena.channel("x")
    channel.put(arena.put(np.zeros(10)))
    channel.destroy()
    for call in (other.get, lambda: other.put(1)):
        with pytest.raises(flagstone.Closed):
            call()
    assert arena.channel("x").qsize() == 0
    left = arena.channel("y")
    left.leave()
    with pytest.raises(flagstone.Closed):
        left.put(1)
    arena.close()
    with pytest.raises(flagstone.Closed):
        other.get()


def test_charged_to_its_group_and_ended_with_it(arena):
    group = arena.group("job", limit="1MiB")
    channel = arena.channel("x", group=group, capacity=64)
    before = group.usage
    assert before >= channel.info.nbytes
    channel.put(b"x" * 100_000)
    assert group.usage > before
    with pytest.raises(flagstone.GroupLimitExceeded):
        channel.put(b"x" * 2_000_000)
    group.destroy()
    arena.barrier()
    with pytest.raises(flagstone.Closed):
        channel.get()


# ---- processes


def sum_up(channel, result):
    total = 0
    for item in iter(channel.get, None):
        total += int(item.array.sum()) if isinstance(item, flagstone.Block) else item
    result.put(total)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_start_methods(arena, method):
    context = multiprocessing.get_context(method)
    channel, result = arena.channel(capacity=4), arena.channel()
    process = context.Process(target=sum_up, args=(channel, result))
    process.start()
    for i in range(50):
        channel.put(arena.put(np.full(1000, i)) if i % 2 else i)
    channel.put(None)
    assert result.get() == sum(i * 1000 if i % 2 else i for i in range(50))
    process.join()
    assert process.exitcode == 0
    assert arena.in_flight() == []


def test_found_by_name_elsewhere(arena):
    channel = arena.channel("by name")

    def child():
        arena.channel("by name").put(os.getpid())

    process = FORK.Process(target=child)
    process.start()
    assert channel.get() == process.pid
    process.join()


def wait_for_ever(channel, started):
    started.put(1)
    channel.get()


def test_a_consumer_killed_while_it_waits(arena):
    channel, started = arena.channel(), arena.channel()
    for _ in range(3):
        process = FORK.Process(target=wait_for_ever, args=(channel, started))
        process.start()
        started.get()
        kill(process)
    channel.put(b"still")
    assert channel.get() == b"still"


def hold(channel, started):
    started.put(channel.get())
    time.sleep(100)


def test_what_a_killed_consumer_held_is_released(arena):
    frames = arena.cache("frames", size=1000)
    channel, started = arena.channel(), arena.channel()
    channel.put(frames.alloc())
    process = FORK.Process(target=hold, args=(channel, started))
    process.start()
    while channel.qsize() or not started.qsize():
        time.sleep(0.001)
    kill(process)
    block = started.get()
    assert block.nbytes == 1000
    del block
    arena.barrier()
    arena.barrier()
    assert frames.stats.allocated == 0
    assert arena.check() == []


def take_jobs(jobs, done):
    for delivery in iter(jobs.get, None):
        with delivery as number:
            if number == 13:
                os.kill(os.getpid(), signal.SIGKILL)
            done.put(number)


def test_jobs_of_a_dead_worker_come_again(arena):
    jobs, done = arena.channel(ack=True), arena.channel()
    for number in (1, 13, 2):
        jobs.put(number)
    process = FORK.Process(target=take_jobs, args=(jobs, done))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    got = set()
    for _ in range(2):  # one that nobody had, and the one that killed its worker
        delivery = jobs.get()
        got.add(delivery.value)
        delivery.done()
        with pytest.raises(flagstone.Closed):
            delivery.done()
    assert got == {13, 2}
    assert done.get() == 1
    assert jobs.qsize() == 0


def test_a_delivery_is_its_process_own(arena):
    jobs = arena.channel(ack=True)
    jobs.put(1)
    delivery = jobs.get()

    def child():
        with pytest.raises(flagstone.Closed):
            delivery.done()

    process = FORK.Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    delivery.done()


def test_a_stopped_consumer_holds_up_nobody(arena):
    channel, started = arena.channel(capacity=2), arena.channel()
    process = FORK.Process(target=wait_for_ever, args=(channel, started))
    process.start()
    started.get()
    os.kill(process.pid, signal.SIGSTOP)
    try:
        for i in range(100):
            channel.put(i)
            assert channel.get() == i
    finally:
        os.kill(process.pid, signal.SIGCONT)
        channel.put(0)
        process.join()


def test_threads_and_signals(arena):
    channel = arena.channel(capacity=3)
    got = []

    def consumer():
        with contextlib.suppress(EOFError):
            while True:
                got.append(channel.get())

    threads = [threading.Thread(target=consumer) for _ in range(4)]
    for thread in threads:
        thread.start()
    channel.put_many(range(2000))
    channel.close()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(2000))


def test_an_interrupt_ends_a_wait(arena):
    channel = arena.channel()
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        channel.get()
    timer.join()


# ---- asyncio and select


def test_a_loop(arena):
    channel = arena.channel(capacity=2)

    def put():
        for number in range(100):
            channel.put(number)
        channel.close()

    thread = threading.Thread(target=put)
    thread.start()
    assert list(channel) == list(range(100))
    thread.join()
    assert list(channel) == []
    with pytest.raises(TypeError):
        5 in channel  # noqa: B015
    jobs = arena.channel(ack=True)
    jobs.put(1)
    jobs.put(2)
    jobs.close()
    done = []
    for delivery in jobs:
        with delivery as job:
            done.append(job)
    assert (done, jobs.info.taken) == ([1, 2], 0)


class EndOfFile:
    def __reduce__(self):
        return _end_of_file, ()


def _end_of_file():
    raise EOFError("not the channel's")


def test_an_error_of_a_message_does_not_end_a_loop(arena):
    channel = arena.channel()
    channel.put(EndOfFile())
    channel.put(1)
    channel.close()
    with pytest.raises(EOFError, match="not the channel's"):
        next(channel)

    async def rest():
        return [item async for item in channel]

    assert asyncio.run(rest()) == [1]
    again = arena.channel()
    again.put(EndOfFile())
    with pytest.raises(EOFError, match="not the channel's"):
        asyncio.run(again.__anext__())


def test_await(arena):
    channel, small = arena.channel(), arena.channel(capacity=1)

    async def main():
        getter = asyncio.create_task(channel.aget())
        await asyncio.sleep(0.02)
        channel.put(b"1")
        assert await getter == b"1"
        with pytest.raises(flagstone.ChannelEmpty):
            await channel.aget(wait=0.02)
        await small.aput(1)
        putter = asyncio.create_task(small.aput(2))
        await asyncio.sleep(0.02)
        assert not putter.done()
        assert small.get() == 1
        await putter
        cancelled = asyncio.create_task(channel.aget())
        await asyncio.sleep(0.02)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        channel.put_many(range(100))
        channel.close()
        assert [item async for item in channel] == list(range(100))

    asyncio.run(main())


def test_await_over_a_fork(arena):
    channel = arena.channel()

    async def main():
        getter = asyncio.create_task(channel.aget())
        await asyncio.sleep(0.02)
        process = FORK.Process(target=channel.put, args=("from the child",))
        process.start()
        assert await getter == "from the child"
        process.join()

    asyncio.run(main())


def test_threads_of_its_own_end(arena):
    channel = arena.channel()

    async def main():
        with pytest.raises(flagstone.ChannelEmpty):
            await channel.aget(wait=0.01)

    asyncio.run(main())
    channel.leave()
    wait_until(lambda: not waiting_threads())


def test_lasting(arena):
    channel = arena.channel("kept", lasting=True)
    channel.put(b"for later")
    channel.put(arena.put(np.arange(3)))
    del channel
    arena.barrier()
    arena.barrier()
    again = arena.channel("kept", lasting=True)
    assert again.get() == b"for later"
    assert again.get().array.tolist() == [0, 1, 2]


def test_the_last_user_ends_it(arena):
    channel = arena.channel("x", capacity=3)
    cache = arena.cache("frames", size=100)
    channel.put(cache.alloc())
    del channel
    arena.barrier()
    arena.barrier()
    arena.barrier()
    assert arena.channels == []
    assert cache.stats.allocated == 0
    assert arena.channel("x", capacity=4).qsize() == 0


def read(name):
    with flagstone.open(name, create=False, readonly=True) as arena:
        block = arena.channel("frames", capacity=4).get()
        assert block.readonly
        assert block.array.tolist() == [0, 1, 2, 3]
        with pytest.raises(flagstone.ReadOnly):
            arena.channel("new")


def test_a_reader_takes(arena_name):
    with flagstone.open(arena_name, capacity="16MiB") as arena:
        channel = arena.channel("frames", capacity=4)
        channel.put(arena.put(np.arange(4)))
        process = multiprocessing.get_context("spawn").Process(target=read, args=(arena.path,))
        process.start()
        process.join()
        assert process.exitcode == 0


@pytest.mark.parametrize("wait", [-1, float("nan"), "1", 1j, [1]])
def test_a_time_that_makes_no_sense_is_refused_also_where_nothing_waits(arena, wait):
    channel, topic, lock = arena.channel(), arena.topic("t"), arena.lock("l")
    channel.put(b"first")
    with topic.subscribe() as subscription:
        topic.publish(b"first")
        for call in (
            lambda: channel.put(b"x", wait=wait),
            lambda: channel.put(b"x", True, wait),
            lambda: channel.put_many([b"x"], wait=wait),
            lambda: channel.get(wait=wait),
            lambda: channel.get_many(2, wait=wait),
            lambda: topic.publish(b"x", wait=wait),
            lambda: subscription.get(wait=wait),
            lambda: lock.acquire(wait=wait),
        ):
            with pytest.raises((ValueError, TypeError)):
                call()
        with pytest.raises(ValueError, match="same"):
            channel.put(b"x", True, 1, wait=1)
        assert channel.qsize() == 1
        assert subscription.get(wait=0) == b"first"
        with pytest.raises(flagstone.ChannelEmpty):
            subscription.get(wait=0)


@pytest.mark.parametrize("kind", ["channel", "topic", "lock"])
def test_the_group_of_one_that_is_there(arena, kind):
    group, other, make = arena.group("one"), arena.group("other"), getattr(arena, kind)
    first = make("thing", group=group)
    assert make("thing") == make("thing", group=group) == first
    with pytest.raises(flagstone.ChannelMismatch, match=rf"{kind} 'thing' .* 'one', not of group"):
        make("thing", group=other)
    first.leave()
