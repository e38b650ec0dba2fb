"""What a batch costs, and each of the drops that cause it: a + b x candidates + c x references."""

from __future__ import annotations

import pickle
import random
import statistics
import time
from typing import Any

import numpy as np

import flagstone
from benchmarks.harness import Bench
from benchmarks.peers import Peer, own_arena
from flagstone import _core

PER_PROCESS = 900_000
SIZE = 64


def run(bench: Bench) -> None:
    one_batch(bench)
    amortised(bench)


class Holders:
    """Processes that hold so many references: more of them as it grows."""

    def __init__(self, arena: Any) -> None:
        self.arena = arena
        self.count = 0
        self.peers: list[Peer] = []
        self.handles: list[flagstone.Handle] = []

    def grow(self, count: int) -> None:
        while self.count < count:
            more = min(PER_PROCESS, count - self.count)
            self.peers.append(Peer(_hold, self.arena, more))
            data = self.peers[-1].ask("fill")
            self.handles += [flagstone.Handle(data[i : i + 16]) for i in range(0, len(data), 16)]
            self.count += more

    def end(self) -> None:
        for peer in self.peers:
            peer.end()


def _hold(pipe: Any, arena: Any, count: int) -> None:
    pipe.recv()
    cache = arena.cache("held", size=SIZE)
    blocks: list[Any] = []
    while len(blocks) < count:
        blocks += cache.alloc_many(min(10_000, count - len(blocks)))
    pipe.send(b"".join(bytes(block.handle) for block in blocks[:: max(1, count // 2000)]))
    pipe.recv()


def one_batch(bench: Bench) -> None:
    """The duration that the batch itself wrote down, by what it had to do."""
    references = [1000, 10_000, 100_000] + ([] if bench.settings.quick else [1_000_000])
    candidates = [1, 10, 100, 1000]
    rows: list[list[Any]] = []
    points: list[tuple[int, int, float]] = []
    with own_arena("4GiB") as arena:
        holders = Holders(arena)
        cache = arena.cache("candidate", size=SIZE)
        for live in references:
            holders.grow(live)
            row: list[Any] = [live]
            for count in candidates:
                taken = [release(arena, cache, count) for _ in range(3 * bench.settings.rounds)]
                points.append((count, live, statistics.median(taken)))
                row.append(statistics.median(taken) / 1000)
            rows.append(row)
        holders.end()
    bench.table(
        "one batch, us, by references and candidates",
        ["live references", *(f"{count:,} candidates" for count in candidates)],
        rows,
        note="References of other processes, one LIVE entry each, none of them to a candidate."
        " The time that the batch writes down itself.",
    )
    # Relative errors count alike, so that the small batches decide the constant.
    matrix = np.array([[1.0, count, live] for count, live, _ in points])
    times = np.array([took for _, _, took in points])
    a, b, c = np.linalg.lstsq(matrix / times[:, None], np.ones(len(times)), rcond=None)[0]
    worst = float(np.max(np.abs(matrix @ [a, b, c] / times - 1)))
    bench.table(
        "a + b x candidates + c x live references",
        ["a, ns", "b, ns", "c, ns", "farthest from it, share"],
        [[float(a), float(b), float(c), worst]],
        note="Least squares of the table above, in relative errors.",
    )
    bench.target("c: a live reference, ns", float(c), 1.0)


def release(arena: Any, cache: Any, count: int) -> float:
    """Nanoseconds of the batch in which the reaper thread releases so many objects.

    Not of one that barrier() runs: that one gives empty slabs back, too.
    """
    while True:
        blocks = cache.alloc_many(count)
        blocks += [pickle.loads(pickle.dumps(block)) for block in blocks]  # now they are shared
        arena.barrier()
        batches = Batches(arena)
        blocks.clear()
        released = 0
        while released < count:
            time.sleep(0.001)
            new, _ = batches.since()
            released += sum(one["objects"] for one in new)
            if len(new) == 1 and new[0]["objects"] == count:  # else in parts
                return float(new[0]["duration"])


class Batches:
    """The batches of an arena since the last look, by its log of sixteen."""

    def __init__(self, arena: Any) -> None:
        self.attachment = arena._link.attachment
        self.number = 0
        self.since()

    def since(self) -> tuple[list[Any], int]:
        """Those that the log still has, and how many there were."""
        log = _core.batches(self.attachment)
        new = [one for one in log if one["number"] > self.number]
        count = log[0]["number"] - self.number if log else 0
        self.number += count
        return new, count


def amortised(bench: Bench) -> None:
    """Resolve and drop, and what all the batches took that it caused, for one drop."""
    seconds = 0.3 if bench.settings.quick else 3.0
    references = [1000, 10_000, 100_000] + ([] if bench.settings.quick else [1_000_000])
    drops: list[tuple[float, float]] = []
    batches: list[tuple[float, float]] = []
    with own_arena("4GiB") as arena:
        holders = Holders(arena)
        for live in references:
            holders.grow(live)
            few = random.Random(1).sample(holders.handles, 500)
            look_up(arena, few, 0.2)  # warm; and a first batch has seen how many there are
            count, took, spent = look_up(arena, few, seconds)
            drops.append((live, took / count * 1e9))
            batches.append((live, spent / count * 1e9))
        holders.end()
    bench.series(
        "a drop and its share of the batches",
        "live references",
        "ns",
        {"resolve and drop": drops, "its share of the batches": batches},
        note=f"500 objects of others, resolved and dropped in turn for {seconds:g} s. The batches"
        " run in the process's reaper thread, beside it.",
    )
    cheapest = min(y for _, y in drops)
    whole = [(x, y + z) for (x, y), (_, z) in zip(drops, batches, strict=True)]
    bench.target(
        "a drop with its share of the batches: dearest in the first",
        max(y for _, y in whole) / whole[0][1],
        1.5,
    )
    bench.target(
        "of it, in the batches: dearest in a drop", max(y for _, y in batches) / cheapest, 1.0
    )


def look_up(arena: Any, handles: list[Any], seconds: float) -> tuple[int, float, float]:
    """Drops, their seconds, and the seconds of the batches meanwhile."""
    get, count, spent = arena.get, 0, 0.0
    batches = Batches(arena)
    began = time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        for handle in handles:
            get(handle)
        count += len(handles)
        new, many = batches.since()
        if new:
            spent += statistics.fmean(one["duration"] for one in new) * many / 1e9
    return count, took, spent
