"""A ticket is done when the memory is: no handle holds it up, and where something does, the error
says who."""

import os
import pickle
import threading

import pytest

import flagstone
from tests.process.support import PATIENCE, assert_all_given_back, forked, kept


@pytest.fixture
def arena(worker, arena_name):
    with flagstone.open(arena_name, capacity="64MiB") as arena:
        yield arena


def attach(name):
    kept["arena"] = flagstone.open(name, create=False)


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


def enter():
    kept["section"] = kept["arena"].read()
    kept["section"].__enter__()


def leave():
    kept.pop("section").__exit__(None, None, None)


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
        assert "68.4 KiB in 1 references" in str(caught.value)
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
        worker(enter)
        group = arena.group("job")
        arena.alloc(5000, group=group)
        ticket = group.destroy()
        with pytest.raises(TimeoutError, match=rf"section of process {worker.pid} "):
            ticket.wait(0.5)
        worker(leave)
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
