"""A ticket is done when the memory is: no handle holds it up, and where something does, the error
says who."""

import os
import pickle
import threading

import pytest

import flagstone
from tests.process.support import (
    PATIENCE,
    assert_all_given_back,
    attach,
    begin_reading,
    end_reading,
    forked,
    kept,
)


def have_open(name):
    """Every kind of handle to a group below "job", in another process."""
    attach(name)
    arena = kept["arena"]
    job = arena.group("job")
    part = arena.group("part", parent=job)
    kept["handles"] = [job, part, arena.cache("typed", size=3000).bind(part), part.parent]
    arena.alloc(1000, group=part)
    arena.cache("typed", size=3000).bind(part).alloc()


def states():
    return {one.state for one in kept["handles"] if isinstance(one, flagstone.Group)}


def hold(name, nbytes, *path):
    """An object of that size, of a group below the root."""
    attach(name)
    group = None
    for one in path:
        kept[one] = group = kept["arena"].group(one, parent=group)
    kept["block"] = kept["arena"].alloc(nbytes, group=group)


def pickle_it():
    return pickle.dumps(kept["block"])


def let_go():
    kept.pop("block")


def have_named(name):
    """What is found by name, of the group "job", in another process."""
    attach(name)
    job = kept["job"] = kept["arena"].group("job")  # else it ends by itself
    kept["named"] = [getattr(kept["arena"], kind)("x", group=job) for kind in NAMED]


def uses(named, reader):
    """What each call of these raises."""
    channel, topic, lock = named
    calls = [
        lambda: channel.put(b"1"),
        channel.get_nowait,
        channel.close,
        lambda: pickle.dumps(channel),
        lambda: topic.publish(b"1"),
        topic.latest,
        topic.subscribe if reader is None else lambda: reader.lost,
        topic.close if reader is None else lambda: reader.get(wait=0),
        lambda: lock.acquire(wait=0),
    ]
    raised = []
    for call in calls:
        try:
            raised.append(repr(call()))
        except flagstone.FlagstoneError as error:
            raised.append(type(error).__name__)
    return raised


def used():
    return uses(kept["named"], None)


def leave_named():
    for one in kept.pop("named"):
        one.leave()


def put_and_count(channel):
    channel.put(b"1")
    channel.qsize()


NAMED = ("channel", "topic", "lock")


class TestHandles:
    def test_here(self, arena):
        job = arena.group("job")
        part = arena.group("part", parent=job)
        again = arena.group("part", parent=job)
        bound = arena.cache("typed", size=3000).bind(part)
        bound.alloc()
        arena.alloc(1000, group=part)
        assert job.destroy().wait(PATIENCE)
        assert part.state == again.state == "destroyed"
        with pytest.raises(flagstone.Closed):
            bound.alloc()
        with pytest.raises(flagstone.Closed):
            arena.alloc(10, group=again)
        part.close()
        arena.cache("typed", size=3000).destroy().wait(PATIENCE)
        assert_all_given_back(arena)

    def test_in_another_process(self, arena, worker):
        worker(have_open, arena.name)
        assert arena.group("job").destroy().wait(PATIENCE)
        assert worker(states) == {"destroyed"}
        arena.cache("typed", size=3000).destroy().wait(PATIENCE)
        # Groups of the same names, which may have the same descriptors, are others.
        job = arena.group("job")
        part = arena.group("part", parent=job)
        block = arena.alloc(1000, group=part)
        assert worker(states) == {"destroyed"}
        worker.end()
        arena.barrier(PATIENCE)
        assert part.state == "live"
        assert block.group == part
        del block
        job.destroy().wait(PATIENCE)
        assert_all_given_back(arena)

    def test_in_a_killed_process(self, arena, worker):
        worker(have_open, arena.name)
        arena.group("job").destroy().wait(PATIENCE)
        worker.kill()
        arena.barrier(PATIENCE)
        arena.barrier(PATIENCE)
        (burial,) = arena.snapshot().burials
        assert (burial.objects, burial.groups) == (0, 0)

    def test_in_a_forked_child(self, arena):
        job = arena.group("job")
        part = arena.group("part", parent=job)
        ours, theirs = os.pipe()

        def child():
            os.read(ours, 1)
            assert part.state == "destroyed"

        with forked(child):
            assert job.destroy().wait(PATIENCE)
            os.write(theirs, b".")
        os.close(ours)
        os.close(theirs)
        assert part.state == "destroyed"

    def test_in_pickles(self, arena):
        job = arena.group("job")
        part = arena.group("part", parent=job)
        messages = [pickle.dumps(job), pickle.dumps(part), pickle.dumps(part)]
        again = pickle.loads(messages[1])
        assert job.destroy().wait(PATIENCE)
        assert again.state == "destroyed"
        assert arena.in_flight() == []
        for message in messages:
            with pytest.raises((flagstone.Closed, flagstone.StaleHandle)):
                pickle.loads(message)

    def test_what_is_found_by_name(self, arena, worker):
        """A channel, topic or lock that somebody has open, and thinks of no more, holds nothing."""
        worker(have_named, arena.name)
        job = arena.group("job")
        here = [getattr(arena, kind)("x", group=job) for kind in NAMED]
        reader = here[1].subscribe()
        assert here[2].acquire()
        assert job.destroy().wait(PATIENCE)
        assert worker(used) == ["Closed"] * 9
        assert uses(here, reader) == ["Closed"] * 9
        here[2].release()
        assert not here[2].locked()
        assert here[0].qsize() == 0
        here[0].destroy()
        # What has come to lie in that memory is nobody's but its own.
        blocks = [arena.alloc(1000) for _ in range(100)]
        for block in blocks:
            block.array[:] = 1
        reader.close()
        del here, reader
        worker(leave_named)
        assert all((block.array == 1).all() for block in blocks)
        del blocks, block
        assert_all_given_back(arena)

    def test_while_calls_are_in_them(self, arena):
        """Each call ends by `Closed`, and the ticket with the last of them."""
        for _ in range(20):
            job = arena.group("job")
            channel, topic, lock = (getattr(arena, kind)("x", group=job) for kind in NAMED)
            reader = topic.subscribe()
            assert lock.acquire()
            calls = [channel.get, reader.get, lock.acquire, lambda c=channel: put_and_count(c)]
            ended = []

            def call(one, ended=ended):
                while True:
                    try:
                        one()
                    except flagstone.Closed:
                        break
                ended.append(one)

            threads = [threading.Thread(target=call, args=(one,)) for one in calls]
            for thread in threads:
                thread.start()
            assert job.destroy().wait(PATIENCE)
            for thread in threads:
                thread.join(PATIENCE)
            assert len(ended) == len(calls)
        arena.check()

    def test_of_caches(self, arena):
        cache = arena.cache("typed", size=3000, merge=False)
        with arena.group("job") as job:
            bound = cache.bind(job)
            bound.alloc()
            assert cache.destroy().wait(PATIENCE)
            with pytest.raises(flagstone.Closed):
                bound.alloc()

    def test_while_others_open_it(self, arena):
        """Who comes to a group while it ends leaves nothing behind."""
        stop = threading.Event()

        def open_and_look():
            while not stop.is_set():
                group = arena.group("job")
                assert group.name == "job"

        threads = [threading.Thread(target=open_and_look) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(200):
                group = arena.group("job")
                try:
                    arena.alloc(1000, group=group)
                    ticket = group.destroy()
                except flagstone.Closed:  # the last one of its name
                    continue
                assert ticket.wait(PATIENCE)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class TestMessages:
    """What is on its way keeps no ticket."""

    def test_of_a_group(self, arena, worker):
        group = arena.group("job")
        channel = arena.channel("c", capacity=4)
        worker(hold, arena.name, 5000, "job")
        message = pickle.dumps(arena.alloc(5000, group=group))
        handle = pickle.dumps(group)
        channel.put(arena.alloc(5000, group=group))
        ticket = group.destroy()
        later = worker(pickle_it)
        arena.barrier()
        assert not ticket.done
        assert arena.in_flight() == []
        worker(let_go)
        assert ticket.wait(PATIENCE)
        for one in (message, handle, later):
            with pytest.raises((flagstone.StaleHandle, flagstone.Closed)):
                pickle.loads(one)
        with pytest.raises(flagstone.ChannelEmpty):
            channel.get_nowait()

    def test_of_a_cache(self, arena):
        cache = arena.cache("typed", size=3000, merge=False)
        channel = arena.channel("c", capacity=4)
        message = pickle.dumps(cache.alloc())
        with pytest.raises(flagstone.CacheBusy, match="1 in flight"):
            cache.destroy()
        channel.put(pickle.loads(message))
        with pytest.raises(flagstone.CacheBusy, match="1 in flight"):
            cache.destroy()
        channel.get()
        assert cache.destroy().wait(PATIENCE)


class TestTimeouts:
    def test_name_a_process(self, arena, worker):
        worker(hold, arena.name, 70_000, "job", "part")
        ticket = arena.group("job").destroy()
        with pytest.raises(TimeoutError, match=rf"kept by process {worker.pid} .*'part'") as caught:
            ticket.wait(0.2)
        (keeper,) = caught.value.keepers
        assert (keeper.pid, keeper.bytes, keeper.references) == (worker.pid, 70_000, 1)
        assert keeper.group == "part"
        assert "68.4 KiB in 1 reference" in str(caught.value)
        worker(let_go)
        assert ticket.wait(PATIENCE)

    def test_name_this_process_and_views(self, arena):
        group = arena.group("job")
        view = arena.alloc(5000, group=group).array
        other = arena.alloc(5000, group=arena.group("other"))
        ticket = group.destroy()
        with pytest.raises(TimeoutError, match=rf"process {os.getpid()} ") as caught:
            ticket.wait(0.1)
        assert [one.bytes for one in caught.value.keepers] == [5000], "nothing of other groups"
        del view, other
        assert ticket.wait(PATIENCE)

    def test_name_the_reader(self, arena, worker):
        worker(attach, arena.name)
        worker(begin_reading)
        group = arena.group("job")
        arena.alloc(5000, group=group)
        ticket = group.destroy()
        with pytest.raises(TimeoutError, match=rf"section of process {worker.pid} "):
            ticket.wait(0.5)
        worker(end_reading)
        assert ticket.wait(PATIENCE)

    def test_can_be_pickled(self, arena):
        group = arena.group("job")
        block = arena.alloc(5000, group=group)
        ticket = group.destroy()
        with pytest.raises(TimeoutError) as caught:
            ticket.wait(0)
        again = pickle.loads(pickle.dumps(caught.value))
        assert str(again) == str(caught.value)
        assert again.keepers == caught.value.keepers
        del block
        assert ticket.wait(PATIENCE)
