"""Whether what is fast stays fast: with more live objects, attached processes, caches."""

from __future__ import annotations

import random
import statistics
from typing import Any

import flagstone
from benchmarks.harness import Bench, Measure
from benchmarks.peers import Peer, empty_method, own_arena

PER_PROCESS = 900_000


def run(bench: Bench) -> None:
    with own_arena() as arena:
        median = Steady(bench, arena)
        objects(bench, median)
        processes(bench, median)
        caches(bench, median)


class Steady:
    """Medians as if the machine had been as fast all the time as it was at first: each sample is
    taken beside one of an empty method, for minutes lie between the first point and the last.
    """

    def __init__(self, bench: Bench, arena: Any) -> None:
        self.rounds = bench.settings.rounds
        self.empty = bench.statement("call()", call=empty_method(arena))
        self.usual = statistics.median(self.empty() for _ in range(self.rounds))

    def __call__(self, measure: Measure) -> float:
        pairs = [(measure(), self.empty()) for _ in range(self.rounds)]
        return statistics.median(one / other for one, other in pairs) * self.usual


def flat(bench: Bench, what: str, points: list[tuple[float, float]]) -> None:
    bench.target(f"{what}: dearest in the first", max(y for _, y in points) / points[0][1], 1.5)


def objects(bench: Bench, median: Steady) -> None:
    counts = [1000, 10_000, 100_000] + ([] if bench.settings.quick else [1_000_000])
    pairs: list[tuple[float, float]] = []
    resolves: list[tuple[float, float]] = []
    for count in counts:
        with own_arena("4GiB") as arena:
            holders = []
            handles: list[Any] = []
            left = count
            while left > 0:
                holder = Peer(_hold, arena, min(left, PER_PROCESS))
                data = holder.ask("fill")
                handles += [flagstone.Handle(data[i : i + 16]) for i in range(0, len(data), 16)]
                holders.append(holder)
                left -= PER_PROCESS
            alloc = arena.cache("object", size=64).bind().alloc
            random.Random(1).shuffle(handles)
            # As many different objects at every count, so that the processor's caches hold them.
            few = handles[:1000]
            get = arena.get
            pairs.append((count, median(bench.statement("alloc()", alloc=alloc))))
            one_pass = bench.statement("for h in few: get(h)", get=get, few=few)
            resolves.append((count, median(one_pass) / len(few)))
            for holder in holders:
                holder.end()
    bench.series(
        "live objects",
        "live objects",
        "ns",
        {"allocate and drop": pairs, "resolve and drop": resolves},
        note="The live ones are another process's. Resolve: 1,000 of them in turn, at random.",
    )
    flat(bench, "allocate and drop, live objects", pairs)
    flat(bench, "resolve and drop, live objects", resolves)


def _hold(pipe: Any, arena: Any, count: int) -> None:
    pipe.recv()
    cache = arena.cache("object", size=64)
    blocks: list[Any] = []
    while len(blocks) < count:
        blocks += cache.alloc_many(min(10_000, count - len(blocks)))
    step = max(1, count // 1000)
    pipe.send(b"".join(bytes(block.handle) for block in blocks[::step]))
    pipe.recv()


def processes(bench: Bench, median: Steady) -> None:
    pairs: list[tuple[float, float]] = []
    resolves: list[tuple[float, float]] = []
    with own_arena() as arena:
        peers: list[Peer] = []
        data = b""
        for count in (1, 4, 16, 64):
            while len(peers) < count - 1 or not peers:
                peers.append(Peer(_hold, arena, 100))
                data = peers[-1].ask("fill")
            alloc = arena.cache("object", size=64).bind().alloc
            handle = flagstone.Handle(data[:16])
            pairs.append((count, median(bench.statement("alloc()", alloc=alloc))))
            get = bench.statement("get(handle)", get=arena.get, handle=handle)
            resolves.append((count, median(get)))
        for peer in peers:
            peer.end()
    bench.series(
        "attached processes",
        "attached processes, one of them active",
        "ns",
        {"allocate and drop": pairs, "resolve and drop": resolves},
        note="At 1, the object that is resolved is a second process's.",
    )
    flat(bench, "allocate and drop, processes", pairs)
    flat(bench, "resolve and drop, processes", resolves)


def caches(bench: Bench, median: Steady) -> None:
    counts = [1, 100, 1000] + ([] if bench.settings.quick else [10_000, 100_000])
    pairs: list[tuple[float, float]] = []
    opens: list[tuple[float, float]] = []
    with own_arena() as arena:
        made: list[Any] = []
        for count in counts:
            while len(made) < count:
                # Each of its own: merging would make them one.
                made.append(arena.cache(f"cache {len(made)}", size=64, merge=False))
            alloc = made[0].bind().alloc
            pairs.append((count, median(bench.statement("alloc()", alloc=alloc))))
            opened = bench.statement("open('cache 0', size=64, merge=False)", open=arena.cache)
            opens.append((count, median(opened)))
    bench.series("caches: allocate", "caches", "ns", {"allocate and drop": pairs})
    bench.series("caches: open one that is there", "caches", "ns", {"open": opens})
    flat(bench, "allocate and drop, caches", pairs)
    flat(bench, "open a cache, caches", opens)
