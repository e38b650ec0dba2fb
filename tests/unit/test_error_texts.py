"""What errors say: which arena, group, cache or channel, how much, and what to do."""

import pickle
import re

import numpy as np
import pytest

import flagstone
from flagstone.names import shown


class Table:
    """An arena with one of everything, and calls that fail."""

    def __init__(self, arena):
        self.arena = arena
        self.cache = arena.cache("frame", shape=(1000,), dtype="f4", merge=False)
        self.group = arena.group("job", limit="1MiB")
        self.channel = arena.channel("jobs", capacity=1)
        self.kept = [self.cache.alloc()]

    def fill(self, group=None):
        while True:
            self.kept.append(self.arena.alloc("100KiB", group=group))

    def wait(self):
        try:
            self.fill(self.group)
        except flagstone.GroupLimitExceeded:
            self.arena.alloc("100KiB", group=self.group, wait=0.01)

    def too_many(self):
        self.cache.alloc_many(100_000)

    def over_the_limit_at_once(self):
        self.arena.put(np.zeros(1 << 18), group=self.group)

    def busy(self):
        self.cache.destroy()

    def busy_in_flight(self):
        self.message = pickle.dumps(self.kept[0])
        self.cache.destroy()

    def other_dtype(self):
        self.arena.cache("frame", shape=(10,), dtype="u1")

    def other_flags(self):
        self.arena.cache("frame", shape=(1000,), dtype="f4", typesafe_by_rcu=True)

    def other_limit(self):
        self.arena.group("job", limit="2MiB")

    def other_expiry(self):
        self.arena.group("job", messages_expire=3)

    def other_capacity(self):
        self.arena.channel("jobs", capacity=2)

    def put_into_full(self):
        self.channel.put(b"one")
        self.channel.put(b"two", timeout=0)

    def get_from_empty(self):
        self.channel.get(timeout=0)

    def put_into_closed(self):
        self.channel.close()
        self.channel.put(b"one")

    def get_from_closed(self):
        self.channel.close()
        self.channel.get()

    def group_destroyed(self):
        self.kept.append(self.arena.alloc(10, group=self.group))  # its descriptor stays
        self.group.destroy()
        self.arena.alloc(10, group=self.group)

    def group_closed(self):
        self.kept.append(self.arena.alloc(10, group=self.group))
        self.group.close()
        self.cache.alloc(self.group)

    def cache_destroyed(self):
        self.kept.clear()
        self.cache.destroy()
        self.cache.alloc()

    def cache_destroyed_before(self):
        self.kept.clear()
        self.cache.destroy()
        self.cache.destroy()

    def cache_released(self):
        self.kept.clear()
        bound = self.cache.bind()
        self.cache.destroy().wait(60)
        bound.alloc()

    def cache_replaced(self):
        self.arena.cache("frame", size=100, replace=True)
        self.cache.alloc()

    def handle_of_nothing(self):
        handle = self.kept.pop().handle
        self.arena.barrier()
        self.arena.get(handle)

    def message_read_twice(self):
        message = pickle.dumps(self.kept.pop())
        pickle.loads(message)
        self.arena.barrier()
        pickle.loads(message)

    def message_dropped(self):
        message = pickle.dumps(self.kept.pop())
        self.arena.drop_in_flight()
        self.arena.barrier()
        pickle.loads(message)

    def freed(self):
        block = self.cache.alloc(group=self.group)
        block.free()
        block.array

    def freed_without_a_cache(self):
        block = self.arena.alloc("100KiB")
        keep = block.array
        block.free()
        block.free()
        del keep

    def channel_left(self):
        self.channel.leave()
        self.channel.get()

    def channel_destroyed(self):
        self.channel.destroy()
        self.channel.get()

    def topic_empty(self):
        self.arena.topic("news").latest()

    def topic_left(self):
        with self.arena.topic("news") as topic:
            pass
        topic.latest()

    def topic_destroyed(self):
        topic = self.arena.topic("news")
        topic.destroy()
        topic.publish(b"x")

    def subscription_left(self):
        topic = self.arena.topic("news")
        with topic.subscribe() as subscription:
            pass
        subscription.get(wait=0)

    def lock_left(self):
        lock = self.arena.lock("door")
        lock.leave()
        lock.acquire()

    def lock_destroyed(self):
        lock = self.arena.lock("door")
        lock.destroy()
        lock.acquire()

    def store_left(self):
        store = self.arena.store("models")
        store.leave()
        store["x"]

    def store_destroyed(self):
        store = self.arena.store("models")
        store.destroy()
        store["x"] = b"x"

    def group_that_was_destroyed_here(self):
        self.group.destroy()
        self.group.limit

    def full_of_what_nobody_holds(self):
        store = self.arena.store("kept", group=self.arena.group("jobs", limit="1MiB"))
        self.arena.channel("waiting")
        for key in range(20):
            store[f"{key}"] = bytes(100_000)

    def group_exists(self):
        self.arena.group("job", create=True)

    def group_missing(self):
        self.arena.group("other", create=False)

    def arena_closed(self):
        self.arena.close()
        self.arena.alloc(10)

    def arena_closed_and_cache(self):
        self.arena.close()
        self.cache.alloc()


# Which error, and words that have to be in its text beside the arena's name.
CALLS = {
    "fill": (
        flagstone.ArenaFull,
        "capacity 4 MiB",
        "100 KiB",
        r"held by pid \d+ \(.*\) .* objects",
    ),
    "full_of_what_nobody_holds": (
        flagstone.GroupLimitExceeded,
        "group jobs",
        r"in stores \d+ keys, \d+ of them in 'kept'; what waits in 1 channel or topic",
    ),
    "too_many": (flagstone.ArenaFull, "100,000 objects of 3.9 KiB", "4 MiB", "ask for fewer"),
    "over_the_limit_at_once": (
        flagstone.GroupLimitExceeded,
        "group job",
        "limit 1 MiB",
        "2 MiB more",
    ),
    "wait": (flagstone.GroupLimitExceeded, "group job", "limit 1 MiB", "after waiting 0.01 s"),
    "busy": (flagstone.CacheBusy, "cache frame", "this process itself: 1 ref", "drop them"),
    "busy_in_flight": (
        flagstone.CacheBusy,
        "cache frame",
        "1 in flight",
        "this process",
        "try again",
    ),
    "other_dtype": (
        flagstone.CacheMismatch,
        "'frame'",
        "float32 .*3.9 KiB",
        "10 B",
        "replace=True",
    ),
    "other_flags": (flagstone.CacheMismatch, "frame", "TYPESAFE_BY_RCU", "replace=True"),
    "other_limit": (flagstone.GroupMismatch, "'job'", "1 MiB, not 2 MiB", r"group\.limit = "),
    "other_expiry": (flagstone.GroupMismatch, "'job'", "of 0 s .*not 3 s", "ask for that"),
    "other_capacity": (
        flagstone.ChannelMismatch,
        "jobs",
        "1 message of 200 bytes",
        "another name",
    ),
    "put_into_closed": (flagstone.ChannelClosed, "jobs", "nothing is put"),
    "get_from_closed": (flagstone.ChannelClosed, "jobs", "everything was taken"),
    "group_destroyed": (flagstone.Closed, "group 'job'", "closed or destroyed", "open it again"),
    "group_closed": (flagstone.Closed, "group 'job'", "closed or destroyed", "open it again"),
    "cache_destroyed": (flagstone.Closed, "cache", "destroyed", "open it again"),
    "cache_released": (flagstone.Closed, "cache", "destroyed", "open it again"),
    "cache_replaced": (
        flagstone.Closed,
        "cache 'frame'",
        "another one has its name",
        "open it again",
    ),
    "put_into_full": (flagstone.ChannelFull, "'jobs'", "1 message waits"),
    "get_from_empty": (flagstone.ChannelEmpty, "'jobs'", "empty"),
    "cache_destroyed_before": (flagstone.Closed, "'frame'", "open it again"),
    "freed": (flagstone.Closed, "'frame'", "'job'", "float32", "was freed", "keep its bytes"),
    "freed_without_a_cache": (flagstone.Closed, "100 KiB", "was freed"),
    "channel_left": (flagstone.Closed, "channel 'jobs'", "open it again"),
    "channel_destroyed": (flagstone.Closed, "channel 'jobs'", "destroyed"),
    "topic_empty": (flagstone.ChannelEmpty, "topic 'news'", "no message yet"),
    "topic_left": (flagstone.Closed, "topic 'news'", "open it again"),
    "topic_destroyed": (flagstone.Closed, "topic 'news'", "destroyed"),
    "subscription_left": (flagstone.Closed, "topic 'news'", "subscribe"),
    "lock_left": (flagstone.Closed, "lock 'door'", "open it again"),
    "lock_destroyed": (flagstone.Closed, "lock 'door'", "destroyed"),
    "store_left": (flagstone.Closed, "store 'models'", "open it again"),
    "store_destroyed": (flagstone.Closed, "store 'models'", "destroyed"),
    "group_that_was_destroyed_here": (flagstone.Closed, "'job'", "open it again"),
    "group_exists": (FileExistsError, "'job'", "exists already"),
    "group_missing": (FileNotFoundError, "there is no group 'other'"),
    "handle_of_nothing": (flagstone.StaleHandle, "freed, or nobody held"),
    "message_read_twice": (flagstone.StaleHandle, "good for one load", "while somebody holds"),
    "message_dropped": (flagstone.StaleHandle, "drop_in_flight"),
    "arena_closed": (
        flagstone.Closed,
        r"close\(\) was called",
        "stays attached by 1 ",
        "KiB",
        "open the",
    ),
    "arena_closed_and_cache": (flagstone.Closed, "stays attached by 1 ", "open the arena again"),
}


@pytest.mark.parametrize("call", CALLS)
def test_says_which_how_much_and_what_to_do(call, arena_name):
    with flagstone.open(arena_name, capacity="4MiB") as arena:
        table = Table(arena)
        kind, *words = CALLS[call]
        with pytest.raises(kind) as caught:
            getattr(table, call)()
        said = str(caught.value)
        for word in words:
            assert re.search(word, said, re.DOTALL), f"no {word!r} in: {said}"
        assert said.count(arena_name) == 1, said
        for number in re.findall(r"\d{5,}", said.replace(arena_name, "")):
            # Bytes are said in units; what is long else is a pid, or a count of things.
            assert re.search(rf"pid {number}\b|\b{number} objects", said), said


@pytest.mark.parametrize("odd", ["two words", "colon: dot. 'quoted'", "\udcff\u00e4"])
@pytest.mark.parametrize("call", ["fill", "over_the_limit_at_once", "wait", "freed", "topic_left"])
def test_says_an_odd_path_once(call, odd, shm_folder):
    path = f"{shm_folder}/{odd}"
    with flagstone.open(path, capacity="4MiB") as arena:
        with pytest.raises(CALLS[call][0]) as caught:
            getattr(Table(arena), call)()
        assert str(caught.value).count(shown(path)) == 1


def test_says_that_the_event_loop_stood_still(arena_name):
    import asyncio

    async def wait_in_the_loop(table):
        with pytest.raises(
            flagstone.GroupLimitExceeded, match=r"event loop stood still \(await aalloc"
        ):
            table.wait()

    with flagstone.open(arena_name, capacity="4MiB") as arena:
        table = Table(arena)
        asyncio.run(wait_in_the_loop(table))
        with pytest.raises(flagstone.GroupLimitExceeded) as caught:
            table.wait()
        assert "event loop" not in str(caught.value)
