"""`flagstone.share()`: what `multiprocessing` sends carries its large buffers through an arena."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

import flagstone
from flagstone.testing import wait_until
from tests.process.support import METHODS, PATIENCE, running

LARGE = 1 << 18  # bytes


@pytest.fixture
def sharing(arena):
    with flagstone.share(arena) as sharing:
        yield sharing


def large(value=1.0):
    return np.full(LARGE // 8, value)


def sent(obj):
    """What a receiver gets."""
    return pickle.loads(ForkingPickler.dumps(obj))


def in_arena(value):
    try:
        flagstone.block_of(value)
    except LookupError:
        return False
    return True


def grown(since):
    """How the counters have changed."""
    now = flagstone.share.stats
    return {
        name: getattr(now, name) - getattr(since, name)
        for name in ("messages", "buffers", "in_place", "plain")
    }


def settled(arena):
    arena.barrier(PATIENCE)
    assert arena.in_flight() == []
    assert arena.check() == []


def send_from_read_only(path, handle):
    with flagstone.open(path, readonly=True) as arena, flagstone.share(None):
        back = sent(arena.get(flagstone.Handle(handle)).array)
        back[1] = 0
        return back[0]


def echo(inbox, outbox):
    """Send back what comes, one more; and whether it lay in an arena."""
    while (array := inbox.get(timeout=PATIENCE)) is not None:
        array += 1  # writable, as from any pickle
        outbox.put((in_arena(array), array))


def end_it(sharing):
    """It came twice: as every process gets it that is started, and as an argument."""
    assert in_arena(sent(large()))
    sharing.close()
    assert not in_arena(sent(large()))


def double(array):
    return array * 2, in_arena(array)


def total_of(pipe):
    pipe.send(float(pipe.recv().sum()))


@pytest.mark.parametrize("method", METHODS)
class TestEverythingThatSends:
    def test_queues(self, arena, sharing, method):
        context = multiprocessing.get_context(method)
        inbox, outbox = context.Queue(), context.SimpleQueue()
        with running(context.Process(target=echo, args=(inbox, outbox))):
            for number in range(5):
                inbox.put(large(number))
                there, array = outbox.get()
                assert there
                assert in_arena(array)
                assert (array == number + 1).all()
                del array
            inbox.put(None)
        inbox.close()
        inbox.join_thread()
        outbox.close()
        settled(arena)

    def test_pipe(self, arena, sharing, method):
        context = multiprocessing.get_context(method)
        mine, theirs = context.Pipe()
        with mine, theirs, running(context.Process(target=total_of, args=(theirs,))):
            mine.send(large(2))
            assert mine.recv() == LARGE / 4
        settled(arena)

    def test_pool(self, arena, sharing, method):
        with multiprocessing.get_context(method).Pool(2) as pool:
            for array, there in pool.map(double, [large(n) for n in range(4)]):
                assert there
                assert in_arena(array)
            pool.close()
            pool.join()
        del array
        settled(arena)

    def test_executor(self, arena, sharing, method):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
            array, there = executor.submit(double, large(3)).result(PATIENCE)
            assert there
            assert in_arena(array)
            assert (array == 6).all()
        del array
        settled(arena)

    def test_manager(self, arena, sharing, method):
        with multiprocessing.get_context(method).Manager() as manager:
            shelf = manager.dict()
            shelf["x"] = large(5)
            array = shelf["x"]
            assert in_arena(array)
            assert (array == 5).all()
        del array
        settled(arena)


class TestWhatArrives:
    @pytest.mark.parametrize(
        "array",
        [
            large(7),
            np.asfortranarray(np.arange(LARGE, dtype="i4").reshape(4, -1)),
            np.arange(LARGE, dtype="i2").reshape(2, -1)[:, ::2],
            np.zeros(LARGE, [("a", "i4"), ("b", "f8")]),
            np.array(["x" * 9] * LARGE),
            np.arange("2000-01-01", "2020-01-01", dtype="M8[h]"),
        ],
        ids=["C", "F", "strided", "record", "text", "dates"],
    )
    @pytest.mark.parametrize("writable", [True, False])
    def test_the_same_array(self, arena, sharing, array, writable):
        array = array.view()
        array.flags.writeable = writable
        back = sent({"deep": [array]})["deep"][0]
        np.testing.assert_array_equal(back, array)
        assert back.dtype == array.dtype
        assert back.flags.writeable
        assert back.flags.f_contiguous == array.flags.f_contiguous
        assert type(back) is np.ndarray
        assert array.flags.writeable == writable

    def test_many_in_one_block(self, arena, sharing):
        before = flagstone.share.stats
        arrays = [large(n) for n in range(20)]
        back = sent(arrays)
        assert len({flagstone.block_of(one)[0].handle for one in back}) == 1
        assert all(one.ctypes.data % 64 == 0 for one in back)
        assert grown(before) == {"messages": 1, "buffers": 20, "in_place": 0, "plain": 0}
        last = back.pop()
        del back  # one array keeps the Block of all
        assert (last == 19).all()
        del last
        settled(arena)

    def test_small_things_go_as_ever(self, arena, sharing):
        before, used = flagstone.share.stats, arena.used
        things = {"a": 1, "b": np.arange(10), "c": b"x" * 1000}
        back = sent(things)
        np.testing.assert_array_equal(back.pop("b"), things.pop("b"))
        assert back == things
        assert arena.used == used
        assert not any(grown(before).values())

    def test_a_large_rest_goes_through_the_arena(self, arena, sharing):
        before = flagstone.share.stats
        text = {"text": "x" * LARGE, "bytes": b"y" * LARGE}
        message = ForkingPickler.dumps(text)
        assert len(message) < 1000
        assert pickle.loads(message) == text
        assert grown(before)["messages"] == 1
        settled(arena)

    def test_threshold(self, arena):
        with flagstone.share(arena, threshold=1000):
            assert in_arena(sent(np.zeros(1000, "u1")))
            assert not in_arena(sent(np.zeros(999, "u1")))

    def test_objects_are_pickled(self, arena, sharing):
        array = np.array([{"a": 1}, None] * 10_000, object)
        assert (sent(array) == array).all()

    def test_others_ways_for_arrays_are_respected(self, arena, sharing):
        ForkingPickler.register(np.ndarray, lambda array: (str, (f"{array.size} elements",)))
        try:
            assert sent(large()) == f"{LARGE // 8} elements"
        finally:
            del ForkingPickler._extra_reducers[np.ndarray]


class TestViews:
    @pytest.mark.parametrize(
        "index",
        [np.s_[:], np.s_[3:7], np.s_[::-2, 1::3], np.s_[2], np.s_[2, 3:4], np.s_[0:0]],
        ids=repr,
    )
    def test_a_view_of_a_block_arrives_as_one(self, arena, sharing, index):
        block = arena.put(np.arange(200, dtype="i2").reshape(20, 10))  # below any threshold
        view = block.array[index]
        back = sent(view)
        np.testing.assert_array_equal(back, view)
        back[...] = -1
        assert (view == -1).all()
        del back
        settled(arena)

    def test_of_many_of_one_block_one_reference_travels(self, arena, sharing):
        block = arena.put(np.arange(100_000))
        before = flagstone.share.stats
        message = ForkingPickler.dumps([block.array[n : n + 10] for n in range(50)])
        assert len(arena.in_flight()) == 1
        assert grown(before)["in_place"] == 50
        assert [one[0] for one in pickle.loads(message)] == list(range(50))
        settled(arena)

    def test_what_was_received_is_sent_on_as_it_is(self, arena, sharing):
        first = sent(large(1))
        second = sent(first)
        second[0] = 9
        assert first[0] == 9

    def test_of_a_read_only_arena_by_value(self, worker, arena, sharing):
        block = arena.put(large(4))
        assert worker(send_from_read_only, arena.path, bytes(block.handle)) == 4
        settled(arena)

    def test_blocks_and_parts_travel_by_themselves(self, arena, sharing):
        block = arena.put(large(4))
        one, part = sent((block, block[2:5]))
        assert one.handle == block.handle
        assert part.block.handle == block.handle


class TestNoRoom:
    def test_a_full_arena(self, arena):
        hog = arena.alloc("62MiB")
        with flagstone.share(arena):
            before = flagstone.share.stats
            back = sent(np.zeros(1 << 22))
            assert back.flags.writeable
            assert back.nbytes == 1 << 25
            assert grown(before) == {"messages": 0, "buffers": 0, "in_place": 0, "plain": 1}
            assert flagstone.share.stats.reasons["ArenaFull"] >= 1
        del hog

    def test_a_groups_limit(self, arena):
        with arena.group("all", limit="1MiB") as everybody, flagstone.share(arena, group=everybody):
            assert in_arena(sent(large()))
            back = sent(np.zeros(1 << 20))
            assert not in_arena(back)
            assert flagstone.share.stats.reasons["GroupLimitExceeded"] >= 1

    def test_messages_in_what_falls_back_are_no_fewer(self, arena):
        block = arena.put(b"small")
        hog = arena.alloc("62MiB")
        with flagstone.share(arena):
            again, array = sent((block, np.ones(1 << 22)))
            assert again.handle == block.handle
            assert array.all()
        del hog, again
        settled(arena)

    def test_a_closed_arena(self, arena_name):
        arena = flagstone.open(arena_name)
        sharing = flagstone.share(arena)
        arena.close()
        try:
            before = flagstone.share.stats
            assert (sent(large(3)) == 3).all()
            assert grown(before)["plain"] == 1
            process = multiprocessing.get_context("spawn").Process(target=os.getpid)
            with running(process):
                pass  # it ends well
        finally:
            sharing.close()

    def test_what_cannot_be_pickled_takes_no_memory(self, arena, sharing):
        block = arena.put(b"x")
        used = arena.used
        with pytest.raises(Exception, match="pickle"):
            ForkingPickler.dumps([large(), block, lambda: None])
        arena.barrier(PATIENCE)
        assert arena.used == used
        assert arena.in_flight() == []

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
    def test_an_interruption_leaves_nothing_in_flight(self, arena, sharing, monkeypatch, error):
        """What the message's own pickle had put in flight is taken back."""
        block, group = arena.put(b"x"), arena.group("g")

        def interrupted(*_):
            raise error

        monkeypatch.setattr(type(sharing), "_alloc", interrupted)
        with pytest.raises(error):
            ForkingPickler.dumps([block, group, block[:1], large()])
        assert arena.in_flight() == []
        monkeypatch.undo()
        assert sent([block, large()])[0].handle == block.handle
        settled(arena)


class TestItsTime:
    def test_until_its_end(self, arena):
        before = ForkingPickler.dumps
        with flagstone.share(arena) as sharing:
            assert sharing.arena is arena
            message = ForkingPickler.dumps(large(2))
        assert ForkingPickler.dumps == before
        assert not in_arena(sent(large()))
        assert in_arena(pickle.loads(message))  # what was sent is still good
        sharing.close()
        settled(arena)

    def test_the_newest_is_in_force(self, arena):
        with flagstone.open(None, capacity="16MiB") as inner:
            first = flagstone.share(arena)
            second = flagstone.share(inner)
            assert sent(large()).nbytes
            assert inner.groups
            assert not arena.groups
            second.close()
            assert in_arena(sent(large()))
            assert arena.groups
            first.close()

    @pytest.mark.parametrize("method", METHODS)
    def test_sent_where_it_is_in_force(self, arena_name, method):
        with flagstone.open(arena_name) as arena:
            group = arena.group("messages")
            with flagstone.share(arena, group=group) as sharing, flagstone.share(arena) as other:
                assert pickle.loads(pickle.dumps(sharing)) is sharing
                assert pickle.loads(pickle.dumps(other)) is other
            with flagstone.share(arena, group=group) as sharing:
                process = multiprocessing.get_context(method).Process(
                    target=end_it, args=(sharing,)
                )
                process.start()
                process.join()
                assert process.exitcode == 0
            settled(arena)

    def test_under_somebody_elses(self, arena, monkeypatch):
        """A program may put a function of its own over it, and take that away when it likes."""
        first = flagstone.share(arena)
        ours = ForkingPickler.dumps
        monkeypatch.setattr(ForkingPickler, "dumps", lambda obj, protocol=None: ours(obj, protocol))
        theirs = ForkingPickler.dumps
        assert in_arena(sent(large()))
        first.close()
        assert ForkingPickler.dumps is theirs
        assert not in_arena(sent(large()))
        with flagstone.share(arena):
            assert in_arena(sent(large()))
        assert not in_arena(sent(large()))
        monkeypatch.undo()
        assert not in_arena(sent(large()))
        with flagstone.share(arena):
            assert in_arena(sent(large()))
        settled(arena)

    def test_picklers_made_of_it_have_their_own_way(self, arena, sharing):
        class Own(ForkingPickler):
            def reducer_override(self, obj):
                if isinstance(obj, np.ndarray):
                    return str, (f"{obj.size} elements",)
                return NotImplemented

        assert pickle.loads(Own.dumps(large())) == f"{LARGE // 8} elements"
        assert bytes(ForkingPickler.dumps(large(), 2)[:2]) == b"\x80\x02"

    def test_an_arena_of_its_own(self):
        with flagstone.share() as sharing:
            assert in_arena(sent(large()))
            assert sharing.arena.used >= LARGE
        assert sharing.arena.closed

    @pytest.mark.parametrize("wrong", [0, -1, "many", None, 1.5])
    def test_wrong_thresholds(self, arena, wrong):
        before = ForkingPickler.dumps
        with pytest.raises((TypeError, ValueError)):
            flagstone.share(arena, threshold=wrong)
        assert ForkingPickler.dumps == before

    def test_a_forked_child_has_a_group_of_its_own(self, arena, sharing):
        sent(large())
        names = {group.name for group in arena.groups}
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        with running(context.Process(target=queue.put, args=(large(5),))):
            array = queue.get()
        assert len({group.name for group in arena.groups} - names) == 1
        assert (array == 5).all()  # its sender is gone
        del array
        queue.close()
        settled(arena)

    def test_from_many_threads(self, arena, sharing):
        wrong = []

        def work(number):
            for _ in range(50):
                if not (sent(large(number)) == number).all():
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        settled(arena)


def take_and_wait(queue, pipe):
    kept = queue.get()
    pipe.send(float(kept[0]))
    pipe.recv()


def send_and_wait(queue, pipe):
    queue.put(large(8))
    pipe.send("sent")
    pipe.recv()


@contextlib.contextmanager
def killed(process):
    """Start a process, and kill it in the end."""
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        process.close()


class TestKilled:
    def test_a_receiver(self, arena, sharing):
        context = multiprocessing.get_context("fork")
        queue, (mine, theirs) = context.SimpleQueue(), context.Pipe()
        process = context.Process(target=take_and_wait, args=(queue, theirs))
        with mine, theirs, killed(process):
            queue.put(large(6))
            assert mine.recv() == 6
        queue.close()
        settled(arena)

    def test_a_sender_whose_message_is_good(self, arena, sharing):
        context = multiprocessing.get_context("fork")
        queue, (mine, theirs) = context.SimpleQueue(), context.Pipe()
        process = context.Process(target=send_and_wait, args=(queue, theirs))
        with mine, theirs, killed(process):
            assert mine.recv() == "sent"
        arena.barrier(PATIENCE)
        assert (queue.get() == 8).all()
        queue.close()
        settled(arena)

    def test_what_is_lost_ends_with_the_group(self, arena):
        group = arena.group("all")
        with flagstone.share(arena, group=group):
            for _ in range(3):
                ForkingPickler.dumps(large())  # nobody will take it
            assert len(arena.in_flight()) == 3
        group.destroy().wait(PATIENCE)
        settled(arena)
        assert arena.groups == []

    def test_a_broken_pool(self, arena):
        context = multiprocessing.get_context("fork")
        with arena.group("all") as group, flagstone.share(arena, group=group):
            executor = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
            with executor:
                futures = [executor.submit(kill_yourself, large(n)) for n in range(8)]
                with pytest.raises(concurrent.futures.process.BrokenProcessPool):
                    futures[-1].result(PATIENCE)
            del futures
        wait_until(lambda: not arena.groups)
        settled(arena)


def kill_yourself(array):
    os.kill(os.getpid(), signal.SIGKILL)
