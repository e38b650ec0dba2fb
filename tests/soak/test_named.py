"""Channels, topics and stores while whoever uses them is killed, for a while; `make soak` for long.

What others hold up, tear, lose or leave behind is a failure: nobody waits for the dead, a message
is whole and comes once, what is looked up is whole, and in the end everything was given back.
"""

import contextlib
import mmap
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest

import flagstone

SECONDS = 60 * float(os.environ.get("MINUTES") or 10)
KEYS = 1_000_000
PATIENCE = 30.0  # seconds without progress

fork = multiprocessing.get_context("fork")


def produce(arena, channel, topic, counts, me):
    number = 0
    while True:
        # Every third is a Block; the channel's moves, the topic's stays.
        item = np.full(500, number, "u8")
        channel.put(arena.put(item) if number % 3 == 0 else item.tobytes()[:80])
        topic.publish(arena.put(item) if number % 3 == 1 else item.tobytes()[:80], wait=None)
        number += 1
        counts[me] += 1


def whole(item):
    values = item.array if isinstance(item, flagstone.Block) else np.frombuffer(item, "u8")
    assert (values == values[0]).all(), "torn"


def consume(arena, channel, topic, counts, me):
    del arena, topic
    while True:
        whole(channel.get())
        counts[me] += 1


def subscribe(arena, channel, topic, counts, me):
    del arena, channel
    with topic.subscribe(slow="block" if me % 2 else "drop") as subscription:
        while True:
            whole(subscription.get())
            counts[me] += 1


def change(store, counts, me, keys):
    chance = random.Random(os.getpid())
    while True:
        key = f"key-{chance.randrange(keys)}"
        store[key] = np.full(8, chance.randrange(1 << 30), "u8")
        if chance.random() < 0.1:
            store.pop(f"key-{chance.randrange(keys)}", None)
        counts[me] += 1


def look(store, counts, me, keys):
    chance = random.Random(os.getpid())
    while True:
        value = store.get(f"key-{chance.randrange(keys)}")
        assert value is None or (value == value[0]).all(), "torn"
        counts[me] += 1


def storm(seconds, seed, roles):
    """Kill whoever it may be, again and again: every role goes on, and nobody ends by itself."""
    # A mapping of our own: multiprocessing's are never given back.
    chance, counts = random.Random(seed), np.frombuffer(mmap.mmap(-1, 8 * len(roles)), "u8")

    def start(me):
        role, *arguments = roles[me]

        def work():
            with contextlib.suppress(KeyboardInterrupt):
                role(*arguments[:3], counts, me, *arguments[3:])

        process = fork.Process(target=work)
        process.start()
        return process

    processes = [start(me) for me in range(len(roles))]
    kills, until = 0, time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(chance.random() * 0.05)
            me = chance.randrange(len(roles))
            os.kill(processes[me].pid, signal.SIGKILL)
            processes[me].join()
            assert processes[me].exitcode == -signal.SIGKILL
            kills += 1
            before = counts.copy()
            processes[me] = start(me)
            patience = time.monotonic() + PATIENCE
            while kills % 50 == 0 and not (counts > before).all():
                assert time.monotonic() < patience, (before, counts)
                time.sleep(0.01)
    finally:
        for process in processes:
            process.kill()
            process.join()
    print(f"{kills} kills, {int(counts.sum())} operations")


def assert_empty(arena):
    """What has ended is released by a batch, and what it held by the next."""
    until = time.monotonic() + PATIENCE
    while arena.used and time.monotonic() < until:
        arena.barrier()
    assert arena.used == 0, arena.snapshot()


def messages(seconds, seed):
    with flagstone.open(None, capacity="256MiB") as arena:
        channel = arena.channel(capacity=64)
        topic = arena.topic("topic", capacity=64)
        share = (arena, channel, topic)
        kinds = (produce, produce, consume, consume, subscribe, subscribe)
        storm(seconds, seed, [(kind, *share) for kind in kinds])
        arena.barrier()
        assert arena.check() == []
        assert channel.info.taken == 0
        assert topic.info.subscribers == ()
        del channel, topic, share
        assert_empty(arena)


def keys(seconds, seed, count):
    with flagstone.open(None, capacity="2GiB") as arena:
        store = arena.store("keys")
        for number in range(count):
            store[f"key-{number}"] = np.full(8, number, "u8")

        def changes(a, b, c, counts, me):
            change(store, counts, me, count)

        def looks(a, b, c, counts, me):
            look(store, counts, me, count)

        storm(seconds, seed, [(kind, 0, 0, 0) for kind in (changes, changes, looks, looks)])
        arena.barrier()
        assert arena.check() == []
        assert 0 < len(store) <= count
        assert len(list(store)) == len(store)
        store.destroy()
        assert_empty(arena)


def test_messages_for_a_short_time():
    messages(5, 1)


def test_keys_for_a_short_time():
    keys(3, 2, 2000)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
def test_named_for_long():
    seed = int(os.environ.get("SEED") or time.time())
    print(f"SEED={seed}")
    messages(SECONDS / 2, seed)
    keys(SECONDS / 2, seed + 1, KEYS)
