"""Processes that are killed, stopped or gone: the others go on, and nothing is lost."""

import contextlib
import ctypes
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import flagstone
from flagstone import garbage
from flagstone.testing import wait_until
from tests.process import support
from tests.process.support import (
    PATIENCE,
    Line,
    Things,
    Worker,
    assert_all_given_back,
    begin_reading,
    dump_kept,
    end_reading,
    forget,
    forked,
    keep,
    kept,
    pattern,
    program,
    resolve,
    state_of,
)

SIZE = 2000
fill, check = (things := Things(SIZE)).fill, things.check


@pytest.fixture
def cache(arena):
    return arena.cache("thing", size=SIZE)


def attach(name):
    support.attach(name)
    kept["cache"] = kept["arena"].cache("thing", size=SIZE)


def fill_and_keep(count, first=0):
    keep(*fill(kept["cache"], count, first))


def send_kept():
    return [pickle.dumps(block) for block in kept["blocks"]]


def check_kept(first=0):
    check(kept["blocks"], first)
    return len(kept["blocks"])


class TestKilled:
    def test_a_producer(self, arena, cache, worker, other_worker):
        """What it sent arrives, what it kept to itself is given back."""
        worker(attach, arena.name)
        worker(fill_and_keep, 100)
        messages = worker(send_kept)
        worker(fill_and_keep, 100, 100)
        assert cache.stats.allocated == 200
        worker.kill()
        arena.barrier()
        assert cache.stats.allocated == 100
        assert arena.snapshot().deaths == 1
        assert {one.pid for one in arena.processes} == {os.getpid()}
        other_worker(attach, arena.name)
        other_worker(load_and_keep, messages)
        assert arena.in_flight() == []
        assert other_worker(check_kept) == 100
        other_worker(forget)
        assert_all_given_back(arena)

    def test_a_consumer(self, arena, cache, worker):
        blocks = fill(cache, 100)
        worker(attach, arena.name)
        worker(keep, *blocks)
        blocks[:50] = []
        worker.kill()
        arena.barrier()
        assert cache.stats.allocated == 50
        check(blocks, 50)
        assert [one.pid for one in blocks[0].holders] == [os.getpid()]
        blocks.clear()
        assert_all_given_back(arena)

    def test_a_consumer_before_it_takes(self, arena, cache, worker, other_worker):
        """The message is lost with its receiver: it is visible, and nobody else's business."""
        messages = [pickle.dumps(block) for block in fill(cache, 10)]
        worker(keep_message, messages)
        worker.kill()
        arena.barrier()
        assert len(arena.in_flight()) == 10
        assert cache.stats.allocated == 10
        # The work can be done again: the same message serves another one.
        other_worker(attach, arena.name)
        other_worker(load_and_keep, messages[:5])
        assert other_worker(check_kept) == 5
        assert arena.drop_in_flight() == 5
        other_worker(forget)
        assert_all_given_back(arena)

    def test_the_last_holder_of_a_view(self, arena, cache, worker):
        worker(attach, arena.name)
        (block,) = fill(cache, 1)
        handle = block.handle
        worker(keep_view, block)
        block.free()
        del block
        arena.barrier()
        assert cache.stats.allocated == 1
        worker.kill()
        arena.barrier()
        assert cache.stats.allocated == 0
        with pytest.raises(flagstone.StaleHandle):
            arena.get(handle)
        assert_all_given_back(arena)

    def test_a_holder_of_very_much(self, arena, worker):
        worker(attach, arena.name)
        worker(hold_much)
        assert arena.used > 30 << 20
        worker.kill()
        # An allocation that needs it gets it: nobody else has to help.
        block = arena.alloc("48MiB")
        del block
        assert_all_given_back(arena)

    def test_the_creator_of_a_group(self, arena, cache, worker, other_worker):
        worker(attach, arena.name)
        message = worker(make_group, "job", False)
        worker(make_group, "for ever", True)
        other_worker(attach, arena.name)
        assert other_worker(load, message) == pattern(0, SIZE)
        groups = {group.name: group for group in arena.groups}
        assert set(groups) == {"job", "for ever"}
        worker.kill()
        arena.barrier()
        # Closed: it takes no more; a reference that was taken holds its bytes.
        assert [group.name for group in arena.groups if group.state == "live"] == ["for ever"]
        assert groups["job"].state != "live"
        with pytest.raises(flagstone.Closed):
            cache.alloc(groups["job"])
        assert other_worker(check_kept) == 1
        other_worker(forget)
        arena.barrier()
        assert [group.name for group in arena.groups] == ["for ever"]
        with arena.group("job") as fresh:
            assert fresh.usage == 0
        groups["for ever"].destroy().wait(PATIENCE)
        assert_all_given_back(arena)

    def test_one_of_two_who_have_a_group(self, arena, cache, worker):
        worker(attach, arena.name)
        with arena.group("job") as group:
            blocks = fill(cache, 3, 0, group)
            worker(keep, group, *blocks)
            worker.kill()
            arena.barrier()
            assert group.state == "live"
            blocks += fill(cache, 3, 3, group)
            check(blocks)
        blocks.clear()
        assert_all_given_back(arena)

    def test_inside_a_section(self, arena, worker):
        worker(attach, arena.name)
        worker(begin_reading)
        with pytest.raises(TimeoutError, match=str(worker.pid)):
            arena.synchronize(0.05)
        worker.kill()
        arena.synchronize(PATIENCE)
        arena.barrier(PATIENCE)
        assert_all_given_back(arena)

    def test_while_it_waits(self, arena, worker):
        worker(attach, arena.name)
        block = arena.alloc("48MiB")
        worker.send(wait_for_memory)
        wait_until(lambda: state_of(worker.pid) == "S")
        worker.kill()
        del block
        arena.barrier(PATIENCE)
        assert_all_given_back(arena)

    def test_while_somebody_waits_for_what_it_has(self, arena, worker, other_worker):
        other_worker(attach, arena.name)
        worker(attach, arena.name)
        worker(hold_much)
        other_worker.send(wait_for_memory)
        wait_until(lambda: state_of(other_worker.pid) == "S")
        worker.kill()
        assert other_worker.result() == 48 << 20
        other_worker(forget)
        assert_all_given_back(arena)

    def test_nobody_has_to_ask(self, arena, worker, other_worker):
        """Somebody drops now and then, and has a reaper: no one has to call anything."""
        worker(attach, arena.name)
        worker(hold_much)
        other_worker(attach, arena.name)
        shared = arena.put(b"shared")
        other_worker(keep, shared)
        worker.kill()
        del shared
        other_worker(forget_blocks)
        wait_until(lambda: allocated(arena) == 0, PATIENCE)
        other_worker(forget)
        assert_all_given_back(arena)

    @pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
    def test_by_another_signal(self, arena, cache, how):
        blocks = fill(cache, 10)

        def child():
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            kept["more"] = fill(cache, 100, 10)
            with arena.read():
                os.kill(os.getpid(), how)

        pid = os.fork()
        if pid == 0:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            child()
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -how
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 10
        check(blocks)
        blocks.clear()
        assert_all_given_back(arena)


def allocated(arena):
    return sum(cache.stats.allocated for cache in arena.snapshot().caches)


def keep_message(messages):
    kept["messages"] = messages


def load_and_keep(messages):
    keep(*(pickle.loads(message) for message in messages))


def load(message):
    block = pickle.loads(message)
    keep(block)
    return bytes(block)


def keep_view(block):
    kept["view"] = memoryview(block)


def hold_much():
    keep(*(kept["arena"].alloc("4MiB") for _ in range(8)))


def make_group(name, lasting):
    group = kept[name] = kept["arena"].group(name, lasting=lasting)
    (block,) = fill(kept["cache"], 1, 0, group)
    return pickle.dumps(block)


def wait_for_memory():
    block = kept["arena"].alloc("48MiB", wait=PATIENCE)
    keep(block)
    return block.nbytes


def forget_blocks():
    kept["blocks"].clear()


class TestAliveOrNot:
    def test_a_zombie_is_dead(self, arena, cache):
        def child():
            kept["blocks"] = fill(cache, 10)
            line.say()
            signal.pause()

        with Line() as line:
            pid = os.fork()
            if pid == 0:
                try:
                    child()
                finally:
                    os._exit(1)
            line.hear()
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: state_of(pid) == "Z")
            arena.barrier(PATIENCE)
            assert cache.stats.allocated == 0
            assert [one.pid for one in arena.processes] == [os.getpid()]
            assert state_of(pid) == "Z"
            os.waitpid(pid, 0)
        assert_all_given_back(arena)

    def test_a_process_whose_first_thread_is_gone_is_alive(self, arena, cache):
        def child():
            blocks = fill(cache, 10)

            def go_on():
                status = 1
                with contextlib.suppress(BaseException):
                    go.hear()
                    check(blocks)
                    check(fill(cache, 10, 10), 10)
                    status = 0
                os._exit(status)

            threading.Thread(target=go_on, daemon=True).start()
            line.say()
            ctypes.CDLL(None).pthread_exit(None)

        with Line() as line, Line() as go, forked(child) as pid:
            line.hear()
            wait_until(lambda: state_of(pid) == "Z")
            arena.barrier(PATIENCE)
            rivals = fill(cache, 100, 1000)
            assert {one.pid for one in arena.processes} == {pid, os.getpid()}
            assert cache.stats.allocated == 110
            go.say()
        del rivals
        assert_all_given_back(arena)

    def test_a_thread_that_ends_is_no_death(self, arena, cache):
        blocks = []
        for number in range(20):
            thread = threading.Thread(target=lambda: blocks.extend(fill(cache, 3, 3 * len(blocks))))
            thread.start()
            thread.join()
            arena.barrier(PATIENCE)
            assert len(blocks) == 3 * (number + 1)
        for number in range(20):
            check(blocks[3 * number : 3 * number + 3], 9 * number)
        assert arena.snapshot().deaths == 0
        blocks.clear()
        assert_all_given_back(arena)

    def test_a_stopped_process_is_alive(self, arena, cache, worker):
        worker(attach, arena.name)
        worker(fill_and_keep, 50)
        worker.signal(signal.SIGSTOP)
        wait_until(lambda: state_of(worker.pid) == "T")
        for _ in range(5):
            blocks = fill(cache, 100, 1000)
            messages = [pickle.dumps(block) for block in blocks]
            del blocks
            arena.drop_in_flight()
            arena.synchronize(PATIENCE)
            arena.barrier(PATIENCE)
            assert cache.stats.allocated == 50
        with arena.group("job") as group:
            cache.alloc(group)
        assert len(messages) == 100
        assert len(arena.processes) == 2
        worker.signal(signal.SIGCONT)
        assert worker(check_kept) == 50
        worker(forget)
        assert_all_given_back(arena)

    def test_stopped_inside_a_section(self, arena, cache, worker):
        """It delays reuse and nothing else, and everybody can see who it is."""
        worker(attach, arena.name)
        worker(begin_reading)
        worker.signal(signal.SIGSTOP)
        wait_until(lambda: state_of(worker.pid) == "T")
        # Allocating, dropping, sending, taking, groups, caches: all go on.
        kept_here = fill(cache, 20)
        for number in range(20):
            blocks = fill(cache, 20, 100 * number)
            blocks = [pickle.loads(pickle.dumps(block)) for block in blocks]
            check(blocks, 100 * number)
            with arena.group(f"job-{number}") as group:
                cache.alloc(group)
            arena.cache(f"cache-{number}", size=64, merge=False).destroy()
            del blocks
        wait_until(lambda: arena.snapshot().stalled, PATIENCE)
        with pytest.raises(TimeoutError, match=str(worker.pid)):
            arena.barrier(0.1)
        pid, thread, seconds = arena.snapshot().stalled
        assert (pid, thread) == (worker.pid, worker.pid)
        assert seconds > 0
        facts = json.loads(flagstone_program("info", arena.name, "--json"))
        assert str(worker.pid) in json.dumps(facts["stalled"])
        assert str(worker.pid) in flagstone_program("info", arena.name)
        assert cache.stats.allocated == 20 + 20 * 20
        worker.signal(signal.SIGCONT)
        worker(end_reading)
        arena.barrier(PATIENCE)
        assert cache.stats.allocated == 20
        assert arena.snapshot().stalled is None
        check(kept_here)
        worker(forget)
        del kept_here
        assert_all_given_back(arena)

    def test_full_behind_a_stopped_reader(self, arena, worker):
        """The exception says behind whom the memory is stuck; and then there is room again."""
        worker(attach, arena.name)
        worker(begin_reading)
        worker.signal(signal.SIGSTOP)
        try:
            with pytest.raises(flagstone.ArenaFull, match=str(worker.pid)):
                share_and_drop(arena, 100)
        finally:
            worker.signal(signal.SIGCONT)
        worker(end_reading)
        assert arena.alloc("48MiB").nbytes == 48 << 20
        worker(forget)
        assert_all_given_back(arena)

    def test_garbage_is_collected_once_behind_a_stopped_reader(self, arena, worker):
        """Who waits for nothing gives up, however long a collection and what follows it take."""
        worker(attach, arena.name)
        worker(begin_reading)
        worker.signal(signal.SIGSTOP)
        phases = []
        gc.disable()
        gc.callbacks.append(note := lambda phase, info: phases.append(phase))
        try:
            with pytest.raises(flagstone.ArenaFull, match="garbage collection"):
                share_and_drop(arena, 100)
        finally:
            gc.callbacks.remove(note)
            gc.enable()
            worker.signal(signal.SIGCONT)
        assert phases == ["start", "stop"] * garbage._ROUNDS
        worker(end_reading)
        worker(forget)
        assert_all_given_back(arena)

    def test_a_stopped_reader_that_is_killed(self, arena, cache, worker):
        worker(attach, arena.name)
        worker(begin_reading)
        worker.signal(signal.SIGSTOP)
        messages = [pickle.dumps(block) for block in fill(cache, 20)]
        for message in messages:
            pickle.loads(message)
        with pytest.raises(TimeoutError):
            arena.barrier(0.05)
        worker.kill()
        arena.barrier(PATIENCE)
        assert_all_given_back(arena)


def share_and_drop(arena, count):
    for _ in range(count):
        pickle.loads(pickle.dumps(arena.alloc("4MiB")))


def flagstone_program(*arguments):
    result = subprocess.run(
        [sys.executable, "-m", "flagstone", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert result.stderr == ""
    return result.stdout


class TestFiles:
    def test_a_crash_loop_leaves_nothing(self, shm_folder):
        for number in range(50):
            name = f"{shm_folder}/{number}"
            pid = os.fork()
            if pid == 0:
                try:
                    arena = flagstone.open(name)
                    kept["blocks"] = [arena, arena.put(bytes(100_000))]
                    os.kill(os.getpid(), signal.SIGKILL)
                finally:
                    os._exit(1)
            os.waitpid(pid, 0)
            # Each one has removed the one before.
            (here,) = flagstone.arenas(shm_folder)
            assert (here.path, here.orphan) == (name, True)
        with flagstone.open(f"{shm_folder}/last"):
            assert os.listdir(shm_folder) == ["last"]
        assert os.listdir(shm_folder) == []

    @pytest.mark.parametrize("who", ["open", "gc"])
    def test_fifty_killed_at_once(self, shm_folder, who):
        pids = []
        with Line() as line:
            for number in range(50):
                pid = os.fork()
                if pid == 0:
                    try:
                        arena = flagstone.open(f"{shm_folder}/{number}")
                        kept["blocks"] = [arena, arena.put(bytes(100_000))]
                        line.say()
                        signal.pause()
                    finally:
                        os._exit(1)
                pids.append(pid)
            for _ in pids:
                line.hear()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            for pid in pids:
                os.waitpid(pid, 0)
        here = flagstone.arenas(shm_folder)
        assert len(here) == 50
        assert {(one.processes, one.orphan) for one in here} == {(0, True)}
        if who == "open":
            flagstone.open(f"{shm_folder}/next").close()
        else:
            assert flagstone_program("gc", shm_folder)
        assert os.listdir(shm_folder) == []

    def test_a_dead_arena_is_not_attached_to(self, arena_name, worker):
        worker(open_and_keep, arena_name)
        message = worker(dump_kept)
        worker.kill()
        with pytest.raises(FileNotFoundError):
            flagstone.open(arena_name, create=False)
        with flagstone.open(arena_name, create=True) as arena:
            assert arena.caches == []
            with pytest.raises(flagstone.StaleHandle):
                pickle.loads(message)
            assert_all_given_back(arena)

    def test_the_last_one_out_removes_it(self, arena_name):
        path = f"/dev/shm/flagstone.{arena_name}"
        with Worker() as first, Worker() as second:
            for worker in (first, second):
                worker(open_and_keep, arena_name)
            with flagstone.open(arena_name):
                first.end()
            assert os.path.exists(path)
            second.end()
            assert not os.path.exists(path)

    def test_the_last_one_out_after_a_death(self, arena_name):
        path = f"/dev/shm/flagstone.{arena_name}"
        with Worker() as first, Worker() as second:
            for worker in (first, second):
                worker(open_and_keep, arena_name)
            first.kill()
            assert os.path.exists(path)
            second.end()
            assert not os.path.exists(path)

    def test_a_lasting_one_stays(self, arena_name):
        with Worker() as first, Worker() as second, Worker() as third:
            handle = first(open_lasting, arena_name)
            first.end()
            assert second(resolve_if_there, arena_name, handle) is None, "its last holder is gone"
            second(open_lasting, arena_name)
            second.kill()
            (info,) = (one for one in flagstone.arenas() if one.name == arena_name)
            assert (info.lasting, info.processes, info.orphan) == (True, 0, False)
            assert flagstone.open(arena_name + "-b").close() is None
            third(attach, arena_name)
            third(fill_and_keep, 10)
            third(check_kept)
            third(forget)
            with flagstone.open(arena_name, create=False) as arena:
                arena.barrier(PATIENCE)
                assert_all_given_back(arena)
        assert os.path.exists(f"/dev/shm/flagstone.{arena_name}")
        flagstone.unlink(arena_name)
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")

    @pytest.mark.parametrize("remove", [os.unlink, flagstone.unlink])
    def test_unlinked_from_outside(self, arena, cache, worker, remove):
        worker(attach, arena.name)
        blocks = fill(cache, 10)
        assert arena.snapshot().unlinked is False
        remove(arena.path)
        assert arena.snapshot().unlinked is True
        # Those who have it go on, also among each other.
        worker(keep, *blocks)
        assert worker(check_kept) == 10
        # For others the name is free.
        with flagstone.open(arena.name, create=True) as other:
            assert other.snapshot().unlinked is False
            assert other.caches == []
            arena.close()
            assert os.path.exists(other.path), "it is not ours to remove"
            check(blocks)
            worker(forget)
            blocks.clear()
            assert os.path.exists(other.path)
            assert_all_given_back(other)

    def test_programs_that_end_in_any_way_leave_nothing(self, arena_name):
        endings = {
            "pass": 0,
            "sys.exit(3)": 3,
            "raise SystemExit(4)": 4,
            "threading.Thread(target=arena.put, args=(b'x',)).start()": 0,
        }
        for ending, status in endings.items():
            source = f"""
                import flagstone, sys, threading
                arena = flagstone.open(sys.argv[1])
                block = arena.put(b"x" * 1000)
                {ending}
            """
            program(source, arena_name, status=status)
            assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")

    def test_ctrl_c(self, arena_name):
        source = """
            import flagstone, signal, sys, time
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
            with flagstone.open(sys.argv[1]) as arena, arena.group("job") as group:
                block = arena.alloc(1000, group=group)
                print(flush=True)
                while True:
                    time.sleep(0.1)  # a signal right before it does not cut it short
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), arena_name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=PATIENCE)
        assert errors.rstrip().endswith("KeyboardInterrupt")
        assert process.returncode == -signal.SIGINT
        assert not os.path.exists(f"/dev/shm/flagstone.{arena_name}")


def open_and_keep(name):
    kept["arena"] = flagstone.open(name)
    kept["block"] = kept["arena"].put(b"x" * 1000)


def open_lasting(name):
    kept["arena"] = flagstone.open(name, lasting=True)
    kept["block"] = kept["arena"].put(b"for ever?")
    return bytes(kept["block"].handle)


def resolve_if_there(name, handle):
    try:
        return resolve(name, handle)
    except flagstone.StaleHandle:
        return None
