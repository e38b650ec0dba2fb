"""What one hears of the dead, and of those whom memory waits for: snapshot, info, log."""

import concurrent.futures
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import (
    PATIENCE,
    assert_all_given_back,
    attach,
    begin_reading,
    end_reading,
    kept,
)


@pytest.fixture
def log(caplog):
    """The messages of the logger so far."""
    with caplog.at_level(logging.WARNING, "flagstone"):
        yield lambda: [one.getMessage() for one in caplog.records if one.name == "flagstone"]


def hold(count):
    arena = kept["arena"]
    kept["blocks"] = [arena.alloc(1000) for _ in range(count)]
    kept["group"] = arena.group("its own")


def messages_while_looking(name):
    """What this process logs when it next looks at the arena."""
    heard = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("flagstone")
    logger.addHandler(handler)
    try:
        assert kept["arena"].name == name
        assert kept["arena"].processes
    finally:
        logger.removeHandler(handler)
    return heard


def flagstone_info(arena, *arguments):
    command = [sys.executable, "-m", "flagstone", "info", arena.name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def stopped(worker):
    worker.signal(signal.SIGSTOP)
    wait_until(lambda: "(stopped)" in status_of(worker.pid))


def status_of(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(line for line in file if line.startswith("State:"))


class TestDeaths:
    def test_all_say_whose_it_was(self, arena, worker, other_worker, log):
        worker(attach, arena.name)
        other_worker(attach, arena.name)
        worker(hold, 5)
        assert arena.snapshot().burials == ()
        assert "died without leaving: nobody" in flagstone_info(arena)
        pid = worker.pid
        worker.kill()
        arena.barrier(PATIENCE)
        arena.barrier(PATIENCE)
        (burial,) = arena.snapshot().burials
        assert (burial.number, burial.pid, burial.objects, burial.groups) == (1, pid, 5, 1)
        assert burial.bytes >= 5 * 1000
        assert burial.command.startswith("python") or burial.command
        assert burial.finished >= burial.noticed > 0
        (told,) = json.loads(flagstone_info(arena, "--json"))["burials"]
        assert (told["pid"], told["objects"], told["groups"]) == (pid, 5, 1)
        assert str(pid) in flagstone_info(arena)
        (message,) = log()
        assert f"process {pid} " in message
        assert "5 objects" in message
        assert "1 group" in message
        # Once for each process; also in one that did not bury it.
        arena.barrier(PATIENCE)
        assert len(log()) == 1
        (heard,) = other_worker(messages_while_looking, arena.name)
        assert heard == message
        assert other_worker(messages_while_looking, arena.name) == []

    def test_not_of_those_before(self, arena, worker, other_worker):
        worker(attach, arena.name)
        worker.kill()
        arena.barrier(PATIENCE)
        assert arena.snapshot().deaths == 1
        other_worker(attach, arena.name)
        assert other_worker(messages_while_looking, arena.name) == []

    def test_nothing_of_those_who_left(self, arena, worker, other_worker, log):
        worker(attach, arena.name)
        worker(hold, 3)
        worker.end()
        arena.barrier(PATIENCE)
        arena.barrier(PATIENCE)
        assert arena.snapshot().burials == ()
        assert log() == []
        assert_all_given_back(arena)


class TestWaiting:
    def drop_something(self, arena):
        """What needs a batch with a grace period."""
        arena.cache("gone", size=100, merge=False).alloc()
        arena.cache("gone", size=100, merge=False).destroy()
        with arena.group("gone") as group:
            arena.alloc(1000, group=group)
        arena.group("gone").destroy()

    def test_behind_a_stopped_reader(self, arena, worker, log):
        worker(attach, arena.name)
        worker(begin_reading)
        stopped(worker)
        with arena.group("full") as group:
            block = arena.alloc(1000, group=group)
            group.destroy()
        del block
        with pytest.raises(TimeoutError, match=str(worker.pid)):
            arena.barrier(3.0)
        messages = [one for one in log() if "read-side section" in one]
        assert messages
        assert all(f"process {worker.pid} thread {worker.pid}" in one for one in messages)
        assert len(messages) < 3, "the same is not told again and again"
        assert arena.snapshot().stalled[:2] == (worker.pid, worker.pid)
        worker.signal(signal.SIGCONT)
        worker(end_reading)
        arena.barrier(PATIENCE)
        assert arena.snapshot().stalled is None

    def test_for_a_stopped_reaper(self, arena, worker, other_worker, log):
        """Everybody can see who it is, everything but reclaiming goes on, and one batch clears the
        backlog.
        """
        worker(attach, arena.name)
        other_worker(attach, arena.name)
        cache = arena.cache("thing", size=2000)
        used = arena.used
        other_worker(begin_reading)
        self.drop_something(arena)
        worker.send(wait_for_a_batch)

        def is_stopped_in_its_batch():
            batch = arena.snapshot().batch
            if batch is None or batch[0] != worker.pid:
                return False
            stopped(worker)
            batch = arena.snapshot().batch
            if batch is not None and batch[0] == worker.pid:
                return True
            worker.signal(signal.SIGCONT)
            return False

        wait_until(is_stopped_in_its_batch, PATIENCE)
        other_worker(end_reading)
        with pytest.raises(TimeoutError):
            arena.barrier(2.5)
        (message,) = (one for one in log() if "batch" in one)
        assert f"process {worker.pid} " in message
        pid, seconds = arena.snapshot().batch
        assert pid == worker.pid
        assert seconds > 1
        assert str(worker.pid) in flagstone_info(arena).partition("processes")[0]
        assert json.loads(flagstone_info(arena, "--json"))["batch"][0] == worker.pid
        # Who does not want memory back does not notice.
        for number in range(20):
            blocks = [cache.alloc() for _ in range(50)]
            assert arena.get(blocks[0].handle).handle == blocks[0].handle
            with arena.group(f"job-{number}") as group:
                cache.alloc(group)
                group.destroy()
            arena.cache(f"cache-{number}", size=64, merge=False).destroy()
            other_worker(attach, arena.name)
            del blocks
        arena.synchronize(PATIENCE)
        worker.signal(signal.SIGCONT)
        worker.result()
        arena.barrier(PATIENCE)
        arena.barrier(PATIENCE)
        assert arena.snapshot().batch is None
        assert cache.stats.allocated == 0
        assert arena.used == used
        assert len(arena.groups) == 0


def wait_for_a_batch():
    kept["arena"].barrier(PATIENCE)


def in_a_forked_child(arena):
    """What a child that is forked now logs when it looks at the arena."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        kept["arena"] = arena
        os.write(theirs, json.dumps(messages_while_looking(arena.name)).encode() + b"\n")
        os._exit(0)
    os.close(theirs)
    with open(ours) as answer:
        heard = json.loads(answer.readline())
    os.waitpid(pid, 0)
    return heard


def test_a_forked_child_does_not_tell_of_deaths_before_it(arena, worker, log):
    worker(attach, arena.name)
    worker(hold, 3)
    pid = worker.pid
    worker.kill()
    attachment = arena._link.attachment

    def buried():
        attachment.reclaim(2**64 - 1, 10**9)  # a batch, and no look that would tell of it
        return attachment.burial_count > 0

    wait_until(buried)
    assert in_a_forked_child(arena) == []
    assert arena.processes
    # The child may be told of too: it ended without leaving.
    assert len([one for one in log() if f"process {pid} " in one]) == 1


def levels(caplog):
    return [one.levelname for one in caplog.records if "died without leaving" in one.getMessage()]


class TestDestroyingSynchronously:
    """It waits for readers, by design; who waits hears of it, and can end it."""

    @pytest.mark.parametrize("what", ["group", "cache"])
    def test_says_whom_it_waits_for_and_hears_a_signal(self, arena, worker, log, what):
        worker(attach, arena.name)
        cache = arena.cache("frame", size=100)
        group = arena.group("job")
        cache.alloc(group)
        worker(begin_reading)

        class Enough(Exception):
            pass

        def enough(*_):
            if log():
                raise Enough
            signal.setitimer(signal.ITIMER_REAL, 0.1)

        before = signal.signal(signal.SIGALRM, enough)
        arena._link.attachment.destroy_synchronously(True)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Enough):
                (group if what == "group" else cache).destroy()
        finally:
            arena._link.attachment.destroy_synchronously(False)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert f"section of process {worker.pid} " in log()[0]
        # The lock is free, what was to end has ended, and is released like anything else.
        with flagstone.testing.holding(arena, "destroying"):
            pass
        worker(end_reading)
        arena.barrier(PATIENCE)
        group.destroy() if what == "cache" else cache.destroy()
        assert_all_given_back(arena)


class TestNothingLost:
    def test_who_held_nothing_is_news_for_the_curious(self, arena, worker, caplog):
        worker(attach, arena.name)
        worker.kill()
        with caplog.at_level(logging.INFO, "flagstone"):
            arena.barrier(PATIENCE)
            arena.barrier(PATIENCE)
        assert levels(caplog) == ["INFO"]

    def test_a_terminated_pool_warns_nobody(self, arena, caplog):
        blocks = [arena.alloc(1000) for _ in range(20)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(length, blocks) == [1000] * 20
        del blocks
        with caplog.at_level(logging.INFO, "flagstone"):
            arena.barrier(PATIENCE)
            arena.barrier(PATIENCE)
        assert "WARNING" not in levels(caplog)

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("how", ["Pool", "executor"])
    def test_a_pool_that_ended_in_order_is_no_news(self, arena, caplog, method, how):
        context = multiprocessing.get_context(method)
        if how == "Pool":
            with context.Pool(2) as pool:  # ends its workers by SIGTERM
                assert pool.map(length, [arena.alloc(1000) for _ in range(20)]) == [1000] * 20
                # The results are here before the workers have let go of the arguments.
                wait_until(lambda: sum(one.references for one in arena.processes) == 0)
        else:
            with concurrent.futures.ProcessPoolExecutor(2, context) as executor:
                assert (
                    list(executor.map(length, [arena.alloc(1000) for _ in range(4)])) == [1000] * 4
                )
        with caplog.at_level(logging.DEBUG, "flagstone"):
            arena.barrier(PATIENCE)
            arena.barrier(PATIENCE)
        assert set(levels(caplog)) <= {"DEBUG"}
        assert len(arena.processes) == 1

    @pytest.mark.parametrize("how", ["fork", "Popen", "setsid"])
    def test_a_fork_that_goes_on_to_exec_is_no_death(self, arena, caplog, how):
        keep = [arena.alloc(1000) for _ in range(50)]
        for _ in range(3):
            if how == "fork":
                pid = os.fork()
                if pid == 0:
                    os.execv(sys.executable, [sys.executable, "-c", ""])
                assert os.waitpid(pid, 0)[1] == 0
            else:
                subprocess.run(["true"], preexec_fn=os.setsid if how == "setsid" else None)
        with caplog.at_level(logging.INFO, "flagstone"):
            arena.barrier(PATIENCE)
            arena.barrier(PATIENCE)
        assert arena.snapshot().deaths == 0
        assert arena.snapshot().burials == ()
        assert levels(caplog) == []
        assert len(arena.processes) == 1
        del keep

    def test_a_forked_child_that_used_it_is_one(self, arena):
        block = arena.alloc(1000)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            kept["blocks"] = [arena.alloc(1000), block]
            os.write(theirs, b".")
            signal.pause()
        os.read(ours, 1)
        os.close(ours)
        os.close(theirs)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        arena.barrier(PATIENCE)
        arena.barrier(PATIENCE)
        (burial,) = arena.snapshot().burials
        assert (burial.pid, burial.objects) == (pid, 1)


def length(block):
    return block.nbytes


def test_a_cache_that_is_busy_here_says_so(arena, worker):
    cache = arena.cache("typed", size=100, merge=False)
    view = cache.alloc().array
    with pytest.raises(flagstone.CacheBusy, match="in use by this process itself: 1 reference "):
        cache.destroy()
    worker(attach, arena.name)
    worker(hold_typed)
    with pytest.raises(flagstone.CacheBusy, match=f"1 by this process itself, pid {os.getpid()}"):
        cache.destroy()
    worker.end()
    del view
    arena.barrier(PATIENCE)
    cache.destroy().wait(PATIENCE)


def hold_typed():
    kept["typed"] = kept["arena"].cache("typed", size=100, merge=False).alloc()
