"""What is in the messages of channels and topics: Blocks inside other objects, large arrays, and
what becomes of them where a message is refused or somebody is killed.
"""

import asyncio
import gc
import pickle
import signal
import threading

import numpy as np
import pytest

import flagstone
from tests.process.support import Worker, assert_sound


@pytest.fixture
def arena(shm_folder):
    with flagstone.open(f"{shm_folder}/letters", capacity="64MiB") as arena:
        yield arena


def assert_given_back(arena, used):
    gc.collect()  # a caught exception's frames keep Blocks
    assert_sound(arena)
    assert arena.in_flight() == []
    assert arena.used == used


def numbered(arena, count=100):
    return arena.put(np.arange(count, dtype="i4"))


# ---- one Block in an object


def test_a_block_in_a_message_is_the_messages_own(arena):
    channel = arena.channel()
    block = numbered(arena)
    channel.put({"frame": block, "again": block, "at": 1.5})
    assert arena.in_flight() == []
    assert block.array[7] == 7  # it was not moved
    got = channel.get()
    assert got["frame"] is got["again"]
    assert got["frame"].handle == block.handle
    assert got["at"] == 1.5
    assert got["frame"].array[7] == 7
    assert got["frame"].dtype == "i4"


def test_a_part_in_a_message(arena):
    channel = arena.channel()
    block = numbered(arena)
    channel.put((block[10:20], block[50:]))
    assert arena.in_flight() == []
    first, second = channel.get()
    first[0] = 77
    assert block.array[10] == 77
    assert second[0] == 50


def test_the_sender_may_be_gone(arena):
    channel = arena.channel("c")
    before = arena.used
    with Worker() as worker:
        worker(send_a_frame, arena.path)
        worker.kill()
        arena.barrier()
        frame, number = channel.get(wait=0)
    assert number == 3
    assert (frame.array == np.arange(100)).all()
    del frame
    assert_given_back(arena, before)


def send_a_frame(path):
    arena = flagstone.open(path, create=False)
    arena.channel("c").put((numbered(arena), 3))


def test_who_would_have_taken_it_may_be_gone(arena):
    channel = arena.channel("c", ack=True)
    before = arena.used
    block = numbered(arena)
    channel.put((block, 3))
    with Worker() as worker:
        assert worker(take_and_keep, arena.path) == 3
        worker.kill()
    with channel.get() as (frame, number):
        assert number == 3
        assert frame.handle == block.handle
    del frame, block
    assert arena.in_flight() == []
    assert_given_back(arena, before)


def take_and_keep(path):
    global taken
    taken = flagstone.open(path, create=False).channel("c", ack=True).get()
    return taken.value[1]


def test_everybody_who_subscribes_has_the_block(arena):
    topic = arena.topic("t", capacity=4)
    before = arena.used
    subscriptions = [topic.subscribe() for _ in range(3)]
    block = numbered(arena)
    assert topic.publish((block, {"at": 2})) == 3
    found = [one.get(wait=0) for one in subscriptions] + [topic.latest()]
    assert [(frame.handle, rest["at"]) for frame, rest in found] == [(block.handle, 2)] * 4
    assert arena.in_flight() == []
    for _ in range(4):
        topic.publish(b"")
        assert all(one.get() == b"" for one in subscriptions)
    del found, block
    assert_given_back(arena, before)


# ---- more than that


def test_a_message_with_several_blocks(arena):
    channel = arena.channel()
    blocks = [numbered(arena, count) for count in (10, 20, 30)]
    channel.put(blocks)
    got = channel.get()
    assert [one.handle for one in got] == [one.handle for one in blocks]
    assert arena.in_flight() == []


def test_a_message_with_a_block_and_much_beside_it(arena):
    channel = arena.channel()
    block = numbered(arena)
    channel.put((block, np.ones(1000), "x" * 300))
    frame, ones, text = channel.get()
    assert frame.handle == block.handle
    assert ones.sum() == 1000
    assert text == "x" * 300
    assert arena.in_flight() == []


def test_a_block_of_another_arena(arena, shm_folder):
    channel = arena.channel()
    with flagstone.open(f"{shm_folder}/other", capacity="16MiB") as other:
        block = numbered(other)
        channel.put((block, numbered(arena)))
        assert channel.get()[0].handle == block.handle
        assert other.in_flight() == arena.in_flight() == []


def test_a_topic_refuses_what_only_one_could_have(arena, shm_folder):
    topic = arena.topic("t")
    with topic.subscribe() as subscription, flagstone.open(None, capacity="16MiB") as other:
        for item, why in (
            ([numbered(arena), numbered(arena)], "has several"),
            ((numbered(arena), "x" * 300), "beside"),
            ((numbered(arena), np.ones(1000)), "beside"),
            (numbered(other), "another arena"),
        ):
            with pytest.raises(TypeError, match=f"topic 't'.*{why}.*weak"):
                topic.publish(item)
        assert arena.in_flight() == other.in_flight() == []
        assert subscription.lost == 0
        with pytest.raises(flagstone.ChannelEmpty):
            subscription.get(wait=0)


def test_what_may_come_again_is_refused_what_only_one_could_have(arena):
    channel = arena.channel("c", ack=True)
    group, other = arena.group("g"), arena.channel("other")
    for item, why in (
        ([numbered(arena), numbered(arena)], "several"),
        ((numbered(arena), "x" * 300), "beside"),
        ([group], "group"),
        ({"answer": other}, "channel"),
    ):
        with pytest.raises(TypeError, match=f"channel 'c'.*{why}"):
            channel.put(item)
    assert arena.in_flight() == []
    assert channel.empty()


@pytest.mark.parametrize("kind", ["group", "channel", "topic"])
def test_what_is_good_for_one_load_is_in_no_topic_and_no_store(arena, kind):
    item = {"inside": getattr(arena, kind)("x"), "number": 1}
    topic, store = arena.topic("t"), arena.store("s")
    for refused in (lambda: topic.publish(item), lambda: store.put("k", item)):
        with pytest.raises(TypeError, match=kind):
            refused()
    assert arena.in_flight() == []
    assert "k" not in store


def test_a_store_refuses_a_block_inside_another_object(arena):
    store = arena.store("s")
    store["k"] = "before"
    with pytest.raises(TypeError, match=r"store 's'.*key of its own"):
        store["k"] = {"frame": numbered(arena)}
    assert store["k"] == "before"
    store["k"] = {"frame": numbered(arena).array}
    assert store["k"]["frame"][7] == 7
    assert arena.in_flight() == []


# ---- refused


def items(arena):
    block = numbered(arena)
    group = arena.group("g", create=None)
    return {
        "one": (block, 1),
        "several": [block, numbered(arena, 10)],
        "large": (block, np.ones(1000)),
        "group": (group, 1),
        "group and block": (group, block),
    }


KINDS = ["one", "several", "large", "group", "group and block"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_message_leaves_nothing(arena, kind):
    channel = arena.channel(capacity=1)
    item = items(arena)[kind]
    channel.put(b"full")
    for refused in (
        lambda: channel.put(item, wait=0),
        lambda: channel.put(item, wait=0.01),
        lambda: channel.put_nowait(item),
        lambda: channel.put_many([item, item], wait=0),
        lambda: asyncio.run(channel.aput(item, wait=0)),
    ):
        with pytest.raises(flagstone.ChannelFull):
            refused()
        assert arena.in_flight() == []
    channel.get()
    assert channel.put_many([item, item], wait=0) == 1
    channel.get()
    assert arena.in_flight() == []
    channel.close()
    with pytest.raises(flagstone.ChannelClosed):
        channel.put(item)
    assert arena.in_flight() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_on_the_way_leaves_nothing(arena, kind):
    channel, topic, store = arena.channel(), arena.topic("t"), arena.store("s")
    item = (items(arena)[kind], threading.Lock())
    for fails in (
        lambda: channel.put(item),
        lambda: topic.publish(item),
        lambda: store.put("k", item),
        lambda: arena.dump(item),
    ):
        with pytest.raises(TypeError):
            fails()
        assert arena.in_flight() == []


def test_a_topic_that_is_full_leaves_nothing(arena):
    topic = arena.topic("t", capacity=1)
    block = numbered(arena)
    with topic.subscribe():
        topic.publish((block, 1))
        for item in ((block, 1), np.ones(1000)):
            with pytest.raises(flagstone.ChannelFull):
                topic.publish(item, wait=0.01)
    assert arena.in_flight() == []


def test_without_room_nothing_is_left(arena):
    with arena.group("small", limit="1MiB") as group:
        channel = arena.channel(group=group)
        block = numbered(arena)
        with pytest.raises(flagstone.GroupLimitExceeded):
            channel.put((block, np.ones(2**18)))
        assert arena.in_flight() == []


def test_interrupted_while_it_waits_for_room(arena):
    channel = arena.channel(capacity=1)
    block = numbered(arena)
    channel.put(b"full")

    def interrupt(number, frame):
        raise InterruptedError

    def put_and_be_interrupted():
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        channel.put([block, numbered(arena, 10)])

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(InterruptedError):
            put_and_be_interrupted()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert arena.in_flight() == []


# ---- large arrays


def test_an_array_that_was_taken_may_be_written(arena):
    channel = arena.channel()
    before = arena.used
    channel.put({"a": np.arange(10_000), "b": (np.ones(3), b"x" * 1000)})
    got = channel.get()
    got["a"][0] = 7
    got["b"][0][0] = 7
    assert arena.used > before  # it lies in the arena
    sent = np.arange(10_000)
    sent.flags.writeable = False
    channel.put(sent)
    with pytest.raises(ValueError, match="read-only"):
        channel.get()[0] = 7
    del got
    assert_given_back(arena, before)


def test_what_comes_again_is_what_was_put(arena):
    channel = arena.channel("c", ack=True)
    channel.put(np.zeros(10_000))
    with Worker() as worker:
        worker(take_and_write, arena.path)
        worker.kill()
    with channel.get() as array:
        assert not array.any()


def take_and_write(path):
    global taken
    taken = flagstone.open(path, create=False).channel("c", ack=True).get()
    taken.value[:] = 7


def test_of_a_topic_nobody_can_write_what_others_see(arena):
    topic = arena.topic("t")
    with topic.subscribe() as one, topic.subscribe() as other:
        topic.publish({"a": np.arange(10_000)})
        with pytest.raises(ValueError, match="read-only"):
            one.get()["a"][0] = 7
        assert (other.get()["a"] == np.arange(10_000)).all()
        assert (topic.latest()["a"] == np.arange(10_000)).all()


def test_an_array_outlives_its_channel(arena):
    channel = arena.channel()
    channel.put(np.arange(10_000))
    got = channel.get()
    channel.leave()
    arena.barrier()
    again = arena.put(np.zeros(10_000, "i8"))
    assert (got == np.arange(10_000)).all()
    assert not again.array.any()


# ---- what pickling an item does to it, and to the sender


class Doubled:
    """Its loading changes the array that it is loaded with."""

    loads = 0

    def __init__(self, array):
        self.array = array

    def __getstate__(self):
        return self.array

    def __setstate__(self, array):
        type(self).loads += 1
        self.array = array
        if array.flags.writeable:
            array *= 2


class Keeps:
    """It pickles a Block by itself, and keeps the pickle."""

    def __init__(self, block):
        self.kept = pickle.dumps(block)

    def __reduce__(self):
        return Keeps._of, (self.kept,)

    @staticmethod
    def _of(kept):
        return kept


@pytest.mark.parametrize("room", [True, False])
def test_a_message_that_is_made_is_not_loaded_by_its_sender(arena, room):
    channel, topic = arena.channel(capacity=1), arena.topic("t", capacity=1, inline=500)
    block, array = numbered(arena), np.ones(1000)
    Doubled.loads = 0
    subscription = topic.subscribe()
    if not room:
        channel.put(b"full")
        topic.publish(b"full")
    for send in (
        lambda: channel.put((block, Doubled(array)), wait=0),
        lambda: channel.put((block, Doubled(np.ones(2))), wait=0),
        lambda: topic.publish((block, Doubled(np.ones(2)))),
    ):
        if room:
            send()
            if channel.qsize():
                channel.get()
                Doubled.loads = 0
        else:
            with pytest.raises(flagstone.ChannelFull):
                send()
    subscription.close()
    assert Doubled.loads == 0
    assert (array == 1).all()


def test_what_an_item_has_pickled_by_itself_is_its_own(arena):
    channel = arena.channel(capacity=1)
    item = Keeps(numbered(arena))
    channel.put(b"full")
    for refused in ((item, numbered(arena)), item):
        with pytest.raises(flagstone.ChannelFull):
            channel.put(refused, wait=0)
        assert len(arena.in_flight()) == 1
    assert pickle.loads(item.kept).array[7] == 7


class Counted:
    """Counts how often it is pickled."""

    def __init__(self, block):
        self.block, self.times = block, 0

    def __reduce__(self):
        self.times += 1
        return tuple, ((self.block, self.block),)


def test_an_item_with_a_block_is_pickled_once(arena):
    channel, topic = arena.channel(inline=500), arena.topic("t", inline=500)
    subscription = topic.subscribe()
    for number, send in enumerate((channel.put, topic.publish, channel.put), 1):
        item = Counted(numbered(arena))
        send([number, item, np.arange(number)])
        assert item.times == 1
    for get in (channel.get, subscription.get, channel.get):
        (first, second), array = get()[1:]
        assert first.array[7] == 7
        assert first.handle == second.handle
        assert array[0] == 0
    assert not arena.in_flight()


def test_a_message_that_was_put_is_the_takers(arena):
    channel = arena.channel()
    item = [numbered(arena), numbered(arena, 10)]
    letter = channel._begun(item, False)
    assert channel._try(letter)
    channel._give_up(letter)  # as where a signal comes between the two
    first, second = channel.get()
    assert (first.array[7], second.nbytes) == (7, 40)


def test_what_changes_while_it_is_pickled_can_be_loaded(arena):
    long = bytearray(b"x" * 100_000)

    class Grows:
        def __reduce__(self):
            long.extend(b"y" * 1000)
            return int, ()

    channel = arena.channel()
    channel.put([long, Grows()])
    assert channel.get() == [bytearray(b"x" * 100_000), 0]
