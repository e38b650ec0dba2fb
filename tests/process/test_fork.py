"""fork with everything alive on both sides, and every way in which either side can end."""

import contextlib
import gc
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import flagstone
from flagstone.testing import assert_sound, wait_until
from tests.process.support import (
    PATIENCE,
    Line,
    Things,
    Worker,
    assert_all_given_back,
    forked,
    kept,
    open_files,
    pattern,
    program,
    watchdog,
)

SIZE = 3000
fill, check = (things := Things(SIZE)).fill, things.check


@pytest.fixture(params=["named", "anonymous"])
def arena(request, arena_name):
    with flagstone.open(arena_name if request.param == "named" else None) as arena:
        yield arena


@pytest.fixture
def cache(arena):
    return arena.cache("thing", size=SIZE)


class TestBothSides:
    def test_the_child_drops_and_the_parent_keeps(self, arena, cache):
        blocks = fill(cache, 100)

        def child():
            check(blocks)
            blocks.clear()
            arena.barrier(PATIENCE)
            fill(cache, 100, 1000)

        with forked(child):
            pass
        arena.barrier()
        fill(cache, 100, 2000)
        check(blocks)
        blocks.clear()
        assert_all_given_back(arena)

    def test_the_parent_drops_and_the_child_keeps(self, arena, cache):
        blocks = fill(cache, 100)
        views = [memoryview(block) for block in blocks]

        def child():
            ready.say()
            dropped.hear()
            check(views)

        with Line() as ready, Line() as dropped, forked(child) as pid:
            ready.hear()
            handles = [block.handle for block in blocks]
            blocks.clear()
            views.clear()
            arena.barrier()
            rivals = fill(cache, 100, 1000)
            for number, handle in enumerate(handles):
                block = arena.get(handle)
                assert bytes(block) == pattern(number, SIZE)
                assert {one.pid for one in block.holders} == {pid, os.getpid()}
            del block, rivals
            dropped.say()
        arena.barrier()
        for handle in handles:
            with pytest.raises(flagstone.StaleHandle):
                arena.get(handle)
        assert_all_given_back(arena)

    def test_each_keeps_what_the_other_drops(self, arena, cache):
        blocks = fill(cache, 100)

        def child():
            del blocks[::2]
            done.say()
            go.hear()
            fill(cache, 200, 1000)
            check(blocks, 1, 2)

        with Line() as done, Line() as go, forked(child):
            done.hear()
            del blocks[1::2]
            arena.barrier()
            rivals = fill(cache, 200, 2000)
            go.say()
            check(blocks, 0, 2)
        blocks.clear()
        del rivals
        assert_all_given_back(arena)

    def test_what_was_made_after_the_fork_is_ones_own(self, arena, cache):
        def child():
            handles.extend(pickle.loads(message)[1])
            own = fill(cache, 10, 50)
            line.say(bytes(own[0].handle)[:1])
            assert [bytes(arena.get(handle)) for handle in handles] == [
                pattern(number, SIZE) for number in range(10)
            ]
            own[0].free()
            check(own[1:], 51)

        handles = []
        early = fill(cache, 10)
        message = pickle.dumps((b"", [block.handle for block in early]))
        with Line() as line, forked(child):
            assert line.hear()
            check(early)
        del early
        assert_all_given_back(arena)

    def test_in_flight_over_a_fork_is_taken_once(self, arena, cache):
        messages = [pickle.dumps(block) for block in fill(cache, 20)]
        assert len(arena.in_flight()) == 20

        def child():
            check([pickle.loads(message) for message in messages])

        with forked(child):
            pass
        assert arena.in_flight() == []
        arena.barrier()
        for message in messages:
            with pytest.raises(flagstone.StaleHandle):
                pickle.loads(message)
        assert_all_given_back(arena)

    def test_free_in_the_child(self, arena, cache):
        blocks = fill(cache, 1)

        def child():
            blocks[0].free()
            with pytest.raises(flagstone.Closed):
                blocks[0].array

        with forked(child):
            pass
        check(blocks)
        with pytest.raises(flagstone.StaleHandle):
            arena.get(blocks[0].handle)
        blocks.clear()
        assert_all_given_back(arena)

    def test_grandchildren(self, arena, cache):
        """Five generations; each makes objects, forks, and drops what it was given."""
        blocks = fill(cache, 10)

        def generations(depth=0):
            check(blocks, 10 * depth)
            if depth == 5:
                assert len(arena.processes) == 6
                return
            blocks.extend(fill(cache, 10, 10 * (depth + 1)))
            first = blocks[:10]

            def child():
                del blocks[:10]
                first.clear()
                generations(depth + 1)

            with forked(child):
                arena.barrier(PATIENCE)
                check(first, 10 * depth)
            check(blocks, 10 * depth)

        generations()
        blocks.clear()
        assert_all_given_back(arena)

    def test_two_arenas_and_a_closed_one(self, arena, cache, arena_name):
        closed = flagstone.open(arena_name + "-c")
        closed.close()
        with flagstone.open(arena_name + "-b") as other:
            mine, theirs = fill(cache, 5), fill(other.cache("thing", size=SIZE), 5, 100)

            def child():
                assert closed.closed
                check(mine)
                check(theirs, 100)
                del mine[:]
                other.close()
                check(theirs, 100)

            with forked(child):
                pass
            check(mine)
            check(theirs, 100)
            theirs.clear()
            assert_all_given_back(other)
        mine.clear()
        assert_all_given_back(arena)

    def test_a_group(self, arena, cache):
        with arena.group("job") as group:

            def child():
                blocks = cache.bind(group).alloc_many(10)
                assert {block.group for block in blocks} == {group}
                kept["blocks"] = blocks

            with forked(child):
                pass
            arena.barrier()
            assert group.state == "live"
            assert group.usage == 0
        assert_all_given_back(arena)


class TestEnds:
    """Ends of a process, right after a fork, between many."""

    @pytest.mark.parametrize("when", ["at once", "after the child began"])
    def test_the_parent_is_killed_after_the_fork(self, arena, cache, when):
        def parent():
            blocks = fill(cache, 30)
            with Line() as began:
                pid = os.fork()
                if pid:
                    if when != "at once":
                        began.hear()
                    os.kill(os.getpid(), signal.SIGKILL)
                status = b"-"
                try:
                    began.say()
                    go.hear()
                    check(blocks)
                    status = b"+"
                finally:
                    result.say(status)
                    os._exit(0)

        for _ in range(10):
            with Line() as go, Line() as result:
                pid = os.fork()
                if pid == 0:
                    parent()
                with watchdog(pid):
                    os.waitpid(pid, 0)
                    arena.barrier(PATIENCE)
                    rivals = fill(cache, 100, 1000)
                    go.say()
                    result.only_hear()
                    assert result.hear() == b"+"
                    assert result.hear() == b""
                    del rivals
        wait_until(lambda: len(arena.processes) == 1)
        assert_all_given_back(arena)

    def test_the_child_is_killed_after_the_fork(self, arena, cache):
        blocks = fill(cache, 30)
        for _ in range(30):
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            check(blocks)
            os.waitpid(pid, 0)
        arena.barrier()
        fill(cache, 100, 1000)
        check(blocks)
        assert len(arena.processes) == 1
        blocks.clear()
        assert_all_given_back(arena)

    def test_os_exit(self, arena, cache):
        blocks = fill(cache, 30)

        def child():
            kept["more"] = fill(cache, 30)
            kept["messages"] = [pickle.dumps(block) for block in kept["more"]]
            os._exit(0)

        with forked(child):
            pass
        arena.barrier()
        assert len(arena.in_flight()) == 30
        assert cache.stats.allocated == 60
        arena.drop_in_flight()
        arena.barrier()
        assert cache.stats.allocated == 30
        check(blocks)
        blocks.clear()
        assert_all_given_back(arena)

    def test_exec(self, arena, cache):
        """The process lives, and has the same pid; but it is another program now."""
        blocks = fill(cache, 30)

        def child():
            kept["more"] = fill(cache, 30)
            source = "import os, sys; os.write(1, b'.'); sys.stdin.read()"
            os.dup2(go._reader, 0)
            os.dup2(began._writer, 1)
            go.close()
            began.close()
            os.execv(sys.executable, [sys.executable, "-I", "-c", source])

        with Line() as go, Line() as began, forked(child) as pid:
            began.hear()
            arena.barrier(PATIENCE)
            assert [one.pid for one in blocks[0].holders] == [os.getpid()]
            assert [one.pid for one in arena.processes] == [os.getpid()]
            assert cache.stats.allocated == 30
            # No file of an arena: the interpreter may lie in a folder of that name.
            files = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
            for mapped in [*files, Path(f"/proc/{pid}/maps").read_text()]:
                assert not re.search("/(dev/shm/|memfd:)flagstone", mapped)
            go.close()
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
        check(blocks)
        blocks.clear()
        assert_all_given_back(arena)

    def test_the_child_outlives_the_parent(self, arena_name):
        """A program ends by itself; its child has the arena, and is the last one out."""
        out = program(
            """
            import flagstone, os, sys
            arena = flagstone.open(sys.argv[1])
            block = arena.put(b"inherited")
            reader, writer = os.pipe()
            if os.fork() == 0:
                os.close(writer)
                os.read(reader, 1)  # the parent is gone, with its interpreter
                arena.barrier(60)
                assert os.getppid() != int(sys.argv[2]) and len(arena.processes) == 1
                rival = [arena.put(b"x" * 9) for _ in range(1000)]
                print(bytes(block).decode(), os.path.exists(arena.path))
            """,
            arena_name,
            os.getpid(),
        )
        assert out == "inherited True\n"
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")

    @pytest.mark.parametrize("how", ["falls through", "raises", "exits"])
    def test_a_child_that_unwinds_only_lets_go(self, arena_name, how):
        """It leaves the `with` of its parent's arena and group, and destroys neither."""
        with flagstone.open(arena_name) as outer:
            code, status, parent = None, 1, os.getpid()
            try:
                with flagstone.open(arena_name) as arena, arena.group("job") as group:
                    cache = arena.cache("thing", size=SIZE)
                    blocks = cache.alloc_many(10, group)
                    message = pickle.dumps(blocks[0])
                    pid = os.fork()
                    if pid == 0:
                        if how == "raises":
                            raise KeyError("in the child")
                        if how == "exits":
                            sys.exit(7)
                    else:
                        assert os.waitpid(pid, 0)[1] == 0
                        assert (group.state, outer.groups) == ("live", [group])
                        outer.barrier()
                        assert cache.stats.allocated == 10
                        assert pickle.loads(message).handle == blocks[0].handle
                        assert os.path.exists(arena.path)
                status = 0
            except (KeyError, SystemExit) as error:
                code = error.args[0]
                status = 0
            finally:
                if os.getpid() != parent:
                    if code != {"raises": "in the child", "exits": 7}.get(how):
                        status = 2
                    os._exit(status)
            assert group.state == "destroyed"
            blocks.clear()
            assert_all_given_back(outer)
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")

    def test_a_group_that_the_child_made(self, arena, cache):
        def child():
            with arena.group("mine") as group:
                kept["block"] = cache.alloc(group)
                line.say()
                go.hear()

        with Line() as line, Line() as go, forked(child):
            line.hear()
            assert [group.name for group in arena.groups] == ["mine"]
            go.say()
        arena.barrier()
        assert arena.groups == []
        assert_all_given_back(arena)


class TestThreads:
    def test_fork_in_a_thread(self, arena, cache):
        """Only the forking thread lives on in the child; what the others had is there."""
        results = []
        held = threading.Event()
        done = threading.Event()

        def holder():
            mine.extend(fill(cache, 20, 100))
            cache.alloc()  # has a slab of its own
            held.set()
            done.wait(PATIENCE)

        def forker():
            own = fill(cache, 20, 200)

            def child():
                check(own, 200)
                check(mine, 100)
                fill(cache, 50, 300)
                own.clear()
                mine.clear()
                arena.barrier(PATIENCE)

            with forked(child):
                pass
            check(own, 200)
            results.append(True)

        mine = []
        threads = [threading.Thread(target=holder), threading.Thread(target=forker)]
        threads[0].start()
        held.wait(PATIENCE)
        threads[1].start()
        threads[1].join()
        done.set()
        threads[0].join()
        assert results == [True]
        check(mine, 100)
        mine.clear()
        del threads
        assert_all_given_back(arena)

    def test_fork_while_threads_are_at_work(self, arena, cache):
        """No lock is inherited by a child in which nobody could let go of it."""
        stop = threading.Event()
        errors = []

        def work(number):
            try:
                while not stop.is_set():
                    blocks = fill(cache, 5, number)
                    check(blocks, number)
                    message = pickle.dumps(blocks[0])
                    del blocks[0]
                    check([pickle.loads(message)], number)
            except BaseException as error:
                errors.append(error)
                raise

        def child():
            blocks = fill(cache, 10, 7)
            gc.collect()
            arena.barrier(PATIENCE)
            check(blocks, 7)
            check([pickle.loads(pickle.dumps(blocks[0]))], 7)

        threads = [threading.Thread(target=work, args=(1000 * n,)) for n in range(1, 4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(30):
                with forked(child):
                    pass
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert errors == []
        # A child inherits what is on its way, too; and it may be killed before it takes it.
        arena.drop_in_flight()
        assert_all_given_back(arena)

    def test_fork_inside_a_section(self, arena):
        with arena.read():

            def child():
                with pytest.raises(RuntimeError, match="read"):
                    arena.synchronize()

            with forked(child):
                pass
        arena.synchronize(PATIENCE)
        with arena.read():
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                arena.synchronize(PATIENCE)
                status = 0
            finally:
                os._exit(status)
        with watchdog(pid):
            assert os.waitpid(pid, 0)[1] == 0
        assert_all_given_back(arena)

    def test_a_section_of_another_thread_ends_with_the_fork(self, arena):
        """In the child there is no such thread, and nobody waits for it."""
        inside, leave = threading.Event(), threading.Event()

        def reader():
            with arena.read():
                inside.set()
                leave.wait(PATIENCE)

        thread = threading.Thread(target=reader)
        thread.start()
        inside.wait(PATIENCE)
        with Line() as go:

            def child():
                go.hear()
                arena.synchronize(PATIENCE)

            with forked(child):
                with pytest.raises(TimeoutError):
                    arena.synchronize(0.05)
                leave.set()
                thread.join()
                go.say()
        assert_all_given_back(arena)


class TestPrograms:
    @pytest.mark.parametrize("close_fds", [True, False])
    def test_a_program_started_meanwhile_inherits_nothing(self, arena, cache, close_fds):
        block = cache.alloc()
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", "import sys; print(flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=close_fds,
        )
        with process:
            process.stdout.readline()
            for fd in os.listdir(f"/proc/{process.pid}/fd"):
                assert "flagstone" not in os.readlink(f"/proc/{process.pid}/fd/{fd}")
            assert [one.pid for one in arena.processes] == [os.getpid()]
            process.stdin.close()
        del block
        assert_all_given_back(arena)

    @pytest.mark.parametrize("close_fds", [True, False])
    def test_and_keeps_no_dead_process_alive(self, arena_name, close_fds):
        with Worker() as worker, flagstone.open(arena_name) as arena:
            pid = worker(open_and_start, arena_name, close_fds)
            try:
                assert len(arena.processes) == 2
                block = arena.get(worker(handle_of_kept))
                worker.kill()
                arena.barrier()
                assert [one.pid for one in arena.processes] == [os.getpid()]
                assert [one.pid for one in block.holders] == [os.getpid()]
                os.kill(pid, 0)  # still there
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            del block
            assert_all_given_back(arena)

    def test_a_fork_that_fails(self, arena_name):
        if os.geteuid() != 0:
            pytest.skip("needs root, to be a user without processes")
        printed = program(
            """
            import flagstone, os, resource, sys
            os.setgroups([]); os.setgid(54321); os.setuid(54321)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            arena = flagstone.open()
            blocks = arena.cache("thing", size=100).alloc_many(100)
            for _ in range(100):
                try:
                    os.fork()
                except BlockingIOError:
                    continue
                sys.exit("this should have failed")
            print("failed")
            assert len(arena.processes) == 1
            assert len(os.listdir("/proc/self/fd")) < 20
            blocks.clear()
            arena.barrier(60)
            assert len(arena.snapshot().processes) == 1
            assert arena.used == 0 and arena.check() == []
            print("fine")
            """
        )
        assert printed == "failed\nfine\n"


def open_and_start(name, close_fds):
    kept["arena"] = flagstone.open(name)
    kept["block"] = kept["arena"].put(b"x")
    kept["process"] = subprocess.Popen(
        [sys.executable, "-I", "-c", "import time; time.sleep(600)"],
        stdin=subprocess.DEVNULL,
        close_fds=close_fds,
    )
    return kept["process"].pid


def handle_of_kept():
    return kept["block"].handle


def test_many_forks_leave_nothing(arena, cache):
    blocks = fill(cache, 5)
    before = open_files()
    for _ in range(100):
        with forked(lambda: check(blocks)):
            pass
    assert open_files() == before
    assert_sound(arena)
    assert len(arena.snapshot().processes) == 1
    check(blocks)
    blocks.clear()
    assert_all_given_back(arena)


def test_no_thread_is_started_by_a_fork(arena):
    def child():
        assert len(os.listdir("/proc/self/task")) == 1

    for _ in range(5):
        block = arena.put(b"x")
        pickle.dumps(block)
        del block
        with forked(child):
            pass
    arena.drop_in_flight()
    assert_all_given_back(arena)


def test_python_counts_no_thread_of_ours_when_it_forks():
    """From 3.12 on it warns of a fork beside threads. It counts them before the parent's hooks
    run, of which the first is this program's."""
    printed = program(
        """
        import os, subprocess, sys
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        threads = lambda: len(os.listdir("/proc/self/task"))
        counted = []
        os.register_at_fork(after_in_parent=lambda: counted.append(threads()))
        import flagstone
        from flagstone.testing import wait_until
        with flagstone.open() as arena, arena.group("job", messages_expire=60) as job:
            for _ in range(50):
                wait_until(lambda: threads() == 2)
                pid = os.fork()
                if not pid:
                    os._exit(threads() - 1)
                assert os.waitpid(pid, 0)[1] == 0
            print(set(counted))
            # A fork of which Python's hooks know nothing.
            subprocess._USE_VFORK = subprocess._USE_POSIX_SPAWN = False
            subprocess.run([sys.executable, "-c", ""], check=True)
            wait_until(lambda: threads() == 2)
        """
    )
    assert printed == "{1}\n"
