"""Messages that nobody will take: they expire, are dropped by sender, and are bounded."""

import gc
import io
import math
import multiprocessing
import multiprocessing.reduction
import os
import pickle
import threading
import time

import numpy as np
import pytest

import flagstone
from tests.process.support import assert_all_given_back, kept


def send(name, group, expire):
    """Send one and forget it; its message."""
    arena = kept.setdefault("arena", flagstone.open(name, create=False))
    owner = arena.group(group, messages_expire=expire)
    kept.setdefault("groups", []).append(owner)
    return pickle.dumps(arena.put(np.arange(100), group=owner))


def until_nothing_is_in_flight(arena):
    while arena.in_flight():
        time.sleep(0.01)
    arena.barrier()


class TestExpiry:
    def test_a_receiver_learns_that_it_expired(self, arena):
        with arena.group("job", messages_expire=0.02) as job:
            assert job.messages_expire == 0.02
            message = pickle.dumps(arena.put(b"abc", group=job))
            until_nothing_is_in_flight(arena)
            assert arena.used == 0
            with pytest.raises(flagstone.StaleHandle, match="expired"):
                pickle.loads(message)

    def test_of_a_sender_that_was_killed(self, arena, worker):
        with arena.group("job", messages_expire=0.3):
            message = worker(send, arena.name, "job", 0.3)
            worker.kill()
            # Nobody asks for anything, and memory comes back.
            while arena.used:
                time.sleep(0.01)
            with pytest.raises(flagstone.StaleHandle, match="expired"):
                pickle.loads(message)
        assert_all_given_back(arena)

    def test_held_or_taken_it_does_not_matter(self, arena, worker):
        with arena.group("job", messages_expire=0.02) as job:
            block = arena.put(np.arange(10), group=job)
            message = pickle.dumps(block)
            until_nothing_is_in_flight(arena)
            assert pickle.loads(message).array.tolist() == list(range(10))
            del block

    def test_opened_again(self, arena):
        with arena.group("job", messages_expire=5) as job:
            assert arena.group("job").messages_expire == 5
            assert arena.group("below", parent=job).messages_expire == 5
            assert (
                arena.group("never", parent=job, messages_expire=math.inf).messages_expire is None
            )
            for other in (6, math.inf):
                with pytest.raises(flagstone.GroupMismatch, match="messages_expire"):
                    arena.group("job", messages_expire=other)
        assert arena.group("plain").messages_expire is None
        for bad, error in (
            (0, ValueError),
            (-1, ValueError),
            ("5", TypeError),
            (math.nan, ValueError),
        ):
            with pytest.raises(error):
                arena.group("bad", messages_expire=bad)


class TestSenders:
    def test_of_one_and_of_the_dead(self, arena, worker, other_worker):
        for one in (worker, other_worker):
            one(send, arena.name, "job", None)
        mine = pickle.dumps(arena.put(b"mine"))
        senders = {one.pid: one for one in arena.snapshot().senders}
        assert set(senders) == {worker.pid, other_worker.pid, os.getpid()}
        assert all(one.alive and one.messages == 1 for one in senders.values())
        assert senders[worker.pid].bytes == 800
        assert arena.drop_in_flight(sender="dead") == 0
        worker.kill()
        dead = {one.pid: one for one in arena.snapshot().senders}[worker.pid]
        assert not dead.alive
        assert arena.drop_in_flight(older_than=3600, sender="dead") == 0
        assert arena.drop_in_flight(sender="dead") == 1
        assert arena.drop_in_flight(sender=worker.pid) == 0
        assert arena.drop_in_flight(sender=other_worker.pid) == 1
        assert bytes(pickle.loads(mine)) == b"mine"
        assert arena.in_flight() == []

    def test_who_ended_in_order_is_dead_too(self, arena, worker):
        worker(send, arena.name, "job", None)
        worker.end()
        assert arena.drop_in_flight(sender="dead") == 1
        assert_all_given_back(arena)

    def test_no_sender(self, arena):
        for bad in ("alive", "", 0, -5):
            with pytest.raises(ValueError, match="sender"):
                arena.drop_in_flight(sender=bad)
        with pytest.raises(TypeError):
            arena.drop_in_flight(sender=1.5)
        assert arena.drop_in_flight(sender=1 << 40) == 0


class TestWhy:
    def test_taken_before(self, arena):
        message = pickle.dumps(arena.put(b"abc"))
        pickle.loads(message)
        arena.barrier()
        with pytest.raises(flagstone.StaleHandle, match="good for one load"):
            pickle.loads(message)

    def test_several_loads_while_somebody_holds_it(self, arena, worker):
        block = arena.put(b"abc")
        message = pickle.dumps(block)
        for _ in range(3):
            assert bytes(pickle.loads(message)) == b"abc"
            assert worker(bytes, block) == b"abc"

    def test_dropped_and_destroyed(self, arena):
        with arena.group("job") as job:
            dropped = pickle.dumps(arena.put(b"abc", group=job))
            arena.drop_in_flight()
            arena.barrier()
            with pytest.raises(flagstone.StaleHandle, match="drop_in_flight"):
                pickle.loads(dropped)
            destroyed = pickle.dumps(arena.put(b"abc", group=job))
        arena.barrier()
        with pytest.raises(flagstone.StaleHandle, match="destroyed"):
            pickle.loads(destroyed)


def share_for_ever(block):
    while True:
        block._share()


class TestMany:
    @pytest.fixture
    def arena(self, arena_name):
        """Large enough for a million messages of one sender."""
        with flagstone.open(arena_name, capacity="2GiB") as arena:
            yield arena

    def test_one_sender_leaves_room_for_others(self, worker, arena):
        """A million messages in flight: listed at once, bounded, and the error says whose."""
        block = arena.put(b"abc")
        for _ in range(1_000_000):
            block._share()
        with pytest.raises(flagstone.ArenaFull) as full:
            share_for_ever(block)
        sent = len(arena.in_flight())
        assert f"{sent} by pid {os.getpid()} (" in str(full.value)
        del full
        worker(send, arena.name, "job", None)
        found = arena.in_flight()
        assert len(found) == sent + 1
        assert found[0].age >= found[-1].age
        assert {type(one) for one in found} == {flagstone.InFlight}
        senders = arena.snapshot().senders
        assert [one.messages for one in senders] == [sent, 1]
        assert senders[0].bytes == 3 * sent
        del found
        assert arena.drop_in_flight(sender=os.getpid()) == sent
        pickle.dumps(block)
        assert len(arena.in_flight()) == 2
        arena.drop_in_flight()

    def test_what_is_in_flight_is_a_picture_as_ever(self, arena):
        import copy
        import dataclasses

        block = arena.put(b"abc")
        message = pickle.dumps(block)
        (one,) = arena.in_flight()
        assert dataclasses.asdict(one)["nbytes"] == 3
        assert pickle.loads(pickle.dumps(one)) == one
        assert copy.deepcopy(one) == one == dataclasses.replace(one)
        assert hash(one) == hash(dataclasses.replace(one))
        assert one.object == block.handle
        assert (one.pid, one.is_group, one.group) == (os.getpid(), False, "root")
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.pid = 5
        pickle.loads(message)


def send_and_fail(block, stream):
    pickler = pickle.Pickler(stream)
    pickler.dump(block)
    raise KeyError(pickle.dumps(block))


class Sender:
    """Its pickler goes with it."""

    def __init__(self, stream):
        self.pickler = pickle.Pickler(stream)

    def send(self, value):
        self.pickler.dump(value)
        return self

    def fail(self):
        raise KeyError("not because of the pickle")


class TestPicklesThatRaise:
    """What a pickle had shared before it failed is taken back: nobody has that pickle."""

    def test_nothing_stays_in_flight(self, arena):
        cache = arena.cache("point", shape=3, dtype="f4")
        with arena.group("job") as job:
            bound = cache.bind(job)
            channel = arena.channel("c", capacity=4)
            topic = arena.topic("t", capacity=4)
            one, part = arena.put(np.arange(5)), arena.put(b"x")[:1]
            for shared in (one, part, cache.alloc(), job, bound, channel, topic):
                for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
                    for bad in (threading.Lock(), lambda: 0):
                        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
                            pickle.dumps([shared, {"deep": shared}, bad], protocol)
                        assert arena.in_flight() == []
            del shared, bound, one, part
            channel.leave()
            topic.leave()
            del channel, topic
        assert_all_given_back(arena)

    def test_by_every_way_to_send(self, arena):
        block = arena.put(np.arange(5))
        ours, theirs = multiprocessing.Pipe()
        with ours, theirs:
            for send in (ours.send, multiprocessing.reduction.ForkingPickler.dumps):
                with pytest.raises(TypeError):
                    send((block, threading.Lock()))
                assert arena.in_flight() == []
        stream = io.BytesIO()
        with pytest.raises(TypeError):
            pickle.Pickler(stream).dump((block, threading.Lock()))
        assert arena.in_flight() == []

    def test_in_the_thread_that_feeds_a_queue(self, arena, capfd):
        queue = multiprocessing.Queue()
        block = arena.put(np.arange(5))
        queue.put((block, threading.Lock()))
        queue.put(block)
        assert queue.get(timeout=60).array.tolist() == list(range(5))
        assert arena.in_flight() == []
        queue.close()
        queue.join_thread()
        assert "cannot pickle" in capfd.readouterr().err

    def test_what_succeeded_is_not_taken_back(self, arena):
        block = arena.put(np.arange(5))
        stream = io.BytesIO()
        with pytest.raises(KeyError) as error:
            send_and_fail(block, stream)
        message = error.value.args[0]
        del error
        gc.collect()
        assert len(arena.in_flight()) == 2
        expected = block.array.tolist()
        del block
        assert pickle.loads(message).array.tolist() == expected
        assert pickle.loads(stream.getvalue()).array.tolist() == expected
        assert arena.in_flight() == []

    def test_a_pickler_that_ends_while_something_else_fails(self, arena):
        """What it wrote may have been read, or be on its way."""
        block = arena.put(np.arange(5))
        stream = io.BytesIO()
        ways = (
            lambda: Sender(stream).send(block).fail(),
            lambda: [Sender(stream).send(block), Sender(stream).send([block]).fail()],
            lambda: len((Sender(stream).send(block), 1 // 0)),
            lambda: next(one for one in [Sender(stream).send(block)] if one.fail()),
        )
        for way in ways:
            arena.drop_in_flight()
            stream.seek(0)
            stream.truncate()
            with pytest.raises((KeyError, ZeroDivisionError)) as error:
                way()
            del error
            gc.collect()
            sent = len(arena.in_flight())
            assert sent > 0
            stream.seek(0)
            for left in reversed(range(sent)):
                pickle.load(stream)
                assert len(arena.in_flight()) == left

    def test_made_by_hand(self, arena):
        """Who calls __reduce__ may have sent what it returned."""
        block = arena.put(np.arange(5))
        with pytest.raises(ZeroDivisionError):
            len((block.__reduce__(), 1 // 0))
        assert len(arena.in_flight()) == 1
        arena.drop_in_flight()

    @pytest.mark.parametrize("released", [False, True])
    def test_what_cannot_be_loaded_is_not_sent(self, arena, released):
        cache = arena.cache("point", shape=3, dtype="f4", init=np.zeros(3, "f4"))
        with arena.group("job") as job:
            bound = cache.bind(job), cache.bind()
            keeps = None if released else arena.group("keeps")
            cache.destroy()
            if released:
                arena.barrier()
            for one in bound:
                with pytest.raises(flagstone.Closed, match=r"cache.*(destroyed|gone)"):
                    pickle.dumps(one)
            assert arena.in_flight() == []
            del keeps

    def test_a_cache_that_ends_on_the_way(self, arena):
        """The group's reference that came with it is taken all the same."""
        cache = arena.cache("point", shape=3, dtype="f4", merge=False)
        cache.alloc()
        with arena.group("job") as job:
            message = pickle.dumps(arena.caches[0].bind(job))
            cache.destroy()
            with pytest.raises(flagstone.Closed, match="destroyed"):
                pickle.loads(message)
            assert arena.in_flight() == []
