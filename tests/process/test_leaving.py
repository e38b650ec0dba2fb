"""leave(): what it gives back, and when, while the Python object is still there."""

import asyncio
import contextlib
import math
import threading

import pytest

import flagstone
from tests.process.support import Worker, kept, program

OPENED = {
    "channel": lambda arena, group: arena.channel("one", group=group, capacity=64),
    "topic": lambda arena, group: arena.topic("one", group=group, capacity=64),
    "lock": lambda arena, group: arena.lock("one", group=group),
}


@pytest.fixture
def arena():
    with flagstone.open(None, capacity="64MiB") as arena:
        yield arena


@pytest.fixture(params=OPENED)
def opened(request):
    return OPENED[request.param]


def ends(arena, group, before):
    """Nothing of it is left: no name, and no memory of its group."""
    for _ in range(2):  # one drops the last reference, one releases what that ends
        arena.barrier()
    assert [*arena.channels, *arena.topics, *arena.locks] == []
    assert group.usage == before


def begun(thread):
    """It runs, and is in the call that it was made for or will be."""
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()


def test_the_memory_goes_while_the_object_stays(arena, opened):
    group = arena.group("job")
    before = group.usage
    one, other = opened(arena, group), opened(arena, group)
    other.leave()
    assert group.usage > before  # `one` is there
    one.leave()
    one.leave()
    ends(arena, group, before)
    assert one == other
    assert hash(one) == hash(other)
    assert "left" in repr(one)
    new = opened(arena, group)
    assert new != one


def test_the_group_is_released_while_the_object_stays(arena, opened):
    group = arena.group("job")
    one = opened(arena, group)
    one.leave()
    assert group.destroy().wait(60)
    with pytest.raises(flagstone.Closed):
        one.destroy()


@pytest.mark.parametrize("asleep", ["get", "put", "acquire", "publish", "subscription"])
def test_a_call_of_another_thread_ends_and_then_it_goes(arena, asleep):
    group = arena.group("job")
    before = group.usage
    if asleep in ("get", "put"):
        one = arena.channel("one", group=group, capacity=1)
        if asleep == "put":
            one.put(b"in the way")
        call = one.get if asleep == "get" else lambda: one.put(b"waits")
    elif asleep == "acquire":
        one = arena.lock("one", group=group)
        assert one.acquire()

        def call():
            while one.acquire(60):  # only another thread finds it owned
                one.release()
    else:
        one = arena.topic("one", group=group, capacity=1)
        subscription = one.subscribe()
        if asleep == "publish":
            one.publish(b"in the way")
            call = lambda: one.publish(b"waits", wait=math.inf)  # noqa: E731
        else:
            call = subscription.get
    heard = []

    def told():
        try:
            call()
        except flagstone.Closed as error:
            heard.append(error)

    thread = threading.Thread(target=told)
    begun(thread)
    one.leave()
    thread.join()
    assert len(heard) == 1
    if asleep == "acquire":  # it stays this process's
        again = arena.lock("one", group=group)
        assert again.locked()
        again.release()
        again.leave()
    ends(arena, group, before)


ALLOCATING = {
    "alloc": lambda arena, wait: arena.alloc("768KiB", wait=wait),
    "put": lambda arena, wait: arena.put(bytes(768 << 10), wait=wait),
    "empty": lambda arena, wait: arena.empty(768 << 10, "u1", wait=wait),
    "dump": lambda arena, wait: arena.dump(bytearray(768 << 10), wait=wait),
    "aalloc": lambda arena, wait: asyncio.run(arena.aalloc("768KiB", wait=wait)),
    "adump": lambda arena, wait: asyncio.run(arena.adump(bytearray(768 << 10), wait=wait)),
    "pack": lambda arena, wait: flagstone.pack(arena, [bytes(768 << 10)], wait=wait),
    "cache": lambda arena, wait: arena.cache("frames", size="768KiB").alloc(wait=wait),
    "group cache": lambda arena, wait: (
        arena.cache("frames", size="768KiB").bind(arena.group("job")).alloc(wait=wait)
    ),
}


@pytest.mark.parametrize("way", ALLOCATING)
def test_who_waits_for_memory_is_told_that_the_arena_was_closed(way):
    arena = flagstone.open(capacity="16MiB")
    full = []
    with contextlib.suppress(flagstone.ArenaFull):
        while True:
            full.append(arena.alloc("768KiB"))
    heard = []

    def told():
        try:
            ALLOCATING[way](arena, math.inf)
        except flagstone.Closed as error:
            heard.append(str(error))

    thread = threading.Thread(target=told)
    begun(thread)
    arena.close()
    thread.join()
    assert len(heard) == 1
    assert "close() was called" in heard[0]


@pytest.mark.parametrize("kind", ["channel", "topic"])
def test_what_pickles_an_item_may_leave(arena, kind):
    group = arena.group("job")
    before = group.usage
    one = OPENED[kind](arena, group)

    class Leaver:
        def __reduce__(self):
            one.leave()
            return str, ()

    with pytest.raises(flagstone.Closed):
        (one.put if kind == "channel" else one.publish)(Leaver())
    ends(arena, group, before)


def test_a_coroutine_is_told(arena):
    channel = arena.channel(capacity=1)

    async def main():
        waits = asyncio.create_task(channel.aget())
        await asyncio.sleep(0.02)
        channel.leave()
        with pytest.raises(flagstone.Closed):
            await waits

    asyncio.run(main())


def test_a_topic_that_was_left_is_held_back_by_none_of_its_subscriptions(arena):
    here, there = arena.topic("news", capacity=2), arena.topic("news", capacity=2)
    slow = here.subscribe()
    other = there.subscribe(slow="drop")
    here.leave()
    for number in range(8):
        assert there.publish(b"%d" % number) == 1
    with pytest.raises(flagstone.Closed):
        slow.get(wait=0)
    with pytest.raises(flagstone.Closed):
        here.subscribe()
    assert other.get() == b"6"
    slow.close()


SLEEPS = {
    "channel": ("arena.channel('one', group=group)", "one.get()"),
    "topic": ("arena.topic('one', group=group)", "one.subscribe().get()"),
    "publisher": ("arena.topic('one', group=group, capacity=1)", "fill()"),
    "lock": ("arena.lock('one', group=group)", "one.acquire()"),
}

FORKED = """
import os, pickle, threading, time, warnings
warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)  # it is meant
import flagstone
from tests.process.support import Worker, kept, program

arena = flagstone.open(None, capacity="64MiB")
group = arena.group("job")
one = {opened}
def fill():
    with one.subscribe(slow="block"):
        while True:
            one.publish(b"full", wait=60)
def sleep():
    try:
        {sleep}
    except flagstone.FlagstoneError:
        pass
{before}
threads = [threading.Thread(target=sleep) for _ in range(3)]
for thread in threads:
    thread.start()
time.sleep(0.1)
ours, theirs = os.pipe(), os.pipe()
pid = os.fork()
if pid == 0:
    try:
        os.close(ours[1])
        pickle.loads(pickle.dumps(arena.alloc(10)))  # so that its reaper runs
        os.write(theirs[1], b".")
        os.read(ours[0], 1)
        {end}
        os.write(theirs[1], b".")
        os.read(ours[0], 1)
    finally:
        os._exit(0)
try:
    os.read(theirs[0], 1)
    ticket = group.destroy()
    os.write(ours[1], b".")
    os.read(theirs[0], 1)
    for thread in threads:
        thread.join()
    ticket.wait(30)
finally:
    os.close(ours[1])
    os.waitpid(pid, 0)
print("released")
"""


@pytest.mark.parametrize("end", ["pass", "one.leave()"])
@pytest.mark.parametrize("kind", SLEEPS)
def test_threads_that_sleep_at_a_fork_keep_nothing_in_the_child(kind, end):
    """The child does not have them, and has nobody in a call."""
    opened, sleep = SLEEPS[kind]
    before = "one.acquire()" if kind == "lock" else ""
    source = FORKED.format(opened=opened, sleep=sleep, before=before, end=end)
    assert program(source).strip() == "released"


def names():
    return [info.name for info in flagstone.arenas()]


def open_all(arena):
    topic = arena.topic("one", capacity=2)
    store = arena.store("one")
    store["key"] = b"value"
    jobs = arena.channel("jobs", ack=True)
    jobs.put(b"job")
    lock = arena.lock("one")
    assert lock.acquire(0)
    return {
        "lock": lock,
        "topic": topic,
        "subscription": topic.subscribe(slow="block"),
        "channel": jobs,
        "delivery": jobs.get(wait=0),
        "store": store,
    }


def test_who_closes_the_arena_has_left_it_whatever_objects_stay(arena_name):
    arena = flagstone.open(arena_name, capacity="16MiB")
    here = open_all(arena)
    with Worker("spawn") as other:
        other(look_on, arena_name)
        arena.close()
        assert other(processes, arena_name) == 1
        assert other(what_comes_after, arena_name) == ("inherited", 1, 1, b"job", b"value")
    for use in (
        here["lock"].release,
        lambda: here["topic"].publish(b"x"),
        lambda: here["subscription"].get(wait=0),
        lambda: here["channel"].put(b"x"),
        here["delivery"].done,
        lambda: here["store"]["key"],
    ):
        with pytest.raises(flagstone.Closed, match=arena_name):
            use()
    assert arena_name not in names()


def look_on(name):
    kept["arena"] = flagstone.open(name, create=False)
    kept["lock"], kept["store"] = kept["arena"].lock("one"), kept["arena"].store("one")
    kept["topic"] = kept["arena"].topic("one", capacity=2)
    kept["channel"] = kept["arena"].channel("jobs", ack=True)


def processes(name):
    return len(kept["arena"].processes)


def what_comes_after(name):
    """What the lock, the topic, the channel and the store say when their other process has gone."""
    with kept["lock"] as lock:
        state = "inherited" if lock.inherited else "free"
    subscribers = []
    with kept["topic"].subscribe(slow="drop"):
        for _ in range(5):  # more than it has room for
            subscribers.append(kept["topic"].publish(b"x"))
    job = kept["channel"].get(wait=60)
    job.done()
    return state, min(subscribers), max(subscribers), job.value, bytes(kept["store"]["key"])


@pytest.mark.parametrize("kind", ["channel", "topic", "subscription", "lock", "store"])
def test_a_file_goes_with_close_while_an_object_stays(arena_name, kind):
    arena = flagstone.open(arena_name, capacity="16MiB")
    one = open_all(arena)[kind]
    arena.close()
    assert arena_name not in names()
    with flagstone.open(arena_name, create=True, capacity="16MiB"), pytest.raises(flagstone.Closed):
        {
            "channel": lambda: one.qsize(),
            "topic": lambda: one.latest(),
            "subscription": lambda: one.lost,
            "lock": lambda: one.locked(),
            "store": lambda: len(one),
        }[kind]()


def test_close_ends_what_other_threads_are_in(arena_name):
    arena = flagstone.open(arena_name, capacity="16MiB")
    store, channel, lock = arena.store("one"), arena.channel("one"), arena.lock("one")
    subscription = arena.topic("one").subscribe()
    assert lock.acquire(0)
    raised = []

    def waits(call):
        try:
            call()
        except flagstone.Closed:
            raised.append(call)

    threads = [
        threading.Thread(target=waits, args=(call,))
        for call in (
            channel.get,
            subscription.get,
            arena.lock("one").acquire,
            lambda: store.wait("key"),
            lambda: store.changes(600),
        )
    ]
    for thread in threads:
        begun(thread)
    arena.close()
    for thread in threads:
        thread.join()
    assert len(raised) == len(threads)
    assert arena_name not in names()
