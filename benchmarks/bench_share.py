"""What `multiprocessing` sends, with and without `flagstone.share()`."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import flagstone
from benchmarks.harness import Bench, Measure
from benchmarks.peers import own_name

fork = multiprocessing.get_context("fork")

MIB = 1 << 20

# How many times as fast as plain pickling; what is below the threshold may take 1.05 times as long.
BOUNDS = {"1 MiB": 5, "16 MiB": 16, "100 MiB": 30, "a dict of 200 arrays of 80 KB": 30}
POOL_BOUND = 20
BELOW_BOUND = 1.05


def run(bench: Bench) -> None:
    small, large = (4, 16) if bench.settings.quick else (16, 100)
    things: dict[str, tuple[Any, int]] = {
        "1 KiB": (np.ones(128), 500),
        "60 KiB": (np.ones(7680), 200),
        "1 MiB": (np.ones(MIB // 8), 50),
        f"{small} MiB": (np.ones(small * MIB // 8), 10),
        f"{large} MiB": (np.ones(large * MIB // 8), 3),
        "a dict of 200 arrays of 80 KB": ({n: np.ones(10_000) for n in range(200)}, 5),
        f"{small} MiB of bytes": (bytes(small * MIB), 10),
    }
    with flagstone.open(own_name(), capacity="4GiB") as arena:
        for name, (thing, count) in things.items():
            with through_queue(arena, thing, count) as variants:
                samples = bench.compare(
                    f"{name} through a Queue",
                    variants,
                    base="share",
                    unit="us",
                    note="Time for one message, many in a row: pickled, sent, unpickled by another"
                    " process, which touches every array, and drops it.",
                )
            if name in BOUNDS:
                ratio = samples.ratio("plain", "share")["median"]
                bench.target(f"times as fast as pickled, {name}", ratio, BOUNDS[name], least=True)
            elif name.endswith(" KiB"):
                slower = samples.ratio("share", "plain")["median"]
                bench.target(f"times as long as pickled, {name}", slower, BELOW_BOUND)
        with through_pool(arena, np.ones(small * MIB // 8)) as variants:
            samples = bench.compare(
                f"{small} MiB as an argument of a Pool's function",
                variants,
                base="share",
                unit="us",
                note="From apply() to its answer, a number.",
            )
        if not bench.settings.quick:
            ratio = samples.ratio("plain", "share")["median"]
            bench.target(
                f"times as fast as pickled, {small} MiB to a Pool", ratio, POOL_BOUND, least=True
            )


def touch(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(touch, value.values()))
    return int(value[0]) + int(value[-1])


def consume(inbox: Any, outbox: Any) -> None:
    while (number := inbox.get()) is not None:
        for _ in range(number):
            touch(inbox.get())
        outbox.put(number)


@contextlib.contextmanager
def through_queue(arena: flagstone.Arena, thing: Any, count: int) -> Iterator[dict[str, Measure]]:
    inbox, outbox = fork.Queue(8), fork.SimpleQueue()
    process = fork.Process(target=consume, args=(inbox, outbox))
    process.start()

    def send() -> float:
        began = time.perf_counter()
        inbox.put(count)
        for _ in range(count):
            inbox.put(thing)
        outbox.get()
        return (time.perf_counter() - began) / count * 1e6

    def share() -> float:
        with flagstone.share(arena):
            return send()

    try:
        yield {"plain": send, "share": share}
    finally:
        inbox.put(None)
        process.join()
        inbox.close()
        inbox.join_thread()


@contextlib.contextmanager
def through_pool(arena: flagstone.Arena, thing: Any) -> Iterator[dict[str, Measure]]:
    with fork.Pool(1) as pool:

        def call() -> float:
            began = time.perf_counter()
            pool.apply(touch, (thing,))
            return (time.perf_counter() - began) * 1e6

        def share() -> float:
            with flagstone.share(arena):
                return call()

        yield {"plain": call, "share": share}
        pool.close()
        pool.join()
